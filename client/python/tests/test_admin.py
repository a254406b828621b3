"""The rest of the hub: quarantine, schemas, rules, matching, quality, the cluster."""

import pytest

import isthmus
from cluster import until


def test_what_was_kept_is_mended_replayed_and_dropped(hub, user):
    origin = f"{user}.csv"
    bad = [isthmus.track("", user_id=user, origin=f"{origin}:{n}", message_id=f"{user}-{n}") for n in range(3)]
    hub.ingest(bad)
    kept = {entry.origin: entry for entry in hub.quarantine.list(reason="EVENT_NAME_MISSING", page_size=2)}
    one, two, three = (kept[f"{origin}:{n}"].id for n in range(3))
    assert hub.quarantine.mend(one, {"userId": user}).outcome == "still_quarantined"
    mended = hub.quarantine.mend(one, {"event": "Order Completed"}, by="me")
    assert (mended.outcome, mended.resolution.kind, mended.resolution.message_id) == ("resolved", "mended", f"{user}-0")
    assert hub.quarantine.mend(one, {"event": "Order Completed"}).outcome == "already_resolved"
    whole = {"type": "track", "event": "Order Completed", "userId": user, "messageId": f"{user}-1"}
    assert hub.quarantine.mend(two, replacement=whole).outcome == "resolved"
    assert [result.outcome for result in hub.quarantine.replay([one, three])] == [
        "already_resolved",
        "still_quarantined",
    ]
    assert [result.outcome for result in hub.quarantine.drop([three, "0" * 32], "a test")] == ["resolved", "not_found"]
    assert hub.quarantine.show(three).resolution.note == "a test"
    assert one not in [entry.id for entry in hub.quarantine.list()]
    assert one in [entry.id for entry in hub.quarantine.list(resolved=True)]
    assert hub.profiles.get(f"user_id:{user}").event_counts == {"Order Completed": 2}
    counts = {(row.source, row.reason): row.resolved for row in hub.quarantine.counts()}
    assert counts["default", "EVENT_NAME_MISSING"] >= 3
    with pytest.raises(isthmus.NotFoundError):
        hub.quarantine.show("0" * 32)
    for call in (
        lambda: hub.quarantine.mend(one),
        lambda: hub.quarantine.replay(one),
        lambda: hub.quarantine.drop(one, ""),
    ):
        with pytest.raises(isthmus.UsageError):
            call()


def test_a_schema_is_put_checked_and_holds(hub, user):
    name = f"track:Order {user}"
    schema = {"required": ["revenue"], "properties": {"quantity": {"type": "integer", "minimum": 1}}}
    put = hub.schemas.put(name, schema, policy="reject")
    assert (put.version, put.changed) == (1, True)
    assert hub.schemas.put(name, schema).changed is False
    got = hub.schemas.get(name)
    assert (got.schema, got.policy, got.compatibility, got.version) == (schema, "reject", "backward", 1)
    assert name in [one.name for one in hub.schemas.list()]
    check = hub.schemas.check(name, {"required": ["revenue", "quantity"]})
    assert (check.valid, check.compatible, [problem.at for problem in check.problems]) == (True, False, ["/required"])
    with pytest.raises(isthmus.IncompatibleSchemaError) as refused:
        hub.schemas.put(name, {"required": ["revenue", "quantity"]})
    assert refused.value.fields
    with pytest.raises(isthmus.InvalidSchemaError):
        hub.schemas.put(name, {"type": 5})
    with pytest.raises(isthmus.ConflictError):
        hub.schemas.put(name, {}, based_on_version=7)
    with pytest.raises(isthmus.UsageError, match="none of reject"):
        hub.schemas.put(name, {}, policy="burn")
    with pytest.raises(isthmus.NotFoundError):
        hub.schemas.get(name, 9)
    bad = {"revenue": 1, "quantity": 0}
    until(
        "the schema is known everywhere",
        lambda: (
            [hub.ingest([isthmus.track(name[6:], user_id=user, properties=bad)])[0].outcome for _ in range(3)]
            == ["rejected"] * 3
        ),
    )
    with pytest.raises(isthmus.ItemsRejectedError, match="SCHEMA_VIOLATION"), hub.writer() as writer:
        writer.send(isthmus.track(name[6:], user_id=user, properties=bad))


