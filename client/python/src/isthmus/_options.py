"""What a client is told when it is made."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from ._endpoints import PORT_DEFAULT
from ._retry import REQUEST_ID
from .errors import UsageError

ENVIRONMENT = "ISTHMUS_ENDPOINT"
ENDPOINT_DEFAULT = f"http://127.0.0.1:{PORT_DEFAULT}"
WRITE_KEY = "x-write-key"
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_KEY = re.compile(r"[!-~]{1,256}")


@dataclass(frozen=True)
class Options:
    """How calls are made. Times are in seconds."""

    deadline: float = 10.0
    try_limit: float = 5.0
    write_key: str | None = None
    source: str = ""
    request_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("deadline", "try_limit"):
            if not 0 < getattr(self, name) <= 300:
                raise UsageError(f"{name} is a number of seconds above 0, at most 300")
        if self.write_key is not None and not _KEY.fullmatch(self.write_key):
            raise UsageError("a write key is 1 to 256 printable characters of ASCII, without spaces")
        if self.request_id is not None and not _PLAIN.fullmatch(self.request_id):
            raise UsageError("a request id is 1 to 64 letters, digits, `-`, `_`, `.` or `:`")

    def __repr__(self) -> str:
        # Without the write key: it must not show up in logs.
        return f"Options(deadline={self.deadline}, try_limit={self.try_limit}, source={self.source!r})"

    def new_request_id(self) -> str:
        """The id of a call."""
        return self.request_id or uuid.uuid4().hex

    def metadata(self, request_id: str, with_key: bool) -> tuple[tuple[str, str], ...]:
        """What a call carries. A write key only writes, so only ingest carries it."""
        key = ((WRITE_KEY, self.write_key),) if with_key and self.write_key else ()
        return ((REQUEST_ID, request_id), *key)


def endpoints_of(given: str | Sequence[str] | None) -> str | Sequence[str]:
    """Those given, else those of the environment, else a node of this machine."""
    return os.environ.get(ENVIRONMENT) or ENDPOINT_DEFAULT if given is None else given
