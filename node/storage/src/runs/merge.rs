//! Merging columnar runs in key order, in bounded memory.
//!
//! Each source holds one decoded batch. The sources are kept in the order of their next keys, older runs first where
//! keys are equal; the next row is the first source's, which is then put back into its place. A batch of output is a
//! list of (batch, row) places, gathered column by column at its end. With few sources (a merge has at most 16) the
//! linear order is as fast as a heap, and rows of one run that follow each other cost one comparison each.
//!
//! With a [`Combine`](super::Combine) the places of equal keys are gathered first, folded, and the folded rows put in
//! their stead. An output batch never ends inside of a group.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;

use super::key::{Keys, PointKey};
use super::run::{Run, narrow};
use super::table::{Combine, Projection, Table};
use crate::{Error, Result};

/// A source decodes about so many rows at a time.
const READ_ROWS: usize = 1024;

struct Source {
    run: Arc<Run>,
    /// Stripes still to be read.
    next: usize,
    end: usize,
    keys: Keys,
    /// The next row of the batch, and the first one that doesn't belong to the range.
    row: usize,
    rows: usize,
    /// Where its batch is among those that the output under way refers to.
    place: usize,
}

impl Source {
    fn key(&self) -> &[u8] {
        self.keys.get(self.row)
    }
}

/// Rows of several runs of one table in key order.
pub(crate) struct Merge {
    table: Arc<Table>,
    /// The oldest run first.
    sources: Vec<Source>,
    /// Sources that have a row, by (next key, age).
    order: Vec<usize>,
    full: Projection,
    wanted: Projection,
    from: Option<PointKey>,
    to: Option<PointKey>,
    batch_rows: usize,
    combine: Option<Arc<dyn Combine>>,
    batches: Vec<RecordBatch>,
    places: Vec<(usize, usize)>,
    /// With a combine: where in `places` a group of equal keys starts, and how many there are (two or more).
    groups: Vec<(usize, usize)>,
    last_key: Vec<u8>,
    started: bool,
    failed: bool,
}

impl Merge {
    /// `runs`: the oldest first. Rows from the point key `from` on and before `to`.
    pub fn new(
        table: &Arc<Table>,
        runs: &[Arc<Run>],
        (from, to): (Option<PointKey>, Option<PointKey>),
        wanted: Projection,
        batch_rows: usize,
    ) -> Result<Self> {
        let columnar = table.columnar()?;
        let wanted = columnar.existing(wanted);
        let mut sources = Vec::new();
        for run in runs {
            let units = run.units(from.as_ref().map(|key| &key[..]), to.as_ref().map(|key| &key[..]));
            sources.push(Source {
                run: Arc::clone(run),
                next: units.start,
                end: units.end,
                keys: Keys::default(),
                row: 0,
                rows: 0,
                place: 0,
            });
        }
        Ok(Self {
            table: Arc::clone(table),
            sources,
            order: Vec::new(),
            full: wanted.union(columnar.key()),
            wanted,
            from,
            to,
            batch_rows: batch_rows.max(1),
            combine: None,
            batches: Vec::new(),
            places: Vec::new(),
            groups: Vec::new(),
            last_key: Vec::new(),
            started: false,
            failed: false,
        })
    }

    /// Folds rows of equal keys.
    pub fn combining(mut self, combine: Option<Arc<dyn Combine>>) -> Self {
        self.combine = combine;
        self
    }

    /// Reads a source's next batch; whether it has another row.
    fn refill(&mut self, number: usize) -> Result<bool> {
        let columnar = self.table.columnar()?;
        let source = &mut self.sources[number];
        while source.row == source.rows {
            if source.next >= source.end {
                return Ok(false);
            }
            let stripes = READ_ROWS.div_ceil(columnar.page_rows);
            let range = source.next..source.end.min(source.next + stripes);
            let (batch, next) = source.run.read_stripes(range, self.full)?;
            source.next = next;
            source.keys = Keys::of(&batch, columnar.key_columns)?;
            source.row = self.from.map_or(0, |from| source.keys.lower_bound(&from));
            source.rows = self.to.map_or(batch.num_rows(), |to| source.keys.lower_bound(&to)).max(source.row);
            source.place = self.batches.len();
            self.batches.push(batch);
        }
        Ok(true)
    }

    /// Puts a source that has a row into its place in the order.
    fn rank(&mut self, number: usize) {
        let key = self.sources[number].key();
        let before = |other: &usize| (self.sources[*other].key(), *other) < (key, number);
        let place = self.order.iter().position(|other| !before(other)).unwrap_or(self.order.len());
        self.order.insert(place, number);
    }

