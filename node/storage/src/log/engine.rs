//! The [`Log`] on disk, on the raft-engine crate.
//!
//! ## How
//!
//! A [`Log::write`] becomes one raft-engine record: the entries of all groups and, for each group, its
//! [`GroupState`] under one key. The engine writes a record whole or (torn by a crash) not at all, so the promises of
//! a round follow. `compact` and `remove` are records of their own, synced too: see `scan` for why every record is
//! synced before the next one.
//!
//! Purging deletes files whose records are all dropped; the engine copies what little is still alive in old files
//! into its second queue first.
//!
//! ## What had to be worked around
//!
//! - *Its cache of the last block is per thread, not per engine*, and knows a block only by file number, offset and
//!   length. Two engines in one process (a cluster of embedded nodes), or one that was reopened, would read each
//!   other's entries. So everything that reads blocks runs on threads of this engine's own: one for reads, a passing
//!   one for each purge.
//! - *It panics* when a sync fails, and when entries would leave a hole. The first is caught and is [`Error::Fatal`];
//!   the second is checked before.
//! - *It forgives damage*: see the `scan` module.
//! - *Dropped entries can come back* after a restart: compacted ones, once a purge has deleted the record of the
//!   compaction; and a replaced suffix, once a purge has copied it and what replaced it was compacted away. The
//!   [`GroupState`] tells: what lies before its base is never read, and when it says that there are no entries at all,
//!   those that came back are dropped again at open; else the next append would leave a hole behind them.
//! - *A purge may delete a file under a read.* Such a read is tried again.
//!
//! Its LZ4 is off: payloads come compressed. Files are not recycled: what is purged is gone from the disk.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use parking_lot::{Mutex, RwLock};
use raft::eraftpb::Entry;
use raft_engine::env::{DefaultFileSystem, FileSystem};
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};

use super::reader::Reader;
use super::{
    ENTRIES_MAX, EntryId, GroupState, GroupWrite, Log, LogState, injected_write_error, scan, sync_is_skipped,
};
use crate::format::sync_dir;
use crate::{Error, GroupId, Result};

/// The key of a group's [`GroupState`].
const STATE_KEY: &[u8] = b"state";
/// The most bytes of one read, so that the engine's 32-bit sum of lengths cannot overflow.
const READ_BYTES_MAX: u64 = 1 << 30;
/// How often a read is tried while writes and purges change what it reads.
const READ_ATTEMPTS_MAX: u32 = 8;
/// Threads that replay files at open.
const RECOVERY_THREADS: usize = 2;
pub(super) const ENGINE: &str = "raft-engine";

/// Sizes of [`EngineLog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLogOptions {
    /// A file is closed and the next begun when it has this many bytes. Default 32 MiB.
    pub file_bytes: u64,
    /// A purge deletes files only when all of them together (each counted as full) are larger than this; at least
    /// `file_bytes`. Default 128 MiB.
    pub purge_bytes: u64,
}

impl Default for EngineLogOptions {
    fn default() -> Self {
        Self { file_bytes: 32 << 20, purge_bytes: 128 << 20 }
    }
}

/// The log on disk. See the head of its module for how. `F` is replaced only by tests that lose power.
pub struct EngineLog<F: FileSystem + 'static = DefaultFileSystem> {
    dir: PathBuf,
    engine: Arc<Engine<F>>,
    reader: Reader<F>,
    writer: Mutex<Writer>,
    /// Changed by the holder of `writer` only, after the engine has synced.
    groups: RwLock<BTreeMap<GroupId, GroupState>>,
}

/// What the one write at a time needs.
struct Writer {
    /// Kept for its buffers.
    batch: LogBatch,
    /// An earlier write has failed: nothing may follow it.
    failed: bool,
}

struct RaftEntries;

impl MessageExt for RaftEntries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

impl EngineLog {
    /// Opens the log in `dir`, which is created when missing.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with file and offset when anything but the torn end of a crash is damaged.
    pub fn open(dir: &Path, options: EngineLogOptions) -> Result<Self> {
        Self::open_on(dir, options, Arc::new(DefaultFileSystem))
    }
}

