//! The metadata group's state machine on one node: state, its rows on disk, and the views that it gives out.
//!
//! **What it promises.** Commands are applied in order and once; a view is offered after each batch that changed
//! something, before the proposers are answered. The log may be compacted up to the index that was written out, with
//! all rows of the state at exactly that index, all or nothing.
//!
//! **How.** The whole state is in memory: it is small. After [`WRITE_OUT_ENTRIES`] entries a copy is written out in
//! the background: the rows that differ from those written last, through the keeper's redo. A snapshot for a peer is
//! a write-out and the keeper's export of it; installing is the keeper's install, and loading.
//!
//! **What it leaves out.** Write-outs by time: an idle group keeps a few entries in its log, which are applied again
//! at the next start.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use isthmus_domain::ReplicaId;
use isthmus_proto::internal::v1::{MetaCommand, MetaOutcome};
use isthmus_raft::{
    Broken, Committed, ConfState, Position, SnapshotFile, SnapshotSource, StagedSnapshot, StateMachine,
    decode_conf, encode_conf,
};
use isthmus_storage::{
    StoreId,
    control::{ControlWrite, KeyRange, Order, PAGE_ROWS_MAX},
    keeper::{Exported, GroupMeta, Keeper, WriteOut},
};
use prost::Message as _;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use crate::{
    error::{Error, Result},
    feed::ViewFeed,
    state::{METADATA_GROUP, MetaState},
    view::View,
};

#[cfg(test)]
mod tests;

/// After so many entries the state is written out, so that the log stays short.
pub const WRITE_OUT_ENTRIES: u64 = 256;

/// What was written last, and what the next write-out differs from.
struct Written {
    meta: GroupMeta,
    rows: BTreeMap<Vec<u8>, Bytes>,
}

/// A copy of the state at one index, to be written.
struct Frozen {
    state: MetaState,
    position: Position,
}

/// What the machine shares with a write-out under way.
struct Shared {
    keeper: Arc<Keeper>,
    /// One write-out at a time.
    written: Mutex<Written>,
    durable: AtomicU64,
    busy: AtomicBool,
    /// A write-out failed: the replica has to stop.
    failed: AtomicBool,
}

/// The state machine of one metadata replica.
pub(crate) struct Machine {
    state: MetaState,
    position: Position,
    offered: u64,
    shared: Arc<Shared>,
    feed: ViewFeed,
    snapshots: PathBuf,
    tracker: TaskTracker,
    write_out_entries: u64,
}

impl Machine {
    /// Loads the node's metadata replica, or makes it where there is none. Blocks.
    ///
    /// `snapshots` is a directory for snapshots to be sent, on the file system of the runs.
    ///
    /// # Errors
    /// [`Error::Membership`] when the node holds another peer of the group, which must be removed first;
    /// [`Error::Damaged`]; [`Error::Storage`].
    pub(crate) fn open(
        keeper: Arc<Keeper>,
        peer: ReplicaId,
        feed: ViewFeed,
        snapshots: PathBuf,
        tracker: TaskTracker,
    ) -> Result<Self> {
        let meta = match keeper.group(METADATA_GROUP)? {
            Some(meta) if meta.replica == peer.0 => meta,
            Some(meta) => {
                return Err(Error::Membership {
                    path: snapshots,
                    what: format!("it holds metadata peer {}, not {peer}", ReplicaId(meta.replica)),
                });
            }
            None => keeper.create_group(METADATA_GROUP, peer.0, Bytes::new(), Bytes::new())?,
        };
        let rows = load_rows(&keeper, meta.store_id())?;
        let state = state_of(&rows)?;
        let position = position_of(&meta)?;
        let durable = AtomicU64::new(meta.applied_index);
        let shared = Shared {
            keeper,
            written: Mutex::new(Written { meta, rows }),
            durable,
            busy: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        };
        let mut machine = Self {
            state,
            position,
            offered: 0,
            shared: Arc::new(shared),
            feed,
            snapshots,
            tracker,
            write_out_entries: WRITE_OUT_ENTRIES,
        };
        machine.offer();
        Ok(machine)
    }

    fn offer(&mut self) {
        if self.state.version <= self.offered {
            return;
        }
        match View::of(&self.state) {
            Ok(view) => self.feed.offer(view),
            // The state's invariants say that it can't be; a node that goes on with its old view does no harm.
            Err(error) => {
                tracing::error!(%error, version = self.state.version, "the metadata state gives no view")
            }
        }
        self.offered = self.state.version;
    }

    fn freeze(&self) -> Frozen {
        Frozen { state: self.state.clone(), position: self.position.clone() }
    }

    fn refuse_failed(&self) -> Result<(), Broken> {
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(Broken::new("a write-out of the metadata state failed"));
        }
        Ok(())
    }
}

impl StateMachine for Machine {
    type Outcome = MetaOutcome;

    fn position(&self) -> Position {
        self.position.clone()
    }

    async fn prepare(&mut self, _entries: &[Committed]) -> Result<(), Broken> {
        self.refuse_failed()
    }

    fn apply(&mut self, entry: Committed) -> Result<MetaOutcome, Broken> {
        let command = MetaCommand::decode(entry.data)
            .map_err(|error| Broken::new(format!("metadata command at index {}: {error}", entry.index)))?;
        let outcome = self.state.apply(&command).map_err(|error| Broken::new(error.to_string()))?;
        (self.position.index, self.position.term) = (entry.index, entry.term);
        Ok(outcome)
    }

    fn reconfigured(&mut self, index: u64, term: u64, conf: ConfState) {
        self.position = Position { index, term, conf };
    }

