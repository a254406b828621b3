//! What the rest of the node holds of a shard's replica.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use isthmus_proto::internal::v1::{ReplicaStatusReply, SetConfigCommand, shard_command::Command};
use isthmus_raft::{GroupHandle, GroupView, OpenGroup, PeerId, RaftNode, ReplicaState, Role, Start};
use isthmus_storage::{StoreId, keeper::GroupMeta};
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Clock, Deliver, Error, Freshness, Keeper, Machine,
    apply::Outcome,
    courier,
    feed::retention::{self as feed_retention, FeedRetention},
    inbox_queue::InboxQueue,
    ingest_queue::IngestQueue,
    machine::{Shared, blocking},
    retention, tend,
};

/// The configuration that a shard is to have; pushed into its log by its leader.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardConfig {
    /// Rises with every change; 0: none yet.
    pub version: u64,
    /// The shard map: `ShardMap`'s encoding.
    pub shard_map: Bytes,
    /// The identity rules: `IdentityRules`' encoding. Empty: as before.
    pub identity_rules: Bytes,
}

/// What a replica is opened with.
pub struct Open {
    /// The shard's id, which is its group's.
    pub shard: u64,
    /// This replica's peer id.
    pub peer: u64,
    /// The peers that the group was founded with, if this is one of them; empty: wait for a leader.
    pub founders: Vec<u64>,
    /// The node's keeper.
    pub keeper: Keeper,
    /// A directory for snapshots on their way out, on the file system of the runs.
    pub snapshots: PathBuf,
    /// Bytes of the replica's cache of facets.
    pub cache_bytes: u64,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where the node measures how fresh events are.
    pub freshness: Arc<Freshness>,
    /// The courier's way to other shards.
    pub way: Arc<dyn Deliver>,
    /// The configuration, as it changes.
    pub config: watch::Receiver<ShardConfig>,
    /// How long quarantine entries are kept.
    pub quarantine_retention: Duration,
    /// What is kept of the change feed.
    pub feed: FeedRetention,
}

/// What a replica shows of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaView {
    /// This replica.
    pub peer: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<u64>,
    /// Whether this replica leads.
    pub is_leader: bool,
    /// Whether it works.
    pub works: bool,
    /// Raft's term.
    pub term: u64,
    /// Index of the last applied entry.
    pub applied_index: u64,
    /// Version of the configuration in force.
    pub config_version: u64,
}

/// What a replica knows of its group's leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The replica's own peer id.
    pub peer: u64,
    /// The peer that leads, as far as the replica knows.
    pub leader: Option<u64>,
    /// Whether the replica leads, and works.
    pub is_leader: bool,
}

/// What waits in front of a replica and behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Callers whose items wait to be proposed.
    pub ingest_calls: usize,
    /// Bytes of their items.
    pub ingest_bytes: usize,
    /// Parcels of other shards that wait to be proposed.
    pub parcels: usize,
    /// Messages to other shards that wait to be shipped, or to be forgotten.
    pub outbox_messages: usize,
}

/// A cheap handle on a replica.
#[derive(Clone)]
pub struct ShardHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) group: GroupHandle<Outcome>,
    pub(crate) queue: IngestQueue,
    pub(crate) inbox: InboxQueue,
    pub(crate) keeper: Keeper,
    pub(crate) clock: Arc<dyn Clock>,
    /// Quarantine entries that this replica deleted at the end of their retention, while it led.
    pub(crate) expired: Arc<AtomicU64>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// Opens a replica: loads its state, or makes an empty one, and joins its group.
///
/// # Errors
/// Storage that fails, or a log and a state that contradict each other.
pub async fn open(raft: &RaftNode, open: Open) -> Result<ShardHandle, Error> {
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let storage = open.keeper.storage().clone();
    let (shard, peer) = (open.shard, open.peer);
    let meta: GroupMeta = blocking(move || match storage.group(shard).map_err(crate::error::broken)? {
        Some(meta) => Ok(meta),
        None => storage.create_group(shard, peer, Bytes::new(), Bytes::new()).map_err(crate::error::broken),
    })
    .await?;
    let machine = Machine::load(&open.keeper, &meta, open.snapshots, tracker.clone(), open.cache_bytes)?;
    let shared = machine.shared();
    let start = match open.founders.is_empty() {
        true => Start::Join,
        false => Start::Bootstrap(open.founders.iter().copied().map(PeerId).collect()),
    };
    let group = raft.open_group(OpenGroup { group: shard, peer: PeerId(peer), start, machine }).await?;
    shared.freshness.begin(open.freshness, group.watch());
    let queue = IngestQueue::start(group.clone(), open.clock.clone(), &tracker, stop.clone());
    let inbox = InboxQueue::start(group.clone(), open.clock.clone(), &tracker, stop.clone());
    tracker.spawn(courier::run(shared.clone(), group.clone(), open.way, inbox.clone(), stop.clone()));
    let handle = ShardHandle {
        shared,
        group,
        queue,
        inbox,
        keeper: open.keeper,
        clock: open.clock,
        expired: Arc::default(),
        tracker,
        stop,
    };
    handle.tracker.spawn(retention::run(handle.clone(), open.quarantine_retention));
    handle.tracker.spawn(feed_retention::run(handle.clone(), open.feed));
    handle.tracker.spawn(configure(handle.clone(), open.config));
    handle.tracker.spawn(tend::run(handle.clone()));
    Ok(handle)
}

