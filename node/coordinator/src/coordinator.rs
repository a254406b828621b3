//! The handle on a node's coordinator, and how it is put together.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use isthmus_domain::{IdentityKey, NodeId, ReplicaId};
use isthmus_proto::internal::v1::{
    DisableSourceCommand, LeaveNodeCommand, MetaOutcome, NodeInfo, PutNodeCommand, PutSourceCommand,
    RotateSourceCommand, SourceRecord, coordinator_service_server::CoordinatorServiceServer,
    meta_command::Command,
};
use isthmus_raft::{GroupView, PeerId, RaftNode};
use isthmus_storage::keeper::Keeper;
use quick_cache::sync::Cache;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    channels::{Channels, MESSAGE_BYTES_MAX},
    clock::Clock,
    control::ShardControl,
    error::{Error, Result},
    feed::{VIEW_FILE, ViewFeed},
    follow,
    inner::{Heard, Inner},
    keys::{KeyHash, WriteKey},
    membership::{DEFAULT_CURRENCY, Membership},
    metadata::Keep,
    reconciler::{ALIVE_MS, actor},
    refresh::{self, Refresher},
    reports,
    seal::seal,
    service::Service,
    state::{FOUNDER_GENERATION, METADATA_GROUP},
    view::{Source, View},
};

/// How long one try to make the cluster, or to tell this node's address, may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Write keys that are remembered to be wrong, so that they are asked about once.
const WRONG_KEYS_MAX: usize = 4_096;

/// What a coordinator works with.
pub struct Parts {
    /// The node's place in the cluster.
    pub membership: Membership,
    /// The node's raft groups.
    pub raft: RaftNode,
    /// The node's storage keeper. The metadata group needs no tables.
    pub keeper: Arc<Keeper>,
    /// Where snapshots of the metadata group are made: on the file system of the keeper's runs.
    pub snapshots: PathBuf,
    /// Time of day.
    pub clock: Arc<dyn Clock>,
}

/// How the cluster is, as far as this node knows.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// The view.
    pub view: Arc<View>,
    /// The node that leads the metadata group; `None` when none has been heard of for a while.
    pub metadata_leader: Option<NodeId>,
    /// Nodes that answer the leader, this one included; only this one while no leader is known.
    pub alive: BTreeSet<NodeId>,
}

/// A node's coordinator. Cheap to clone; it goes on without handles until [`Coordinator::stop`].
#[derive(Clone)]
pub struct Coordinator {
    pub(crate) inner: Arc<Inner>,
}

impl Coordinator {
    /// Starts the coordinator. Returns when a view is there: at once on a node that was started before, when the
    /// cluster is made on a founder.
    ///
    /// Until [`Coordinator::attach`], nothing is reported and nothing placed.
    ///
    /// # Errors
    /// What keeps the metadata replica from being opened.
    pub async fn start(parts: Parts) -> Result<Self> {
        let Parts { membership, raft, keeper, snapshots, clock } = parts;
        let me = NodeId(membership.node.node_id);
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let (feed, saver, view) = ViewFeed::new(Arc::clone(&membership.view), membership.dir.join(VIEW_FILE));
        tracker.spawn(saver.run(stop.clone()));
        let (group_sender, group) = watch::channel(None);
        let shards = Arc::new(OnceLock::new());
        let reconciler = actor::start(actor::Parts {
            me,
            view: view.clone(),
            group: group.clone(),
            shards: Arc::clone(&shards),
            clock: Arc::clone(&clock),
            tracker: tracker.clone(),
            stop: stop.clone(),
        });
        let keep = Keep {
            me,
            raft: raft.clone(),
            keeper,
            feed: feed.clone(),
            snapshots,
            tracker: tracker.clone(),
            group: group_sender,
        };
        let (refresher, rounds) = Refresher::new();
        let inner = Arc::new(Inner {
            me,
            cluster_id: membership.cluster_id,
            identity_key: membership.identity_key.clone(),
            clock,
            raft,
            feed,
            view: view.clone(),
            group,
            reconciler,
            shards,
            heard: watch::channel(Heard::default()).0,
            channels: Channels::new(),
            refresher,
            wrong_keys: Cache::new(WRONG_KEYS_MAX),
            tracker: tracker.clone(),
            stop: stop.clone(),
        });
        let coordinator = Self { inner };
        let opened = match &membership.founding {
            Some(init) if membership.view.version == 0 => {
                let founder = ReplicaId::new(me, FOUNDER_GENERATION);
                match keep.open(founder, vec![founder]).await {
                    Ok(()) => coordinator.make(Command::Init(init.clone())).await,
                    failed => failed,
                }
            }
            _ => keep.follow(&membership.view).await,
        };
        if let Err(error) = opened {
            stop.cancel();
            tracker.close();
            tracker.wait().await;
            return Err(error);
        }
        tracker.spawn(keep.run(view, stop));
        tracker.spawn(follow::run(Arc::clone(&coordinator.inner)));
        let refreshing = Arc::clone(&coordinator.inner);
        tracker.spawn(rounds.run(refreshing.stop.clone(), move || {
            let inner = Arc::clone(&refreshing);
            async move { refresh::round(&inner).await }
        }));
        tracker.spawn(coordinator.clone().keep_announced(membership.node));
        Ok(coordinator)
    }

