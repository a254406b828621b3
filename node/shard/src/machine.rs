//! The shard as a Raft group's state machine, and how it is frozen and written out.
//!
//! Three parties touch a replica's memory: apply (one task, of the group), readers, and the write-out. [`Shared`] is
//! what they share. Apply alone changes [`State`], but for a freeze, which takes the active memtable away between two
//! batches: it holds the batch lock meanwhile, so a batch finds what it fetched for.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use isthmus_raft::{
    Broken, Committed, ConfState, Position, SnapshotFile, SnapshotSource, StagedSnapshot, StateMachine,
};
use isthmus_storage::{
    StoreId,
    keeper::{Exported, GroupMeta},
};
use parking_lot::{Mutex as PlainMutex, RwLock};
use prost::Message as _;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, watch};
use tokio_util::task::TaskTracker;

use crate::{
    Keeper, Load,
    apply::{self, Decoded, Outcome},
    below::Below,
    error::broken,
    feed::Place,
    freezer::Freezer,
    freshness::{Gauge, Notes},
    read::BaseCache,
    scan::{Base, Pins},
    state::{self, Fetched, Lower, Needs, State},
    tables::FEED,
    waits::Waits,
};

/// What apply, readers and the write-out share of a replica.
pub struct Shared {
    /// The shard.
    pub shard: u64,
    /// This replica's peer id.
    pub replica: u64,
    /// What was applied.
    pub state: RwLock<State>,
    /// What lies below the active memtable. Taken after `state` where both are needed.
    pub lower: RwLock<Lower>,
    /// Facets as they lie in runs.
    pub cache: BaseCache,
    /// Rung when messages come into the outbox.
    pub outbox: Notify,
    /// [`Streams::emitted`](crate::outbox::Streams::emitted) after the last batch.
    emitted: AtomicU64,
    /// Rung when a sweep is under way, or facts are to be searched.
    pub(crate) tend: Notify,
    /// Rung when facets were noted that matching is to look at again.
    pub(crate) touched: Notify,
    /// Who waits for link facts to come into force.
    pub(crate) waits: Waits,
    /// [`State::settled`] after the last batch.
    pub(crate) settled: watch::Sender<u64>,
    /// The stamp of the last command after the last batch: who waits for changes looks again.
    pub(crate) stamped: watch::Sender<u64>,
    /// How fresh events are when they are applied.
    pub(crate) freshness: Gauge,
    pub(crate) keeper: Keeper,
    pub(crate) load: Arc<Load>,
    /// The index up to which all is written out.
    pub(crate) durable: AtomicU64,
    /// A write-out failed: the replica stops.
    pub(crate) failed: AtomicBool,
    /// Held from fetching to the batch's end, and by a freeze.
    pub(crate) batch: Arc<Mutex<()>>,
    /// One write-out at a time.
    pub(crate) writing: Mutex<()>,
    snapshots: PathBuf,
    pub(crate) tracker: TaskTracker,
    /// Who holds snapshots.
    pub(crate) pins: Pins,
    /// All facets as of an earlier stamp, for queries.
    pub(crate) base: PlainMutex<Option<Arc<Base>>>,
}

/// The state machine of one replica.
pub struct Machine {
    shared: Arc<Shared>,
    decoded: VecDeque<(u64, Decoded)>,
    batch: Option<OwnedMutexGuard<()>>,
    position: Position,
    notes: Notes,
}

impl Machine {
    /// Loads a replica from storage. `snapshots` is a directory for snapshots to be sent, on the file system of the
    /// runs, so that they are hard links.
    ///
    /// # Errors
    /// Storage that fails or holds what can't be read.
    pub fn load(
        keeper: &Keeper,
        meta: &GroupMeta,
        snapshots: PathBuf,
        tracker: TaskTracker,
        cache_bytes: u64,
    ) -> Result<Self, Broken> {
        let storage = keeper.storage();
        let state = State::load(storage, meta)?;
        let runs = storage.runs(StoreId(meta.store)).map_err(broken)?;
        let load = Arc::new(Load::default());
        let position =
            Position { index: meta.applied_index, term: meta.applied_term, conf: state.conf.clone() };
        let shared = Arc::new(Shared {
            shard: meta.group,
            replica: meta.replica,
            state: RwLock::new(state),
            lower: RwLock::new(Lower { frozen: None, runs, generation: 0 }),
            cache: BaseCache::new(cache_bytes),
            outbox: Notify::new(),
            emitted: AtomicU64::new(0),
            tend: Notify::new(),
            touched: Notify::new(),
            waits: Waits::default(),
            settled: watch::Sender::new(0),
            stamped: watch::Sender::new(0),
            freshness: Gauge::default(),
            keeper: keeper.clone(),
            load: load.clone(),
            durable: AtomicU64::new(meta.applied_index),
            failed: AtomicBool::new(false),
            batch: Arc::new(Mutex::new(())),
            writing: Mutex::new(()),
            snapshots,
            tracker,
            pins: Pins::default(),
            base: PlainMutex::default(),
        });
        keeper.register(meta.group, load, Freezer::of(shared.clone()));
        Ok(Self { shared, decoded: VecDeque::new(), batch: None, position, notes: Notes::default() })
    }

