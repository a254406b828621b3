//! The change feed of many shards as one stream, against scripted shards, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::{Node, Shared, Step, in_virtual_time, map, within};
use isthmus_domain::{FacetId, ShardMap, Slot, SlotRange};
use isthmus_proto::internal::v1::{FeedChange, FeedFilter};
use isthmus_router::{Error, FeedAnswer, FeedPosition, FeedReader, Topology};
use proptest::prelude::*;

/// Changes in random slots, two in each command.
fn changes(count: u64) -> Vec<FeedChange> {
    let change = |n: u64| {
        let facet = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64;
        FeedChange {
            facet: facet.to_be_bytes().to_vec().into(),
            stamp: 100 + n / 2,
            number: (n % 2) as u32,
            body: None,
        }
    };
    (0..count).map(change).collect()
}

fn slot(change: &FeedChange) -> Slot {
    FacetId::from_slice(&change.facet).unwrap().slot()
}

/// Hands ranges of slots to other shards.
fn moved(mut map: ShardMap, cuts: &[(u16, usize)]) -> ShardMap {
    for (start, to) in cuts {
        let range = SlotRange::new(*start, (start + 2_000).min(16_384)).unwrap();
        map.shards.iter_mut().for_each(|entry| entry.ranges.remove(range));
        let count = map.shards.len();
        map.shards[to % count].ranges.insert(range);
        map.version += 1;
    }
    map.validate().unwrap();
    map
}

async fn read(reader: &mut FeedReader, count: usize) -> Vec<FeedChange> {
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(reader.next().await.unwrap());
        // A shard that has nothing answers at once here, where a real one waits.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    found
}

fn by_slot(changes: &[FeedChange]) -> BTreeMap<Slot, Vec<(u64, u32)>> {
    let mut slots: BTreeMap<Slot, Vec<(u64, u32)>> = BTreeMap::new();
    for change in changes {
        slots.entry(slot(change)).or_default().push((change.stamp, change.number));
    }
    slots
}

fn trouble() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop::sample::select(vec![
        Step::Answer,
        Step::Answer,
        Step::NoLeader,
        Step::Unavailable,
        Step::NoReplica,
        Step::NotLeader(0),
        Step::Overloaded(20),
        Step::LostBefore,
        Step::Hang,
    ]);
    prop::collection::vec(prop::collection::vec(step, 0..12), 5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_changes_come_once_and_in_order_whoever_fails_and_whatever_moves(
        scripts in trouble(), cuts in prop::collection::vec((0..16_000_u16, 0..5_usize), 0..6), limit in 1..40_u32,
        cut in 0..300_usize, move_after_ms in 0..40_u64,
    ) {
        in_virtual_time(async {
            let all = changes(300);
            let (before, after) = (map(5, &[1]), moved(map(5, &[1]), &cuts));
            let world = Shared::new(before.clone());
            (world.lock().feed, world.lock().feed_floor) = (all.clone(), 50);
            let node = Node::alone(before, &world, scripts);
            // A shard that stays overloaded is told at once; whoever asks comes back.
            let stand = loop {
                match node.router.feed_stand(within(60_000)).await {
                    Ok(stand) => break stand,
                    Err(error) => assert!(matches!(error, Error::Overloaded { .. }), "{error}"),
                }
            };
            assert_eq!(stand.now.behind(&stand.beginning), None);
            let mut reader = node.router.feed(stand.beginning.clone(), FeedFilter::default(), limit);
            let mut found = read(&mut reader, cut).await;
            assert!(reader.position().behind(&stand.beginning).is_none());
            // Slots move, and this node hears of it later; another reader goes on from where this one was.
            world.lock().map = after.clone();
            let mut reader = node.router.feed(reader.position().clone(), FeedFilter::default(), limit);
            let news = async {
                tokio::time::sleep(Duration::from_millis(move_after_ms)).await;
                let news = Topology { version: 2, node: 1, shard_map: after, ..Topology::default() };
                node.topology.send_replace(Arc::new(news));
            };
            let missing = all.len() - found.len();
            let (more, ()) = tokio::join!(read(&mut reader, missing), news);
            found.extend(more);
            assert_eq!(found.len(), all.len(), "something came twice");
            assert_eq!(by_slot(&found), by_slot(&all));
            node.end().await;
        });
    }
}

#[test]
fn a_reader_that_is_not_asked_asks_nobody() {
    in_virtual_time(async {
        let world = Shared::new(map(8, &[1]));
        world.lock().feed = changes(2_000);
        let node = Node::alone(map(8, &[1]), &world, vec![]);
        let stand = node.router.feed_stand(within(1_000)).await.unwrap();
        let asked = world.lock().calls;
        let mut reader = node.router.feed(stand.beginning, FeedFilter::default(), 10);
        for pulled in 1..=50 {
            assert_eq!(reader.next().await.unwrap().len(), 10);
            // Whatever time goes by, there is one answer of each shard at most that was not taken.
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(world.lock().calls - asked <= 8 + pulled, "after {pulled}");
        }
        node.end().await;
    });
}

#[test]
fn a_part_that_takes_long_to_finish_holds_nobody_else_up_and_is_not_passed_over() {
    in_virtual_time(async {
        let world = Shared::new(map(4, &[1]));
        let all = changes(400);
        world.lock().feed = all.clone();
        let node = Node::alone(map(4, &[1]), &world, vec![]);
        let stand = node.router.feed_stand(within(1_000)).await.unwrap();
        // All that is in the first shard waits until the others are done.
        let slow = |change: &FeedChange| slot(change).number() < 4_096;
        let (gate, opened) = tokio::sync::watch::channel(false);
        let finish = move |part: FeedAnswer| {
            let mut opened = opened.clone();
            async move {
                if part.changes.iter().any(slow) {
                    opened.wait_for(|open| *open).await.unwrap();
                }
                part.changes
            }
        };
        let mut reader =
            node.router.feed_of(stand.beginning.clone(), FeedFilter::default(), (10, false), finish);
        let others = all.iter().filter(|change| !slow(change)).count();
        let mut found = read(&mut reader, others).await;
        assert!(!found.iter().any(slow));
        // Another reader that goes on from here gets what waits.
        let mut next = node.router.feed(reader.position().clone(), FeedFilter::default(), 10);
        assert_eq!(
            read(&mut next, all.len() - others).await.iter().filter(|it| slow(it)).count(),
            all.len() - others
        );
        gate.send(true).unwrap();
        found.extend(read(&mut reader, all.len() - others).await);
        assert_eq!(by_slot(&found), by_slot(&all));
        node.end().await;
    });
}

#[test]
fn what_is_not_kept_is_refused_and_what_stays_silent_is_told() {
    in_virtual_time(async {
        let world = Shared::new(map(2, &[1]));
        (world.lock().feed, world.lock().feed_floor) = (changes(10), 50);
        let node = Node::alone(map(2, &[1]), &world, vec![]);
        let old = FeedPosition::all(isthmus_shard::feed::Place::default());
        let mut reader = node.router.feed(old, FeedFilter::default(), 10);
        assert_eq!(reader.next().await, Err(Error::CursorTooOld));

        let stand = node.router.feed_stand(within(1_000)).await.unwrap();
        let mut reader = node.router.feed(stand.beginning, FeedFilter::default(), 10);
        node.local.remove(2);
        let begin = tokio::time::Instant::now();
        let error = loop {
            match reader.next().await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::Unavailable { shard: 2 });
        assert!(begin.elapsed() > Duration::from_secs(30), "the other shard goes on meanwhile");
        node.end().await;
    });
}
