"""What a caller has to know of a gRPC method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class Method(Generic[Q, A]):
    """A method: what goes in and what comes out, be it one message or a stream of them."""

    path: str
    """`/package.Service/Method`."""
    encode: Callable[[Q], bytes]
    """Writes a request."""
    decode: Callable[[bytes], A]
    """Reads an answer."""
