//! A node's groups: a few drivers, one log writer, one ticker, one transport for all of them.
//!
//! Inbound messages are checked here for group, peer and sending node before they come near a group. All groups
//! tick at the same moment, so that the heartbeats of all groups to the same peer travel in one frame.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;
use isthmus_storage::log::Log;
use parking_lot::RwLock;
use tokio::{sync::Semaphore, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Error, GroupHandle, Options, apply,
    core::{Core, Open},
    driver::Driver,
    group::{GroupTask, Replica, Surroundings},
    inbox::{Replies, Taken},
    machine::StateMachine,
    measure::{GroupMeasures, LogMeasures},
    snapshot,
    transport::{GroupMessage, Inbound, IncomingSnapshot, SnapshotLost, Transport},
    types::{GroupId, GroupView, PeerId},
    writer::LogWriter,
};

/// How a replica comes into being. For one that exists already it makes no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It has data, or it is new and waits for a leader to send it some.
    Join,
    /// The group is new, and these are its first voters: the same list on each of them.
    Bootstrap(Vec<PeerId>),
    /// The state machine's state was made on this node (by a split, from a backup): the log begins after it.
    Seeded,
}

/// A replica to open.
pub struct OpenGroup<S> {
    /// The group.
    pub group: GroupId,
    /// This node's replica of it.
    pub peer: PeerId,
    /// How it begins, if it is new.
    pub start: Start,
    /// The state machine, loaded.
    pub machine: S,
}

/// A replica, whatever its state machine.
trait Member: Send + Sync {
    fn peer(&self) -> PeerId;
    fn deliver(&self, messages: Vec<GroupMessage>);
    fn unreachable(&self, node: u32);
    fn snapshot(&self, snapshot: IncomingSnapshot) -> Result<(), IncomingSnapshot>;
    fn ticked(&self);
    fn compact(&self);
    fn view(&self) -> GroupView;
    fn measures(&self) -> GroupMeasures;
    fn has_ended(&self) -> bool;
    fn stop(self: Arc<Self>) -> BoxFuture<'static, ()>;
}

impl<O: Send + 'static> Member for Replica<O> {
    fn peer(&self) -> PeerId {
        self.peer
    }

    fn deliver(&self, messages: Vec<GroupMessage>) {
        self.inbox.messages(messages.into_iter());
    }

    fn unreachable(&self, node: u32) {
        self.inbox.unreachable(node);
    }

    fn snapshot(&self, snapshot: IncomingSnapshot) -> Result<(), IncomingSnapshot> {
        self.inbox.snapshot(snapshot)
    }

    fn ticked(&self) {
        self.inbox.ticked();
    }

    fn compact(&self) {
        self.inbox.request_compaction();
    }

    fn view(&self) -> GroupView {
        self.view.borrow().clone()
    }

    fn measures(&self) -> GroupMeasures {
        let mut view = self.view.borrow().clone();
        view.applied = view.applied.max(self.gate.applied());
        let (waiting_requests, waiting_messages) = self.inbox.waiting();
        GroupMeasures {
            view,
            proposals: self.counts.proposals.load(Ordering::Relaxed),
            elections: self.counts.elections.load(Ordering::Relaxed),
            leaderships: self.counts.leaderships.load(Ordering::Relaxed),
            waiting_requests,
            waiting_messages,
            waiting_entries: self.apply.waiting(),
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    fn stop(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.inbox.request_stop();
            self.ended.cancelled().await;
        })
    }
}

/// The node's groups by id.
#[derive(Default)]
pub(crate) struct Registry {
    groups: RwLock<BTreeMap<GroupId, Arc<dyn Member>>>,
}

impl Registry {
    fn get(&self, group: GroupId) -> Option<Arc<dyn Member>> {
        self.groups.read().get(&group).cloned()
    }

    fn all(&self) -> Vec<Arc<dyn Member>> {
        self.groups.read().values().cloned().collect()
    }

    pub(crate) fn compact(&self, group: GroupId) {
        if let Some(member) = self.get(group) {
            member.compact();
        }
    }
}

struct Inner {
    log: Arc<dyn Log>,
    registry: Arc<Registry>,
    around: Arc<Surroundings>,
    drivers: Vec<Arc<Driver>>,
    stopping: CancellationToken,
    /// One opening or removal at a time.
    opening: tokio::sync::Mutex<()>,
    staged: AtomicU64,
    incarnation: u64,
}

/// All groups of a node. Cheap to clone; [`stop`](Self::stop) ends it.
#[derive(Clone)]
pub struct RaftNode {
    inner: Arc<Inner>,
}

