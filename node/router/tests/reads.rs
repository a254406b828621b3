//! Reads, pages and administration against scripted shards, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Fake, Node, Shared, Step, in_virtual_time, map, peer, within};
use isthmus_domain::{FacetId, ShardMap, SlotRange};
use isthmus_proto::internal::v1::{ChangeMembersCall, CourierMessage, DeliverCommand};
use isthmus_router::{Error, Leadership, QuarantineFilter, ReadLevel, Router, Topology};
use isthmus_shard::Deliver;
use proptest::prelude::*;

fn key(seed: u64) -> [u8; 16] {
    let high = u128::from(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (high << 64 | u128::from(seed)).to_be_bytes()
}

/// Hands every range of slots, cut at these places, to some shard.
fn scattered(shards: u32, cuts: &[(u16, usize)]) -> ShardMap {
    let mut map = map(shards, &[1]);
    for (start, to) in cuts {
        let range = SlotRange::new(*start, (start + 700).min(16_384)).unwrap();
        for entry in &mut map.shards {
            entry.ranges.remove(range);
        }
        map.shards[to % shards as usize].ranges.insert(range);
        map.version += 1;
    }
    map.validate().unwrap();
    map
}

fn trouble() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop::sample::select(vec![
        Step::Answer,
        Step::NoLeader,
        Step::Unavailable,
        Step::NotLeader(0),
        Step::LostAfter,
        Step::Hang,
    ]);
    prop::collection::vec(prop::collection::vec(step, 0..4), 6)
}

async fn news(node: &Node, map: &ShardMap, after_ms: u64) {
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    let news = Topology { version: 2, node: 1, shard_map: map.clone(), ..Topology::default() };
    node.topology.send_replace(Arc::new(news));
}

async fn all_facets(router: &Router, limit: u32) -> Vec<(FacetId, Bytes)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = router.list_facets(after, limit, ReadLevel::Linearizable, within(60_000)).await.unwrap();
        assert!(page.facets.len() <= limit as usize);
        assert!(page.facets.len() == limit as usize || !page.more, "only the last page is short");
        after = page.facets.last().map(|(id, _)| *id).or(after);
        all.extend(page.facets.into_iter().map(|(id, facet)| (id, facet.summary.unwrap_or_default())));
        if !page.more {
            return all;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Pages over shards whose ranges lie in pieces, while the map that is known becomes outdated and is replaced.
    #[test]
    fn pages_hold_every_facet_once_in_order_while_slots_move(
        shards in 1_u32..7,
        old_cuts in prop::collection::vec((0_u16..16_000, 0_usize..6), 0..6),
        new_cuts in prop::collection::vec((0_u16..16_000, 0_usize..6), 0..6),
        seeds in prop::collection::btree_set(any::<u64>(), 0..60),
        limit in 1_u32..20,
        page_max in 1_usize..8,
        scripts in trouble(),
        news_after_ms in 0_u64..100,
    ) {
        in_virtual_time(async {
            let (old, new) = (scattered(shards, &old_cuts), scattered(shards, &new_cuts));
            let world = Shared::new(new.clone());
            {
                let mut world = world.lock();
                world.page_max = page_max;
                world.facets = seeds.iter().map(|seed| (key(*seed), seed.to_string().into())).collect();
                world.quarantine = world.facets.clone();
            }
            let node = Node::alone(old, &world, scripts);
            let (listed, ()) = tokio::join!(all_facets(&node.router, limit), news(&node, &new, news_after_ms));
            let expected: Vec<_> = world.lock().facets.clone().into_iter().collect();
            let listed: Vec<_> = listed.into_iter().map(|(id, bytes)| (*id.as_bytes(), bytes)).collect();
            assert_eq!(listed, expected);

            let page = node.router.list_quarantine(None, 1_000, QuarantineFilter::default(), within(60_000)).await.unwrap();
            let rows: Vec<_> = page.rows.into_iter().map(|row| (row.id, row.entry)).collect();
            let expected: Vec<_> =
                expected.into_iter().map(|(key, bytes)| (Bytes::copy_from_slice(&key), bytes)).collect();
            assert_eq!(rows, expected);
            node.end().await;
        });
    }

    #[test]
    fn facets_come_back_in_the_order_asked_from_those_who_own_them(
        shards in 1_u32..7,
        cuts in prop::collection::vec((0_u16..16_000, 0_usize..6), 0..6),
        seeds in prop::collection::vec(0_u64..50, 0..80),
        scripts in trouble(),
        news_after_ms in 0_u64..100,
    ) {
        in_virtual_time(async {
            let new = scattered(shards, &cuts);
            let world = Shared::new(new.clone());
            // Nothing is known under odd numbers.
            world.lock().facets =
                (0..50).step_by(2).map(|seed| (key(seed), seed.to_string().into())).collect();
            let node = Node::alone(map(shards, &[1]), &world, scripts);
            let ids: Vec<FacetId> = seeds.iter().map(|seed| FacetId::from_bytes(key(*seed))).collect();
            let read = node.router.read_facets(&ids, ReadLevel::Linearizable, within(60_000));
            let (read, ()) = tokio::join!(read, news(&node, &new, news_after_ms));
            let (summaries, stamp) = read.unwrap();
            let expected: Vec<Option<Bytes>> =
                seeds.iter().map(|seed| (seed % 2 == 0).then(|| seed.to_string().into())).collect();
            let summaries: Vec<Option<Bytes>> = summaries.into_iter().map(|facet| facet.summary).collect();
            assert_eq!(summaries, expected);
            assert_eq!(stamp.0 > 0, !ids.is_empty());
            node.end().await;
        });
    }
}

