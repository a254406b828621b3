//! The view: what a node knows of the cluster at one version, decoded once and shared by all that ask.
//!
//! **What it promises.** A view is immutable and consistent: all its parts are of one version of the metadata group's
//! state. Of two views the one with the larger version is newer. A view may be old; whoever acts on it must be able
//! to bear that (shards check ownership themselves; changes are refused when they were decided on an old version).
//!
//! **What it leaves out.** Who is alive, who leads: see [`crate::Coordinator::status`]. Sealed keys stay with the
//! metadata group.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use isthmus_domain::{Namespace, NodeId, ReplicaId, ShardMap};
use isthmus_proto::internal::v1::{ClusterView, DocumentKind, DocumentRecord, NodeInfo, SourceRecord};

use crate::{
    error::Error,
    keys::KeyHash,
    state::{DocumentKey, METADATA_GROUP, MetaState, in_force},
};

/// A source, as gateways need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Which identifier of an event it is filed under, most preferred first. Empty: the default order.
    pub primary_order: Vec<Namespace>,
    /// The currency of revenue that names none.
    pub default_currency: String,
    /// The first characters of the key in force; empty without a key.
    pub key_prefix: String,
    /// Whether what comes with its keys is refused.
    pub disabled: bool,
    /// Whether it is part of the hub.
    pub built_in: bool,
    /// When it was made, in microseconds since 1970.
    pub created_at_micros: u64,
}

impl TryFrom<&SourceRecord> for Source {
    type Error = Error;

    fn try_from(record: &SourceRecord) -> Result<Self, Error> {
        let order = record.primary_order.iter().map(|name| Namespace::parse(name));
        let primary_order =
            order.collect::<Result<_, _>>().map_err(|_| Error::malformed("a source's primary order"))?;
        Ok(Self {
            name: record.name.clone(),
            primary_order,
            default_currency: record.default_currency.clone(),
            key_prefix: record.key_prefix.clone(),
            disabled: record.disabled,
            built_in: record.built_in,
            created_at_micros: record.created_at_micros,
        })
    }
}

/// The cluster at one version: immutable, consistent, maybe old. Of two views, the one with the larger version is newer.
#[derive(Clone, Default)]
pub struct View {
    /// The version; 0: nothing is known yet.
    pub version: u64,
    /// The cluster's id; zeros while nothing is known.
    pub cluster_id: [u8; 16],
    /// The members, by id.
    pub nodes: BTreeMap<NodeId, NodeInfo>,
    /// The shards, their slots, and the peers that they should have.
    pub shard_map: Arc<ShardMap>,
    /// Peers that should form the metadata group.
    pub metadata_peers: Vec<ReplicaId>,
    /// How many replicas a shard should have when there are nodes enough.
    pub replicas: u32,
    /// Version of what shards get by `SetConfig`; rises when the owner of a slot changes, and with the identity rules.
    pub config_version: u64,
    /// The sources, by name.
    pub sources: BTreeMap<String, Arc<Source>>,
    /// The sources, by the hash of a write key.
    keys: BTreeMap<KeyHash, Arc<Source>>,
    /// The configuration documents, each with its kept versions, the one in force last.
    documents: BTreeMap<DocumentKey, Vec<DocumentRecord>>,
    documents_version: u64,
    wire: Arc<ClusterView>,
}