impl RaftNode {
    /// Starts the log writer and the ticker, and empties the staging directory. Within a tokio runtime.
    ///
    /// A log write that fails later ends the process.
    pub fn start(log: Arc<dyn Log>, transport: Arc<dyn Transport>, options: Options) -> Result<Self, Error> {
        options.validate()?;
        fresh_dir(&options.staging_dir)?;
        let incarnation =
            getrandom::u64().map_err(|error| Error::Storage(format!("no randomness: {error}")))?;
        let registry = Arc::new(Registry::default());
        let writer = Arc::new(LogWriter::start(log.clone(), registry.clone())?);
        let around = Surroundings {
            transport: transport.clone(),
            writer,
            tasks: TaskTracker::new(),
            snapshot_turns: Arc::new(Semaphore::new(options.snapshot_sends_max)),
            // Unique among this node's snapshots, restarts included, as far as 40 random bits go.
            snapshot_ids: AtomicU64::new(incarnation << 24),
            options,
        };
        let drivers: Vec<Arc<Driver>> = (0..around.options.drivers).map(|_| Arc::default()).collect();
        for driver in &drivers {
            let (writer, tasks) = (around.writer.clone(), around.tasks.clone());
            around.tasks.spawn(driver.clone().run(transport.clone(), writer, tasks));
        }
        let inner = Arc::new(Inner {
            log,
            registry,
            drivers,
            around: Arc::new(around),
            stopping: CancellationToken::new(),
            opening: tokio::sync::Mutex::new(()),
            staged: AtomicU64::new(0),
            incarnation,
        });
        transport.bind(Arc::new(Receiver(Arc::downgrade(&inner))));
        inner.around.tasks.spawn(tick(
            inner.registry.clone(),
            inner.around.options.tick,
            inner.stopping.clone(),
        ));
        Ok(Self { inner })
    }

    /// Opens a replica and starts its tasks.
    ///
    /// `Inconsistent` if log and state machine contradict each other: the replica has to be rebuilt.
    pub async fn open_group<S: StateMachine>(
        &self,
        open: OpenGroup<S>,
    ) -> Result<GroupHandle<S::Outcome>, Error> {
        let _one_at_a_time = self.inner.opening.lock().await;
        let OpenGroup { group, peer, start, machine } = open;
        let options = &self.inner.around.options;
        if self.inner.stopping.is_cancelled() {
            return Err(Error::Stopped);
        }
        if peer.node() != options.node {
            return Err(Error::Group { group, reason: "the replica belongs to another node" });
        }
        if self.inner.registry.get(group).is_some_and(|member| !member.has_ended()) {
            return Err(Error::Group { group, reason: "it is open already" });
        }
        let position = machine.position();
        let applied = position.index;
        let core = {
            let (log, around) = (self.inner.log.clone(), self.inner.around.clone());
            let incarnation =
                self.inner.incarnation.wrapping_add(self.inner.staged.fetch_add(1, Ordering::Relaxed));
            let (first_voters, seeded) = match start {
                Start::Join => (None, false),
                Start::Bootstrap(voters) => (Some(voters), false),
                Start::Seeded => (None, true),
            };
            let opened = self.inner.around.tasks.spawn_blocking(move || {
                let options = &around.options;
                Core::<Replies<S::Outcome>>::open(Open {
                    options,
                    group,
                    peer,
                    log,
                    position,
                    first_voters,
                    seeded,
                    incarnation,
                })
            });
            opened.await.map_err(|_| Error::Group { group, reason: "its log made raft-rs panic" })??
        };
        // Groups of rising ids are dealt out evenly.
        let driver = &self.inner.drivers[group as usize % self.inner.drivers.len()];
        let replica = Arc::new(Replica::new(group, peer, applied, options, driver.waker()));
        replica.view.send_replace(core.view());
        let tasks = &self.inner.around.tasks;
        let applying = tasks.spawn(apply::run(machine, replica.clone(), options.apply_batch_entries_max));
        let task = GroupTask {
            core,
            replica: replica.clone(),
            around: self.inner.around.clone(),
            frozen: None,
            arrived: None,
            synced: 0,
            ticks: 0,
            taken: Taken::default(),
            stopping: false,
            applying,
        };
        driver.add(replica.inbox.waker(), Box::new(task));
        self.inner.registry.groups.write().insert(group, replica.clone());
        Ok(GroupHandle::new(replica))
    }

    /// Stops a replica, if it is open, and lets go of it; its log stays.
    pub async fn close_group(&self, group: GroupId) {
        let _one_at_a_time = self.inner.opening.lock().await;
        self.close(group).await;
    }

    /// Stops a replica, if it is open, and removes its log. The state machine's data is its owner's to remove,
    /// before this: a log without a state can be opened as new, a state without a log can't.
    pub async fn remove_group(&self, group: GroupId) -> Result<(), Error> {
        let _one_at_a_time = self.inner.opening.lock().await;
        self.close(group).await;
        self.inner.around.writer.remove(group).await.map_err(|_| Error::Stopped)
    }

    async fn close(&self, group: GroupId) {
        if let Some(member) = self.inner.registry.get(group) {
            member.stop().await;
            self.inner.registry.groups.write().remove(&group);
        }
    }

    /// What all open replicas show of themselves, by group.
    pub fn views(&self) -> Vec<GroupView> {
        self.inner.registry.all().iter().map(|member| member.view()).collect()
    }