    /// Makes the cluster: proposed until it is committed, which needs nobody else.
    async fn make(&self, init: Command) -> Result<()> {
        loop {
            let deadline = Instant::now() + TRY_TIMEOUT;
            match self.inner.propose(init.clone(), deadline).await {
                Ok(outcome) => match self.inner.wait_view(outcome.version, deadline).await {
                    Ok(_) => return Ok(()),
                    Err(Error::OutcomeUnknown) => {}
                    Err(error) => return Err(error),
                },
                Err(error @ (Error::Refused { .. } | Error::Malformed { .. })) => return Err(error),
                Err(error) => tracing::warn!(%error, "the cluster is not made yet; trying again"),
            }
            // Only a replica that stopped for good doesn't lead in the end.
            if self.metadata_view().is_none_or(|view| view.state != isthmus_raft::ReplicaState::Running) {
                return Err(Error::Stopped);
            }
        }
    }

    /// Tells the cluster when this node's addresses or version have changed since it was told last, and lets go of
    /// connections to nodes that are gone.
    async fn keep_announced(self, me: NodeInfo) {
        let stop = self.inner.stop.clone();
        let work = async {
            let mut view = self.inner.view.clone();
            loop {
                let shown = Arc::clone(&view.borrow_and_update());
                self.inner
                    .channels
                    .retain(&shown.nodes.values().map(|node| node.peer_address.as_str()).collect());
                let known = shown.nodes.get(&self.inner.me);
                let news = known.is_some_and(|known| NodeInfo { leaving: false, ..known.clone() } != me);
                if news && let Err(error) = self.announce(&me).await {
                    tracing::warn!(%error, "could not tell the cluster this node's addresses; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                if view.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    async fn announce(&self, me: &NodeInfo) -> Result<()> {
        let sealed = seal(&me.public_key, self.inner.identity_key.as_bytes())?;
        let put = PutNodeCommand { node: Some(me.clone()), sealed_identity_key: sealed.into() };
        let outcome = self.propose(Command::PutNode(put), Instant::now() + TRY_TIMEOUT).await?;
        self.inner.wait_view(outcome.version, Instant::now() + TRY_TIMEOUT).await.map(|_| ())
    }

    /// Connects the coordinator with the shards: from now on it reports and, where it leads, places. Only the first
    /// call counts.
    pub fn attach(&self, shards: Arc<dyn ShardControl>) {
        if self.inner.shards.set(Arc::clone(&shards)).is_ok() {
            self.inner.tracker.spawn(reports::run(Arc::clone(&self.inner), shards));
        }
    }

    /// The gRPC service for other nodes.
    pub fn service(
        &self,
    ) -> CoordinatorServiceServer<
        impl isthmus_proto::internal::v1::coordinator_service_server::CoordinatorService + use<>,
    > {
        CoordinatorServiceServer::new(Service(Arc::clone(&self.inner)))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The view, now and after every change. A view is on disk before it is shown here: what a node does upon it, it
    /// needn't fear to forget.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.inner.view.clone()
    }

    /// A view that can be believed about a write key: one that knows it, or one to which it is wrong and that has heard
    /// of every key that was given out, anywhere, before the call. Costs nothing unless the key has a key's form and
    /// is neither known nor known to be wrong; then the metadata group is asked, a bounded number of times a second
    /// however many ask.
    ///
    /// # Errors
    /// [`Error::NoLeader`] when the group can't be asked: whether the key is wrong isn't known.
    /// [`Error::Overloaded`], [`Error::Stopped`].
    pub async fn view_for_key(&self, write_key: &str, deadline: Instant) -> Result<Arc<View>> {
        let view = self.inner.view();
        let settled = view.source_by_key(write_key).is_some()
            || (view.version > 0 && !WriteKey::has_form(write_key))
            || self.inner.wrong_keys.get(&KeyHash::of(write_key)).is_some();
        if settled {
            return Ok(view);
        }
        self.inner.refresher.refreshed(deadline).await?;
        let view = self.inner.view();
        if view.source_by_key(write_key).is_none() {
            self.inner.wrong_keys.insert(KeyHash::of(write_key), ());
        }
        Ok(view)
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.me
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> [u8; 16] {
        self.inner.cluster_id
    }

    /// The cluster's identity key.
    pub fn identity_key(&self) -> &IdentityKey {
        &self.inner.identity_key
    }

    /// What this node's metadata replica does; `None` when it has none.
    pub fn metadata_view(&self) -> Option<GroupView> {
        self.inner.group.borrow().as_ref().map(|group| group.view())
    }

    /// How the cluster is, as far as this node knows: what the metadata group's leader told it within the last
    /// seconds.
    pub fn status(&self) -> ClusterStatus {
        let heard = self.inner.heard.borrow().clone();
        let fresh = heard.at.is_some_and(|at| at.elapsed() < Duration::from_millis(ALIVE_MS));
        let mut alive = if fresh { heard.alive } else { BTreeSet::new() };
        alive.insert(self.inner.me);
        ClusterStatus { view: self.inner.view(), metadata_leader: heard.leader.filter(|_| fresh), alive }
    }

    /// Has the metadata group change something, wherever its leader is. Safe to call again with the same command.
    ///
    /// # Errors
    /// [`Error::Refused`]: an answer. [`Error::NoLeader`], [`Error::Overloaded`], [`Error::Stopped`]: nothing was
    /// changed. [`Error::OutcomeUnknown`] when that isn't known at the deadline.
    pub async fn propose(&self, command: Command, deadline: Instant) -> Result<MetaOutcome> {
        self.inner.propose(command, deadline).await
    }

    /// Makes a source with a write key, from 32 bytes of good randomness ([`crate::seal::fill_random`]). An empty
    /// currency is US dollars. The key is shown this once. This node's view has the source when it returns.
    ///
    /// # Errors
    /// As [`Self::propose`]: refused with `ALREADY_EXISTS` or `INVALID_ARGUMENT`, above all.
    pub async fn create_source(
        &self,
        name: &str,
        primary_order: Vec<String>,
        default_currency: &str,
        random: [u8; 32],
        deadline: Instant,
    ) -> Result<(Source, WriteKey)> {
        let key = WriteKey::from_random(random);
        let currency = if default_currency.is_empty() { DEFAULT_CURRENCY } else { default_currency };
        let source = SourceRecord {
            name: name.to_owned(),
            key_hashes: vec![key.hash().to_bytes()],
            key_prefix: key.prefix(),
            primary_order,
            default_currency: currency.to_owned(),
            ..SourceRecord::default()
        };
        crate::state::rules::source(&source)
            .map_err(|refusal| Error::refused(refusal.code, refusal.message))?;
        let source = self
            .about_source(Command::PutSource(PutSourceCommand { source: Some(source) }), deadline)
            .await?;
        Ok((source, key))
    }

    /// Disables a source. This node's view says so when it returns.
    ///
    /// # Errors
    /// As [`Self::propose`]: refused with `NOT_FOUND` or `BUILT_IN`, above all.
    pub async fn disable_source(&self, name: &str, deadline: Instant) -> Result<Source> {
        self.about_source(Command::DisableSource(DisableSourceCommand { name: name.to_owned() }), deadline)
            .await
    }

    /// Gives a source a new write key, as [`Self::create_source`] does.
    ///
    /// # Errors
    /// As [`Self::propose`]: refused with `NOT_FOUND`, `BUILT_IN` or `SOURCE_DISABLED`, above all.
    pub async fn rotate_source(
        &self,
        name: &str,
        random: [u8; 32],
        deadline: Instant,
    ) -> Result<(Source, WriteKey)> {
        let key = WriteKey::from_random(random);
        let rotate = RotateSourceCommand {
            name: name.to_owned(),
            key_hash: key.hash().to_bytes(),
            key_prefix: key.prefix(),
        };
        Ok((self.about_source(Command::RotateSource(rotate), deadline).await?, key))
    }

    async fn about_source(&self, command: Command, deadline: Instant) -> Result<Source> {
        let outcome = self.propose(command, deadline).await?;
        self.inner.wait_view(outcome.version, deadline).await?;
        let source = outcome.source.ok_or_else(|| Error::malformed("answer of another node"))?;
        Source::try_from(&source)
    }

    /// Has a node removed for good. Its replicas are placed elsewhere from now on; it is gone when the view doesn't
    /// list it any more. Returns how many replicas are still on it.
    ///
    /// # Errors
    /// As [`Self::propose`]: refused with `QUORUM_AT_RISK` or `NOT_FOUND`, above all.
    pub async fn remove_node(&self, node: NodeId, deadline: Instant) -> Result<usize> {
        let outcome =
            self.propose(Command::LeaveNode(LeaveNodeCommand { node_id: node.0 }), deadline).await?;
        let view = self.inner.wait_view(outcome.version, deadline).await?;
        Ok(view.replicas_on(node))
    }

    /// Hands leadership of the metadata group over, if this node has it and another voter is close behind: before a
    /// stop.
    ///
    /// # Errors
    /// [`Error::Raft`] when the other didn't take it before the deadline.
    pub async fn hand_over(&self, deadline: Instant) -> Result<()> {
        let Some(group) = self.inner.leading_group() else { return Ok(()) };
        let view = group.view();
        let heirs = view.progress.iter().filter(|peer| peer.recent_active && !peer.learner);
        let Some(heir) = heirs.max_by_key(|peer| (peer.matched, peer.peer)) else { return Ok(()) };
        Ok(group.transfer_leader(PeerId(heir.peer.0), deadline).await?)
    }

    /// Whether this node was removed for good: stop it.
    pub fn is_removed(&self) -> bool {
        let view = self.inner.view();
        view.version > 0 && !view.has_node(self.inner.me)
    }

    /// Stops all tasks and the metadata replica, and waits for them. The raft node goes on.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.raft.close_group(METADATA_GROUP).await;
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }
}
