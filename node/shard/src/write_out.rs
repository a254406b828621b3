//! From a frozen memtable to sorted rows for the storage.
//!
//! One pass in the order of facets: each record is read once, in place, for its event row and for its facet's summary,
//! which is folded anew and borrows its texts from the records. What is sorted are compact keys. A record lies anywhere
//! in memory, so all that is wanted of it is taken while it is in the processor's cache; a column is made with room for
//! what the batch before had, and its texts are checked once for the whole column.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, FixedSizeBinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray,
        UInt8Array,
    },
    buffer::{Buffer, NullBuffer, OffsetBuffer},
    error::ArrowError,
};
use isthmus_domain::{FacetId, RecordView, Summary};
use isthmus_storage::{
    control::ControlWrite,
    keeper::{GroupMeta, WriteOut},
    runs::{Rows, TableRows},
};

use crate::{
    feed::{Place, Row, What, name_hash},
    memtable::{DedupEntry, EventRow, Memtable},
    segments,
    tables::{DEDUP, EVENT_SCHEMA, EVENTS, FACETS, FEED, FacetBatch, MEMBERS, offset, vec_of_zero},
};

/// Rows of a batch: large enough for the columns to pay, small enough to stay in the processor's cache.
const BATCH_ROWS: usize = 4096;
/// Room for a summary, about.
const SUMMARY_BYTES: usize = 96;

/// Sorts a frozen memtable into rows to be written out. Costs processor time and no I/O.
///
/// # Errors
/// A row that doesn't fit its table: a fault of the program, for people.
pub fn write_out(frozen: &Memtable, meta: GroupMeta) -> Result<WriteOut, String> {
    let rows = frozen.rows.iter().map(|(key, value)| ControlWrite { key, value: value.cloned() });
    let mut rows: Vec<ControlWrite> = rows.collect();
    rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let (events, facets, heads) = events_and_facets(frozen)?;
    Ok(WriteOut {
        meta,
        rows,
        tables: vec![
            TableRows { table: EVENTS, rows: Rows::Columnar(events) },
            TableRows { table: FACETS, rows: Rows::Columnar(facets) },
            TableRows { table: DEDUP, rows: Rows::Flat(dedup(frozen)) },
            TableRows { table: FEED, rows: Rows::Flat(feed(frozen, &heads)) },
            TableRows { table: MEMBERS, rows: Rows::Flat(members(frozen)) },
        ],
    })
}

/// The rows of facets among those to be written out, shared with them.
pub(crate) fn facets(write_out: &WriteOut) -> Vec<RecordBatch> {
    let facets = write_out.tables.iter().filter(|rows| rows.table == FACETS);
    let batches =
        facets.filter_map(|rows| if let Rows::Columnar(batches) = &rows.rows { Some(batches) } else { None });
    batches.flatten().cloned().collect()
}

fn dedup(frozen: &Memtable) -> Vec<u8> {
    let mut entries: Vec<(u128, &EventRow)> =
        frozen.dedup_rows().map(|row| (u128::from_be_bytes(row.key), row)).collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    let mut bytes = Vec::with_capacity(entries.len() * (16 + DedupEntry::BYTES));
    for (_, row) in entries {
        bytes.extend_from_slice(&row.key);
        bytes.extend_from_slice(&row.entry.to_bytes());
    }
    bytes
}

fn members(frozen: &Memtable) -> Vec<u8> {
    let members = frozen.members();
    let mut bytes = Vec::with_capacity(members.len() * (segments::Key::BYTES + segments::Row::BYTES));
    for (key, row) in members {
        bytes.extend_from_slice(&key.to_bytes());
        bytes.extend_from_slice(&row.to_bytes());
    }
    bytes
}

/// Type and hash of the name of each event, in the order of arrival: what the feed knows of it.
type Heads = Vec<(u8, u32)>;

