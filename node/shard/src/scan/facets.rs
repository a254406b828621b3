//! Scanning facets: deltas in runs, events in memory and identity records, merged by facet into one row each.
//!
//! Deltas can't be told apart by stamp, so those in runs are what had been written out when the pin was made, and what
//! came since is folded from its events. A facet that has one delta and no events in memory, as most, is passed on
//! without being decoded.

use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use isthmus_domain::{FacetId, FacetSummary, RecordView, Summary};
use isthmus_identity::stored::Record;
use isthmus_raft::Broken;
use isthmus_storage::runs::{PointKey, Projection, Scan};

use super::{
    Part, Request, Snapshot,
    base::{OfBlock, View},
    columns::Columns,
    control::Records,
    events::said,
    homes::Homes,
    hot::BLOCK_ROWS,
    schema::facet,
    slots::{Owned, spans},
    snapshot::Delta,
};
use crate::{
    error::broken,
    tables::{FACETS, facet as column, micros},
};

/// Rows of a part, about.
const PART_ROWS: u64 = 64 << 10;
/// Rows of runs that are read at a time.
const READ_ROWS: usize = 4_096;
/// Changed facets of a part.
const CHANGED_PART: usize = 512;
/// Facets that are asked for by name one by one; more are found by looking at all between them.
const POINTS_MAX: usize = 256;

/// From a key on and before another.
pub(super) type Between = (Option<PointKey>, Option<PointKey>);

/// The parts of a scan of facets.
pub(super) fn parts(snapshot: &Arc<Snapshot>, request: &Arc<Request>) -> Vec<Part> {
    if request.filters.facets.is_some() {
        return Part::shaped(request, |request| plain_parts(snapshot, request));
    }
    let view = match snapshot.view() {
        Ok(Some(view)) => view,
        Ok(None) => return Part::shaped(request, |request| plain_parts(snapshot, request)),
        Err(error) => return vec![Part::of(std::iter::once(Err(error)))],
    };
    let blocks = view.base.blocks();
    let of_blocks = |mut blocks: Range<usize>| {
        let (snapshot, request, view) = (snapshot.clone(), request.clone(), view.clone());
        let read = move |block| OfBlock { snapshot: &snapshot, request: &request, view: &view, block }.read();
        let has_rows =
            |batch: &Result<RecordBatch, Broken>| batch.as_ref().map_or(true, |it| it.num_rows() > 0);
        Part::of(std::iter::from_fn(move || blocks.next().map(&read)).filter(has_rows))
    };
    let per_part = (PART_ROWS as usize).div_ceil(BLOCK_ROWS);
    let starts = (0..blocks).step_by(per_part);
    let mut parts: Vec<Part> = starts.map(|from| of_blocks(from..(from + per_part).min(blocks))).collect();
    parts.extend(Part::shaped(request, |request| changed_parts(snapshot, request, &view)));
    parts
}

/// Without a base.
fn plain_parts(snapshot: &Arc<Snapshot>, request: &Arc<Request>) -> Vec<Part> {
    let part = |ranges: Vec<Between>| {
        let (snapshot, request) = (snapshot.clone(), request.clone());
        let columns = Columns::new(&request.schema());
        Part::of(OfFacets { columns, snapshot, request, ranges, homes: None, open: None })
    };
    match &request.filters.facets {
        Some(facets) if facets.len() <= POINTS_MAX => {
            vec![part(facets.iter().rev().map(point).collect())]
        }
        _ => {
            let in_memory: usize = snapshot.memory.iter().map(|events| events.len()).sum();
            let rows = snapshot.runs.rows(FACETS) + in_memory as u64;
            let parts = usize::try_from(rows.div_ceil(PART_ROWS)).unwrap_or(usize::MAX).max(1);
            let spans = spans(snapshot.owned(), parts).into_iter();
            spans.map(|span| part(vec![(Some(span.from()), span.to())])).collect()
        }
    }
}

