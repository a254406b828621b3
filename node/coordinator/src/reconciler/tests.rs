//! Scenarios of growth, removal and failure in the [simulation](super::simulation).

use std::collections::BTreeMap;

use isthmus_domain::{NodeId, ReplicaId};
use proptest::prelude::*;

use super::{
    Step,
    simulation::{Fate, World},
};
use crate::state::METADATA_GROUP;

fn grown(nodes: u32, shards: u32, replicas: u32) -> World {
    let mut world = World::new(shards, replicas);
    world.settle();
    for id in 2..=nodes {
        world.join(id);
    }
    world.settle();
    world.converge();
    world
}

#[test]
fn one_node_stays_as_it_is() {
    let world = grown(1, 16, 3);
    assert_eq!(world.voters_by_node(), BTreeMap::from([(1, 17)]));
}

#[test]
fn a_second_node_changes_nothing_since_two_are_no_safer_than_one() {
    let world = grown(2, 16, 3);
    assert_eq!(world.voters_by_node(), BTreeMap::from([(1, 17)]));
}

#[test]
fn single_replicas_are_spread_where_they_are_wanted() {
    let voters = grown(2, 16, 1).voters_by_node();
    assert!(voters[&1].abs_diff(voters[&2]) <= 1, "{voters:?}");
}

#[test]
fn three_nodes_hold_three_voters_of_each_group_and_share_leadership() {
    let world = grown(3, 16, 3);
    assert_eq!(world.voters_by_node(), BTreeMap::from([(1, 17), (2, 17), (3, 17)]));
    let leaders = world.leaders_by_node();
    assert!(leaders.values().all(|count| (3..=7).contains(count)), "{leaders:?}");
}

#[test]
fn replicas_spread_over_more_nodes_than_a_shard_needs() {
    let world = grown(5, 16, 3);
    let voters = world.voters_by_node();
    let (min, max) = (voters.values().min().unwrap(), voters.values().max().unwrap());
    assert!(voters.len() == 5 && max - min <= 1, "{voters:?}");
}

#[test]
fn removal_of_one_of_three_is_refused_until_a_fourth_is_there() {
    let mut world = grown(3, 16, 3);
    assert_eq!(world.remove(3), "QUORUM_AT_RISK");
    world.join(4);
    world.settle();
    assert_eq!(world.remove(3), "");
    world.converge();
    assert_eq!(world.voters_by_node(), BTreeMap::from([(1, 17), (2, 17), (4, 17)]));
    assert!(!world.state.nodes.contains_key(&3) && world.state.retired.contains_key(&3));
}

#[test]
fn the_last_node_cant_be_removed() {
    let mut world = grown(1, 4, 1);
    assert_eq!(world.remove(1), "QUORUM_AT_RISK");
    assert_eq!(world.remove(7), "NOT_FOUND");
}

#[test]
fn a_node_that_is_down_keeps_its_replicas_until_it_is_removed() {
    let mut world = grown(4, 16, 3);
    let before = world.voters_by_node();
    world.down.insert(NodeId(2));
    for _ in 0..20 {
        world.round(|_| Fate::Done);
    }
    assert_eq!(world.voters_by_node(), before);
    assert_eq!(world.remove(2), "");
    world.converge();
    assert_eq!(world.voters_by_node(), BTreeMap::from([(1, 17), (3, 17), (4, 17)]));
}

#[test]
fn a_second_removal_while_another_node_is_down_is_refused_or_waits_and_breaks_no_quorum() {
    let mut world = grown(4, 16, 3);
    world.down.insert(NodeId(2));
    world.down.insert(NodeId(4));
    for _ in 0..5 {
        world.round(|_| Fate::Done);
    }
    assert_eq!(world.remove(3), "QUORUM_AT_RISK");
    // Accepted while all answered, and then two go down: it waits, and ends when one is back.
    let mut world = grown(4, 16, 3);
    assert_eq!(world.remove(3), "");
    world.down.insert(NodeId(2));
    world.down.insert(NodeId(4));
    for _ in 0..20 {
        world.round(|_| Fate::Done);
    }
    assert!(world.state.nodes.contains_key(&3));
    world.down.clear();
    world.converge();
    assert_eq!(world.voters_by_node(), BTreeMap::from([(1, 17), (2, 17), (4, 17)]));
}

#[test]
fn a_cluster_with_single_replicas_moves_them_off_a_leaving_node() {
    let mut world = grown(3, 6, 1);
    assert_eq!(world.remove(1), "");
    world.converge();
    let voters = world.voters_by_node();
    assert!(!voters.contains_key(&1), "{voters:?}");
    assert_eq!(world.groups[&METADATA_GROUP].voters.len(), 1, "two members hold one metadata peer");
}

