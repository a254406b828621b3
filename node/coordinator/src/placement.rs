//! Placement: on which nodes each group should be. Pure arithmetic over what is known.
//!
//! **What it promises.** Given the nodes, the groups' present peers and voters, [`desired`] says for each group on
//! which nodes its voters should be in the end, or that it is better to wait. The same input gives the same answer,
//! and carrying the answer out step by step leads to an input whose answer is "as it is": placement comes to rest.
//!
//! **How.**
//! - *How many.* The largest odd number of voters up to what is wanted and what there are nodes for
//!   ([`largest_odd`] says why odd). A group never shrinks because a node doesn't answer: it shrinks only when so few
//!   members remain that it can't stay as it is.
//! - *Where.* Present peers stay where they are (minimal movement). Peers on leaving nodes don't count; what is missing
//!   goes to the answering nodes that hold the least. A peer that was placed and is not a voter yet is given up when
//!   its node stops answering and another node can take its part; otherwise it is waited for.
//! - *Evenly.* When all is at rest and one node holds at least two peers more than another, one group gets a peer
//!   more, on the emptier node; the group then has one too many, and gives up the one on the fullest node. Not while
//!   there are too few nodes for the replicas wanted: the next node that joins changes everything again, and a cluster
//!   of two whose single replicas are spread is hurt by the loss of either node.
//!
//! **What it leaves out.** Racks and zones; weights of shards and of nodes. Nodes that don't answer stay members
//! until someone removes them: a machine can't tell a dead node from a cut cable.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::NodeId;

use crate::state::{METADATA_GROUP, largest_odd};

/// What placement has to know of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Whether it answers.
    pub alive: bool,
    /// Whether it is on its way out.
    pub leaving: bool,
}

/// What placement has to know of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// How many voters it should have, when there are nodes enough.
    pub wanted: usize,
    /// Nodes on which it has been placed.
    pub placed: BTreeSet<NodeId>,
    /// Nodes whose peers vote now. Taken as `placed` while no leader tells.
    pub voters: BTreeSet<NodeId>,
}

/// How many groups are moved at a time just to spread the load.
const REBALANCING_MAX: usize = 2;

/// How many voters the metadata group should have when shards have `replicas`: 3 or 5. It is small and rarely written,
/// so it is kept more safely than shards with one replica.
pub fn metadata_voters(replicas: u32) -> usize {
    (replicas as usize).clamp(3, 5)
}

/// The nodes on which each group's voters should be; groups that are better left as they are for now are missing.
pub fn desired(
    nodes: &BTreeMap<NodeId, NodeState>,
    groups: &BTreeMap<u64, GroupState>,
) -> BTreeMap<u64, BTreeSet<NodeId>> {
    let mut load = Load::of(nodes, groups);
    let mut answer = BTreeMap::new();
    for (id, group) in groups {
        if let Some(chosen) = choose(nodes, group, &mut load) {
            answer.insert(*id, chosen);
        }
    }
    spread(nodes, groups, &mut answer, &mut load);
    answer
}

/// How many peers of shards each node holds, or will.
struct Load(BTreeMap<NodeId, usize>);

impl Load {
    fn of(nodes: &BTreeMap<NodeId, NodeState>, groups: &BTreeMap<u64, GroupState>) -> Self {
        let mut load = Self(nodes.keys().map(|node| (*node, 0)).collect());
        for node in groups.values().flat_map(|group| &group.placed) {
            load.add(*node);
        }
        load
    }

    fn get(&self, node: NodeId) -> usize {
        self.0.get(&node).copied().unwrap_or_default()
    }

    fn add(&mut self, node: NodeId) {
        *self.0.entry(node).or_default() += 1;
    }

    fn take(&mut self, node: NodeId) {
        if let Some(count) = self.0.get_mut(&node) {
            *count = count.saturating_sub(1);
        }
    }
}

fn choose(
    nodes: &BTreeMap<NodeId, NodeState>,
    group: &GroupState,
    load: &mut Load,
) -> Option<BTreeSet<NodeId>> {
    let active = |node: &NodeId| nodes.get(node).is_some_and(|state| !state.leaving);
    let alive = |node: &NodeId| nodes.get(node).is_some_and(|state| state.alive);
    let target = largest_odd(group.wanted.min(nodes.keys().filter(|node| active(node)).count()));
    if target == 0 {
        return None;
    }
    let placed = || group.placed.iter().copied().filter(|node| active(node));
    let mut chosen: BTreeSet<_> =
        placed().filter(|node| group.voters.contains(node) || alive(node)).collect();

    let others =
        nodes.keys().copied().filter(|node| active(node) && alive(node) && !group.placed.contains(node));
    let mut others: Vec<_> = others.collect();
    others.sort_by_key(|node| (load.get(*node), *node));
    for node in others {
        if chosen.len() >= target {
            break;
        }
        chosen.insert(node);
        load.add(node);
    }
    // Nobody can take the part of a placed peer whose node doesn't answer: it is waited for.
    for node in placed() {
        if chosen.len() < target {
            chosen.insert(node);
        }
    }
    // One too many while load is spread or the group shrinks: those that don't answer go first, then the fullest.
    while chosen.len() > target {
        let last = chosen.iter().copied().max_by_key(|node| (!alive(node), load.get(*node), *node))?;
        chosen.remove(&last);
        load.take(last);
    }
    // Not enough for the target: as many as make an odd number, keeping those that vote.
    let fewer = largest_odd(chosen.len());
    if fewer < chosen.len() {
        if fewer < group.voters.len() {
            return None;
        }
        let last = chosen
            .iter()
            .copied()
            .max_by_key(|node| (!group.voters.contains(node), load.get(*node), *node))?;
        chosen.remove(&last);
        load.take(last);
    } else if chosen.len() < target && chosen.len() < group.voters.len() {
        return None;
    }
    Some(chosen)
}

/// Gives a group at rest one peer more on the emptiest node, when the fullest holds at least two more than that one.
fn spread(
    nodes: &BTreeMap<NodeId, NodeState>,
    groups: &BTreeMap<u64, GroupState>,
    answer: &mut BTreeMap<u64, BTreeSet<NodeId>>,
    load: &mut Load,
) {
    if nodes.values().any(|state| !state.alive || state.leaving) {
        return;
    }
    let at_rest = |id: &u64, answer: &BTreeMap<u64, BTreeSet<NodeId>>| {
        groups.get(id).is_some_and(|g| answer.get(id).is_some_and(|d| *d == g.placed && *d == g.voters))
    };
    let moving = groups.keys().filter(|id| !at_rest(id, answer)).count();
    for _ in moving..REBALANCING_MAX {
        let fullest = load.0.iter().max_by_key(|(node, count)| (**count, **node));
        let emptiest = load.0.iter().min_by_key(|(node, count)| (**count, **node));
        let (Some((&from, &most)), Some((&to, &least))) = (fullest, emptiest) else { return };
        if most < least + 2 {
            return;
        }
        let movable = |id: &&u64| {
            **id != METADATA_GROUP
                && at_rest(id, answer)
                && groups.get(id).is_some_and(|group| group.voters.len() >= group.wanted)
                && answer.get(id).is_some_and(|d| d.contains(&from) && !d.contains(&to))
        };
        let Some(id) = groups.keys().find(movable).copied() else { return };
        if let Some(chosen) = answer.get_mut(&id) {
            chosen.insert(to);
        }
        // As it will be when the move is done, so that the next one sees it.
        load.add(to);
        load.take(from);
    }
}