impl View {
    /// Decodes a view.
    ///
    /// # Errors
    /// [`Error::Malformed`] when a part is not what it should be; names the part.
    pub fn from_wire(wire: ClusterView) -> Result<Self, Error> {
        let cluster_id =
            wire.cluster_id.as_ref().try_into().map_err(|_| Error::malformed("a cluster's id"))?;
        let shard_map = ShardMap::decode(&wire.shard_map).map_err(|_| Error::malformed("a shard map"))?;
        if wire.version > 0 {
            shard_map.validate().map_err(|_| Error::malformed("a shard map"))?;
        }
        let (mut sources, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for record in &wire.sources {
            let source = Arc::new(Source::try_from(record)?);
            for hash in &record.key_hashes {
                let hash =
                    KeyHash::from_slice(hash).ok_or_else(|| Error::malformed("the hash of a write key"))?;
                keys.insert(hash, Arc::clone(&source));
            }
            sources.insert(source.name.clone(), source);
        }
        let mut documents: BTreeMap<DocumentKey, Vec<DocumentRecord>> = BTreeMap::new();
        for document in &wire.documents {
            documents.entry((document.kind, document.name.clone())).or_default().push(document.clone());
        }
        Ok(Self {
            version: wire.version,
            cluster_id,
            nodes: wire.nodes.iter().map(|node| (NodeId(node.node_id), node.clone())).collect(),
            shard_map: Arc::new(shard_map),
            metadata_peers: wire.metadata_peers.iter().copied().map(ReplicaId).collect(),
            replicas: wire.replicas,
            config_version: wire.config_version,
            sources,
            keys,
            // A document in force never goes, and each change makes one version larger by one.
            documents_version: in_force(&documents).map(|document| document.version).sum(),
            documents,
            wire: Arc::new(wire),
        })
    }

    /// The view of a state.
    ///
    /// # Errors
    /// As [`Self::from_wire`]: never for a state that holds its invariants.
    pub fn of(state: &MetaState) -> Result<Self, Error> {
        Self::from_wire(state.to_wire())
    }

    /// The view as it is sent and stored.
    pub fn wire(&self) -> &ClusterView {
        &self.wire
    }

    /// The source that a write key belongs to, disabled or not; `None`: the key is wrong.
    ///
    /// The key is hashed before anything is compared, so how long the look-up takes tells nothing about keys.
    pub fn source_by_key(&self, write_key: &str) -> Option<&Arc<Source>> {
        self.keys.get(&KeyHash::of(write_key))
    }

    /// The kept versions of a configuration document, by rising version; the last one is in force. Empty: there is
    /// none.
    pub fn document_versions(&self, kind: DocumentKind, name: &str) -> &[DocumentRecord] {
        self.documents.get(&(kind.into(), name.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The version of a configuration document that is in force.
    pub fn document(&self, kind: DocumentKind, name: &str) -> Option<&DocumentRecord> {
        self.document_versions(kind, name).last()
    }

    /// All configuration documents in force, by kind and name.
    pub fn documents(&self) -> impl Iterator<Item = &DocumentRecord> {
        in_force(&self.documents)
    }

    /// Rises with every change of a configuration document, and with nothing else.
    pub fn documents_version(&self) -> u64 {
        self.documents_version
    }

    /// The identity rules in force, as shards get them; empty: the default rules.
    pub fn identity_rules(&self) -> Bytes {
        self.document(DocumentKind::IdentityRules, "").map(|rules| rules.content.clone()).unwrap_or_default()
    }

    /// A node's address for other nodes.
    pub fn peer_address(&self, node: NodeId) -> Option<&str> {
        self.nodes.get(&node).map(|info| info.peer_address.as_str())
    }

    /// Whether the node is a member, on its way out or not. A node that was a member and is none any more, by a view
    /// that is newer than its own membership, has been removed for good.
    pub fn has_node(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Members that are not on their way out.
    pub fn active_nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().filter(|(_, info)| !info.leaving).map(|(id, _)| *id)
    }

    /// The peers that a group should have: a shard's, or the metadata group's. Empty when there is no such group.
    pub fn peers(&self, group: u64) -> &[ReplicaId] {
        if group == METADATA_GROUP {
            return &self.metadata_peers;
        }
        self.shard_map.shards.iter().find(|shard| shard.id.0 == group).map_or(&[], |shard| &shard.replicas)
    }

    /// How many peers should be on a node, those of the metadata group included.
    pub fn replicas_on(&self, node: NodeId) -> usize {
        let shards = self.shard_map.shards.iter().flat_map(|shard| &shard.replicas);
        shards.chain(&self.metadata_peers).filter(|peer| peer.node() == node).count()
    }

    /// The shard peers that a node should hold, with the peers to found the group with if it is a founder's: such a
    /// peer opens its group with `founders` as first voters, any other with none, and waits for the leader.
    pub fn shards_of(&self, node: NodeId) -> Vec<ShardPeer> {
        let of = |shard: &isthmus_domain::ShardEntry| {
            let peer = shard.replicas.iter().copied().find(|peer| peer.node() == node)?;
            Some(ShardPeer { shard: shard.id.0, peer, founders: founders(peer, &shard.replicas) })
        };
        self.shard_map.shards.iter().filter_map(of).collect()
    }
}

/// A peer that a node should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPeer {
    /// The shard.
    pub shard: u64,
    /// The peer.
    pub peer: ReplicaId,
    /// First voters of the group, when the peer is one of them; empty otherwise.
    pub founders: Vec<ReplicaId>,
}

/// The first voters of the group that `peer` founded; none when it came later.
pub(crate) fn founders(peer: ReplicaId, peers: &[ReplicaId]) -> Vec<ReplicaId> {
    let founder = |peer: &ReplicaId| peer.generation() == crate::state::FOUNDER_GENERATION;
    if !founder(&peer) {
        return Vec::new();
    }
    peers.iter().copied().filter(founder).collect()
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("version", &self.version)
            .field("nodes", &self.nodes.keys().collect::<Vec<_>>())
            .field("shard_map_version", &self.shard_map.version)
            .field("metadata_peers", &self.metadata_peers)
            .finish_non_exhaustive()
    }
}
