"""Whether a failed try may be made again, where, and when. Pure: no clock, no randomness, no I/O.

The same decisions as the Rust client's (`client/src/retry.rs`). A try ends in one of four ways:

- `NOT_SENT` (no connection): any call goes to another endpoint at once;
- `BROKEN`, `TIMED_OUT` on the way: reads and repeatable writes are made again; a write that must happen once is not,
  for it may have happened;
- `ANSWERED` with a refusal for now (UNAVAILABLE, overload with a time to come back, NOT_LEADER, STALE_SHARD_MAP): made
  again after the time that the hub named, or a growing, jittered one;
- `ANSWERED` with a refusal for good: raised.

Waits grow as in "Exponential Backoff And Jitter" (M. Brooker, AWS Architecture Blog, 2015): full jitter.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

from . import _wire as wire
from .errors import (
    DeadlineError,
    Error,
    OutcomeUnknownError,
    RefusedError,
    UnreachableError,
    class_of,
)

DOMAIN = "isthmus.v1"
DETAILS = "grpc-status-details-bin"
REQUEST_ID = "x-request-id"
WAIT_FIRST_SECONDS = 0.05
WAIT_MAX_SECONDS = 2.0


class Kind(enum.Enum):
    """What repeating a call would do."""

    READ = "changes nothing"
    REPEATABLE = "changes something, and means the same when it arrives twice"
    ONCE = "changes something each time it arrives"


class Ending(enum.Enum):
    """How a try ended, as far as this side can tell."""

    NOT_SENT = "no connection"
    BROKEN = "the connection broke underway"
    TIMED_OUT = "no answer in time"
    ANSWERED = "the hub answered with an error"


class Verdict(enum.Enum):
    """What to do after a failed try."""

    ELSEWHERE = "try another endpoint at once"
    LATER = "try again after a wait"
    STOP = "give up"


class BrokenError(Exception):
    """A stream has ended otherwise than in order. Never seen outside this package.

    Attributes:
        ending: How.
        error: What the hub said, or what would be said of it.
    """

    def __init__(self, ending: Ending, error: RefusedError) -> None:
        super().__init__(str(error))
        self.ending = ending
        self.error = error

    @property
    def told(self) -> Error:
        """The error that a caller sees who gives up on a stream that only reads."""
        if self.ending is Ending.ANSWERED:
            return self.error
        if self.ending is Ending.NOT_SENT:
            return UnreachableError(f"none of the endpoints can be reached: {self.error.message[:200]}")
        return DeadlineError(f"no answer in time: {self.error.message[:200]}")

    @property
    def told_of_writing(self) -> Error:
        """The same of one that writes: what was sent may be stored."""
        if self.ending in (Ending.ANSWERED, Ending.NOT_SENT):
            return self.told
        return OutcomeUnknownError(f"the outcome is not known: {self.error.message[:200]}")


class NoStreamError(Exception):
    """No stream can be opened any more, as the interpreter is ending. Never seen outside this package."""


Metadata = Iterable[Any]
"""Pairs of a key and its text or bytes."""


def refusal(code: str, message: str, trailers: Metadata, request_id: str) -> tuple[Ending, RefusedError]:
    """Reads how a call failed: how far it came, and what the hub said about it.

    Args:
        code: The gRPC code's name.
        message: The status message.
        trailers: The trailing metadata.
        request_id: The id that the call carried.
    """
    known = dict([*trailers])  # grpc.aio has had Metadata whose keys are no keys
    status = wire.Status()
    packed = known.get(DETAILS)
    if isinstance(packed, bytes):
        status = wire.Status.FromString(packed)
    reason, metadata, fields, retry_after = "", {}, [], None
    for detail in status.details:
        name = detail.type_url.rsplit("/", 1)[-1]
        if name == "google.rpc.ErrorInfo":
            info = wire.ErrorInfo.FromString(detail.value)
            if info.domain == DOMAIN:
                reason, metadata = info.reason, dict(info.metadata)
        elif name == "google.rpc.RetryInfo":
            delay = wire.RetryInfo.FromString(detail.value).retry_delay
            retry_after = delay.seconds + delay.nanos / 1e9
        elif name == "google.rpc.BadRequest":
            violations = wire.BadRequest.FromString(detail.value).field_violations
            fields = [(violation.field, violation.description) for violation in violations]
    error = class_of(code, reason)(
        code,
        reason,
        message or code,
        metadata=metadata,
        fields=tuple(fields),
        retry_after=retry_after,
        request_id=request_id,
    )
    answered = bool(reason) or REQUEST_ID in known
    return _ending(code, message, answered), error


def _ending(code: str, message: str, answered: bool) -> Ending:
    """How far a call came. Where gRPC's own words are not known, the careful answer: it may have been sent."""
    if answered:
        return Ending.ANSWERED
    if code == "DEADLINE_EXCEEDED":
        return Ending.TIMED_OUT
    if code == "UNAVAILABLE":
        beginnings = ("failed to connect to all addresses", "DNS resolution failed", "Name resolution failed")
        return Ending.NOT_SENT if message.startswith(beginnings) else Ending.BROKEN
    # The second is what grpc.aio says when it writes to a connection that has just gone.
    internal = ("RST_STREAM", "Internal error from Core")
    broke = code in ("UNKNOWN", "CANCELLED") or (code == "INTERNAL" and any(words in message for words in internal))
    return Ending.BROKEN if broke else Ending.ANSWERED


