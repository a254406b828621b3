"""How good the data are. Shares are 0 to 1, and `None` where there is nothing to have a share of."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from .. import _wire as wire
from .._values import seconds
from .base import Page, Record
from .profile import time_of


def _share(message: Any, field: str) -> float | None:
    return float(getattr(message, field)) if message.HasField(field) else None


@dataclass(frozen=True)
class SourceQuality(Record):
    """A source: customers that it identified, and its identify events."""

    source: str
    customers: int
    events: int


@dataclass(frozen=True)
class TraitQuality(Record):
    """What a source says of a trait. A value is the newest that it said for a customer and did not remove.

    Lags are from an event's timestamp to its receipt, in seconds.
    """

    source: str
    trait: str
    values: int
    completeness: float | None
    checked: int
    valid: int
    validity: float | None
    distinct: int
    distinct_exact: bool
    uniqueness: float | None
    shared: int
    agreeing: int
    consistency: float | None
    updated: int
    timeliness: float | None
    events: int
    lag_p50_seconds: float
    lag_p95_seconds: float
    lag_p99_seconds: float

    @classmethod
    def of(cls, message: wire.TraitQuality) -> TraitQuality:
        """From an answer."""
        return cls(
            source=message.source,
            trait=message.trait,
            values=message.values,
            completeness=_share(message, "completeness"),
            checked=message.checked,
            valid=message.valid,
            validity=_share(message, "validity"),
            distinct=message.distinct,
            distinct_exact=message.distinct_exact,
            uniqueness=_share(message, "uniqueness"),
            shared=message.shared,
            agreeing=message.agreeing,
            consistency=_share(message, "consistency"),
            updated=message.updated,
            timeliness=_share(message, "timeliness"),
            events=message.events,
            lag_p50_seconds=seconds(message.lag_p50),
            lag_p95_seconds=seconds(message.lag_p95),
            lag_p99_seconds=seconds(message.lag_p99),
        )


@dataclass(frozen=True)
class TraitOverlap(Record):
    """A trait of which several sources speak: their common customers, and those of whom all say the same."""

    trait: str
    shared: int
    agreeing: int
    consistency: float | None


@dataclass(frozen=True)
class QualityReport(Record):
    """A report; `cut`: sources and traits that come last by name were left out, ask for one source."""

    updated_since: datetime.datetime | None
    sources: Page[SourceQuality]
    traits: Page[TraitQuality]
    overlaps: Page[TraitOverlap]
    cut: bool

    @classmethod
    def of(cls, message: wire.ReportResponse) -> QualityReport:
        """From an answer."""
        overlaps = [
            TraitOverlap(one.trait, one.shared, one.agreeing, _share(one, "consistency")) for one in message.overlaps
        ]
        return cls(
            updated_since=time_of(message, "updated_since"),
            sources=Page([SourceQuality(one.source, one.customers, one.events) for one in message.sources]),
            traits=Page([TraitQuality.of(one) for one in message.traits]),
            overlaps=Page(overlaps),
            cut=message.cut,
        )

    def _repr_html_(self) -> str:
        return "".join(page._repr_html_() for page in (self.sources, self.traits, self.overlaps) if page)
