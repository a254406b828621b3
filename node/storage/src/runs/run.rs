//! One open run: its file, its index in memory, and look-ups in it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;

use super::cache::{RunCache, Stripe};
use super::checked::{CHUNK_BYTES, CheckedFile};
use super::disk::Disk;
use super::filter::PointFilter;
use super::flat_merge::FlatRow;
use super::index::StoredIndex;
use super::key::{Keys, PointKey, point_of};
use super::meta::RunMeta;
use super::stripes;
use super::table::{Columnar, Flat, Projection, Shape, Table};
use crate::{Error, Result};

/// A sorted immutable run. Reading needs no lock; its files stay readable as long as it is held.
pub struct Run {
    meta: RunMeta,
    table: Arc<Table>,
    index: StoredIndex,
    filter: PointFilter,
    first_keys: Keys,
    file: CheckedFile,
    cache: Arc<RunCache>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "run {} of {:?}, level {}, {} rows",
            self.meta.id(),
            self.table,
            self.meta.level,
            self.meta.rows
        )
    }
}

impl Run {
    /// Opens the files of a run: reads and verifies the index, looks at the data file.
    pub(crate) fn open(
        disk: &dyn Disk,
        (data_path, index_path): (&Path, &Path),
        table: &Arc<Table>,
        meta: &RunMeta,
        cache: &Arc<RunCache>,
    ) -> Result<Self> {
        let mut index = StoredIndex::load(disk, index_path)?;
        let wrong = |what: &str| Err(Error::corrupt_at(index_path, 0, what));
        if index.data_xxh3 != meta.xxh3 || index.rows != meta.rows {
            return wrong("the index is of another file");
        }
        let width = match &table.shape {
            Shape::Columnar(columnar) => {
                if index.columns as usize > columnar.schema.fields().len() {
                    return wrong("the run has more columns than its table");
                }
                columnar.key_width
            }
            Shape::Flat(flat) => {
                if (index.row_len as usize, index.unit_rows as usize) != (flat.row_len, flat.block_rows) {
                    return wrong("the run's rows have another length than its table's");
                }
                if u128::from(meta.bytes) != flat.file_bytes(meta.rows) {
                    let rows = meta.rows;
                    let what = format!("the file has not the bytes that {rows} rows of its table have");
                    return Err(Error::corrupt_at(data_path, meta.bytes, what));
                }
                flat.key_len
            }
        };
        if index.key_width as usize != width {
            return wrong("the run's key is another than its table's");
        }
        let filter = PointFilter::load(std::mem::take(&mut index.filter))?;
        let first_keys = Keys::from_bytes(std::mem::take(&mut index.first_keys).into(), width);
        // Copied out: the decoded fields are slices of the whole index file, and would keep it in memory.
        let chunks = Bytes::copy_from_slice(&std::mem::take(&mut index.chunks));
        index.data_xxh3 = Bytes::new();
        let file = CheckedFile::open(disk, data_path.to_path_buf(), meta.bytes, chunks)?;
        Ok(Self {
            meta: meta.clone(),
            table: Arc::clone(table),
            index,
            filter,
            first_keys,
            file,
            cache: Arc::clone(cache),
        })
    }

    /// Its row of the manifest.
    pub fn meta(&self) -> &RunMeta {
        &self.meta
    }

    /// The table it belongs to.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Where its data file is. For a columnar table it is plain Parquet, sorted, readable as long as the run is held.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Whether it may hold rows of the point key; `false` is certain. From memory alone.
    #[inline]
    pub fn may_contain(&self, point: &PointKey) -> bool {
        self.filter.may_contain(point)
    }

    /// Reads and verifies the whole data file.
    pub fn scrub(&self) -> Result<()> {
        self.file.scrub()
    }

    pub(crate) fn columnar(&self) -> Result<&Columnar> {
        self.table.columnar()
    }

    pub(crate) fn flat(&self) -> Result<&Flat> {
        self.table.flat()
    }

