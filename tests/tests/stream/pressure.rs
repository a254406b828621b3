//! A hub that is slow, or doesn't move at all: whoever sends waits, and nothing is lost.

use futures::poll;
use isthmus_client::Client;
use isthmus_tests::{ask, look};
use serde_json::json;

use super::{folder, one_node};

fn event(number: usize) -> serde_json::Value {
    json!({"type": "track", "event": "Seen", "userId": format!("u{}", number % 5), "messageId": format!("m{number}")})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_few_credits_takes_everything_in_its_time() {
    const EVENTS: usize = 2_000;
    let folder = folder();
    // Each would be refused if it overdrew.
    let cluster = one_node(folder.path(), &[("ISTHMUS_GRPC__INGEST_STREAM_ITEMS", "8")]).await;
    let client = Client::builder().endpoints([cluster.nodes[0].grpc.to_string()]).connect_lazy().unwrap();
    let writer = client.writer().window_items(50).start().unwrap();
    for number in 0..EVENTS {
        writer.send(event(number)).await.unwrap();
    }
    let counts = writer.close().await.unwrap().counts;
    assert_eq!((counts.accepted, counts.duplicate), (EVENTS as u64, 0), "one stream did it");
    assert_eq!(look::events_counted(cluster.channel(0)).await, EVENTS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_hub_does_not_move_the_writer_holds_no_more_than_its_window() {
    const WINDOW: usize = 300;
    let folder = folder();
    let cluster = one_node(folder.path(), &[]).await;
    let client = Client::builder().endpoints([cluster.nodes[0].grpc.to_string()]).connect_lazy().unwrap();
    let writer = client.writer().window_items(WINDOW).start().unwrap();
    let mut next = 0;
    for round in 0..3 {
        // Whatever was sent is acknowledged: the window is empty.
        writer.send(event(next)).await.unwrap();
        next += 1;
        assert!(writer.flush().await.unwrap().counts.accepted > 0, "round {round}");
        cluster.signal(0, "STOP");
        for _ in 0..WINDOW {
            writer.send(event(next)).await.unwrap();
            next += 1;
        }
        let mut waiting = Box::pin(writer.send(event(next)));
        next += 1;
        for _ in 0..100 {
            assert!(poll!(&mut waiting).is_pending(), "nobody can have made room");
            tokio::task::yield_now().await;
        }
        cluster.signal(0, "CONT");
        waiting.await.unwrap();
    }
    writer.close().await.unwrap();
    assert_eq!(look::events_counted(cluster.channel(0)).await, next as u64);
    assert_eq!(
        ask::profile(&cluster.channel(0), "user_id", "u0").await.unwrap().event_counts["Seen"],
        next.div_ceil(5) as u64
    );
}
