"""Sending any number of events over a stream; the protocol stands in `ingest.proto`, `IngestStream`."""

from __future__ import annotations

import random
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType

from .. import _wire as wire
from .._buffer import STREAM_ITEM_BYTES_MAX, Buffer, Limits, Pending
from .._retry import BrokenError, Kind, NoStreamError, Verdict, refusal, verdict, wait_seconds
from ..errors import ClosedError, DeadlineError, ItemsRejectedError, OutcomeUnknownError, UsageError, WriterError
from ..events import AnyEvent, item_of
from ..model.ingest import Counts, ItemResult
from ._caller import Caller, Signal, Stream, Worker
from ._ingest import send_items

PROBLEMS_KEPT = 100
SILENCE_SECONDS = 20.0
"""The hub says something every few seconds: a stream that is silent for so long is given up."""


class _Opened:
    """A stream, as what it sends sees it."""

    over = False


class IngestWriter:
    """Sends events over an ingest stream, many at a time; each customer's events keep their order.

    `send` returns when there is room: a slow hub slows the sender, and memory stays bounded. There is no timer: what
    waits goes when there is enough for a message, or when nothing else is under way. A stream that breaks (no
    connection, a node that dies, no leader for long) goes on at another node from the first event that was not
    acknowledged, under the same message ids, so each event counts once; what was stored although its answer was lost
    counts as `duplicate` then.

    >>> async with hub.writer() as writer:
    ...     for row in rows:
    ...         await writer.send(isthmus.track("Seen", user_id=row["id"], message_id=row["key"]))
    ...     print(await writer.flush())

    At the end of the block all is delivered, or an error says what is not.

    Attributes:
        counts: How many events ended how, so far.
        problems: The first 100 results of events that were quarantined or rejected. `index` is the event's place
            among all that this writer was given.
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
        self._flushing = 0
        self._failure: Exception | None = None
        self._stream_id = uuid.uuid4().hex
        self._received_until: wire.Timestamp | None = None
        self._failing_since: float | None = None
        self._tries = 0

    async def send(self, event: AnyEvent, *, timeout: float | None = None) -> None:
        """Hands an event over; returns when there is room for it.

        Args:
            event: An event of this package, or a mapping in Segment's shape.
            timeout: How long to wait for room, in seconds; for ever by default (`retry_for` bounds that).

        Raises:
            UsageError: When it is no event, or can't be sent: over 1 MiB for example. It was not taken; the writer
                goes on.
            DeadlineError: When there is no room in time. It was not taken.
            WriterError: When the writer has stopped, because something could not be delivered.
            ClosedError: When it is closed.
        """
        item = item_of(event)
        pending = Pending(item, item.ByteSize(), event)
        if pending.size > STREAM_ITEM_BYTES_MAX:
            raise UsageError(f"the event has {pending.size} bytes; a writer takes {STREAM_ITEM_BYTES_MAX} at most")
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
            # Nobody is woken for nothing: that would cost more than all else.
            if self._buffer.held == 1 or self._buffer.due(False):
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
            self._flushing += 1
            self._signal.notify()
            try:
                done = await self._signal.wait_for(
                    lambda: self._failure is not None or self._buffer.settled_count >= goal, timeout
                )
            finally:
                self._flushing -= 1
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
            unsent = [pending.event for pending in self._buffer.rest()]
            message = f"{len(unsent)} events are not known to be stored: {self._failure}"
            raise WriterError(message, unsent) from self._failure

    async def _work(self) -> None:
        """Delivers until the writer is closed and empty, or something can't be delivered."""
        while True:
            async with self._signal:
                await self._signal.wait_for(lambda: self._buffer.held > 0 or self._closing, None)
                if not self._buffer.held:
                    return
            try:
                await self._deliver()
            except Exception as error:  # noqa: BLE001
                async with self._signal:
                    self._failure = error
                    self._signal.notify()
                return

    async def _deliver(self) -> None:
        """Delivers for as long as a stream lasts, and waits before the next one."""
        try:
            await self._stream()
        except BrokenError as broken:
            await self._pause(broken)
        except NoStreamError:
            await self._batch()

    async def _stream(self) -> None:
        """Opens a stream from the first event that is not acknowledged on, and hears what becomes of them."""
        opened = _Opened()
        async with self._signal:
            self._buffer.opened()
            begin = wire.IngestStreamOpen(
                source=self._caller.options.source,
                stream_id=self._stream_id,
                first_sequence=self._buffer.first_sequence,
                received_until=self._received_until,
            )
        requests = self._requests(opened, wire.IngestStreamRequest(open=begin))
        stream: Stream[wire.IngestStreamResponse] | None = None
        patience = self._caller.options.try_limit
        try:
            stream = await self._caller.converse(wire.IngestService.IngestStream, requests)
            while True:
                response = await stream.read(patience)
                if response is None:
                    break
                patience = SILENCE_SECONDS
                await self._told(response)
        finally:
            async with self._signal:
                opened.over = True
                self._signal.notify()
            if stream is not None:
                stream.cancel()
        if self._buffer.held:
            raise BrokenError(*refusal("UNAVAILABLE", "the node ended the stream", (), ""))

    async def _requests(
        self, opened: _Opened, begin: wire.IngestStreamRequest
    ) -> AsyncIterator[wire.IngestStreamRequest]:
        """What a stream sends: ends it when the writer is closed and nothing is left."""
        yield begin
        while True:
            async with self._signal:
                await self._signal.wait_for(
                    lambda: opened.over or self._done or self._buffer.due(self._closing or self._flushing > 0), None
                )
                if opened.over or self._done:
                    return
                first, items = self._buffer.take()
            yield wire.IngestStreamRequest(items=wire.IngestStreamItems(first_sequence=first, items=items))
            del items  # while it waits, it holds none

    @property
    def _done(self) -> bool:
        return self._closing and not self._buffer.held

    async def _told(self, response: wire.IngestStreamResponse) -> None:
        """Takes a response."""
        async with self._signal:
            first = self._buffer.settled_count
            settled = self._buffer.told(
                response.acknowledged, len(response.results), response.sequence_max, response.bytes_max
            )
            if response.HasField("received_until"):
                self._received_until = response.received_until
            if settled:
                self._failing_since, self._tries = None, 0
            results = [ItemResult.of(first + place, result) for place, result in enumerate(response.results)]
            problems = self._note(settled, results)
            self._signal.notify()
        self._report(problems)

    def _note(self, settled: Sequence[Pending], results: Sequence[ItemResult]) -> list[tuple[ItemResult, AnyEvent]]:
        """Counts what became of events; those that were not stored."""
        problems: list[tuple[ItemResult, AnyEvent]] = []
        for pending, result in zip(settled, results, strict=True):
            self.counts.add(result.outcome)
            if not result.stored:
                problems.append((result, pending.event))
        self.problems.extend(result for result, _ in problems[: PROBLEMS_KEPT - len(self.problems)])
        return problems

    def _report(self, problems: Sequence[tuple[ItemResult, AnyEvent]]) -> None:
        if self._on_problem is not None:
            for result, event in problems:
                self._on_problem(result, event)

    async def _pause(self, broken: BrokenError) -> None:
        """After a stream has ended: waits, or raises what it is of no use for."""
        if not self._buffer.held:
            return  # nothing presses: the next event opens a stream, and learns what there is to learn
        if verdict(Kind.REPEATABLE, broken.ending, broken.error) is Verdict.STOP:
            raise broken.error
        now = time.monotonic()
        since = now if self._failing_since is None else self._failing_since
        self._failing_since = since
        self._tries += 1
        wait = wait_seconds(self._tries, broken.error.retry_after, random.random())
        if now + wait - since >= self._limits.retry_for:
            raise broken.told_of_writing from broken
        await self._caller.sleep(wait)

    async def _batch(self) -> None:
        """Sends a batch by itself, where no stream can be opened any more: at the very end of a program."""
        async with self._signal:
            self._buffer.opened()
            first = self._buffer.settled_count
            self._buffer.told(first, 0, first + self._buffer.held, sys.maxsize)
            _, items = self._buffer.take()
        results = await send_items(self._caller, items, None)
        if any(result.is_open for result in results):
            raise OutcomeUnknownError("the hub does not know the outcome of some")
        async with self._signal:
            settled = self._buffer.told(first + len(items), len(items), 0, 0)
            problems = self._note(settled, results)
            self._signal.notify()
        self._report(problems)
