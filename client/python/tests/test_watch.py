"""Watching: what comes, where a watch goes on, what it says when it can't."""

import asyncio
import threading

import pytest

import isthmus
from cluster import until
from fake import refuse
from isthmus import _wire as wire


def response(cursor, *ids):
    return wire.WatchResponse(changes=[wire.Change(id=id) for id in ids], cursor=cursor)


def script(fake, *streams):
    """Each stream brings its responses, and ends with a refusal or without a word; asked for in turn."""
    left = list(streams)

    def watch(request, context):
        responses, end = left.pop(0)
        yield from responses
        if end is not None:
            refuse(context, *end)

    fake.answers["Watch"] = watch


AWAY = ("UNAVAILABLE", "UNAVAILABLE", "this node is stopping")
NO_LEADER = ("UNAVAILABLE", "NO_LEADER", "no leader")
OLD = ("FAILED_PRECONDITION", "CURSOR_TOO_OLD", "too old")


def asked(fake):
    return [request.cursor for name, request, _ in fake.calls if name == "Watch"]


def test_it_goes_on_from_the_last_cursor_whatever_breaks_it(fake, fake_client):
    script(
        fake,
        ([], AWAY),
        ([response("c0"), response("c1", "1", "2")], AWAY),
        ([response("c2", "3")], None),
        ([], NO_LEADER),
        ([response("c3", "4")], OLD),
    )
    watch, found = fake_client.watch(), []
    with pytest.raises(isthmus.PreconditionError, match="CURSOR_TOO_OLD"):
        for change in watch:
            found.append(change.id)
    assert found == ["1", "2", "3", "4"]
    assert asked(fake) == ["", "", "c1", "c2", "c2"]
    assert watch.cursor == "c3"


def test_the_cursor_covers_what_was_dealt_with(fake, fake_client):
    script(fake, ([response("c1", "1", "2"), response("c2", "3")], OLD))
    watch, cursors = fake_client.watch(cursor="c0"), []
    with pytest.raises(isthmus.PreconditionError):
        for change in watch:
            cursors.append((change.id, watch.cursor))
    assert cursors == [("1", "c0"), ("2", "c0"), ("3", "c1")]
    script(fake, ([response("c1", "1", "2"), response("c2")], OLD))
    pages = fake_client.watch().pages()
    assert [(page.next_cursor, len(page)) for page in (next(pages), next(pages))] == [("c1", 2), ("c2", 0)]


def test_a_hub_that_is_away_is_waited_for_and_that_is_told(fake, fake_client):
    told = []
    script(
        fake,
        ([response("c1", "1")], AWAY),
        *[([], NO_LEADER)] * 3,
        ([response("c2", "2")], OLD),
    )
    # No call could wait for anything.
    hasty = fake_client.with_options(deadline=0.001, try_limit=0.001)
    watch = hasty.watch(on_wait=lambda error: told.append(error and error.reason))
    with pytest.raises(isthmus.PreconditionError):
        list(watch)
    assert told == ["NO_LEADER", None]
    script(fake, *[([], NO_LEADER)] * 1_000)
    with pytest.raises(isthmus.UnavailableError):
        next(iter(fake_client.watch(retry_for=0.2)))


def test_a_watch_that_is_closed_ends_whoever_waits(fake, fake_client):
    stop = threading.Event()

    def watch(request, context):
        yield response("c1", "1")
        stop.wait(60)

    fake.answers["Watch"] = watch
    try:
        following, found = fake_client.watch(), []

        def follow():
            for change in following:
                found.append(change.id)

        reader = threading.Thread(target=follow)
        reader.start()
        until("the first one has come", lambda: found)
        following.close()
        reader.join(60)
        assert not reader.is_alive()
        assert found == ["1"]

        async def work():
            async with isthmus.aio.Client(fake.endpoint) as twin:
                following = twin.watch()
                pages = following.pages()
                assert len(await pages.__anext__()) == 1
                rest = asyncio.ensure_future(pages.__anext__())
                await asyncio.sleep(0)
                await following.close()
                with pytest.raises(StopAsyncIteration):
                    await rest

        asyncio.run(asyncio.wait_for(work(), 120))
    finally:
        stop.set()


