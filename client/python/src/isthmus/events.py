"""Events, typed: one function for each type of Segment's specification.

Each gives the event a message id, unless one is given, from the beginning: however often the same event is sent, by
whichever client, it counts once::

    order = isthmus.track("Order Completed", user_id="42", properties={"revenue": Decimal("44.02")})
    hub.ingest([order])
    hub.ingest([order])  # a duplicate

Dictionaries in Segment's shape may be sent as well: `{"type": "track", "event": "Seen", "userId": "42"}`. One without
`messageId` gets one when it is handed over.
"""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import _wire as wire
from ._values import decimal_text, map_to_wire, rfc3339, timestamp
from .errors import UsageError
from .model.profile import Identifier

ORIGIN_SIZE_MAX = 256
ITEM_BYTES_MAX = 4_000_000
"""What leaves room for the rest of a request of 4 MiB, the most that the hub takes."""

_TYPES = {name: number for number, name in wire.ENUMS["EventType"].items() if number}


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Event:
    """An event in Segment's shape. Made by `identify`, `track`, `page`, `screen`, `group` and `alias`.

    Times need a time zone. `origin` says where it came from, for people, such as `orders.csv:17`.
    """

    type: str
    name: str = ""
    user_id: str = ""
    anonymous_id: str = ""
    identifiers: tuple[Identifier, ...] = ()
    previous_id: str = ""
    group_id: str = ""
    category: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    traits: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    timestamp: datetime.datetime | None = None
    original_timestamp: datetime.datetime | None = None
    sent_at: datetime.datetime | None = None
    message_id: str = field(default_factory=_new_id)
    origin: str = ""


@dataclass(frozen=True)
class Unreadable:
    """Something that could not be read as an event and is handed in so that it is kept: it goes to quarantine."""

    content: bytes
    content_type: str = ""
    problem: str = ""
    origin: str = ""


AnyEvent = Event | Mapping[str, Any] | Unreadable


def _identifiers(given: Iterable[Identifier | str] | None) -> tuple[Identifier, ...]:
    return tuple(one if isinstance(one, Identifier) else Identifier.parse(one) for one in given or ())


def identify(
    user_id: str = "",
    traits: Mapping[str, Any] | None = None,
    *,
    anonymous_id: str = "",
    identifiers: Iterable[Identifier | str] | None = None,
    context: Mapping[str, Any] | None = None,
    timestamp: datetime.datetime | None = None,
    message_id: str = "",
    origin: str = "",
) -> Event:
    """What is to be said of a customer; `None` removes a trait.

    >>> isthmus.identify("42", {"email": "ada@example.org", "plan": "pro"})
    """
    return Event(
        type="identify",
        user_id=user_id,
        anonymous_id=anonymous_id,
        identifiers=_identifiers(identifiers),
        traits=traits or {},
        context=context or {},
        timestamp=timestamp,
        message_id=message_id or _new_id(),
        origin=origin,
    )


def track(
    event: str,
    *,
    user_id: str = "",
    anonymous_id: str = "",
    identifiers: Iterable[Identifier | str] | None = None,
    properties: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    timestamp: datetime.datetime | None = None,
    message_id: str = "",
    origin: str = "",
) -> Event:
    """What a customer did. `revenue` (a number or a decimal) and `currency` (ISO 4217) of the properties are summed.

    >>> isthmus.track("Order Completed", user_id="42", properties={"revenue": Decimal("44.02")})
    """
    return Event(
        type="track",
        name=event,
        user_id=user_id,
        anonymous_id=anonymous_id,
        identifiers=_identifiers(identifiers),
        properties=properties or {},
        context=context or {},
        timestamp=timestamp,
        message_id=message_id or _new_id(),
        origin=origin,
    )


def _viewed(
    type: str,
    name: str,
    category: str,
    user_id: str,
    anonymous_id: str,
    properties: Mapping[str, Any] | None,
    context: Mapping[str, Any] | None,
    timestamp: datetime.datetime | None,
    message_id: str,
    origin: str,
) -> Event:
    return Event(
        type=type,
        name=name,
        category=category,
        user_id=user_id,
        anonymous_id=anonymous_id,
        properties=properties or {},
        context=context or {},
        timestamp=timestamp,
        message_id=message_id or _new_id(),
        origin=origin,
    )


def page(
    name: str = "",
    *,
    category: str = "",
    user_id: str = "",
    anonymous_id: str = "",
    properties: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    timestamp: datetime.datetime | None = None,
    message_id: str = "",
    origin: str = "",
) -> Event:
    """A web page that was viewed.

    >>> isthmus.page("Home", anonymous_id="cookie-1", properties={"path": "/"})
    """
    return _viewed("page", name, category, user_id, anonymous_id, properties, context, timestamp, message_id, origin)


