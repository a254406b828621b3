"""Quarantine: looking at what could not be applied, mending it, bringing it in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .. import _wire as wire
from .._retry import Kind
from ..errors import BadAnswerError, UsageError
from ..model.base import Page
from ..model.quarantine import QuarantineCounts, QuarantineEntry, QuarantineResult
from ._caller import Caller
from ._pager import PAGE_MAX, Pager

REPLAY_MAX = 100
"""The most entries of one call that replays."""


class Quarantine:
    """`hub.quarantine`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(
        self,
        *,
        source: str = "",
        reason: str = "",
        resolved: bool = False,
        limit: int | None = None,
        page_size: int = PAGE_MAX,
        cursor: str | None = None,
        timeout: float | None = None,
    ) -> Pager[QuarantineEntry]:
        """Entries without their content, page by page.

        >>> async for entry in hub.quarantine.list(reason="EVENT_NAME_MISSING"):
        ...     print(entry.origin, entry.message)

        Args:
            source: Only those of this source.
            reason: Only those with this reason.
            resolved: Also those that are resolved.
            limit: At most so many; all by default.
            page_size: So many a call, 1 to 1,000.
            cursor: Where to begin: `Pager.cursor` of an earlier walk.
            timeout: Of each call.
        """

        async def fetch(cursor: str, limit: int) -> tuple[Sequence[QuarantineEntry], str]:
            request = wire.QuarantineServiceListRequest(
                limit=limit, cursor=cursor, source=source, reason=reason, all=resolved
            )
            answer = await self._caller.call(wire.QuarantineService.List, request, timeout=timeout)
            return [QuarantineEntry.of(entry) for entry in answer.entries], answer.next_cursor

        return Pager(fetch, limit=limit, page_size=page_size, cursor=cursor)

    async def show(self, id: str, *, timeout: float | None = None) -> QuarantineEntry:
        """One entry, with what was sent.

        Raises:
            NotFoundError: When there is none of that id.
        """
        answer = await self._caller.call(wire.QuarantineService.Show, wire.ShowRequest(id=id), timeout=timeout)
        return QuarantineEntry.of(answer.entry, with_content=True)

    async def counts(self, *, timeout: float | None = None) -> Page[QuarantineCounts]:
        """How many entries there are, by source and reason; exact."""
        answer = await self._caller.call(wire.QuarantineService.Counts, wire.CountsRequest(), timeout=timeout)
        return Page([QuarantineCounts(one.source, one.reason, one.open, one.resolved) for one in answer.counts])

    async def mend(
        self,
        id: str,
        patch: Mapping[str, Any] | None = None,
        *,
        replacement: Mapping[str, Any] | None = None,
        by: str = "",
        timeout: float | None = None,
    ) -> QuarantineResult:
        """Changes what was sent and has it taken in as if it came so when it came. Repeating it changes nothing.

        What can't be taken still is no error but a result, `still_quarantined`, with the reason.

        >>> await hub.quarantine.mend(entry.id, {"event": "Order Completed"}, by="me")

        Args:
            id: The entry's.
            patch: A JSON Merge Patch (RFC 7396) of what was sent.
            replacement: Or the whole event, in place of what was sent.
            by: Who asks, for the record.
            timeout: In seconds, instead of the client's deadline.
        """
        if (patch is None) == (replacement is None):
            raise UsageError("give a patch or a replacement")
        request = wire.MendRequest(id=id, by=by)
        if patch is not None:
            request.patch = json.dumps(patch)
        else:
            request.replacement = json.dumps(replacement).encode()
        answer = await self._caller.call(wire.QuarantineService.Mend, request, kind=Kind.REPEATABLE, timeout=timeout)
        return QuarantineResult.of(answer.result)

    async def replay(
        self,
        ids: Sequence[str] = (),
        *,
        source: str = "",
        reason: str = "",
        by: str = "",
        timeout: float | None = None,
    ) -> Page[QuarantineResult]:
        """Has entries taken in as they are, after rules or schemas changed: those named, or all open ones that fit.

        >>> await hub.quarantine.replay(reason="SCHEMA_VIOLATION")

        Args:
            ids: Which, in any number.
            source: Without ids: only those of this source.
            reason: Without ids: only those with this reason.
            by: Who asks, for the record.
            timeout: Of each call; there is one for every 100 entries.
        """
        if ids and (source or reason):
            raise UsageError("give ids, or source and reason")
        if isinstance(ids, str):
            raise UsageError("ids is a list of ids")
        found: list[QuarantineResult] = []
        parts = [ids[at : at + REPLAY_MAX] for at in range(0, len(ids), REPLAY_MAX)] or [()]
        for part in parts:
            cursor = ""
            while True:
                request = wire.ReplayRequest(ids=part, source=source, reason=reason, cursor=cursor, by=by)
                answer = await self._caller.call(
                    wire.QuarantineService.Replay, request, kind=Kind.REPEATABLE, timeout=timeout
                )
                found.extend(QuarantineResult.of(result) for result in answer.results)
                if not answer.next_cursor:
                    break
                if answer.next_cursor == cursor:
                    raise BadAnswerError("a page's cursor leads to the same page")
                cursor = answer.next_cursor
        return Page(found)

    async def drop(
        self, ids: Sequence[str], reason: str, *, by: str = "", timeout: float | None = None
    ) -> Page[QuarantineResult]:
        """Gives at most 100 entries up, for a reason. Repeating it changes nothing."""
        if isinstance(ids, str):
            raise UsageError("ids is a list of ids")
        answer = await self._caller.call(
            wire.QuarantineService.Drop,
            wire.DropRequest(ids=ids, reason=reason, by=by),
            kind=Kind.REPEATABLE,
            timeout=timeout,
        )
        return Page([QuarantineResult.of(result) for result in answer.results])
