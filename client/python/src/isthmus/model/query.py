"""Tables and plans of SQL."""

from __future__ import annotations

import html
from dataclasses import dataclass

from .. import _wire as wire
from .base import Page, Record


@dataclass(frozen=True)
class QueryColumn(Record):
    """A column of a table. `type` is in Arrow's words: `Int64`, `Utf8`, `Timestamp(Microsecond, Some("UTC"))`."""

    name: str
    type: str
    nullable: bool
    description: str

    @classmethod
    def of(cls, message: wire.QueryColumn) -> QueryColumn:
        """From an answer."""
        return cls(message.name, message.type, message.nullable, message.description)


@dataclass(frozen=True)
class QueryTable(Record):
    """A table, and what a row of it is.

    `schema` is `public` for what the hub is told, `system` for what it tells of itself; tables of `public` may be named
    without it.
    """

    schema: str
    name: str
    description: str
    columns: Page[QueryColumn]

    @classmethod
    def of(cls, message: wire.QueryTable) -> QueryTable:
        """From an answer."""
        columns = Page([QueryColumn.of(column) for column in message.columns])
        return cls(message.schema, message.name, message.description, columns)

    def _cells(self) -> dict[str, str]:
        cells = super()._cells()
        cells["columns"] = html.escape(", ".join(column.name for column in self.columns))
        return cells


@dataclass(frozen=True)
class QueryPlan(Record):
    """A plan of a statement.

    `kind` is `logical_plan`, `physical_plan` or `Plan with Metrics`; `text` is indented, over several lines.
    """

    kind: str
    text: str

    @classmethod
    def of(cls, message: wire.QueryPlan) -> QueryPlan:
        """From an answer."""
        return cls(message.kind, message.text)

    def __str__(self) -> str:
        return self.text

    def _cells(self) -> dict[str, str]:
        return {**super()._cells(), "text": f"<pre>{html.escape(self.text)}</pre>"}
