//! Whether a node can be let go, as far as who answers is concerned.
//!
//! The metadata group refuses a removal after which too few members would remain; that follows from its state alone.
//! Here the leader looks at who answers as well, before it proposes: four members of which two don't answer are too
//! few to let a third go.

use std::collections::BTreeSet;

use isthmus_domain::NodeId;

use super::Observed;
use crate::{
    state::{Code, Refusal, largest_odd},
    view::View,
};

/// Checks whether `node` can leave: every shard must be able to have as many voters as now on the nodes that remain,
/// most of which answer.
///
/// # Errors
/// [`Code::QuorumAtRisk`] with what to do.
pub fn leaving(view: &View, observed: &Observed, node: NodeId, now_ms: u64) -> Result<(), Refusal> {
    if view.nodes.get(&node).is_none_or(|info| info.leaving) {
        // Not there, or asked again: the metadata group answers that.
        return Ok(());
    }
    let remaining: BTreeSet<NodeId> = view.active_nodes().filter(|other| *other != node).collect();
    let answering: BTreeSet<NodeId> =
        remaining.iter().copied().filter(|other| observed.is_alive(*other, now_ms)).collect();
    for shard in &view.shard_map.shards {
        let wanted = largest_odd(shard.replicas.len().min(view.replicas as usize)).max(1);
        let placed: BTreeSet<NodeId> = shard.replicas.iter().map(|peer| peer.node()).collect();
        if !placed.contains(&node) {
            continue;
        }
        let stay = placed.intersection(&remaining).count();
        let stay_answering = placed.intersection(&answering).count();
        let others = answering.difference(&placed).count();
        let filled = others.min(wanted.saturating_sub(stay));
        if stay + filled < wanted || stay_answering + filled <= wanted / 2 {
            return Err(Refusal::new(
                Code::QuorumAtRisk,
                format!(
                    "shard {} has {wanted} voting replicas, and of the nodes that would remain only {} answer; bring \
                     the others back, or let another node join first",
                    shard.id,
                    answering.len()
                ),
            ));
        }
    }
    Ok(())
}
