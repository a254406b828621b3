"""Reading: keys, fields, pages, cursors, explanations, splits."""

import dataclasses
import datetime

import pytest

import isthmus

UTC = datetime.timezone.utc


def without_version(profile):
    """A profile but for the version that it is exact at, which may move on though nothing is said."""
    return dataclasses.replace(profile, version="")


def seen(user, count):
    day = datetime.datetime(2026, 1, 1, tzinfo=UTC)
    return [
        isthmus.track("Seen", user_id=user, properties={"n": n}, timestamp=day + datetime.timedelta(hours=n))
        for n in range(count)
    ]


def test_a_profile_is_found_by_any_identifier_and_by_its_id(hub, user):
    hub.ingest([isthmus.identify(user, {"email": f"{user}@Example.org"}, anonymous_id=f"{user}-c")])
    found = without_version(hub.profiles.get(f"user_id:{user}"))
    keys = [f"email:{user}@example.org", f"anonymous_id:{user}-c", found.profile_id, found.profile_id.upper()]
    keys += [isthmus.Identifier("userId", f" {user} ")]
    assert [without_version(hub.profiles.get(key)) for key in keys] == [found] * len(keys)
    nobody = f"user_id:{user}-nobody"
    nothing, same = hub.profiles.get_many([nobody, keys[0]])
    assert (nothing, without_version(same)) == (None, found)
    for wrong in ("", user, "user_id:", ":1", found.profile_id[1:], 42, None):
        with pytest.raises(isthmus.UsageError):
            hub.profiles.get(wrong)


def test_a_field_mask_leaves_the_rest_out(hub, user):
    hub.ingest([isthmus.identify(user, {"plan": "pro"})])
    read = hub.profiles.get(f"user_id:{user}", fields=["traits"])
    assert (read.traits, read.identifiers, read.profile_id) == ({"plan": "pro"}, (), "")
    with pytest.raises(isthmus.InvalidRequestError) as refused:
        hub.profiles.get(f"user_id:{user}", fields=["no_such"])
    assert refused.value.reason == "INVALID_FIELD_MASK"
    assert [field for field, _ in refused.value.fields] == ["fields"]


def test_a_timeline_shows_every_event_once_newest_first_and_goes_on_from_a_cursor(hub, user):
    hub.ingest(seen(user, 25))
    key = f"user_id:{user}"
    expected = list(range(24, -1, -1))
    for size in (1, 7, 25, 1000):
        assert [event.properties["n"] for event in hub.profiles.timeline(key, page_size=size)] == expected
    pages = [[event.properties["n"] for event in page] for page in hub.profiles.timeline(key, page_size=10).pages()]
    assert pages == [expected[:10], expected[10:20], expected[20:]]
    walk = hub.profiles.timeline(key, page_size=10, limit=12)
    first = walk.page()
    assert (len(first), first.next_cursor) == (10, walk.cursor)
    assert [event.properties["n"] for event in walk] == expected[10:12]
    assert walk.page() is None
    rest = hub.profiles.timeline(key, cursor=walk.cursor).all()
    assert [event.properties["n"] for event in rest] == expected[12:]
    assert rest.next_cursor is None
    with pytest.raises(isthmus.InvalidRequestError) as refused:
        hub.profiles.timeline(key, cursor="no cursor").page()
    assert refused.value.reason == "INVALID_CURSOR"
    with pytest.raises(isthmus.UsageError):
        hub.profiles.timeline(key, page_size=0)


def test_a_list_shows_every_profile_once(hub, user):
    hub.ingest([isthmus.identify(f"{user}-{n}") for n in range(30)])
    listed = [profile.profile_id for profile in hub.profiles.list(page_size=4)]
    assert listed == sorted(set(listed))
    mine = hub.profiles.get_many([f"user_id:{user}-{n}" for n in range(30)])
    assert {profile.profile_id for profile in mine} <= set(listed)
    assert len(hub.profiles.list(limit=7, page_size=4).all()) == 7
    assert hub.profiles.list(limit=0).all() == []


def test_why_two_are_one_customer_is_told_and_can_be_taken_back(hub, user):
    mail, early = f"email:{user}@example.org", datetime.datetime(2026, 1, 1, tzinfo=UTC)
    hub.ingest(
        [
            isthmus.identify(user, {"email": f"{user}@example.org"}, message_id="m1", timestamp=early),
            isthmus.page("Home", anonymous_id=f"{user}-c", context={"traits": {"email": f"{user}@example.org"}}),
        ]
    )
    why = hub.profiles.explain(f"user_id:{user}", f"anonymous_id:{user}-c")
    assert why.together
    assert [fact.verdict for fact in why.chain] == ["JOINED", "JOINED"]
    assert why.facts.to_pandas()["message_id"].tolist()[0] == "m1"
    assert why.to_dict()["chain"][0]["a"] == {"namespace": "user_id", "value": user}
    preview = hub.profiles.split(mail, preview=True)
    assert len(preview.before) == 1
    assert {tuple(map(str, group)) for group in preview.after} == {
        (f"user_id:{user}",),
        (mail,),
        (f"anonymous_id:{user}-c",),
    }
    assert hub.profiles.explain(f"user_id:{user}", mail).together
    done = hub.profiles.split(mail, reason="shared mailbox", by="me", id=f"{user}-split")
    assert hub.profiles.split(mail, reason="shared mailbox", by="me", id=f"{user}-split").id == done.id
    apart = hub.profiles.explain(f"user_id:{user}", mail)
    assert not apart.together
    (taken,) = apart.retractions
    assert (taken.scope, taken.reason, taken.by, list(map(str, taken.identifiers))) == (
        "identifier",
        "shared mailbox",
        "me",
        [mail],
    )
    for wrong in [(), (mail, mail, mail)]:
        with pytest.raises(isthmus.UsageError, match="name one identifier"):
            hub.profiles.split(*wrong)
