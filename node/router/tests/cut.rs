//! Cuts over scripted shards, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Fake, Node, Shared, Step, in_virtual_time, map, options, peer, within};
use isthmus_domain::{SlotRanges, Stamp};
use isthmus_router::{Cut, Error, Leadership, ReadLevel, Topology};

const LEASE: Duration = Duration::from_secs(60);

async fn cut(node: &Node, level: ReadLevel, millis: u64) -> Result<Cut, Error> {
    node.router.open_cut(level, None, LEASE, within(millis)).await
}

fn whole(cut: &Cut) {
    let mut slots = SlotRanges::new();
    for shard in &cut.shards {
        assert!(!slots.intersects(&shard.owned));
        slots.union(&shard.owned);
    }
    assert_eq!(slots, SlotRanges::all());
}

/// Lets what runs in the background come to its end.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

#[test]
fn a_cut_is_of_the_largest_stamp_and_holds_each_slot_once_and_its_pins_go_with_it() {
    in_virtual_time(async {
        let world = Shared::new(map(5, &[1]));
        let node = Node::alone(map(5, &[1]), &world, vec![]);
        let cut = cut(&node, ReadLevel::Linearizable, 1_000).await.unwrap();
        whole(&cut);
        assert_eq!((cut.shards.len(), world.lock().pins.len()), (5, 5));
        assert_eq!(Some(cut.at.0), world.lock().pins.values().max().copied());
        // Not on a thread of the runtime.
        std::thread::spawn(move || drop(cut)).join().unwrap();
        settle().await;
        assert!(world.lock().pins.is_empty(), "let go everywhere");
        node.end().await;
    });
}

#[test]
fn a_cut_is_tried_again_while_slots_move() {
    in_virtual_time(async {
        // There is a sixth shard that this node has not heard of.
        let mut new = map(6, &[1]);
        new.version += 1;
        let world = Shared::new(new.clone());
        let node = Node::alone(map(5, &[1]), &world, vec![]);
        let news = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let topology = Topology { version: 2, node: 1, shard_map: new.clone(), ..Topology::default() };
            node.topology.send_replace(Arc::new(topology));
        };
        let (cut, ()) = tokio::join!(cut(&node, ReadLevel::Linearizable, 5_000), news);
        let cut = cut.unwrap();
        whole(&cut);
        assert_eq!(cut.shards.len(), 6);
        settle().await;
        assert_eq!(world.lock().pins.len(), 6, "those of the tries before were let go");
        drop(cut);
        node.end().await;
    });
}

#[test]
fn a_cut_that_never_holds_all_slots_is_refused_at_the_deadline() {
    in_virtual_time(async {
        let world = Shared::new(map(6, &[1]));
        let node = Node::alone(map(5, &[1]), &world, vec![]);
        let refused = cut(&node, ReadLevel::Linearizable, 500).await.unwrap_err();
        assert!(matches!(refused, Error::StaleShardMap { .. }), "{refused:?}");
        settle().await;
        assert!(world.lock().pins.is_empty());
        node.end().await;
    });
}

#[test]
fn a_replica_that_fails_between_pin_and_snapshot_costs_another_try_and_leaves_nothing() {
    in_virtual_time(async {
        for step in [Step::Unavailable, Step::NoReplica, Step::LostBefore, Step::Hang] {
            let world = Shared::new(map(3, &[1]));
            let node = Node::alone(map(3, &[1]), &world, vec![vec![Step::Answer, step]]);
            let cut = cut(&node, ReadLevel::Linearizable, 20_000).await.unwrap();
            whole(&cut);
            drop(cut);
            settle().await;
            assert!(world.lock().pins.is_empty(), "{step:?}");
            node.end().await;
        }
    });
}

#[test]
fn too_many_pins_are_refused_with_a_time_to_come_back() {
    in_virtual_time(async {
        let world = Shared::new(map(2, &[1]));
        let node = Node::alone(map(2, &[1]), &world, vec![vec![Step::Overloaded(70); 50]]);
        let refused = cut(&node, ReadLevel::Linearizable, 60_000).await.unwrap_err();
        assert!(matches!(refused, Error::Overloaded { .. }), "{refused:?}");
        settle().await;
        assert!(world.lock().pins.is_empty());
        node.end().await;
    });
}

#[test]
fn replicas_that_do_not_lead_are_brought_to_the_stamp_by_their_leaders() {
    in_virtual_time(async {
        let known = map(2, &[1]);
        let world = Shared::new(known.clone());
        let topology = Topology { version: 1, node: 1, shard_map: known, ..Topology::default() };
        let node = Node::start(topology, options());
        for shard in 1..=2 {
            let fake = Fake::new(shard, peer(1), &world, []);
            let leadership = Leadership { peer: peer(1), leader: Some(peer(1)), is_leader: false };
            *fake.leadership.lock().unwrap() = leadership;
            node.local.insert(fake);
        }
        let stale = ReadLevel::Stale(Duration::from_secs(1));
        let cut = cut(&node, stale, 5_000).await.unwrap();
        whole(&cut);
        let advanced: Vec<Stamp> = world.lock().advanced.values().map(|at| Stamp(*at)).collect();
        assert_eq!(advanced, [cut.at], "the one that was behind, and no other");
        drop(cut);
        node.end().await;
    });
}