/// The changes for the feed, in order.
fn feed(frozen: &Memtable, heads: &Heads) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(heads.len() * (16 + Row::VALUE_BYTES));
    let mut heads = heads.iter();
    for item in frozen.feed(Place::default()) {
        let mut row = item.row();
        if let What::Event { kind, name, .. } = &mut row.what
            && let Some(head) = heads.next()
        {
            (*kind, *name) = *head;
        }
        bytes.extend_from_slice(&row.to_bytes());
    }
    bytes
}

/// The events by facet, time and key, with their numbers. Most comparisons end in the facet, and need no look at the row.
fn sorted(frozen: &Memtable) -> Vec<(usize, &EventRow)> {
    let key =
        |(number, row): (u32, &EventRow)| (u128::from_be_bytes(*row.facet.as_bytes()), row.timestamp, number);
    let mut keys: Vec<(u128, i64, u32)> = (0..).zip(frozen.events()).map(key).collect();
    let place = |number: u32| frozen.event(number as usize);
    let order = |number: u32| place(number).map(|row| &row.key);
    keys.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| order(a.2).cmp(&order(b.2))));
    keys.into_iter().filter_map(|(.., number)| Some((number as usize, place(number)?))).collect()
}

fn events_and_facets(frozen: &Memtable) -> Result<(Vec<RecordBatch>, Vec<RecordBatch>, Heads), String> {
    let rows = sorted(frozen);
    let mut heads = vec![(0, 0); rows.len()];
    let mut batches = Vec::with_capacity(rows.len().div_ceil(BATCH_ROWS));
    let mut facets = Facets::default();
    let mut room = [0; BLOBS];
    for chunk in rows.chunks(BATCH_ROWS) {
        let mut events = EventBatch::new(chunk.len(), room);
        for (number, row) in chunk {
            let record = RecordView::read(frozen.record(row)).map_err(|error| error.to_string())?;
            heads[*number] = (record.kind as u8, name_hash(record.name));
            facets.take(row.facet, &record)?;
            events.push(row, &record)?;
        }
        room = events.columns.each_ref().map(|column| column.values.len() + column.values.len() / 16);
        batches.push(events.finish()?);
    }
    Ok((batches, facets.finish()?, heads))
}

/// Folds facets whose events come one after the other.
#[derive(Default)]
struct Facets<'a> {
    facet: Option<FacetId>,
    /// One for all, so that its vectors are made once.
    summary: Summary<'a>,
    batch: Option<FacetBatch>,
    batches: Vec<RecordBatch>,
}

impl<'a> Facets<'a> {
    fn take(&mut self, facet: FacetId, event: &RecordView<'a>) -> Result<(), String> {
        if self.facet != Some(facet) {
            self.end_facet()?;
            self.facet = Some(facet);
        }
        self.summary.absorb_view(event);
        Ok(())
    }

    fn end_facet(&mut self) -> Result<(), String> {
        let Some(facet) = self.facet.take() else { return Ok(()) };
        let batch = self.batch.get_or_insert_with(|| FacetBatch::new(BATCH_ROWS, BATCH_ROWS * SUMMARY_BYTES));
        batch.push(facet.as_bytes(), &self.summary)?;
        self.summary.clear();
        if batch.len() == BATCH_ROWS {
            self.end_batch()?;
        }
        Ok(())
    }

