//! # The keeper: control rows and runs of all stores of a node, changed atomically
//!
//! A shard's state is in two places: few hot rows in the [`control`](crate::control) store, and many cold ones in
//! [`runs`](crate::runs). The keeper is the only writer of both. It takes a frozen part of a shard's state and writes
//! it out ([`Keeper::write_out`]), merges runs ([`Keeper::merge_once`]), and copies a whole shard out
//! ([`Keeper::export`]) and in ([`Keeper::install`]).
//!
//! ## What it promises
//!
//! 1. A write-out, a merge, an installation, the making and the removal of a group each take effect all at once or not
//!    at all, whatever step a crash or a power cut hits: control rows, manifest, `applied_index` and opaque state agree.
//! 2. What is reported as done is durable.
//! 3. Numbers of stores and runs are never used twice.
//! 4. Readers never wait for writers: they read a [`RunSet`] or a control row. No long file is written under the writer
//!    lock; it is held for batches of at most 64 control rows, for the time of one write-out's rows at most.
//! 5. Nothing that isn't referred to stays on the disk: leftovers are removed at open and by
//!    [`Keeper::collect_garbage`], a bounded step at a time.
//!
//! ## How
//!
//! *Write-out*: runs are written and synced (nobody refers to them yet); all changes of control rows, with the manifest
//! rows of the new runs and the group's meta row, go to a [`redo`](crate::redo) file; it is synced; the rows are applied
//! in batches, the meta row in the last; the control store is made durable; the redo file is removed.
//!
//! *Merge*: the output run is written and synced; one batch of the control store, atomic by itself, puts its manifest
//! row and deletes those of its inputs; when that is durable, readers get the new set; the inputs' files go when no
//! reader holds them.
//!
//! *Installation*: a fresh store is filled, in small batches, while a row says that it is to be dropped; one batch
//! deletes that row, points the group's meta row at the store and says that the old store is to be dropped.
//!
//! After an error in the middle of applying, memory and disk may differ, and the keeper refuses all further changes
//! with [`Error::Fatal`]: the process ends and opens what is there.
//!
//! ## Locks
//!
//! In this order: a store's `merging`, a store's `writing`, then the one `writer` (sled must be written by one thread at
//! a time).
//!
//! ## What it leaves out
//!
//! It has no thread and no clock: callers decide when to write out and to merge. It doesn't know what rows mean: it
//! can't part a shared store after a split, nor drop what was erased or, of any table but a sequence
//! ([`Keeper::drop_below`]), what is too old; these rewrite runs, and come with the issues that need them.

mod create;
mod garbage;
mod merge;
mod node;
mod open;
mod policy;
mod snapshot;
mod types;
mod write_out;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use self::node::Node;
pub use self::types::{Exported, GroupMeta, KeeperOptions, WriteOut};
use crate::control::{ControlStore, ControlWrite, KeyRange, Order, Page, keys};
use crate::redo::Redo;
use crate::runs::{Run, RunSet, RunStore, Table, TableId};
use crate::{Error, GroupId, Result, StoreId};

/// Control tables from this number on belong to the keeper.
pub const RESERVED_TABLES: u8 = 0xf0;

/// The steps that a crash may fall between: fail points, in the order in which they are passed.
pub const STEPS: [&str; 22] = [
    "storage::keeper::write_out::start",
    "storage::keeper::write_out::run_written",
    "storage::keeper::write_out::runs_written",
    "storage::redo::before_sync",
    "storage::redo::after_sync",
    "storage::redo::after_rename",
    "storage::keeper::write_out::redo_synced",
    "storage::keeper::write_out::batch_applied",
    "storage::keeper::write_out::applied",
    "storage::keeper::write_out::durable",
    "storage::keeper::write_out::redo_removed",
    "storage::keeper::merge::start",
    "storage::keeper::merge::run_written",
    "storage::keeper::merge::applied",
    "storage::keeper::merge::durable",
    "storage::keeper::merge::inputs_removed",
    "storage::keeper::export::linked",
    "storage::keeper::export::rows_written",
    "storage::keeper::install::store_made",
    "storage::keeper::install::runs_adopted",
    "storage::keeper::install::batch_applied",
    "storage::keeper::install::flipped",
];

/// One per node. All methods block, and may be called from any thread.
pub struct Keeper {
    dir: PathBuf,
    control: Arc<dyn ControlStore>,
    runs: Arc<dyn RunStore>,
    tables: BTreeMap<TableId, Arc<Table>>,
    options: KeeperOptions,
    stores: RwLock<BTreeMap<StoreId, Arc<Store>>>,
    writer: Mutex<Node>,
    /// Stores whose rows and files are still to be dropped.
    dropped: Mutex<VecDeque<StoreId>>,
    /// A change was begun and not ended: what memory says is no longer what the disk says.
    broken: AtomicBool,
}

