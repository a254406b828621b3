"""The writer: batches, back-pressure, tries, what it says of what went wrong."""

import gc
import signal
import subprocess
import sys
import threading
import weakref

import pytest

import isthmus
from fake import accept_all, refuse
from isthmus import _wire as wire


def seen(user, count):
    return [isthmus.track("Seen", user_id=user, properties={"n": n}) for n in range(count)]


def test_a_writer_delivers_everything_by_the_end_of_its_block(hub, user):
    with hub.writer(batch_items=64) as writer:
        for event in seen(user, 1_000):
            writer.send(event)
        assert writer.flush() == isthmus.Counts(accepted=1_000)
        assert writer.pending == 0
        writer.send({"type": "track", "event": "Seen", "userId": user})
        writer.send({"type": "track", "userId": user})
    assert writer.counts == isthmus.Counts(accepted=1_001, quarantined=1)
    assert [problem.reason for problem in writer.problems] == ["EVENT_NAME_MISSING"]
    assert hub.profiles.get(f"user_id:{user}").event_counts == {"Seen": 1_001}
    assert writer.close() == writer.counts
    with pytest.raises(isthmus.ClosedError):
        writer.send(isthmus.identify(user))


def test_what_is_sent_keeps_its_order_and_its_bounds(fake, fake_client):
    fake.answers["Ingest"] = accept_all
    events = [isthmus.identify(str(n), {"text": "x" * 1_000}) for n in range(100)]
    with fake_client.writer(batch_items=7, batch_bytes=3_500) as writer:
        for event in events:
            writer.send(event)
    batches = [request.items for _, request, _ in fake.calls]
    assert [item.event.message_id for batch in batches for item in batch] == [event.message_id for event in events]
    assert max(map(len, batches)) == 3


def test_a_blocked_server_blocks_send_and_memory_stays_bounded(fake, fake_client):
    end, reached = threading.Event(), threading.Event()

    def blocked(request, context):
        reached.set()
        assert end.wait(60)
        return accept_all(request, context)

    fake.answers["Ingest"] = blocked
    writer = fake_client.with_options(deadline=120, try_limit=120).writer(batch_items=5, pending_items=20)
    sent, everyone = 0, threading.Thread(target=lambda: None)
    try:
        refused = None
        while refused is None and sent < 1_000:
            try:
                writer.send(isthmus.identify(str(sent)), timeout=0.3)
                sent += 1
            except isthmus.DeadlineError as error:
                refused = error
        assert refused is not None
        assert (sent, writer.pending) == (20, 20)
        assert reached.is_set()
        # A sender that waits goes on as soon as there is room.
        everyone = threading.Thread(target=writer.send, args=(isthmus.identify("late"),))
        everyone.start()
        assert writer.pending == 20
        with pytest.raises(isthmus.DeadlineError):
            writer.flush(timeout=0.1)
    finally:
        end.set()
    everyone.join()
    assert writer.close() == isthmus.Counts(accepted=21)
    assert sum(len(request.items) for _, request, _ in fake.calls) == 21


def test_bytes_are_bounded_too_and_what_was_delivered_is_let_go(fake, fake_client):
    end = threading.Event()
    fake.answers["Ingest"] = lambda request, context: end.wait(60) and accept_all(request, context)
    writer = fake_client.with_options(deadline=120, try_limit=120).writer(pending_bytes=100_000)
    events = [isthmus.identify(str(n), {"text": "x" * 30_000}) for n in range(4)]
    first = weakref.ref(events[0])
    try:
        for event in events[:3]:
            writer.send(event, timeout=10)
        with pytest.raises(isthmus.DeadlineError):
            writer.send(events[3], timeout=0.2)
    finally:
        end.set()
    writer.flush()
    del events, event
    gc.collect()
    assert first() is None
    # One that is larger than all that may wait still goes, alone.
    writer.send(isthmus.identify("large", {"text": "x" * 200_000}))
    assert writer.close().accepted == 4


