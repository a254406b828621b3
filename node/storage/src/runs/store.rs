//! The engines: runs as files of a disk, on a file system or in memory.
//!
//! Files of store 7 are in the directory `00000007`: `<run>.parquet` or `<run>.flat`, and `<run>.index`. They are
//! written under these names, since a file that no manifest names is nobody's and is removed at the next open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::cache::RunCache;
use super::checked::{SummingWriter, sum_of};
use super::columnar::{ColumnarWriter, PageCompression, Written};
use super::disk::{Disk, MemoryDisk, RealDisk, write_all};
use super::flat::FlatWriter;
use super::flat_merge::FlatScan;
use super::merge::Merge;
use super::meta::{FileEntry, RunId, RunMeta};
use super::run::Run;
use super::table::{Shape, Table};
use super::{Rows, RunStore};
use crate::{Error, Result, StoreId};

/// How runs are kept.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The cache of decoded pages and blocks, in bytes, for all stores together. Default 64 MiB.
    pub cache_bytes: u64,
    /// Pages of runs that were written out (level 0).
    pub first_compression: PageCompression,
    /// Pages of merged runs.
    pub merged_compression: PageCompression,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            first_compression: PageCompression::Lz4,
            merged_compression: PageCompression::Lz4,
        }
    }
}

/// Runs as files of a [`Disk`].
pub struct Runs<D> {
    disk: D,
    dir: PathBuf,
    options: RunOptions,
    cache: Arc<RunCache>,
}

/// Runs on the file system.
pub type FileRuns = Runs<RealDisk>;
/// Runs in memory, for the simulation and for tests.
pub type MemoryRuns = Runs<MemoryDisk>;

impl FileRuns {
    /// Runs in a directory, which is made where it is missing.
    pub fn open(dir: &Path, options: RunOptions) -> Result<Arc<Self>> {
        Self::on(RealDisk, dir, options)
    }
}

impl MemoryRuns {
    /// Runs in memory, on a disk of their own.
    pub fn new(options: RunOptions) -> Result<Arc<Self>> {
        Self::on(MemoryDisk::new(), Path::new("/runs"), options)
    }
}

/// A run to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewRun {
    /// Its number.
    pub id: RunId,
    /// Its level.
    pub level: u32,
    /// The write-out its newest row is from.
    pub created_from: u64,
}

/// Sorted rows on their way into a run, piece by piece.
pub enum RowSource {
    /// Rows in memory.
    Rows(Rows),
    /// A merge of runs of one table, the newest first.
    Runs(Vec<Arc<Run>>),
}

/// Batches of a merge.
const MERGE_ROWS: usize = 1024;

impl<D: Disk> Runs<D> {
    /// Runs in a directory of a disk.
    pub fn on(disk: D, dir: &Path, options: RunOptions) -> Result<Arc<Self>> {
        disk.create_dir(dir)?;
        let cache = Arc::new(RunCache::new(options.cache_bytes));
        Ok(Arc::new(Self { disk, dir: dir.to_path_buf(), options, cache }))
    }

    /// The disk, for tests that damage it or cut its power.
    pub fn medium(&self) -> &D {
        &self.disk
    }

    /// Bytes in the cache now.
    pub fn cached_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    fn store_dir(&self, store: StoreId) -> PathBuf {
        self.dir.join(format!("{:08x}", store.0))
    }

    fn paths(&self, store: StoreId, table: &Table, run: RunId) -> (PathBuf, PathBuf) {
        let dir = self.store_dir(store);
        let (data, index) = file_names(table, run);
        (dir.join(data), dir.join(index))
    }

    fn write_columnar(
        &self,
        table: &Table,
        file: SummingWriter,
        compression: PageCompression,
        batches: impl Iterator<Item = Result<RecordBatch>>,
    ) -> Result<Written> {
        let mut writer = ColumnarWriter::new(table.columnar()?, compression, file)?;
        for batch in batches {
            writer.write(&batch?)?;
        }
        writer.finish()
    }

    fn write_flat(&self, table: &Table, file: SummingWriter, source: RowSource) -> Result<Written> {
        let mut writer = FlatWriter::new(*table.flat()?, file);
        match source {
            RowSource::Rows(Rows::Flat(rows)) => writer.write(&rows)?,
            RowSource::Rows(Rows::Columnar(_)) => return Err(other_kind(table)),
            RowSource::Runs(runs) => {
                let mut rows = FlatScan::new(table, &runs, None, None)?;
                while let Some(piece) = rows.next_piece()? {
                    writer.write(&piece)?;
                }
            }
        }
        writer.finish()
    }
}

fn other_kind(table: &Table) -> Error {
    Error::Refused(format!("{table:?}: rows of the other kind of table"))
}

/// The names of a run's data and index file.
pub(crate) fn file_names(table: &Table, run: RunId) -> (String, String) {
    let extension = if matches!(table.shape, Shape::Flat(_)) { "flat" } else { "parquet" };
    (format!("{run}.{extension}"), format!("{run}.index"))
}

impl<D: Disk> RunStore for Runs<D> {
    fn disk(&self) -> &dyn Disk {
        &self.disk
    }

