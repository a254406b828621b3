"""Segments: definitions, who is in them, who enters and leaves, and what the hub rarely answers."""

import asyncio

import pytest

import isthmus
from cluster import until
from fake import refuse
from isthmus import _wire as wire

IN, OVERFLOW = 1, 2


@pytest.fixture
def names(hub, user):
    """Names of segments and a computed trait that no other test knows; what was defined is deleted behind the test."""
    names = {short: f"{user}-{short}" for short in ("pro", "buyers", "spent")}
    yield names
    known = hub.segments.list()
    defined = [one.name for one in (*known.segments, *known.computed_traits)]
    for name in names.values():
        if name in defined:
            hub.segments.delete(name)


def order(user, number, revenue=10):
    properties = {"revenue": revenue, "cart": f"c-{number}"}
    return isthmus.track("Order Completed", user_id=user, message_id=f"{user}-{number}", properties=properties)


def people(user, count):
    """Every second one is `pro`; number `n` has `n % 3` orders."""
    events = []
    for n in range(count):
        events.append(isthmus.identify(f"{user}-{n}", {"cohort": user, "plan": "free" if n % 2 else "pro"}))
        events += [order(f"{user}-{n}", number) for number in range(n % 3)]
    return events


def test_a_segment_is_previewed_put_counted_listed_verified_and_deleted(hub, user, names):
    hub.ingest(people(user, 12))
    expression = f"cohort = '{user}' AND plan = 'pro'"
    preview = hub.segments.preview(expression, limit=4)
    assert (preview.count, preview.overflows, len(preview.members)) == (6, 0, 4)
    assert preview.profiles >= 12
    put = hub.segments.put(names["pro"], expression, description="who pays", wait=True)
    assert put.changed
    assert put.segment == isthmus.Segment(names["pro"], expression, "who pays", put.version)
    assert hub.segments.put(names["pro"], expression, description="who pays").changed is False
    buyers = hub.segments.put(names["buyers"], f"cohort = '{user}' AND did('Order Completed')", wait=True)
    known = hub.segments.list()
    assert (known.version, known.live_version) == (buyers.version, buyers.version)
    assert known.created_at is not None
    assert put.segment in known.segments
    assert put.segment in hub.segments.list(put.version).segments
    assert hub.segments.wait() == known

    both = f"{names['pro']} and {names['buyers']}"
    count = hub.segments.count(both)
    assert (count.count, count.overflows, count.definitions_version) == (4, 0, known.version)
    wanted = {f"user_id:{user}-{n}" for n in (2, 4, 8, 10)}
    for size in (1, 3, 1_000):
        members = list(hub.segments.members(both, page_size=size))
        assert len(members) == 4
        assert {str(member.identifier) for member in members} == wanted
    walk = hub.segments.members(both, limit=3, page_size=2)
    assert [len(page) for page in walk.pages()] == [2, 1]
    rest = hub.segments.members(both, cursor=walk.cursor).all()
    assert [member.profile_id for member in rest] == [members[3].profile_id]
    assert f"{user}-2" in isthmus.Page(members)._repr_html_()

    verified = hub.segments.verify(names["pro"])
    assert (verified.same, verified.live, verified.recounted, verified.differing) == (True, 6, 6, [])
    rows = hub.sql("SELECT count(*) AS n FROM segment_members WHERE segment = $1", [names["pro"]])
    assert list(rows) == [{"n": 6}]

    hub.segments.put(names["pro"], f"{expression} AND segment('{names['buyers']}')", wait=True)
    with pytest.raises(isthmus.InvalidSegmentError):
        hub.segments.delete(names["buyers"])
    assert hub.segments.delete(names["pro"]) > known.version
    with pytest.raises(isthmus.NotFoundError):
        hub.segments.delete(names["pro"])