/// What has changed since the base was made, as it is at the snapshot's stamp.
fn changed_parts(snapshot: &Arc<Snapshot>, request: &Arc<Request>, view: &View) -> Vec<Part> {
    let part = |facets: &[FacetId]| {
        let ranges = facets.iter().rev().map(point).collect();
        Part::of(OfFacets::new(snapshot, request, ranges, view.homes.clone()))
    };
    view.changed.chunks(CHANGED_PART).map(part).collect()
}

/// The range of one facet.
fn point(facet: &FacetId) -> Between {
    (Some(*facet.as_bytes()), super::successor(facet.as_bytes()))
}

/// Ranges of facets.
pub(super) struct OfFacets {
    snapshot: Arc<Snapshot>,
    request: Arc<Request>,
    columns: Columns,
    /// The next one last.
    ranges: Vec<Between>,
    /// Where profiles are, if that is known.
    homes: Option<Arc<Homes>>,
    open: Option<Sources>,
}

/// What is read of a range, each by rising facets.
struct Sources {
    homes: Arc<Homes>,
    runs: RunRows,
    deltas: Arc<Vec<Delta>>,
    /// Those of them that are still to come.
    memory: Range<usize>,
    records: Peekable<Records>,
}

/// What is known of a facet.
struct Found {
    facet: FacetId,
    record: Option<Record>,
    summary: Known,
    events: u64,
    times: Option<(i64, i64)>,
}

/// A facet's summary: as it was stored where that is all there is, or else what its parts come to.
enum Known {
    None,
    Stored(Vec<u8>),
    Sum(Box<FacetSummary>),
}

impl OfFacets {
    /// Of ranges, the next one last, given where profiles are.
    pub fn new(
        snapshot: &Arc<Snapshot>,
        request: &Arc<Request>,
        ranges: Vec<Between>,
        homes: Arc<Homes>,
    ) -> Self {
        let (snapshot, request) = (snapshot.clone(), request.clone());
        let columns = Columns::new(&request.schema());
        Self { columns, snapshot, request, ranges, homes: Some(homes), open: None }
    }

    fn fill(&mut self) -> Result<Option<RecordBatch>, Broken> {
        let snapshot = self.snapshot.clone();
        let mut owned = Owned::of(snapshot.owned());
        while self.columns.rows() < self.request.batch_rows {
            let Some(open) = &mut self.open else {
                let Some(range) = self.ranges.pop() else { break };
                self.open = Some(Sources::of(&self.snapshot, &self.request, range, self.homes.as_ref())?);
                continue;
            };
            let Some(facet) = open.next_facet()? else {
                self.open = None;
                continue;
            };
            let found = open.take(facet, &self.snapshot)?;
            let facets = &self.request.filters.facets;
            let asked_for = facets.as_ref().is_none_or(|facets| facets.binary_search(&facet).is_ok());
            let alone = self.request.filters.alone;
            let fits = alone.is_none_or(|alone| open.homes.is_alone(&facet) == alone);
            if asked_for && fits && owned.has(facet.as_bytes()) {
                let homes = open.homes.clone();
                self.put(found, &homes)?;
            }
        }
        let next = Columns::new(&self.request.schema());
        std::mem::replace(&mut self.columns, next).finish_some()
    }