    fn empty(&mut self, index: u64, term: u64) {
        (self.position.index, self.position.term) = (index, term);
    }

    fn batch_end(&mut self) {
        self.offer();
        let behind = self.position.index.saturating_sub(self.durable_index());
        if behind < self.write_out_entries || self.shared.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (shared, frozen) = (Arc::clone(&self.shared), self.freeze());
        self.tracker.spawn(async move {
            let busy = Arc::clone(&shared);
            if let Err(error) = write_out(shared, frozen).await {
                tracing::error!(%error, "the metadata state could not be written out");
                busy.failed.store(true, Ordering::Release);
            }
            busy.busy.store(false, Ordering::Release);
        });
    }

    fn durable_index(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    async fn snapshot(&mut self) -> Result<SnapshotSource, Broken> {
        self.refuse_failed()?;
        // A write-out of an older state that is still on its way finds this one done, and does nothing.
        write_out(Arc::clone(&self.shared), self.freeze()).await.map_err(broken)?;
        let dir = self.snapshots.join(format!("{METADATA_GROUP}-{}", self.position.index));
        let (shared, into) = (Arc::clone(&self.shared), dir.clone());
        let exported = blocking(move || {
            remove_leftover(&into)?;
            Ok(shared.keeper.export(METADATA_GROUP, &into)?)
        });
        let exported = exported.await.map_err(broken)?;
        let files =
            exported.files.iter().map(|f| SnapshotFile { name: f.name.clone(), bytes: f.bytes }).collect();
        let position = position_of(&exported.meta).map_err(broken)?;
        Ok(SnapshotSource { position, manifest: exported.encode_to_vec().into(), dir, files })
    }

    async fn install(&mut self, staged: StagedSnapshot) -> Result<Position, Broken> {
        let exported = Exported::decode(staged.manifest.clone()).map_err(broken)?;
        let shared = Arc::clone(&self.shared);
        let mut written = shared.written.lock().await;
        let (keeper, replica) = (Arc::clone(&shared.keeper), written.meta.replica);
        let installed = blocking(move || {
            let meta = keeper.install(METADATA_GROUP, replica, &staged.dir, &exported)?;
            let rows = load_rows(&keeper, meta.store_id())?;
            let state = state_of(&rows)?;
            Ok((meta, rows, state))
        });
        let (meta, rows, state) = installed.await.map_err(broken)?;
        self.position = position_of(&meta).map_err(broken)?;
        self.state = state;
        shared.durable.store(meta.applied_index, Ordering::Release);
        *written = Written { meta, rows };
        drop(written);
        self.offer();
        Ok(self.position.clone())
    }
}

/// Writes a frozen state out, unless a newer one was written meanwhile.
async fn write_out(shared: Arc<Shared>, frozen: Frozen) -> Result<()> {
    let mut written = shared.written.lock().await;
    if frozen.position.index <= written.meta.applied_index {
        return Ok(());
    }
    let keeper = Arc::clone(&shared.keeper);
    let meta = GroupMeta {
        applied_index: frozen.position.index,
        applied_term: frozen.position.term,
        conf_state: encode_conf(&frozen.position.conf),
        ..written.meta.clone()
    };
    let before = written.rows.clone();
    let wrote = blocking(move || {
        let rows = frozen.state.to_rows();
        let changed = rows.iter().filter(|(key, value)| before.get(*key) != Some(*value));
        let put = changed.map(|(key, value)| ControlWrite::put(key.clone(), value.clone()));
        let gone = before.keys().filter(|key| !rows.contains_key(*key)).cloned();
        let writes = put.chain(gone.map(ControlWrite::delete)).collect();
        keeper.write_out(WriteOut { meta: meta.clone(), rows: writes, tables: Vec::new() })?;
        Ok(Written { meta, rows })
    });
    *written = wrote.await?;
    shared.durable.store(written.meta.applied_index, Ordering::Release);
    Ok(())
}

fn load_rows(keeper: &Keeper, store: StoreId) -> Result<BTreeMap<Vec<u8>, Bytes>> {
    let mut rows = BTreeMap::new();
    let mut range = KeyRange::all();
    loop {
        let page = keeper.scan(store, &range, Order::Ascending, PAGE_ROWS_MAX)?;
        let last = page.rows.last().map(|(key, _)| key.to_vec());
        rows.extend(page.rows.into_iter().map(|(key, value)| (key.to_vec(), value)));
        match last {
            // The smallest key behind the last one.
            Some(mut last) if page.more => {
                last.push(0);
                range.start = last;
            }
            _ => return Ok(rows),
        }
    }
}

fn state_of(rows: &BTreeMap<Vec<u8>, Bytes>) -> Result<MetaState> {
    Ok(MetaState::from_rows(rows.iter().map(|(key, value)| (key.as_slice(), value.clone())))?)
}

fn position_of(meta: &GroupMeta) -> Result<Position> {
    let conf = decode_conf(&meta.conf_state).map_err(|_| Error::malformed("stored list of members"))?;
    Ok(Position { index: meta.applied_index, term: meta.applied_term, conf })
}

fn remove_leftover(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", dir)(error)),
        _ => Ok(()),
    }
}

fn broken(error: impl std::fmt::Display) -> Broken {
    Broken::new(error.to_string())
}

/// Runs what waits for a disk where that is allowed. A failed write or sync ends the process: what the disk holds is
/// unknown then.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Err(Error::Storage(error))) if error.is_fatal() => {
            tracing::error!(%error, "the storage failed; the process ends");
            std::process::abort();
        }
        Ok(answer) => answer,
        // The runtime is shutting down, or the work panicked.
        Err(_) => Err(Error::Stopped),
    }
}
