"""Groups: both ends of a membership, pages, and what is no group."""

import datetime

import pytest

import isthmus

DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def test_a_group_knows_its_members_and_a_customer_their_groups(hub, user):
    name = f"{user}-firm"
    customers = [f"{user}-{n}" for n in range(5)]
    # With times of their own: of what came in one batch, any may be the newest.
    events = [
        isthmus.group(name, {"plan": "pro", "size": n}, user_id=one, timestamp=DAY + datetime.timedelta(hours=n))
        for n, one in enumerate(customers)
    ]
    # One of them under a cookie, too, which is theirs.
    events += [
        isthmus.group(name, anonymous_id=f"{user}-cookie"),
        isthmus.identify(customers[0], anonymous_id=f"{user}-cookie"),
        isthmus.group(f"{name}-2", user_id=customers[0]),
    ]
    hub.ingest(events)
    found = hub.groups.get(f" {name} ")
    assert (found.group_id, found.events, found.member_identifiers) == (name, 6, 6)
    assert found.traits == {"plan": "pro", "size": 4}
    members = list(hub.groups.members(name, page_size=2))
    assert sorted(len(member.identifiers) for member in members) == [1, 1, 1, 1, 2]
    assert sum(member.events for member in members) == 6
    of_first = hub.profiles.get(f"user_id:{customers[0]}").profile_id
    assert [str(i) for m in members if m.profile_id == of_first for i in m.identifiers] == [
        f"anonymous_id:{user}-cookie",
        f"user_id:{customers[0]}",
    ]
    groups = {one.group_id: one.events for one in hub.groups.of(f"anonymous_id:{user}-cookie", page_size=1)}
    assert groups == {name: 2, f"{name}-2": 1}
    assert {name, f"{name}-2"} <= {one.group_id for one in hub.groups.list()}


def test_what_is_no_group_is_said_to_be_none(hub, user):
    with pytest.raises(isthmus.NotFoundError):
        hub.groups.get(f"{user}-nobody")
    with pytest.raises(isthmus.NotFoundError):
        hub.groups.members(f"{user}-nobody").all()
    with pytest.raises(isthmus.InvalidRequestError) as refused:
        hub.groups.get("")
    assert refused.value.reason == "INVALID_GROUP_ID"
