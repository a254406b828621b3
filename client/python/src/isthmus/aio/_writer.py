"""Sending any number of events, in batches."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Callable

from .._buffer import Buffer, Limits, Pending, asked_wait, passes
from .._retry import wait_seconds
from ..errors import ClosedError, DeadlineError, Error, ItemsRejectedError, OutcomeUnknownError, WriterError
from ..events import AnyEvent, item_of
from ..model.ingest import Counts, ItemResult
from ._caller import Caller, Signal, Worker
from ._ingest import send_items

PROBLEMS_KEPT = 100


class IngestWriter:
    """Sends events in batches, one after the other, so that each customer's events keep their order.

    `send` returns when there is room: a slow hub slows the sender, and memory stays bounded. There is no timer: what
    waits goes with the next batch, as soon as the one before is answered. A batch that can't be delivered for the
    moment (no connection, no leader, overload, outcome unknown) is tried again under the same message ids, so each
    event counts once; what was stored by a try whose answer was lost then counts as `duplicate`.

    >>> async with hub.writer() as writer:
    ...     for row in rows:
    ...         await writer.send(isthmus.track("Seen", user_id=row["id"], message_id=row["key"]))
    ...     print(await writer.flush())

    At the end of the block all is delivered, or an error says what is not.

    Attributes:
        counts: How many events ended how, so far.
        problems: The first 100 results of events that were quarantined or rejected.
    """

    def __init__(
        self,
        caller: Caller,
        limits: Limits,
        on_problem: Callable[[ItemResult, AnyEvent], None] | None,
    ) -> None:
        self.counts = Counts()
        self.problems: list[ItemResult] = []
        self._caller = caller
        self._limits = limits
        self._on_problem = on_problem
        self._buffer = Buffer(limits)
        self._signal = Signal()
        self._worker: Worker | None = None
        self._closing = False
        self._failure: Exception | None = None
        self._unsent: list[Pending] = []

    async def send(self, event: AnyEvent, *, timeout: float | None = None) -> None:
        """Hands an event over; returns when there is room for it.

        Args:
            event: An event of this package, or a mapping in Segment's shape.
            timeout: How long to wait for room, in seconds; for ever by default (`retry_for` bounds that).

        Raises:
            UsageError: When it is no event, or can't be sent. It was not taken; the writer goes on.
            DeadlineError: When there is no room in time. It was not taken.
            WriterError: When the writer has stopped, because something could not be delivered.
            ClosedError: When it is closed.
        """
        item = item_of(event)
        pending = Pending(item, item.ByteSize(), event)
        async with self._signal:
            room = await self._signal.wait_for(lambda: self._stopped or self._buffer.fits(pending.size), timeout)
            if not room:
                raise DeadlineError("there is no room for the event in time: the hub is slower than the sender")
            self._raise_failure()
            if self._closing:
                raise ClosedError("the writer is closed")
            self._buffer.put(pending)
            if self._worker is None:
                self._worker = Worker(self._work, self.close)
            self._signal.notify()

    @property
    def pending(self) -> int:
        """How many events wait or are under way."""
        return self._buffer.held

    async def flush(self, *, timeout: float | None = None) -> Counts:
        """Waits until what was sent before has its outcome; returns how many events ended how, so far.

        Raises:
            DeadlineError: When that takes longer than `timeout` seconds; the writer goes on.
            WriterError: When something could not be delivered.
        """
        async with self._signal:
            goal = self._buffer.put_count
            done = await self._signal.wait_for(
                lambda: self._failure is not None or self._buffer.settled_count >= goal, timeout
            )
            self._raise_failure()
            if not done:
                raise DeadlineError(f"{self._buffer.held} events are not delivered in time")
            return self.counts

    async def close(self) -> Counts:
        """Delivers what is left and ends the writer; more than once is the same. Called at the end of a `with` block.

        Raises:
            WriterError: When something could not be delivered.
            ItemsRejectedError: When events were rejected and nobody was told: there is no `on_problem`.
        """
        async with self._signal:
            self._closing = True
            self._signal.notify()
        if self._worker is not None:
            await self._worker.join()
        self._raise_failure()
        if self.counts.rejected and self._on_problem is None:
            rejected = [result for result in self.problems if result.outcome == "rejected"]
            first = f": {rejected[0].reason} {rejected[0].message}" if rejected else ""
            raise ItemsRejectedError(f"{self.counts.rejected} events were rejected{first}", rejected)
        return self.counts

    async def __aenter__(self) -> IngestWriter:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def _stopped(self) -> bool:
        return self._closing or self._failure is not None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            unsent = [pending.event for pending in [*self._unsent, *self._buffer.rest()]]
            message = f"{len(unsent)} events are not known to be stored: {self._failure}"
            raise WriterError(message, unsent) from self._failure

    async def _work(self) -> None:
        """Sends batch after batch until the writer is closed and empty, or something can't be delivered."""
        while True:
            async with self._signal:
                await self._signal.wait_for(lambda: self._buffer.waits or self._closing, None)
                batch = self._buffer.take()
            if not batch:
                return
            try:
                await self._deliver(batch)
            except Exception as error:  # noqa: BLE001
                async with self._signal:
                    self._failure = error
                    self._signal.notify()
                return
            batch.clear()  # while it waits for the next one, it holds none

    async def _deliver(self, batch: Sequence[Pending]) -> None:
        give_up = time.monotonic() + self._limits.retry_for
        attempt = 0
        self._unsent = list(batch)
        while True:
            failed: Error
            try:
                results = await send_items(self._caller, [one.item for one in self._unsent], None)
            except Error as error:
                if not passes(error):
                    raise
                failed = error
            else:
                await self._settle(results)
                if not self._unsent:
                    return
                failed = OutcomeUnknownError("the hub does not know the outcome of some")
            attempt += 1
            wait = wait_seconds(attempt, asked_wait(failed), random.random())
            if time.monotonic() + wait >= give_up:
                raise failed
            await self._caller.sleep(wait)

    async def _settle(self, results: Sequence[ItemResult]) -> None:
        """Notes what became of the events that were sent last; those still open are left."""
        still_open: list[Pending] = []
        problems: list[tuple[ItemResult, AnyEvent]] = []
        async with self._signal:
            for pending, result in zip(self._unsent, results):
                if result.is_open:
                    still_open.append(pending)
                    continue
                self._buffer.settle(pending)
                self.counts.add(result.outcome)
                if not result.stored:
                    problems.append((result, pending.event))
            self._unsent = still_open
            self.problems.extend(result for result, _ in problems[: PROBLEMS_KEPT - len(self.problems)])
            self._signal.notify()
        if self._on_problem is not None:
            for result, event in problems:
                self._on_problem(result, event)