    /// What readers hold.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }
}

impl Shared {
    /// Counts the hash of all rows again, from the memtables and what lies on disk: it must be the one that apply kept.
    /// Nothing may be applied meanwhile. Waits for a disk, for long.
    ///
    /// # Errors
    /// Storage that fails or is damaged.
    pub fn count_hash(&self) -> Result<crate::StateHash, Broken> {
        crate::read::count_hash(self)
    }

    /// The store that holds what was written out.
    pub(crate) fn store(&self) -> StoreId {
        self.state.read().store
    }

    /// Lets readers have the storage's runs as they are after a merge. A write-out under way is waited for: between
    /// its end in the storage and its swap here its rows are among the runs and frozen too, and would count twice.
    pub(crate) async fn show_runs(&self, store: StoreId) -> Result<(), Broken> {
        let _writing = self.writing.lock().await;
        // A snapshot may have put another store in place meanwhile.
        if self.store() == store {
            self.lower.write().runs = self.keeper.storage().runs(store).map_err(broken)?;
        }
        Ok(())
    }

    /// Drops what lies below the floor of the feed, as far as whole runs do.
    pub(crate) async fn drop_expired(self: &Arc<Self>) -> Result<(), Broken> {
        let (store, floor) = {
            let state = self.state.read();
            (state.store, state.meta.feed_floor.unwrap_or_default())
        };
        let storage = self.keeper.storage().clone();
        let behind = Place::end_of(floor).key();
        let dropped = blocking(move || storage.drop_below(store, FEED, &behind).map_err(broken)).await?;
        match dropped {
            Some(_) => self.show_runs(store).await,
            None => Ok(()),
        }
    }

    fn publish_load(&self) {
        let (active, emitted, tend, settled, stamp) = {
            let state = self.state.read();
            let sweeps = !state.meta.sweep.is_done() || state.meta.sweep.wanted == 0;
            let tend = sweeps || !state.searches.is_empty();
            if state.touched.len() > 0 {
                self.touched.notify_one();
            }
            (state.active.bytes(), state.streams.emitted(), tend, state.settled, state.meta.stamp.0)
        };
        if tend {
            self.tend.notify_one();
        }
        self.settled.send_if_modified(|known| std::mem::replace(known, settled) != settled);
        self.stamped.send_if_modified(|known| std::mem::replace(known, stamp) != stamp);
        self.load.active_bytes.store(active, Relaxed);
        if self.emitted.swap(emitted, Relaxed) != emitted {
            self.outbox.notify_one();
        }
        self.keeper.look();
    }
}

impl StateMachine for Machine {
    type Outcome = Outcome;

    fn position(&self) -> Position {
        self.position.clone()
    }

    async fn prepare(&mut self, entries: &[Committed]) -> Result<(), Broken> {
        if self.shared.failed.load(Relaxed) {
            return Err(Broken::new("an earlier write-out failed"));
        }
        self.shared.keeper.room().await;
        if self.batch.is_none() {
            self.batch = Some(self.shared.batch.clone().lock_owned().await);
        }
        let mut needs = Needs::default();
        for entry in entries {
            let command = apply::decode(state::decode(entry.data.clone())?)?;
            apply::needs(&command, &mut needs)?;
            self.decoded.push_back((entry.index, command));
            self.shared.load.replay_bytes.fetch_add(entry.data.len() as u64, Relaxed);
        }
        let fetched = fetch(&self.shared, needs).await?;
        self.shared.state.write().fetched = fetched;
        Ok(())
    }

    fn apply(&mut self, entry: Committed) -> Result<Outcome, Broken> {
        let Some((index, command)) = self.decoded.pop_front() else {
            return Err(Broken::new(format!("entry {} was not prepared", entry.index)));
        };
        if index != entry.index {
            return Err(Broken::new(format!(
                "entry {} was prepared, {} is to be applied",
                index, entry.index
            )));
        }
        let measured = match &command {
            Decoded::Ingest { items, .. } => self.notes.take(&self.shared.freshness, items),
            _ => false,
        };
        let outcome = {
            let mut state = self.shared.state.write();
            let outcome = apply::apply(&mut state, command)?;
            (state.applied, state.term) = (entry.index, entry.term);
            outcome
        };
        if let (true, Outcome::Ingested(ingested)) = (measured, &outcome) {
            self.notes.count(&ingested.outcomes);
        }
        Ok(outcome)
    }

