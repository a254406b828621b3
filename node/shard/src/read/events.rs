//! A facet's events, newest first, page by page.

use arrow::array::{Array, AsArray, RecordBatch};
use bytes::Bytes;
use isthmus_domain::{EventRecord, FacetId, Stamp};
use isthmus_raft::Broken;
use isthmus_storage::runs::{Projection, SortKey};
use prost::Message as _;

use crate::{
    error::broken,
    machine::Shared,
    memtable::DedupKey,
    state::Lower,
    tables::{EVENTS, event as column, micros, text},
};

/// A place in a facet's order: time (microseconds), then key.
pub type EventPosition = (i64, DedupKey);

/// A page of events.
pub struct EventsPage {
    /// The events with their places and stamps, newest first.
    pub events: Vec<(EventPosition, Stamp, EventRecord)>,
    /// Whether there are more.
    pub more: bool,
    /// The stamp that the page is exact at.
    pub stamp: Stamp,
}

/// Events of a facet before a place, at most `limit`. Waits for a disk.
///
/// Of an event that was written out comes what its row keeps: all but the primary identifier, the hashes and what
/// follows from `properties` (revenue, changes of traits).
///
/// # Errors
/// Storage that fails or is damaged.
pub fn events(
    shared: &Shared,
    facet: &FacetId,
    before: Option<EventPosition>,
    limit: usize,
) -> Result<EventsPage, Broken> {
    let wanted = limit + 1;
    let view = shared.view(|state| state.active.events_before(facet, before, wanted));
    let mut rows = view.active;
    if let Some(frozen) = &view.lower.frozen {
        rows.extend(frozen.events_before(facet, before, wanted));
    }
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        events.push((row.order, row.stamp, EventRecord::from_bytes(row.record).map_err(broken)?));
    }
    if view.lower.runs.may_contain(EVENTS, facet.as_bytes()) {
        let key =
            before.map(|(time, key)| SortKey::of_point(facet.as_bytes()).then_i64(time).then_bytes(&key));
        let tails = view.lower.runs.tail(EVENTS, facet.as_bytes(), key.as_ref(), wanted, Projection::ALL);
        for batch in tails.map_err(broken)? {
            for row in 0..batch.num_rows() {
                events.push(stored(&batch, row)?);
            }
        }
    }
    events.sort_unstable_by_key(|(place, ..)| std::cmp::Reverse(*place));
    let more = events.len() > limit;
    events.truncate(limit);
    Ok(EventsPage { events, more, stamp: view.stamp })
}

/// One event below the active memtable, as [`events`] gives it. Waits for a disk.
pub(super) fn event_at(
    lower: &Lower,
    facet: &FacetId,
    place: EventPosition,
) -> Result<Option<EventRecord>, Broken> {
    if let Some(frozen) = &lower.frozen
        && let Some((_, record)) = frozen.events_of(facet).find(|(row, _)| row.order() == place)
    {
        return EventRecord::from_bytes(Bytes::copy_from_slice(record)).map(Some).map_err(broken);
    }
    let (time, key) = place;
    // Just behind the event: the last row before that is the event, in the run that has it.
    let behind = SortKey::of_point(facet.as_bytes()).then_i64(time).then_bytes(&key).then_bytes(&[0]);
    let tails = lower.runs.tail(EVENTS, facet.as_bytes(), Some(&behind), 1, Projection::ALL);
    for batch in tails.map_err(broken)? {
        for row in 0..batch.num_rows() {
            let (found, _, record) = stored(&batch, row)?;
            if found == place {
                return Ok(Some(record));
            }
        }
    }
    Ok(None)
}

fn stored(batch: &RecordBatch, row: usize) -> Result<(EventPosition, Stamp, EventRecord), Broken> {
    let time = |number: usize| {
        let column = batch.column(number);
        let values = micros(column).ok_or_else(|| broken("an event's time is not one"))?;
        Ok::<_, Broken>((!column.is_null(row)).then(|| values[row]))
    };
    let key: DedupKey = batch
        .column(column::KEY)
        .as_fixed_size_binary()
        .value(row)
        .try_into()
        .map_err(|_| broken("an event's key is not 16 bytes"))?;
    let timestamp = time(column::TIMESTAMP)?.unwrap_or_default();
    let stamp = Stamp(time(column::RECEIVED_AT)?.unwrap_or_default().cast_unsigned());
    let owned = |number: usize| text(batch.column(number), row).to_owned();
    let bytes = |number: usize| Bytes::copy_from_slice(text(batch.column(number), row).as_bytes());
    let links = batch.column(column::LINKS).as_binary::<i32>();
    let links = if links.is_null(row) {
        Vec::new()
    } else {
        EventRecord::decode(links.value(row)).map_err(broken)?.links
    };
    let notes = text(batch.column(column::NOTES), row);
    let record = EventRecord {
        facet: Bytes::copy_from_slice(batch.column(column::FACET).as_fixed_size_binary().value(row)),
        message_id: owned(column::MESSAGE_ID),
        source: owned(column::SOURCE),
        kind: i32::from(batch.column(column::KIND).as_primitive::<arrow::datatypes::UInt8Type>().value(row)),
        name: owned(column::NAME),
        timestamp,
        properties: bytes(column::PROPERTIES),
        context: bytes(column::CONTEXT),
        links,
        notes: notes.lines().map(str::to_owned).collect(),
        sent_at: time(column::SENT_AT)?,
        ..EventRecord::default()
    };
    Ok(((timestamp, key), stamp, record))
}
