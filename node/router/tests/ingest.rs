//! Ingest against scripted shards, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Node, Shared, Step, in_virtual_time, is_bad, item, map, options, peer, record, within};
use futures::future::join_all;
use isthmus_domain::{ShardMap, SlotRange};
use isthmus_router::{Error, ItemResult, RouterOptions, Topology};
use proptest::prelude::*;
use tokio::time::Instant;

/// Everything that is answered in the end, and from which a retry leads to the same result.
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Answer),
        1 => prop::sample::select(vec![0, peer(1), peer(9)]).prop_map(Step::NotLeader),
        1 => Just(Step::NoLeader),
        1 => Just(Step::Unavailable),
        1 => Just(Step::NoReplica),
        1 => Just(Step::LostBefore),
        1 => Just(Step::LostAfter),
        1 => Just(Step::Hang),
        1 => Just(Step::HangAfter),
    ]
}

/// Moves some slots to another shard.
fn moved(mut map: ShardMap, moves: &[(u16, u16, usize)]) -> ShardMap {
    for (start, length, to) in moves {
        let range = SlotRange::new(*start, (start + length).min(16_384)).unwrap();
        for entry in &mut map.shards {
            entry.ranges.remove(range);
        }
        let to = to % map.shards.len();
        map.shards[to].ranges.insert(range);
        map.version += 1;
    }
    map
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the shards do, however the batch splits, and wherever slots have moved meanwhile: results stand in the
    /// order of the items, the router's own retries are no duplicates, and attempts are never made up anew.
    #[test]
    fn results_come_back_in_order_over_any_retries_and_moves(
        shards in 1_u32..7,
        // A number stands for one event, which has one slot.
        numbers in prop::collection::vec(0_u16..60, 1..80),
        scripts in prop::collection::vec(prop::collection::vec(step(), 0..6), 6),
        moves in prop::collection::vec((0_u16..16_000, 1_u16..9_000, 0_usize..6), 0..4),
        news_after_ms in 0_u64..400,
    ) {
        in_virtual_time(async {
            let old = map(shards, &[1]);
            let new = moved(old.clone(), &moves);
            let world = Shared::new(new.clone());
            let node = Node::alone(old, &world, scripts);
            let slot = |number: u16| number.wrapping_mul(7_919) % 16_384;
            let items: Vec<_> = numbers.iter().map(|number| item(&node.router, slot(*number), *number << 8)).collect();
            let (ingested, ()) = tokio::join!(node.router.ingest(items.clone(), within(60_000)), async {
                tokio::time::sleep(Duration::from_millis(news_after_ms)).await;
                let news = Topology { version: 2, node: 1, shard_map: new, ..Topology::default() };
                node.topology.send_replace(Arc::new(news));
            });
            let summary = ingested.unwrap();
            let mut seen = std::collections::BTreeSet::new();
            for (item, result) in items.iter().zip(&summary.results) {
                let record = record(&item.item);
                let expected = if is_bad(&record) {
                    ItemResult::Rejected { reason: common::reason_of(&record) }
                } else if seen.insert(record) {
                    ItemResult::Accepted
                } else {
                    ItemResult::Duplicate
                };
                assert_eq!(result, &expected);
            }
            assert_eq!(summary.results.len(), items.len());
            assert_eq!(summary.stamp.is_some(), !seen.is_empty());
            let sent = items.iter().map(|item| item.item.attempt).collect();
            assert_eq!(world.lock().attempts, sent, "each item went out under its own attempt only");
            node.end().await;
        });
    }
}

#[test]
fn what_is_not_known_at_the_deadline_is_unknown_and_the_deadline_is_kept() {
    in_virtual_time(async {
        let world = Shared::new(map(2, &[1]));
        // The first shard stores and never says so; the second answers.
        let node = Node::alone(map(2, &[1]), &world, vec![vec![Step::HangAfter; 99], Vec::new()]);
        let items = vec![item(&node.router, 1, 0), item(&node.router, 16_000, 0)];
        let deadline = within(2_500);
        let summary = node.router.ingest(items, deadline).await.unwrap();
        assert_eq!(summary.results, [ItemResult::Unknown, ItemResult::Accepted]);
        assert!(Instant::now() <= deadline + Duration::from_millis(1));
        node.end().await;
    });
}

#[test]
fn a_batch_of_which_nothing_can_have_been_stored_fails_with_the_reason() {
    in_virtual_time(async {
        for (step, expected) in [
            (Step::NoLeader, "NO_LEADER"),
            (Step::Unavailable, "UNAVAILABLE"),
            (Step::NotLeader(0), "NO_LEADER"),
            (Step::Overloaded(40), "OVERLOADED"),
            (Step::DiskFull(40), "DISK_FULL"),
        ] {
            let world = Shared::new(map(1, &[1]));
            let node = Node::alone(map(1, &[1]), &world, vec![vec![step; 1_000]]);
            let deadline = within(3_000);
            let error = node.router.ingest(vec![item(&node.router, 1, 0)], deadline).await.unwrap_err();
            assert_eq!(error.reason(), expected);
            assert!(error.retry_after().is_some() && Instant::now() <= deadline);
            assert!(world.lock().calls < 200, "waits between the tries");
            node.end().await;
        }
    });
}