    fn put(&mut self, found: Found, homes: &Homes) -> Result<(), Broken> {
        let columns = &mut self.columns;
        let named = self.request.columns.iter().any(|it| matches!(*it, facet::NAMESPACE | facet::VALUE));
        let identifier = if named { found.identifier()? } else { None };
        let identifier = identifier.as_ref().map(|(namespace, value)| (namespace.as_str(), value.as_str()));
        for (place, column) in self.request.columns.iter().enumerate() {
            match *column {
                facet::FACET => columns.id(place, found.facet.as_bytes()),
                facet::HOME => columns.id(place, homes.of(found.facet).as_bytes()),
                facet::MEMBERS => columns.members(place, homes.is_alone(&found.facet).then_some(1)),
                facet::NAMESPACE => columns.text(place, identifier.and_then(|(it, _)| said(it))),
                facet::VALUE => columns.text(place, identifier.and_then(|(_, it)| said(it))),
                facet::FIRST_SEEN => columns.time(place, found.times.map(|(first, _)| first)),
                facet::LAST_SEEN => columns.time(place, found.times.map(|(_, last)| last)),
                facet::EVENTS => columns.count(place, found.events),
                facet::SUMMARY => match &found.summary {
                    Known::None => columns.blob(place, &[]),
                    Known::Stored(bytes) => columns.blob(place, bytes),
                    Known::Sum(sum) => columns.blob(place, &sum.to_bytes()),
                },
                _ => {}
            }
        }
        columns.end_row();
        Ok(())
    }
}

impl Iterator for OfFacets {
    type Item = Result<RecordBatch, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill().transpose()
    }
}

impl Sources {
    fn of(
        snapshot: &Arc<Snapshot>,
        request: &Request,
        (from, to): Between,
        homes: Option<&Arc<Homes>>,
    ) -> Result<Self, Broken> {
        let wants = |columns: &[usize]| request.columns.iter().any(|column| columns.contains(column));
        let homes = match homes {
            Some(homes) => homes.clone(),
            None if wants(&[facet::HOME, facet::MEMBERS]) || request.filters.alone.is_some() => {
                snapshot.homes()?
            }
            None => Arc::default(),
        };
        let summaries = wants(&[facet::SUMMARY, facet::NAMESPACE, facet::VALUE]);
        let numbers = Projection::of(&[column::FACET, FIRST_SEEN, LAST_SEEN, EVENTS]);
        let all = Projection::of(&[column::FACET, FIRST_SEEN, LAST_SEEN, EVENTS, column::SUMMARY]);
        let projection = if summaries { all } else { numbers };
        let scan = snapshot.runs.scan(FACETS, from, to, projection, READ_ROWS).map_err(broken)?;
        let deltas = snapshot.deltas();
        let place = |key: &PointKey| deltas.partition_point(|(facet, ..)| facet.as_bytes() < key);
        let memory = from.as_ref().map_or(0, place)..to.as_ref().map_or(deltas.len(), place);
        let records = Records::between(snapshot.clone(), from.as_ref(), to.as_ref()).peekable();
        let runs = RunRows { scan, batch: None, row: 0, summaries };
        Ok(Self { homes, runs, deltas, memory, records })
    }

    /// The next facet that any of them has.
    fn next_facet(&mut self) -> Result<Option<FacetId>, Broken> {
        let of_runs = self.runs.facet()?;
        let of_memory =
            self.deltas.get(self.memory.clone()).and_then(|rest| rest.first()).map(|delta| delta.0);
        let of_records = match self.records.peek() {
            Some(Ok((facet, _))) => Some(*facet),
            Some(Err(error)) => return Err(Broken::new(error.reason.clone())),
            None => None,
        };
        Ok([of_runs, of_memory, of_records].into_iter().flatten().min())
    }

    /// All that they have of a facet, which is the next.
    fn take(&mut self, facet: FacetId, snapshot: &Snapshot) -> Result<Found, Broken> {
        let mut found = Found { facet, record: None, summary: Known::None, events: 0, times: None };
        while self.runs.facet()? == Some(facet) {
            self.runs.take(&mut found)?;
        }
        while let Some((_, part, number)) =
            self.deltas.get(self.memory.clone()).and_then(|rest| rest.first()).filter(|(of, ..)| *of == facet)
        {
            self.memory.start += 1;
            let events = snapshot.memory.get(*part as usize);
            let Some((events, row)) = events.and_then(|it| Some((it, it.get(*number as usize)?))) else {
                return Err(broken("an event in memory is missing"));
            };
            found.add(1, (row.timestamp, row.timestamp));
            if self.runs.summaries {
                let record = RecordView::read(events.record(row)).map_err(broken)?;
                found.sum()?.absorb_copy(&record);
            }
        }
        if let Some(Ok((of, _))) = self.records.peek()
            && *of == facet
        {
            found.record = self.records.next().transpose()?.map(|(_, record)| record);
        }
        Ok(found)
    }
}