impl<F: FileSystem + 'static> EngineLog<F> {
    /// Opens the log on a given file system.
    pub fn open_on(dir: &Path, options: EngineLogOptions, file_system: Arc<F>) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        scan::verify(dir)?;
        let config = config(dir, options)?;
        let opened = catch_unwind(AssertUnwindSafe(|| Engine::open_with(config, file_system, Vec::new())));
        let engine = match opened {
            Ok(Ok(engine)) => Arc::new(engine),
            Ok(Err(error)) => return Err(off_path(dir, "open the log", error)),
            Err(panic) => return Err(Error::corrupt(dir.display().to_string(), panic_text(panic.as_ref()))),
        };
        sync_dir(dir)?;
        let reader = Reader::start(engine.clone(), dir)?;
        let groups = reader.run(load)??;
        Ok(Self {
            dir: dir.to_path_buf(),
            engine,
            reader,
            writer: Mutex::new(Writer { batch: LogBatch::default(), failed: false }),
            groups: RwLock::new(groups),
        })
    }

    fn group(&self, group: GroupId) -> Result<GroupState> {
        let known = self.groups.read().get(&group).cloned();
        known.ok_or_else(|| Error::NotFound(format!("log of group {group}")))
    }

    /// Writes and syncs what `fill` puts into the batch. Any failure is for good.
    fn commit(&self, writer: &mut Writer, fill: impl FnOnce(&mut LogBatch) -> Result<()>) -> Result<()> {
        let fatal = |reason: String| Error::Fatal { action: "writing the log", reason };
        if writer.failed {
            return Err(fatal("an earlier write has failed".into()));
        }
        if let Err(error) = fill(&mut writer.batch) {
            writer.batch = LogBatch::default();
            return Err(error);
        }
        // Until it is known to have worked.
        writer.failed = true;
        injected_write_error()?;
        let sync = !sync_is_skipped();
        match catch_unwind(AssertUnwindSafe(|| self.engine.write(&mut writer.batch, sync))) {
            Ok(Ok(_)) => {
                writer.failed = false;
                Ok(())
            }
            Ok(Err(error)) => Err(fatal(error.to_string())),
            Err(panic) => Err(fatal(panic_text(panic.as_ref()))),
        }
    }

    fn read(
        &self,
        group: GroupId,
        low: u64,
        high: u64,
        bytes: usize,
    ) -> Result<raft_engine::Result<Vec<Entry>>> {
        self.reader.run(move |engine| {
            let mut entries = Vec::new();
            engine
                .fetch_entries_to::<RaftEntries>(group, low, high, Some(bytes), &mut entries)
                .map(|_| entries)
        })
    }
}

impl<F: FileSystem + 'static> Log for EngineLog<F> {
    fn groups(&self) -> Vec<GroupId> {
        self.groups.read().keys().copied().collect()
    }

    fn state(&self, group: GroupId) -> Result<Option<LogState>> {
        Ok(self.groups.read().get(&group).map(GroupState::view))
    }

    fn write(&self, writes: &[GroupWrite]) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer.lock();
        let mut changed: BTreeMap<GroupId, GroupState> = BTreeMap::new();
        let mut states = Vec::with_capacity(writes.len());
        {
            let groups = self.groups.read();
            for write in writes {
                let known = changed.get(&write.group).or_else(|| groups.get(&write.group));
                let state = known.cloned().unwrap_or_default().after(write)?;
                states.push((known.is_some(), state.encode()));
                changed.insert(write.group, state);
            }
        }
        self.commit(&mut writer, |batch| {
            for (write, (known, state)) in writes.iter().zip(states) {
                let group = write.group;
                if write.reset.is_some() && known {
                    batch.add_command(group, Command::Clean);
                }
                batch
                    .add_entries::<RaftEntries>(group, &write.entries)
                    .and_then(|()| batch.put(group, STATE_KEY.to_vec(), state))
                    .map_err(|error| Error::Refused(format!("log write of group {group}: {error}")))?;
            }
            Ok(())
        })?;
        self.groups.write().append(&mut changed);
        Ok(())
    }

    fn entries(&self, group: GroupId, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>> {
        let high = self.group(group)?.readable(group, low, high, ENTRIES_MAX)?;
        if low >= high {
            return Ok(Vec::new());
        }
        let bytes = max_bytes.min(READ_BYTES_MAX) as usize;
        let mut attempt = 1;
        loop {
            let error = match self.read(group, low, high, bytes)? {
                Ok(entries) => return Ok(entries),
                Err(error) => error,
            };
            // A write may have replaced or dropped the entries: wait until it is done, and look again. Or a purge
            // has moved them: the next attempt finds where they are now.
            drop(self.writer.lock());
            self.group(group)?.readable(group, low, high, ENTRIES_MAX)?;
            if attempt < READ_ATTEMPTS_MAX {
                attempt += 1;
                continue;
            }
            let place = format!("{}, group {group}, entries from {low}", self.dir.display());
            return Err(match error {
                raft_engine::Error::Io(source) => {
                    Error::Io { action: "read the log in", path: self.dir.clone(), source }
                }
                other => Error::corrupt(place, other.to_string()),
            });
        }
    }

    fn term(&self, group: GroupId, index: u64) -> Result<u64> {
        let groups = self.groups.read();
        let state = groups.get(&group).ok_or_else(|| Error::NotFound(format!("log of group {group}")))?;
        state.term(group, index)
    }

    fn compact(&self, group: GroupId, base: EntryId) -> Result<()> {
        let mut writer = self.writer.lock();
        let Some(state) = self.group(group)?.compacted(group, base)? else { return Ok(()) };
        self.commit(&mut writer, |batch| {
            batch.add_command(group, Command::Compact { index: base.index + 1 });
            batch
                .put(group, STATE_KEY.to_vec(), state.encode())
                .map_err(|error| Error::Refused(format!("compacting group {group}: {error}")))
        })?;
        self.groups.write().insert(group, state);
        Ok(())
    }

    fn remove(&self, group: GroupId) -> Result<()> {
        let mut writer = self.writer.lock();
        if !self.groups.read().contains_key(&group) {
            return Ok(());
        }
        self.commit(&mut writer, |batch| {
            batch.add_command(group, Command::Clean);
            Ok(())
        })?;
        self.groups.write().remove(&group);
        Ok(())
    }

    fn purge(&self) -> Result<Vec<GroupId>> {
        // A thread of its own, for the cache of blocks: see the top.
        let purged = thread::scope(|scope| scope.spawn(|| self.engine.purge_expired_files()).join());
        match purged {
            Ok(Ok(mut groups)) => {
                groups.sort_unstable();
                Ok(groups)
            }
            Ok(Err(error)) => Err(off_path(&self.dir, "purge the log", error)),
            Err(panic) => {
                self.writer.lock().failed = true;
                Err(Error::Fatal { action: "purging the log", reason: panic_text(panic.as_ref()) })
            }
        }
    }

    fn bytes(&self) -> u64 {
        scan::bytes_in(&self.dir).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot measure the raft log; using the engine's upper bound");
            self.engine.get_used_size() as u64
        })
    }
}

