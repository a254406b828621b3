//! Sets which peers should hold a shard, or form the metadata group.
//!
//! Both are decided by the reconciler on a version of the state and refused when that group was placed anew since,
//! so two leaders that decide at once can't undo each other's step.

use isthmus_domain::{NodeId, ReplicaId};
use isthmus_proto::internal::v1::{PlaceMetadataCommand, PlaceShardCommand};

use super::{Code, Done, Refusal, refuse};
use crate::state::{MetaState, rules};

impl MetaState {
    pub(super) fn place_shard(&mut self, place: &PlaceShardCommand) -> Result<Done, Refusal> {
        let Some(index) = self.shard_map.shards.iter().position(|shard| shard.id.0 == place.shard) else {
            return refuse(Code::NotFound, format!("there is no shard {}", place.shard));
        };
        let placed_at = self.placed_at.get(&place.shard).copied().unwrap_or_default();
        if place.based_on_version < placed_at || place.based_on_version > self.shard_map.version {
            return stale();
        }
        let Some((peers, last)) = self.resolve(&self.shard_map.shards[index].replicas, &place.peers)? else {
            return Ok(Done::unchanged());
        };
        self.last_generation = last;
        self.shard_map.shards[index].replicas = peers;
        self.shard_map.version += 1;
        self.placed_at.insert(place.shard, self.shard_map.version);
        Ok(Done::changed())
    }

    pub(super) fn place_metadata(&mut self, place: &PlaceMetadataCommand) -> Result<Done, Refusal> {
        if place.based_on_version < self.metadata_placed_at || place.based_on_version > self.version {
            return stale();
        }
        let Some((peers, last)) = self.resolve(&self.metadata_peers, &place.peers)? else {
            return Ok(Done::unchanged());
        };
        self.last_generation = last;
        self.metadata_peers = peers;
        self.metadata_placed_at = self.version + 1;
        Ok(Done::changed())
    }

    /// The peers that a placement stands for, and the last generation given out then; `None`: nothing changes.
    fn resolve(
        &self,
        present: &[ReplicaId],
        wanted: &[u64],
    ) -> Result<Option<(Vec<ReplicaId>, u32)>, Refusal> {
        if wanted.is_empty() || wanted.len() > rules::PLACED_MAX {
            return refuse(Code::Invalid, format!("a placement has 1 to {} peers", rules::PLACED_MAX));
        }
        let (mut peers, mut last): (Vec<ReplicaId>, u32) =
            (Vec::with_capacity(wanted.len()), self.last_generation);
        for peer in wanted.iter().copied().map(ReplicaId) {
            let node = peer.node();
            if peers.iter().any(|other| other.node() == node) {
                return refuse(Code::Invalid, format!("a placement names node {node} twice"));
            }
            if peer.generation() != 0 {
                if !present.contains(&peer) {
                    return stale();
                }
                peers.push(peer);
                continue;
            }
            if present.iter().any(|other| other.node() == node) {
                return refuse(Code::Invalid, format!("node {node} has a peer already"));
            }
            if !self.active_nodes().any(|id| NodeId(id) == node) {
                return refuse(Code::NodeNotActive, format!("node {node} is not an active member"));
            }
            let Some(next) = last.checked_add(1) else {
                return refuse(Code::TooMany, "the generations of peers are used up");
            };
            last = next;
            peers.push(ReplicaId::new(node, next));
        }
        if !peers.iter().any(|peer| present.contains(peer)) {
            return refuse(
                Code::QuorumAtRisk,
                "a placement keeps at least one of the peers that hold the data",
            );
        }
        Ok((peers != present).then_some((peers, last)))
    }
}

fn stale<T>() -> Result<T, Refusal> {
    refuse(Code::StaleView, "the group was placed anew since this was decided")
}
