//! Items that are kept in quarantine: each in the middle of a good batch, and afterwards found with its reason and
//! exactly what was sent.

use isthmus_proto::v1::{
    Event, EventType, IngestItem, ItemOutcome, ItemResult, QuarantineServiceListRequest, Value,
    ingest_item::Body, value::Kind,
};
use isthmus_tests::ask;
use prost::Message as _;
use tonic::transport::Channel;

use isthmus_tests::bad_input::Checked;

/// Stands in every value that could be personal, and must not stand in any answer.
const CANARY: &str = "canary";

/// Sends an item between two good ones and checks that it alone went to quarantine, and can be found there.
pub async fn quarantined(channel: &Channel, input: &str, item: IngestItem, reason: &str) {
    let origin = format!("{}.jsonl:2", input.replace(' ', "-"));
    let item = IngestItem { origin: origin.clone(), ..item };
    let result = refused(channel, input, item.clone(), reason).await;
    let list = QuarantineServiceListRequest { reason: reason.to_owned(), limit: 1_000, ..Default::default() };
    let entries = ask::quarantined(channel, list).await;
    let kept: Vec<_> = entries.iter().filter(|entry| entry.origin == origin).collect();
    assert_eq!(kept.len(), 1, "it is not in quarantine, or more than once: {entries:?}");
    let entry = ask::shown(channel, &kept[0].id).await;
    assert_eq!((entry.reason.as_str(), entry.source.as_str()), (reason, "default"));
    assert!(entry.received_at.is_some() && entry.message == result.message);
    match item.body {
        Some(Body::Json(sent)) => {
            assert_eq!(entry.content_type, "application/json");
            assert_eq!(entry.content, sent, "what was sent is kept unchanged");
        }
        // NaN isn't equal to itself, so bytes are compared.
        Some(Body::Event(sent)) => {
            assert_eq!(entry.content, sent.encode_to_vec(), "what was sent is kept unchanged")
        }
        other => panic!("{other:?}"),
    }
}

/// Sends an item between two good ones; the result of the one that is refused.
async fn refused(channel: &Channel, input: &str, item: IngestItem, reason: &str) -> ItemResult {
    let good = |number: u8| ask::json(ask::seen(&format!("good {input}"), &format!("good-{number} {input}")));
    let mut results = ask::send(channel, vec![good(1), item, good(2)]).await.unwrap().results;
    for good in [0, 2] {
        assert_eq!(results[good].outcome(), ItemOutcome::Accepted);
    }
    let result = results.remove(1);
    assert_eq!(result.outcome(), ItemOutcome::Quarantined, "{result:?}");
    assert_eq!(result.reason, reason, "{}", result.message);
    assert!(result.message.len() > 10 && !result.message.contains(CANARY), "{}", result.message);
    assert!(!result.retryable, "sending the same again can't help");
    result
}

