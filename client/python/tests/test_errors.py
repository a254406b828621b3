"""Errors by reason, deadlines, endpoints."""

import threading

import pytest

import isthmus
from cluster import free_ports
from fake import FakeHub, refuse
from isthmus import _wire as wire
from isthmus._endpoints import Pool, Slot, parse_endpoints
from isthmus._retry import Ending, refusal


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        ("NOT_FOUND", "NOT_FOUND", isthmus.NotFoundError),
        ("NOT_FOUND", "ERASED", isthmus.ErasedError),
        ("NOT_FOUND", "SOURCE_NOT_FOUND", isthmus.SourceNotFoundError),
        ("INVALID_ARGUMENT", "INVALID_CURSOR", isthmus.InvalidRequestError),
        ("INVALID_ARGUMENT", "INVALID_SCHEMA", isthmus.InvalidSchemaError),
        ("INVALID_ARGUMENT", "INVALID_SEGMENT", isthmus.InvalidSegmentError),
        ("INVALID_ARGUMENT", "BATCH_TOO_MANY", isthmus.TooLargeError),
        ("OUT_OF_RANGE", "TOO_LARGE", isthmus.TooLargeError),
        ("RESOURCE_EXHAUSTED", "QUERY_LIMIT", isthmus.QueryLimitError),
        ("PERMISSION_DENIED", "FORBIDDEN", isthmus.ForbiddenError),
        ("UNAUTHENTICATED", "WRITE_KEY_INVALID", isthmus.UnauthenticatedError),
        ("ALREADY_EXISTS", "ALREADY_EXISTS", isthmus.AlreadyExistsError),
        ("FAILED_PRECONDITION", "QUORUM_AT_RISK", isthmus.QuorumAtRiskError),
        ("FAILED_PRECONDITION", "SOMETHING_NEW", isthmus.PreconditionError),
        ("ABORTED", "STALE_VIEW", isthmus.ConflictError),
        ("UNIMPLEMENTED", "UNKNOWN_METHOD", isthmus.UnsupportedError),
        ("DATA_LOSS", "BROKEN", isthmus.RefusedError),
    ],
)
def test_a_refusal_is_raised_as_the_class_of_its_reason(fake, fake_client, code, reason, expected):
    def answer(request, context):
        refuse(context, code, reason, "why", metadata={"shard": "16"}, fields=[("limit", "is 5")])

    fake.answers["Status"] = answer
    with pytest.raises(isthmus.RefusedError) as refused:
        fake_client.with_options(request_id="r-1").cluster.status()
    error = refused.value
    assert type(error) is expected
    assert (error.code, error.reason, error.message, str(error)) == (code, reason, "why", f"{reason}: why")
    assert (error.metadata, error.fields, error.request_id) == ({"shard": "16"}, (("limit", "is 5"),), "r-1")
    assert len(fake.calls) == 1


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses; last error: …", Ending.NOT_SENT),
        ("UNAVAILABLE", "Socket closed", Ending.BROKEN),
        ("UNKNOWN", "Stream removed", Ending.BROKEN),
        ("INTERNAL", "Received RST_STREAM with error code 2", Ending.BROKEN),
        ("INTERNAL", "Internal error from Core", Ending.BROKEN),
        ("INTERNAL", "Exception deserializing response!", Ending.ANSWERED),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Ending.TIMED_OUT),
    ],
)
def test_what_grpc_says_of_a_connection_is_not_taken_for_the_hubs_word(code, message, expected):
    assert refusal(code, message, (), "r-1")[0] is expected
    # The hub names every answer.
    assert refusal(code, message, [("x-request-id", "r-1")], "r-1")[0] is Ending.ANSWERED


def test_a_reason_of_another_domain_is_not_the_hubs(fake, fake_client):
    fake.answers["Status"] = lambda request, context: refuse(context, "NOT_FOUND", "ERASED", domain="proxy.example")
    with pytest.raises(isthmus.NotFoundError) as refused:
        fake_client.cluster.status()
    assert (type(refused.value), refused.value.reason) == (isthmus.NotFoundError, "")


def test_what_passes_is_tried_again_and_what_the_hub_asks_for_is_waited(fake, fake_client):
    refusals = [
        ("UNAVAILABLE", "NO_LEADER", None),
        ("RESOURCE_EXHAUSTED", "OVERLOADED", 0.01),
        ("FAILED_PRECONDITION", "STALE_SHARD_MAP", None),
        ("DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN", None),
    ]

    def answer(request, context):
        if refusals:
            code, reason, after = refusals.pop()
            refuse(context, code, reason, retry_after=after)
        return wire.StatusResponse(cluster_id="c")

    fake.answers["Status"] = answer
    assert fake_client.cluster.status().cluster_id == "c"
    ids = {metadata["x-request-id"] for _, _, metadata in fake.calls}
    assert (len(fake.calls), len(ids)) == (5, 1)

    fake.answers["Status"] = lambda request, context: refuse(context, "UNAVAILABLE", "NO_LEADER", retry_after=3_600)
    with pytest.raises(isthmus.UnavailableError) as refused:
        fake_client.cluster.status()
    assert (refused.value.retry_after, len(fake.calls)) == (3_600.0, 6)


