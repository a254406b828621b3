"""Why identifiers are one customer, and who may be one person."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from .. import _wire as wire
from .base import Page, Record, shown
from .profile import Identifier, identifiers_of, json_of, time_of


@dataclass(frozen=True)
class JudgedFact(Record):
    """A statement that two identifiers are one customer, and what identity resolution did with it.

    `verdict` is `JOINED` (it made two profiles one), `CONFIRMED` (they were one already), `None` (it doesn't count), or
    why it was refused: `SELF_LINK`, `BLOCKED_VALUE`, `SOURCE_NOT_TRUSTED`, `SHARED_IDENTIFIER`, `OVER_LIMIT` (of which
    `namespace`).
    """

    a: Identifier
    b: Identifier
    timestamp: datetime.datetime | None
    source: str
    message_id: str
    alias: bool
    verdict: str | None
    namespace: str | None

    @classmethod
    def of(cls, message: wire.JudgedFact) -> JudgedFact:
        """From an answer."""
        fact = message.fact
        return cls(
            a=Identifier.of(fact.a),
            b=Identifier.of(fact.b),
            timestamp=time_of(fact, "timestamp"),
            source=fact.source,
            message_id=fact.message_id,
            alias=fact.alias,
            verdict=message.verdict or None,
            namespace=message.namespace or None,
        )

    def _cells(self) -> dict[str, str]:
        return {**super()._cells(), "a": shown(str(self.a)), "b": shown(str(self.b))}


@dataclass(frozen=True)
class ProfileChange(Record):
    """A change of a profile's members."""

    at: datetime.datetime | None
    came: tuple[Identifier, ...]
    left: tuple[Identifier, ...]
    rules_version: int

    @classmethod
    def of(cls, message: wire.ProfileChange) -> ProfileChange:
        """From an answer."""
        return cls(
            at=time_of(message, "at"),
            came=identifiers_of(message.came),
            left=identifiers_of(message.left),
            rules_version=message.rules_version,
        )


@dataclass(frozen=True)
class Retraction(Record):
    """What was taken back: of one message, of two identifiers, of one, or of a source.

    `scope` says which: `fact`, `pair`, `identifier` or `source`. `until` absent: all, those to come included.
    """

    id: str
    scope: str
    identifiers: tuple[Identifier, ...]
    source: str | None
    message_id: str | None
    until: datetime.datetime | None
    given_at: datetime.datetime | None
    by: str | None
    reason: str | None

    @classmethod
    def of(cls, message: wire.Retraction) -> Retraction:
        """From an answer."""
        scope = message.scope
        kind = scope.WhichOneof("scope") or "unknown"
        identifiers: tuple[Identifier, ...] = ()
        source = message_id = None
        if kind == "fact":
            identifiers = identifiers_of([scope.fact.a, scope.fact.b])
            source, message_id = scope.fact.source, scope.fact.message_id
        elif kind == "pair":
            identifiers = identifiers_of([scope.pair.a, scope.pair.b])
        elif kind == "identifier":
            identifiers = identifiers_of([scope.identifier])
        elif kind == "source":
            source = scope.source
        return cls(
            id=message.id,
            scope=kind,
            identifiers=identifiers,
            source=source,
            message_id=message_id,
            until=time_of(message, "until"),
            given_at=time_of(message, "given_at"),
            by=message.by or None,
            reason=message.reason or None,
        )


@dataclass(frozen=True)
class Explanation(Record):
    """Why identifiers are one customer, or are not.

    Attributes:
        together: Whether the two are one customer; true when only one was asked about.
        chain: The facts that lead from one to the other, from end to end.
        facts: All facts about them, followed and refused, in the order in which they count.
        history: How the profile came to be, oldest first.
        retractions: What was taken back.
        rules_version: The version of the identity rules under which this was found.
    """

    together: bool
    chain: Page[JudgedFact]
    facts: Page[JudgedFact]
    history: Page[ProfileChange]
    retractions: Page[Retraction]
    rules_version: int

    @classmethod
    def of(cls, message: wire.ExplainResponse) -> Explanation:
        """From an answer."""
        return cls(
            together=message.together,
            chain=Page([JudgedFact.of(fact) for fact in message.chain]),
            facts=Page([JudgedFact.of(fact) for fact in message.facts]),
            history=Page([ProfileChange.of(change) for change in message.history]),
            retractions=Page([Retraction.of(one) for one in message.retractions]),
            rules_version=message.rules_version,
        )

    def _repr_html_(self) -> str:
        parts: list[tuple[str, Page[Any]]] = [
            ("what joins them", self.chain),
            ("facts in the order in which they count", self.facts),
        ]
        parts += [("how the profile came to be", self.history), ("what was taken back", self.retractions)]
        tables = "".join(f"<p><b>{title}</b></p>{page._repr_html_()}" for title, page in parts if page)
        return f"<p>{'one customer' if self.together else 'not one customer'}</p>{tables}"


@dataclass(frozen=True)
class ChangedFact(Record):
    """A fact that would be judged differently; `None` on the side on which it doesn't count."""

    now: JudgedFact | None
    then: JudgedFact | None

    @classmethod
    def of(cls, message: wire.ChangedFact) -> ChangedFact:
        """From an answer."""
        return cls(
            now=JudgedFact.of(message.now) if message.HasField("now") else None,
            then=JudgedFact.of(message.then) if message.HasField("then") else None,
        )


@dataclass(frozen=True)
class Split(Record):
    """What became of a split: the retraction's id; of a preview, who would come apart, and how."""

    id: str
    before: tuple[tuple[Identifier, ...], ...]
    after: tuple[tuple[Identifier, ...], ...]
    facts: tuple[ChangedFact, ...]

    @classmethod
    def of(cls, message: wire.SplitResponse) -> Split:
        """From an answer."""
        return cls(
            id=message.id,
            before=tuple(identifiers_of(group.identifiers) for group in message.before),
            after=tuple(identifiers_of(group.identifiers) for group in message.after),
            facts=tuple(ChangedFact.of(fact) for fact in message.facts),
        )


@dataclass(frozen=True)
class PairWeight(Record):
    """What one trait said about a pair: `level` is `exact`, `close`, `similar`, `swapped`, `different`, or `None`.

    `bits` is how much that speaks for one person (against, when negative).
    """

    trait: str
    level: str | None
    bits: float


@dataclass(frozen=True)
class Pair(Record):
    """Two profiles that may be one person.

    Attributes:
        a: The identifiers of one when the pair was found, the one that names the profile first.
        b: Those of the other.
        score: The probability that they are one person, 0 to 1.
        weights: What each compared trait said.
        decision: `open`, `accepted` or `refused`.
    """

    a: tuple[Identifier, ...]
    b: tuple[Identifier, ...]
    score: float
    weights: tuple[PairWeight, ...]
    decision: str
    decided_by: str | None
    note: str | None
    found_at: datetime.datetime | None
    decided_at: datetime.datetime | None
    model_version: int

    @classmethod
    def of(cls, message: wire.Pair) -> Pair:
        """From an answer."""
        decision = wire.ENUMS["PairDecision"].get(message.decision, "unknown")
        return cls(
            a=identifiers_of(message.a),
            b=identifiers_of(message.b),
            score=message.score,
            weights=tuple(PairWeight(one.trait, one.level or None, one.bits) for one in message.weights),
            decision="open" if decision == "unspecified" else decision,
            decided_by=message.decided_by or None,
            note=message.note or None,
            found_at=time_of(message, "found_at"),
            decided_at=time_of(message, "decided_at"),
            model_version=message.model_version,
        )

    def _cells(self) -> dict[str, str]:
        said = sorted((one for one in self.weights if one.level), key=lambda one: -abs(one.bits))
        cells = super()._cells()
        cells["score"] = f"{self.score:.4f}"
        cells["weights"] = shown(", ".join(f"{one.trait} {one.level} {one.bits:+.1f}" for one in said))
        for name in ("a", "b"):
            cells[name] = shown(", ".join(map(str, getattr(self, name))))
        return cells


@dataclass(frozen=True)
class Decision(Record):
    """A pair that is decided.

    Attributes:
        pair: The pair.
        changed: Whether that is new; false when it was decided so before.
        one_profile: Whether the two are one profile now. An accepted pair is not where identity rules refuse the link;
            `profiles.explain` shows why.
    """

    pair: Pair
    changed: bool
    one_profile: bool


@dataclass(frozen=True)
class MatchingStatus(Record):
    """How far comparing has come.

    Attributes:
        model_version: The version of the model in force; 0: none was learned, and nothing is compared.
        learned_from: How many profiles it was learned from.
        config: The configuration that it was learned under.
        profiles: Profiles that are compared.
        complete: Whether each of them has been compared under this model.
        pending: Profiles that have changed and wait to be compared.
        longest_ms: The longest that a changed profile has waited until its pairs were kept, in milliseconds.
        stale: Whether it is time to learn again.
    """

    model_version: int
    learned_from: int
    config: dict[str, Any]
    profiles: int
    complete: bool
    pending: int
    longest_ms: float
    stale: bool

    @classmethod
    def of(cls, message: wire.MatchingStatus) -> MatchingStatus:
        """From an answer."""
        return cls(
            model_version=message.model_version,
            learned_from=message.learned_from,
            config=json_of(message.config_json, "the configuration"),
            profiles=message.profiles,
            complete=message.complete,
            pending=message.pending,
            longest_ms=message.longest_ms,
            stale=message.stale,
        )

    @property
    def done(self) -> bool:
        """Whether nothing waits to be compared."""
        return self.model_version == 0 or (self.complete and self.pending == 0)
