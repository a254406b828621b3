"""What could not be applied, kept."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from .. import _wire as wire
from .base import Record
from .profile import time_of


@dataclass(frozen=True)
class Resolution(Record):
    """What became of an entry: `kind` is `mended`, `replayed` or `dropped`."""

    kind: str
    by: str | None
    resolved_at: datetime.datetime | None
    message_id: str | None
    note: str | None

    @classmethod
    def of(cls, message: wire.QuarantineResolution) -> Resolution:
        """From an answer."""
        return cls(
            kind=wire.ENUMS["QuarantineResolutionKind"].get(message.kind, "unknown"),
            by=message.by or None,
            resolved_at=time_of(message, "resolved_at"),
            message_id=message.message_id or None,
            note=message.note or None,
        )


@dataclass(frozen=True)
class QuarantineEntry(Record):
    """Something that was kept and not applied.

    Attributes:
        id: 32 hexadecimal digits.
        reason: Why, as a stable code such as NO_IDENTIFIER.
        message: Why, where and what to do, for people.
        source: The source that sent it.
        origin: Where it came from, such as `orders.csv:17`.
        field: Which field is wrong; `None`: the item as a whole.
        content: What was sent, unchanged; only in `show`.
        resolution: What became of it; `None` while it is open.
    """

    id: str
    reason: str
    message: str
    source: str
    origin: str | None
    received_at: datetime.datetime | None
    message_id: str | None
    field: str | None
    content_type: str | None
    content: bytes | None
    resolution: Resolution | None

    @classmethod
    def of(cls, message: wire.QuarantineEntry, with_content: bool = False) -> QuarantineEntry:
        """From an answer."""
        return cls(
            id=message.id,
            reason=message.reason,
            message=message.message,
            source=message.source,
            origin=message.origin or None,
            received_at=time_of(message, "received_at"),
            message_id=message.message_id or None,
            field=message.field or None,
            content_type=message.content_type or None,
            content=message.content if with_content else None,
            resolution=Resolution.of(message.resolution) if message.HasField("resolution") else None,
        )


@dataclass(frozen=True)
class QuarantineResult(Record):
    """What came of mending, replaying or dropping an entry.

    `outcome` is `resolved`, `already_resolved`, `still_quarantined` (see `reason`, `field` and `message`) or
    `not_found`.
    """

    id: str
    outcome: str
    reason: str | None
    field: str | None
    message: str | None
    resolution: Resolution | None

    @classmethod
    def of(cls, message: wire.QuarantineResult) -> QuarantineResult:
        """From an answer."""
        return cls(
            id=message.id,
            outcome=wire.ENUMS["QuarantineOutcome"].get(message.outcome, "unknown"),
            reason=message.reason or None,
            field=message.field or None,
            message=message.message or None,
            resolution=Resolution.of(message.resolution) if message.HasField("resolution") else None,
        )


@dataclass(frozen=True)
class QuarantineCounts(Record):
    """How many entries of a source with a reason are open, and how many resolved and not yet gone."""

    source: str
    reason: str
    open: int
    resolved: int
