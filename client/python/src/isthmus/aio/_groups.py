"""Groups: reading them, who belongs to them, and the groups of a customer."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _wire as wire
from ..errors import BadAnswerError
from ..model.group import Group, GroupMember, Membership
from ..model.profile import Key, key_to_wire
from ._caller import Caller
from ._pager import PAGE_MAX, Pager
from ._profiles import consistency_of


class Groups:
    """`hub.groups`. Reads miss no acknowledged write, unless they are told that they may: see `hub.profiles`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(
        self,
        group_id: str,
        *,
        min_version: str | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Group:
        """One group, as events name it in `groupId`.

        >>> (await hub.groups.get("acme")).traits
        {'plan': 'enterprise'}

        Raises:
            NotFoundError: When no event has named it.
        """
        request = wire.GroupServiceGetRequest(group_id=group_id, consistency=consistency_of(min_version, max_staleness))
        answer = await self._caller.call(wire.GroupService.Get, request, timeout=timeout)
        if not answer.HasField("group"):
            raise BadAnswerError("the answer has no group")
        return Group.of(answer.group)

    def list(
        self,
        *,
        limit: int | None = None,
        page_size: int = PAGE_MAX,
        cursor: str | None = None,
        min_version: str | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Pager[Group]:
        """All groups, page by page. Arguments as of `hub.profiles.list`."""
        consistency = consistency_of(min_version, max_staleness)

        async def fetch(cursor: str, limit: int) -> tuple[Sequence[Group], str]:
            request = wire.GroupServiceListRequest(limit=limit, cursor=cursor, consistency=consistency)
            answer = await self._caller.call(wire.GroupService.List, request, timeout=timeout)
            return [Group.of(group) for group in answer.groups], answer.next_cursor

        return Pager(fetch, limit=limit, page_size=page_size, cursor=cursor)

    def members(
        self,
        group_id: str,
        *,
        limit: int | None = None,
        page_size: int = PAGE_MAX,
        cursor: str | None = None,
        min_version: str | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Pager[GroupMember]:
        """The customers who belong to a group, each once, page by page. Arguments as of `hub.profiles.list`.

        >>> async for member in hub.groups.members("acme"):
        ...     print(member.profile_id, member.identifiers)

        Raises:
            NotFoundError: From the first page, when no event has named the group.
        """
        consistency = consistency_of(min_version, max_staleness)

        async def fetch(cursor: str, limit: int) -> tuple[Sequence[GroupMember], str]:
            request = wire.ListMembersRequest(group_id=group_id, limit=limit, cursor=cursor, consistency=consistency)
            answer = await self._caller.call(wire.GroupService.ListMembers, request, timeout=timeout)
            return [GroupMember.of(member) for member in answer.members], answer.next_cursor

        return Pager(fetch, limit=limit, page_size=page_size, cursor=cursor)

    def of(
        self,
        key: Key,
        *,
        limit: int | None = None,
        page_size: int = PAGE_MAX,
        cursor: str | None = None,
        min_version: str | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Pager[Membership]:
        """The groups that a customer belongs to, page by page. Arguments as of `hub.profiles.list`.

        >>> [membership.group_id for membership in await hub.groups.of("user_id:42").all()]
        ['acme']

        Raises:
            NotFoundError: From the first page, when nothing is known under the key.
        """
        consistency, named = consistency_of(min_version, max_staleness), key_to_wire(key)

        async def fetch(cursor: str, limit: int) -> tuple[Sequence[Membership], str]:
            request = wire.ListMembershipsRequest(key=named, limit=limit, cursor=cursor, consistency=consistency)
            answer = await self._caller.call(wire.GroupService.ListMemberships, request, timeout=timeout)
            return [Membership.of(membership) for membership in answer.memberships], answer.next_cursor

        return Pager(fetch, limit=limit, page_size=page_size, cursor=cursor)
