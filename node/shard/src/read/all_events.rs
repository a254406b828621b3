//! All events of a shard up to a stamp, in one pass: what segments are made of.
//!
//! They come by rising facet, in parts. Each part is a range of facets as of one moment: those of the active memtable, of
//! the frozen one and of runs. So nothing is missed and nothing comes twice, whatever is written out or merged meanwhile;
//! runs are read on from where they were, and opened again only when there are others.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::UInt8Type,
};
use bytes::Bytes;
use isthmus_domain::{EventRecord, EventType, FacetId, RecordView, Stamp};
use isthmus_raft::Broken;
use isthmus_storage::runs::{Projection, RunSet, Scan};

use crate::{
    error::broken,
    keys,
    machine::Shared,
    memtable::{DedupKey, Memtable},
    read::facets::successor,
    tables::{EVENTS, event as column, micros, text},
};

/// Facets of the active memtable that one part takes: apply waits while they are copied.
const FACETS: usize = 512;
/// Rows of runs that are read at a time.
const BATCH_ROWS: usize = 4_096;

/// What is wanted of events, besides their facet, kind, name and time.
#[derive(Clone, Debug, Default)]
pub struct EventsWanted {
    /// Those up to this stamp, which is not ahead of the replica.
    pub at: Stamp,
    /// With the changes of traits.
    pub traits: bool,
    /// With their revenue.
    pub revenue: bool,
    /// The currency of revenue that came without one.
    pub currency: String,
    /// With their properties.
    pub properties: bool,
    /// With their context.
    pub context: bool,
    /// With their source and message id.
    pub senders: bool,
    /// With their keys.
    pub keys: bool,
}

/// Where the columns are that are read.
struct Columns {
    projection: Projection,
    timestamp: usize,
    received: usize,
    kind: usize,
    name: usize,
    key: Option<usize>,
    /// Source and message id.
    senders: Option<(usize, usize)>,
    properties: Option<usize>,
    context: Option<usize>,
}

impl Columns {
    fn of(wanted: &EventsWanted) -> Self {
        let derived = wanted.traits || wanted.revenue;
        let all = [
            (column::FACET, true),
            (column::TIMESTAMP, true),
            (column::KEY, wanted.keys),
            (column::RECEIVED_AT, true),
            (column::KIND, true),
            (column::SOURCE, wanted.senders),
            (column::NAME, true),
            (column::MESSAGE_ID, wanted.senders),
            (column::PROPERTIES, wanted.properties || derived),
            (column::CONTEXT, wanted.context),
        ];
        let mut named: Vec<usize> = all.iter().filter(|(_, is)| *is).map(|(number, _)| *number).collect();
        named.sort_unstable();
        let at = |number: usize| named.binary_search(&number).ok();
        let of = |number: usize| at(number).unwrap_or_default();
        Self {
            projection: Projection::of(&named),
            timestamp: of(column::TIMESTAMP),
            received: of(column::RECEIVED_AT),
            kind: of(column::KIND),
            name: of(column::NAME),
            key: at(column::KEY),
            senders: at(column::SOURCE).zip(at(column::MESSAGE_ID)),
            properties: at(column::PROPERTIES),
            context: at(column::CONTEXT),
        }
    }
}

/// Hands out all events up to a stamp. `go_on` is asked now and then; when it says no, the rest is left out. Waits for a
/// disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn all_events(
    shared: &Shared,
    wanted: &EventsWanted,
    go_on: &dyn Fn() -> bool,
    take: &mut dyn FnMut(&RecordView<'_>),
) -> Result<(), Broken> {
    // Whoever comes to the active memtable later comes with a later stamp.
    let mut ids = shared.view(|state| state.active.facets().collect::<Vec<_>>()).active;
    ids.sort_unstable();
    let (mut runs, mut frozen) = (Rows::new(wanted), Frozen::default());
    let mut after = None;
    let parts = ids.chunks(FACETS).map(|part| (part, part.last().copied()));
    for (part, bound) in parts.chain([(&[][..], None)]) {
        let view = shared.view(|state| Copied::of(&state.active, part, wanted.at));
        view.active.hand_out(take)?;
        if let Some(memtable) = &view.lower.frozen {
            frozen.hand_out(memtable, after, bound, wanted.at, take)?;
        }
        if !runs.hand_out(&view.lower.runs, after, bound, go_on, take)? || !go_on() {
            return Ok(());
        }
        after = bound;
    }
    Ok(())
}