    fn end_batch(&mut self) -> Result<(), String> {
        if let Some(batch) = self.batch.take() {
            self.batches.push(batch.finish()?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<RecordBatch>, String> {
        self.end_facet()?;
        self.end_batch()?;
        Ok(self.batches)
    }
}

/// A column of texts or blobs in the making; a row without one is null or empty.
struct Column {
    ends: Vec<i32>,
    values: Vec<u8>,
}

impl Column {
    fn new(rows: usize, room: usize) -> Self {
        Self { ends: vec_of_zero(rows), values: Vec::with_capacity(room) }
    }

    /// Ends a row with what was appended to `values` since the one before.
    fn end(&mut self) -> Result<(), String> {
        self.ends.push(offset(self.values.len())?);
        Ok(())
    }

    /// Whether to have nulls for empty ones; where there are none, there is no bitmap.
    fn parts(self, nullable: bool) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        let present =
            nullable.then(|| self.ends.windows(2).map(|ends| ends[0] < ends[1]).collect::<Vec<_>>());
        let nulls = present.map(NullBuffer::from).filter(|nulls| nulls.null_count() > 0);
        (OffsetBuffer::new(self.ends.into()), self.values.into(), nulls)
    }

    fn text(self, nullable: bool) -> Result<ArrayRef, ArrowError> {
        let (ends, values, nulls) = self.parts(nullable);
        Ok(Arc::new(StringArray::try_new(ends, values, nulls)?))
    }

    fn blob(self, nullable: bool) -> Result<ArrayRef, ArrowError> {
        let (ends, values, nulls) = self.parts(nullable);
        Ok(Arc::new(BinaryArray::try_new(ends, values, nulls)?))
    }
}

/// Columns of texts and blobs: source, name, message id, properties, context, links, notes.
const BLOBS: usize = 7;

/// Events on their way into columns.
struct EventBatch {
    facets: Vec<u8>,
    times: Vec<i64>,
    keys: Vec<u8>,
    stamps: Vec<i64>,
    kinds: Vec<u8>,
    columns: [Column; BLOBS],
    sent: Vec<Option<i64>>,
}

impl EventBatch {
    /// Of so many rows, with room for so many bytes of each column.
    fn new(rows: usize, room: [usize; BLOBS]) -> Self {
        Self {
            facets: Vec::with_capacity(rows * 16),
            times: Vec::with_capacity(rows),
            keys: Vec::with_capacity(rows * 16),
            stamps: Vec::with_capacity(rows),
            kinds: Vec::with_capacity(rows),
            columns: room.map(|bytes| Column::new(rows, bytes)),
            sent: Vec::with_capacity(rows),
        }
    }

    fn push(&mut self, row: &EventRow, record: &RecordView<'_>) -> Result<(), String> {
        self.facets.extend_from_slice(row.facet.as_bytes());
        self.times.push(row.timestamp);
        self.keys.extend_from_slice(&row.key);
        self.stamps.push(row.entry.stamp.as_micros());
        self.kinds.push(record.kind as u8);
        self.sent.push(record.sent_at);
        let [source, name, message_id, properties, context, links, notes] = &mut self.columns;
        source.values.extend_from_slice(record.source.as_bytes());
        name.values.extend_from_slice(record.name.as_bytes());
        message_id.values.extend_from_slice(record.message_id.as_bytes());
        properties.values.extend_from_slice(record.properties);
        context.values.extend_from_slice(record.context);
        record.encode_links(&mut links.values);
        for (number, note) in record.notes().enumerate() {
            if number > 0 {
                notes.values.push(b'\n');
            }
            notes.values.extend_from_slice(note.as_bytes());
        }
        self.columns.iter_mut().try_for_each(Column::end)
    }

    fn finish(self) -> Result<RecordBatch, String> {
        self.columns().map_err(|error| error.to_string())
    }

    fn columns(self) -> Result<RecordBatch, ArrowError> {
        let times = |times: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
        };
        let [source, name, message_id, properties, context, links, notes] = self.columns;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(FixedSizeBinaryArray::try_new(16, self.facets.into(), None)?),
            times(self.times),
            Arc::new(FixedSizeBinaryArray::try_new(16, self.keys.into(), None)?),
            times(self.stamps),
            Arc::new(UInt8Array::from(self.kinds)),
            source.text(false)?,
            name.text(true)?,
            message_id.text(false)?,
            properties.text(true)?,
            context.text(true)?,
            links.blob(true)?,
            notes.text(true)?,
            Arc::new(self.sent.into_iter().collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        ];
        RecordBatch::try_new(EVENT_SCHEMA.clone(), columns)
    }
}
