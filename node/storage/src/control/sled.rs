//! The [`ControlStore`] on disk, on sled 0.34.
//!
//! ## How
//!
//! One tree; tables are told apart by their keys, since a batch is atomic in one tree only. A row's value is stored
//! as `xxh3-64 of key and value (8, little-endian) | value`.
//!
//! ## sled's traps, and what is done about them
//!
//! - Returning from a batch says nothing about durability, and `flush` reaches the page cache of the drive at most
//!   (`sync_file_range`). So [`ControlStore::flush_durable`] flushes and then syncs the file `db` itself.
//! - The flushing thread is off: nothing happens behind our back, and flushing from two threads can deadlock.
//! - Batches and flushes take locks that are global to the process and stop readers: so batches are small, and one
//!   lock here lets one writer in at a time.
//! - A crash during open can leave `snap.*.generating`, which makes the next open fail: it is deleted first.
//! - Dropping it does not close it at once: jobs of its thread pool hold its file, and the lock on it, a little longer.
//!   So an open waits, boundedly, until the file is free.
//! - It may panic on damaged files: caught at open, and reported as damage.
//! - A flipped byte in its file was seen to lose rows silently. The checksum finds a row that *changed*; for rows that
//!   are *gone* see the module above.
//! - A size of memory: the cache's capacity counts pages as stored; resident it can be several times that.

use std::fs::{self, File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use super::{ControlStore, ControlWrite, KeyRange, Order, Page, check_batch, flush_is_skipped, page_of};
use crate::{Error, Result};

const CHECKSUM_BYTES: usize = 8;
const ENGINE: &str = "sled";
/// How often, and how long apart, an open looks whether an earlier instance has let go: 10 s in all.
const LOCK_ATTEMPTS_MAX: u32 = 1000;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Sizes of [`SledControl`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SledOptions {
    /// The capacity of sled's page cache. Default 64 MiB.
    pub cache_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20 }
    }
}

/// Control rows on disk. See the head of its module for how.
pub struct SledControl {
    path: PathBuf,
    db: sled::Db,
    /// sled's data file, to sync it.
    file: File,
    /// One writer at a time.
    writer: Mutex<Writer>,
}

struct Writer {
    /// A sync has failed: what is on disk is unknown, nothing may follow.
    failed: bool,
}

impl SledControl {
    /// Opens the store in the directory `path`, which is created when missing.
    pub fn open(path: &Path, options: SledOptions) -> Result<Self> {
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        wait_until_closed(path)?;
        remove_leftovers(path)?;
        let config = sled::Config::new().path(path).cache_capacity(options.cache_bytes).flush_every_ms(None);
        let db = match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => db,
            Ok(Err(error)) => return Err(failed("open the store", path, error)),
            Err(_) => return Err(Error::corrupt(path.display().to_string(), "sled cannot read its files")),
        };
        let data = path.join("db");
        let file = File::open(&data).map_err(Error::io("open", &data))?;
        File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", path))?;
        Ok(Self { path: path.to_path_buf(), db, file, writer: Mutex::new(Writer { failed: false }) })
    }

    fn row(&self, key: &[u8], stored: &[u8]) -> Result<Bytes> {
        let value = stored.split_first_chunk::<CHECKSUM_BYTES>().and_then(|(checksum, value)| {
            (u64::from_le_bytes(*checksum) == checksum_of(key, value)).then_some(value)
        });
        match value {
            Some(value) => Ok(Bytes::copy_from_slice(value)),
            None => Err(Error::corrupt(place(&self.path, key), "the row's checksum does not fit")),
        }
    }

    fn fail(&self, action: &'static str, error: sled::Error) -> Error {
        failed(action, &self.path, error)
    }
}

impl ControlStore for SledControl {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let stored = self.db.get(key).map_err(|error| self.fail("read a row", error))?;
        stored.map(|stored| self.row(key, &stored)).transpose()
    }

    fn scan(&self, range: &KeyRange, order: Order, limit: usize) -> Result<Page> {
        if range.is_empty() {
            return Ok(Page::default());
        }
        let start = range.start.as_slice();
        let found = match range.end.as_deref() {
            Some(end) => self.db.range(start..end),
            None => self.db.range(start..),
        };
        let rows = found.map(|row| {
            let (key, stored) = row.map_err(|error| self.fail("scan rows", error))?;
            let value = self.row(&key, &stored)?;
            Ok((Bytes::copy_from_slice(&key), value))
        });
        match order {
            Order::Ascending => page_of(rows, limit),
            Order::Descending => page_of(rows.rev(), limit),
        }
    }

    fn apply(&self, writes: &[ControlWrite]) -> Result<()> {
        check_batch(writes)?;
        let mut batch = sled::Batch::default();
        for write in writes {
            match &write.value {
                Some(value) => {
                    let mut stored = Vec::with_capacity(CHECKSUM_BYTES + value.len());
                    stored.extend_from_slice(&checksum_of(&write.key, value).to_le_bytes());
                    stored.extend_from_slice(value);
                    batch.insert(write.key.as_slice(), stored);
                }
                None => batch.remove(write.key.as_slice()),
            }
        }
        let writer = self.writer.lock();
        writer.usable()?;
        self.db.apply_batch(batch).map_err(|error| self.fail("write rows", error))
    }

    fn flush_durable(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        writer.usable()?;
        if flush_is_skipped() {
            return Ok(());
        }
        let flushed = self.db.flush().map_err(|error| error.to_string());
        let synced = flushed.and_then(|_| self.file.sync_data().map_err(|error| error.to_string()));
        synced.map_err(|reason| {
            writer.failed = true;
            Error::Fatal { action: "syncing the control store", reason }
        })
    }
}

impl Writer {
    fn usable(&self) -> Result<()> {
        if self.failed {
            let reason = "an earlier sync has failed".into();
            return Err(Error::Fatal { action: "writing the control store", reason });
        }
        Ok(())
    }
}

fn checksum_of(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    // The length keeps key and value apart.
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest()
}

/// A row's place without its content: keys may hold what identifies a person.
fn place(path: &Path, key: &[u8]) -> String {
    let store = key.first_chunk::<4>().map_or(0, |store| u32::from_be_bytes(*store));
    let table = key.get(4).copied().unwrap_or_default();
    format!("{}, store {store}, table {table}, a key of {} bytes", path.display(), key.len())
}

/// Waits until no earlier instance holds the data file.
fn wait_until_closed(path: &Path) -> Result<()> {
    let data = path.join("db");
    let file = match File::open(&data) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("open", &data)(error)),
    };
    for _ in 0..LOCK_ATTEMPTS_MAX {
        match file.try_lock() {
            // Closing the file gives the lock back: the data directory's own lock keeps other processes away.
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &data)(error)),
        }
    }
    Err(Error::Locked { path: path.to_path_buf() })
}

/// Deletes what a crash during open has left.
fn remove_leftovers(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
        let entry = entry.map_err(Error::io("list", path))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let file = entry.path();
            tracing::warn!(file = %file.display(), "deleting what an interrupted start has left");
            fs::remove_file(&file).map_err(Error::io("delete", &file))?;
        }
    }
    Ok(())
}

fn failed(action: &'static str, path: &Path, error: sled::Error) -> Error {
    match error {
        sled::Error::Corruption { at, .. } => Error::corrupt(
            path.display().to_string(),
            at.map_or_else(|| "sled found damage".to_owned(), |at| format!("sled found damage at {at}")),
        ),
        other => Error::Engine { engine: ENGINE, action, reason: other.to_string() },
    }
}
