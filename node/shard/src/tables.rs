//! The tables of bulk state, as they lie in run files. Stored: columns are only ever added, behind and nullable.
//!
//! | table | sorted by | what |
//! | --- | --- | --- |
//! | events | facet, timestamp, event key | one row an event, readable by any Parquet reader |
//! | facets | facet | deltas of facets; rows of one facet add up |
//! | dedup | key | what is needed to know an event again |
//! | feed | stamp, number | changes for the feed: see [`crate::feed`] |
//! | members | home, segment | who is in which segment: see [`crate::segments`] |

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, Int64Array, RecordBatch, UInt64Array,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use isthmus_domain::Summary;
use isthmus_storage::runs::{Combine, DICTIONARY, TableId, TableKind, TableSpec};

use crate::{feed, memtable::DedupEntry, segments};

/// Events.
pub const EVENTS: TableId = TableId(1);
/// Facet deltas.
pub const FACETS: TableId = TableId(2);
/// Deduplication entries.
pub const DEDUP: TableId = TableId(3);

/// Changes for the feed.
pub const FEED: TableId = TableId(4);

/// Who is in which segment.
pub const MEMBERS: TableId = TableId(5);

/// Rows of a page of events: the smallest part of a timeline that is read.
const EVENT_PAGE_ROWS: usize = 128;
/// Rows of a page of facets.
const FACET_PAGE_ROWS: usize = 64;

/// Numbers of the events table's columns.
pub(crate) mod event {
    pub const FACET: usize = 0;
    pub const TIMESTAMP: usize = 1;
    pub const KEY: usize = 2;
    pub const RECEIVED_AT: usize = 3;
    pub const KIND: usize = 4;
    pub const SOURCE: usize = 5;
    pub const NAME: usize = 6;
    pub const MESSAGE_ID: usize = 7;
    pub const PROPERTIES: usize = 8;
    pub const CONTEXT: usize = 9;
    pub const LINKS: usize = 10;
    pub const NOTES: usize = 11;
    pub const SENT_AT: usize = 12;
}

/// Numbers of the facets table's columns.
pub(crate) mod facet {
    pub const FACET: usize = 0;
    pub const SUMMARY: usize = 4;
}

fn few_values(field: Field) -> Field {
    field.with_metadata([(DICTIONARY.to_owned(), "1".to_owned())].into())
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The columns of events. Times are microseconds since 1970 in UTC; `properties` and `context` are canonical JSON.
pub(crate) static EVENT_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("facet", DataType::FixedSizeBinary(16), false),
        Field::new("timestamp", time(), false),
        Field::new("event_key", DataType::FixedSizeBinary(16), false),
        Field::new("received_at", time(), false),
        Field::new("type", DataType::UInt8, false),
        few_values(Field::new("source", DataType::Utf8, false)),
        few_values(Field::new("name", DataType::Utf8, true)),
        Field::new("message_id", DataType::Utf8, false),
        Field::new("properties", DataType::Utf8, true),
        Field::new("context", DataType::Utf8, true),
        Field::new("links", DataType::Binary, true),
        few_values(Field::new("notes", DataType::Utf8, true)),
        Field::new("sent_at", time(), true),
    ]))
});

/// The columns of facets. `events` counts all events of the delta; `summary` is `FacetSummary`'s encoding.
pub(crate) static FACET_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("facet", DataType::FixedSizeBinary(16), false),
        Field::new("first_seen", DataType::Int64, false),
        Field::new("last_seen", DataType::Int64, false),
        Field::new("events", DataType::UInt64, false),
        Field::new("summary", DataType::Binary, false),
    ]))
});

/// All tables, for the storage to be opened with.
pub fn tables() -> Vec<TableSpec> {
    let columnar = |schema: &SchemaRef, key_columns, combine, page_rows| TableKind::Columnar {
        schema: schema.clone(),
        key_columns,
        combine,
        page_rows,
    };
    vec![
        TableSpec { id: EVENTS, name: "events", kind: columnar(&EVENT_SCHEMA, 3, None, EVENT_PAGE_ROWS) },
        TableSpec {
            id: FACETS,
            name: "facets",
            kind: columnar(&FACET_SCHEMA, 1, Some(Arc::new(AddUp)), FACET_PAGE_ROWS),
        },
        TableSpec {
            id: DEDUP,
            name: "dedup",
            kind: TableKind::Flat { key_len: 16, value_len: DedupEntry::BYTES },
        },
        TableSpec { id: FEED, name: "feed", kind: TableKind::Sequence { value_len: feed::Row::VALUE_BYTES } },
        TableSpec {
            id: MEMBERS,
            name: "members",
            kind: TableKind::Flat { key_len: segments::Key::BYTES, value_len: segments::Row::BYTES },
        },
    ]
}