/// Events of the active memtable: a slice of it would keep all of it.
#[derive(Default)]
struct Copied {
    records: Vec<u8>,
    each: Vec<Range<usize>>,
}

impl Copied {
    fn of(memtable: &Memtable, facets: &[FacetId], at: Stamp) -> Self {
        let mut copied = Self::default();
        for facet in facets {
            for (_, record) in memtable.events_of(facet).filter(|(row, _)| row.entry.stamp <= at) {
                let begin = copied.records.len();
                copied.records.extend_from_slice(record);
                copied.each.push(begin..copied.records.len());
            }
        }
        copied
    }

    fn hand_out(&self, take: &mut dyn FnMut(&RecordView<'_>)) -> Result<(), Broken> {
        for range in &self.each {
            take(&read(self.records.get(range.clone()).unwrap_or_default())?);
        }
        Ok(())
    }
}

/// The facets of a frozen memtable, in order.
#[derive(Default)]
struct Frozen {
    of: Option<Arc<Memtable>>,
    ids: Vec<FacetId>,
}

impl Frozen {
    fn hand_out(
        &mut self,
        memtable: &Arc<Memtable>,
        after: Option<FacetId>,
        bound: Option<FacetId>,
        at: Stamp,
        take: &mut dyn FnMut(&RecordView<'_>),
    ) -> Result<(), Broken> {
        if !self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, memtable)) {
            self.ids = memtable.facets().collect();
            self.ids.sort_unstable();
            self.of = Some(memtable.clone());
        }
        let from = after.map_or(0, |after| self.ids.partition_point(|id| *id <= after));
        let behind = self.ids.iter().skip(from);
        for facet in behind.take_while(|id| bound.is_none_or(|bound| **id <= bound)) {
            for (_, record) in memtable.events_of(facet).filter(|(row, _)| row.entry.stamp <= at) {
                take(&read(record)?);
            }
        }
        Ok(())
    }
}

/// A record of a memtable, with the key that its row has.
fn read(record: &[u8]) -> Result<RecordView<'_>, Broken> {
    let mut view = RecordView::read(record).map_err(broken)?;
    view.dedup_key = keys::in_slot(view.dedup_key, view.facet.slot());
    Ok(view)
}

/// Rows of runs, and how far they were read.
struct Rows<'a> {
    wanted: &'a EventsWanted,
    columns: Columns,
    open: Option<(Arc<RunSet>, Scan)>,
    batch: Option<(RecordBatch, usize)>,
}

impl<'a> Rows<'a> {
    fn new(wanted: &'a EventsWanted) -> Self {
        Self { wanted, columns: Columns::of(wanted), open: None, batch: None }
    }

