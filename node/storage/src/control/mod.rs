//! # Control state: few, small, hot rows in key order
//!
//! A [`ControlStore`] maps ordered bytes ([`keys`]) to small values. It holds what has to be looked up by key and
//! changes often: meta rows, manifests of runs, identity records, link facts, inbox, outbox, quarantine.
//!
//! ## What it promises
//!
//! 1. [`ControlStore::apply`] is atomic: after a crash all rows of a call are there or none, and calls are there in
//!    their order: if a later one is, so are all earlier ones.
//! 2. What was applied before [`ControlStore::flush_durable`] returned survives a power cut. `apply` alone promises
//!    nothing about durability.
//! 3. Every row is verified on every read: each is stored with a checksum over key and value, so that a row that
//!    was damaged, or strayed to another key, is [`Error::Corrupt`], never wrong data.
//! 4. Memory is bounded: a batch has at most [`BATCH_ROWS_MAX`] rows, a value at most [`VALUE_BYTES_MAX`] bytes, a
//!    page at most [`PAGE_ROWS_MAX`] rows and about [`PAGE_BYTES_MAX`] bytes.
//!
//! ## How it is used
//!
//! Writes come from **one** thread at a time: sled's batches take locks that are global to the process and block its
//! readers, so the keeper has one writer lock. Several batches are made atomic by a redo file, not here. A scan is
//! made of pages; rows may change between two pages, so who needs a consistent scan holds the writer lock.
//!
//! ## What it leaves out
//!
//! A lost row is not detected here (nothing at all is left to verify): the callers keep counts and hashes, and
//! replicas compare theirs.

pub mod keys;
mod memory;
mod sled;

use bytes::Bytes;

pub use self::keys::KeyRange;
pub use self::memory::MemoryControl;
pub use self::sled::{SledControl, SledOptions};
use crate::{Error, Result};

/// The most rows in one [`ControlStore::apply`].
pub const BATCH_ROWS_MAX: usize = 64;
/// The most bytes of a value: 64 KiB. Larger things belong into runs.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// The most rows of a page.
pub const PAGE_ROWS_MAX: usize = 1024;
/// A page ends with the row that takes it to this many bytes of keys and values: 1 MiB.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlWrite {
    /// The row's key, 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: Vec<u8>,
    /// The new value, or `None` to delete the row.
    pub value: Option<Bytes>,
}

impl ControlWrite {
    /// Sets a row.
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }

    /// Deletes a row; no matter whether there is one.
    pub fn delete(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), value: None }
    }
}

/// A row: key and value.
pub type Row = (Bytes, Bytes);

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the smallest key on.
    Ascending,
    /// From the largest key on.
    Descending,
}

/// A part of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows, in the order of the scan.
    pub rows: Vec<Row>,
    /// Whether the page ended at a limit, so that there may be more rows behind it.
    pub more: bool,
}

/// Small rows in key order. See the [module](self) for the promises.
pub trait ControlStore: Send + Sync + 'static {
    /// The value of a row.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// The first rows of a range in `order`: at most `limit` (1 to [`PAGE_ROWS_MAX`]; more is cut to it), and about
    /// [`PAGE_BYTES_MAX`] bytes. [`rows`] goes through all pages.
    fn scan(&self, range: &KeyRange, order: Order, limit: usize) -> Result<Page>;

    /// Changes rows, all or none. Of several writes of one key the last counts.
    ///
    /// # Errors
    /// [`Error::Refused`] when there are more than [`BATCH_ROWS_MAX`] rows or a key or value
    /// is too long: then nothing is changed.
    fn apply(&self, writes: &[ControlWrite]) -> Result<()>;

    /// Makes everything applied so far durable: it survives a power cut.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the sync fails.
    fn flush_durable(&self) -> Result<()>;
}

/// All rows of a range, fetched page by page. Ends after the first error.
pub fn rows<'a>(store: &'a dyn ControlStore, range: &KeyRange, order: Order) -> Rows<'a> {
    Rows { store, rest: Some(range.clone()), order, page: Vec::new().into_iter() }
}

/// The iterator of [`rows`].
pub struct Rows<'a> {
    store: &'a dyn ControlStore,
    /// What is still to be fetched; `None` at the end.
    rest: Option<KeyRange>,
    order: Order,
    page: std::vec::IntoIter<Row>,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(row) = self.page.next() {
            return Some(Ok(row));
        }
        let mut rest = self.rest.take()?;
        let page = match self.store.scan(&rest, self.order, PAGE_ROWS_MAX) {
            Ok(page) => page,
            Err(error) => return Some(Err(error)),
        };
        if let (true, Some((last, _))) = (page.more, page.rows.last()) {
            match self.order {
                // The smallest key behind `last`.
                Order::Ascending => rest.start = [last.as_ref(), &[0]].concat(),
                Order::Descending => rest.end = Some(last.to_vec()),
            }
            self.rest = Some(rest);
        }
        self.page = page.rows.into_iter();
        self.page.next().map(Ok)
    }
}

/// Refuses a batch that breaks the limits.
fn check_batch(writes: &[ControlWrite]) -> Result<()> {
    if writes.len() > BATCH_ROWS_MAX {
        return Err(Error::Refused(format!("{} control rows in a batch of {BATCH_ROWS_MAX}", writes.len())));
    }
    for write in writes {
        if write.key.is_empty() || write.key.len() > KEY_BYTES_MAX {
            return Err(Error::Refused(format!("a control key of {} bytes", write.key.len())));
        }
        let bytes = write.value.as_ref().map_or(0, Bytes::len);
        if bytes > VALUE_BYTES_MAX {
            return Err(Error::Refused(format!("a control value of {bytes} bytes, over {VALUE_BYTES_MAX}")));
        }
    }
    Ok(())
}

/// Takes a page off an iterator.
fn page_of(rows: impl Iterator<Item = Result<Row>>, limit: usize) -> Result<Page> {
    let limit = limit.clamp(1, PAGE_ROWS_MAX);
    let mut page = Page::default();
    let mut bytes = 0;
    for row in rows {
        if page.rows.len() == limit || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        let (key, value) = row?;
        bytes += key.len() + value.len();
        page.rows.push((key, value));
    }
    Ok(page)
}

/// Whether a test has switched the sync off (fail point `storage::control::flush`).
fn flush_is_skipped() -> bool {
    fail::fail_point!("storage::control::flush", |_| true);
    false
}