def test_nodes_that_stand_still_slow_the_writer_and_lose_nothing(own_cluster, user):
    with own_cluster.client(deadline=3.0, try_limit=1.0) as hub:
        writer = hub.writer(batch_items=10, pending_items=50)
        writer.send(isthmus.track("Seen", user_id=user))
        writer.flush()
        own_cluster.signal(signal.SIGSTOP)
        try:
            events = seen(user, 200)
            taken = 0
            with pytest.raises(isthmus.DeadlineError):
                for event in events:
                    writer.send(event, timeout=2.0)
                    taken += 1
            assert taken == 50
        finally:
            own_cluster.signal(signal.SIGCONT)
        for event in events[taken:]:
            writer.send(event)
        counts = writer.close()
        assert counts.accepted + counts.duplicate == 201
        assert hub.profiles.get(f"user_id:{user}", timeout=60).event_counts == {"Seen": 201}


def test_what_is_in_doubt_is_sent_again_under_the_same_ids_and_in_order(fake, fake_client):
    answers = [("UNAVAILABLE", "NO_LEADER"), ("DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN"), ("RESOURCE_EXHAUSTED", "")]
    batches = []

    def answer(request, context):
        batches.append([item.event.message_id for item in request.items])
        if len(batches) > 1 and answers:
            refuse(context, *answers.pop(), retry_after=0.01)
        return accept_all(request, context)

    fake.answers["Ingest"] = answer
    # The calls themselves would give up at once.
    with fake_client.with_options(deadline=0.001).writer(batch_items=2) as writer:
        for event in seen("1", 6):
            writer.send(event)
        writer.flush()
    assert writer.counts == isthmus.Counts(accepted=6)
    one, two, *_ = batches
    assert batches[:5] == [one, two, two, two, two]
    assert len({id for batch in batches for id in batch}) == 6
    assert [begin.first_sequence for begin in fake.opened] == [1, 3, 3, 3]
    assert len({begin.stream_id for begin in fake.opened}) == 1
    assert [begin.received_until.seconds for begin in fake.opened] == [0, 2, 2, 2]


def test_several_messages_are_under_way_at_a_time_and_within_the_credits(fake, fake_client):
    end, many = threading.Event(), threading.Event()

    def told(acknowledged, count, sequence_max):
        results = [wire.ItemResult(outcome=1)] * count
        return wire.IngestStreamResponse(
            acknowledged=acknowledged, results=results, sequence_max=sequence_max, bytes_max=1 << 20
        )

    def stream(requests, context):
        assert next(requests).open.first_sequence == 1
        yield told(0, 0, 30)
        received = 0
        for request in requests:
            received += len(request.items.items)
            if received == 30:
                many.set()
                assert end.wait(60)
                yield told(30, 30, 60)
            if received == 50:
                yield told(50, 20, 60)

    fake.stream = stream
    with fake_client.writer(batch_items=10) as writer:
        for event in seen("1", 50):
            writer.send(event)
        # Three messages, none of which is answered; there are no credits for the rest.
        assert many.wait(60)
        assert writer.pending == 50
        end.set()
        assert writer.flush() == isthmus.Counts(accepted=50)


def test_where_no_stream_can_be_opened_any_more_what_is_left_goes_in_batches(fake, fake_client, monkeypatch):
    fake.answers["Ingest"] = accept_all
    start = threading.Thread.start

    def starting(thread):
        # As at the very end of a program from Python 3.12 on, where the writer's own thread is there already.
        if thread.name == "isthmus-stream":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    writer = fake_client.writer(batch_items=4)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", starting)
        for event in seen("1", 10):
            writer.send(event)
        assert writer.flush(timeout=60) == isthmus.Counts(accepted=10)
    assert {name for name, _, _ in fake.calls} == {"Ingest"}
    assert writer.close().accepted == 10


def test_an_answer_that_makes_no_sense_stops_the_writer(fake, fake_client):
    fake.answers["Ingest"] = lambda request, context: wire.IngestResponse()
    writer = fake_client.writer()
    writer.send(isthmus.identify("1"))
    with pytest.raises(isthmus.WriterError, match="not one result"):
        writer.close()


