"""Changes of profiles."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from .. import _wire as wire
from .base import Record, shown
from .profile import Identifier, identifiers_of, json_of, time_of

_STATES = {**wire.ENUMS["SegmentState"], 0: "out"}


@dataclass(frozen=True)
class Change(Record):
    """A change of a profile: an event was accepted, others belong to it than before, or it entered or left a segment.

    Attributes:
        id: The same whenever it comes. Of changes of one identifier the larger is the later.
        at: When the hub took it in.
        version: A version token: a read with it as `min_version` sees at least this change.
        profile_id: The profile, by the name that it has when the change is served.
        identifier: The identifier that it is filed under.
        change: `event`, `members`, `segment`, or `other`: of a kind that this version doesn't know.
        type: Of an event: identify, track, page, screen, group, alias.
        message_id: Of an event.
        source: Of an event: who sent it.
        event: Of an event: its name, where it has one.
        timestamp: Of an event: when it happened.
        traits: Of an `identify` event: the traits that it sets or removes.
        properties: Of an event: its properties; of an `identify` event its traits.
        context: Of an event: everything else that was sent.
        came: Of members: who came, at most 1,000 of them.
        left: Of members: who left, at most 1,000 of them.
        came_count: How many came.
        left_count: How many left.
        segment: Of a segment: its name; `None` where its definition is not kept any more.
        segment_version: The version of the definitions since which it is as it is.
        before: Of a segment: whether the profile was in it, `in`, `out`, or `overflow`: it can't be said, since a bound
            was passed, and counts as out.
        now: The same of now.
        cause: Of a segment: the id of the change that brought it about, of an event or of none that a watch tells;
            `None`: time has passed, or the definition is new.
    """

    id: str
    at: datetime.datetime | None
    version: str
    profile_id: str
    identifier: Identifier | None
    change: str
    type: str | None = None
    message_id: str | None = None
    source: str | None = None
    event: str | None = None
    timestamp: datetime.datetime | None = None
    traits: tuple[str, ...] = ()
    properties: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    came: tuple[Identifier, ...] = ()
    left: tuple[Identifier, ...] = ()
    came_count: int = 0
    left_count: int = 0
    segment: str | None = None
    segment_version: int | None = None
    before: str | None = None
    now: str | None = None
    cause: str | None = None

    @property
    def entered(self) -> bool:
        """Whether the profile has entered the segment."""
        return self.now == "in" != self.before

    @property
    def departed(self) -> bool:
        """Whether the profile has left the segment; `left` is of members."""
        return self.before == "in" != self.now

    @classmethod
    def of(cls, message: wire.Change) -> Change:
        """From an answer."""
        what: dict[str, Any] = {"change": "other"}
        if message.HasField("event"):
            event = message.event
            what = {
                "change": "event",
                "type": wire.ENUMS["EventType"].get(event.type, "unknown"),
                "message_id": event.message_id,
                "source": event.source,
                "event": event.name or None,
                "timestamp": time_of(event, "timestamp"),
                "traits": tuple(event.traits),
                "properties": json_of(event.properties_json, "a change's properties"),
                "context": json_of(event.context_json, "a change's context"),
            }
        elif message.HasField("members"):
            members = message.members
            what = {
                "change": "members",
                "came": identifiers_of(members.came),
                "left": identifiers_of(members.left),
                "came_count": members.came_count,
                "left_count": members.left_count,
            }
        elif message.HasField("segment"):
            segment = message.segment
            what = {
                "change": "segment",
                "segment": segment.name or None,
                "segment_version": segment.segment_version or None,
                "before": _STATES.get(segment.before, "unknown"),
                "now": _STATES.get(segment.now, "unknown"),
                "cause": segment.cause or None,
            }
        return cls(
            id=message.id,
            at=time_of(message, "at"),
            version=message.version,
            profile_id=message.profile_id,
            identifier=Identifier.of(message.identifier) if message.HasField("identifier") else None,
            **what,
        )

    def _cells(self) -> dict[str, str]:
        cells = super()._cells()
        cells["identifier"] = shown(str(self.identifier or ""))
        for name in ("came", "left"):
            cells[name] = shown(", ".join(map(str, getattr(self, name))))
        return cells