    fn reconfigured(&mut self, index: u64, term: u64, conf: ConfState) {
        let mut state = self.shared.state.write();
        (state.applied, state.term, state.conf) = (index, term, conf);
    }

    fn empty(&mut self, index: u64, term: u64) {
        let mut state = self.shared.state.write();
        (state.applied, state.term) = (index, term);
    }

    fn batch_end(&mut self) {
        let done = {
            let mut state = self.shared.state.write();
            state.fetched = Fetched::default();
            std::mem::take(&mut state.done)
        };
        if !done.is_empty() {
            self.shared.waits.settled(done);
        }
        self.batch = None;
        self.shared.publish_load();
    }

    fn durable_index(&self) -> u64 {
        self.shared.durable.load(Relaxed)
    }

    async fn snapshot(&mut self) -> Result<SnapshotSource, Broken> {
        let shared = self.shared.clone();
        let _writing = shared.writing.lock().await;
        Freezer::of(shared.clone()).write_out_locked().await?;
        let dir = shared.snapshots.join(format!("{}-{}", shared.shard, shared.durable.load(Relaxed)));
        let (storage, group, into) = (shared.keeper.storage().clone(), shared.shard, dir.clone());
        let exported = blocking(move || {
            remove_leftover(&into)?;
            storage.export(group, &into).map_err(broken)
        })
        .await?;
        let files =
            exported.files.iter().map(|f| SnapshotFile { name: f.name.clone(), bytes: f.bytes }).collect();
        let conf = isthmus_raft::decode_conf(&exported.meta.conf_state).map_err(broken)?;
        let position =
            Position { index: exported.meta.applied_index, term: exported.meta.applied_term, conf };
        Ok(SnapshotSource { position, manifest: exported.encode_to_vec().into(), dir, files })
    }

    async fn install(&mut self, staged: StagedSnapshot) -> Result<Position, Broken> {
        let shared = self.shared.clone();
        let _writing = shared.writing.lock().await;
        let _batch = shared.batch.clone().lock_owned().await;
        // They are of the state that goes.
        shared.end_pins();
        let exported = Exported::decode(staged.manifest.clone()).map_err(broken)?;
        let (storage, group, replica) = (shared.keeper.storage().clone(), shared.shard, shared.replica);
        let (meta, state, runs) = blocking(move || {
            let meta = storage.install(group, replica, &staged.dir, &exported).map_err(broken)?;
            let state = State::load(&storage, &meta)?;
            let runs = storage.runs(StoreId(meta.store)).map_err(broken)?;
            Ok((meta, state, runs))
        })
        .await?;
        let position =
            Position { index: meta.applied_index, term: meta.applied_term, conf: state.conf.clone() };
        {
            let mut current = shared.state.write();
            let mut lower = shared.lower.write();
            *current = state;
            *lower = Lower { frozen: None, runs, generation: lower.generation + 1 };
            shared.cache.clear();
        }
        shared.durable.store(meta.applied_index, Relaxed);
        shared.load.frozen_bytes.store(0, Relaxed);
        shared.load.replay_bytes.store(0, Relaxed);
        self.decoded.clear();
        shared.publish_load();
        Ok(position)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.shared.keeper.unregister(self.shared.shard);
        self.shared.end_pins();
    }
}

/// Fetches in two rounds: deduplication entries first, since only they tell whether a conflict's row is needed.
async fn fetch(shared: &Arc<Shared>, mut needs: Needs) -> Result<Fetched, Broken> {
    let lower = shared.lower.read().clone();
    let wanted = state::on_disk(&lower, &needs);
    let entries = if wanted.is_empty() {
        BTreeMap::new()
    } else {
        let lower = lower.clone();
        blocking(move || state::read_dedup(&lower, wanted)).await?
    };
    let mut fetched = Fetched::default();
    let store = {
        let state = shared.state.read();
        fetched.set_dedup(&lower, &needs, entries);
        state::conflicts(&state, &fetched, &mut needs);
        state.store
    };
    if !needs.rows.is_empty() {
        let storage = shared.keeper.storage().clone();
        let below = lower.clone();
        fetched.set_rows(blocking(move || state::read_rows(&storage, store, &below, needs.rows)).await?);
    }
    let below = Below { storage: shared.keeper.storage().clone(), store, lower };
    let wanted = shared.state.read().identities_below(needs.identities);
    let rows = match wanted.is_empty() {
        true => BTreeMap::new(),
        false => {
            let below = below.clone();
            blocking(move || wanted.into_iter().map(|key| Ok((key.clone(), below.get(&key)?))).collect())
                .await?
        }
    };
    fetched.set_below(rows, below);
    Ok(fetched)
}

fn remove_leftover(dir: &std::path::Path) -> Result<(), Broken> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(broken(error)),
        _ => Ok(()),
    }
}

/// Runs what may wait for a disk where it blocks nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Broken> + Send + 'static,
) -> Result<T, Broken> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(broken(error)))
}