def test_what_makes_no_sense_is_refused_with_its_place(hub, user, names):
    with pytest.raises(isthmus.InvalidSegmentError, match="column"):
        hub.segments.put(names["pro"], "events('Order Completed', '-3 days') >= 1")
    with pytest.raises(isthmus.InvalidSegmentError):
        hub.segments.preview("plan =")
    with pytest.raises(isthmus.InvalidSegmentError):
        hub.segments.put_trait(names["spent"], "product", of="revenue")
    hub.segments.put(names["pro"], f"cohort = '{user}'", wait=True)
    for call in (
        lambda: hub.segments.count(f"{names['pro']} and {user}-nothing"),
        lambda: hub.segments.members(f"({names['pro']}").page(),
        lambda: hub.segments.verify(f"{user}-nothing"),
        lambda: hub.segments.watch([f"{user}-nothing"]).page(),
    ):
        with pytest.raises(isthmus.InvalidSegmentError):
            call()
    with pytest.raises(isthmus.NotFoundError):
        hub.segments.of(f"user_id:{user}-nobody")
    with pytest.raises(isthmus.NotFoundError):
        hub.segments.list(10**9)


@pytest.mark.parametrize(
    "call",
    [
        lambda segments: segments.preview("plan = 'pro'", limit=0),
        lambda segments: segments.preview("plan = 'pro'", limit=101),
        lambda segments: segments.put_trait("spent", "sum", of="revenue", events="Order Completed"),
        lambda segments: segments.put_trait("carts", "distinct_list", of="cart", limit=1_001),
        lambda segments: segments.put_trait("carts", "distinct_list", of="cart", bound=0),
        lambda segments: segments.members("loyal", page_size=0),
        lambda segments: segments.of("nobody"),
        lambda segments: segments.watch("loyal"),
        lambda segments: segments.watch(start="then"),
        lambda segments: segments.watch(page_size=257),
    ],
)
def test_what_can_not_be_asked_is_not_sent(call):
    with pytest.raises(isthmus.UsageError):
        call(isthmus.Client("hub").segments)


def test_a_customer_tells_its_segments_and_computed_traits(hub, user, names):
    hub.ingest([*people(user, 2), order(f"{user}-0", 7, revenue=2), order(f"{user}-0", 8, revenue="0.10")])
    hub.segments.put_trait(names["spent"], "sum", of="revenue", events=["Order Completed"])
    carts = f"{user}-carts"
    hub.segments.put_trait(carts, "distinct_count", of="cart", event_type="track", bound=1)
    try:
        put = hub.segments.put(names["pro"], f"cohort = '{user}' AND plan = 'pro'", wait=True)
        (trait,) = [one for one in hub.segments.list().computed_traits if one.name == names["spent"]]
        assert (trait.aggregate, trait.of, trait.events, trait.window) == ("sum", "revenue", ("Order Completed",), None)
        assert hub.segments.put_trait(**trait.to_dict()).changed is False

        key = f"user_id:{user}-0"
        of = hub.segments.of(key)
        assert (of.segments, of.overflows, of.definitions_version) == ((names["pro"],), (), put.version)
        assert (of.computed_traits, of.trait_overflows) == ({names["spent"]: "2.10"}, (carts,))
        assert hub.segments.of(hub.profiles.get(key).profile_id).segments == of.segments

        plain, full = hub.profiles.get(key), hub.profiles.get(key, segments=True)
        assert (plain.segments, plain.computed_traits, plain.segments_version) == (None, {}, None)
        assert (full.segments, full.computed_traits) == (of.segments, of.computed_traits)
        assert (full.overflows, full.trait_overflows) == ((), (carts,))
        assert full.segments_version >= full.version
        assert (full.traits, full.identifiers, full.revenue) == (plain.traits, plain.identifiers, plain.revenue)
        only = hub.profiles.get(key, fields=["traits"], segments=True)
        assert (only.traits, only.segments, only.identifiers) == (plain.traits, of.segments, ())
        one, other, nobody = hub.profiles.get_many([key, f"user_id:{user}-1", f"user_id:{user}-2"], segments=True)
        assert (one.segments, other.segments, nobody) == (of.segments, (), None)
        frame = hub.profiles.get_many([key], segments=True).to_pandas()
        assert frame[f"computed_traits.{names['spent']}"].tolist() == ["2.10"]
        for table in (of, full):
            assert names["pro"] in table._repr_html_()
    finally:
        hub.segments.delete(carts)


