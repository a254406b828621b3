"""Values between Python and the hub, exact both ways.

| Python, sent | the hub keeps | Python, read |
| --- | --- | --- |
| `None` | null | `None` |
| `bool` | true or false | `bool` |
| `int`, -2^63 to 2^64 - 1 | 64-bit integer | `int` |
| `float` | double | `float` |
| `decimal.Decimal` | its digits as text | `str` |
| `str`, `uuid.UUID` | text | `str` |
| `datetime.datetime` with a time zone | RFC 3339 in UTC, to the microsecond | `str` |
| `datetime.date` | text, `2026-01-31` | `str` |
| `list`, `tuple` | list | `list` |
| mapping with text as keys | map | `dict` |
| NumPy's scalars | as their Python counterparts | |

The hub answers with typed times where it keeps them as such; those are read as `datetime.datetime` in UTC.

What is none of these, a time without a zone, or an integer beyond 64 bits raises `UsageError`. NaN and infinities are
sent, and the hub quarantines the event for them: nothing is lost. A time outside the years 1 to 9999, which `datetime`
can't hold, is read as text.
"""

from __future__ import annotations

import datetime
import decimal
import numbers
import uuid
from collections.abc import Mapping
from typing import Any

from . import _wire as wire
from .errors import UsageError

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MICROSECOND = datetime.timedelta(microseconds=1)
DEPTH_MAX = 32
_CYCLE_SECONDS = 146_097 * 86_400
"""400 years of the Gregorian calendar, after which it repeats."""


def timestamp(time: datetime.datetime | None, what: str = "a time") -> wire.Timestamp | None:
    """A time for the wire; nothing for `None`.

    Raises:
        UsageError: When it has no time zone.
    """
    if time is None:
        return None
    if not isinstance(time, datetime.datetime):
        raise UsageError(f"{what} has to be a datetime.datetime, not {type(time).__name__}")
    if time != time:
        raise UsageError(f"{what} is NaT: leave it out")
    if time.utcoffset() is None:
        raise UsageError(f"{what} has no time zone: give it one, such as tzinfo=datetime.timezone.utc")
    micros = (time - EPOCH) // MICROSECOND
    return wire.Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1_000)


def duration(time: datetime.timedelta) -> wire.Duration:
    """A span of time for the wire; not negative."""
    micros = time // MICROSECOND
    if micros < 0:
        raise UsageError("a span of time can't be negative")
    return wire.Duration(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1_000)


def seconds(span: wire.Duration) -> float:
    """A span of time from the wire, in seconds."""
    return span.seconds + span.nanos / 1e9


def datetime_of(time: wire.Timestamp) -> datetime.datetime | None:
    """A time from the wire, in UTC; nothing when it is outside the years 1 to 9999."""
    try:
        return EPOCH + datetime.timedelta(seconds=time.seconds, microseconds=time.nanos // 1_000)
    except OverflowError:
        return None


def _text_of(time: wire.Timestamp) -> str:
    """A time that `datetime` can't hold, as RFC 3339 would write it."""
    cycles = time.seconds // _CYCLE_SECONDS
    inside = EPOCH + datetime.timedelta(seconds=time.seconds % _CYCLE_SECONDS, microseconds=time.nanos // 1_000)
    year = inside.year + 400 * cycles
    sign = "-" if year < 0 else ""
    fraction = f".{inside.microsecond:06d}".rstrip("0") if inside.microsecond else ""
    return f"{sign}{abs(year):04d}-{inside:%m-%dT%H:%M:%S}{fraction}Z"


def to_wire(value: Any, depth: int = 0) -> wire.Value:
    """A Python value for the wire; see the table above.

    Raises:
        UsageError: When the hub has no such value.
    """
    if value is None:
        return wire.Value(null_value=wire.Null())
    if isinstance(value, bool):
        return wire.Value(bool_value=value)
    if isinstance(value, str):
        return wire.Value(string_value=_text(value))
    if isinstance(value, decimal.Decimal):
        return wire.Value(string_value=decimal_text(value))
    if isinstance(value, numbers.Integral):
        return _integer(int(value))
    if isinstance(value, numbers.Real):
        return wire.Value(double_value=float(value))
    if isinstance(value, datetime.datetime):
        return wire.Value(timestamp_value=timestamp(value, "a value that is a time"))
    if isinstance(value, datetime.date):
        return wire.Value(string_value=value.isoformat())
    if isinstance(value, uuid.UUID):
        return wire.Value(string_value=str(value))
    if isinstance(value, (list, tuple, Mapping)):
        if depth >= DEPTH_MAX:
            raise UsageError(f"lists and maps are nested deeper than {DEPTH_MAX} levels")
        if isinstance(value, Mapping):
            return wire.Value(map_value=wire.MapValue(fields=map_to_wire(value, depth + 1)))
        return wire.Value(list_value=wire.ListValue(values=[to_wire(item, depth + 1) for item in value]))
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        return to_wire(item(), depth)
    raise UsageError(f"a value can't be a {type(value).__name__}: isthmus._values lists what can")


def map_to_wire(values: Mapping[str, Any] | None, depth: int = 0) -> dict[str, wire.Value]:
    """Named values for the wire.

    Raises:
        UsageError: As `to_wire`; or when a name isn't text.
    """
    fields = {}
    for name, value in (values or {}).items():
        if not isinstance(name, str):
            raise UsageError(f"names of values are text, not {type(name).__name__}")
        fields[_text(name)] = to_wire(value, depth)
    return fields


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("text holds half a surrogate pair, which UTF-8 can't say") from error
    return text


def decimal_text(value: decimal.Decimal) -> str:
    """The digits of a decimal, without an exponent.

    Raises:
        UsageError: When it isn't finite.
    """
    if not value.is_finite():
        raise UsageError("a decimal has to be finite")
    return format(value, "f")


def _integer(value: int) -> wire.Value:
    if -(2**63) <= value < 2**63:
        return wire.Value(int_value=value)
    if 0 <= value < 2**64:
        return wire.Value(uint_value=value)
    raise UsageError("an integer has to fit into 64 bits: send larger ones as text")


def from_wire(value: wire.Value) -> Any:
    """A value from the wire; see the table above."""
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "timestamp_value":
        time = datetime_of(value.timestamp_value)
        return _text_of(value.timestamp_value) if time is None else time
    if kind == "list_value":
        return [from_wire(item) for item in value.list_value.values]
    if kind == "map_value":
        return map_from_wire(value.map_value.fields)
    return getattr(value, kind)


def map_from_wire(fields: Mapping[str, wire.Value]) -> dict[str, Any]:
    """Named values from the wire, sorted by name."""
    return {name: from_wire(fields[name]) for name in sorted(fields)}


def rfc3339(time: datetime.datetime) -> str:
    """A time as text in UTC.

    Raises:
        UsageError: When it has no time zone.
    """
    timestamp(time)
    return time.astimezone(datetime.timezone.utc).replace(tzinfo=None).isoformat() + "Z"
