//! Makes the cluster: one node, its shards with even shares of the slots, one founder of each group.

use isthmus_domain::{NodeId, ReplicaId, ShardId, ShardMap};
use isthmus_proto::internal::v1::InitCommand;

use super::{Code, Done, Refusal, refuse};
use crate::state::{FIRST_SHARD, FOUNDER_GENERATION, Member, MetaState, rules};

impl MetaState {
    pub(in crate::state) fn init(&mut self, now_micros: u64, init: &InitCommand) -> Result<Done, Refusal> {
        let Ok(cluster_id) = <[u8; 16]>::try_from(init.cluster_id.as_ref()) else {
            return refuse(Code::Invalid, "a cluster's id has 16 bytes");
        };
        if self.is_initialised() {
            // Sent again after its answer was lost.
            if self.cluster_id == cluster_id {
                return Ok(Done::unchanged());
            }
            return refuse(Code::AlreadyExists, "the cluster has been made already");
        }
        let Some(node) = &init.node else { return refuse(Code::Invalid, "the first node is missing") };
        rules::node(node)?;
        rules::sealed_key(&init.sealed_identity_key)?;
        if init.shards == 0 || init.shards > rules::SHARDS_MAX {
            return refuse(Code::Invalid, format!("a cluster has 1 to {} shards", rules::SHARDS_MAX));
        }
        if init.replicas.is_multiple_of(2) || init.replicas > rules::REPLICAS_MAX {
            return refuse(Code::Invalid, format!("replicas is odd, 1 to {}", rules::REPLICAS_MAX));
        }
        for (i, source) in init.sources.iter().enumerate() {
            rules::source(source)?;
            let earlier = &init.sources[..i];
            if earlier.iter().any(|e| e.name == source.name) {
                return refuse(Code::AlreadyExists, "a source is given twice");
            }
            if source.key_hashes.iter().any(|hash| earlier.iter().any(|e| e.key_hashes.contains(hash))) {
                return refuse(Code::KeyTaken, "two sources are given one write key");
            }
        }
        let Ok(mut map) = ShardMap::even(init.shards) else {
            return refuse(Code::Invalid, "there are more shards than slots");
        };
        let founder = ReplicaId::new(NodeId(node.node_id), FOUNDER_GENERATION);
        for (number, shard) in (FIRST_SHARD..).zip(&mut map.shards) {
            shard.id = ShardId(number);
            shard.replicas = vec![founder];
        }
        self.cluster_id = cluster_id;
        self.config_version = 1;
        self.replicas = init.replicas;
        self.last_generation = FOUNDER_GENERATION;
        let mut info = node.clone();
        info.leaving = false;
        let member = Member { info, sealed_identity_key: init.sealed_identity_key.clone() };
        self.nodes.insert(node.node_id, member);
        self.placed_at = map.shards.iter().map(|shard| (shard.id.0, map.version)).collect();
        self.shard_map = map;
        self.metadata_peers = vec![founder];
        self.metadata_placed_at = self.version + 1;
        for source in &init.sources {
            let mut source = source.clone();
            source.created_at_micros = now_micros;
            self.sources.insert(source.name.clone(), source);
        }
        Ok(Done::changed())
    }
}
