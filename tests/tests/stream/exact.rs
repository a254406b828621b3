//! The writer over kills: each event once, in order.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::{TryStreamExt as _, future::join_all};
use isthmus_client::{
    Client, Flushed, WatchOptions,
    key::ProfileKey,
    proto::{Change, TimelineRequest, WatchFrom, WatchRequest, change::What, value::Kind},
};
use isthmus_tests::{
    cluster::{Cluster, PATIENCE},
    look,
};
use serde_json::json;

use super::{folder, options};

const WRITERS: u64 = 4;
/// Events of each writer.
const EVENTS: u64 = 6_000;
const PROFILES: u64 = 7;
const KILLS: u64 = 5;

/// Writer and number, from a message id.
fn of_id(id: &str) -> (u64, u64) {
    let (writer, number) = id.strip_prefix('w').unwrap().split_once('-').unwrap();
    (writer.parse().unwrap(), number.parse().unwrap())
}

/// Every third event says how far the writer has come with this customer; none says when it happened.
fn event(writer: u64, number: u64) -> serde_json::Value {
    let (user, id) = (format!("u{}", number % PROFILES), format!("w{writer}-{number}"));
    match number % 3 {
        0 => {
            json!({"type": "identify", "userId": user, "messageId": id, "traits": {(format!("w{writer}")): number}})
        }
        _ => json!({"type": "track", "event": "Seen", "userId": user, "messageId": id}),
    }
}

async fn write(client: Client, writer: u64, taken: Arc<AtomicU64>) -> Flushed {
    let sender = client.writer().batch_items(100).window_items(1_000).start().unwrap();
    for number in 0..EVENTS {
        sender.send(event(writer, number)).await.unwrap();
        taken.fetch_add(1, Relaxed);
    }
    sender.close().await.unwrap()
}

/// Waits until the writers have got so far.
async fn reached(taken: &AtomicU64, count: u64) {
    let until = Instant::now() + PATIENCE;
    while taken.load(Relaxed) < count {
        assert!(Instant::now() < until, "the writers don't go on: {}", taken.load(Relaxed));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_writers_over_kills_lose_nothing_double_nothing_and_keep_each_customers_order() {
    let folder = folder();
    let mut cluster = Cluster::start(options(folder.path(), 3)).await;
    let endpoints: Vec<String> = cluster.nodes.iter().map(|node| node.grpc.to_string()).collect();
    let client = Client::builder().endpoints(&endpoints).connect_lazy().unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(client.clone(), writer, taken.clone()))).collect();
    for kill in 0..KILLS {
        reached(&taken, (kill + 1) * WRITERS * EVENTS / (KILLS + 1)).await;
        // By turns the node that leads most, and one after the other, so that each stream's node goes, too.
        let victim = if kill % 2 == 0 { cluster.busiest().await } else { kill as usize % 3 };
        cluster.kill(victim);
        cluster.serving().await;
        cluster.launch(victim);
        cluster.healthy().await;
    }
    let flushed: Vec<Flushed> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
    for Flushed { counts, problems, .. } in &flushed {
        assert_eq!((counts.accepted + counts.duplicate, problems.len()), (EVENTS, 0), "{counts:?}");
    }
    let client = client.with_deadline(PATIENCE);
    profiles(&client).await;
    let mut timelines = 0;
    for profile in 0..PROFILES {
        timelines += timeline(&client, profile).await;
    }
    assert_eq!(timelines, WRITERS * EVENTS);
    applied_in_order(&client).await;
    look::replicas_agree(cluster.channel(0), 3).await;
}

/// Each customer's counters and traits.
async fn profiles(client: &Client) {
    let (mut tracked, mut identified) = (0, 0);
    for profile in 0..PROFILES {
        let key: ProfileKey = format!("user_id:u{profile}").parse().unwrap();
        let found = client.profile(key).await.unwrap();
        tracked += found.event_counts["Seen"];
        identified += found.type_counts["identify"];
        let last = (0..EVENTS).rev().find(|number| number % 3 == 0 && number % PROFILES == profile).unwrap();
        for writer in 0..WRITERS {
            let value = found.traits[&format!("w{writer}")].kind.clone();
            assert_eq!(value, Some(Kind::IntValue(i64::try_from(last).unwrap())), "u{profile} of w{writer}");
        }
    }
    let of_all = |fits: fn(u64) -> bool| WRITERS * (0..EVENTS).filter(|number| fits(*number)).count() as u64;
    assert_eq!(tracked, of_all(|number| number % 3 != 0));
    assert_eq!(identified, of_all(|number| number % 3 == 0));
}

/// A customer's timeline: each writer's events once, in order; how many there are.
async fn timeline(client: &Client, profile: u64) -> u64 {
    let key: ProfileKey = format!("user_id:u{profile}").parse().unwrap();
    let request = TimelineRequest { key: Some(key.into()), ..TimelineRequest::default() };
    let events: Vec<_> = client.timeline_pages(request, None).into_stream().try_collect().await.unwrap();
    let mut next: BTreeMap<u64, u64> = (0..WRITERS).map(|writer| (writer, profile)).collect();
    // Newest first.
    for event in events.iter().rev() {
        let (writer, number) = of_id(&event.message_id);
        let expected = next.get_mut(&writer).unwrap();
        assert_eq!(number, *expected, "of writer {writer} in the timeline of u{profile}");
        *expected += PROFILES;
    }
    events.len() as u64
}

/// The change feed tells in which order events were applied.
async fn applied_in_order(client: &Client) {
    let request = WatchRequest { start: WatchFrom::Beginning.into(), ..WatchRequest::default() };
    let mut changes = client.watch_with(request, WatchOptions::new().patience(PATIENCE));
    let mut next: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut found = 0;
    while found < WRITERS * EVENTS {
        let response = changes.try_next().await.unwrap().unwrap();
        for Change { what, .. } in response.changes {
            let Some(What::Event(event)) = what else { continue };
            let (writer, number) = of_id(&event.message_id);
            let expected = next.entry((writer, number % PROFILES)).or_insert(number % PROFILES);
            assert_eq!(number, *expected, "of writer {writer} in the feed");
            *expected += PROFILES;
            found += 1;
        }
    }
}
