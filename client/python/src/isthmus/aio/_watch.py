"""Following changes of profiles: a stream that goes on by itself where another node has to take over."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType

from .. import _wire as wire
from .._retry import BrokenError, Kind, NoStreamError, Verdict, refusal, verdict, wait_seconds
from ..errors import ClosedError, Error, UsageError
from ..model.base import Page
from ..model.change import Change
from ..model.profile import Key, key_to_wire
from ._caller import Caller, Stream

CHANGES_MAX = 256
"""Changes of a page at most."""
SILENCE_SECONDS = 20.0
"""The hub says something every few seconds: a stream that is silent for so long is given up."""
TRIES_UNSAID = 1
"""From the second failure in a row on a watch is said to wait: the first one is a node that hands its streams over."""
_TYPES = {name: number for number, name in wire.ENUMS["EventType"].items() if number}
_STARTS = {name: number for number, name in wire.ENUMS["WatchFrom"].items() if number}


def watch_request(
    cursor: str,
    start: str,
    profiles: Sequence[Key],
    events: Sequence[str],
    types: Sequence[str],
    traits: Sequence[str],
    members: bool,
    segments: Sequence[str],
    page_size: int,
) -> wire.WatchRequest:
    """What a watch asks for.

    Raises:
        UsageError: When something given can't be.
    """
    lists = {"profiles": profiles, "events": events, "types": types, "traits": traits, "segments": segments}
    _check(lists, start, page_size)
    wrong = [name for name in types if name not in _TYPES]
    if wrong:
        raise UsageError(f"{wrong[0]!r} is none of {', '.join(_TYPES)}")
    keys = [key_to_wire(key) for key in profiles]
    return wire.WatchRequest(
        cursor=cursor,
        start=_STARTS[start],
        filter=wire.WatchFilter(
            events=events,
            types=[_TYPES[name] for name in types],
            traits=traits,
            members=members,
            identifiers=[key.identifier for key in keys if key.HasField("identifier")],
            profile_ids=[key.profile_id for key in keys if not key.HasField("identifier")],
            segments=segments,
        ),
        response_changes_max=page_size,
    )


def segment_watch_request(
    segments: Sequence[str], cursor: str, start: str, page_size: int
) -> wire.SegmentServiceWatchRequest:
    """What a watch of segments asks for.

    Raises:
        UsageError: When something given can't be.
    """
    _check({"segments": segments}, start, page_size)
    return wire.SegmentServiceWatchRequest(
        segments=segments, cursor=cursor, start=_STARTS[start], response_changes_max=page_size
    )


def _check(lists: Mapping[str, Sequence[Key]], start: str, page_size: int) -> None:
    for name, given in lists.items():
        if isinstance(given, str):
            raise UsageError(f"{name} is a list")
    if start not in _STARTS:
        raise UsageError(f"start is one of {', '.join(sorted(_STARTS))}")
    if not 1 <= page_size <= CHANGES_MAX:
        raise UsageError(f"page_size is 1 to {CHANGES_MAX}")


class Watch:
    """Changes of profiles, as they come about or from a cursor on, for ever.

    Iterate over the changes themselves, or over `pages()`, whose `next_cursor` says where a watch goes on. All changes
    of one identifier come in the order in which the hub has taken them in. When a node stops or dies, another one takes
    over from the last cursor: nothing is left out, and nothing comes twice as long as the watch lives. Whoever keeps
    the cursor beside what was made of the changes, and passes over ids that it has seen, is exact over its restarts:

    >>> async for page in hub.watch(cursor=kept, events=["Order Completed"]).pages():
    ...     for change in page:
    ...         print(change.profile_id, change.properties)
    ...     keep(page.next_cursor)

    A watch from `now` is at its place when its first page is there, which has no changes: all that is acknowledged
    later comes, and all that was acknowledged before is in every listing that begins behind it.

    Attributes:
        cursor: Where another watch goes on: behind all pages but the one that came last, as nobody knows whether that
            was dealt with.
    """

    def __init__(
        self,
        caller: Caller,
        request: wire.WatchRequest | wire.SegmentServiceWatchRequest,
        retry_for: float | None,
        on_wait: Callable[[Error | None], None] | None,
    ) -> None:
        if retry_for is not None and retry_for < 0:
            raise UsageError("retry_for can't be negative")
        self.cursor = request.cursor
        self._caller = caller
        self._request = request
        self._retry_for = retry_for
        self._on_wait = on_wait
        self._stream: Stream[wire.WatchResponse] | Stream[wire.SegmentServiceWatchResponse] | None = None
        self._closed = False
        self._failing_since: float | None = None
        self._tries = 0

    async def page(self) -> Page[Change] | None:
        """The next changes, or none where only the cursor has moved, every few seconds; `None` when it is closed.

        Raises:
            PreconditionError: When the cursor is too old: take a new one (`start="now"`), list all profiles, go on
                from it.
            UnreachableError: When no node could be reached for `retry_for` seconds.
            DeadlineError: When none has answered for so long.
        """
        self.cursor = self._request.cursor
        while not self._closed:
            try:
                response = await self._once()
            except BrokenError as broken:
                self._stream = None
                if self._closed:
                    return None
                await self._pause(broken)
                continue
            if response is None:
                return None
            if self._tries > TRIES_UNSAID and self._on_wait is not None:
                self._on_wait(None)
            self._failing_since, self._tries = None, 0
            self._request.cursor = response.cursor
            return Page([Change.of(change) for change in response.changes], response.cursor)
        return None

    async def pages(self) -> AsyncIterator[Page[Change]]:
        """What comes, page by page, those without changes too."""
        while True:
            page = await self.page()
            if page is None:
                return
            yield page

    async def __aiter__(self) -> AsyncIterator[Change]:
        async for page in self.pages():
            for change in page:
                yield change

    async def close(self) -> None:
        """Ends it: whoever waits for changes is told that there are no more."""
        self._closed = True
        if self._stream is not None:
            self._stream.cancel()

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _begin(self) -> Stream[wire.WatchResponse] | Stream[wire.SegmentServiceWatchResponse]:
        """A new stream. Those of profiles and of segments bring the same."""
        if isinstance(self._request, wire.WatchRequest):
            return await self._caller.follow(wire.ProfileService.Watch, self._request)
        return await self._caller.follow(wire.SegmentService.Watch, self._request)

    async def _once(self) -> wire.WatchResponse | wire.SegmentServiceWatchResponse | None:
        """The next response of the stream under way, or of a new one; nothing when the watch is closed."""
        if self._stream is None:
            try:
                self._stream = await self._begin()
            except NoStreamError as error:
                raise ClosedError("the interpreter is ending: nothing can be followed any more") from error
        response = await self._stream.read(SILENCE_SECONDS)
        if response is None and not self._closed:
            raise BrokenError(*refusal("UNAVAILABLE", "the node ended the stream", (), ""))
        return response

    async def _pause(self, broken: BrokenError) -> None:
        """After a stream has ended: waits, or raises what it is of no use for."""
        if verdict(Kind.READ, broken.ending, broken.error) is Verdict.STOP:
            raise broken.error from None
        now = time.monotonic()
        since = now if self._failing_since is None else self._failing_since
        self._failing_since = since
        self._tries += 1
        wait = wait_seconds(self._tries, broken.error.retry_after, random.random())
        if self._retry_for is not None and now + wait - since > self._retry_for:
            raise broken.told from broken
        if self._tries == TRIES_UNSAID + 1 and self._on_wait is not None:
            self._on_wait(broken.told)
        await self._caller.sleep(wait)
