//! What segments are worked out from, and what is kept of them: all events facet by facet, who has another home, and who
//! is in which segment. A bounded part at a call.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::UInt8Type;
use bytes::Bytes;
use isthmus_domain::{EventRecord, FacetId, Stamp};
use isthmus_identity::{keys as identity_keys, stored};
use isthmus_raft::Broken;
use isthmus_storage::runs::{Projection, RunSet};
use prost::Message as _;

use crate::{
    below::Below,
    error::broken,
    keys::table,
    machine::Shared,
    memtable::{DedupKey, Memtable},
    read::facets::successor,
    segments::{Key, Row},
    tables::{EVENTS, MEMBERS, event as column, micros, text},
};

/// Facets of a memtable that one part takes.
const FACETS: usize = 256;
/// Rows of runs that one part reads, but for the end of a facet.
const ROWS: usize = 10_000;
/// Bytes of events that one part holds, but for the end of a facet.
const BYTES: usize = 8 << 20;
/// Rows that are read at a time.
const BATCH_ROWS: usize = 1_024;
/// Records that one part looks at.
const RECORDS: usize = 1_000;

/// The columns that are needed, in their order.
const COLUMNS: Projection = Projection::of(&[
    column::FACET,
    column::TIMESTAMP,
    column::KEY,
    column::RECEIVED_AT,
    column::KIND,
    column::SOURCE,
    column::NAME,
    column::MESSAGE_ID,
    column::PROPERTIES,
    column::CONTEXT,
]);

/// An event, however it lies.
pub struct StoredEvent {
    /// Its facet.
    pub facet: FacetId,
    /// Its key among its facet's events of one time.
    pub key: DedupKey,
    /// The stamp that it was taken in with.
    pub stamp: Stamp,
    /// The record. Of an event that was written out: what its row keeps, without its identifier and what follows from
    /// its properties.
    pub record: EventRecord,
}

/// Events of some facets.
pub struct EventsPart {
    /// The events, those of a facet in no order.
    pub events: Vec<StoredEvent>,
    /// The last facet that is in the part; `None` when there are no more.
    pub next: Option<FacetId>,
}

/// All events of the next facets above `after`. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn events_part(shared: &Shared, after: Option<FacetId>) -> Result<EventsPart, Broken> {
    let view = shared.view(|state| in_memtable(&state.active, after));
    let (mut events, mut bound) = view.active?;
    if let Some(frozen) = &view.lower.frozen {
        let (more, frozen_bound) = in_memtable(frozen, after)?;
        events.extend(more);
        bound = earlier(bound, frozen_bound);
    }
    bound = earlier(bound, from_runs(&view.lower.runs, after, bound, &mut events)?);
    // Behind the bound some part may have more of a facet: it comes with the next part.
    events.retain(|event| bound.is_none_or(|bound| event.facet <= bound));
    Ok(EventsPart { events, next: bound })
}

/// The lower of two bounds; `None` is none.
fn earlier(a: Option<FacetId>, b: Option<FacetId>) -> Option<FacetId> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Events of the first facets of a memtable, and the last of these facets if there are more.
fn in_memtable(
    memtable: &Memtable,
    after: Option<FacetId>,
) -> Result<(Vec<StoredEvent>, Option<FacetId>), Broken> {
    let ids = memtable.facets_after(after.as_ref(), FACETS + 1);
    let bound = if ids.len() > FACETS { ids.get(FACETS - 1).copied() } else { None };
    let mut events = Vec::new();
    for id in ids.into_iter().take(FACETS) {
        for (row, record) in memtable.events_of(&id) {
            // A copy: a slice of the memtable would keep all of it.
            let record = EventRecord::from_bytes(Bytes::copy_from_slice(record)).map_err(broken)?;
            events.push(StoredEvent { facet: id, key: row.key, stamp: row.entry.stamp, record });
        }
    }
    Ok((events, bound))
}

