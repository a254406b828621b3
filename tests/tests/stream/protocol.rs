//! What a stream takes, tells and keeps in order, message by message.

use isthmus_proto::v1::{ItemOutcome, ItemResult, value::Kind};
use isthmus_tests::ask;
use serde_json::json;
use tonic::Code;

use super::{
    folder, one_node,
    raw::{Raw, opening},
};

fn outcomes(results: &[ItemResult]) -> Vec<ItemOutcome> {
    results.iter().map(ItemResult::outcome).collect()
}

fn seen(message: &str) -> isthmus_proto::v1::IngestItem {
    ask::json(ask::seen("ann", message))
}

#[tokio::test(flavor = "multi_thread")]
async fn items_are_acknowledged_in_order_and_what_comes_again_is_a_duplicate() {
    use ItemOutcome::{Accepted, Duplicate, Quarantined};
    let folder = folder();
    let cluster = one_node(folder.path(), &[]).await;
    let node = cluster.channel(0);
    let (mut stream, first) = Raw::open(&node, opening("a")).await;
    assert_eq!((first.acknowledged, first.sequence_max, first.bytes_max), (0, 4_096, 2 << 20));
    assert_eq!((first.item_bytes_max, first.version.as_str()), (1 << 20, ""));
    stream.send(1, vec![seen("1"), ask::json("{"), seen("1")]);
    stream.send(4, vec![]);
    stream.send(4, vec![seen("2")]);
    let told = stream.acknowledged(4).await;
    assert_eq!(outcomes(&told.results), [Accepted, Quarantined, Duplicate, Accepted]);
    assert_eq!((told.results[0].message_id.as_str(), told.results[1].reason.as_str()), ("1", "MALFORMED"));
    assert_eq!((told.sequence_max, told.version.len()), (4_100, 16));
    assert!(told.received_until.is_some() && told.bytes_max > first.bytes_max);
    stream.done();
    assert_eq!(stream.end().await, (0, Code::Ok, String::new()));
    // The answer to the last two got lost: they come again, and two more.
    let open = isthmus_proto::v1::IngestStreamOpen { first_sequence: 3, ..opening("a") };
    let (mut stream, first) = Raw::open(&node, open).await;
    assert_eq!((first.acknowledged, first.sequence_max), (2, 4_098));
    stream.send(3, vec![seen("1"), seen("2"), seen("3"), seen("4")]);
    stream.done();
    let told = stream.acknowledged(6).await;
    assert_eq!(outcomes(&told.results), [Duplicate, Duplicate, Accepted, Accepted]);
    assert_eq!(stream.end().await, (0, Code::Ok, String::new()));
    assert_eq!(ask::profile(&node, "user_id", "ann").await.unwrap().event_counts["Seen"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_without_a_message_id_is_the_same_event_when_it_comes_again() {
    let folder = folder();
    let cluster = one_node(folder.path(), &[]).await;
    let node = cluster.channel(0);
    let bare = || ask::json(r#"{"type":"track","event":"Seen","userId":"ann"}"#);
    for (id, outcome) in [
        ("once", [ItemOutcome::Accepted; 2]),
        ("once", [ItemOutcome::Duplicate; 2]),
        ("twice", [ItemOutcome::Accepted; 2]),
    ] {
        let (mut stream, _) = Raw::open(&node, opening(id)).await;
        stream.send(1, vec![bare(), bare()]);
        let told = stream.acknowledged(2).await;
        assert_eq!(outcomes(&told.results), outcome, "{id}");
        assert_eq!(told.results[1].message_id, format!("{id}-2"));
    }
    assert_eq!(ask::profile(&node, "user_id", "ann").await.unwrap().event_counts["Seen"], 4);
}

/// Without times of their own, items are in order by their times of receipt: over the identifiers of one customer, within
/// a message, and over streams that take each other's place.
#[tokio::test(flavor = "multi_thread")]
async fn items_that_say_no_time_are_in_the_order_of_their_sequences() {
    const ITEMS: u64 = 600;
    let folder = folder();
    let cluster = one_node(folder.path(), &[]).await;
    let node = cluster.channel(0);
    let item = |sequence: u64| {
        let who = match sequence % 3 {
            0 => json!({"userId": "ann"}),
            1 => json!({"anonymousId": "cookie"}),
            _ => json!({"userId": "ann", "anonymousId": "cookie"}),
        };
        // Message ids decide between equal times: here against the order.
        let id = format!("{:05}", 99_999 - sequence);
        let mut event =
            json!({"type": "identify", "messageId": id, "traits": {"step": sequence, "odd": sequence % 2}});
        event.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
        ask::json(event.to_string())
    };
    let (mut open, mut next) = (opening("order"), 1);
    while next <= ITEMS {
        let (mut stream, _) = Raw::open(&node, open.clone()).await;
        let to = next + 199;
        stream.send(next, (next..=to).map(item).collect());
        let told = stream.acknowledged(to).await;
        (open.first_sequence, open.received_until) = (to + 1, told.received_until);
        next = to + 1;
        let profile = ask::profile(&node, "user_id", "ann").await.unwrap();
        assert_eq!(profile.traits["step"].kind, Some(Kind::IntValue(i64::try_from(to).unwrap())));
    }
}