/// Puts newer configurations into the log, while this replica leads.
async fn configure(handle: ShardHandle, mut config: watch::Receiver<ShardConfig>) {
    const TIMEOUT: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_millis(50);
    let mut view = handle.group.watch();
    loop {
        let wanted = config.borrow_and_update().clone();
        let leads = view.borrow_and_update().role == Role::Leader;
        if leads && wanted.version > handle.shared.state.read().meta.config_version {
            let command = SetConfigCommand {
                version: wanted.version,
                shard_map: wanted.shard_map,
                identity_rules: wanted.identity_rules,
            };
            let deadline = Instant::now() + TIMEOUT;
            match handle.propose(Command::SetConfig(command), deadline).await {
                Ok(Outcome::Refused(why)) => {
                    tracing::error!(shard = handle.shared.shard, why, "a configuration was refused");
                }
                Ok(_) => continue,
                Err(error) => tracing::debug!(shard = handle.shared.shard, %error, "configuring"),
            }
            tokio::select! {
                () = handle.stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => continue,
            }
        }
        tokio::select! {
            biased;
            () = handle.stop.cancelled() => return,
            changed = config.changed() => if changed.is_err() { return },
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

impl ShardHandle {
    /// The shard.
    pub fn shard(&self) -> u64 {
        self.shared.shard
    }

    /// What the replica is doing.
    pub fn view(&self) -> ReplicaView {
        let view = self.group.view();
        ReplicaView {
            peer: view.peer.0,
            leader: view.leader.map(|peer| peer.0),
            is_leader: view.role == Role::Leader,
            works: view.state == ReplicaState::Running,
            term: view.term,
            applied_index: view.applied,
            config_version: self.shared.state.read().meta.config_version,
        }
    }

    /// Who leads, without asking the replica.
    pub fn leadership(&self) -> Leadership {
        let (state, role, leader) = self.group.leadership();
        Leadership {
            peer: self.group.peer().0,
            leader: leader.map(|peer| peer.0),
            is_leader: role == Role::Leader && state == ReplicaState::Running,
        }
    }

    /// What the Raft group shows, as it changes.
    pub fn watch(&self) -> watch::Receiver<GroupView> {
        self.group.watch()
    }

    /// The bytes that the replica's memtables take, and its log to replay.
    pub fn load(&self) -> &crate::Load {
        &self.shared.load
    }

    /// Quarantine entries that this replica deleted at the end of their retention, while it led.
    pub fn expired_entries(&self) -> u64 {
        self.expired.load(Relaxed)
    }

    /// Messages that wait in the outbox.
    pub fn outbox_messages(&self) -> usize {
        self.shared.state.read().streams.waiting()
    }

    /// What waits.
    pub fn waiting(&self) -> Waiting {
        let (ingest_calls, ingest_bytes) = self.queue.waiting();
        let (parcels, outbox_messages) = (self.inbox.waiting(), self.outbox_messages());
        Waiting { ingest_calls, ingest_bytes, parcels, outbox_messages }
    }

    /// Bytes in the replica's cache of facets.
    pub fn cached_bytes(&self) -> u64 {
        self.shared.cache.bytes()
    }

    /// Asks to be the leader: a founder of a new group need not wait for an election's time-out.
    pub async fn campaign(&self) {
        self.group.campaign().await;
    }

    /// Writes the state out now, so that a restart has nothing to replay.
    ///
    /// # Errors
    /// Storage that fails.
    pub async fn write_out(&self) -> Result<(), Error> {
        Ok(crate::freezer::Freezer::of(self.shared.clone()).write_out().await?)
    }

    /// Stops the replica and waits until its tasks have ended. Its state stays.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.shared.end_pins();
        self.group.stop().await;
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// The replica's state. Index and hash are of one moment.
    pub fn status(&self) -> ReplicaStatusReply {
        use isthmus_proto::internal::v1::PeerProgress;
        use isthmus_proto::v1::ReplicaRole;
        let view = self.group.view();
        let role = match view.role {
            _ if view.conf.learners.contains(&view.peer.0) => ReplicaRole::Learner,
            Role::Leader => ReplicaRole::Leader,
            Role::Follower => ReplicaRole::Follower,
            Role::Candidate => ReplicaRole::Candidate,
        };
        let state = self.shared.state.read();
        ReplicaStatusReply {
            peer: view.peer.0,
            leader: view.leader.map_or(0, |peer| peer.0),
            term: view.term,
            role: (role as i32).cast_unsigned(),
            committed_index: view.commit,
            applied_index: state.applied,
            state_hash: Bytes::copy_from_slice(&state.meta.hash.to_bytes()),
            durable_index: view.durable,
            config_version: state.meta.config_version,
            stamp: state.meta.stamp.0,
            outbox_messages: state.streams.waiting() as u64,
            voters: view.conf.voters.clone(),
            learners: view.conf.learners.clone(),
            joint: !view.conf.voters_outgoing.is_empty(),
            progress: view
                .progress
                .iter()
                .map(|p| PeerProgress { peer: p.peer.0, matched_index: p.matched, active: p.recent_active })
                .collect(),
        }
    }

    /// The store that holds what was written out.
    pub fn store(&self) -> StoreId {
        self.shared.store()
    }
}
