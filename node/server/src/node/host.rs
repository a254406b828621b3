//! The host: keeps the replicas on this node that the cluster's view wants here, and tells the other parts what the
//! view means for them.
//!
//! **What it promises.**
//! 1. Every peer that the view lists for this node is open, or tried again about every second.
//! 2. A peer that the view doesn't list is closed and deleted, log and state. The coordinator takes a peer off its list
//!    only when the group doesn't have it any more, and shows a view only once it is on disk: so no voter's data goes,
//!    and a restart brings nothing back.
//! 3. Router, transport and shards get each view after the other, whole.
//!
//! **How.** One task follows the view. It alone opens and closes replicas, writes the registry of local shards and the
//! transport's peers. Replicas open in parallel, a few at a time: each waits for a disk.
//!
//! **What it leaves out.** A replica whose storage is damaged stays closed and is said so; it is not rebuilt from its
//! peers by itself yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use isthmus_coordinator::{ShardPeer, View, state::FIRST_SHARD};
use isthmus_domain::NodeId;
use isthmus_matcher::{Hosted, Matching};
use isthmus_proto::internal::v1::DocumentKind;
use isthmus_raft::{RaftNode, transport::grpc::GrpcTransport};
use isthmus_router::{Router, Topology};
use isthmus_segmenter::{Hosted as Segmented, Segments};
use isthmus_shard::{Clock, FeedRetention, Freshness, Keeper, Open, ShardConfig, ShardHandle};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::storage::blocking;
use crate::{Error, Result, config::FeedOptions};

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Replicas that open at a time.
const OPENING_MAX: usize = 8;

/// What the host works with.
pub(super) struct Host {
    pub(super) node: NodeId,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) raft: RaftNode,
    pub(super) transport: Arc<GrpcTransport>,
    pub(super) keeper: Keeper,
    pub(super) router: Router,
    pub(super) outgoing: PathBuf,
    /// Bytes of all replicas' caches of facets together.
    pub(super) cache_bytes: u64,
    /// How long quarantine entries are kept.
    pub(super) quarantine_retention: Duration,
    /// What is kept of the change feed, of all shards together.
    pub(super) feed: FeedOptions,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) freshness: Arc<Freshness>,
    pub(super) topology: watch::Sender<Arc<Topology>>,
    pub(super) config: watch::Sender<ShardConfig>,
    pub(super) shards: Shards,
    /// The document of the model that profiles are compared by, with its version.
    pub(super) matching_document: watch::Sender<Option<(u64, Bytes)>>,
    pub(super) matching: Matching,
    /// The document of segments and computed traits, with its version.
    pub(super) segments_document: watch::Sender<Option<(u64, Bytes)>>,
    pub(super) segments: Segments,
}

/// The open replicas, by shard. Clones are the same; the host alone writes.
#[derive(Clone, Default)]
pub(super) struct Shards(Arc<RwLock<BTreeMap<u64, ShardHandle>>>);

impl Shards {
    /// All that are open.
    pub(super) fn all(&self) -> Vec<ShardHandle> {
        self.0.read().values().cloned().collect()
    }
}

/// The topology that a view means for a node.
pub(super) fn topology(view: &View, node: NodeId) -> Topology {
    let nodes = view.nodes.iter().map(|(id, info)| (id.0, info.peer_address.clone()));
    Topology {
        version: view.version,
        cluster_id: if view.version == 0 { Vec::new() } else { view.cluster_id.to_vec() },
        node: node.0,
        shard_map: (*view.shard_map).clone(),
        config_version: view.config_version,
        nodes: nodes.collect(),
    }
}

/// The configuration that a view means for shards.
pub(super) fn shard_config(view: &View) -> ShardConfig {
    ShardConfig {
        version: view.config_version,
        shard_map: view.wire().shard_map.clone(),
        identity_rules: view.identity_rules(),
    }
}

