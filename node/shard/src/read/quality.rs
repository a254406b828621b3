//! What identify events come to, for the quality report: facet by facet, a bounded part at a time.
//!
//! A part ends behind a facet, so all events of a customer are in one part and nothing of a customer travels. Events
//! of the memtables are read where they lie; of those in runs only identify events are opened.

use arrow::array::AsArray;
use arrow::datatypes::UInt8Type;
use bytes::Bytes;
use isthmus_domain::{
    EventType, FacetId, RecordView,
    quality::{Identified, Partial, ReservedRules, Settings, changes_of},
    record::TraitChange,
};
use isthmus_raft::Broken;
use isthmus_storage::runs::{Projection, RunSet};

use crate::{
    error::broken,
    machine::Shared,
    memtable::{DedupKey, Memtable},
    read::facets::successor,
    tables::{EVENTS, event as column, micros, text},
};

/// Facets of a memtable that one part takes.
const FACETS: usize = 256;
/// Rows of runs that one part reads, but for the end of a facet.
const ROWS: usize = 20_000;
/// Bytes of traits that one part opens, but for the end of a facet.
const BYTES: usize = 8 << 20;
/// Rows that are read at a time.
const BATCH_ROWS: usize = 1_024;

/// The columns that are needed, in their order.
const COLUMNS: Projection = Projection::of(&[
    column::FACET,
    column::TIMESTAMP,
    column::KEY,
    column::RECEIVED_AT,
    column::KIND,
    column::SOURCE,
    column::PROPERTIES,
]);

/// What a part of the identify events comes to.
pub struct QualityPart {
    /// The sums; no customer is open.
    pub sums: Partial,
    /// The last facet that is in them; `None` when there are no more.
    pub next: Option<FacetId>,
    /// The stamp that the part is exact at.
    pub stamp: isthmus_domain::Stamp,
}

/// Adds up the identify events of facets above `after` in slots below `end_slot`. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn quality(
    shared: &Shared,
    after: Option<FacetId>,
    end_slot: u16,
    settings: Settings,
) -> Result<QualityPart, Broken> {
    let scope = Scope { after, end_slot };
    let mut partial = Partial::new(settings);
    let view = shared.view(|state| in_memtable(&state.active, &scope));
    let (mut events, mut bound) = view.active?;
    if let Some(frozen) = &view.lower.frozen {
        let (more, frozen_bound) = in_memtable(frozen, &scope)?;
        events.extend(more);
        bound = earlier(bound, frozen_bound);
    }
    bound = earlier(bound, add_runs(&view.lower.runs, &scope, bound, &mut partial)?);
    // Behind the bound some part may have more of a facet: it comes with the next part.
    for event in events.iter().filter(|event| bound.is_none_or(|bound| event.facet <= bound)) {
        partial.add(&Identified {
            facet: event.facet,
            source: &event.source,
            timestamp: event.timestamp,
            key: event.key,
            received: event.received,
            traits: &event.traits,
        });
    }
    partial.close(&ReservedRules);
    Ok(QualityPart { sums: partial, next: bound, stamp: view.stamp })
}

/// Which facets a part may be of.
struct Scope {
    after: Option<FacetId>,
    end_slot: u16,
}

impl Scope {
    fn ends_before(&self, id: &FacetId) -> bool {
        id.slot().number() >= self.end_slot
    }
}

/// An identify event of a memtable.
struct Event {
    facet: FacetId,
    source: String,
    timestamp: i64,
    key: DedupKey,
    received: i64,
    traits: Vec<TraitChange>,
}

/// The lower of two bounds; `None` is none.
fn earlier(a: Option<FacetId>, b: Option<FacetId>) -> Option<FacetId> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Identify events of the first facets of a memtable, and the last of these facets if there are more.
fn in_memtable(memtable: &Memtable, scope: &Scope) -> Result<(Vec<Event>, Option<FacetId>), Broken> {
    let mut ids = memtable.facets_after(scope.after.as_ref(), FACETS + 1);
    ids.retain(|id| !scope.ends_before(id));
    let bound = if ids.len() > FACETS { ids.get(FACETS - 1).copied() } else { None };
    let mut events = Vec::new();
    for id in ids.into_iter().take(FACETS) {
        for (row, record) in memtable.events_of(&id) {
            let view = RecordView::read(record).map_err(broken)?;
            if view.kind != EventType::Identify {
                continue;
            }
            let change = |(name, value): (&str, &[u8])| TraitChange {
                name: name.to_owned(),
                value: Bytes::copy_from_slice(value),
            };
            events.push(Event {
                facet: id,
                source: view.source.to_owned(),
                timestamp: row.timestamp,
                key: row.key,
                received: row.entry.stamp.as_micros(),
                traits: view.traits().map(change).collect(),
            });
        }
    }
    Ok((events, bound))
}

/// Adds what runs hold up to a bound; the last facet that was added if there are more.
fn add_runs(
    runs: &RunSet,
    scope: &Scope,
    bound: Option<FacetId>,
    partial: &mut Partial,
) -> Result<Option<FacetId>, Broken> {
    let from = match scope.after {
        None => None,
        Some(after) => match successor(after.as_bytes()) {
            None => return Ok(None),
            from => from,
        },
    };
    let (mut rows, mut bytes, mut last) = (0, 0, None);
    for batch in runs.scan(EVENTS, from, None, COLUMNS, BATCH_ROWS).map_err(broken)? {
        let batch = batch.map_err(broken)?;
        let times = micros(batch.column(1)).ok_or_else(|| broken("an event's time is not one"))?;
        let received = micros(batch.column(3)).ok_or_else(|| broken("a time of receipt is not one"))?;
        let kinds = batch.column(4).as_primitive::<UInt8Type>();
        for row in 0..batch.num_rows() {
            let facet = FacetId::from_slice(batch.column(0).as_fixed_size_binary().value(row))
                .ok_or_else(|| broken("a facet's id is not 16 bytes"))?;
            if bound.is_some_and(|bound| facet > bound) || scope.ends_before(&facet) {
                return Ok(None);
            }
            if last != Some(facet) && (rows >= ROWS || bytes >= BYTES) {
                return Ok(last);
            }
            last = Some(facet);
            rows += 1;
            if i32::from(kinds.value(row)) != EventType::Identify as i32 {
                continue;
            }
            let properties = text(batch.column(6), row).as_bytes();
            bytes += properties.len();
            let key: DedupKey = batch
                .column(2)
                .as_fixed_size_binary()
                .value(row)
                .try_into()
                .map_err(|_| broken("an event's key is not 16 bytes"))?;
            partial.add(&Identified {
                facet,
                source: text(batch.column(5), row),
                timestamp: times[row],
                key,
                received: received[row],
                traits: &changes_of(properties).map_err(broken)?,
            });
        }
    }
    Ok(None)
}
