"""What all results can do: become dictionaries, a table in a notebook, a pandas frame."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")

ROWS_SHOWN = 50
"""Rows of a table in a notebook; `to_pandas` has all."""
TEXT_SHOWN = 200
"""Characters of a cell."""


def plain(value: Any) -> Any:
    """A result without classes of this package: dictionaries, lists, and Python's own values."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Page):
        return value.to_dicts()
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


def shown(value: Any) -> str:
    """A value as a person reads it in a cell, escaped for HTML and cut."""
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        text = value.isoformat(sep=" ").replace("+00:00", "Z")
    elif isinstance(value, (dict, list)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    elif isinstance(value, bytes):
        text = value.decode("utf-8", "backslashreplace")
    else:
        text = str(value)
    return html.escape(text if len(text) <= TEXT_SHOWN else text[:TEXT_SHOWN] + "…")


class Record:
    """A result that is a dataclass."""

    def to_dict(self) -> dict[str, Any]:
        """Its fields by name, nested results too; times, decimals and integers stay what they are.

        >>> hub.cluster.status().to_dict()["healthy"]
        True
        """
        fields = dataclasses.fields(self)  # type: ignore[arg-type]  # all that derive from it are dataclasses
        return {field.name: plain(getattr(self, field.name)) for field in fields}

    def _cells(self) -> dict[str, str]:
        """What a notebook shows, by heading; escaped."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {html.escape(field.name): shown(getattr(self, field.name)) for field in fields}

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{name}</th><td style="text-align:left">{cell}</td></tr>'
            for name, cell in self._cells().items()
            if cell
        )
        return f"<table>{rows}</table>"


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its inner dictionaries' entries as columns of their own: `traits.email`."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat.update({f"{name}.{inner}": one for inner, one in value.items()})
        else:
            flat[name] = value
    return flat


def _column(pd: Any, values: list[Any]) -> Any:
    """A column of a type that keeps every value exactly; pandas' own choice would make integers floats."""
    there = [value for value in values if value is not None]

    def all_are(*types: type) -> bool:
        return bool(there) and all(type(value) in types for value in there)

    if all_are(bool):
        return pd.array(values, dtype="boolean")
    if all_are(int):
        least, most = min(there), max(there)
        if least >= -(2**63) and most < 2**63:
            return pd.array(values, dtype="Int64")
        if least >= 0 and most < 2**64:
            return pd.array(values, dtype="UInt64")
    if all_are(float):
        return pd.array([float("nan") if value is None else value for value in values], dtype="float64")
    if all_are(datetime.datetime):
        return pd.Series([pd.NaT if value is None else value for value in values], dtype="datetime64[us, UTC]")
    return pd.Series(values, dtype=object)


def frame(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Rows as a pandas frame; see `Page.to_pandas`."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("pandas is not installed: `pip install pandas`, or use to_dicts()") from error
    flat = [_flat(row) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    columns = {name: _column(pd, [row.get(name) for row in flat]) for name in names}
    made: pandas.DataFrame = pd.DataFrame(columns, index=range(len(flat)))
    return made


class Page(Sequence[T], Generic[T]):
    """Results in order: a list that can't be changed, with what a notebook needs.

    Attributes:
        next_cursor: Where the next page begins; `None`: this was the last.
    """

    def __init__(self, items: Sequence[T], next_cursor: str | None = None) -> None:
        self._items = tuple(items)
        self.next_cursor = next_cursor

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Page[T]: ...

    def __getitem__(self, index: int | slice) -> T | Page[T]:
        if isinstance(index, slice):
            return Page(self._items[index])
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Page):
            return self._items == other._items
        if isinstance(other, (list, tuple)):
            return self._items == tuple(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list's

    def __repr__(self) -> str:
        more = ", and more behind" if self.next_cursor else ""
        return f"<{len(self)} results{more}: {', '.join(map(repr, self._items[:3]))}{', …' if len(self) > 3 else ''}>"

    def to_dicts(self) -> list[dict[str, Any] | None]:
        """Each result as a dictionary; `None` where there is none."""
        return [plain(item) for item in self._items]

    def to_pandas(self) -> pandas.DataFrame:
        """A frame with a row each. Inner dictionaries become columns, such as `traits.email`.

        Nothing is rounded: integers are `Int64` (or `UInt64`), times `datetime64[us, UTC]`, decimals stay `Decimal`;
        a column of several types holds Python's objects. A result that is not there (of `get_many`) is an empty row.

        >>> hub.profiles.list(limit=100).all().to_pandas()[["profile_id", "traits.plan", "revenue"]]

        Raises:
            ImportError: When pandas is not installed.
        """
        return frame([row or {} for row in self.to_dicts()])

    def _repr_html_(self) -> str:
        rows = [item._cells() if isinstance(item, Record) else {} for item in self._items[:ROWS_SHOWN]]
        heads = [
            name for name in dict.fromkeys(name for row in rows for name in row) if any(row.get(name) for row in rows)
        ]
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in heads)
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{row.get(name, "")}</td>' for name in heads) + "</tr>"
            for row in rows
        )
        hidden = len(self) - len(rows)
        notes = [f"{hidden} more rows are not shown"] if hidden else []
        notes += ["there are further pages"] if self.next_cursor else []
        foot = f"<p>{len(self)} results{''.join('; ' + note for note in notes)}</p>"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"


def decimal_of(text: str) -> decimal.Decimal | None:
    """Exact decimal text; nothing when there is none."""
    return decimal.Decimal(text) if text else None
