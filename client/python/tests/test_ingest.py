"""Batches: a result for each item, duplicates, what is kept and why, who sends."""

import datetime
import math

import pytest

import isthmus
from cluster import until
from fake import accept_all, refuse
from isthmus import _wire as wire


def test_each_item_has_its_own_result(hub, user):
    late = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=3)
    done = hub.ingest(
        [
            isthmus.track("Seen", user_id=user, message_id="m-1"),
            {"type": "track", "event": "Seen", "messageId": "m-2"},
            {"type": "track", "userId": user, "messageId": "m-3"},
            isthmus.track("Seen", user_id=user, properties={"n": math.nan}),
            {"type": "track", "event": "Seen", "userId": user, "properties": {"n": 2**64}},
            isthmus.track("Seen", user_id=user, timestamp=late),
            {"type": "dance", "userId": user},
            isthmus.Unreadable(b"a;b", "text/csv", "line 17: 2 columns, not 5", origin="a.csv:17"),
            isthmus.identify(user, {"plan": "pro"}),
        ]
    )
    assert [(result.index, result.outcome, result.reason) for result in done] == [
        (0, "accepted", None),
        (1, "quarantined", "NO_IDENTIFIER"),
        (2, "quarantined", "EVENT_NAME_MISSING"),
        (3, "quarantined", "NOT_FINITE"),
        (4, "quarantined", "INTEGER_TOO_LARGE"),
        (5, "quarantined", "TIMESTAMP_IN_FUTURE"),
        (6, "quarantined", "TYPE_UNKNOWN"),
        (7, "quarantined", "UNREADABLE"),
        (8, "accepted", None),
    ]
    assert done[0].message_id == "m-1"
    assert done.counts == isthmus.Counts(accepted=2, quarantined=7)
    assert [problem.index for problem in done.problems] == [1, 2, 3, 4, 5, 6, 7]
    kept = hub.quarantine.list(reason="UNREADABLE").all()[0]
    assert (kept.origin, hub.quarantine.show(kept.id).content) == ("a.csv:17", b"a;b")


def test_an_event_counts_once_however_often_it_is_sent(hub, user):
    event = isthmus.track("Seen", user_id=user)
    assert hub.ingest([event, event]).counts == isthmus.Counts(accepted=1, duplicate=1)
    assert hub.ingest([event]).counts == isthmus.Counts(duplicate=1)
    plain = {"type": "track", "event": "Seen", "userId": user, "messageId": f"{user}-plain"}
    assert [hub.ingest([plain]).counts.accepted for _ in range(3)] == [1, 0, 0]
    unnamed = {"type": "track", "event": "Seen", "userId": user, "messageId": None}
    assert [hub.ingest([unnamed]).counts.accepted for _ in range(2)] == [1, 1]
    assert hub.profiles.get(f"user_id:{user}").event_counts == {"Seen": 4}


def test_every_type_of_event_arrives(hub, user):
    events = [
        isthmus.identify(user, {"a": 1}, anonymous_id=f"{user}-c", identifiers=[f"crm:{user}"]),
        isthmus.track("Seen", user_id=user),
        isthmus.page("Home", category="shop", user_id=user),
        isthmus.screen("Start", user_id=user),
        isthmus.group("acme", {"name": "Acme"}, user_id=user),
        isthmus.alias(f"{user}-old", user),
    ]
    assert hub.ingest(events).counts.accepted == 6
    profile = hub.profiles.get(f"crm:{user}")
    assert {f"user_id:{user}", f"anonymous_id:{user}-c", f"crm:{user}"} <= set(map(str, profile.identifiers))
    assert profile.type_counts == {"alias": 1, "group": 1, "identify": 1, "page": 1, "screen": 1}
    timeline = hub.profiles.timeline(f"user_id:{user}").all()
    assert {event.type: event.event for event in timeline}["page"] == "Home"


def test_a_version_token_covers_its_batch(hub, user):
    done = hub.ingest([isthmus.track("Seen", user_id=user)])
    read = hub.profiles.get(f"user_id:{user}", min_version=done.version)
    assert read.version >= done.version
    with pytest.raises(isthmus.UsageError, match="not both"):
        hub.profiles.get(f"user_id:{user}", min_version="0", max_staleness=1)


def wait_for_refusal(client, expected):
    """Sends nothing until that is refused: nodes hear of keys and sources one after the other."""

    def refused():
        try:
            client.ingest([])
        except expected as error:
            return error
        return None

    return until(f"a batch is refused with {expected.__name__}", refused)


