"""The asyncio client does what the blocking one does."""

import asyncio
import inspect
import threading

import pytest

import isthmus
from fake import accept_all, refuse
from isthmus import _wire as wire
from isthmus.aio import _writer as writer_module


def run(work):
    """Runs a coroutine function, and shows where it hangs if it does."""
    return asyncio.run(asyncio.wait_for(work(), 120))


def test_sending_and_reading(cluster, hub, user):
    async def work():
        async with isthmus.aio.Client(cluster.endpoints, deadline=30.0) as twin:
            done = await twin.ingest([isthmus.identify(user, {"n": 2**63 - 1}), {"type": "track", "userId": user}])
            assert done.counts == isthmus.Counts(accepted=1, quarantined=1)
            same = await twin.profiles.get(f"user_id:{user}"), hub.profiles.get(f"user_id:{user}")
            assert {**same[0].to_dict(), "version": ""} == {**same[1].to_dict(), "version": ""}
            async with twin.writer(batch_items=10) as writer:
                for n in range(45):
                    await writer.send(isthmus.track("Seen", user_id=user, properties={"n": n}))
            assert writer.counts == isthmus.Counts(accepted=45)
            key = f"user_id:{user}"
            assert [event async for event in twin.profiles.timeline(key, page_size=7)] == list(
                hub.profiles.timeline(key)
            )
            pages = [len(page) async for page in twin.profiles.timeline(key, page_size=20).pages()]
            assert pages == [20, 20, 6]
            assert len(await twin.profiles.timeline(key, limit=3).all()) == 3
            many = await asyncio.gather(*(twin.profiles.get(key) for _ in range(50)))
            assert {profile.event_counts["Seen"] for profile in many} == {45}
            assert (await twin.cluster.status()).healthy
            with pytest.raises(isthmus.NotFoundError):
                await twin.profiles.get(f"user_id:{user}-nobody")
        with pytest.raises(isthmus.ClosedError):
            await twin.cluster.status()

    run(work)


def test_a_blocked_server_blocks_send(fake):
    end = threading.Event()
    fake.answers["Ingest"] = lambda request, context: end.wait(60) and accept_all(request, context)

    async def work():
        async with isthmus.aio.Client(fake.endpoint, deadline=120, try_limit=120) as twin:
            writer = twin.writer(batch_items=5, pending_items=20)
            try:
                with pytest.raises(isthmus.DeadlineError):
                    for n in range(100):
                        await writer.send(isthmus.identify(str(n)), timeout=0.3)
                assert writer.pending == 20
                late = asyncio.create_task(writer.send(isthmus.identify("late")))
                with pytest.raises(isthmus.DeadlineError):
                    await writer.flush(timeout=0.1)
                assert not late.done()
            finally:
                end.set()
            await late
            assert await writer.close() == isthmus.Counts(accepted=21)

    run(work)


def test_tries_deadlines_and_failures(fake):
    refusals = [("UNAVAILABLE", "NO_LEADER"), ("FAILED_PRECONDITION", "NOT_LEADER")]
    end = threading.Event()

    def answer(request, context):
        if refusals:
            refuse(context, *refusals.pop(), metadata={"leader": fake.endpoint})
        return wire.StatusResponse(cluster_id="c")

    fake.answers["Status"] = answer
    fake.answers["Get"] = lambda request, context: end.wait(60) and wire.GetResponse()
    fake.answers["Ingest"] = lambda request, context: refuse(context, "UNAUTHENTICATED", "WRITE_KEY_INVALID")

    async def work():
        async with isthmus.aio.Client(fake.endpoint, write_key="k") as twin:
            assert (await twin.cluster.status()).cluster_id == "c"
            assert len(fake.calls) == 3
            with pytest.raises(isthmus.DeadlineError):
                await twin.profiles.get("user_id:1", timeout=0.2)
            hanging = asyncio.create_task(twin.profiles.get("user_id:1"))
            await asyncio.sleep(0)
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            writer = twin.writer()
            event = isthmus.identify("1")
            await writer.send(event)
            with pytest.raises(isthmus.WriterError) as failed:
                await writer.close()
            assert failed.value.unsent == (event,)

    try:
        run(work)
    finally:
        end.set()


def public(of):
    return {name: member for name, member in inspect.getmembers(of) if not name.startswith("_")}


def test_both_clients_have_the_same_calls():
    blocking, awaited = isthmus.Client("hub"), isthmus.aio.Client("hub")
    assert public(blocking).keys() == public(awaited).keys()
    for name in vars(awaited):
        if name.startswith("_"):
            continue
        one, other = public(getattr(blocking, name)), public(getattr(awaited, name))
        assert one.keys() == other.keys()
        for method, twin in other.items():
            assert list(inspect.signature(one[method]).parameters) == list(inspect.signature(twin).parameters)
            assert not inspect.iscoroutinefunction(one[method])
    assert public(isthmus.IngestWriter).keys() == public(writer_module.IngestWriter).keys()
