"""Profiles: reading, their events, why they are one, and taking links back."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence

from .. import _wire as wire
from .._retry import Kind
from .._values import timestamp
from ..errors import BadAnswerError, UsageError
from ..model.base import Page
from ..model.identity import Explanation, Split
from ..model.profile import Identifier, Key, Profile, TimelineEvent, key_to_wire
from ._caller import Caller
from ._pager import PAGE_MAX, Pager


def consistency_of(min_version: str | None, max_staleness: float | None) -> wire.Consistency | None:
    """How fresh an answer has to be.

    Raises:
        UsageError: When both are given, or a staleness beyond an hour.
    """
    if min_version is not None and max_staleness is not None:
        raise UsageError("give min_version or max_staleness, not both")
    if min_version is not None:
        return wire.Consistency(min_version=min_version)
    if max_staleness is not None:
        if not 0.001 <= max_staleness <= 3_600:
            raise UsageError("max_staleness is 0.001 to 3,600 seconds")
        return wire.Consistency(max_staleness_ms=int(max_staleness * 1_000))
    return None


_ALL_FIELDS = tuple(field.name for field in wire.Profile.DESCRIPTOR.fields)


def _mask(fields: Sequence[str] | None, segments: bool = False) -> wire.FieldMask | None:
    if isinstance(fields, str):
        raise UsageError("fields is a list of names")
    if segments:
        # They come only where they are named.
        return wire.FieldMask(paths=[*fields, "segments"] if fields else _ALL_FIELDS)
    return wire.FieldMask(paths=fields) if fields else None


def _identifier(given: str | Identifier) -> wire.Identifier:
    return (given if isinstance(given, Identifier) else Identifier.parse(given)).to_wire()


def _scope(identifiers: Sequence[str | Identifier], source: str, message_id: str) -> wire.SplitScope:
    named = [_identifier(one) for one in identifiers]
    if len(named) == 2 and source and message_id:
        fact = wire.SplitFact(a=named[0], b=named[1], source=source, message_id=message_id)
        return wire.SplitScope(fact=fact)
    if not message_id and not source and len(named) == 2:
        return wire.SplitScope(pair=wire.SplitPair(a=named[0], b=named[1]))
    if not message_id and not source and len(named) == 1:
        return wire.SplitScope(identifier=named[0])
    if not message_id and source and not named:
        return wire.SplitScope(source=source)
    raise UsageError("name one identifier, two, two with source and message_id, or source alone")


class Profiles:
    """`hub.profiles`. Reads miss no acknowledged write, unless they are told that they may.

    Every read takes `min_version` (a version token: sees at least what that covers, any replica may answer) or
    `max_staleness` (seconds: may miss younger writes).
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(
        self,
        key: Key,
        *,
        fields: Sequence[str] | None = None,
        segments: bool = False,
        min_version: str | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Profile:
        """The profile of one customer, by any identifier or by its id.

        >>> profile = await hub.profiles.get("user_id:42")
        >>> profile.traits["email"], profile.revenue
        ('ada@example.org', Decimal('44.02'))

        Args:
            key: `NAMESPACE:VALUE`, an `Identifier`, or 32 hexadecimal digits.
            fields: Which fields to fill; all but those of segments by default.
            segments: Whether to fill `segments` and `computed_traits`, too, for which all shards are asked.
            min_version: See the class.
            max_staleness: See the class; segments and computed traits miss nothing.
            timeout: In seconds, instead of the client's deadline.

        Raises:
            NotFoundError: When nothing is known under the key.
        """
        request = wire.GetRequest(
            key=key_to_wire(key),
            consistency=consistency_of(min_version, max_staleness),
            fields=_mask(fields, segments),
        )
        answer = await self._caller.call(wire.ProfileService.Get, request, timeout=timeout)
        if not answer.HasField("profile"):
            raise BadAnswerError("the answer has no profile")
        return Profile.of(answer.profile)

    async def get_many(
        self,
        keys: Sequence[Key],
        *,
        fields: Sequence[str] | None = None,
        segments: bool = False,
        min_version: str | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Page[Profile | None]:
        """The profiles of at most 1,000 customers, in the order asked for; `None` where nothing is known.

        Arguments as of `get`.

        >>> [profile and profile.revenue for profile in await hub.profiles.get_many(["user_id:42", "user_id:no"])]
        [Decimal('44.02'), None]
        """
        request = wire.BatchGetRequest(
            keys=[key_to_wire(key) for key in keys],
            consistency=consistency_of(min_version, max_staleness),
            fields=_mask(fields, segments),
        )
        answer = await self._caller.call(wire.ProfileService.BatchGet, request, timeout=timeout)
        if len(answer.entries) != len(keys):
            raise BadAnswerError("the answer has not one entry for each key")
        return Page([Profile.of(entry.profile) if entry.HasField("profile") else None for entry in answer.entries])

    def list(
        self,
        *,
        limit: int | None = None,
        page_size: int = PAGE_MAX,
        cursor: str | None = None,
        fields: Sequence[str] | None = None,
        min_version: str | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Pager[Profile]:
        """All profiles, by rising id, page by page.

        >>> async for profile in hub.profiles.list(limit=1000):
        ...     print(profile.profile_id, profile.revenue)

        Args:
            limit: At most so many; all by default.
            page_size: So many a call, 1 to 1,000.
            cursor: Where to begin: `Pager.cursor` of an earlier walk.
            fields: Which fields to fill; all by default. Segments can't be: see `hub.segments.members`.
            min_version: See the class.
            max_staleness: See the class.
            timeout: Of each call.
        """
        consistency, mask = consistency_of(min_version, max_staleness), _mask(fields)

        async def fetch(cursor: str, limit: int) -> tuple[Sequence[Profile], str]:
            request = wire.ProfileServiceListRequest(limit=limit, cursor=cursor, consistency=consistency, fields=mask)
            answer = await self._caller.call(wire.ProfileService.List, request, timeout=timeout)
            return [Profile.of(profile) for profile in answer.profiles], answer.next_cursor

        return Pager(fetch, limit=limit, page_size=page_size, cursor=cursor)

    def timeline(
        self,
        key: Key,
        *,
        limit: int | None = None,
        page_size: int = PAGE_MAX,
        cursor: str | None = None,
        min_version: str | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Pager[TimelineEvent]:
        """A customer's events, newest first, page by page. Arguments as of `list`.

        >>> events = await hub.profiles.timeline("user_id:42", limit=100).all()
        >>> events.to_pandas()[["timestamp", "event", "properties.revenue"]]

        Raises:
            NotFoundError: From the first page, when nothing is known under the key.
        """
        consistency, named = consistency_of(min_version, max_staleness), key_to_wire(key)

        async def fetch(cursor: str, limit: int) -> tuple[Sequence[TimelineEvent], str]:
            request = wire.TimelineRequest(key=named, limit=limit, cursor=cursor, consistency=consistency)
            answer = await self._caller.call(wire.ProfileService.Timeline, request, timeout=timeout)
            return [TimelineEvent.of(event) for event in answer.events], answer.next_cursor

        return Pager(fetch, limit=limit, page_size=page_size, cursor=cursor)

    async def explain(self, key: Key, other: Key | None = None, *, timeout: float | None = None) -> Explanation:
        """Why a customer's identifiers are one customer; with `other`, why the two are, or are not.

        >>> why = await hub.profiles.explain("user_id:42", "anonymous_id:c2")
        >>> why.together, [fact.message_id for fact in why.chain]
        (True, ['m1', 'm5'])

        Raises:
            NotFoundError: When nothing is known under the key.
        """
        request = wire.ExplainRequest(key=key_to_wire(key), other=None if other is None else key_to_wire(other))
        return Explanation.of(await self._caller.call(wire.ProfileService.Explain, request, timeout=timeout))

    async def split(
        self,
        *identifiers: str | Identifier,
        source: str = "",
        message_id: str = "",
        until: datetime.datetime | None = None,
        never: bool = False,
        reason: str = "",
        by: str = "",
        preview: bool = False,
        id: str = "",
        timeout: float | None = None,
    ) -> Split:
        """Takes link facts back: what they joined comes apart, and nothing of what was said is lost.

        Name one identifier (everything about it), two (what was said of both), two with `source` and `message_id` (a
        single fact), or `source` alone (everything that it said).

        >>> (await hub.profiles.split("email:a@b.de", preview=True)).after
        >>> await hub.profiles.split("email:a@b.de", reason="shared mailbox", by="me")

        Args:
            identifiers: See above.
            source: See above.
            message_id: See above.
            until: Facts with a timestamp up to this one; by default up to now.
            never: All facts, those to come included: they never belong together again.
            reason: Why, for people.
            by: Who; kept with the retraction.
            preview: Only tell what would happen.
            id: Tells retractions apart: the same one again changes nothing. By default one is made.
            timeout: In seconds, instead of the client's deadline.
        """
        request = wire.SplitRequest(
            scope=_scope(identifiers, source, message_id),
            until=timestamp(until, "until"),
            never=never,
            reason=reason,
            by=by,
            preview=preview,
            id=id or uuid.uuid4().hex,
        )
        kind = Kind.READ if preview else Kind.REPEATABLE
        return Split.of(await self._caller.call(wire.ProfileService.Split, request, kind=kind, timeout=timeout))
