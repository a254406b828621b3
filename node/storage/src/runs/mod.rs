//! # Runs: bulk state in sorted immutable files
//!
//! Rows that are many and rarely change (events, summaries, deduplication entries) are not kept in a tree that is
//! changed in place, but written in sorted files that never change: *runs*, as in a log-structured merge tree (O'Neil
//! et al. 1996). New rows come as a new run; runs are merged in the background; a read asks all runs that may have an
//! answer. The crate knows nothing of what is in the rows: a [`TableSpec`] declares their shape.
//!
//! ## What it promises
//!
//! 1. A run that [`RunStore::write`] returned is on the disk, with its name, whatever happens next.
//! 2. Every byte that is read is verified (`checked`); what doesn't fit is [`Error::Corrupt`](crate::Error::Corrupt)
//!    with file and offset.
//! 3. A look-up of what isn't there reads nothing (but for a false positive of the `filter`); a look-up of a row of
//!    a flat table reads one block of 4 KiB; a look-up in a columnar table reads the pages that hold the point key.
//! 4. Readers hold an immutable [`RunSet`] and never wait for writers.
//! 5. Memory is bounded: writing holds one row group, merging one batch a run and the keys of a filter's part, caches
//!    keep to a budget. An open run keeps its `index` in memory: about 3 bytes a row of a flat table; of a
//!    columnar one 9 bits for each distinct point, a few bytes for each page, and 0.2% of the data.
//! 6. A columnar run is a plain Parquet file, sorted by its first columns; anything that reads Parquet reads it.
//!
//! ## How
//!
//! Two kinds of table. *Columnar* (`columnar`, `stripes`): Parquet, with the pages of all columns ending at the
//! same rows, so that a group of pages (a stripe) is found by a sparse index of first keys. *Flat* (`flat`): rows of
//! fixed width in blocks of 4 KiB, for tables that are only looked up. `merge` and `flat_merge` read several runs
//! in key order, for scans and for merges. `store` is the engine on a [`disk`], of the file system or in memory.
//!
//! ## What it leaves out
//!
//! Which runs there are is the manifest's business: see [`keeper`](crate::keeper). Rows are never deleted from a run
//! (a merge may fold or replace them); erasure and retention will rewrite runs. Nothing is encrypted.

mod cache;
mod checked;
mod columnar;
#[cfg(test)]
mod conformance;
pub mod disk;
mod filter;
mod flat;
mod flat_merge;
mod index;
mod key;
mod merge;
mod meta;
mod run;
mod set;
mod store;
mod stripes;
mod table;

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;

pub use self::columnar::PageCompression;
use self::disk::Disk;
pub use self::flat_merge::{FlatRow, FlatScan};
pub use self::key::{POINT_BYTES, PointKey, SortKey};
pub use self::meta::{FileEntry, RunId, RunMeta};
pub use self::run::Run;
pub use self::set::{RunSet, Scan};
pub(crate) use self::store::verify;
pub use self::store::{FileRuns, MemoryRuns, NewRun, RowSource, RunOptions, Runs};
pub use self::table::{COLUMNS_MAX, Combine, DICTIONARY, Projection, Table, TableId, TableKind, TableSpec};
use crate::{Result, StoreId};

/// Rows of one table to write out, sorted by their key, smallest first.
#[derive(Clone, Debug)]
pub struct TableRows {
    /// Of which table.
    pub table: TableId,
    /// The rows.
    pub rows: Rows,
}

/// Sorted rows.
#[derive(Clone, Debug)]
pub enum Rows {
    /// Of a columnar table: batches of the table's schema, in order, each sorted. Equal keys are allowed.
    Columnar(Vec<RecordBatch>),
    /// Of a flat table: key, value, key, value … side by side; keys rise strictly.
    Flat(Vec<u8>),
}

impl Rows {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Columnar(batches) => batches.iter().all(|batch| batch.num_rows() == 0),
            Self::Flat(rows) => rows.is_empty(),
        }
    }
}

/// Where runs live. Numbers of runs are the caller's: each is used once.
pub trait RunStore: Send + Sync + 'static {
    /// The disk that the runs are on; redo files and exports go to the same.
    fn disk(&self) -> &dyn Disk;

    /// Writes a run; its files and their names are synced on return. After an error there may be parts of files.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) for rows that are not sorted or not the table's.
    fn write(&self, store: StoreId, table: &Arc<Table>, new: NewRun, source: RowSource) -> Result<RunMeta>;

    /// Opens a run for reading.
    fn open(&self, store: StoreId, table: &Arc<Table>, meta: &RunMeta) -> Result<Arc<Run>>;

    /// Removes the files of a run, no matter whether they are there. Readers that hold it go on reading.
    fn remove(&self, store: StoreId, table: &Table, run: RunId) -> Result<()>;

    /// Removes all files of a store.
    fn remove_store(&self, store: StoreId) -> Result<()>;

    /// The names of all files there are, by store.
    fn list(&self) -> Result<Vec<(StoreId, Vec<String>)>>;

    /// Removes a file that [`RunStore::list`] named.
    fn remove_file(&self, store: StoreId, name: &str) -> Result<()>;

    /// Gives a run's files second names in the directory `into`, on the same file system: they stay there whatever
    /// becomes of the run. The data file comes first.
    fn link(&self, store: StoreId, table: &Table, meta: &RunMeta, into: &Path) -> Result<[FileEntry; 2]>;

    /// Takes over files that [`RunStore::link`] made elsewhere, after verifying them, as run `id` of a store.
    fn adopt(&self, from: &Path, table: &Table, meta: &RunMeta, store: StoreId, id: RunId)
    -> Result<RunMeta>;
}
