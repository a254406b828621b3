"""The nodes that a client may talk to, and which of them takes the next call.

Any node takes any request, so the choice is only about reachability and load: among the endpoints that are not known
to be down, the one with the fewest calls under way, and in turn where several have equally few. An endpoint that failed
is left alone for a short while; when all have failed, the one whose time is up first is tried.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from ._retry import Ending
from .errors import UsageError

C = TypeVar("C")

PORT_DEFAULT = 7400
ANSWER_BYTES_MAX = 64 << 20
PAUSE_SECONDS = {Ending.NOT_SENT: 1.0, Ending.TIMED_OUT: 1.0, Ending.BROKEN: 0.25}

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A node that comes back is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Tries are this package's own: it knows what may be made again. So are connections, and proxies for the web
    # are not on the way to a hub.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


class Address(NamedTuple):
    """Where a node is."""

    authority: str
    """`HOST:PORT`."""
    encrypted: bool
    """Whether it is spoken to by TLS."""


def parse_endpoint(text: str, encrypted: bool = False) -> Address:
    """Reads `[http://|https://]HOST[:PORT]`.

    Args:
        text: The endpoint.
        encrypted: Whether there are options for TLS: it is `https` then where nothing is said, and has to be where
            something is, for what was meant to be secret would go in the clear.

    Raises:
        UsageError: For anything else, with what is wrong.
    """

    def wrong(problem: str) -> UsageError:
        return UsageError(f"endpoint {text!r}: {problem}")

    scheme, separator, rest = text.strip().rpartition("://")
    if separator and scheme not in ("http", "https"):
        raise wrong("the scheme has to be http or https")
    if encrypted and separator and scheme == "http":
        raise wrong("options for TLS are given: use https://")
    rest = rest[:-1] if rest.endswith("/") else rest
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        host, port = rest, str(PORT_DEFAULT)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or any(letter in bare for letter in "/@?#[] ") or (":" in bare and bare == host):
        raise wrong("give HOST:PORT, http://HOST:PORT or https://HOST:PORT")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise wrong("the port has to be a number from 1 to 65535")
    return Address(f"{host}:{int(port)}", encrypted or scheme == "https")


def parse_endpoints(given: str | Sequence[str], encrypted: bool = False) -> list[Address]:
    """One endpoint, several separated by commas, or a list; each once.

    Raises:
        UsageError: When there is none, or one that isn't an address.
    """
    texts = given.split(",") if isinstance(given, str) else list(given)
    addresses = list(dict.fromkeys(parse_endpoint(text, encrypted) for text in texts if text.strip()))
    if not addresses:
        raise UsageError("no endpoint given")
    return addresses


class Slot(Generic[C]):
    """An endpoint with its channel."""

    def __init__(self, address: str, channel: C) -> None:
        self.address = address
        self.channel = channel
        self.in_flight = 0
        self.down_until = 0.0


class Pool(Generic[C]):
    """All endpoints of a client. Safe to be used by several threads."""

    def __init__(self, slots: Sequence[Slot[C]], turn: int) -> None:
        self.slots = list(slots)
        self._turn = turn
        self._lock = threading.Lock()

    def take(self, hint: str | None, now: float) -> Slot[C]:
        """The endpoint for the next try, counted as busy until `done`; `hint` (`host:port`) wins when it is ours."""
        with self._lock:
            chosen = next((slot for slot in self.slots if slot.address == hint), None)
            if chosen is None:
                self._turn += 1
                count = len(self.slots)
                order = [self.slots[(self._turn + step) % count] for step in range(count)]
                up = [slot for slot in order if slot.down_until <= now]
                chosen = (
                    min(up, key=lambda slot: slot.in_flight) if up else min(order, key=lambda slot: slot.down_until)
                )
            chosen.in_flight += 1
            return chosen

    def done(self, slot: Slot[C], ending: Ending | None, now: float) -> None:
        """A try is over: well (`None`), or as it ended."""
        with self._lock:
            slot.in_flight -= 1
            pause = PAUSE_SECONDS.get(ending) if ending else None
            slot.down_until = now + pause if pause else 0.0
