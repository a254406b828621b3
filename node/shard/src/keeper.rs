//! The storage keeper: one per node, it decides when which shard freezes, writes out and merges.
//!
//! Triggers are budgets of the whole node: decoded memory and log to replay. When one is passed, the shard that holds
//! the most of it is frozen; one write-out at a time, and one merge at a time beside it, so that background work
//! never takes more than its share. There is no timer. Apply waits only when memory passes twice its budget, which
//! bounds the node.
//!
//! The keeper also knows whether the disk is nearly full ([`Keeper::refuse_events`]; who looks at the disk says so).
//! The shards that lead here then take no events, so that what is left serves what was taken already: the log, and
//! writing memory out. Reads go on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use isthmus_storage::keeper::Keeper as Storage;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{freezer::Freezer, scan::HotColumns};

/// The node's budgets.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// Decoded rows in memtables, in bytes, over all shards of the node.
    pub memory_bytes: u64,
    /// Log that a restart would have to replay, in bytes, over all shards of the node.
    pub replay_bytes: u64,
    /// Decoded columns that are kept for queries, in bytes.
    pub hot_bytes: u64,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, replay_bytes: 256 << 20, hot_bytes: 256 << 20 }
    }
}

/// What a shard holds that counts against the budgets.
#[derive(Debug, Default)]
pub struct Load {
    /// Bytes of the active memtable.
    pub active_bytes: AtomicU64,
    /// Bytes of the frozen memtable.
    pub frozen_bytes: AtomicU64,
    /// Bytes of log entries applied since the last freeze.
    pub replay_bytes: AtomicU64,
}

struct Shared {
    storage: Arc<Storage>,
    options: KeeperOptions,
    shards: Mutex<BTreeMap<u64, (Arc<Load>, Freezer)>>,
    /// Rung when a budget may have been passed.
    check: Notify,
    /// Rung when memory was given back.
    relief: Notify,
    merging: Semaphore,
    /// What queries have decoded.
    hot: HotColumns,
    /// Whether the disk is nearly full.
    disk_full: AtomicBool,
}

/// A handle to the node's keeper.
#[derive(Clone)]
pub struct Keeper(Arc<Shared>);

impl Keeper {
    /// Starts the keeper of a node.
    pub fn start(
        storage: Arc<Storage>,
        options: KeeperOptions,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let keeper = Self(Arc::new(Shared {
            storage,
            hot: HotColumns::new(options.hot_bytes),
            options,
            shards: Mutex::default(),
            check: Notify::new(),
            relief: Notify::new(),
            merging: Semaphore::new(1),
            disk_full: AtomicBool::new(false),
        }));
        tracker.spawn(keeper.clone().run(stop));
        keeper
    }

    /// The storage that it keeps.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.0.storage
    }

    pub(crate) fn hot(&self) -> &HotColumns {
        &self.0.hot
    }

    /// Bytes of decoded columns that are kept for queries.
    pub fn hot_bytes(&self) -> u64 {
        self.0.hot.bytes()
    }

    /// Says whether the disk is nearly full; returns what was said before.
    pub fn refuse_events(&self, disk_full: bool) -> bool {
        self.0.disk_full.swap(disk_full, Relaxed)
    }

    pub(crate) fn disk_is_full(&self) -> bool {
        self.0.disk_full.load(Relaxed)
    }

    pub(crate) fn register(&self, shard: u64, load: Arc<Load>, freezer: Freezer) {
        self.0.shards.lock().insert(shard, (load, freezer));
    }

    pub(crate) fn unregister(&self, shard: u64) {
        self.0.shards.lock().remove(&shard);
        self.0.relief.notify_waiters();
    }

    /// Tells the keeper that a shard's load has changed.
    pub(crate) fn look(&self) {
        let (active, _, replay) = self.totals();
        if active > self.0.options.memory_bytes || replay > self.0.options.replay_bytes {
            self.0.check.notify_one();
        }
    }

    /// Waits until the node's memtables are within twice their budget.
    pub(crate) async fn room(&self) {
        loop {
            let relief = self.0.relief.notified();
            let (active, frozen, _) = self.totals();
            if active + frozen <= 2 * self.0.options.memory_bytes {
                return;
            }
            self.0.check.notify_one();
            relief.await;
        }
    }

    /// Bytes in active memtables, in frozen ones, and of log to replay, over all shards.
    pub fn totals(&self) -> (u64, u64, u64) {
        let shards = self.0.shards.lock();
        shards.values().fold((0, 0, 0), |(active, frozen, replay), (load, _)| {
            (
                active + load.active_bytes.load(Relaxed),
                frozen + load.frozen_bytes.load(Relaxed),
                replay + load.replay_bytes.load(Relaxed),
            )
        })
    }

    /// The shard to freeze next, if a budget is passed: the one that holds the most of it.
    fn next(&self) -> Option<Freezer> {
        let (active, _, replay) = self.totals();
        let shards = self.0.shards.lock();
        let largest = |of: fn(&Load) -> u64| {
            shards
                .values()
                .filter(|(load, _)| of(load) > 0)
                .max_by_key(|(load, _)| of(load))
                .map(|(_, f)| f.clone())
        };
        if active > self.0.options.memory_bytes {
            largest(|load| load.active_bytes.load(Relaxed))
        } else if replay > self.0.options.replay_bytes {
            largest(|load| load.replay_bytes.load(Relaxed))
        } else {
            None
        }
    }

    async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.0.check.notified() => {}
            }
            while let Some(freezer) = self.next() {
                // What fails is said by the replica, which stops: it is then no longer registered.
                if freezer.write_out().await.is_err() {
                    self.unregister(freezer.shard());
                }
                if stop.is_cancelled() {
                    return;
                }
            }
        }
    }

    /// A write-out has ended: memory was given back.
    pub(crate) fn relieved(&self) {
        self.0.relief.notify_waiters();
    }

    /// The right to merge: one merge at a time on a node.
    pub(crate) async fn merge_permit(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.0.merging.acquire().await.ok()
    }
}