fn config(dir: &Path, options: EngineLogOptions) -> Result<Config> {
    let name = dir.to_str().ok_or_else(|| Error::Refused("the log's directory is not UTF-8".into()))?;
    if options.purge_bytes < options.file_bytes {
        return Err(Error::Refused("the log's purge_bytes is less than its file_bytes".into()));
    }
    Ok(Config {
        dir: name.to_owned(),
        // What may be forgiven, `scan` has cut off already.
        recovery_mode: RecoveryMode::AbsoluteConsistency,
        recovery_threads: RECOVERY_THREADS,
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize(options.file_bytes),
        purge_threshold: ReadableSize(options.purge_bytes),
        enable_log_recycle: false,
        ..Config::default()
    })
}

/// Reads the states of all groups, checks them against the entries that are there, and drops entries that came back.
fn load<F: FileSystem>(engine: &Engine<F>) -> Result<BTreeMap<GroupId, GroupState>> {
    let mut groups = BTreeMap::new();
    let mut mend = LogBatch::default();
    for group in engine.raft_groups() {
        let found = engine.first_index(group).zip(engine.last_index(group));
        let corrupt = |what: &str| Error::corrupt(format!("log of group {group}"), what);
        let Some(bytes) = engine.get(group, STATE_KEY) else {
            if found.is_some() {
                return Err(corrupt("there are entries, but base and hard state are missing"));
            }
            continue;
        };
        let state = GroupState::decode(group, &bytes)?;
        let (base, end) = (state.base().index, state.last_entry().index);
        if end == base {
            if found.is_some() {
                mend.add_command(group, Command::Clean);
                mend.put(group, STATE_KEY.to_vec(), bytes).map_err(|error| corrupt(&error.to_string()))?;
            }
        } else {
            let Some((first, last)) = found else { return Err(corrupt("all entries are missing")) };
            if first > base + 1 || last != end {
                return Err(corrupt("entries are missing"));
            }
            for index in [base + 1, end] {
                let entry = engine
                    .get_entry::<RaftEntries>(group, index)
                    .map_err(|error| corrupt(&format!("entry {index}: {error}")))?;
                if entry.map(|entry| entry.term) != Some(state.term(group, index)?) {
                    return Err(corrupt("an entry is not of the term it should be of"));
                }
            }
        }
        groups.insert(group, state);
    }
    if !mend.is_empty() {
        engine
            .write(&mut mend, true)
            .map_err(|error| Error::Fatal { action: "writing the log", reason: error.to_string() })?;
    }
    Ok(groups)
}

/// An engine's error off the commit path.
fn off_path(dir: &Path, action: &'static str, error: raft_engine::Error) -> Error {
    match error {
        raft_engine::Error::Corruption(what) => Error::corrupt(dir.display().to_string(), what),
        other => Error::Engine { engine: ENGINE, action, reason: other.to_string() },
    }
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without text".into())
}
