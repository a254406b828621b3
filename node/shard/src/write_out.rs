//! From a frozen memtable to sorted rows for the storage.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryBuilder, FixedSizeBinaryBuilder, RecordBatch, StringBuilder,
        TimestampMicrosecondArray, UInt8Array,
    },
    error::ArrowError,
};
use isthmus_domain::{EventRecord, record::Link};
use isthmus_storage::{
    control::ControlWrite,
    keeper::{GroupMeta, WriteOut},
    runs::{Rows, TableRows},
};

use crate::{
    memtable::{DedupEntry, EventRow, Memtable},
    tables::{DEDUP, EVENT_SCHEMA, EVENTS, FACETS, FacetBatch},
};

/// Rows of a batch: large enough for the columns to pay, small enough to stay in the processor's cache.
const BATCH_ROWS: usize = 4096;

/// Sorts a frozen memtable into rows to be written out. Costs processor time and no I/O.
///
/// # Errors
/// A row that doesn't fit its table: a fault of the program, for people.
pub fn write_out(frozen: &Memtable, meta: GroupMeta) -> Result<WriteOut, String> {
    let rows = frozen.rows.iter().map(|(key, value)| ControlWrite { key: key.clone(), value: value.clone() });
    Ok(WriteOut {
        meta,
        rows: rows.collect(),
        tables: vec![
            TableRows { table: EVENTS, rows: Rows::Columnar(events(frozen)?) },
            TableRows { table: FACETS, rows: Rows::Columnar(facets(frozen)?) },
            TableRows { table: DEDUP, rows: Rows::Flat(dedup(frozen)) },
        ],
    })
}

fn dedup(frozen: &Memtable) -> Vec<u8> {
    let mut entries: Vec<_> = frozen.dedup.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| **key);
    let mut bytes = Vec::with_capacity(entries.len() * (16 + DedupEntry::BYTES));
    for (key, entry) in entries {
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&entry.to_bytes());
    }
    bytes
}

fn facets(frozen: &Memtable) -> Result<Vec<RecordBatch>, String> {
    let mut deltas: Vec<_> = frozen.facets.iter().collect();
    deltas.sort_unstable_by_key(|(facet, _)| **facet);
    deltas
        .chunks(BATCH_ROWS)
        .map(|chunk| {
            let mut batch = FacetBatch::new(chunk.len());
            for (facet, delta) in chunk {
                batch.push(facet.as_bytes(), &delta.summary)?;
            }
            batch.finish()
        })
        .collect()
}

fn events(frozen: &Memtable) -> Result<Vec<RecordBatch>, String> {
    let mut rows: Vec<&EventRow> = frozen.events.iter().collect();
    rows.sort_unstable_by_key(|row| (row.facet, row.order()));
    rows.chunks(BATCH_ROWS).map(|chunk| event_batch(chunk).map_err(|error| error.to_string())).collect()
}

/// The links of an event as one blob: a record that has nothing else.
pub(crate) fn encode_links(links: &[Link]) -> Vec<u8> {
    prost::Message::encode_to_vec(&EventRecord { links: links.to_vec(), ..EventRecord::default() })
}

fn event_batch(rows: &[&EventRow]) -> Result<RecordBatch, ArrowError> {
    let mut facets = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
    let mut keys = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
    let mut text =
        std::array::from_fn::<_, 6, _>(|_| StringBuilder::with_capacity(rows.len(), rows.len() * 64));
    let [source, name, message_id, properties, context, notes] = &mut text;
    let mut links = BinaryBuilder::with_capacity(rows.len(), 0);
    for row in rows {
        let record = &row.record;
        facets.append_value(row.facet.as_bytes())?;
        keys.append_value(row.key)?;
        source.append_value(&record.source);
        name.append_option(some(&record.name));
        message_id.append_value(&record.message_id);
        properties.append_option(some(json(&record.properties)?));
        context.append_option(some(json(&record.context)?));
        notes.append_option(some(&record.notes.join("\n")));
        links.append_option((!record.links.is_empty()).then(|| encode_links(&record.links)));
    }
    let [source, name, message_id, properties, context, notes] = text.map(|mut column| column.finish());
    let time = |of: fn(&EventRow) -> i64| -> ArrayRef {
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| of(row))).with_timezone("UTC"),
        )
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(facets.finish()),
        time(|row| row.record.timestamp),
        Arc::new(keys.finish()),
        time(|row| row.stamp.as_micros()),
        Arc::new(UInt8Array::from_iter_values(
            rows.iter().map(|row| u8::try_from(row.record.kind).unwrap_or(0)),
        )),
        Arc::new(source),
        Arc::new(name),
        Arc::new(message_id),
        Arc::new(properties),
        Arc::new(context),
        Arc::new(links.finish()),
        Arc::new(notes),
        Arc::new(
            rows.iter()
                .map(|row| row.record.sent_at)
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
        ),
    ];
    RecordBatch::try_new(EVENT_SCHEMA.clone(), columns)
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn json(bytes: &[u8]) -> Result<&str, ArrowError> {
    std::str::from_utf8(bytes).map_err(|_| ArrowError::InvalidArgumentError("JSON that is not UTF-8".into()))
}
