"""What a writer holds: events that wait, and those that are under way. Pure: no clock, no waiting, no I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from . import _wire as wire
from .errors import (
    Error,
    OutcomeUnknownError,
    RefusedError,
    UnavailableError,
    UnreachableError,
    UsageError,
)
from .events import ITEM_BYTES_MAX, AnyEvent

BATCH_ITEMS = 1_000
BATCH_BYTES = 1_000_000
PENDING_ITEMS = 10_000
PENDING_BYTES = 32_000_000
BATCH_ITEMS_MAX = 2_500


@dataclass(frozen=True)
class Limits:
    """How much a writer holds and sends at a time, and for how many seconds it tries."""

    batch_items: int
    batch_bytes: int
    pending_items: int
    pending_bytes: int
    retry_for: float

    def __post_init__(self) -> None:
        if not 1 <= self.batch_items <= BATCH_ITEMS_MAX:
            raise UsageError(f"batch_items is 1 to {BATCH_ITEMS_MAX}")
        if not 1 <= self.batch_bytes <= ITEM_BYTES_MAX:
            raise UsageError(f"batch_bytes is 1 to {ITEM_BYTES_MAX}")
        if self.pending_items < 1 or self.pending_bytes < 1:
            raise UsageError("pending_items and pending_bytes are at least 1")
        if self.retry_for < 0:
            raise UsageError("retry_for can't be negative")


@dataclass(frozen=True)
class Pending:
    """An event on its way."""

    item: wire.IngestItem
    size: int
    event: AnyEvent


class Buffer:
    """Events in the order in which they were sent, bounded in number and bytes.

    What was taken to be sent counts until it is settled, so that a slow hub fills it.
    """

    def __init__(self, limits: Limits) -> None:
        self.put_count = 0
        self.settled_count = 0
        self._limits = limits
        self._waiting: deque[Pending] = deque()
        self._bytes = 0

    @property
    def held(self) -> int:
        """How many events it holds, those under way included."""
        return self.put_count - self.settled_count

    @property
    def waits(self) -> bool:
        """Whether there is something to be taken."""
        return bool(self._waiting)

    def fits(self, size: int) -> bool:
        """Whether there is room. One event always fits into an empty buffer."""
        if not self.held:
            return True
        return self.held < self._limits.pending_items and self._bytes + size <= self._limits.pending_bytes

    def put(self, pending: Pending) -> None:
        """Adds an event behind the others."""
        self._waiting.append(pending)
        self.put_count += 1
        self._bytes += pending.size

    def take(self) -> list[Pending]:
        """The next batch: one event at least, if there is one."""
        batch: list[Pending] = []
        size = 0
        while self._waiting and len(batch) < self._limits.batch_items:
            size += self._waiting[0].size
            if batch and size > self._limits.batch_bytes:
                break
            batch.append(self._waiting.popleft())
        return batch

    def settle(self, pending: Pending) -> None:
        """An event's outcome is known."""
        self.settled_count += 1
        self._bytes -= pending.size

    def rest(self) -> list[Pending]:
        """What was never taken."""
        return list(self._waiting)


def passes(error: Error) -> bool:
    """Whether the same batch may go through later."""
    if isinstance(error, (UnreachableError, OutcomeUnknownError, UnavailableError)):
        return True
    if isinstance(error, RefusedError):
        return error.retry_after is not None or error.reason in ("NOT_LEADER", "NO_LEADER", "STALE_SHARD_MAP")
    return False


def asked_wait(error: Error | None) -> float | None:
    """When the hub said to come back."""
    return error.retry_after if isinstance(error, RefusedError) else None
