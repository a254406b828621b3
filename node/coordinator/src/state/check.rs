//! The invariants of the metadata group's state, checked in tests after every command and on every load.

use std::collections::BTreeMap;

use isthmus_domain::{ReplicaId, shard_map::ShardMapError};
use isthmus_proto::internal::v1::DocumentRecord;

use super::{FOUNDER_GENERATION, METADATA_GROUP, MetaState};

/// Which invariant a state breaks; the numbers are those of the [module](super)'s list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// 1.
    #[error("shard map: {0}")]
    ShardMap(#[from] ShardMapError),
    /// 2.
    #[error("peer {peer} of group {group} was given out twice, or never")]
    PeerTwice {
        /// The group.
        group: u64,
        /// The peer.
        peer: ReplicaId,
    },
    /// 3.
    #[error("group {group} has no peer, or two on one node")]
    Peers {
        /// The group.
        group: u64,
    },
    /// 4.
    #[error("peer {peer} of group {group} is on no member")]
    Homeless {
        /// The group.
        group: u64,
        /// The peer.
        peer: ReplicaId,
    },
    /// 5.
    #[error("node id {node} is in use and retired")]
    NodeTwice {
        /// The node.
        node: u32,
    },
    /// 6.
    #[error("a write key belongs to two sources")]
    KeyTwice,
    /// 7.
    #[error("the versions of a configuration document have a gap")]
    DocumentVersions,
}

impl MetaState {
    /// Checks all invariants.
    ///
    /// # Errors
    /// The first one that is broken.
    pub fn check(&self) -> Result<(), Violation> {
        if !self.is_initialised() {
            return Ok(());
        }
        self.shard_map.validate()?;
        let shards = self.shard_map.shards.iter().map(|shard| (shard.id.0, &shard.replicas));
        let groups: Vec<_> = shards.chain([(METADATA_GROUP, &self.metadata_peers)]).collect();
        let mut generations: BTreeMap<u32, (u64, ReplicaId)> = BTreeMap::new();
        for (group, peers) in groups {
            let on_one_node =
                peers.iter().enumerate().any(|(i, peer)| peers[..i].iter().any(|p| p.node() == peer.node()));
            if peers.is_empty() || on_one_node {
                return Err(Violation::Peers { group });
            }
            for peer in peers.iter().copied() {
                let generation = peer.generation();
                let given_out = (FOUNDER_GENERATION..=self.last_generation).contains(&generation);
                let twice = generation > FOUNDER_GENERATION
                    && generations.insert(generation, (group, peer)).is_some();
                if !given_out || twice {
                    return Err(Violation::PeerTwice { group, peer });
                }
                if !self.nodes.contains_key(&peer.node().0) {
                    return Err(Violation::Homeless { group, peer });
                }
            }
        }
        if let Some(node) = self.nodes.keys().find(|id| self.retired.contains_key(id)) {
            return Err(Violation::NodeTwice { node: *node });
        }
        let mut keys: Vec<_> = self.sources.values().flat_map(|source| &source.key_hashes).collect();
        keys.sort();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Violation::KeyTwice);
        }
        let gap = |versions: &Vec<DocumentRecord>| {
            versions.is_empty() || versions.windows(2).any(|two| two[0].version + 1 != two[1].version)
        };
        if self.documents.values().any(gap) {
            return Err(Violation::DocumentVersions);
        }
        Ok(())
    }
}