@pytest.mark.parametrize(
    "options",
    [
        {"start": "then"},
        {"types": ["jump"]},
        {"events": "Order Completed"},
        {"segments": "loyal"},
        {"profiles": ["42"]},
        {"page_size": 0},
        {"page_size": 257},
        {"retry_for": -1},
    ],
)
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(isthmus.UsageError):
        isthmus.Client("hub").watch(**options)


def test_filters_pass_what_is_asked_for(hub, user):
    start = hub.watch().page()
    assert len(start) == 0
    hub.ingest(
        [
            isthmus.page("Home", anonymous_id=f"{user}-a", message_id=f"{user}-page"),
            isthmus.identify(user, {"email": None}, anonymous_id=f"{user}-a", message_id=f"{user}-login"),
            isthmus.track("Order Completed", user_id=user, properties={"n": 1}, message_id=f"{user}-order"),
        ]
    )

    def first(**filters):
        with hub.watch(cursor=start.next_cursor, profiles=[f"anonymous_id:{user}-a"], **filters) as watch:
            return next(iter(watch))

    order = first(events=["Order Completed"])
    assert (order.change, order.type, order.message_id) == ("event", "track", f"{user}-order")
    assert (order.properties, order.source, order.identifier) == (
        {"n": 1},
        "default",
        isthmus.Identifier("user_id", user),
    )
    assert first(types=["page"]).message_id == f"{user}-page"
    assert first(traits=["email"]).traits == ("email",)
    members = first(members=True)
    assert (members.change, members.came_count) == ("members", 2)
    assert {one.value for one in members.came} == {user, f"{user}-a"}
    profile = hub.profiles.get(f"user_id:{user}").profile_id
    assert {one.profile_id for one in (order, members)} == {profile}
    with pytest.raises(isthmus.InvalidRequestError):
        hub.watch(cursor="nonsense").page()


def test_every_change_comes_once_though_all_nodes_are_killed_meanwhile(own_cluster, user):
    found, told = [], []
    with own_cluster.client(deadline=0.001, try_limit=0.001) as hasty:
        watch = hasty.watch(start="beginning", events=["Seen"], on_wait=told.append)

        def follow():
            for change in watch:
                found.append(change.message_id)

        reader = threading.Thread(target=follow)
        reader.start()
        with own_cluster.client(deadline=60.0) as hub:
            hub.ingest([isthmus.track("Seen", user_id=f"{user}-{n}", message_id=f"a-{n}") for n in range(50)])
            for index in range(3):
                own_cluster.kill(index)
            until("it says that it waits", lambda: told)
            for index in range(3):
                own_cluster.launch(index)
            own_cluster.healthy()
            hub.ingest([isthmus.track("Seen", user_id=f"{user}-{n}", message_id=f"b-{n}") for n in range(50)])
        until("all is there", lambda: len(found) >= 100)
        watch.close()
        reader.join()
    assert sorted(found) == sorted(f"{part}-{n}" for part in "ab" for n in range(50))
    assert isinstance(told[0], isthmus.Error)
    assert told[-1] is None


def test_the_asyncio_watch_stands_a_killed_leader_too(own_cluster, user):
    async def work():
        async with isthmus.aio.Client(own_cluster.endpoints, deadline=60.0) as hub:
            watch = hub.watch(events=["Seen"])
            assert len(await watch.page()) == 0
            found = []
            for part in range(3):
                if part:
                    dead = own_cluster.busiest()
                    own_cluster.kill(dead)
                names = {f"{part}-{n}" for n in range(40)}
                await hub.ingest([isthmus.track("Seen", user_id=f"{user}-{name}", message_id=name) for name in names])
                while not names <= set(found):
                    found.extend(change.message_id for change in await watch.page())
                if part:
                    own_cluster.launch(dead)
                    await asyncio.get_running_loop().run_in_executor(None, own_cluster.healthy)
            await watch.close()
            assert await watch.page() is None
            assert len(found) == len(set(found)) == 120

    asyncio.run(asyncio.wait_for(work(), 300))
