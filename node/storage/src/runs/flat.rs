//! Flat runs: rows of fixed width in blocks of 4 KiB.
//!
//! A block holds as many whole rows as fit, the rest of it is zero; block n starts at n x 4 KiB, the last one ends with
//! its last row. A row is key then value, keys rise strictly. Blocks are the chunks that checksums are made of
//! ([`checked`](super::checked)), so the file needs no header: the index says what is in it.

use bytes::Bytes;

use super::checked::{CHUNK_BYTES, SummingWriter};
use super::columnar::Written;
use super::filter::FilterBuilder;
use super::index::{FORMAT, StoredIndex};
use super::key::{PointKey, point_of};
use super::table::Flat;
use crate::{Error, Result};

/// Writes sorted rows.
pub(crate) struct FlatWriter {
    table: Flat,
    file: SummingWriter,
    rows: u64,
    first_keys: Vec<u8>,
    last_key: Vec<u8>,
    filter: FilterBuilder,
    min_point: Option<PointKey>,
}

impl FlatWriter {
    pub fn new(table: Flat, file: SummingWriter) -> Self {
        Self {
            table,
            file,
            rows: 0,
            first_keys: Vec::new(),
            last_key: Vec::new(),
            filter: FilterBuilder::new(true),
            min_point: None,
        }
    }

