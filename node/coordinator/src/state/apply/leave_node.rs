//! Marks a node as leaving: the reconciler then places its replicas elsewhere.

use isthmus_domain::NodeId;
use isthmus_proto::internal::v1::LeaveNodeCommand;

use super::{Code, Done, Refusal, refuse};
use crate::state::{MetaState, largest_odd};

impl MetaState {
    pub(super) fn leave_node(&mut self, leave: &LeaveNodeCommand) -> Result<Done, Refusal> {
        let id = leave.node_id;
        let Some(member) = self.nodes.get(&id) else {
            return refuse(Code::NotFound, format!("there is no node {id}; `cluster nodes` lists them"));
        };
        if member.info.leaving {
            return Ok(Done::unchanged());
        }
        let remaining = self.active_nodes().count() - 1;
        let needed = self.voters_needed();
        if remaining < needed {
            return refuse(
                Code::QuorumAtRisk,
                format!(
                    "{remaining} nodes would remain, and shards have {needed} voting replicas, each on a node of its \
                     own; let another node join first"
                ),
            );
        }
        if let Some(member) = self.nodes.get_mut(&id) {
            member.info.leaving = true;
        }
        Ok(Done::changed())
    }

    /// How many nodes it takes to hold the voters that the most replicated shard should have now. Never less than
    /// one: the last node can't leave.
    pub(crate) fn voters_needed(&self) -> usize {
        let target = self.replicas as usize;
        let of = |shard: &isthmus_domain::ShardEntry| largest_odd(shard.replicas.len().min(target));
        self.shard_map.shards.iter().map(of).max().unwrap_or(0).max(1)
    }

    /// How many peers are still placed on a node.
    pub fn replicas_on(&self, node: NodeId) -> usize {
        let shards = self.shard_map.shards.iter().flat_map(|shard| &shard.replicas);
        shards.chain(&self.metadata_peers).filter(|peer| peer.node() == node).count()
    }
}