/// A live store.
struct Store {
    id: StoreId,
    set: ArcSwap<RunSet>,
    /// Held by a write-out or an export: the store's control rows change under it only.
    writing: Mutex<()>,
    merging: Mutex<()>,
    /// Runs that no set has any more, until no reader holds them.
    retired: Mutex<Vec<Arc<Run>>>,
}

impl Store {
    fn new(set: RunSet) -> Arc<Self> {
        Arc::new(Self {
            id: set.store(),
            set: ArcSwap::from_pointee(set),
            writing: Mutex::new(()),
            merging: Mutex::new(()),
            retired: Mutex::default(),
        })
    }
}

impl Keeper {
    /// All groups, by number.
    pub fn groups(&self) -> Result<Vec<GroupMeta>> {
        Ok(self.writer.lock().groups.values().cloned().collect())
    }

    /// One group, as it was written last.
    pub fn group(&self, group: GroupId) -> Result<Option<GroupMeta>> {
        Ok(self.writer.lock().groups.get(&group).cloned())
    }

    /// The runs of a store now.
    ///
    /// # Errors
    /// [`Error::NotFound`] when no group has the store.
    pub fn runs(&self, store: StoreId) -> Result<Arc<RunSet>> {
        Ok(self.store(store)?.set.load_full())
    }

    /// A control row; `key` without the store prefix.
    pub fn get(&self, store: StoreId, key: &[u8]) -> Result<Option<Bytes>> {
        self.control.get(&[&keys::store_prefix(store), key].concat())
    }

    /// The first rows of a range of a store's control rows, at most `limit`, as
    /// [`ControlStore::scan`] gives them; keys without the store prefix, here and in the answer. The keeper's own
    /// tables are not in it.
    pub fn scan(&self, store: StoreId, range: &KeyRange, order: Order, limit: usize) -> Result<Page> {
        let prefix = keys::store_prefix(store);
        let last = [RESERVED_TABLES];
        let end = range.end.as_deref().map_or(last.as_slice(), |end| end.min(last.as_slice()));
        let inner = KeyRange::between([&prefix, range.start.as_slice()].concat(), [&prefix, end].concat());
        let mut page = self.control.scan(&inner, order, limit)?;
        for (key, _) in &mut page.rows {
            *key = key.slice(keys::STORE_BYTES..);
        }
        Ok(page)
    }

    fn store(&self, store: StoreId) -> Result<Arc<Store>> {
        self.stores.read().get(&store).cloned().ok_or_else(|| Error::NotFound(store.to_string()))
    }

    fn table(&self, id: u32) -> Result<&Arc<Table>> {
        let found = u8::try_from(id).ok().and_then(|id| self.tables.get(&TableId(id)));
        found.ok_or_else(|| Error::NotFound(format!("table {id}")))
    }

    fn redo(&self) -> Redo<'_> {
        Redo { disk: self.runs.disk(), dir: &self.dir }
    }

    /// Refuses changes after one that was not ended.
    fn check_whole(&self) -> Result<()> {
        match self.broken.load(Ordering::Acquire) {
            true => Err(Error::Fatal { action: "an earlier change", reason: "it was not ended".into() }),
            false => Ok(()),
        }
    }

    /// From here on a change must end: if `change` fails or panics, the keeper is broken. The caller holds the writer
    /// lock. While the change is under way the keeper is not broken: others that look meanwhile wait for the lock.
    fn must_end<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check_whole()?;
        let unended = Unended(&self.broken);
        let result = change().map_err(|error| match error {
            Error::Fatal { .. } => error,
            other => Error::Fatal { action: "changing control rows", reason: other.to_string() },
        })?;
        std::mem::forget(unended);
        Ok(result)
    }

    /// Applies at most [`BATCH_ROWS_MAX`](crate::control::BATCH_ROWS_MAX) rows, atomically and durably. The caller
    /// holds the writer lock.
    fn apply_durably(&self, rows: &[ControlWrite]) -> Result<()> {
        self.must_end(|| {
            self.control.apply(rows)?;
            self.control.flush_durable()
        })
    }
}

/// A change that was begun; dropped by an error or a panic, it leaves the keeper broken.
struct Unended<'a>(&'a AtomicBool);

impl Drop for Unended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