    /// The stripes (blocks) that can hold keys from `from` on and before `to` (both beginnings of keys).
    pub(crate) fn units(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> Range<usize> {
        // The stripe before the first one that starts at or behind `from` may reach into it.
        let start = from.map_or(0, |from| self.first_keys.lower_bound(from).saturating_sub(1));
        let end = to.map_or(self.first_keys.len(), |to| self.first_keys.lower_bound(to));
        start..end.max(start)
    }

    /// How many stripes a columnar run has: groups of pages that are read together.
    pub fn stripes(&self) -> usize {
        stripes::count(&self.index)
    }

    /// Rows of a stripe; the last one has fewer.
    pub fn stripe_rows(&self) -> usize {
        self.index.unit_rows as usize
    }

    /// The stripes of the row group that a stripe is in: what is read together must be of one.
    pub fn group_of(&self, stripe: usize) -> Range<usize> {
        stripes::group_of(&self.index, stripe)
    }

    /// How many rows stripes have.
    pub fn rows_of_stripes(&self, stripes: Range<usize>) -> usize {
        let row = |stripe: usize| (stripe as u64 * u64::from(self.index.unit_rows)).min(self.meta.rows);
        row(stripes.end).saturating_sub(row(stripes.start)) as usize
    }

    /// Its number, which no other run of this node has or had.
    pub fn number(&self) -> u64 {
        self.meta.run
    }

    /// The stripes of a columnar run that can hold rows of the point keys from `from` on and before `to`.
    pub fn stripes_between(&self, from: Option<&PointKey>, to: Option<&PointKey>) -> Range<usize> {
        self.units(from.map(|key| &key[..]), to.map(|key| &key[..]))
    }

    /// Decodes the columns of stripes, around the cache, in the order of rows; stops at the end of a row group. Says with
    /// which stripe to go on.
    ///
    /// # Errors
    /// A file that can't be read or is damaged; no stripes.
    pub fn read(&self, stripes: Range<usize>, projection: Projection) -> Result<(RecordBatch, usize)> {
        self.read_stripes(stripes, projection)
    }

    /// Decodes stripes, around the cache; ends at the end of a row group. Says where to go on.
    pub(crate) fn read_stripes(
        &self,
        stripes: Range<usize>,
        projection: Projection,
    ) -> Result<(RecordBatch, usize)> {
        let end = stripes.end.min(stripes::group_end(&self.index, stripes.start));
        let range = stripes.start..end;
        let batch =
            stripes::read(self.columnar()?, &self.file, &self.index, range, projection, |number, chunk| {
                self.cache.dictionary(self.meta.run, number, || {
                    self.file.read(chunk.dictionary_offset, chunk.dictionary_bytes as usize)
                })
            })?;
        Ok((batch, end))
    }

    /// A stripe through the cache; `projection` holds the key columns.
    fn stripe(&self, number: usize, projection: Projection) -> Result<Arc<Stripe>> {
        self.cache.stripe(self.meta.run, number, projection, || {
            let (batch, _) = self.read_stripes(number..number + 1, projection)?;
            let keys = Keys::of(&batch, self.columnar()?.key_columns)?;
            Ok(Stripe { batch, keys })
        })
    }

    /// All rows of a point key.
    pub(crate) fn rows_of(&self, point: &PointKey, projection: Projection) -> Result<Option<RecordBatch>> {
        let table = self.columnar()?;
        let full = table.existing(projection).union(table.key());
        let start = self.first_keys.lower_bound(point).saturating_sub(1);
        let end = self.first_keys.upper_bound(point);
        let mut found = Vec::new();
        for number in start..end {
            let stripe = self.stripe(number, full)?;
            let (from, to) = (stripe.keys.lower_bound(point), stripe.keys.upper_bound(point));
            if from < to {
                found.push(stripe.batch.slice(from, to - from));
            }
        }
        self.joined(found, full, projection)
    }

    /// At most `limit` rows of the point key, the last ones before `before`.
    pub(crate) fn tail(
        &self,
        point: &PointKey,
        before: Option<&[u8]>,
        limit: usize,
        projection: Projection,
    ) -> Result<Option<RecordBatch>> {
        let table = self.columnar()?;
        let full = table.existing(projection).union(table.key());
        let start = self.first_keys.lower_bound(point).saturating_sub(1);
        let mut end = match before {
            Some(before) => self.first_keys.lower_bound(before),
            None => self.first_keys.upper_bound(point),
        };
        let (mut found, mut rows) = (Vec::new(), 0);
        while end > start && rows < limit {
            end -= 1;
            let stripe = self.stripe(end, full)?;
            let from = stripe.keys.lower_bound(point);
            let behind = stripe.keys.upper_bound(point);
            let to = before.map_or(behind, |before| stripe.keys.lower_bound(before).min(behind));
            if from < to {
                let from = from.max(to.saturating_sub(limit - rows));
                rows += to - from;
                found.push(stripe.batch.slice(from, to - from));
            }
        }
        found.reverse();
        self.joined(found, full, projection)
    }

    fn joined(
        &self,
        found: Vec<RecordBatch>,
        full: Projection,
        wanted: Projection,
    ) -> Result<Option<RecordBatch>> {
        let batch = match found.as_slice() {
            [] => return Ok(None),
            [only] => only.clone(),
            many => concat_batches(many[0].schema_ref(), many)?,
        };
        Ok(Some(narrow(&batch, self.columnar()?, full, wanted)?))
    }

    /// The value of a row of a flat run; the caller has asked the filter.
    pub(crate) fn flat_get(&self, key: &[u8], last: &mut Option<(usize, Bytes)>) -> Result<Option<Bytes>> {
        let table = self.flat()?;
        let Some(number) = self.first_keys.partition_at_most(key).checked_sub(1) else { return Ok(None) };
        let block = match last {
            Some((at, block)) if *at == number => block.clone(),
            _ => {
                let block =
                    self.cache.block(self.meta.run, number, || self.flat_blocks(number..number + 1))?;
                *last = Some((number, block.clone()));
                block
            }
        };
        let row = block.chunks_exact(table.row_len).nth(super::flat::lower_bound(&block, table, key));
        Ok(match row.map(|row| row.split_at(table.key_len)) {
            Some((found, value)) if found == key => Some(block.slice_ref(value)),
            _ => None,
        })
    }

    /// Adds the rows of a sequence behind a key, in order, until there are `limit`.
    pub(crate) fn rows_after(&self, after: &PointKey, limit: usize, rows: &mut Vec<FlatRow>) -> Result<()> {
        let table = self.flat()?;
        let first = self.first_keys.partition_at_most(after).saturating_sub(1);
        for number in first..self.first_keys.len() {
            let block = self.cache.block(self.meta.run, number, || self.flat_blocks(number..number + 1))?;
            let start = super::flat::lower_bound(&block, table, after);
            for row in block.chunks_exact(table.row_len).skip(start) {
                if rows.len() >= limit {
                    return Ok(());
                }
                let row = block.slice_ref(row);
                if row[..table.key_len] != after[..] {
                    rows.push(FlatRow { key: row.slice(..table.key_len), value: row.slice(table.key_len..) });
                }
            }
        }
        Ok(())
    }

    /// The rows of blocks, around the cache. Of one block: rows side by side. Of several: with what pads each to 4 KiB.
    pub(crate) fn flat_blocks(&self, blocks: Range<usize>) -> Result<Bytes> {
        let table = self.flat()?;
        let chunk = CHUNK_BYTES as u64;
        let start = blocks.start as u64 * chunk;
        let end = (blocks.end as u64 * chunk).min(self.file.bytes());
        let bytes = self.file.read(start, end.saturating_sub(start) as usize)?;
        let rows = table.block_rows * table.row_len;
        Ok(if blocks.len() == 1 && bytes.len() > rows { bytes.slice(..rows) } else { bytes })
    }

    /// Rows of one block.
    pub(crate) fn flat_block_rows(&self, block: usize) -> usize {
        let unit = u64::from(self.index.unit_rows);
        (self.meta.rows.saturating_sub(block as u64 * unit)).min(unit) as usize
    }

    /// The smallest and the largest point key.
    pub fn bounds(&self) -> Option<(PointKey, PointKey)> {
        (self.meta.rows > 0).then(|| (point_of(&self.meta.min_point), point_of(&self.meta.max_point)))
    }
}

/// Leaves out the columns of `full` that `wanted` has not.
pub(crate) fn narrow(
    batch: &RecordBatch,
    table: &Columnar,
    full: Projection,
    wanted: Projection,
) -> Result<RecordBatch> {
    let wanted = table.existing(wanted);
    if wanted == full {
        return Ok(batch.clone());
    }
    let columns = (0..table.schema.fields().len()).filter(|column| full.contains(*column));
    let keep = columns.enumerate().filter(|(_, column)| wanted.contains(*column)).map(|(place, _)| place);
    Ok(batch.project(&keep.collect::<Vec<_>>())?)
}
