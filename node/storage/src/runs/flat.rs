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
