# Written by tools/generate.py: change what it is made of, and run it.
"""SQL over all that the hub keeps."""

from __future__ import annotations

import datetime
import json
import random
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import _wire as wire
from .._retry import BrokenError, Kind, NoStreamError, Verdict, verdict, wait_seconds
from .._values import duration, to_wire
from ..errors import BadAnswerError, ClosedError, UsageError
from ..model.base import Page
from ..model.query import QueryPlan, QueryTable
from ._caller import Caller, Stream

if TYPE_CHECKING:
    import pandas
    import pyarrow

LIMIT_SECONDS = 24 * 60 * 60.0
"""How long an answer is waited for when nobody says: the hub's own setting is shorter."""
_FORMATS = {name: number for number, name in wire.ENUMS["QueryFormat"].items()}


def query_request(
    statement: str,
    parameters: Sequence[Any] | Mapping[str, Any],
    consistency: wire.Consistency | None,
    timeout: float | None,
    rows_max: int | None,
    bytes_max: int | None,
) -> wire.QueryRequest:
    """What a statement asks for.

    Raises:
        UsageError: When something given can't be.
    """
    for name, bound in (("rows_max", rows_max), ("bytes_max", bytes_max)):
        if bound is not None and not 1 <= bound < 2**64:
            raise UsageError(f"{name} is 1 or more, and fits into 64 bits")
    return wire.QueryRequest(
        sql=statement,
        parameters=_parameters(parameters),
        consistency=consistency,
        timeout=_time(timeout),
        rows_max=rows_max,
        bytes_max=bytes_max,
    )


def _parameters(given: Sequence[Any] | Mapping[str, Any]) -> list[wire.QueryParameter]:
    if isinstance(given, (str, bytes)):
        raise UsageError("parameters are a list, or a mapping from names")
    if isinstance(given, Mapping):
        return [wire.QueryParameter(name=name, value=to_wire(value)) for name, value in given.items()]
    return [wire.QueryParameter(value=to_wire(value)) for value in given]


def _time(timeout: float | None) -> wire.Duration | None:
    if timeout is None:
        return None
    if timeout <= 0:
        raise UsageError("timeout has to be more than nothing")
    return duration(datetime.timedelta(seconds=timeout))


def _kind(statement: str) -> Kind:
    """What doing a statement twice would do. COPY writes files."""
    return Kind.ONCE if statement.lstrip()[:4].lower() == "copy" else Kind.READ


def explain(
    caller: Caller,
    statement: str,
    parameters: Sequence[Any] | Mapping[str, Any],
    analyze: bool,
    consistency: wire.Consistency | None,
    timeout: float | None,
) -> Page[QueryPlan]:
    """How a statement would be carried out, or with `analyze` was; see `Client.explain`."""
    request = wire.QueryServiceExplainRequest(
        sql=statement,
        parameters=_parameters(parameters),
        analyze=analyze,
        consistency=consistency,
        timeout=_time(timeout),
    )
    kind = _kind(statement) if analyze else Kind.READ
    if analyze and timeout is None:
        timeout = LIMIT_SECONDS
    answer = caller.call(wire.QueryService.Explain, request, kind=kind, timeout=timeout, long=True)
    return Page([QueryPlan.of(plan) for plan in answer.plans])


def tables(caller: Caller, timeout: float | None) -> Page[QueryTable]:
    """The tables that there are, by schema and name."""
    answer = caller.call(wire.QueryService.ListTables, wire.ListTablesRequest(), timeout=timeout)
    return Page([QueryTable.of(table) for table in answer.tables])


class Answer:
    """The answer to a statement: its rows, all of one cut. The statement runs when it is first asked for them.

    >>> for row in hub.sql("SELECT name, count(*) AS seen FROM events GROUP BY name"):
    ...     print(row["name"], row["seen"])
    >>> frame = hub.sql("SELECT * FROM profiles WHERE last_seen > $1", [since]).to_pandas()

    Rows are dictionaries as the hub writes them in JSON: integers are exact, times are text in RFC 3339, decimals text.
    `to_arrow` and `to_pandas` keep the columns' own types; they need pyarrow. Each of them runs the statement anew.

    Attributes:
        version: The cut, as a version token; empty before the statement has run, and where it reads no shard.
        columns: The names of the columns; empty before the statement has run.
    """

    def __init__(self, caller: Caller, request: wire.QueryRequest, timeout: float | None) -> None:
        self.version = ""
        self.columns: tuple[str, ...] = ()
        self._caller = caller
        self._request = request
        self._timeout = LIMIT_SECONDS if timeout is None else timeout

    def rows(self) -> Generator[dict[str, Any], None, None]:
        """The rows, as they come. Letting go of the iterator ends the query's work on all nodes.

        Raises:
            BadQueryError: When the statement makes no sense.
            QueryLimitError: When it needs more than a query may have.
            OverloadedError: When enough others run.
            DeadlineError: When it took too long, or the answer broke off.
        """
        parts = self._parts("json")
        try:
            for part in parts:
                for row in part.rows.rows:
                    yield json.loads(row)
        finally:
            parts.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.rows()

    def to_arrow(self) -> pyarrow.Table:
        """All rows as a table of Arrow; raises as `rows`."""
        try:
            import pyarrow as pa
        except ImportError as error:
            raise ImportError("pyarrow is not installed: `pip install pyarrow`, or iterate over the rows") from error
        pieces = [part.arrow for part in self._parts("arrow")]
        with pa.ipc.open_stream(pa.BufferReader(b"".join(pieces))) as reader:
            return reader.read_all()

    def to_pandas(self) -> pandas.DataFrame:
        """All rows as a pandas frame; raises as `rows`."""
        table = self.to_arrow()
        frame: pandas.DataFrame = table.to_pandas()
        return frame

    def _parts(self, format: str) -> Generator[wire.QueryResponse, None, None]:
        """The pieces of an answer between its beginning and its end."""
        self._request.format = _FORMATS[format]
        deadline = time.monotonic() + self._timeout
        stream, start = self._begin(deadline)
        self.version = start.version
        self.columns = tuple(column.name for column in start.columns)
        ended = False
        try:
            while not ended:
                part = self._read(stream, deadline)
                if part is None:
                    # Else what is cut short would look whole.
                    raise BadAnswerError("a query's answer has no end")
                ended = part.HasField("end")
                if not ended:
                    yield part
        finally:
            if not ended:
                stream.cancel()

    def _read(self, stream: Stream[wire.QueryResponse], deadline: float) -> wire.QueryResponse | None:
        try:
            return stream.read(max(deadline - time.monotonic(), 0.001))
        except BrokenError as broken:
            raise broken.told from broken

    def _begin(self, deadline: float) -> tuple[Stream[wire.QueryResponse], wire.QueryStart]:
        """The stream and its first piece. Until that is there, another node may be asked."""
        kind = _kind(self._request.sql)
        tries = 0
        while True:
            try:
                stream = self._caller.follow(wire.QueryService.Query, self._request)
            except NoStreamError as error:
                raise ClosedError("the interpreter is ending: nothing can be asked any more") from error
            try:
                part = stream.read(max(deadline - time.monotonic(), 0.001))
            except BrokenError as broken:
                tries += 1
                wait = wait_seconds(tries, broken.error.retry_after, random.random())
                over = time.monotonic() + wait >= deadline
                if over or verdict(kind, broken.ending, broken.error) is Verdict.STOP:
                    raise broken.told from broken
                self._caller.sleep(wait)
                continue
            if part is None or not part.HasField("start"):
                stream.cancel()
                raise BadAnswerError("a query's answer has no beginning")
            return stream, part.start
