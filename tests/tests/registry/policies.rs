//! What becomes of events that break their schema, or have none: taken with a note, kept and mended, refused.

use isthmus_proto::v1::{
    ItemOutcome, ItemResult, TimelineRequest, profile_service_client::ProfileServiceClient,
};
use isthmus_tests::ask;
use serde_json::{Value, json};

use crate::{World, order, start};

impl World {
    /// The answer to one event, sent to the first node.
    async fn one(&self, event: &str) -> ItemResult {
        ask::send(&self.cluster.channel(0), vec![ask::json(event)]).await.unwrap().results.remove(0)
    }

    /// How many orders a customer has.
    async fn orders(&self, user: &str) -> u64 {
        match ask::profile(&self.cluster.channel(0), "user_id", user).await {
            Ok(profile) => profile.event_counts.get("Order Completed").copied().unwrap_or(0),
            Err(_) => 0,
        }
    }

    /// The notes on a customer's newest event.
    async fn notes(&self, user: &str) -> Vec<String> {
        let request = TimelineRequest { key: ask::key("user_id", user), ..Default::default() };
        let mut client = ProfileServiceClient::new(self.cluster.channel(0));
        client.timeline(request).await.unwrap().into_inner().events.remove(0).notes
    }

    /// Puts the schema of orders by a node of whose view the next calls are.
    fn put_order_schema(&self, schema: &Value, more: &[&str]) -> Value {
        let file = self.schema(schema);
        let all: Vec<&str> = ["schema", "put", &file, "--name", "track:Order Completed"]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        let put = self.run(&all);
        assert_eq!(put.code, 0, "{}", put.err);
        put.last()
    }

    fn put_unknown_events(&self, policy: &str) {
        let file = self.file("rules.json", &json!({ "unknown_events": policy }).to_string());
        let put = self.run(&["schema", "rules", "put", &file]);
        assert_eq!(put.code, 0, "{}", put.err);
    }
}

