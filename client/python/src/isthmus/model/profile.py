"""Profiles and their events."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import _wire as wire
from .._values import datetime_of, map_from_wire
from ..errors import BadAnswerError, UsageError
from .base import Record, decimal_of, shown

_HEX = frozenset("0123456789abcdefABCDEF")


@dataclass(frozen=True)
class Identifier(Record):
    """A name for a customer in a namespace, such as `user_id:42`."""

    namespace: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Identifier:
        """Reads `NAMESPACE:VALUE`; the value may hold colons. The hub normalises it, as in ingest.

        >>> isthmus.Identifier.parse("email:ada@example.org")
        Identifier(namespace='email', value='ada@example.org')

        Raises:
            UsageError: When it isn't that.
        """
        namespace, colon, value = text.partition(":")
        if not colon or not namespace.strip() or not value.strip():
            raise UsageError("an identifier is written NAMESPACE:VALUE, such as user_id:42")
        return cls(namespace.strip(), value)

    def __str__(self) -> str:
        return f"{self.namespace}:{self.value}"

    def to_wire(self) -> wire.Identifier:
        """As a request has it."""
        return wire.Identifier(namespace=self.namespace, value=self.value)

    @classmethod
    def of(cls, message: wire.Identifier) -> Identifier:
        """From an answer."""
        return cls(message.namespace, message.value)


Key = str | Identifier
"""Names a profile: any identifier (`user_id:42`), or the profile's id of 32 hexadecimal digits."""


def key_to_wire(key: Key) -> wire.ProfileKey:
    """A key as a request has it.

    Raises:
        UsageError: When it is neither; the message doesn't repeat what was given.
    """
    if isinstance(key, Identifier):
        return wire.ProfileKey(identifier=key.to_wire())
    if not isinstance(key, str):
        raise UsageError(f"a profile is named by text or an Identifier, not {type(key).__name__}")
    if len(key) == 32 and _HEX.issuperset(key):
        return wire.ProfileKey(profile_id=key.lower())
    try:
        return wire.ProfileKey(identifier=Identifier.parse(key).to_wire())
    except UsageError:
        raise UsageError(
            "a profile is named by NAMESPACE:VALUE, such as user_id:42, or by its id of 32 hexadecimal digits"
        ) from None


def identifiers_of(messages: Any) -> tuple[Identifier, ...]:
    """Identifiers of an answer."""
    return tuple(Identifier.of(message) for message in messages)


def time_of(message: Any, field: str) -> datetime.datetime | None:
    """A time of an answer; nothing when it is absent or outside the years 1 to 9999."""
    return datetime_of(getattr(message, field)) if message.HasField(field) else None


def json_of(text: str, what: str) -> Any:
    """JSON of an answer.

    Raises:
        BadAnswerError: When it is none.
    """
    try:
        return json.loads(text) if text else {}
    except ValueError as error:
        raise BadAnswerError(f"{what} is no JSON") from error


OVERFLOW = "overflow"
"""What stands for the JSON of a computed trait that has passed its bound."""


def computed_of(texts: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Computed traits of an answer: the values by name, and the names of those that have passed their bound.

    Raises:
        BadAnswerError: When a value is no JSON.
    """
    values = {name: json_of(texts[name], "a computed trait") for name in sorted(texts) if texts[name] != OVERFLOW}
    return values, tuple(name for name in sorted(texts) if texts[name] == OVERFLOW)


def shown_values(values: Mapping[str, Any]) -> str:
    """Named values as a person reads them in a cell, escaped for HTML."""
    return ", ".join(f"{shown(key)}: {shown(value)}" for key, value in values.items())


@dataclass(frozen=True)
class Profile(Record):
    """What is known of a customer. Fields that were not asked for are empty.

    Segments come only where they are asked for: `segments` is `None` else. `overflows` are segments of which it can't
    be said whether the customer is in them, and `trait_overflows` computed traits without a value, since a bound was
    passed. Numbers of computed traits are exact decimal text. `segments_version` is the version token that these are
    exact at, not before `version`.
    """

    profile_id: str
    identifiers: tuple[Identifier, ...]
    traits: dict[str, Any]
    event_counts: dict[str, int]
    revenue: decimal.Decimal | None
    revenue_by_currency: dict[str, decimal.Decimal]
    first_seen: datetime.datetime | None
    last_seen: datetime.datetime | None
    sources: tuple[str, ...]
    version: str
    type_counts: dict[str, int]
    rules_version: int | None
    segments: tuple[str, ...] | None = None
    overflows: tuple[str, ...] = ()
    computed_traits: dict[str, Any] = field(default_factory=dict)
    trait_overflows: tuple[str, ...] = ()
    segments_version: str | None = None

    @classmethod
    def of(cls, message: wire.Profile) -> Profile:
        """From an answer."""
        currencies = message.revenue_by_currency
        known = message.segments if message.HasField("segments") else None
        values, trait_overflows = computed_of(known.computed_traits_json) if known else ({}, ())
        return cls(
            profile_id=message.profile_id,
            identifiers=identifiers_of(message.identifiers),
            traits=map_from_wire(message.traits),
            event_counts={name: message.event_counts[name] for name in sorted(message.event_counts)},
            revenue=decimal_of(message.revenue),
            revenue_by_currency={name: decimal.Decimal(currencies[name]) for name in sorted(currencies)},
            first_seen=time_of(message, "first_seen"),
            last_seen=time_of(message, "last_seen"),
            sources=tuple(message.sources),
            version=message.version,
            type_counts={name: message.type_counts[name] for name in sorted(message.type_counts)},
            rules_version=message.rules_version if message.HasField("rules_version") else None,
            segments=tuple(known.segments) if known else None,
            overflows=tuple(known.overflows) if known else (),
            computed_traits=values,
            trait_overflows=trait_overflows,
            segments_version=known.version if known else None,
        )

    def _cells(self) -> dict[str, str]:
        cells = super()._cells()
        cells["identifiers"] = shown(", ".join(map(str, self.identifiers)))
        for name in ("sources", "segments", "overflows", "trait_overflows"):
            cells[name] = shown(", ".join(getattr(self, name) or ()))
        for name in ("traits", "event_counts", "revenue_by_currency", "type_counts", "computed_traits"):
            cells[name] = shown_values(getattr(self, name))
        return cells


@dataclass(frozen=True)
class TimelineEvent(Record):
    """An event as it was taken in. `properties` are, of `identify`, its traits; `context` is all else that was sent.

    Both are JSON: times in them are text, integers of any size are exact.
    """

    type: str
    message_id: str
    source: str
    event: str | None
    timestamp: datetime.datetime | None
    received_at: datetime.datetime | None
    identifier: Identifier | None
    properties: dict[str, Any]
    context: dict[str, Any]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, message: wire.TimelineEvent) -> TimelineEvent:
        """From an answer."""
        return cls(
            type=wire.ENUMS["EventType"].get(message.type, "unknown"),
            message_id=message.message_id,
            source=message.source,
            event=message.name or None,
            timestamp=time_of(message, "timestamp"),
            received_at=time_of(message, "received_at"),
            identifier=Identifier.of(message.primary) if message.HasField("primary") else None,
            properties=json_of(message.properties_json, "an event's properties"),
            context=json_of(message.context_json, "an event's context"),
            notes=tuple(message.notes),
        )

    def _cells(self) -> dict[str, str]:
        return {**super()._cells(), "identifier": shown(str(self.identifier or ""))}