def test_a_write_that_must_happen_once_is_not_sent_twice(fake, fake_client):
    fake.answers["Create"] = lambda request, context: refuse(context, "DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN")
    with pytest.raises(isthmus.OutcomeUnknownError):
        fake_client.sources.create("shop")
    assert len(fake.calls) == 1


def test_a_read_that_nobody_answers_ends_with_the_deadline(fake, fake_client):
    end = threading.Event()
    fake.answers["Status"] = lambda request, context: end.wait() and wire.StatusResponse()
    try:
        with pytest.raises(isthmus.DeadlineError):
            fake_client.cluster.status(timeout=0.3)
        with pytest.raises(TimeoutError):
            fake_client.with_options(deadline=0.3).cluster.status()
        fake.answers["Ingest"] = lambda request, context: end.wait() and wire.IngestResponse()
        with pytest.raises(isthmus.OutcomeUnknownError):
            fake_client.ingest([isthmus.identify("1")], timeout=0.3)
    finally:
        end.set()


def test_a_node_that_hangs_costs_one_try(fake):
    end, hanging = threading.Event(), FakeHub()
    hanging.answers["Status"] = lambda request, context: end.wait() and wire.StatusResponse()
    fake.answers["Status"] = lambda request, context: wire.StatusResponse(cluster_id="c")
    try:
        with isthmus.Client([hanging.endpoint, fake.endpoint], deadline=5, try_limit=0.3) as client:
            assert [client.cluster.status().cluster_id for _ in range(4)] == ["c"] * 4
    finally:
        end.set()
        hanging.stop()
    assert len(fake.calls) == 4
    assert len(hanging.calls) >= 1


def test_endpoints_are_chosen_by_load_and_left_alone_while_they_are_down():
    slots = [Slot(name, None) for name in "abc"]
    pool = Pool(slots, turn=-1)
    taken = [pool.take(None, now=0.0) for _ in range(4)]
    assert [slot.address for slot in taken] == ["a", "b", "c", "a"]
    pool.done(taken[1], None, now=0.0)
    assert pool.take(None, now=0.0).address == "b"
    assert pool.take("c", now=0.0).address == "c", "a hint wins"
    pool = Pool([Slot(name, None) for name in "ab"], turn=-1)
    down = pool.take(None, now=0.0)
    pool.done(down, Ending.NOT_SENT, now=0.0)
    for _ in range(3):
        other = pool.take(None, now=0.9)
        assert other is not down
        pool.done(other, None, now=0.9)
    busy = pool.take(None, now=0.9)
    assert pool.take(None, now=1.0) is down, "its time is up"
    pool.done(busy, Ending.TIMED_OUT, now=2.0)
    pool.done(down, Ending.BROKEN, now=2.0)
    assert pool.take(None, now=2.0) is down, "of those that are down, the first to be up again"


def test_a_dead_endpoint_is_passed_over_and_all_dead_ones_are_told(fake):
    dead = f"127.0.0.1:{free_ports(1)[0]}"
    fake.answers["Create"] = lambda request, context: wire.CreateResponse(write_key="k")
    with isthmus.Client([dead, fake.endpoint]) as client:
        assert [client.sources.create(f"s{n}").write_key for n in range(4)] == ["k"] * 4
    with isthmus.Client(dead, deadline=0.5) as client, pytest.raises(isthmus.UnreachableError) as failed:
        client.sources.create("s")
    assert dead in str(failed.value)
    assert isinstance(failed.value, ConnectionError)


def test_what_a_client_is_given_is_checked():
    given = {
        "hub": [("hub:7400", False)],
        "http://a:1/, b:2,a:1": [("a:1", False), ("b:2", False)],
        "[::1]:9": [("[::1]:9", False)],
        "https://[::1]": [("[::1]:7400", True)],
    }
    assert [parse_endpoints(text) for text in given] == list(given.values())
    assert parse_endpoints(["a", "https://b"], encrypted=True) == [("a:7400", True), ("b:7400", True)]
    for wrong in (
        "",
        ",",
        "ftp://hub",
        "hub:99999",
        "hub:x",
        "hub:0",
        "a/b",
        "u:p@hub:1",
        "a b",
        "::1",
    ):
        with pytest.raises(isthmus.UsageError):
            isthmus.Client(wrong)
    for options in ({"deadline": 0}, {"try_limit": 301}, {"write_key": "a b"}, {"write_key": ""}):
        with pytest.raises(isthmus.UsageError):
            isthmus.Client("hub", **options)
    with pytest.raises(isthmus.UsageError):
        isthmus.Client("hub").with_options(request_id="a b")


def test_a_closed_client_says_so(fake_client):
    fake_client.close()
    with pytest.raises(isthmus.ClosedError):
        fake_client.cluster.status()


def test_the_endpoint_comes_from_the_environment(fake, monkeypatch):
    fake.answers["Status"] = lambda request, context: wire.StatusResponse(cluster_id="c")
    monkeypatch.setenv("ISTHMUS_ENDPOINT", f"http://{fake.endpoint}")
    with isthmus.Client() as client:
        assert client.cluster.status().cluster_id == "c"