/// The first event under a message id counts; the second is kept as it was understood, since what tells them apart is
/// known only where they are stored.
async fn conflicting(channel: &Channel, input: &str) {
    ask::accepted(channel, vec![track(r#""messageId":"m-1","properties":{"n":1}"#)]).await;
    let second = track(r#""messageId":"m-1","properties":{"n":2}"#);
    for _ in 0..2 {
        let result = ask::send(channel, vec![second.clone()]).await.unwrap().results.remove(0);
        assert_eq!(
            (result.outcome(), result.reason.as_str()),
            (ItemOutcome::Quarantined, "MESSAGE_ID_CONFLICT")
        );
    }
    refused(channel, input, second, "MESSAGE_ID_CONFLICT").await;
    let profile = ask::profile(channel, "user_id", CANARY).await.unwrap();
    assert_eq!(profile.event_counts["Seen"], 1, "the first one counts, and it alone");
    let list =
        QuarantineServiceListRequest { reason: "MESSAGE_ID_CONFLICT".to_owned(), ..Default::default() };
    let entries = ask::quarantined(channel, list).await;
    assert_eq!((entries.len(), entries[0].message_id.as_str()), (1, "m-1"), "{entries:?}");
    let entry = ask::shown(channel, &entries[0].id).await;
    let kept: serde_json::Value = serde_json::from_slice(&entry.content).unwrap();
    assert_eq!((&kept["properties"]["n"], &kept["userId"]), (&2.into(), &CANARY.into()), "{kept}");
}

/// A track event with one more field.
fn track(field: &str) -> IngestItem {
    ask::json(format!(r#"{{"type":"track","event":"Seen","userId":"{CANARY}",{field}}}"#))
}

/// A track event with this instead of a `userId`.
fn by(field: &str) -> IngestItem {
    ask::json(format!(r#"{{"type":"track","event":"Seen",{field}}}"#))
}

fn typed(number: f64) -> IngestItem {
    let event = Event {
        r#type: EventType::Track.into(),
        name: "Seen".into(),
        user_id: CANARY.into(),
        properties: [("n".to_owned(), Value { kind: Some(Kind::DoubleValue(number)) })].into(),
        ..Event::default()
    };
    IngestItem { body: Some(Body::Event(event)), origin: String::new() }
}

pub async fn check(channel: &Channel, input: &str) -> Checked {
    let (item, reason) = match input {
        "event over 32 KB" => {
            (track(&format!(r#""properties":{{"p":"{}"}}"#, "x".repeat(32 * 1024))), "EVENT_TOO_LARGE")
        }
        "no identifier" => (by(r#""properties":{}"#), "NO_IDENTIFIER"),
        "blank id" => (by(r#""userId":" \t""#), "IDENTIFIER_BLANK"),
        "over-long id" => (by(&format!(r#""userId":"{}""#, "x".repeat(257))), "IDENTIFIER_TOO_LONG"),
        "control characters in an id" => (by(r#""userId":"canary\u0007""#), "IDENTIFIER_FORBIDDEN_CHARACTER"),
        "NUL in an id" => (by(r#""anonymousId":"canary\u0000""#), "IDENTIFIER_FORBIDDEN_CHARACTER"),
        "bidi characters in an id" => (by(r#""userId":"canary\u202e""#), "IDENTIFIER_FORBIDDEN_CHARACTER"),
        "missing event name" => (ask::json(r#"{"type":"track","userId":"canary"}"#), "EVENT_NAME_MISSING"),
        "unknown type" => (ask::json(r#"{"type":"canary","userId":"u"}"#), "TYPE_UNKNOWN"),
        "schema violation" => {
            return Checked::ProvedBy(
                "registry: what_breaks_a_schema_is_kept_until_a_mend_keeps_to_it_and_goes_in_once",
            );
        }
        "NaN" => (typed(f64::NAN), "NOT_FINITE"),
        "infinity" => (typed(f64::INFINITY), "NOT_FINITE"),
        "integer beyond 64 bits" => {
            (track(r#""properties":{"n":18446744073709551616}"#), "INTEGER_TOO_LARGE")
        }
        "duplicate JSON key" => (track(r#""userId":"another""#), "DUPLICATE_KEY"),
        "unparsable time" => (track(r#""timestamp":"canary""#), "TIMESTAMP_INVALID"),
        "more than 24 h in the future" => {
            (track(r#""timestamp":"2999-01-01T00:00:00Z""#), "TIMESTAMP_IN_FUTURE")
        }
        "before 1970" => (track(r#""timestamp":"1969-12-31T23:59:59Z""#), "TIMESTAMP_BEFORE_1970"),
        "message id over 100 characters" => {
            (track(&format!(r#""messageId":"{}""#, "m".repeat(101))), "MESSAGE_ID_TOO_LONG")
        }
        "same message id with another body" => {
            conflicting(channel, input).await;
            return Checked::Held;
        }
        other => panic!("no case for {other}"),
    };
    quarantined(channel, input, item, reason).await;
    Checked::Held
}
