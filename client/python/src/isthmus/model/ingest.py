"""What became of events that were sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import _wire as wire
from .base import Page, Record


@dataclass(frozen=True)
class ItemResult(Record):
    """What became of an item.

    Attributes:
        index: Its place in the batch.
        outcome: `accepted`, `duplicate` (stored before, or by an earlier try of the same call), `quarantined` (kept and
            not applied), `rejected` (neither stored nor kept), `outcome_unknown` (send it again with its message id).
        reason: Why, as a stable code such as NO_IDENTIFIER.
        message: Why, where and what to do, for people.
        message_id: Given or made.
        retryable: Whether sending the same item again can end otherwise.
    """

    index: int
    outcome: str
    reason: str | None
    message: str | None
    message_id: str | None
    retryable: bool

    @classmethod
    def of(cls, index: int, message: wire.ItemResult) -> ItemResult:
        """From an answer."""
        return cls(
            index=index,
            outcome=wire.ENUMS["ItemOutcome"].get(message.outcome, "unspecified"),
            reason=message.reason or None,
            message=message.message or None,
            message_id=message.message_id or None,
            retryable=message.retryable,
        )

    @property
    def stored(self) -> bool:
        """Whether the event counts: accepted, or there before."""
        return self.outcome in ("accepted", "duplicate")

    @property
    def is_open(self) -> bool:
        """Whether sending the item again can end better."""
        return self.outcome in ("outcome_unknown", "unspecified") or (self.outcome == "rejected" and self.retryable)


@dataclass
class Counts(Record):
    """How many items ended how."""

    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    rejected: int = 0
    unknown: int = 0

    def add(self, outcome: str) -> None:
        """Counts one more."""
        name = outcome if outcome in ("accepted", "duplicate", "quarantined", "rejected") else "unknown"
        setattr(self, name, getattr(self, name) + 1)


class Ingested(Page[ItemResult]):
    """The results of a batch, in its order.

    Attributes:
        version: The version token: a read with this as `min_version` sees all that was stored. `None`: nothing was.
    """

    def __init__(self, items: Sequence[ItemResult], version: str | None) -> None:
        super().__init__(items)
        self.version = version

    @property
    def counts(self) -> Counts:
        """How many items ended how."""
        counts = Counts()
        for result in self:
            counts.add(result.outcome)
        return counts

    @property
    def problems(self) -> Page[ItemResult]:
        """Those that were not stored."""
        return Page([result for result in self if not result.stored])

    def _repr_html_(self) -> str:
        return f"{self.counts._repr_html_()}{self.problems._repr_html_() if self.problems else ''}"

    def __repr__(self) -> str:
        told: dict[str, Any] = {name: count for name, count in self.counts.to_dict().items() if count}
        return f"<{len(self)} items: {', '.join(f'{count} {name}' for name, count in told.items())}>"
