# Written by tools/generate.py: change what it is made of, and run it.
"""Segments and computed traits: their definitions, who is in them, who enters and leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .. import _wire as wire
from .._retry import Kind
from ..errors import BadAnswerError, DeadlineError, Error, UsageError
from ..model.profile import Key, key_to_wire
from ..model.segment import (
    DefinitionResult,
    Definitions,
    ProfileSegments,
    Segment,
    SegmentCount,
    SegmentMember,
    SegmentPreview,
    SegmentVerification,
)
from ._caller import Caller
from ._pager import PAGE_MAX, Pager
from ._watch import CHANGES_MAX, Watch, segment_watch_request

WORKING_SECONDS = 300.0
"""How long working out all events anew may take: as long as the hub allows."""
LOOK_EVERY_SECONDS = 0.1
"""How often it is asked whether new definitions are live."""


class Segments:
    """`hub.segments`: sets of customers, exact and as events arrive, and what is worked out of customers' events.

    All definitions together are one document with versions. A changed one is worked out beside the one before, which
    answers until then: `wait` waits for that. Reads miss no acknowledged write.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def put(
        self,
        name: str,
        expression: str,
        *,
        description: str = "",
        wait: bool = False,
        timeout: float | None = None,
    ) -> DefinitionResult:
        """Puts a segment in force, new or in place of the one with its name; the same again changes nothing.

        >>> loyal = "plan = 'pro' AND events('Order Completed', '30 days') >= 3"
        >>> hub.segments.put("loyal", loyal, wait=True)

        Args:
            name: A letter, then letters, digits, `_` and `-`, at most 100.
            expression: Who is in it: SQL's boolean expression over traits, computed traits, consent, events and other
                segments.
            description: For people.
            wait: Whether to return when it is live everywhere; see `wait`, which has a time of its own.
            timeout: In seconds, instead of the client's deadline.

        Raises:
            InvalidSegmentError: With the place that is wrong.
            DeadlineError: When it was not live in time: it is in force, and goes on being worked out.
        """
        segment = wire.Segment(name=name, expression=expression, description=description)
        answer = self._caller.call(
            wire.SegmentService.PutSegment,
            wire.PutSegmentRequest(segment=segment),
            kind=Kind.REPEATABLE,
            timeout=timeout,
        )
        if not answer.HasField("segment"):
            raise BadAnswerError("the answer has no segment")
        if wait:
            self.wait(answer.version)
        return DefinitionResult(answer.version, answer.changed, Segment.of(answer.segment))

    def put_trait(
        self,
        name: str,
        aggregate: str,
        *,
        of: str | None = None,
        type: str | None = None,
        events: Sequence[str] = (),
        event_type: str | None = None,
        filter: str | None = None,
        window: str | None = None,
        limit: int | None = None,
        bound: int | None = None,
        description: str = "",
        wait: bool = False,
        timeout: float | None = None,
    ) -> DefinitionResult:
        """Puts a computed trait in force, new or in place of the one with its name; the same again changes nothing.

        >>> hub.segments.put_trait("spent", "sum", of="revenue", events=["Order Completed"], window="90 days")

        Args:
            name: As of a segment.
            aggregate: `count`, `sum`, `average`, `min`, `max`, `first`, `last`, `most_frequent`, `distinct_count` or
                `distinct_list`.
            of: The property, unless events are counted: `amount`, `product.category`.
            type: As what the property is read: `number`, `text`, `boolean` or `time`; needed where the aggregate
                doesn't say.
            events: Names of events; none: any of `event_type`, which has to be said then.
            event_type: The type of the events, `any`: all. `track` by default.
            filter: Which of these events: an expression over their properties.
            window: How far back, such as `30 days`, at most 400 days; all time by default.
            limit: How many values `distinct_list` has at most, 1 to 1,000; 100 by default.
            bound: From how many distinct values, or events of a window, on it overflows, 1 to 10,000; 10,000 by
                default. Not of `distinct_list`.
            description: For people.
            wait: As of `put`.
            timeout: In seconds, instead of the client's deadline.

        Raises:
            InvalidSegmentError: With what is wrong.
            DeadlineError: As of `put`.
        """
        if isinstance(events, str):
            raise UsageError("events is a list")
        for what, number, most in (("limit", limit, 1_000), ("bound", bound, 10_000)):
            if number is not None and not 1 <= number <= most:
                raise UsageError(f"{what} is 1 to {most:,}")
        trait = wire.ComputedTrait(
            name=name,
            aggregate=aggregate,
            of=of,
            type=type,
            events=events,
            event_type=event_type,
            filter=filter,
            window=window,
            limit=limit,
            bound=bound,
            description=description,
        )
        answer = self._caller.call(
            wire.SegmentService.PutComputedTrait,
            wire.PutComputedTraitRequest(computed_trait=trait),
            kind=Kind.REPEATABLE,
            timeout=timeout,
        )
        if wait:
            self.wait(answer.version)
        return DefinitionResult(answer.version, answer.changed, None)

    def wait(self, version: int = 0, *, timeout: float = WORKING_SECONDS) -> Definitions:
        """Waits until all shards answer by a version of the definitions, or a later one. Version 0: that in force now.

        Raises:
            DeadlineError: When they don't after `timeout` seconds; it goes on being worked out.
        """
        until = time.monotonic() + timeout
        while True:
            found = self.list(timeout=max(until - time.monotonic(), LOOK_EVERY_SECONDS))
            version = version or found.version
            if found.live_version >= version:
                return found
            if time.monotonic() + LOOK_EVERY_SECONDS >= until:
                raise DeadlineError(f"version {version} of the definitions is not live yet")
            self._caller.sleep(LOOK_EVERY_SECONDS)

    def list(self, version: int = 0, *, timeout: float | None = None) -> Definitions:
        """All segments and computed traits; version 0 are those in force.

        >>> (hub.segments.list()).segments.to_pandas()[["name", "expression"]]

        Raises:
            NotFoundError: When the version isn't kept: the last 32 are.
        """
        request = wire.ListDefinitionsRequest(version=version)
        return Definitions.of(self._caller.call(wire.SegmentService.ListDefinitions, request, timeout=timeout))

    def delete(self, name: str, *, timeout: float | None = None) -> int:
        """Deletes a segment or a computed trait. Returns the version of the definitions without it.

        Raises:
            NotFoundError: When there is none of that name. After a retry, the first try may have deleted it.
            InvalidSegmentError: While others build on it.
            OutcomeUnknownError: When the connection broke after the request was sent.
        """
        request = wire.DeleteDefinitionRequest(name=name)
        answer = self._caller.call(wire.SegmentService.DeleteDefinition, request, kind=Kind.ONCE, timeout=timeout)
        return answer.version

    def preview(self, expression: str, *, limit: int = 10, timeout: float = WORKING_SECONDS) -> SegmentPreview:
        """How many and who there would be in a segment, without putting it in force.

        It takes as long as there are events.

        >>> (hub.segments.preview("revenue >= 1000")).count
        17

        Args:
            expression: As of a segment; it may build on everything that is in force.
            limit: At most so many members, 1 to 100.
            timeout: In seconds, at most 300.

        Raises:
            InvalidSegmentError: With the place that is wrong.
        """
        if not 1 <= limit <= 100:
            raise UsageError("limit is 1 to 100")
        request = wire.PreviewRequest(expression=expression, limit=limit)
        return SegmentPreview.of(
            self._caller.call(wire.SegmentService.Preview, request, timeout=timeout, long=True)
        )

    def count(self, expression: str, *, timeout: float | None = None) -> SegmentCount:
        """How many customers there are in a set of segments: names with `and`, `or`, `not` and parentheses.

        >>> (hub.segments.count("loyal and not refunded")).count
        60

        Raises:
            InvalidSegmentError: With the place that is wrong.
            PreconditionError: While nothing is defined.
        """
        request = wire.SegmentServiceCountRequest(expression=expression)
        return SegmentCount.of(self._caller.call(wire.SegmentService.Count, request, timeout=timeout))

    def members(
        self,
        expression: str,
        *,
        limit: int | None = None,
        page_size: int = PAGE_MAX,
        cursor: str | None = None,
        timeout: float | None = None,
    ) -> Pager[SegmentMember]:
        """Who is in a set of segments, page by page, in a fixed order; each page is exact at a time of its own.

        >>> for member in hub.segments.members("loyal not refunded"):
        ...     print(member.profile_id, member.identifier)

        Args:
            expression: As of `count`.
            limit: At most so many; all by default.
            page_size: So many a call, 1 to 1,000.
            cursor: Where to begin: `Pager.cursor` of an earlier walk.
            timeout: Of each call.

        Raises:
            InvalidSegmentError: From the first page, with the place that is wrong.
            PreconditionError: From the first page, while nothing is defined.
        """

        def fetch(cursor: str, limit: int) -> tuple[Sequence[SegmentMember], str]:
            request = wire.SegmentServiceListMembersRequest(expression=expression, limit=limit, cursor=cursor)
            answer = self._caller.call(wire.SegmentService.ListMembers, request, timeout=timeout)
            return [SegmentMember.of(member) for member in answer.members], answer.next_cursor

        return Pager(fetch, limit=limit, page_size=page_size, cursor=cursor)

    def of(self, key: Key, *, timeout: float | None = None) -> ProfileSegments:
        """The segments that a customer is in, and its computed traits. `hub.profiles.get` has them with the profile.

        >>> standing = hub.segments.of("user_id:42")
        >>> standing.segments, standing.computed_traits
        (('loyal',), {'spent': '100.00'})

        Raises:
            NotFoundError: When nothing is known under the key.
        """
        named = key_to_wire(key)
        if named.HasField("identifier"):
            request = wire.GetMembershipsRequest(identifier=named.identifier)
        else:
            request = wire.GetMembershipsRequest(profile_id=named.profile_id)
        return ProfileSegments.of(self._caller.call(wire.SegmentService.GetMemberships, request, timeout=timeout))

    def watch(
        self,
        segments: Sequence[str] = (),
        *,
        cursor: str = "",
        start: str = "now",
        page_size: int = CHANGES_MAX,
        retry_for: float | None = None,
        on_wait: Callable[[Error | None], None] | None = None,
    ) -> Watch:
        """Follows who enters segments and leaves them; see `Watch`. Its cursors are those of `hub.watch`.

        >>> for change in hub.segments.watch(["loyal"]):
        ...     print(change.profile_id, change.segment, change.before, change.now)

        Args:
            segments: Names of segments, at most 1,000; none: all that are defined when a stream begins, at another node
                too. `hub.watch(segments=…)` takes names of segments that are still to be defined.
            cursor: As of `hub.watch`.
            start: As of `hub.watch`.
            page_size: As of `hub.watch`.
            retry_for: As of `hub.watch`.
            on_wait: As of `hub.watch`.

        Raises:
            UsageError: When something given can't be.
            InvalidSegmentError: From a page, when there is no such segment, or no more when another node takes over.
        """
        return Watch(self._caller, segment_watch_request(segments, cursor, start, page_size), retry_for, on_wait)

    def verify(self, name: str, *, timeout: float = WORKING_SECONDS) -> SegmentVerification:
        """Works a segment out anew in SQL from all events, and compares that with what is live at the same moment.

        >>> (hub.segments.verify("loyal")).same
        True

        Args:
            name: Of the segment.
            timeout: In seconds, at most 300.

        Raises:
            InvalidSegmentError: When there is no such segment.
            PreconditionError: While nothing is defined.
        """
        request = wire.VerifyRequest(name=name)
        return SegmentVerification.of(
            self._caller.call(wire.SegmentService.Verify, request, timeout=timeout, long=True)
        )