    /// Hands out what lies behind `after` and not behind `bound`; whether it came to that.
    fn hand_out(
        &mut self,
        runs: &Arc<RunSet>,
        after: Option<FacetId>,
        bound: Option<FacetId>,
        go_on: &dyn Fn() -> bool,
        take: &mut dyn FnMut(&RecordView<'_>),
    ) -> Result<bool, Broken> {
        let from = match after.map(|after| successor(after.as_bytes())) {
            Some(None) => return Ok(true),
            Some(from) => from,
            None => None,
        };
        if !self.open.as_ref().is_some_and(|(open, _)| Arc::ptr_eq(open, runs)) {
            let scan = runs.scan(EVENTS, from, None, self.columns.projection, BATCH_ROWS).map_err(broken)?;
            (self.open, self.batch) = (Some((runs.clone(), scan)), None);
        }
        loop {
            let (batch, begin) = match self.batch.take() {
                Some(read) => read,
                None => match self.open.as_mut().and_then(|(_, scan)| scan.next()) {
                    None => return Ok(true),
                    Some(batch) => (batch.map_err(broken)?, 0),
                },
            };
            let end = self.rows(&batch, begin, bound, take)?;
            if end < batch.num_rows() {
                self.batch = Some((batch, end));
                return Ok(true);
            }
            if !go_on() {
                return Ok(false);
            }
        }
    }

    /// Hands out rows of a batch; the first one behind the bound.
    fn rows(
        &self,
        batch: &RecordBatch,
        begin: usize,
        bound: Option<FacetId>,
        take: &mut dyn FnMut(&RecordView<'_>),
    ) -> Result<usize, Broken> {
        let columns = &self.columns;
        let facets = batch.column(0).as_fixed_size_binary();
        let times =
            micros(batch.column(columns.timestamp)).ok_or_else(|| broken("an event's time is not one"))?;
        let received =
            micros(batch.column(columns.received)).ok_or_else(|| broken("a time of receipt is not one"))?;
        let kinds = batch.column(columns.kind).as_primitive::<UInt8Type>();
        let texts = |number: Option<usize>, row| number.map_or("", |number| text(batch.column(number), row));
        for row in begin..batch.num_rows() {
            let facet = FacetId::from_slice(facets.value(row))
                .ok_or_else(|| broken("a facet's id is not 16 bytes"))?;
            if bound.is_some_and(|bound| facet > bound) {
                return Ok(row);
            }
            if received[row].cast_unsigned() > self.wanted.at.0 {
                continue;
            }
            let key: DedupKey = match columns.key {
                None => [0; 16],
                Some(number) => {
                    let key = batch.column(number).as_fixed_size_binary().value(row).try_into();
                    key.map_err(|_| broken("an event's key is not 16 bytes"))?
                }
            };
            let kind = EventType::try_from(i32::from(kinds.value(row)))
                .map_err(|_| broken("an event's type is unknown"))?;
            let (source, message_id) = match columns.senders {
                Some((source, message_id)) => (texts(Some(source), row), texts(Some(message_id), row)),
                None => ("", ""),
            };
            let mut view = RecordView::of_row(facet, kind, times[row], key);
            (view.source, view.message_id) = (source, message_id);
            view.name = text(batch.column(columns.name), row);
            view.properties = texts(columns.properties, row).as_bytes();
            view.context = texts(columns.context, row).as_bytes();
            match self.says_more(&view) {
                false => take(&view),
                true => {
                    let record = restored(&view, &self.wanted.currency)?;
                    take(&RecordView::read(&record).map_err(broken)?);
                }
            }
        }
        Ok(batch.num_rows())
    }

    /// Whether something that is wanted follows from the properties.
    fn says_more(&self, event: &RecordView<'_>) -> bool {
        match event.kind {
            EventType::Identify => self.wanted.traits && !event.properties.is_empty(),
            EventType::Group => false,
            _ => {
                let properties = std::str::from_utf8(event.properties).unwrap_or_default();
                self.wanted.revenue && properties.contains("\"revenue\"")
            }
        }
    }
}

/// The record with what follows from its properties.
fn restored(event: &RecordView<'_>, currency: &str) -> Result<Bytes, Broken> {
    let record = EventRecord {
        facet: Bytes::copy_from_slice(event.facet.as_bytes()),
        timestamp: event.timestamp,
        kind: event.kind.into(),
        source: event.source.to_owned(),
        name: event.name.to_owned(),
        // One that nobody asked for has a stand-in, too.
        message_id: if event.message_id.is_empty() { "-".to_owned() } else { event.message_id.to_owned() },
        properties: Bytes::copy_from_slice(event.properties),
        context: Bytes::copy_from_slice(event.context),
        ..EventRecord::default()
    };
    Ok(record.restored(event.dedup_key, currency).map_err(broken)?.to_bytes())
}
