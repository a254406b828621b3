//! The metadata group's state: everything that the whole cluster has to agree on, and how commands change it.
//!
//! **What it promises.** [`MetaState::apply`] is a pure function of state and command: no clock, no randomness, no
//! unordered iteration. Replicas that applied the same commands hold equal states. A command is carried out or
//! refused as a whole; a refusal is an answer with a stable [`Code`], is the same on all replicas, and changes
//! nothing. Commands are safe to send again: a repeated one is answered as the first was and changes nothing.
//!
//! **How.** One command, one file, in `apply/`. Each returns what it did or why not; [`MetaState::apply`] alone
//! raises the version, and only when something changed. `rows` turns the state into small control rows and back.
//! [`MetaState::check`] states the invariants; the tests hold them after every command.
//!
//! **Invariants.**
//! 1. The shard map is valid: every slot is owned by exactly one shard.
//! 2. A peer id was given out once: generations come from one counter, and no peer stands in two groups' entries
//!    with the same generation unless it is a founder (generation 1).
//! 3. Every shard, and the metadata group, has at least one peer, and at most one on each node.
//! 4. Every peer is on a node that is a member.
//! 5. A node id that was ever used belongs to the key that came with it first, for ever.
//! 6. A write key belongs to one source at most.
//! 7. A configuration document's kept versions rise by one; those in force never go.
//!
//! **What it leaves out.** Whether nodes answer: the state knows who belongs, not who is alive. Refusals that
//! depend on that are made by the leader before it proposes ([`crate::reconciler::risk`]).

pub mod apply;
mod check;
mod documents;
mod refusal;
mod rows;
pub mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use isthmus_domain::{NodeId, ReplicaId, ShardMap};
use isthmus_proto::internal::v1::{ClusterView, DocumentRecord, InitCommand, NodeInfo, SourceRecord};

pub use apply::NotUnderstood;
pub use check::Violation;
pub use documents::{DocumentKey, in_force};
pub use refusal::{Code, Refusal};
pub use rows::DamagedRow;

/// The metadata group's number, among the shards' numbers.
pub const METADATA_GROUP: u64 = 1;
/// The first shard's number: those below are kept for groups that are not shards.
pub const FIRST_SHARD: u64 = 16;
/// The generation of peers that a group is founded with. Every later peer has a larger one.
pub const FOUNDER_GENERATION: u32 = 1;

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Who it is and how to reach it; `leaving` says whether it is on its way out.
    pub info: NodeInfo,
    /// The cluster's identity key, sealed to the node's public key.
    pub sealed_identity_key: Bytes,
}

/// All that the metadata group holds. See the [module](self) for the invariants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetaState {
    /// Rises by one with every command that changes something; 0 before the cluster was made.
    pub version: u64,
    /// The cluster's id.
    pub cluster_id: [u8; 16],
    /// Version of what shards' `apply` depends on (`SetConfig`): who owns which slots, and the identity rules. Placement
    /// leaves it alone.
    pub config_version: u64,
    /// How many replicas a shard should have, when there are nodes enough: odd, 1 to 9.
    pub replicas: u32,
    /// The last generation that was given out.
    pub last_generation: u32,
    /// The members, by id.
    pub nodes: BTreeMap<u32, Member>,
    /// Public keys of nodes that were members once, by id.
    pub retired: BTreeMap<u32, [u8; 32]>,
    /// Shards, their slots, and the replicas that they should have.
    pub shard_map: ShardMap,
    /// The version of the shard map at which each shard was placed last.
    pub placed_at: BTreeMap<u64, u64>,
    /// Peers that should form the metadata group.
    pub metadata_peers: Vec<ReplicaId>,
    /// The version of the state at which the metadata group was placed last.
    pub metadata_placed_at: u64,
    /// The sources, by name.
    pub sources: BTreeMap<String, SourceRecord>,
    /// The configuration documents, each with its kept versions, the one in force last.
    pub documents: BTreeMap<DocumentKey, Vec<DocumentRecord>>,
}

impl MetaState {
    /// The state before the first command.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the cluster has been made.
    pub fn is_initialised(&self) -> bool {
        self.version > 0
    }

    /// What nodes are told of it. Sealed keys stay out.
    pub fn to_wire(&self) -> ClusterView {
        ClusterView {
            version: self.version,
            cluster_id: Bytes::copy_from_slice(&self.cluster_id),
            nodes: self.nodes.values().map(|member| member.info.clone()).collect(),
            shard_map: self.shard_map.encode().into(),
            metadata_peers: self.metadata_peers.iter().map(|peer| peer.0).collect(),
            replicas: self.replicas,
            sources: self.sources.values().cloned().collect(),
            config_version: self.config_version,
            documents: self.documents.values().flatten().cloned().collect(),
        }
    }

    /// Members that are not on their way out.
    pub(crate) fn active_nodes(&self) -> impl Iterator<Item = u32> + '_ {
        self.nodes.iter().filter(|(_, member)| !member.info.leaving).map(|(id, _)| *id)
    }

    /// Whether any group should have a peer on the node.
    pub(crate) fn holds_replicas(&self, node: NodeId) -> bool {
        let shards = self.shard_map.shards.iter().flat_map(|shard| &shard.replicas);
        shards.chain(&self.metadata_peers).any(|peer| peer.node() == node)
    }
}

/// Whether a cluster could be made like this.
///
/// # Errors
/// Why not.
pub fn try_init(init: &InitCommand) -> Result<(), Refusal> {
    MetaState::new().init(0, init).map(|_| ())
}

/// The largest odd number up to `count`; 0 for 0.
///
/// Groups have odd numbers of voters: an even number survives no more failures than the odd one below it, needs one
/// more answer for each commit, and can be split into two halves of which neither goes on.
pub const fn largest_odd(count: usize) -> usize {
    if count.is_multiple_of(2) { count.saturating_sub(1) } else { count }
}