def test_rules_are_read_and_put(hub):
    put = hub.schemas.put_rules({"traits": {"phone": [{"rule": "phone", "region": "DE"}]}})
    read = hub.schemas.rules()
    assert (read.version, read.rules["traits"]["phone"][0]["region"]) == (put.version, "DE")
    with pytest.raises(isthmus.InvalidRulesError):
        hub.schemas.put_rules({"traits": {"phone": ["no such rule"]}})
    with pytest.raises(isthmus.ConflictError):
        hub.schemas.put_rules({"version": 99})
    rules = hub.identity.rules().rules
    put = hub.identity.put_rules({**rules, "other_limit": 21})
    assert put.changed
    until("the rules are everywhere", lambda: hub.identity.rules_status().done)
    status = hub.identity.rules_status()
    assert (status.version, len(status.shards)) == (put.version, 4)
    assert hub.identity.rules(put.version).rules["other_limit"] == 21


def test_records_of_one_person_are_found_and_decided(hub, user):
    people = [
        {"surname": f"Brown{n}{user}", "given_name": f"Ann{n}", "date_of_birth": f"19{50 + n}-03-{n % 27 + 1:02}"}
        for n in range(20)
    ]
    hub.ingest([isthmus.identify(f"{user}-{n}-{copy}", who) for n, who in enumerate(people) for copy in "ab"])
    assert hub.identity.match().model_version >= 1
    status = hub.identity.wait()
    assert (status.done, status.profiles >= 40) == (True, True)

    def mine(pairs):
        return {frozenset((pair.a[0].value, pair.b[0].value)): pair for pair in pairs if user in pair.a[0].value}

    found = mine(hub.identity.pairs(page_size=3, min_score=0.5))
    expected = {frozenset((f"{user}-{n}-a", f"{user}-{n}-b")) for n in range(20)}
    assert expected <= found.keys()
    assert all(0.5 <= pair.score <= 1 and pair.decision == "open" for pair in found.values())
    scores = [pair.score for pair in hub.identity.candidates(limit=5)]
    assert (len(scores), scores) == (5, sorted(scores, reverse=True))
    accepted = hub.identity.accept(f"user_id:{user}-0-a", f"user_id:{user}-0-b", by="me", note="sure")
    assert (accepted.changed, accepted.pair.decision, accepted.pair.decided_by) == (True, "accepted", "me")
    assert hub.identity.accept(f"user_id:{user}-0-a", f"user_id:{user}-0-b").changed is False
    refused = hub.identity.refuse(f"user_id:{user}-1-a", f"user_id:{user}-1-b")
    assert refused.pair.decision == "refused"
    assert frozenset((f"{user}-1-a", f"{user}-1-b")) in mine(hub.identity.pairs(only="refused"))
    with pytest.raises(isthmus.NotFoundError):
        hub.identity.accept(f"user_id:{user}-2-a", f"user_id:{user}-3-b")
    with pytest.raises(isthmus.InvalidRequestError):
        hub.identity.match({"no_such": 1})


def test_quality_and_cluster_are_told(hub, user):
    hub.ingest([isthmus.identify(user, {"email": f"{user}@example.org"})])
    report = hub.quality.report(source="default")
    emails = {row.trait: row for row in report.traits}["email"]
    assert emails.values >= 1
    assert 0 < emails.completeness <= 1
    assert report.traits.to_pandas().shape[0] == len(report.to_dict()["traits"])
    assert "<table" in report._repr_html_()
    with pytest.raises(isthmus.SourceNotFoundError):
        hub.quality.report(source="no-such")
    status = hub.cluster.status()
    assert (status.nodes, status.shards, status.replicas, status.problems) == (3, 4, 3, ())
    assert [node.state for node in hub.cluster.nodes()] == ["active"] * 3
    shards = hub.cluster.shards()
    assert len(shards) == 12
    assert {replica.role for replica in shards} == {"leader", "follower"}
    follower = next(replica for replica in shards if replica.role == "follower")
    assert hub.cluster.transfer(follower.shard, follower.node) == follower.node
    with pytest.raises(isthmus.QuorumAtRiskError):
        hub.cluster.remove(3)
