# Written by tools/generate.py: change what it is made of, and run it.
"""Identity: pairs that may be one person, decisions about them, and the rules of who is one customer."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .. import _wire as wire
from .._retry import Kind
from ..errors import UsageError
from ..model.base import Page
from ..model.identity import Decision, MatchingStatus, Pair
from ..model.profile import Key, key_to_wire, time_of
from ..model.registry import PutResult, Rules, RulesStatus
from ._caller import Caller
from ._pager import PAGE_MAX, Pager

LEARNING_SECONDS = 300.0
"""How long learning may take: as long as the hub allows."""
_FILTERS = {"all": 0, **{name: number for number, name in wire.ENUMS["PairFilter"].items() if number}}
_DECISIONS = {name: number for number, name in wire.ENUMS["PairDecision"].items()}


class Identity:
    """`hub.identity`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def match(
        self, config: Mapping[str, Any] | None = None, *, timeout: float = LEARNING_SECONDS
    ) -> MatchingStatus:
        """Learns from all profiles what records of one person look like, and compares them all anew.

        >>> hub.identity.match({"traits": [{"name": "lastName", "kind": "name"}]})
        >>> hub.identity.wait()

        Args:
            config: What is compared, and how; by default what is in force, else by the traits' names.
            timeout: In seconds, at most 300.

        Raises:
            InvalidRequestError: When the configuration is wrong; it names the place.
        """
        request = wire.MatchRequest(config_json="" if config is None else json.dumps(config))
        answer = self._caller.call(
            wire.MatchingService.Match, request, kind=Kind.REPEATABLE, timeout=timeout, long=True
        )
        return MatchingStatus.of(answer.status)

    def status(self, *, timeout: float | None = None) -> MatchingStatus:
        """How far comparing has come."""
        request = wire.MatchingServiceGetStatusRequest()
        answer = self._caller.call(wire.MatchingService.GetStatus, request, timeout=timeout)
        return MatchingStatus.of(answer.status)

    def wait(self, *, timeout: float = LEARNING_SECONDS) -> MatchingStatus:
        """Waits until every profile that was written before has been compared, or the time is over: see `done`."""
        until = time.monotonic() + timeout
        while True:
            left = min(until - time.monotonic(), LEARNING_SECONDS)
            request = wire.MatchingServiceGetStatusRequest(wait=True)
            answer = self._caller.call(wire.MatchingService.GetStatus, request, timeout=max(left, 0.1), long=True)
            status = MatchingStatus.of(answer.status)
            if status.done or time.monotonic() >= until - 0.1:
                return status

    def pairs(
        self,
        *,
        min_score: float = 0.0,
        only: str = "all",
        limit: int | None = None,
        page_size: int = PAGE_MAX,
        cursor: str | None = None,
        timeout: float | None = None,
    ) -> Pager[Pair]:
        """Pairs, page by page, in a fixed order.

        >>> pairs = hub.identity.pairs(min_score=0.9, only="open").all()

        Args:
            min_score: Only from this probability on, 0 to 1.
            only: `all`, `open`, `accepted` or `refused`.
            limit: At most so many; all by default.
            page_size: About so many a call, 1 to 1,000.
            cursor: Where to begin: `Pager.cursor` of an earlier walk.
            timeout: Of each call.
        """
        if only not in _FILTERS:
            raise UsageError(f"only is one of {', '.join(_FILTERS)}")

        def fetch(cursor: str, limit: int) -> tuple[Sequence[Pair], str]:
            request = wire.ListPairsRequest(min_score=min_score, filter=_FILTERS[only], limit=limit, cursor=cursor)
            answer = self._caller.call(wire.MatchingService.ListPairs, request, timeout=timeout)
            return [Pair.of(pair) for pair in answer.pairs], answer.next_cursor

        return Pager(fetch, limit=limit, page_size=page_size, cursor=cursor)

    def candidates(self, *, min_score: float = 0.0, limit: int = 50, timeout: float | None = None) -> Page[Pair]:
        """The open pairs, the surest first. It looks at all of them, and holds `limit`."""
        best: list[tuple[float, int, Pair]] = []
        number = 0
        for pair in self.pairs(min_score=min_score, only="open", timeout=timeout):
            number -= 1  # of equally sure ones, the first
            if len(best) < limit:
                heapq.heappush(best, (pair.score, number, pair))
            elif limit and pair.score > best[0][0]:
                heapq.heapreplace(best, (pair.score, number, pair))
        return Page([pair for _, _, pair in sorted(best, key=lambda one: one[:2], reverse=True)])

    def accept(self, a: Key, b: Key, *, by: str = "", note: str = "", timeout: float | None = None) -> Decision:
        """Takes a pair for one person: linked by a fact of the source `matcher`, which `profiles.split` takes back.

        Raises:
            NotFoundError: When the two are no pair.
        """
        return self._decide("accepted", a, b, by, note, timeout)

    def refuse(self, a: Key, b: Key, *, by: str = "", note: str = "", timeout: float | None = None) -> Decision:
        """Takes a pair for two people: it is not proposed again.

        Raises:
            NotFoundError: When the two are no pair.
            AlreadyLinkedError: When they are linked.
        """
        return self._decide("refused", a, b, by, note, timeout)

    def _decide(self, decision: str, a: Key, b: Key, by: str, note: str, timeout: float | None) -> Decision:
        request = wire.DecidePairRequest(
            a=key_to_wire(a), b=key_to_wire(b), decision=_DECISIONS[decision], by=by, note=note
        )
        answer = self._caller.call(
            wire.MatchingService.DecidePair, request, kind=Kind.REPEATABLE, timeout=timeout
        )
        return Decision(Pair.of(answer.pair), answer.changed, answer.one_profile)

    def rules(self, version: int = 0, *, timeout: float | None = None) -> Rules:
        """The identity rules; version 0 is the one in force."""
        request = wire.GetRulesRequest(version=version)
        answer = self._caller.call(wire.RulesService.GetIdentityRules, request, timeout=timeout)
        return Rules.of(answer.rules)

    def put_rules(self, rules: Mapping[str, Any], *, timeout: float | None = None) -> PutResult:
        """Puts identity rules in force; `version` in them, if any, is the one that they were made from.

        >>> rules = (hub.identity.rules()).rules
        >>> hub.identity.put_rules({**rules, "limits": {"user_id": 2}})

        Raises:
            InvalidRulesError: With the place that is wrong.
            ConflictError: When another version than `version` is in force.
        """
        request = wire.PutRulesRequest(rules_json=json.dumps(rules))
        answer = self._caller.call(
            wire.RulesService.PutIdentityRules, request, kind=Kind.REPEATABLE, timeout=timeout
        )
        return PutResult(answer.rules.version, answer.changed, time_of(answer.rules, "created_at"))

    def rules_status(self, *, timeout: float | None = None) -> RulesStatus:
        """How far identity rules have come in each shard."""
        request = wire.GetIdentityRulesStatusRequest()
        return RulesStatus.of(
            self._caller.call(wire.RulesService.GetIdentityRulesStatus, request, timeout=timeout)
        )