    fn write(&self, store: StoreId, table: &Arc<Table>, new: NewRun, source: RowSource) -> Result<RunMeta> {
        let dir = self.store_dir(store);
        self.disk.create_dir(&dir)?;
        let (data_path, index_path) = self.paths(store, table, new.id);
        let compression =
            if new.level == 0 { self.options.first_compression } else { self.options.merged_compression };
        let file = SummingWriter::create(&self.disk, &data_path)?;
        let written = match (&table.shape, source) {
            (Shape::Flat(_), source) => self.write_flat(table, file, source)?,
            (Shape::Columnar(_), RowSource::Rows(Rows::Columnar(batches))) => {
                self.write_columnar(table, file, compression, batches.into_iter().map(Ok))?
            }
            (Shape::Columnar(columnar), RowSource::Runs(mut runs)) => {
                runs.reverse();
                let merge = Merge::new(table, &runs, (None, None), super::Projection::ALL, MERGE_ROWS)?;
                let merge = merge.combining(columnar.combine.clone());
                self.write_columnar(table, file, compression, merge)?
            }
            (Shape::Columnar(_), RowSource::Rows(Rows::Flat(_))) => return Err(other_kind(table)),
        };
        let index = written.index.to_file();
        write_all(&self.disk, &index_path, &index)?;
        self.disk.sync_dir(&dir)?;
        Ok(RunMeta {
            run: new.id.0,
            table: u32::from(table.id().0),
            level: new.level,
            rows: written.index.rows,
            min_point: written.min_point,
            max_point: written.max_point,
            bytes: written.sums.bytes,
            xxh3: Bytes::copy_from_slice(&written.sums.xxh3),
            created_from: new.created_from,
            index_bytes: index.len() as u64,
            index_xxh3: Bytes::copy_from_slice(&xxhash_rust::xxh3::xxh3_128(&index).to_be_bytes()),
        })
    }

    fn open(&self, store: StoreId, table: &Arc<Table>, meta: &RunMeta) -> Result<Arc<Run>> {
        let (data, index) = self.paths(store, table, meta.id());
        Ok(Arc::new(Run::open(&self.disk, (&data, &index), table, meta, &self.cache)?))
    }

    fn remove(&self, store: StoreId, table: &Table, run: RunId) -> Result<()> {
        let (data, index) = self.paths(store, table, run);
        self.disk.remove(&data)?;
        self.disk.remove(&index)
    }

    fn remove_store(&self, store: StoreId) -> Result<()> {
        self.disk.remove_dir(&self.store_dir(store))
    }

    fn list(&self) -> Result<Vec<(StoreId, Vec<String>)>> {
        let mut stores = Vec::new();
        for name in self.disk.list(&self.dir)? {
            if let (8, Ok(store)) = (name.len(), u32::from_str_radix(&name, 16)) {
                stores.push((StoreId(store), self.disk.list(&self.dir.join(name))?));
            }
        }
        Ok(stores)
    }

    fn remove_file(&self, store: StoreId, name: &str) -> Result<()> {
        self.disk.remove(&self.store_dir(store).join(name))
    }

    fn link(&self, store: StoreId, table: &Table, meta: &RunMeta, into: &Path) -> Result<[FileEntry; 2]> {
        let (data, index) = self.paths(store, table, meta.id());
        let (data_name, index_name) = file_names(table, meta.id());
        self.disk.link(&data, &into.join(&data_name))?;
        self.disk.link(&index, &into.join(&index_name))?;
        let data = FileEntry { name: data_name, bytes: meta.bytes, xxh3: meta.xxh3.clone() };
        Ok([data, FileEntry { name: index_name, bytes: meta.index_bytes, xxh3: meta.index_xxh3.clone() }])
    }

    fn adopt(
        &self,
        from: &Path,
        table: &Table,
        meta: &RunMeta,
        store: StoreId,
        id: RunId,
    ) -> Result<RunMeta> {
        let dir = self.store_dir(store);
        self.disk.create_dir(&dir)?;
        let (data_name, index_name) = file_names(table, meta.id());
        let (data, index) = self.paths(store, table, id);
        for (name, path, bytes, xxh3) in [
            (data_name, data, meta.bytes, &meta.xxh3),
            (index_name, index, meta.index_bytes, &meta.index_xxh3),
        ] {
            verify(&self.disk, &from.join(&name), bytes, xxh3)?;
            self.disk.link(&from.join(name), &path)?;
        }
        self.disk.sync_dir(&dir)?;
        Ok(RunMeta { run: id.0, ..meta.clone() })
    }
}

/// Checks a file's length and XXH3-128.
pub(crate) fn verify(disk: &dyn Disk, path: &Path, bytes: u64, xxh3: &[u8]) -> Result<()> {
    let file = disk.open(path)?;
    if file.bytes() != bytes {
        return Err(Error::corrupt_at(path, file.bytes(), format!("the file should have {bytes} bytes")));
    }
    if sum_of(file.as_ref(), path)? != xxh3 {
        return Err(Error::corrupt_at(path, 0, "the file's checksum does not fit"));
    }
    Ok(())
}