def test_a_write_key_says_who_sends(hub, user):
    made = hub.sources.create(f"py-{user}", default_currency="EUR")
    assert made.write_key not in repr(made) + made._repr_html_() + repr(hub.with_options(write_key=made.write_key))
    sender = hub.with_options(write_key=made.write_key)
    sender.ingest([isthmus.track("Order Completed", user_id=user, properties={"revenue": 1})])
    assert hub.profiles.get(f"user_id:{user}").sources == (f"py-{user}",)
    rotated = hub.sources.rotate(f"py-{user}")
    refused = wait_for_refusal(sender, isthmus.UnauthenticatedError)
    assert refused.reason == "WRITE_KEY_INVALID"
    assert hub.with_options(write_key=rotated.write_key).ingest([isthmus.track("Seen", user_id=user)])
    assert hub.sources.disable(f"py-{user}").disabled
    wait_for_refusal(hub.with_options(source=f"py-{user}"), isthmus.SourceDisabledError)
    with pytest.raises(isthmus.AlreadyExistsError):
        hub.sources.create(f"py-{user}")
    assert f"py-{user}" in [source.name for source in hub.sources.list()]


def test_the_write_key_travels_in_metadata_and_with_events_only(fake, fake_client):
    fake.answers.update(Ingest=accept_all, Status=lambda request, context: wire.StatusResponse())
    sender = fake_client.with_options(write_key="iswk_1", request_id="job-7")
    sender.ingest([isthmus.identify("1")])
    sender.cluster.status()
    (_, batch, ingest), (_, _, status) = fake.calls
    assert (ingest["x-write-key"], ingest["x-request-id"]) == ("iswk_1", "job-7")
    assert "x-write-key" not in status
    assert batch.write_key == ""


def test_a_batch_that_is_too_large_is_refused_as_a_whole(hub, user):
    with pytest.raises(isthmus.TooLargeError) as refused:
        hub.ingest(isthmus.track("Seen", user_id=user) for _ in range(2_501))
    assert (refused.value.reason, refused.value.code) == ("BATCH_TOO_MANY", "INVALID_ARGUMENT")
    heavy = [isthmus.track("Seen", user_id=user, properties={"text": "x" * 900_000}) for _ in range(6)]
    with pytest.raises(isthmus.TooLargeError) as refused:
        hub.ingest(heavy)
    assert refused.value.reason == "TOO_LARGE"
    with pytest.raises(isthmus.UsageError, match="nothing over"):
        hub.ingest([isthmus.track("Seen", user_id=user, properties={"text": "x" * 5_000_000})])
    with pytest.raises(isthmus.NotFoundError):
        hub.profiles.get(f"user_id:{user}")


def test_only_items_in_doubt_are_sent_again_under_the_same_ids(fake, fake_client):
    batches = []

    def answer(request, context):
        batches.append([item.event.message_id or item.json for item in request.items])
        unknown, accepted = wire.ItemResult(outcome=5), wire.ItemResult(outcome=1)
        if len(batches) == 1:
            refuse(context, "UNAVAILABLE", "NO_LEADER")
        if len(batches) == 2:
            results = [accepted, unknown, wire.ItemResult(outcome=4, retryable=True), wire.ItemResult(outcome=4)]
            return wire.IngestResponse(results=results, version="0000000000000009")
        return wire.IngestResponse(results=[accepted] * len(request.items), version="0000000000000003")

    fake.answers["Ingest"] = answer
    events = [isthmus.identify("1"), {"type": "identify", "userId": "2"}, isthmus.identify("3"), isthmus.identify("4")]
    done = fake_client.ingest(events)
    first = batches[0]
    assert batches == [first, first, first[1:3]]
    assert [result.outcome for result in done] == ["accepted", "accepted", "accepted", "rejected"]
    assert [result.index for result in done] == [0, 1, 2, 3]
    assert done.version == "0000000000000009"


@pytest.mark.parametrize("event", [None, "text", 5, b"{}", {"a": object()}, {"a": "\ud800"}, [1]])
def test_what_is_no_event_is_refused_before_anything_is_sent(fake, fake_client, event):
    fake.answers["Ingest"] = accept_all
    with pytest.raises(isthmus.UsageError):
        fake_client.ingest([isthmus.identify("1"), event])
    with pytest.raises(isthmus.UsageError, match="user_id has to be text"):
        fake_client.ingest([isthmus.identify(42)])
    assert fake.calls == []