/// Adds what runs hold up to a bound; the last facet that was added if there are more.
fn from_runs(
    runs: &RunSet,
    after: Option<FacetId>,
    bound: Option<FacetId>,
    events: &mut Vec<StoredEvent>,
) -> Result<Option<FacetId>, Broken> {
    let from = match after {
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
            if bound.is_some_and(|bound| facet > bound) {
                return Ok(None);
            }
            if last != Some(facet) && (rows >= ROWS || bytes >= BYTES) {
                return Ok(last);
            }
            last = Some(facet);
            rows += 1;
            let key = batch.column(2).as_fixed_size_binary().value(row).try_into();
            let key: DedupKey = key.map_err(|_| broken("an event's key is not 16 bytes"))?;
            let owned = |number: usize| text(batch.column(number), row).to_owned();
            let blob = |number: usize| Bytes::copy_from_slice(text(batch.column(number), row).as_bytes());
            let record = EventRecord {
                facet: Bytes::copy_from_slice(facet.as_bytes()),
                timestamp: times[row],
                kind: i32::from(kinds.value(row)),
                source: owned(5),
                name: owned(6),
                message_id: owned(7),
                properties: blob(8),
                context: blob(9),
                ..EventRecord::default()
            };
            bytes += record.encoded_len();
            events.push(StoredEvent { facet, key, stamp: Stamp(received[row].cast_unsigned()), record });
        }
    }
    Ok(None)
}

/// A page of identifiers with their homes, and the place where the rest lies; `None` when there is none.
pub type HomesPage = (Vec<(FacetId, FacetId)>, Option<Vec<u8>>);

/// Identifiers that have another home than themselves, behind a place among all. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn homes(shared: &Shared, after: Option<Vec<u8>>) -> Result<HomesPage, Broken> {
    let rows = {
        let state = shared.state.read();
        let below = Below::of(shared, &state);
        state.identity_rows_over(&[table::RECORD], after.as_deref(), RECORDS, Some(&below))?
    };
    let next = rows.last().filter(|_| rows.len() == RECORDS).map(|(key, _)| key.clone());
    let mut found = Vec::new();
    for (key, row) in rows {
        let Some(facet) = identity_keys::facet(&key) else { continue };
        let home = stored::Record::decode(row).map_err(broken)?.home(facet);
        if home != facet {
            found.push((facet, home));
        }
    }
    Ok((found, next))
}

/// Who is in which segment, behind a home, about `limit` rows, whole homes: and behind which home the rest lies. Rows of
/// those who have left are among them. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn segment_members(
    shared: &Shared,
    after: Option<FacetId>,
    limit: usize,
) -> Result<(BTreeMap<Key, Row>, Option<FacetId>), Broken> {
    let is_behind = |key: &Key| after.is_none_or(|after| key.home > after);
    let view = shared.view(|state| {
        let members = state.active.members().iter().filter(|(key, _)| is_behind(key));
        members.map(|(key, row)| (*key, *row)).collect::<Vec<_>>()
    });
    let from = match after.map(|after| successor(after.as_bytes())) {
        Some(None) => return Ok((BTreeMap::new(), None)),
        Some(from) => from,
        None => None,
    };
    let (mut rows, mut end) = (BTreeMap::new(), None);
    for row in view.lower.runs.flat_scan(MEMBERS, from, None).map_err(broken)? {
        let row = row.map_err(broken)?;
        let (Some(key), Some(row)) = (Key::from_slice(&row.key), Row::from_slice(&row.value)) else {
            return Err(broken("a member of a segment is damaged"));
        };
        if rows.len() >= limit
            && rows.last_key_value().is_some_and(|(last, _): (&Key, _)| last.home < key.home)
        {
            end = rows.last_key_value().map(|(last, _)| last.home);
            break;
        }
        rows.insert(key, row);
    }
    let within = |key: &Key| end.is_none_or(|end| key.home <= end);
    if let Some(frozen) = &view.lower.frozen {
        let members = frozen.members().iter().filter(|(key, _)| is_behind(key) && within(key));
        rows.extend(members.map(|(key, row)| (*key, *row)));
    }
    rows.extend(view.active.into_iter().filter(|(key, _)| within(key)));
    Ok((rows, end))
}
