"""The client: a handle on a cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from .._buffer import BATCH_BYTES, BATCH_ITEMS, PENDING_BYTES, PENDING_ITEMS, Limits
from .._endpoints import parse_endpoints
from .._options import Options, endpoints_of
from .._tls import Pem, credentials_of
from ..errors import Error
from ..events import AnyEvent, item_of
from ..model.base import Page
from ..model.ingest import Ingested, ItemResult
from ..model.profile import Key
from ..model.query import QueryPlan, QueryTable
from ._caller import Caller, Channels
from ._cluster import Cluster, Quality
from ._groups import Groups
from ._identity import Identity
from ._ingest import send_items
from ._profiles import Profiles, consistency_of
from ._quarantine import Quarantine
from ._registry import Schemas, Sources
from ._segments import Segments
from ._sql import Answer, explain, query_request, tables
from ._watch import CHANGES_MAX, Watch, watch_request
from ._writer import IngestWriter


class Client:
    """A handle on a cluster. Any node takes any request, so several endpoints stand in for each other.

    >>> async with isthmus.aio.Client(["10.0.0.1:7400", "10.0.0.2:7400"], write_key="iswk_…") as hub:
    ...     await hub.ingest([isthmus.identify("42", {"plan": "pro"})])
    ...     profile = await hub.profiles.get("user_id:42")

    Attributes:
        profiles: Profiles, their events, why they are one; splitting.
        groups: Groups, who belongs to them, and the groups of a customer.
        segments: Segments and computed traits, who is in them, who enters and leaves.
        identity: Pairs that may be one person, decisions, identity rules.
        sources: Sources and write keys.
        schemas: Schemas of events, rules for traits.
        quarantine: What could not be applied.
        quality: How good the data are.
        cluster: Nodes and shards.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] | None = None,
        *,
        write_key: str | None = None,
        source: str = "",
        deadline: float = 10.0,
        try_limit: float = 5.0,
        ca: Pem | None = None,
        cert: Pem | None = None,
        key: Pem | None = None,
    ) -> None:
        """Connects when it is first used.

        Args:
            endpoints: Nodes of one cluster, each as `[http://|https://]HOST[:PORT]` (port 7400 unless said): a list, or
                text with commas. By default those in the environment's ISTHMUS_ENDPOINT, else a node of this machine.
                `https` is TLS; where `ca` or `cert` is given, it is what is meant where nothing is said.
            write_key: The write key that events are sent with; no other call carries it.
            source: The name of the source that events are sent as, for callers without a write key.
            deadline: How long a call may take, in seconds, tries and waits included.
            try_limit: How long one try at one node may take before another is made.
            ca: The authorities that nodes' certificates have to be signed by, and no others: a file's path, or PEM as
                bytes. By default those that grpcio trusts.
            cert: A certificate that is shown to nodes that ask for one (mutual TLS); a path or PEM.
            key: Its key; a path or PEM.

        Raises:
            UsageError: When there is no endpoint, or something given can't be.
        """
        options = Options(deadline=deadline, try_limit=try_limit, write_key=write_key, source=source)
        credentials = credentials_of(ca, cert, key)
        addresses = parse_endpoints(endpoints_of(endpoints), credentials is not None)
        self._begin(Caller(Channels(addresses, credentials), options))

    def _begin(self, caller: Caller) -> None:
        self._caller = caller
        self.profiles = Profiles(caller)
        self.groups = Groups(caller)
        self.segments = Segments(caller)
        self.identity = Identity(caller)
        self.sources = Sources(caller)
        self.schemas = Schemas(caller)
        self.quarantine = Quarantine(caller)
        self.quality = Quality(caller)
        self.cluster = Cluster(caller)

    def with_options(
        self,
        *,
        write_key: str | None = None,
        source: str | None = None,
        deadline: float | None = None,
        try_limit: float | None = None,
        request_id: str | None = None,
    ) -> Client:
        """The same client with other options; both share their connections, and closing one closes both.

        >>> patient = hub.with_options(deadline=60, request_id="nightly-7")

        Args:
            write_key: As of the client.
            source: As of the client.
            deadline: As of the client.
            try_limit: As of the client.
            request_id: The id that its calls carry, to be found in the hub's logs; by default each has its own.
        """
        given: dict[str, Any] = {
            "write_key": write_key,
            "source": source,
            "deadline": deadline,
            "try_limit": try_limit,
            "request_id": request_id,
        }
        changed = {name: value for name, value in given.items() if value is not None}
        twin = Client.__new__(Client)
        twin._begin(Caller(self._caller.channels, dataclasses.replace(self._caller.options, **changed)))
        return twin

    async def ingest(self, events: Iterable[AnyEvent], *, timeout: float | None = None) -> Ingested:
        """Sends one batch of at most 2,500 events and 4 MiB; returns when it is stored, with a result for each.

        An item that an earlier try of the same call had stored comes back as a duplicate: it is there, once.

        >>> done = await hub.ingest([{"type": "track", "event": "Seen", "userId": "42"}])
        >>> done.counts.accepted, done.problems
        (1, <0 results: >)

        Args:
            events: Events of this package, or mappings in Segment's shape.
            timeout: In seconds, instead of the client's deadline.

        Raises:
            UsageError: When one is no event; nothing was sent.
            UnauthenticatedError: When the write key is not in force.
            TooLargeError: When the batch is too large; nothing was stored.
            OutcomeUnknownError: When no try was answered: send the same events again.
        """
        items = [item_of(event) for event in events]
        return await send_items(self._caller, items, timeout)

    def writer(
        self,
        *,
        batch_items: int = BATCH_ITEMS,
        batch_bytes: int = BATCH_BYTES,
        pending_items: int = PENDING_ITEMS,
        pending_bytes: int = PENDING_BYTES,
        retry_for: float = 300.0,
        on_problem: Callable[[ItemResult, AnyEvent], None] | None = None,
    ) -> IngestWriter:
        """Makes a writer, which sends any number of events over a stream; see `IngestWriter`.

        Args:
            batch_items: Events of a message at most, up to 2,500.
            batch_bytes: Bytes of a message, about; up to 4,000,000.
            pending_items: How many events may wait or be under way before `send` waits.
            pending_bytes: And how many bytes of them.
            retry_for: For how many seconds nothing may be acknowledged before the writer gives up.
            on_problem: Told of each event that was quarantined or rejected, where the writer works.
        """
        limits = Limits(batch_items, batch_bytes, pending_items, pending_bytes, retry_for)
        return IngestWriter(self._caller, limits, on_problem)

    def watch(
        self,
        *,
        cursor: str = "",
        start: str = "now",
        profiles: Sequence[Key] = (),
        events: Sequence[str] = (),
        types: Sequence[str] = (),
        traits: Sequence[str] = (),
        members: bool = False,
        segments: Sequence[str] = (),
        page_size: int = CHANGES_MAX,
        retry_for: float | None = None,
        on_wait: Callable[[Error | None], None] | None = None,
    ) -> Watch:
        """Follows changes of profiles, as they come about or from a cursor on; see `Watch`.

        A change passes that fits any of `events`, `types`, `traits`, `members` and `segments`, or every one if none of
        them is given; and, with `profiles`, only of those customers. At most 1,000 of each.

        Args:
            cursor: Where to go on: `next_cursor` of a page of another watch, of another program too.
            start: Where to begin without a cursor: `now`, or `beginning` (of what is kept).
            profiles: Customers, by any identifier or by profile id.
            events: Events of these names.
            types: Events of these types: identify, track, page, screen, group, alias.
            traits: `identify` events that set or remove one of these traits.
            members: Changes of who belongs to a profile.
            segments: Who enters these segments and leaves them, by name.
            page_size: At most so many changes in a page, 1 to 256.
            retry_for: For how many seconds no node may serve it before it ends with an error; for ever by default.
            on_wait: Told, where the watch works, when it begins to wait for a hub that is away, with the error of the
                last try; and with `None` when it goes on.

        Raises:
            UsageError: When something given can't be.
        """
        request = watch_request(cursor, start, profiles, events, types, traits, members, segments, page_size)
        return Watch(self._caller, request, retry_for, on_wait)

    def sql(
        self,
        statement: str,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
        *,
        min_version: str | None = None,
        max_staleness: float | None = None,
        rows_max: int | None = None,
        bytes_max: int | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Asks in SQL, of all profiles and events at one cut; see `Answer`. The statement runs when rows are asked for.

        >>> rows = [row async for row in hub.sql("SELECT * FROM events WHERE name = $1", ["Order Completed"])]
        >>> frame = await hub.sql("SELECT name, count(*) AS seen FROM events GROUP BY name").to_pandas()

        Args:
            statement: One statement.
            parameters: Values for `$1`, `$2`, …, or by name for `$name`.
            min_version: A version token: the answer sees at least what that covers.
            max_staleness: In seconds: the answer may miss what is younger. By default it misses nothing.
            rows_max: The most rows: with more it ends with `QueryLimitError`. By default, and at most, what the hub
                allows.
            bytes_max: The most bytes of rows in memory; the same.
            timeout: How long it may take, in seconds, instead of as long as the hub allows.

        Raises:
            UsageError: When something given can't be.
        """
        consistency = consistency_of(min_version, max_staleness)
        request = query_request(statement, parameters, consistency, timeout, rows_max, bytes_max)
        return Answer(self._caller, request, timeout)

    async def explain(
        self,
        statement: str,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
        *,
        analyze: bool = False,
        min_version: str | None = None,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Page[QueryPlan]:
        """How a statement would be carried out, or with `analyze` was: its plans, in the order in which they are made.

        >>> for plan in await hub.explain("SELECT name, count(*) FROM events GROUP BY name", analyze=True):
        ...     print(plan.text)

        Args:
            statement: One statement, without EXPLAIN in front.
            parameters: As of `sql`.
            analyze: Whether to carry it out, and tell what each step took; its rows are thrown away.
            min_version: As of `sql`, with `analyze`.
            max_staleness: As of `sql`, with `analyze`.
            timeout: In seconds, instead of the client's deadline; with `analyze`, instead of as long as the hub allows.

        Raises:
            BadQueryError: When the statement makes no sense.
            QueryLimitError: When it needs more than a query may have.
        """
        consistency = consistency_of(min_version, max_staleness)
        return await explain(self._caller, statement, parameters, analyze, consistency, timeout)

    async def tables(self, *, timeout: float | None = None) -> Page[QueryTable]:
        """The tables that there are for `sql`, by schema and name, with their columns.

        >>> [table.name for table in await hub.tables() if table.schema == "public"]
        """
        return await tables(self._caller, timeout)

    async def close(self) -> None:
        """Closes the connections, those of clients made by `with_options` too."""
        await self._caller.channels.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<isthmus.aio.Client {self._caller.options!r}>"