    fn fill(&mut self) -> Result<Option<RecordBatch>> {
        if !self.started {
            self.started = true;
            for number in 0..self.sources.len() {
                if self.refill(number)? {
                    self.rank(number);
                }
            }
        }
        let combining = self.combine.is_some();
        while let Some(&first) = self.order.first() {
            let full = self.places.len() >= self.batch_rows;
            if full && !(combining && self.sources[first].key() == self.last_key.as_slice()) {
                break;
            }
            if self.order.len() == 1 && !combining {
                // Nothing to compare with: all there is of this batch.
                let source = &mut self.sources[first];
                let rows = (source.rows - source.row).min(self.batch_rows - self.places.len());
                self.places.extend((source.row..source.row + rows).map(|row| (source.place, row)));
                source.row += rows;
            } else {
                let source = &self.sources[first];
                if combining {
                    let at = self.places.len();
                    if at > 0 && source.key() == self.last_key.as_slice() {
                        match self.groups.last_mut() {
                            Some((start, length)) if *start + *length == at => *length += 1,
                            _ => self.groups.push((at - 1, 2)),
                        }
                    } else {
                        self.last_key.clear();
                        self.last_key.extend_from_slice(source.key());
                    }
                }
                self.places.push((source.place, source.row));
                self.sources[first].row += 1;
            }
            self.advance(first)?;
        }
        if self.places.is_empty() {
            return Ok(None);
        }
        self.gather().map(Some)
    }

    /// After the first source of the order gave rows: finds its new place.
    fn advance(&mut self, first: usize) -> Result<()> {
        if self.sources[first].row < self.sources[first].rows {
            if let Some(&second) = self.order.get(1) {
                if (self.sources[first].key(), first) < (self.sources[second].key(), second) {
                    return Ok(());
                }
                self.order.remove(0);
                self.rank(first);
            }
            return Ok(());
        }
        self.order.remove(0);
        if self.refill(first)? {
            self.rank(first);
        }
        Ok(())
    }

    /// Makes the output batch out of its places.
    fn gather(&mut self) -> Result<RecordBatch> {
        let mut batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let folded;
        let mut places = std::mem::take(&mut self.places);
        if let Some(combine) = self.combine.as_ref().filter(|_| !self.groups.is_empty()) {
            folded = fold(&self.table, combine.as_ref(), &batches, &places, &self.groups)?;
            batches.push(&folded);
            places = replaced(&places, &self.groups, batches.len() - 1);
            self.groups.clear();
        }
        let batch = match contiguous(&places) {
            Some((batch, start)) => batches[batch].slice(start, places.len()),
            None => interleave_record_batch(&batches, &places)?,
        };
        // The next output refers to the sources' present batches only.
        let mut kept = Vec::new();
        for source in self.order.iter() {
            let source = &mut self.sources[*source];
            kept.push(self.batches[source.place].clone());
            source.place = kept.len() - 1;
        }
        self.batches = kept;
        places.clear();
        self.places = places;
        narrow(&batch, self.table.columnar()?, self.full, self.wanted)
    }
}

/// Whether the places are rows of one batch in a row: which and from where.
fn contiguous(places: &[(usize, usize)]) -> Option<(usize, usize)> {
    let (batch, start) = *places.first()?;
    let straight = places.iter().enumerate().all(|(at, place)| *place == (batch, start + at));
    straight.then_some((batch, start))
}

/// Folds the groups: one row for each.
fn fold(
    table: &Table,
    combine: &dyn Combine,
    batches: &[&RecordBatch],
    places: &[(usize, usize)],
    groups: &[(usize, usize)],
) -> Result<RecordBatch> {
    let grouped: Vec<_> =
        groups.iter().flat_map(|(start, length)| &places[*start..start + length]).copied().collect();
    let rows = interleave_record_batch(batches, &grouped)?;
    let folded = combine.combine(&rows).map_err(|why| Error::Refused(format!("{table:?}: {why}")))?;
    let columnar = table.columnar()?;
    let broken = |what: &str| Error::Refused(format!("{table:?}: folding equal keys {what}"));
    if folded.num_rows() != groups.len() || folded.num_columns() != rows.num_columns() {
        return Err(broken("gave another number of rows or columns"));
    }
    let (before, after) = (Keys::of(&rows, columnar.key_columns)?, Keys::of(&folded, columnar.key_columns)?);
    let mut start = 0;
    for (group, (_, length)) in groups.iter().enumerate() {
        if before.get(start) != after.get(group) {
            return Err(broken("changed a key"));
        }
        start += length;
    }
    Ok(RecordBatch::try_new(Arc::clone(&columnar.schema), folded.columns().to_vec())?)
}

/// The places with each group replaced by its folded row, which is row `group` of batch `folded`.
fn replaced(places: &[(usize, usize)], groups: &[(usize, usize)], folded: usize) -> Vec<(usize, usize)> {
    let mut result = Vec::with_capacity(places.len());
    let mut at = 0;
    for (group, (start, length)) in groups.iter().enumerate() {
        result.extend_from_slice(&places[at..*start]);
        result.push((folded, group));
        at = start + length;
    }
    result.extend_from_slice(&places[at..]);
    result
}

impl Iterator for Merge {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.fill().transpose();
        self.failed = matches!(batch, Some(Err(_)));
        batch
    }
}