def test_who_enters_and_leaves_is_told_with_what_brought_it_about(hub, cluster, user, names):
    expression = f"cohort = '{user}' AND plan = 'pro' AND events('Order Completed') >= 1"
    hub.segments.put(names["pro"], expression, wait=True)
    start = hub.watch().page().next_cursor
    hub.ingest([isthmus.identify(user, {"cohort": user, "plan": "pro"})])
    hub.ingest([order(user, 1)])
    until("it is in", lambda: hub.segments.count(names["pro"]).count == 1)
    hub.ingest([isthmus.identify(user, {"plan": "free"}, message_id=f"{user}-down")])

    def first(watch, count):
        with watch:
            changes = iter(watch)
            return [next(changes) for _ in range(count)]

    found = first(hub.segments.watch([names["pro"]], cursor=start), 2)
    assert [(change.change, change.segment, change.before, change.now) for change in found] == [
        ("segment", names["pro"], "out", "in"),
        ("segment", names["pro"], "in", "out"),
    ]
    assert [(change.entered, change.departed) for change in found] == [(True, False), (False, True)]
    (defined,) = [one for one in hub.segments.list().segments if one.name == names["pro"]]
    assert {change.segment_version for change in found} == {defined.version}
    assert {change.profile_id for change in found} == {hub.profiles.get(f"user_id:{user}").profile_id}
    events = first(hub.watch(cursor=start, profiles=[f"user_id:{user}"], types=["identify", "track"]), 3)
    by_id = {event.id: event.message_id for event in events}
    assert [by_id[change.cause] for change in found] == [f"{user}-1", f"{user}-down"]
    # The same beside other changes, and by all segments.
    assert first(hub.watch(cursor=start, segments=[names["pro"], f"{user}-nothing"]), 2) == found
    mixed = first(hub.watch(cursor=start, segments=[names["pro"]], events=["Order Completed"]), 3)
    assert {change.change for change in mixed} == {"event", "segment"}
    ids = {change.id for change in found}
    with hub.segments.watch(cursor=start) as watch:
        for change in watch:
            ids.discard(change.id)
            if not ids:
                break

    async def work():
        async with isthmus.aio.Client(cluster.endpoints, deadline=30.0) as twin:
            again = []
            async with twin.segments.watch([names["pro"]], cursor=start) as watch:
                async for change in watch:
                    again.append(change)
                    if len(again) == 2:
                        break
            return again

    assert asyncio.run(asyncio.wait_for(work(), 120)) == found


def test_a_change_of_a_segment_is_read_as_such():
    def read(**segment):
        message = wire.Change(id="1", profile_id="p", segment=wire.SegmentChange(**segment))
        return isthmus.Change.of(message)

    entered = read(name="loyal", segment_version=3, now=IN, cause="0a")
    assert (entered.segment, entered.segment_version, entered.cause) == ("loyal", 3, "0a")
    assert entered.to_dict()["now"] == "in"
    over = read(before=IN, now=OVERFLOW)
    assert (over.segment, over.segment_version, over.cause) == (None, None, None)
    assert (over.before, over.now, over.entered, over.departed) == ("in", "overflow", False, True)
    doubt = read(before=0, now=OVERFLOW)
    assert (doubt.before, doubt.entered, doubt.departed) == ("out", False, False)
    assert (read(now=9).now, isthmus.Change.of(wire.Change(id="1")).change) == ("unknown", "other")
    member = isthmus.Change.of(wire.Change(id="1", members=wire.MembersChange(came_count=1)))
    assert (member.segment, member.now, member.entered, member.departed) == (None, None, False, False)