    /// Appends rows, side by side.
    ///
    /// # Errors
    /// [`Error::Refused`] when keys don't rise or there is a part of a row.
    pub fn write(&mut self, rows: &[u8]) -> Result<()> {
        let Flat { key_len, row_len, block_rows, .. } = self.table;
        if !rows.len().is_multiple_of(row_len) {
            return Err(Error::Refused(format!("flat rows of {row_len} bytes, but a part of one is left")));
        }
        let padding = [0; CHUNK_BYTES];
        let padding = &padding[..CHUNK_BYTES - block_rows * row_len];
        for row in rows.chunks_exact(row_len) {
            let key = &row[..key_len];
            if self.rows > 0 && key <= self.last_key.as_slice() {
                return Err(Error::Refused("rows to write do not rise by their key".into()));
            }
            if self.rows.is_multiple_of(block_rows as u64) {
                if self.rows > 0 {
                    self.file.append(padding)?;
                }
                self.first_keys.extend_from_slice(key);
            }
            self.file.append(row)?;
            if !self.table.sequence {
                self.filter.push(&point_of(key))?;
            }
            self.min_point.get_or_insert_with(|| point_of(key));
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
            self.rows += 1;
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Written> {
        let sums = self.file.finish()?;
        let index = StoredIndex {
            format: FORMAT,
            data_xxh3: Bytes::copy_from_slice(&sums.xxh3),
            rows: self.rows,
            chunks: sums.chunks.clone(),
            filter: self.filter.finish()?,
            key_width: self.table.key_len as u32,
            first_keys: self.first_keys.into(),
            unit_rows: self.table.block_rows as u32,
            row_len: self.table.row_len as u32,
            ..StoredIndex::default()
        };
        let bound = |point: PointKey| Bytes::copy_from_slice(&point);
        Ok(Written {
            sums,
            index,
            min_point: self.min_point.map(bound).unwrap_or_default(),
            max_point: self.min_point.map(|_| bound(point_of(&self.last_key))).unwrap_or_default(),
        })
    }
}

/// The first row of a block that is not before `key`.
pub(crate) fn lower_bound(block: &[u8], table: &Flat, key: &[u8]) -> usize {
    let (mut low, mut high) = (0, block.len() / table.row_len);
    while low < high {
        let middle = low + (high - low) / 2;
        if &block[middle * table.row_len..middle * table.row_len + table.key_len] < key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prost::Message as _;
    use xxhash_rust::xxh3::xxh3_128;

    use super::super::disk::{Disk as _, MemoryDisk, read_all, write_all};
    use super::super::store::RunOptions;
    use super::super::{MemoryRuns, NewRun, RowSource, Rows, RunId, RunMeta, RunStore as _};
    use super::super::{Table, TableId, TableKind, TableSpec};
    use super::*;
    use crate::StoreId;

    const STORE: StoreId = StoreId(1);
    const DATA: &str = "/runs/00000001/0000000000000009.flat";
    const INDEX: &str = "/runs/00000001/0000000000000009.index";
    const ROW_BYTES: usize = 16 + 484;
    /// Two blocks of eight rows, and two rows.
    const ROWS: u8 = 18;

    fn written(kind: TableKind) -> (std::sync::Arc<MemoryRuns>, std::sync::Arc<Table>, RunMeta) {
        let table = Table::new(TableSpec { id: TableId(3), name: "flat", kind }).unwrap();
        let runs = MemoryRuns::new(RunOptions::default()).unwrap();
        let rows = (0..ROWS).flat_map(|number| vec![number; ROW_BYTES]).collect();
        let new = NewRun { id: RunId(9), level: 0, created_from: 1 };
        let meta = runs.write(STORE, &table, new, RowSource::Rows(Rows::Flat(rows))).unwrap();
        (runs, table, meta)
    }

    /// Puts another data file and index in place, with checksums that fit.
    fn replace(disk: &MemoryDisk, meta: &mut RunMeta, data: &[u8], change: impl FnOnce(&mut StoredIndex)) {
        disk.remove(Path::new(DATA)).unwrap();
        let mut file = SummingWriter::create(disk, Path::new(DATA)).unwrap();
        file.append(data).unwrap();
        let sums = file.finish().unwrap();
        let stored = read_all(disk, Path::new(INDEX), 1 << 20).unwrap();
        let mut index = StoredIndex::decode(&stored[8..stored.len() - 16]).unwrap();
        (index.data_xxh3, index.chunks) = (Bytes::copy_from_slice(&sums.xxh3), sums.chunks);
        change(&mut index);
        let index = index.to_file();
        disk.remove(Path::new(INDEX)).unwrap();
        write_all(disk, Path::new(INDEX), &index).unwrap();
        (meta.bytes, meta.xxh3) = (sums.bytes, Bytes::copy_from_slice(&sums.xxh3));
        (meta.index_bytes, meta.index_xxh3) =
            (index.len() as u64, Bytes::copy_from_slice(&xxh3_128(&index).to_be_bytes()));
    }

    #[test]
    fn a_file_that_has_not_the_bytes_of_its_rows_is_damaged() {
        for kind in [
            TableKind::Flat { key_len: 16, value_len: ROW_BYTES - 16 },
            TableKind::Sequence { value_len: ROW_BYTES - 16 },
        ] {
            let (runs, table, mut meta) = written(kind);
            let whole = read_all(runs.medium(), Path::new(DATA), 1 << 20).unwrap();
            assert_eq!(whole.len(), 2 * CHUNK_BYTES + 2 * ROW_BYTES);
            for length in [0, 204, CHUNK_BYTES, whole.len() - ROW_BYTES, whole.len() - 1, whole.len() + 1] {
                let mut other = whole.clone();
                other.resize(length, 0);
                replace(runs.medium(), &mut meta, &other, |_| ());
                let error = runs.open(STORE, &table, &meta).unwrap_err();
                assert!(error.is_corrupt() && error.to_string().contains("18 rows"), "{length}: {error}");
            }
            replace(runs.medium(), &mut meta, &whole, |_| ());
            assert!(runs.open(STORE, &table, &meta).is_ok());
        }
    }

    #[test]
    fn an_index_of_more_rows_than_can_be_is_damaged() {
        let (runs, table, mut meta) = written(TableKind::Flat { key_len: 16, value_len: ROW_BYTES - 16 });
        let whole = read_all(runs.medium(), Path::new(DATA), 1 << 20).unwrap();
        meta.rows = u64::MAX;
        for unit_rows in [0, 1, 8] {
            replace(runs.medium(), &mut meta, &whole, |index| {
                (index.rows, index.unit_rows) = (u64::MAX, unit_rows);
            });
            let error = runs.open(STORE, &table, &meta).unwrap_err();
            assert!(error.is_corrupt() && error.to_string().contains("first key"), "{error}");
        }
    }
}