def screen(
    name: str = "",
    *,
    category: str = "",
    user_id: str = "",
    anonymous_id: str = "",
    properties: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    timestamp: datetime.datetime | None = None,
    message_id: str = "",
    origin: str = "",
) -> Event:
    """A screen of an app that was viewed."""
    return _viewed("screen", name, category, user_id, anonymous_id, properties, context, timestamp, message_id, origin)


def group(
    group_id: str,
    traits: Mapping[str, Any] | None = None,
    *,
    user_id: str = "",
    anonymous_id: str = "",
    context: Mapping[str, Any] | None = None,
    timestamp: datetime.datetime | None = None,
    message_id: str = "",
    origin: str = "",
) -> Event:
    """A customer's membership in a group, and what is to be said of the group.

    >>> isthmus.group("acme", {"name": "Acme Ltd"}, user_id="42")
    """
    return Event(
        type="group",
        group_id=group_id,
        user_id=user_id,
        anonymous_id=anonymous_id,
        traits=traits or {},
        context=context or {},
        timestamp=timestamp,
        message_id=message_id or _new_id(),
        origin=origin,
    )


def alias(
    previous_id: str,
    user_id: str,
    *,
    context: Mapping[str, Any] | None = None,
    timestamp: datetime.datetime | None = None,
    message_id: str = "",
    origin: str = "",
) -> Event:
    """Two identifiers of one customer: the one used until now, and the one from now on."""
    return Event(
        type="alias",
        previous_id=previous_id,
        user_id=user_id,
        context=context or {},
        timestamp=timestamp,
        message_id=message_id or _new_id(),
        origin=origin,
    )


def _json_default(value: Any) -> Any:
    """How JSON says what it has no word for: as the typed event would, where text means the same."""
    if isinstance(value, decimal.Decimal):
        return decimal_text(value)
    if isinstance(value, datetime.datetime):
        return rfc3339(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        return item()
    if isinstance(value, Mapping):
        return dict(value)
    raise UsageError(f"an event can't hold a {type(value).__name__}")


def _from_mapping(event: Mapping[str, Any]) -> wire.IngestItem:
    if not any(event.get(name) for name in ("messageId", "message_id")):
        kept = {name: value for name, value in event.items() if name not in ("messageId", "message_id")}
        event = {"messageId": _new_id(), **kept}
    try:
        text = json.dumps(event, default=_json_default, ensure_ascii=False, separators=(",", ":"))
        return wire.IngestItem(json=text.encode())
    except UsageError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the event can't be written as JSON: {error}") from error


def _from_event(event: Event) -> wire.IngestItem:
    if event.type not in _TYPES:
        raise UsageError(f"the type of an event is one of {', '.join(sorted(_TYPES))}")
    for name in ("name", "user_id", "anonymous_id", "previous_id", "group_id", "category", "message_id"):
        if not isinstance(getattr(event, name), str):
            raise UsageError(f"{name} has to be text, not {type(getattr(event, name)).__name__}")
    typed = wire.Event(
        type=_TYPES[event.type],
        message_id=event.message_id or _new_id(),
        user_id=event.user_id,
        anonymous_id=event.anonymous_id,
        identifiers=[one.to_wire() for one in event.identifiers],
        previous_id=event.previous_id,
        group_id=event.group_id,
        name=event.name,
        category=event.category,
        properties=map_to_wire(event.properties),
        traits=map_to_wire(event.traits),
        context=map_to_wire(event.context),
        timestamp=timestamp(event.timestamp, "timestamp"),
        original_timestamp=timestamp(event.original_timestamp, "original_timestamp"),
        sent_at=timestamp(event.sent_at, "sent_at"),
    )
    return wire.IngestItem(event=typed, origin=event.origin[:ORIGIN_SIZE_MAX])


def item_of(event: AnyEvent) -> wire.IngestItem:
    """An item of a batch; it has a message id, where it can have one.

    Raises:
        UsageError: When it is no event, holds what the hub has no value for, or is larger than any batch may be.
    """
    if isinstance(event, Event):
        item = _from_event(event)
    elif isinstance(event, Unreadable):
        unreadable = wire.UnreadableItem(content=event.content, content_type=event.content_type, problem=event.problem)
        item = wire.IngestItem(unreadable=unreadable, origin=event.origin[:ORIGIN_SIZE_MAX])
    elif isinstance(event, Mapping):
        item = _from_mapping(event)
    else:
        raise UsageError(f"an event is an isthmus.Event or a mapping in Segment's shape, not {type(event).__name__}")
    if item.ByteSize() > ITEM_BYTES_MAX:
        raise UsageError(f"the event has {item.ByteSize()} bytes; nothing over {ITEM_BYTES_MAX} can be sent")
    return item
