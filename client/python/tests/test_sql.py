"""SQL: rows as dictionaries and as frames, what is asked, what goes wrong."""

import asyncio
import datetime

import pytest

import isthmus
from cluster import until
from fake import refuse
from isthmus import _wire as wire

JSON, ARROW = 1, 2


def start(*names):
    columns = [wire.QueryColumn(name=name) for name in names]
    return wire.QueryResponse(start=wire.QueryStart(version="000000000000001f", columns=columns))


def rows(*texts):
    return wire.QueryResponse(rows=wire.QueryRows(rows=texts))


END = wire.QueryResponse(end=wire.QueryEnd(rows=2))


def script(fake, *answers):
    left = list(answers)

    def query(request, context):
        for part in left.pop(0):
            if isinstance(part, tuple):
                code, reason, message, metadata = part
                refuse(context, code, reason, message, metadata=metadata)
            yield part

    fake.answers["Query"] = query


def asked(fake):
    return [request for name, request, _ in fake.calls if name == "Query"]


AWAY = ("UNAVAILABLE", "UNAVAILABLE", "this node is stopping", None)


def test_rows_are_dictionaries_in_which_integers_are_exact(fake, fake_client):
    script(fake, [start("n"), rows('{"n":9223372036854775807}'), rows('{"n":null}'), END])
    answer = fake_client.sql("SELECT n FROM t")
    assert not fake.calls, "it runs when rows are asked for"
    assert list(answer) == [{"n": 2**63 - 1}, {"n": None}]
    assert (answer.version, answer.columns) == ("000000000000001f", ("n",))
    assert asked(fake)[0].format == JSON


def test_parameters_and_freshness_are_sent(fake, fake_client):
    script(fake, [start(), END], [start(), END])
    since = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    assert list(fake_client.sql("SELECT $1", [5, "a", None, since], max_staleness=2, timeout=1.5)) == []
    list(fake_client.sql("SELECT $a", {"a": True}, min_version="00000000000000ff"))
    one, two = asked(fake)
    assert [value.value.WhichOneof("kind") for value in one.parameters] == [
        "int_value",
        "string_value",
        "null_value",
        "timestamp_value",
    ]
    assert one.consistency.max_staleness_ms == 2_000
    assert (one.timeout.seconds, one.timeout.nanos) == (1, 500_000_000)
    assert two.parameters[0].name == "a"
    assert two.consistency.min_version == "00000000000000ff"


def test_another_node_is_asked_until_an_answer_begins_and_not_from_then_on(fake, fake_client):
    script(fake, [AWAY], [start("n"), rows('{"n":1}'), AWAY])
    found = []
    with pytest.raises(isthmus.UnavailableError):
        for row in fake_client.sql("SELECT n FROM t"):
            found.append(row)
    assert found == [{"n": 1}]
    assert len(asked(fake)) == 2


def test_an_answer_without_its_end_is_no_answer(fake, fake_client):
    script(fake, [start("n"), rows('{"n":1}')])
    with pytest.raises(isthmus.BadAnswerError):
        list(fake_client.sql("SELECT n FROM t"))


def test_what_makes_no_sense_is_said_with_its_place(fake, fake_client):
    script(
        fake,
        [("INVALID_ARGUMENT", "BAD_QUERY", "no column x", {"line": "2", "column": "8"})],
        [("RESOURCE_EXHAUSTED", "QUERY_LIMIT", "too many rows", {"limit": "rows"})],
    )
    with pytest.raises(isthmus.BadQueryError) as wrong:
        list(fake_client.sql("SELECT 1,\n       x"))
    assert (wrong.value.line, wrong.value.column) == (2, 8)
    with pytest.raises(isthmus.QueryLimitError):
        list(fake_client.sql("SELECT 1"))
    for given in [
        {"parameters": "a"},
        {"timeout": 0},
        {"min_version": "a", "max_staleness": 1},
        {"rows_max": 0},
        {"bytes_max": 2**64},
    ]:
        with pytest.raises(isthmus.UsageError):
            fake_client.sql("SELECT 1", **given)