impl Host {
    /// Follows the view until the stop. The replicas stay open then.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let view = self.view.borrow_and_update().clone();
            self.tell(&view);
            let whole = self.follow(&view).await;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.view.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if !whole => {}
            }
        }
    }

    /// Tells the parts that need to know of nodes and slots.
    fn tell(&self, view: &View) {
        let known: BTreeSet<u32> = self.topology.borrow().nodes.keys().copied().collect();
        for (id, info) in view.nodes.iter().filter(|(id, _)| **id != self.node) {
            if let Err(error) = self.transport.set_peer(id.0, format!("http://{}", info.peer_address)) {
                tracing::error!(peer = id.0, %error, "a node's address can't be used");
            }
        }
        for gone in known.iter().filter(|id| !view.nodes.contains_key(&NodeId(**id))) {
            self.transport.remove_peer(*gone);
        }
        self.transport.set_shard_map_version(view.shard_map.version);
        self.topology.send_replace(Arc::new(topology(view, self.node)));
        let document = view.document(DocumentKind::Matching, "");
        self.matching_document.send_if_modified(|known| {
            let now = document.map(|document| (document.version, document.content.clone()));
            let newer =
                now.as_ref().map(|(version, _)| *version) > known.as_ref().map(|(version, _)| *version);
            if newer {
                *known = now;
            }
            newer
        });
        let document = view.document(DocumentKind::Segments, "");
        self.segments_document.send_if_modified(|known| {
            let now = document.map(|document| (document.version, document.content.clone()));
            let newer =
                now.as_ref().map(|(version, _)| *version) > known.as_ref().map(|(version, _)| *version);
            if newer {
                *known = now;
            }
            newer
        });
        let config = shard_config(view);
        self.config.send_if_modified(|known| {
            let newer = config.version > known.version;
            if newer {
                *known = config;
            }
            newer
        });
    }

    /// Brings the replicas to where the view wants them; false when something is to be tried again.
    async fn follow(&self, view: &View) -> bool {
        if view.version == 0 {
            return true;
        }
        let wanted = view.shards_of(self.node);
        let mut whole = self.remove_others(&wanted).await;
        let missing: Vec<ShardPeer> = {
            let open = self.shards.0.read();
            wanted.into_iter().filter(|peer| !open.contains_key(&peer.shard)).collect()
        };
        // As if all shards had a replica here: their number rises, the caches stay.
        let shards = (view.shard_map.shards.len() as u64).max(1);
        let cache_bytes = self.cache_bytes / shards;
        let feed = FeedRetention { age: self.feed.retention, bytes: self.feed.bytes.0 / shards };
        let opened = stream::iter(missing.into_iter().map(|peer| async move {
            let shard = peer.shard;
            (shard, self.open(peer, cache_bytes, feed).await)
        }));
        let mut opened = opened.buffer_unordered(OPENING_MAX);
        while let Some((shard, result)) = opened.next().await {
            match result {
                Ok(handle) => {
                    let matched = Hosted::start(handle.clone(), self.matching.clone());
                    let hosted = Segmented::start(matched, handle.clone(), self.segments.clone());
                    self.router.local().insert(hosted);
                    self.shards.0.write().insert(shard, handle);
                }
                Err(error) => {
                    whole = false;
                    tracing::error!(shard, %error, "a replica can't be opened; trying again");
                }
            }
        }
        whole
    }

    async fn open(&self, wanted: ShardPeer, cache_bytes: u64, feed: FeedRetention) -> Result<ShardHandle> {
        let ShardPeer { shard, peer, founders } = wanted;
        let founds_alone = founders.len() == 1;
        tracing::debug!(shard, %peer, "opening a replica");
        if self.keeper.storage().group(shard)?.is_none() {
            // What an interrupted removal left of the log: it must not be taken for this peer's.
            self.raft.remove_group(shard).await?;
        }
        let handle = isthmus_shard::open(
            &self.raft,
            Open {
                shard,
                peer: peer.0,
                founders: founders.into_iter().map(|peer| peer.0).collect(),
                keeper: self.keeper.clone(),
                snapshots: self.outgoing.clone(),
                cache_bytes,
                clock: self.clock.clone(),
                freshness: self.freshness.clone(),
                way: Arc::new(self.router.clone()),
                config: self.config.subscribe(),
                quarantine_retention: self.quarantine_retention,
                feed,
            },
        )
        .await?;
        if founds_alone {
            // Alone it wins at once: no need to wait for a time-out. In a grown group pre-vote keeps it harmless.
            handle.campaign().await;
        }
        Ok(handle)
    }

    /// Closes and deletes every replica that is not wanted, open or left behind by an interrupted removal.
    async fn remove_others(&self, wanted: &[ShardPeer]) -> bool {
        let wanted: BTreeMap<u64, u64> = wanted.iter().map(|peer| (peer.shard, peer.peer.0)).collect();
        let stored = match self.keeper.storage().groups() {
            Ok(groups) => groups,
            Err(error) => {
                tracing::error!(%error, "the stored replicas can't be listed");
                return false;
            }
        };
        let mut whole = true;
        for meta in stored.into_iter().filter(|meta| meta.group >= FIRST_SHARD) {
            if wanted.get(&meta.group) != Some(&meta.replica)
                && let Err(error) = self.remove(meta.group).await
            {
                whole = false;
                tracing::error!(shard = meta.group, %error, "a replica can't be removed; trying again");
            }
        }
        whole
    }

    /// The state goes first, since a log without a state can be begun anew.
    async fn remove(&self, shard: u64) -> Result<()> {
        tracing::info!(shard, "removing this node's replica");
        self.router.local().remove(shard);
        let open = self.shards.0.write().remove(&shard);
        if let Some(handle) = open {
            handle.stop().await;
        }
        self.raft.close_group(shard).await;
        let storage = self.keeper.storage().clone();
        blocking(move || {
            if storage.group(shard)?.is_some() {
                storage.remove_group(shard)?;
            }
            while storage.collect_garbage()? {}
            Ok(())
        })
        .await?;
        self.raft.remove_group(shard).await.map_err(Error::from)
    }
}
