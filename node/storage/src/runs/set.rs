//! The runs of one store at one moment, and reading from them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::flat_merge::{FlatRow, FlatScan};
use super::key::{PointKey, SortKey, point_of};
use super::merge::Merge;
use super::run::Run;
use super::table::{Projection, Table, TableId};
use crate::{Error, Result, StoreId};

/// All runs of a store. Immutable: a write-out or a merge makes a new one; who holds one goes on reading it, and the
/// files of its runs stay until it is let go.
#[derive(Clone, Debug)]
pub struct RunSet {
    store: StoreId,
    tables: Vec<TableRuns>,
}

#[derive(Clone, Debug)]
struct TableRuns {
    table: Arc<Table>,
    /// The newest first.
    runs: Vec<Arc<Run>>,
}

impl RunSet {
    /// A set without runs.
    pub(crate) fn empty<'a>(store: StoreId, tables: impl IntoIterator<Item = &'a Arc<Table>>) -> Self {
        let tables = tables.into_iter().map(|table| TableRuns { table: Arc::clone(table), runs: Vec::new() });
        Self { store, tables: tables.collect() }
    }

    /// The set without the runs of `gone` and with those of `new`.
    pub(crate) fn changed(&self, gone: &[Arc<Run>], new: Vec<Arc<Run>>) -> Self {
        let mut set = self.clone();
        for table in &mut set.tables {
            table.runs.retain(|run| !gone.iter().any(|gone| gone.meta().run == run.meta().run));
        }
        for run in new {
            let id = run.table().id();
            if let Some(table) = set.tables.iter_mut().find(|table| table.table.id() == id) {
                table.runs.push(run);
            }
        }
        for table in &mut set.tables {
            // A run of a lower level is newer than all of a higher one; within a level the write-out decides.
            table.runs.sort_by_key(|run| {
                (run.meta().level, std::cmp::Reverse((run.meta().created_from, run.meta().run)))
            });
        }
        set
    }

    fn table(&self, id: TableId) -> Result<&TableRuns> {
        let found = self.tables.iter().find(|table| table.table.id() == id);
        found.ok_or_else(|| Error::NotFound(format!("table {}", id.0)))
    }

    /// The store.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// A table's runs, the newest first; none when there is no such table.
    pub fn runs_of(&self, table: TableId) -> &[Arc<Run>] {
        self.tables.iter().find(|found| found.table.id() == table).map_or(&[], |found| &found.runs)
    }

    /// All runs, table by table.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.tables.iter().flat_map(|table| &table.runs)
    }

    /// Rows in a table's runs, those that merging will fold or replace counted apart.
    pub fn rows(&self, table: TableId) -> u64 {
        self.runs_of(table).iter().map(|run| run.meta().rows).sum()
    }

    /// Bytes of all data and index files.
    pub fn bytes(&self) -> u64 {
        self.all().map(|run| run.meta().bytes + run.meta().index_bytes).sum()
    }

    /// Whether a run may hold rows of this point key; a `false` is certain. From memory alone.
    #[inline]
    pub fn may_contain(&self, table: TableId, point: &PointKey) -> bool {
        self.runs_of(table).iter().any(|run| run.may_contain(point))
    }

    /// The value of a row of a flat table, from the newest run that has it.
    pub fn flat_get(&self, table: TableId, key: &[u8]) -> Result<Option<Bytes>> {
        let mut values = self.flat_get_sorted(table, &[key])?;
        Ok(values.pop().flatten())
    }

    /// The values of many rows of a flat table: one answer for each key. Keys should be in order: then each block is
    /// fetched once, and reads go forward.
    pub fn flat_get_sorted(&self, table: TableId, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>> {
        let table = self.table(table)?;
        let key_len = table.table.flat()?.key_len;
        if keys.iter().any(|key| key.len() != key_len) {
            return Err(Error::Refused(format!("{:?}: a key has {key_len} bytes", table.table)));
        }
        let mut values = vec![None; keys.len()];
        for run in &table.runs {
            let mut block = None;
            for (key, value) in keys.iter().zip(&mut values) {
                if value.is_none() && run.may_contain(&point_of(key)) {
                    *value = run.flat_get(key, &mut block)?;
                }
            }
        }
        Ok(values)
    }

    /// All rows of a point key: one batch for each run that has any, the newest run first. Rows of one sort key in
    /// several batches are for the caller to fold.
    pub fn rows_of(
        &self,
        table: TableId,
        point: &PointKey,
        projection: Projection,
    ) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        for run in self.table(table)?.runs.iter().filter(|run| run.may_contain(point)) {
            batches.extend(run.rows_of(point, projection)?);
        }
        Ok(batches)
    }

    /// Of each run, the last `limit` rows of the point key that come before `before` (`None`: the very last): one
    /// batch, rows in key order, for each run that has any; the newest run first. Reads only the pages these are in,
    /// however many rows the point has.
    pub fn tail(
        &self,
        table: TableId,
        point: &PointKey,
        before: Option<&SortKey>,
        limit: usize,
        projection: Projection,
    ) -> Result<Vec<RecordBatch>> {
        let before = before.map(SortKey::as_bytes);
        if before.is_some_and(|before| !before.starts_with(point)) {
            return Err(Error::Refused("a tail before a key of another point".into()));
        }
        let mut batches = Vec::new();
        for run in self.table(table)?.runs.iter().filter(|run| run.may_contain(point)) {
            batches.extend(run.tail(point, before, limit, projection)?);
        }
        Ok(batches)
    }

    /// All rows of a columnar table from the point key `from` on and before `to`, in key order, in batches of
    /// `batch_rows`. Equal keys are side by side, those of older runs first; they are not folded.
    pub fn scan(
        &self,
        table: TableId,
        from: Option<PointKey>,
        to: Option<PointKey>,
        projection: Projection,
        batch_rows: usize,
    ) -> Result<Scan> {
        let table = self.table(table)?;
        let oldest_first: Vec<_> = table.runs.iter().rev().cloned().collect();
        Ok(Scan(Merge::new(&table.table, &oldest_first, (from, to), projection, batch_rows)?))
    }

    /// The rows of a sequence behind a key, in order, at most `limit`. Reads only the runs and blocks that these are in.
    pub fn sequence_after(&self, table: TableId, after: &PointKey, limit: usize) -> Result<Vec<FlatRow>> {
        let mut runs = self.sequence(table)?;
        runs.retain(|(_, last, _)| last > after);
        let mut rows = Vec::new();
        for (.., run) in runs {
            run.rows_after(after, limit, &mut rows)?;
            if rows.len() >= limit {
                break;
            }
        }
        Ok(rows)
    }

    /// The runs of a sequence that have rows, in the order of their keys, with their first and last key: one ends before
    /// the next begins.
    pub fn sequence(&self, table: TableId) -> Result<Vec<(PointKey, PointKey, &Arc<Run>)>> {
        let table = self.table(table)?;
        if !table.table.flat()?.sequence {
            return Err(Error::Refused(format!("{:?} is no sequence", table.table)));
        }
        let runs = table.runs.iter().filter_map(|run| run.bounds().map(|(first, last)| (first, last, run)));
        let mut runs: Vec<_> = runs.collect();
        runs.sort_unstable_by_key(|(first, ..)| *first);
        Ok(runs)
    }

    /// All rows of a flat table from the point key `from` on and before `to`, in key order; the newest of each key.
    pub fn flat_scan(
        &self,
        table: TableId,
        from: Option<PointKey>,
        to: Option<PointKey>,
    ) -> Result<FlatScan> {
        let table = self.table(table)?;
        FlatScan::new(&table.table, &table.runs, from, to)
    }
}

/// Rows of a columnar table in key order; see [`RunSet::scan`]. Ends after the first error.
pub struct Scan(Merge);

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}