#[test]
fn a_full_disk_under_one_shard_rejects_that_shards_items_alone_and_for_now() {
    in_virtual_time(async {
        let world = Shared::new(map(2, &[1]));
        let node = Node::alone(map(2, &[1]), &world, vec![vec![Step::DiskFull(5_000)], Vec::new()]);
        let items = vec![item(&node.router, 16_000, 0), item(&node.router, 1, 0), item(&node.router, 2, 0)];
        let begun = Instant::now();
        let summary = node.router.ingest(items, within(60_000)).await.unwrap();
        let full = ItemResult::Rejected { reason: "DISK_FULL".to_owned() };
        assert!(full.retryable());
        assert_eq!(summary.results, [ItemResult::Accepted, full.clone(), full]);
        assert!(
            Instant::now() < begun + Duration::from_secs(1),
            "at once: whoever sent them knows when to come back"
        );
        assert_eq!(world.lock().stored.len(), 1);
        node.end().await;
    });
}

#[test]
fn a_node_that_knows_no_shard_map_yet_waits_for_one() {
    in_virtual_time(async {
        let world = Shared::new(map(3, &[1]));
        let node = Node::alone(ShardMap::default(), &world, Vec::new());
        let items = || (0..9_u16).map(|n| item(&node.router, n * 1_800, n << 8)).collect::<Vec<_>>();
        let error = node.router.ingest(items(), within(200)).await.unwrap_err();
        assert_eq!(error, Error::StaleShardMap { version: 0 });
        let (summary, ()) = tokio::join!(node.router.ingest(items(), within(10_000)), async {
            let news = Topology { version: 2, node: 1, shard_map: map(3, &[1]), ..Topology::default() };
            node.topology.send_replace(Arc::new(news));
        });
        assert_eq!(summary.unwrap().results.len(), 9);
        node.end().await;
    });
}

#[test]
fn a_part_without_a_leader_does_not_hold_up_moved_items() {
    in_virtual_time(async {
        let (old, mut new) = (map(3, &[1]), map(3, &[1]));
        // Shard 2's first slots have gone to shard 3.
        let range = SlotRange::new(5_462, 6_000).unwrap();
        new.shards[1].ranges.remove(range);
        new.shards[2].ranges.insert(range);
        new.version = 2;
        let world = Shared::new(new.clone());
        let node = Node::alone(old, &world, vec![vec![Step::NoLeader; 10_000]]);
        let items = vec![item(&node.router, 1, 0), item(&node.router, 5_500, 1 << 8)];
        let news = Topology { version: 2, node: 1, shard_map: new, ..Topology::default() };
        let ingest = node.router.ingest(items, within(5_000));
        let stored = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            node.topology.send_replace(Arc::new(news));
            tokio::time::sleep(Duration::from_millis(500)).await;
            world.lock().stored.len()
        };
        let (summary, stored) = tokio::join!(ingest, stored);
        assert_eq!(stored, 1, "long before the batch was answered");
        assert_eq!(summary.unwrap().results, [ItemResult::Unknown, ItemResult::Accepted]);
        node.end().await;
    });
}

#[test]
fn ten_times_the_load_is_refused_early_and_takes_no_more_memory() {
    in_virtual_time(async {
        let room = 8 << 20;
        let world = Shared::new(map(1, &[1]));
        let topology = Topology { version: 1, node: 1, shard_map: map(1, &[1]), ..Topology::default() };
        let node = Node::start(topology, RouterOptions { ingest_bytes_max: room, ..options() });
        node.local.insert(common::Fake::new(1, peer(1), &world, vec![Step::Hang; 10_000]));
        let large = |n: u16| {
            let mut item = item(&node.router, n, 0);
            let body = vec![0; 64 << 10].into();
            item.item.body = Some(isthmus_proto::internal::v1::command_item::Body::Record(body));
            item
        };
        let begun = Instant::now();
        let batches = (0..1_280).map(|n| {
            let (router, item) = (node.router.clone(), large(n));
            async move {
                let result = router.ingest(vec![item], within(1_000)).await;
                (result, Instant::now())
            }
        });
        let results = join_all(batches).await;
        let (mut refused, mut waited) = (0, 0);
        for (result, at) in results {
            match result {
                Err(Error::Overloaded { .. }) => {
                    refused += 1;
                    assert_eq!(at, begun, "at once");
                }
                Ok(summary) => {
                    waited += 1;
                    assert_eq!(summary.results, [ItemResult::Unknown]);
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 1_100 && waited > 100, "{refused} refused, {waited} let in");
        assert!(world.lock().bytes_running_max <= room);
        node.end().await;
    });
}

#[test]
fn at_the_stop_a_waiting_batch_is_answered() {
    in_virtual_time(async {
        let world = Shared::new(map(1, &[1]));
        let node = Node::alone(map(1, &[1]), &world, vec![vec![Step::NoLeader; 10_000]]);
        let ingest = node.router.ingest(vec![item(&node.router, 1, 0)], within(60_000));
        let (result, ()) = tokio::join!(ingest, async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            node.stop.cancel();
        });
        assert_eq!(result.unwrap_err(), Error::Stopping);
        node.end().await;
    });
}