/// Builds batches of facets.
pub(crate) struct FacetBatch {
    facets: Vec<u8>,
    first_seen: Vec<i64>,
    last_seen: Vec<i64>,
    events: Vec<u64>,
    /// Where each summary ends.
    ends: Vec<i32>,
    summaries: Vec<u8>,
}

impl FacetBatch {
    /// With room for so many rows, whose summaries come to about `bytes`.
    pub fn new(rows: usize, bytes: usize) -> Self {
        Self {
            facets: Vec::with_capacity(rows * 16),
            first_seen: Vec::with_capacity(rows),
            last_seen: Vec::with_capacity(rows),
            events: Vec::with_capacity(rows),
            ends: vec_of_zero(rows),
            summaries: Vec::with_capacity(bytes),
        }
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn push(&mut self, facet: &[u8], summary: &Summary<'_>) -> Result<(), String> {
        self.facets.extend_from_slice(facet);
        self.first_seen.push(summary.first_seen().unwrap_or_default());
        self.last_seen.push(summary.last_seen().unwrap_or_default());
        self.events.push(summary.events());
        summary.encode(&mut self.summaries);
        self.ends.push(offset(self.summaries.len())?);
        Ok(())
    }

    pub fn finish(self) -> Result<RecordBatch, String> {
        let columns = || {
            let summaries =
                BinaryArray::try_new(OffsetBuffer::new(self.ends.into()), self.summaries.into(), None)?;
            let columns: Vec<ArrayRef> = vec![
                Arc::new(FixedSizeBinaryArray::try_new(16, self.facets.into(), None)?),
                Arc::new(Int64Array::from(self.first_seen)),
                Arc::new(Int64Array::from(self.last_seen)),
                Arc::new(UInt64Array::from(self.events)),
                Arc::new(summaries),
            ];
            RecordBatch::try_new(FACET_SCHEMA.clone(), columns)
        };
        columns().map_err(|error: ArrowError| error.to_string())
    }
}

/// Offsets of a column of texts or blobs, before its first row.
pub(crate) fn vec_of_zero(rows: usize) -> Vec<i32> {
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    offsets
}

/// Where a text or blob ends in its column. A batch has some MB; 2 GB don't fit.
pub(crate) fn offset(end: usize) -> Result<i32, String> {
    i32::try_from(end).map_err(|_| "a column of a batch has more than 2 GB".to_owned())
}

/// Adds deltas of one facet up.
struct AddUp;

impl Combine for AddUp {
    fn combine(&self, rows: &RecordBatch) -> Result<RecordBatch, String> {
        let facets = rows.column(facet::FACET).as_fixed_size_binary();
        let summaries = rows.column(facet::SUMMARY).as_binary::<i32>();
        let mut batch = FacetBatch::new(rows.num_rows() / 2, summaries.value_data().len() / 2);
        let mut row = 0;
        while row < rows.num_rows() {
            let id = facets.value(row);
            let mut sum = read(summaries.value(row))?;
            row += 1;
            while row < rows.num_rows() && facets.value(row) == id {
                sum.merge_shared(&read(summaries.value(row))?);
                row += 1;
            }
            batch.push(id, &sum)?;
        }
        batch.finish()
    }
}

fn read(bytes: &[u8]) -> Result<Summary<'_>, String> {
    Summary::read(bytes).map_err(|error| error.to_string())
}

/// A column of whole numbers that may also be times.
pub(crate) fn micros(column: &ArrayRef) -> Option<&[i64]> {
    use arrow::datatypes::TimestampMicrosecondType;
    match column.data_type() {
        DataType::Int64 => Some(column.as_primitive::<Int64Type>().values()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Some(column.as_primitive::<TimestampMicrosecondType>().values())
        }
        _ => None,
    }
}

/// Text of a nullable column, empty when null.
pub(crate) fn text(column: &ArrayRef, row: usize) -> &str {
    let column = column.as_string::<i32>();
    if column.is_null(row) { "" } else { column.value(row) }
}
