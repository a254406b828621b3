//! Merging flat runs in key order: the newest row of each key.

use std::sync::Arc;

use bytes::Bytes;

use super::checked::CHUNK_BYTES;
use super::key::PointKey;
use super::run::Run;
use super::table::{FLAT_KEY_BYTES_MAX, Flat, Table};
use crate::Result;

/// A source reads so many blocks at a time: 256 KiB.
const READ_BLOCKS: usize = 64;
/// Rows of a piece of [`FlatMerge::next_piece`].
const PIECE_ROWS: usize = 4096;

/// A row of a flat table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatRow {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

struct Source {
    run: Arc<Run>,
    /// Blocks still to be read.
    next: usize,
    end: usize,
    bytes: Bytes,
    /// The block that `bytes` starts with.
    first: usize,
    /// The next row: block within `bytes`, row within the block.
    block: usize,
    row: usize,
}

impl Source {
    /// The offset of the next row in `bytes`; reads on where needed. `None` at the end.
    fn settle(&mut self) -> Result<bool> {
        loop {
            if self.first + self.block < self.next {
                if self.row < self.run.flat_block_rows(self.first + self.block) {
                    return Ok(true);
                }
                self.block += 1;
                self.row = 0;
                continue;
            }
            if self.next >= self.end {
                return Ok(false);
            }
            let end = self.end.min(self.next + READ_BLOCKS);
            self.bytes = self.run.flat_blocks(self.next..end)?;
            (self.first, self.block, self.row, self.next) = (self.next, 0, 0, end);
        }
    }

    fn at(&self, table: &Flat) -> usize {
        self.block * CHUNK_BYTES + self.row * table.row_len
    }

    fn key(&self, table: &Flat) -> &[u8] {
        let at = self.at(table);
        &self.bytes[at..at + table.key_len]
    }
}

/// Rows of several flat runs in key order.
pub struct FlatScan {
    table: Flat,
    /// The newest run first; all have a row.
    sources: Vec<Source>,
    to: Option<PointKey>,
    failed: bool,
}

impl FlatScan {
    /// `runs`: the newest first. Rows from the point key `from` on and before `to`.
    pub(crate) fn new(
        table: &Table,
        runs: &[Arc<Run>],
        from: Option<PointKey>,
        to: Option<PointKey>,
    ) -> Result<Self> {
        let table = *table.flat()?;
        let mut sources = Vec::new();
        for run in runs {
            let units = run.units(from.as_ref().map(|key| &key[..]), to.as_ref().map(|key| &key[..]));
            let mut source = Source {
                run: Arc::clone(run),
                next: units.start,
                end: units.end,
                bytes: Bytes::new(),
                first: units.start,
                block: 0,
                row: 0,
            };
            let mut more = source.settle()?;
            while more && from.is_some_and(|from| source.key(&table) < from.as_slice()) {
                source.row += 1;
                more = source.settle()?;
            }
            if more {
                sources.push(source);
            }
        }
        Ok(Self { table, sources, to, failed: false })
    }

    /// The source of the next row: the smallest key, the newest run where keys are equal.
    fn smallest(&self) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (number, source) in self.sources.iter().enumerate() {
            if best.is_none_or(|best| source.key(&self.table) < self.sources[best].key(&self.table)) {
                best = Some(number);
            }
        }
        let best = best?;
        let key = self.sources[best].key(&self.table);
        self.to.is_none_or(|to| key < to.as_slice()).then_some(best)
    }

    /// Steps over the row of `best` and over what it replaces in older runs.
    fn step(&mut self, best: usize) -> Result<()> {
        let mut key = [0; FLAT_KEY_BYTES_MAX];
        let key = &mut key[..self.table.key_len];
        key.copy_from_slice(self.sources[best].key(&self.table));
        let mut number = best;
        while number < self.sources.len() {
            let source = &mut self.sources[number];
            if source.key(&self.table) == key {
                source.row += 1;
                if !source.settle()? {
                    self.sources.remove(number);
                    continue;
                }
            }
            number += 1;
        }
        Ok(())
    }

    /// The next rows, side by side; nothing at the end.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Bytes>> {
        let mut piece = Vec::with_capacity(PIECE_ROWS * self.table.row_len);
        while piece.len() < PIECE_ROWS * self.table.row_len {
            let Some(best) = self.smallest() else { break };
            let at = self.sources[best].at(&self.table);
            piece.extend_from_slice(&self.sources[best].bytes[at..at + self.table.row_len]);
            self.step(best)?;
        }
        Ok((!piece.is_empty()).then(|| piece.into()))
    }
}

impl Iterator for FlatScan {
    type Item = Result<FlatRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let best = self.smallest()?;
        let at = self.sources[best].at(&self.table);
        let row = self.sources[best].bytes.slice(at..at + self.table.row_len);
        if let Err(error) = self.step(best) {
            self.failed = true;
            return Some(Err(error));
        }
        Some(Ok(FlatRow { key: row.slice(..self.table.key_len), value: row.slice(self.table.key_len..) }))
    }
}