    /// What all open replicas show and have counted, by group.
    pub fn measures(&self) -> Vec<GroupMeasures> {
        self.inner.registry.all().iter().map(|member| member.measures()).collect()
    }

    /// What the log writer has measured, and how many jobs wait for it.
    pub fn log_measures(&self) -> (&LogMeasures, usize) {
        let writer = &self.inner.around.writer;
        (writer.measures(), writer.waiting())
    }

    /// Takes messages from `from_node`, as the transport does.
    pub fn deliver(&self, from_node: u32, messages: Vec<GroupMessage>) {
        self.inner.deliver(from_node, messages);
    }

    /// Stops all replicas, the ticker and the log writer, and waits for them.
    pub async fn stop(&self) {
        self.inner.stopping.cancel();
        let _one_at_a_time = self.inner.opening.lock().await;
        let stops = self.inner.registry.all().into_iter().map(Member::stop);
        futures::future::join_all(stops).await;
        self.inner.registry.groups.write().clear();
        self.inner.drivers.iter().for_each(|driver| driver.stop());
        self.inner.around.tasks.close();
        self.inner.around.tasks.wait().await;
        let threads = self.inner.around.writer.stop();
        let joined = tokio::task::spawn_blocking(move || {
            // The writer first: the purger ends when the writer lets go of it.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        let _ = joined.await;
    }
}

impl Inner {
    fn deliver(&self, from_node: u32, messages: Vec<GroupMessage>) {
        let mut messages = messages.into_iter().peekable();
        // Runs of messages for the same group are put in at once.
        while let Some(group) = messages.peek().map(|message| message.group) {
            let run: Vec<_> =
                std::iter::from_fn(|| messages.next_if(|message| message.group == group)).collect();
            let Some(member) = self.registry.get(group) else { continue };
            let meant =
                |message: &GroupMessage| message.to == member.peer() && message.from.node() == from_node;
            let run: Vec<_> = run.into_iter().filter(meant).collect();
            if !run.is_empty() {
                member.deliver(run);
            }
        }
    }

    fn stage(&self, group: GroupId, from: PeerId, to: PeerId, id: u64) -> Result<PathBuf, SnapshotLost> {
        let member = self.registry.get(group).ok_or_else(|| SnapshotLost::new("no such group here"))?;
        if member.peer() != to {
            return Err(SnapshotLost::new("another peer is meant"));
        }
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let dir = self.around.options.staging_dir.join(format!("group-{group}-from-{from}-{id:x}-{number}"));
        fresh_dir(&dir).map_err(SnapshotLost::new)?;
        Ok(dir)
    }

    fn snapshot(&self, from_node: u32, arrived: IncomingSnapshot) -> Result<(), SnapshotLost> {
        let member = self.registry.get(arrived.group);
        let refused = match member {
            Some(member) if member.peer() == arrived.to && arrived.from.node() == from_node => {
                member.snapshot(arrived).err()
            }
            _ => Some(arrived),
        };
        match refused {
            None => Ok(()),
            Some(arrived) => {
                snapshot::remove(arrived.dir);
                Err(SnapshotLost::new("the replica doesn't take it now"))
            }
        }
    }
}

/// What the transport holds of the node: nothing, once the node is gone.
struct Receiver(Weak<Inner>);

impl Inbound for Receiver {
    fn deliver(&self, from_node: u32, messages: Vec<GroupMessage>) {
        if let Some(inner) = self.0.upgrade() {
            inner.deliver(from_node, messages);
        }
    }

    fn unreachable(&self, node: u32) {
        if let Some(inner) = self.0.upgrade() {
            inner.registry.all().iter().for_each(|member| member.unreachable(node));
        }
    }

    fn stage(&self, group: GroupId, from: PeerId, to: PeerId, id: u64) -> Result<PathBuf, SnapshotLost> {
        let inner = self.0.upgrade().ok_or_else(|| SnapshotLost::new("the node is stopping"))?;
        inner.stage(group, from, to, id)
    }

    fn snapshot(&self, from_node: u32, snapshot: IncomingSnapshot) -> Result<(), SnapshotLost> {
        let inner = self.0.upgrade().ok_or_else(|| SnapshotLost::new("the node is stopping"))?;
        inner.snapshot(from_node, snapshot)
    }
}

async fn tick(registry: Arc<Registry>, tick: std::time::Duration, stopping: CancellationToken) {
    let mut ticks = tokio::time::interval(tick);
    // After a pause one tick, not many: a pause must not set off elections.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            _ = ticks.tick() => registry.all().iter().for_each(|member| member.ticked()),
        }
    }
}

/// An empty directory at `path`.
fn fresh_dir(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::Storage(format!("can't empty {}: {error}", path.display())));
        }
        _ => {}
    }
    std::fs::create_dir_all(path)
        .map_err(|error| Error::Storage(format!("can't make {}: {error}", path.display())))
}