def test_each_profile_is_what_the_order_of_sending_makes_of_it(hub, user):
    with hub.writer(batch_items=7) as writer:
        for n in range(400):
            writer.send(isthmus.identify(f"{user}-{n % 5}", {"n": n}))
            # The same customer under another identifier, which says the last word.
            writer.send(isthmus.identify(f"{user}-{n % 5}", {"last": n}, anonymous_id=f"{user}-a{n % 5}"))
            writer.send(isthmus.Event("identify", anonymous_id=f"{user}-a{n % 5}", traits={"n": -n}))
    assert writer.counts.accepted == 1_200
    for n in range(5):
        assert hub.profiles.get(f"user_id:{user}-{n}").traits == {"n": -(395 + n), "last": 395 + n}


def test_what_cannot_be_delivered_stops_the_writer_and_is_handed_back(fake, fake_client):
    def answer(request, context):
        if any(item.event.user_id == "bad" for item in request.items):
            refuse(context, "UNAUTHENTICATED", "WRITE_KEY_INVALID", "no such key")
        return accept_all(request, context)

    fake.answers["Ingest"] = answer
    writer = fake_client.writer(batch_items=1)
    events = [isthmus.identify(user) for user in ("good", "bad", "after")]
    for event in events[:2]:
        writer.send(event)
    with pytest.raises(isthmus.WriterError, match="WRITE_KEY_INVALID") as failed:
        writer.flush()
    assert failed.value.unsent == (events[1],)
    assert isinstance(failed.value.__cause__, isthmus.UnauthenticatedError)
    for again in (lambda: writer.send(events[2]), writer.flush, writer.close):
        with pytest.raises(isthmus.WriterError):
            again()
    fake.answers["Ingest"] = lambda request, context: refuse(context, "UNAVAILABLE", "NO_LEADER")
    writer = fake_client.with_options(deadline=0.1).writer(batch_items=1, retry_for=0.2)
    for event in events:
        writer.send(event)
    with pytest.raises(isthmus.WriterError) as failed:
        writer.close()
    assert failed.value.unsent == tuple(events)


def test_rejected_events_are_told_or_raised(fake, fake_client):
    rejected = wire.ItemResult(outcome=4, reason="SCHEMA_VIOLATION", message="/properties: no")
    fake.answers["Ingest"] = lambda request, context: wire.IngestResponse(results=[rejected] * len(request.items))
    writer = fake_client.writer()
    writer.send(isthmus.identify("1"))
    with pytest.raises(isthmus.ItemsRejectedError, match="1 events were rejected: SCHEMA_VIOLATION") as raised:
        writer.close()
    assert [result.outcome for result in raised.value.results] == ["rejected"]
    told = []
    event = isthmus.identify("1")
    with fake_client.writer(on_problem=lambda result, event: told.append((result.reason, event))) as writer:
        writer.send(event)
    assert told == [("SCHEMA_VIOLATION", event)]


def test_an_event_that_is_none_leaves_the_writer_working(fake, fake_client):
    fake.answers["Ingest"] = accept_all
    with fake_client.writer() as writer:
        with pytest.raises(isthmus.UsageError):
            writer.send(isthmus.identify("1", {"at": object()}))
        writer.send(isthmus.identify("1"))
    assert writer.counts.accepted == 1


def test_a_program_that_forgets_to_close_loses_nothing(cluster, hub, user):
    program = f"""
import isthmus
writer = isthmus.Client({cluster.endpoints!r}, deadline=30.0).writer(batch_items=3)
for n in range(10):
    writer.send(isthmus.track("Seen", user_id={user!r}))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    assert hub.profiles.get(f"user_id:{user}").event_counts == {"Seen": 10}


@pytest.mark.parametrize(
    "limits",
    [{"batch_items": 0}, {"batch_items": 2_501}, {"batch_bytes": 5_000_000}, {"pending_items": 0}, {"retry_for": -1}],
)
def test_limits_that_cannot_be_are_refused(limits):
    with pytest.raises(isthmus.UsageError):
        isthmus.Client("hub").writer(**limits)