impl Found {
    fn add(&mut self, events: u64, (first, last): (i64, i64)) {
        self.events += events;
        let (earliest, latest) = self.times.unwrap_or((first, last));
        self.times = Some((earliest.min(first), latest.max(last)));
    }

    /// The summary, to add to it.
    fn sum(&mut self) -> Result<&mut FacetSummary, Broken> {
        let sum = match std::mem::replace(&mut self.summary, Known::None) {
            Known::None => Box::default(),
            Known::Stored(bytes) => Box::new(FacetSummary::from_bytes(&bytes).map_err(broken)?),
            Known::Sum(sum) => sum,
        };
        self.summary = Known::Sum(sum);
        match &mut self.summary {
            Known::Sum(sum) => Ok(sum),
            _ => Err(broken("a sum that was just made is missing")),
        }
    }

    /// Namespace and value of its identifier.
    fn identifier(&self) -> Result<Option<(String, String)>, Broken> {
        // A record may come before anybody has said what it is of.
        if let Some(record) = self.record.as_ref().filter(|record| !record.namespace.is_empty()) {
            return Ok(Some((record.namespace.clone(), record.value.clone())));
        }
        let parts = |summary: &Summary<'_>| {
            let identifier = summary.identifier().map_err(broken)?;
            Ok(Some((identifier.namespace().to_string(), identifier.value().to_owned())))
        };
        match &self.summary {
            Known::None => Ok(None),
            Known::Stored(bytes) => parts(&Summary::read(bytes).map_err(broken)?),
            Known::Sum(sum) => parts(sum),
        }
    }
}

/// Columns of the stored deltas besides the facet and its summary.
const FIRST_SEEN: usize = 1;
const LAST_SEEN: usize = 2;
const EVENTS: usize = 3;

/// The deltas in runs, one after the other.
struct RunRows {
    scan: Scan,
    batch: Option<RecordBatch>,
    row: usize,
    /// Whether summaries are read.
    summaries: bool,
}

impl RunRows {
    /// The facet of the next delta.
    fn facet(&mut self) -> Result<Option<FacetId>, Broken> {
        loop {
            if let Some(batch) = self.batch.as_ref().filter(|batch| self.row < batch.num_rows()) {
                let id = batch.column(0).as_fixed_size_binary().value(self.row);
                let facet = FacetId::from_slice(id).ok_or_else(|| broken("a facet's id is not 16 bytes"))?;
                return Ok(Some(facet));
            }
            match self.scan.next() {
                Some(batch) => (self.batch, self.row) = (Some(batch.map_err(broken)?), 0),
                None => return Ok(None),
            }
        }
    }

    /// Adds the next delta to what is known of its facet.
    fn take(&mut self, found: &mut Found) -> Result<(), Broken> {
        let Some(batch) = &self.batch else { return Ok(()) };
        let time = |number: usize| {
            let times = micros(batch.column(number)).ok_or_else(|| broken("a facet's time is not one"))?;
            times.get(self.row).copied().ok_or_else(|| broken("a facet's time is missing"))
        };
        let events = batch.column(EVENTS).as_primitive::<UInt64Type>().value(self.row);
        found.add(events, (time(FIRST_SEEN)?, time(LAST_SEEN)?));
        if self.summaries {
            let summary = batch.column(column::SUMMARY).as_binary::<i32>().value(self.row);
            match found.summary {
                Known::None => found.summary = Known::Stored(summary.to_vec()),
                _ => found.sum()?.merge(&Summary::read(summary).map_err(broken)?),
            }
        }
        self.row += 1;
        Ok(())
    }
}