fn named(event: &str, user: &str, message_id: &str) -> String {
    json!({"type": "track", "event": event, "userId": user, "messageId": message_id}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_schema_is_kept_until_a_mend_keeps_to_it_and_goes_in_once() {
    let world = start(tempfile::tempdir().unwrap(), 1).await;
    let text_or_number = json!({"type": ["number", "string"]});
    let schema = |quantity: &Value| json!({"required": ["quantity"], "properties": {"quantity": quantity}});
    world.put_order_schema(&schema(&json!({"type": "number", "minimum": 0})), &[]);

    // Kept, with what was sent and where it breaks the schema; nothing of it counts.
    let sent = order(1, r#"{"quantity":"ten"}"#);
    let kept = world.one(&sent).await;
    assert_eq!((kept.outcome(), kept.reason.as_str()), (ItemOutcome::Quarantined, "SCHEMA_VIOLATION"));
    assert!(
        kept.message.contains("/properties/quantity") && !kept.message.contains("ten"),
        "{}",
        kept.message
    );
    let listed = world.run(&["quarantine", "list", "--reason", "SCHEMA_VIOLATION"]).objects();
    let [entry] = listed.as_slice() else { panic!("{listed:?}") };
    let id = entry["id"].as_str().unwrap();
    let open = || {
        let shown = world.run(&["quarantine", "show", id]).last();
        assert_eq!(shown["content"].as_str().unwrap(), sent, "what was sent");
        shown["resolution"].is_null()
    };
    assert!(open());
    assert_eq!(world.orders("q1").await, 0);

    // A mend that still breaks it, in one way and in another, is told where; so is a replay.
    for (patch, place) in [
        (r#"{"properties":{"quantity":-1}}"#, "/properties/quantity"),
        (r#"{"properties":{"quantity":null}}"#, "/properties"),
    ] {
        let still = world.run(&["quarantine", "mend", id, "--patch", patch]);
        let told = still.last();
        assert_eq!((still.code, &told["outcome"]), (1, &json!("still_quarantined")), "{}", still.err);
        assert_eq!((&told["reason"], &told["field"]), (&json!("SCHEMA_VIOLATION"), &json!(place)));
        assert!(told["message"].as_str().unwrap().contains("version 1"), "{told}");
    }
    let still = world.run(&["quarantine", "replay", id]);
    assert_eq!((still.code, &still.last()["reason"]), (3, &json!("SCHEMA_VIOLATION")));
    assert!(open());
    assert_eq!(world.orders("q1").await, 0);

    // One that keeps to it goes in, once, under its own message id.
    for outcome in ["resolved", "already_resolved"] {
        let mended = world.run(&["quarantine", "mend", id, "--patch", r#"{"properties":{"quantity":10}}"#]);
        assert_eq!((mended.code, &mended.last()["outcome"]), (0, &json!(outcome)), "{}", mended.err);
        assert_eq!(mended.last()["resolution"]["message_id"], "o-1");
        assert_eq!(world.orders("q1").await, 1);
    }
    assert_eq!(world.run(&["quarantine", "replay", id]).last()["outcome"], "already_resolved");
    assert!(!open());
    // Sent again as it was, it is the same entry.
    assert_eq!(world.one(&sent).await.outcome(), ItemOutcome::Quarantined);
    assert_eq!(world.run(&["quarantine", "list"]).objects().len(), 0);

    // What waits for another schema is replayed when that is in force: all of it, once.
    for n in 2..=4 {
        let answer = world.one(&order(n, r#"{"quantity":"12.50"}"#)).await;
        assert_eq!(answer.outcome(), ItemOutcome::Quarantined);
    }
    assert_eq!(world.put_order_schema(&schema(&text_or_number), &[])["version"], 2);
    let replayed = world.run(&["quarantine", "replay", "--reason", "SCHEMA_VIOLATION"]);
    let outcomes: Vec<_> = replayed.objects().iter().map(|object| object["outcome"].clone()).collect();
    assert_eq!((replayed.code, outcomes), (0, vec![json!("resolved"); 3]), "{}", replayed.err);
    assert_eq!(world.run(&["quarantine", "replay", "--all"]).objects().len(), 0, "nothing is left");
    for user in ["q2", "q3", "q4"] {
        assert_eq!(world.orders(user).await, 1);
    }
    let counts = world.run(&["quarantine", "counts"]).last();
    assert_eq!((&counts["open"], &counts["resolved"]), (&json!(0), &json!(4)), "{counts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_does_what_it_says() {
    let world = start(tempfile::tempdir().unwrap(), 1).await;
    let schema = json!({"properties": {"quantity": {"type": "number"}}});

    // Without schemas and rules every event is taken as it is.
    assert_eq!(world.one(&named("Never Heard Of", "u1", "m-1")).await.outcome(), ItemOutcome::Accepted);
    assert_eq!(world.notes("u1").await, [""; 0]);

    // Flag: taken, with a note that says what is wrong; not kept.
    assert_eq!(world.put_order_schema(&schema, &["--policy", "flag"])["policy"], "flag");
    let flagged = world.one(&order(1, r#"{"quantity":"ten"}"#)).await;
    assert_eq!((flagged.outcome(), flagged.reason.as_str()), (ItemOutcome::Accepted, ""));
    let [note] = &world.notes("q1").await[..] else { panic!("not one note") };
    assert!(note.starts_with("SCHEMA_VIOLATED /properties/quantity {"), "{note}");
    assert!(note.contains(r#""schema":"track:Order Completed","version":1"#), "{note}");
    assert_eq!(world.orders("q1").await, 1);
    assert_eq!(world.one(&order(2, r#"{"quantity":10}"#)).await.outcome(), ItemOutcome::Accepted);
    assert_eq!(world.notes("q2").await, [""; 0], "nothing is wrong with this one");

    // Reject: refused with the place, and kept nowhere; the CLI says so, and ends with 3.
    world.put_order_schema(&schema, &["--policy", "reject"]);
    let refused = world.one(&order(3, r#"{"quantity":"ten"}"#)).await;
    assert_eq!((refused.outcome(), refused.reason.as_str()), (ItemOutcome::Rejected, "SCHEMA_VIOLATION"));
    assert!(!refused.retryable && refused.message.contains("/properties/quantity"), "{}", refused.message);
    let file = world.file("orders.jsonl", &format!("{}\n", order(4, r#"{"quantity":"ten"}"#)));
    let ingested = world.run(&["ingest", &file]);
    assert_eq!((ingested.code, &ingested.last()["rejected"]), (3, &json!(1)), "{}", ingested.err);
    assert!(
        ingested.err.contains("orders.jsonl:1") && ingested.err.contains("SCHEMA_VIOLATION"),
        "{}",
        ingested.err
    );
    assert_eq!(world.run(&["quarantine", "list", "--all"]).objects().len(), 0);
    assert_eq!(world.orders("q3").await + world.orders("q4").await, 0);

    // Events without a schema: as the rules say, and only those that have names.
    for (policy, outcome, reason) in [
        ("flag", ItemOutcome::Accepted, ""),
        ("quarantine", ItemOutcome::Quarantined, "EVENT_UNKNOWN"),
        ("reject", ItemOutcome::Rejected, "EVENT_UNKNOWN"),
        ("accept", ItemOutcome::Accepted, ""),
    ] {
        world.put_unknown_events(policy);
        let user = format!("unknown-{policy}");
        let answer = world.one(&named("Never Heard Of", &user, &format!("m-{policy}"))).await;
        assert_eq!(
            (answer.outcome(), answer.reason.as_str()),
            (outcome, reason),
            "{policy}: {}",
            answer.message
        );
        if outcome == ItemOutcome::Accepted {
            let notes = if policy == "flag" { vec!["EVENT_UNKNOWN event"] } else { vec![] };
            assert_eq!(world.notes(&user).await, notes, "{policy}");
        }
        let page = format!(r#"{{"type":"page","userId":"{user}","messageId":"p-{policy}"}}"#);
        assert_eq!(world.one(&page).await.outcome(), ItemOutcome::Accepted, "{policy}");
    }
    let listed = world.run(&["quarantine", "list"]).objects();
    assert_eq!(listed.len(), 1, "{listed:?}");
    // One was kept; under rules that take it, it goes in.
    let replayed = world.run(&["quarantine", "replay", "--all"]);
    assert_eq!((replayed.code, &replayed.last()["outcome"]), (0, &json!("resolved")), "{}", replayed.err);
}
