//! Who leads: leadership leaves the leaving nodes first, and is then spread over the others.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::{NodeId, ReplicaId};

use super::{Led, Step, TRANSFERS_MAX};
use crate::{placement::NodeState, state::METADATA_GROUP};

/// Adds transfers for groups that have no step yet.
///
/// A node may lead one shard more than its even share: leadership that would go back and forth costs more than it
/// brings. The metadata group's leadership isn't spread.
pub(super) fn hand_over(
    nodes: &BTreeMap<NodeId, NodeState>,
    led: &BTreeMap<u64, Led>,
    steps: &mut Vec<Step>,
) {
    let mut busy: BTreeSet<u64> = steps.iter().filter_map(Step::group).collect();
    let fit = |node: &NodeId| nodes.get(node).is_some_and(|state| state.alive && !state.leaving);
    let shards = || led.iter().filter(|(group, _)| **group != METADATA_GROUP);
    let mut leads: BTreeMap<NodeId, usize> =
        nodes.keys().copied().filter(fit).map(|node| (node, 0)).collect();
    for (_, shard) in shards() {
        *leads.entry(shard.leader.node()).or_default() += 1;
    }
    let fit_count = nodes.keys().filter(|node| fit(node)).count();
    if fit_count == 0 {
        return;
    }
    let share = shards().count().div_ceil(fit_count);

    let heir = |group: &Led, leads: &BTreeMap<NodeId, usize>| {
        let others = group.voters.iter().copied().filter(|peer| *peer != group.leader);
        let able = others.filter(|peer| fit(&peer.node()) && group.caught_up.contains(peer));
        able.min_by_key(|peer| (leads.get(&peer.node()).copied().unwrap_or_default(), peer.node()))
    };
    let mut moved = 0;
    for leaving_first in [true, false] {
        for (id, group) in led {
            let from = group.leader.node();
            let leaves = nodes.get(&from).is_some_and(|state| state.leaving);
            if moved == TRANSFERS_MAX || leaves != leaving_first || group.joint || busy.contains(id) {
                continue;
            }
            let Some(to): Option<ReplicaId> = heir(group, &leads) else { continue };
            let count = |node: NodeId| leads.get(&node).copied().unwrap_or_default();
            let uneven = *id != METADATA_GROUP && count(from) > share + 1 && count(to.node()) < share;
            if !leaves && !uneven {
                continue;
            }
            if *id != METADATA_GROUP {
                *leads.entry(from).or_default() -= 1;
                *leads.entry(to.node()).or_default() += 1;
            }
            busy.insert(*id);
            moved += 1;
            steps.push(Step::Transfer { group: *id, to });
        }
    }
}