def test_bounds_are_sent_and_kept_to(fake, fake_client, hub, user):
    script(fake, [start(), END], [start(), END])
    list(fake_client.sql("SELECT 1", rows_max=5, bytes_max=2**32))
    list(fake_client.sql("SELECT 1"))
    assert [(request.rows_max, request.bytes_max) for request in asked(fake)] == [(5, 2**32), (0, 0)]
    three = "SELECT * FROM (VALUES (1), (2), (3)) AS t (n)"
    assert len(list(hub.sql(three, rows_max=3))) == 3
    for bounds in ({"rows_max": 2}, {"bytes_max": 1}):
        with pytest.raises(isthmus.QueryLimitError):
            list(hub.sql(three, **bounds))
    with pytest.raises(isthmus.InvalidRequestError) as refused:
        list(hub.sql(three, rows_max=2**63))
    assert refused.value.reason == "INVALID_LIMIT"


def test_tables_are_told_with_their_columns(hub):
    tables = hub.tables()
    known = {(table.schema, table.name): table for table in tables}
    assert {("public", "profiles"), ("public", "events"), ("public", "segment_members")} <= known.keys()
    events = known["public", "events"]
    names = [column.name for column in events.columns]
    answer = hub.sql("SELECT * FROM events LIMIT 0")
    assert list(answer) == []
    assert list(answer.columns) == names
    assert all(column.type for column in events.columns)
    assert events.to_dict()["columns"][0]["name"] == names[0]
    html = tables._repr_html_()
    assert "<table" in html
    assert names[-1] in html


def test_a_statement_is_explained_or_carried_out_for_it(hub):
    statement = "SELECT name, count(*) FROM events WHERE source = $1 GROUP BY name"
    plans = hub.explain(statement, ["<web>"])
    assert [plan.kind for plan in plans] == ["logical_plan", "physical_plan"]
    assert "\n" in str(plans[1])
    assert "<pre>" in plans._repr_html_()
    assert "<web>" not in plans._repr_html_()
    (done,) = hub.explain(statement, ["web"], analyze=True, max_staleness=60, timeout=60)
    assert (done.kind, "metrics=" in done.text) == ("Plan with Metrics", True)
    assert [plan.kind for plan in hub.explain(statement, ["web"], analyze=True)] == ["Plan with Metrics"]
    with pytest.raises(isthmus.BadQueryError) as wrong:
        hub.explain("SELECT 1,\n       x")
    assert (wrong.value.line, wrong.value.column) == (2, 8)
    with pytest.raises(isthmus.UsageError):
        hub.explain("SELECT 1", "a")


def test_what_writes_files_is_not_explained_twice(fake, fake_client):
    fake.answers["Explain"] = lambda request, context: refuse(context, "DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN")
    with pytest.raises(isthmus.OutcomeUnknownError):
        fake_client.explain(" COPY (SELECT 1) TO 'a.csv'", analyze=True)
    assert len(fake.calls) == 1


def test_a_frame_keeps_the_columns_types(fake, fake_client):
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    table = pa.table({"n": pa.array([1, 2**62], pa.int64()), "at": pa.array([0, None], pa.timestamp("us", "UTC"))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    pieces = [wire.QueryResponse(arrow=data[at : at + 100]) for at in range(0, len(data), 100)]
    script(fake, [start("n", "at"), *pieces, END], [start("n", "at"), *pieces, END])
    assert fake_client.sql("SELECT * FROM t").to_arrow() == table
    frame = fake_client.sql("SELECT * FROM t").to_pandas()
    assert list(frame["n"]) == [1, 2**62]
    assert str(frame["at"].dtype).startswith("datetime64")
    assert [request.format for request in asked(fake)] == [ARROW, ARROW]


def test_letting_go_of_the_rows_ends_the_query(fake, fake_client):
    ended = []

    def query(request, context):
        context.add_callback(lambda: ended.append(True))
        yield start("n")
        while context.is_active():
            yield rows('{"n":1}')

    fake.answers["Query"] = query
    iterator = iter(fake_client.sql("SELECT n FROM t"))
    assert next(iterator) == {"n": 1}
    iterator.close()

    async def awaited():
        async with isthmus.aio.Client(fake.endpoint) as hub:
            parts = hub.sql("SELECT n FROM t").rows()
            assert await parts.__anext__() == {"n": 1}
            await parts.aclose()

    asyncio.run(awaited())

    until("both queries have ended", lambda: len(ended) == 2)
