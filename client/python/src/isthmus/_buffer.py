"""What a writer holds: events that wait, and those that are under way. Pure: no clock, no waiting, no I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice

from . import _wire as wire
from .errors import BadAnswerError, UsageError
from .events import ITEM_BYTES_MAX, AnyEvent

BATCH_ITEMS = 1_000
BATCH_BYTES = 1_000_000
PENDING_ITEMS = 10_000
PENDING_BYTES = 32_000_000
BATCH_ITEMS_MAX = 2_500
STREAM_ITEM_BYTES_MAX = 1 << 20
"""The largest event that a stream takes."""


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
    """Events from the moment they are taken until they are acknowledged, bounded in number and bytes.

    1. They have rising sequences, are sent in that order, and leave in that order, each with its result.
    2. Nothing is sent beyond the credits of the stream that is open.
    3. When a stream is opened anew, everything that is not acknowledged is sent again, from the first one on.
    """

    def __init__(self, limits: Limits) -> None:
        self.put_count = 0
        self.settled_count = 0
        self._limits = limits
        self._pending: deque[Pending] = deque()
        self._bytes = 0
        self._sent = 0  # of those pending, by the stream that is open
        self._sent_bytes = 0  # since it was opened
        self._unsent_bytes = 0
        self._sequence_max = 0
        self._bytes_max = 0

    @property
    def held(self) -> int:
        """How many events it holds, those under way included."""
        return len(self._pending)

    @property
    def first_sequence(self) -> int:
        """The sequence of the first event that is not acknowledged."""
        return self.settled_count + 1

    def fits(self, size: int) -> bool:
        """Whether there is room. One event always fits into an empty buffer."""
        if not self._pending:
            return True
        return self.held < self._limits.pending_items and self._bytes + size <= self._limits.pending_bytes

    def put(self, pending: Pending) -> None:
        """Adds an event behind the others."""
        self._pending.append(pending)
        self.put_count += 1
        self._bytes += pending.size
        self._unsent_bytes += pending.size

    def opened(self) -> None:
        """A stream is opened, from `first_sequence` on. There are no credits yet."""
        self._sent = self._sent_bytes = self._sequence_max = self._bytes_max = 0
        self._unsent_bytes = self._bytes

    def _allowed(self, place: int, size: int) -> bool:
        """Whether credits reach to the event at a place, with so many bytes up to its end."""
        return self.settled_count + place < self._sequence_max and self._sent_bytes + size <= self._bytes_max

    def due(self, urgent: bool) -> bool:
        """Whether a message is to leave: it is full, nothing else is under way, or somebody waits for what is left."""
        unsent = self.held - self._sent
        if not unsent or not self._allowed(self._sent, self._pending[self._sent].size):
            return False
        full = unsent >= self._limits.batch_items or self._unsent_bytes >= self._limits.batch_bytes
        return full or urgent or not self._sent

    def take(self) -> tuple[int, list[wire.IngestItem]]:
        """The next message: the sequence of its first item, and the items, as far as credits and limits go."""
        first, size = self._sent, 0
        items: list[wire.IngestItem] = []
        for pending in islice(self._pending, first, first + self._limits.batch_items):
            too_large = bool(items) and size + pending.size > self._limits.batch_bytes
            if too_large or not self._allowed(first + len(items), size + pending.size):
                break
            items.append(pending.item)
            size += pending.size
        self._sent += len(items)
        self._sent_bytes += size
        self._unsent_bytes -= size
        return self.settled_count + first + 1, items

    def told(self, acknowledged: int, results: int, sequence_max: int, bytes_max: int) -> list[Pending]:
        """Takes what the hub says: the events that have their results now, in order.

        Raises:
            BadAnswerError: When it makes no sense; nothing is taken of it then.
        """
        if acknowledged - self.settled_count != results:
            raise BadAnswerError("there is not one result for each acknowledged event")
        if results > self._sent:
            raise BadAnswerError("events are acknowledged that were not sent")
        self._sequence_max = max(self._sequence_max, sequence_max)
        self._bytes_max = max(self._bytes_max, bytes_max)
        settled = [self._pending.popleft() for _ in range(results)]
        self._sent -= results
        self.settled_count += results
        self._bytes -= sum(pending.size for pending in settled)
        return settled

    def rest(self) -> list[Pending]:
        """What is not acknowledged."""
        return list(self._pending)
