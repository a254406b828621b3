"""Groups and who belongs to them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from .. import _wire as wire
from .._values import map_from_wire
from .base import Record, shown
from .profile import Identifier, identifiers_of, time_of


@dataclass(frozen=True)
class Group(Record):
    """A company, household or team, as events name it in `groupId`."""

    group_id: str
    traits: dict[str, Any]
    member_identifiers: int
    events: int
    first_seen: datetime.datetime | None
    last_seen: datetime.datetime | None
    sources: tuple[str, ...]
    version: str

    @classmethod
    def of(cls, message: wire.Group) -> Group:
        """From an answer."""
        return cls(
            group_id=message.group_id,
            traits=map_from_wire(message.traits),
            member_identifiers=message.member_identifiers,
            events=message.events,
            first_seen=time_of(message, "first_seen"),
            last_seen=time_of(message, "last_seen"),
            sources=tuple(message.sources),
            version=message.version,
        )

    def _cells(self) -> dict[str, str]:
        cells = super()._cells()
        cells["sources"] = shown(", ".join(self.sources))
        cells["traits"] = ", ".join(f"{shown(key)}: {shown(value)}" for key, value in self.traits.items())
        return cells


@dataclass(frozen=True)
class GroupMember(Record):
    """A customer who belongs to a group, with the identifiers under which events said so."""

    profile_id: str
    identifiers: tuple[Identifier, ...]
    first_seen: datetime.datetime | None
    last_seen: datetime.datetime | None
    events: int

    @classmethod
    def of(cls, message: wire.GroupMember) -> GroupMember:
        """From an answer."""
        return cls(
            profile_id=message.profile_id,
            identifiers=identifiers_of(message.identifiers),
            first_seen=time_of(message, "first_seen"),
            last_seen=time_of(message, "last_seen"),
            events=message.events,
        )

    def _cells(self) -> dict[str, str]:
        cells = super()._cells()
        cells["identifiers"] = shown(", ".join(map(str, self.identifiers)))
        return cells


@dataclass(frozen=True)
class Membership(Record):
    """A group that a customer belongs to."""

    group_id: str
    first_seen: datetime.datetime | None
    last_seen: datetime.datetime | None
    events: int

    @classmethod
    def of(cls, message: wire.Membership) -> Membership:
        """From an answer."""
        return cls(
            group_id=message.group_id,
            first_seen=time_of(message, "first_seen"),
            last_seen=time_of(message, "last_seen"),
            events=message.events,
        )