def test_waiting_ends_when_the_version_is_live_or_the_time_is_over(fake, fake_client):
    live = [3, 3, 4, 5]

    def definitions(request, context):
        version = live.pop(0) if len(live) > 1 else live[0]
        return wire.ListDefinitionsResponse(version=5, live_version=version)

    fake.answers["ListDefinitions"] = definitions
    fake.answers["PutSegment"] = lambda request, context: wire.PutSegmentResponse(
        segment=request.segment, version=4, changed=True
    )
    assert fake_client.segments.put("loyal", "true", wait=True).version == 4
    assert [name for name, _, _ in fake.calls] == ["PutSegment", *["ListDefinitions"] * 3]
    assert fake_client.segments.wait().live_version == 5
    live[:] = [4]
    with pytest.raises(isthmus.DeadlineError, match="version 5"):
        fake_client.segments.wait(timeout=0.05)
    assert fake_client.segments.wait(4, timeout=0.05).live_version == 4


def test_a_watch_of_segments_goes_on_at_its_cursor(fake, fake_client):
    left = [
        [wire.SegmentServiceWatchResponse(cursor="c1", changes=[wire.Change(id="1")])],
        [wire.SegmentServiceWatchResponse(cursor="c2", changes=[wire.Change(id="2")])],
    ]

    def watch(request, context):
        if not left:
            refuse(context, "INVALID_ARGUMENT", "INVALID_SEGMENT", "there is no segment loyal")
        yield from left.pop(0)

    fake.answers["Watch"] = watch
    found = []
    with pytest.raises(isthmus.InvalidSegmentError):
        for change in fake_client.segments.watch(["loyal"], start="beginning", page_size=7):
            found.append(change.id)
    assert found == ["1", "2"]
    asked = [request for _, request, _ in fake.calls]
    assert [(request.cursor, list(request.segments)) for request in asked] == [
        ("", ["loyal"]),
        ("c1", ["loyal"]),
        ("c2", ["loyal"]),
    ]
    assert (asked[0].start, asked[0].response_changes_max) == (2, 7)


def test_a_deletion_is_not_sent_twice_and_other_answers_are_read_with_care(fake, fake_client):
    def lost(request, context):
        refuse(context, "DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN")

    fake.answers["DeleteDefinition"] = lost
    with pytest.raises(isthmus.OutcomeUnknownError):
        fake_client.segments.delete("loyal")
    assert len(fake.calls) == 1
    fake.answers["PutSegment"] = lambda request, context: wire.PutSegmentResponse(version=1)
    with pytest.raises(isthmus.BadAnswerError):
        fake_client.segments.put("loyal", "true")
    fake.answers["GetMemberships"] = lambda request, context: wire.GetMembershipsResponse(
        overflows=["loyal"], computed_traits_json={"b": '"overflow"', "a": "overflow", "c": '["x"]'}
    )
    of = fake_client.segments.of("0" * 32)
    assert (of.overflows, of.computed_traits, of.trait_overflows) == (("loyal",), {"b": "overflow", "c": ["x"]}, ("a",))
    fake.answers["GetMemberships"] = lambda request, context: wire.GetMembershipsResponse(
        computed_traits_json={"a": "{"}
    )
    with pytest.raises(isthmus.BadAnswerError):
        fake_client.segments.of("user_id:1")
    by_id, by_name = [request for name, request, _ in fake.calls if name == "GetMemberships"]
    assert (by_id.profile_id, by_name.identifier.value) == ("0" * 32, "1")
    member = wire.SegmentMember(profile_id="p")
    for answer, same in (
        (wire.VerifyResponse(live=1, recounted=1), True),
        (wire.VerifyResponse(live=1, recounted=1, differing=[member]), False),
        (wire.VerifyResponse(live=1, recounted=2), False),
    ):
        fake.answers["Verify"] = lambda request, context, answer=answer: answer
        assert fake_client.segments.verify("loyal").same is same
