"""Segments, computed traits, and who is in them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from .. import _wire as wire
from .base import Page, Record, shown
from .profile import Identifier, computed_of, shown_values, time_of


@dataclass(frozen=True)
class Segment(Record):
    """A set of customers.

    Attributes:
        name: Its name.
        expression: Who is in it: SQL's boolean expression.
        description: For people; empty where there is none.
        version: The version of the definitions since which it is as it is.
    """

    name: str
    expression: str
    description: str
    version: int

    @classmethod
    def of(cls, message: wire.Segment) -> Segment:
        """From an answer."""
        return cls(message.name, message.expression, message.description, message.version)


@dataclass(frozen=True)
class ComputedTrait(Record):
    """Something that is worked out of a customer's events; `hub.segments.put_trait` says what its fields mean.

    What is `None` was not said.
    """

    name: str
    aggregate: str
    of: str | None
    type: str | None
    events: tuple[str, ...]
    event_type: str | None
    filter: str | None
    window: str | None
    limit: int | None
    bound: int | None
    description: str

    @classmethod
    def from_wire(cls, message: wire.ComputedTrait) -> ComputedTrait:
        """From an answer. `of` is one of its fields."""
        return cls(
            name=message.name,
            aggregate=message.aggregate,
            of=message.of or None,
            type=message.type or None,
            events=tuple(message.events),
            event_type=message.event_type or None,
            filter=message.filter or None,
            window=message.window or None,
            limit=message.limit or None,
            bound=message.bound or None,
            description=message.description,
        )


@dataclass(frozen=True)
class DefinitionResult(Record):
    """What became of a definition that was put.

    Attributes:
        version: The version of the definitions that has it.
        changed: Whether it is other than before.
        segment: The segment with its version; `None` of a computed trait.
    """

    version: int
    changed: bool
    segment: Segment | None


@dataclass(frozen=True)
class Definitions(Record):
    """All segments and computed traits of one version, each by name.

    Attributes:
        version: The version; 0: none were ever put.
        live_version: The oldest version that some shard still answers by: below `version` while that is worked out.
            0 of another version than the one in force.
        created_at: When the version was put; `None`: never.
        segments: The segments.
        computed_traits: The computed traits.
    """

    version: int
    live_version: int
    created_at: datetime.datetime | None
    segments: Page[Segment]
    computed_traits: Page[ComputedTrait]

    @classmethod
    def of(cls, message: wire.ListDefinitionsResponse) -> Definitions:
        """From an answer."""
        return cls(
            version=message.version,
            live_version=message.live_version,
            created_at=time_of(message, "created_at"),
            segments=Page([Segment.of(segment) for segment in message.segments]),
            computed_traits=Page([ComputedTrait.from_wire(trait) for trait in message.computed_traits]),
        )

    def _repr_html_(self) -> str:
        return "".join(page._repr_html_() for page in (self.segments, self.computed_traits) if page)


@dataclass(frozen=True)
class SegmentMember(Record):
    """A customer in a segment, with the identifier by which the profile is kept."""

    profile_id: str
    identifier: Identifier | None

    @classmethod
    def of(cls, message: wire.SegmentMember) -> SegmentMember:
        """From an answer."""
        identifier = Identifier.of(message.identifier) if message.HasField("identifier") else None
        return cls(message.profile_id, identifier)

    def _cells(self) -> dict[str, str]:
        return {**super()._cells(), "identifier": shown(str(self.identifier or ""))}


@dataclass(frozen=True)
class SegmentCount(Record):
    """How many customers are in a set of segments, exact at one version token.

    Attributes:
        count: How many.
        overflows: How many of which it can't be said for one of the segments, since a bound was passed; not counted.
        profiles: How many customers there are.
        definitions_version: The version of the definitions.
        version: The version token.
    """

    count: int
    overflows: int
    profiles: int
    definitions_version: int
    version: str

    @classmethod
    def of(cls, message: wire.SegmentServiceCountResponse) -> SegmentCount:
        """From an answer."""
        return cls(
            count=message.count,
            overflows=message.overflows,
            profiles=message.profiles,
            definitions_version=message.definitions_version,
            version=message.version,
        )


@dataclass(frozen=True)
class SegmentPreview(Record):
    """How many and who there would be in a segment; `members` are some of them, else as `SegmentCount`."""

    count: int
    overflows: int
    members: Page[SegmentMember]
    profiles: int
    version: str

    @classmethod
    def of(cls, message: wire.PreviewResponse) -> SegmentPreview:
        """From an answer."""
        return cls(
            count=message.count,
            overflows=message.overflows,
            members=Page([SegmentMember.of(member) for member in message.members]),
            profiles=message.profiles,
            version=message.version,
        )


@dataclass(frozen=True)
class SegmentVerification(Record):
    """A segment beside a full evaluation of all events, both exact at one version token.

    Attributes:
        same: Whether both have the same customers.
        live: How many are in it, live.
        recounted: How many the evaluation finds, of those of whom it can be said live.
        differing: Customers that only one of the two has, the first of them.
        version: The version token.
    """

    same: bool
    live: int
    recounted: int
    differing: Page[SegmentMember]
    version: str

    @classmethod
    def of(cls, message: wire.VerifyResponse) -> SegmentVerification:
        """From an answer."""
        return cls(
            same=message.live == message.recounted and not message.differing,
            live=message.live,
            recounted=message.recounted,
            differing=Page([SegmentMember.of(member) for member in message.differing]),
            version=message.version,
        )


@dataclass(frozen=True)
class ProfileSegments(Record):
    """The segments that a customer is in, and what is worked out of its events, exact at one version token.

    Attributes:
        segments: Names of the segments.
        overflows: Names of segments of which it can't be said, since a bound was passed; they count as out.
        computed_traits: Computed traits that have a value, by name. Numbers are exact decimal text, times text in RFC
            3339.
        trait_overflows: Names of computed traits that have passed their bound.
        version: The version token.
        definitions_version: The version of the definitions; 0: none were ever put.
    """

    segments: tuple[str, ...]
    overflows: tuple[str, ...]
    computed_traits: dict[str, Any]
    trait_overflows: tuple[str, ...]
    version: str
    definitions_version: int

    @classmethod
    def of(cls, message: wire.GetMembershipsResponse) -> ProfileSegments:
        """From an answer."""
        values, overflows = computed_of(message.computed_traits_json)
        return cls(
            segments=tuple(message.segments),
            overflows=tuple(message.overflows),
            computed_traits=values,
            trait_overflows=overflows,
            version=message.version,
            definitions_version=message.definitions_version,
        )

    def _cells(self) -> dict[str, str]:
        cells = super()._cells()
        for name in ("segments", "overflows", "trait_overflows"):
            cells[name] = shown(", ".join(getattr(self, name)))
        cells["computed_traits"] = shown_values(self.computed_traits)
        return cells