def may_have_happened(ending: Ending, error: RefusedError) -> bool:
    """Whether the call may have taken effect although it failed."""
    if ending is Ending.NOT_SENT:
        return False
    if ending is not Ending.ANSWERED or error.code in ("DEADLINE_EXCEEDED", "CANCELLED"):
        return True
    if error.code == "UNAVAILABLE":
        # A proxy's UNAVAILABLE has no reason; then nobody knows how far the call came.
        return not error.reason
    return error.reason == "OUTCOME_UNKNOWN"


def verdict(kind: Kind, ending: Ending, error: RefusedError) -> Verdict:
    """What to do after a try that ended so."""
    if kind is Kind.ONCE and may_have_happened(ending, error):
        return Verdict.STOP
    if ending in (Ending.NOT_SENT, Ending.TIMED_OUT):
        return Verdict.ELSEWHERE
    if ending is Ending.BROKEN:
        return Verdict.LATER
    passing = ("NOT_LEADER", "STALE_SHARD_MAP", "NO_LEADER", "OVERLOADED", "OUTCOME_UNKNOWN")
    if error.reason in passing or error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        return Verdict.LATER
    if error.code == "RESOURCE_EXHAUSTED" and error.retry_after is not None:
        return Verdict.LATER
    return Verdict.STOP


def wait_seconds(attempt: int, asked: float | None, random: float) -> float:
    """How long to wait before repetition number `attempt` (from 1); `random` lies in 0 to 1.

    What the hub asked for is kept to and jittered upwards only.
    """
    ceiling = min(WAIT_FIRST_SECONDS * (1 << min(max(attempt - 1, 0), 16)), WAIT_MAX_SECONDS)
    return (asked or 0.0) + ceiling * min(max(random, 0.0), 1.0)


class Progress:
    """What the tries of one call have shown so far."""

    def __init__(self, kind: Kind, endpoints: int, deadline: float) -> None:
        self.hint: str | None = None
        self._kind = kind
        self._endpoints = endpoints
        self._deadline = deadline
        self._waits = 0
        self._hops = 0
        self._doubt = False
        self._reached = False

    def failed(self, address: str, ending: Ending, error: RefusedError, now: float, random: float) -> float:
        """How many seconds to wait before the next try.

        Args:
            address: The endpoint that the try was made at.
            ending: How it ended.
            error: What the hub said.
            now: The time, on the clock of the deadline.
            random: 0 to 1.

        Raises:
            Error: What the caller gets, when the call is over.
        """
        self._doubt |= may_have_happened(ending, error)
        self._reached |= ending is not Ending.NOT_SENT
        self.hint = error.metadata.get("leader") if error.reason == "NOT_LEADER" else None
        what = verdict(self._kind, ending, error)
        wait = 0.0
        if what is Verdict.ELSEWHERE:
            self._hops += 1
        if what is Verdict.LATER or self._hops >= self._endpoints:
            self._hops = 0
            self._waits += 1
            wait = wait_seconds(self._waits, error.retry_after, random)
        if what is Verdict.STOP or now + wait >= self._deadline:
            told = self._error(address, ending, error)
            raise told from None if told is error else error
        return wait

    def _error(self, address: str, ending: Ending, error: RefusedError) -> Error:
        where = f"{address}: {error.message[:200]}"
        if ending is Ending.NOT_SENT and not self._reached:
            return UnreachableError(f"none of the endpoints can be reached: {where}")
        if self._kind is Kind.READ:
            if ending is Ending.ANSWERED and error.code != "DEADLINE_EXCEEDED":
                return error
            return DeadlineError(f"no answer within the deadline: {where}")
        # A later, clear refusal doesn't undo what an earlier try may have done.
        return OutcomeUnknownError(f"the outcome is not known: {where}") if self._doubt else error