#[test]
fn a_page_that_the_first_shard_fills_asks_no_other() {
    in_virtual_time(async {
        let world = Shared::new(map(6, &[1]));
        world.lock().facets = (0..100_u128).map(|n| (n.to_be_bytes(), "x".into())).collect();
        let node = Node::alone(map(6, &[1]), &world, Vec::new());
        let page = node.router.list_facets(None, 50, ReadLevel::Linearizable, within(1_000)).await.unwrap();
        assert!(page.more);
        assert_eq!(world.lock().calls, 1);
        node.end().await;
    });
}

#[test]
fn a_shard_that_says_more_and_brings_nothing_is_not_asked_for_ever() {
    in_virtual_time(async {
        let world = Shared::new(map(1, &[1]));
        world.lock().facets.insert(key(1), "x".into());
        world.lock().page_max = 0;
        let node = Node::alone(map(1, &[1]), &world, Vec::new());
        let error =
            node.router.list_facets(None, 10, ReadLevel::Linearizable, within(1_000)).await.unwrap_err();
        assert_eq!(error, Error::BadReply { shard: 1, what: "no row, yet more" });
        node.end().await;
    });
}

#[test]
fn a_quarantine_entry_is_found_where_its_slot_has_moved_to() {
    in_virtual_time(async {
        let new = scattered(2, &[(0, 1), (700, 1)]);
        let world = Shared::new(new.clone());
        let id = 1_u128.to_be_bytes();
        world.lock().quarantine.insert(id, "entry".into());
        let node = Node::alone(map(2, &[1]), &world, Vec::new());
        let find = node.router.quarantine_entry(id, within(5_000));
        let (found, ()) = tokio::join!(find, news(&node, &new, 300));
        assert_eq!(found.unwrap().unwrap().entry, "entry");
        assert_eq!(node.router.quarantine_entry(key(9), within(5_000)).await.unwrap(), None);
        let events =
            node.router.read_events(FacetId::from_bytes(id), None, 10, ReadLevel::default(), within(5_000));
        assert!(!events.await.unwrap().known);
        node.end().await;
    });
}

#[test]
fn a_read_that_any_replica_may_answer_is_answered_here() {
    in_virtual_time(async {
        let world = Shared::new(map(1, &[2, 1]));
        let node = Node::alone(map(1, &[2, 1]), &world, Vec::new());
        let fake = Fake::new(1, peer(1), &world, []);
        *fake.leadership.lock().unwrap() =
            Leadership { peer: peer(1), leader: Some(peer(2)), is_leader: false };
        node.local.insert(fake);
        let ids = [FacetId::from_bytes(key(1))];
        let stale = ReadLevel::Stale(Duration::from_millis(5));
        node.router.read_facets(&ids, stale, within(500)).await.unwrap();
        let error = node.router.read_facets(&ids, ReadLevel::Linearizable, within(2)).await.unwrap_err();
        assert_eq!(error, Error::Unavailable { shard: 1 }, "node 2 leads, and is nowhere");
        node.end().await;
    });
}

#[test]
fn a_change_whose_outcome_is_unknown_is_not_made_again() {
    in_virtual_time(async {
        let world = Shared::new(map(1, &[1]));
        let script = vec![Step::NoLeader, Step::NotLeader(0), Step::LostAfter];
        let node = Node::alone(map(1, &[1]), &world, vec![script]);
        let error = node.router.transfer(1, peer(2), within(5_000)).await.unwrap_err();
        assert_eq!(error, Error::OutcomeUnknown { shard: 1 });
        assert_eq!(world.lock().calls, 3);
        node.router.change_members(1, ChangeMembersCall::default(), within(5_000)).await.unwrap();
        assert_eq!(node.router.transfer(7, 1, within(10)).await.unwrap_err(), Error::NoShard { shard: 7 });
        node.end().await;
    });
}

#[test]
fn deliveries_are_repeated_until_the_receiver_has_them() {
    in_virtual_time(async {
        let world = Shared::new(map(1, &[1]));
        let script = vec![Step::NoLeader, Step::LostAfter, Step::HangAfter];
        let node = Node::alone(map(1, &[1]), &world, vec![script]);
        let messages = vec![CourierMessage::default(); 3];
        let command = DeliverCommand { from_shard: 9, first_sequence: 5, messages };
        let reply = node.router.deliver(1, command, within(10_000)).await.unwrap();
        assert_eq!(reply.through_sequence, 7);
        node.end().await;
    });
}

#[test]
fn every_replica_of_the_map_is_asked_and_speaks_for_itself() {
    in_virtual_time(async {
        let world = Shared::new(map(3, &[1, 2]));
        let node = Node::alone(map(3, &[1, 2]), &world, Vec::new());
        node.local.remove(2);
        let replicas = node.router.all_replicas(within(100)).await;
        let told: Vec<_> = replicas.iter().map(|(shard, node, told)| (*shard, *node, told.is_ok())).collect();
        assert_eq!(
            told,
            [(1, 1, true), (1, 2, false), (2, 1, false), (2, 2, false), (3, 1, true), (3, 2, false)]
        );
        let error = node.router.replica_status(1, 5, within(100)).await.unwrap_err();
        assert_eq!(error, Error::NoReplica { shard: 1, node: 5 });
        node.end().await;
    });
}