#[test]
fn a_new_leader_decides_nothing_before_it_has_heard_from_all_or_waited() {
    let mut world = grown(3, 4, 3);
    world.join(4);
    world.observed = super::Observed::new(world.now_ms);
    assert!(super::decide(&world.view(), &world.observed, world.now_ms).is_empty());
    world.settle();
    assert!(!super::decide(&world.view(), &world.observed, world.now_ms).is_empty());
}

#[test]
fn a_peer_that_the_placement_does_not_list_is_removed_from_its_group() {
    // On a node that has a peer in the placement, too: it is the peer that counts.
    let stray = ReplicaId::new(NodeId(2), 99);
    let removed = Step::Change { group: 16, add_learners: vec![], promote: vec![], remove: vec![stray] };
    let mut world = grown(3, 1, 3);
    world.groups.get_mut(&16).unwrap().learners.insert(stray);
    world.settle_unchecked();
    assert_eq!(super::decide(&world.view(), &world.observed, world.now_ms), std::slice::from_ref(&removed));

    let mut world = grown(3, 1, 3);
    world.groups.get_mut(&16).unwrap().voters.insert(stray);
    world.settle_unchecked();
    assert_eq!(super::decide(&world.view(), &world.observed, world.now_ms), [removed]);
}

#[test]
fn voters_change_only_to_a_set_that_could_commit_now() {
    let mut world = grown(6, 1, 5);
    let leader = world.groups[&16].leader.unwrap();
    let leaves =
        world.groups[&16].voters.iter().map(|peer| peer.node()).find(|node| *node != leader.node()).unwrap();
    assert_eq!(world.remove(leaves.0), "");
    let promotes =
        |step: &Step| matches!(step, Step::Change { group: 16, promote, .. } if !promote.is_empty());
    let next = |world: &World| super::decide(&world.view(), &world.observed, world.now_ms);
    for _ in 0..20 {
        if next(&world).iter().any(promotes) {
            break;
        }
        world.round(|_| Fate::Done);
    }
    assert!(next(&world).iter().any(promotes));
    let learner = *world.groups[&16].learners.first().unwrap();
    let all = world.groups[&16].caught_up.clone();
    let mut told = |caught_up: &[ReplicaId]| {
        world.groups.get_mut(&16).unwrap().caught_up = caught_up.iter().copied().collect();
        world.report_all();
        next(&world).iter().any(promotes)
    };
    let others: Vec<_> = all.iter().copied().filter(|peer| *peer != learner).collect();
    assert!(!told(&others), "the learner is behind");
    assert!(!told(&[leader, learner]), "two of five are close");
    let stays = others.iter().copied().find(|peer| *peer != leader && peer.node() != leaves).unwrap();
    assert!(told(&[leader, learner, stays]), "three of five are close");
}

/// Loses, repeats and interrupts steps, and stops and starts nodes, never more than one of three at a time.
#[derive(Clone, Debug)]
enum Event {
    Round(Vec<u8>),
    Down(u32),
    Up,
    Join,
    Remove(u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => prop::collection::vec(0_u8..8, 1..12).prop_map(Event::Round),
        1 => (1_u32..6).prop_map(Event::Down),
        2 => Just(Event::Up),
        1 => Just(Event::Join),
        1 => (1_u32..6).prop_map(Event::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn whatever_is_lost_repeated_or_interrupted_no_quorum_breaks_and_all_comes_to_rest(
        events in prop::collection::vec(event(), 1..60),
        shards in 1_u32..5,
    ) {
        let mut world = World::new(shards, 3);
        world.settle();
        let mut last = 1;
        for event in events {
            match event {
                Event::Round(fates) => {
                    let mut fates = fates.into_iter().cycle();
                    world.round(|_| match fates.next() {
                        Some(0) => Fate::Lost,
                        Some(1) => Fate::Repeated,
                        Some(2) => Fate::Interrupted,
                        _ => Fate::Done,
                    });
                }
                Event::Down(id) if world.down.is_empty() && world.state.nodes.len() > 2 => {
                    world.down.insert(NodeId(id));
                    world.settle();
                }
                Event::Up => {
                    world.down.clear();
                    world.settle();
                }
                Event::Join if last < 6 => {
                    last += 1;
                    world.join(last);
                    world.settle();
                }
                Event::Remove(id) => {
                    world.remove(id);
                }
                _ => {}
            }
        }
        world.down.clear();
        world.settle();
        world.converge();
        let voters = world.voters_by_node();
        let members = world.state.nodes.values().filter(|member| member.info.leaving).count();
        prop_assert_eq!(members, 0, "removals end: {:?}", voters);
        let wanted = crate::state::largest_odd(world.state.nodes.len().min(3));
        for group in world.groups.values() {
            prop_assert_eq!(group.voters.len(), wanted);
        }
    }
}
