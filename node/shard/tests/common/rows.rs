//! What a shard holds as plain rows: by a scan of a snapshot, and by the reads of a replica that applied no more.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part, and a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{
    DataType, Field, Int32Type, TimestampMicrosecondType, UInt8Type, UInt32Type, UInt64Type,
};
use isthmus_domain::{FacetId, LinkFact, LinkKind, ResolutionKind};
use isthmus_identity::stored::StoredRow;
use isthmus_shard::{
    Shared, keys,
    read::{self, QuarantineQuery},
    scan::{Derived, Request, Snapshot, Table, schema},
};

pub type Row = Vec<Option<String>>;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cell(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::FixedSizeBinary(_) => hex(column.as_fixed_size_binary().value(row)),
        DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(row).to_string(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).to_string(),
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Binary => hex(column.as_binary::<i32>().value(row)),
        DataType::Dictionary(..) => {
            let words = column.as_dictionary::<Int32Type>();
            let at = words.key(row).unwrap();
            words.values().as_string::<i32>().value(at).to_owned()
        }
        _ => column.as_string::<i32>().value(row).to_owned(),
    })
}

pub fn of_batch(batch: &RecordBatch) -> Vec<Row> {
    (0..batch.num_rows())
        .map(|row| batch.columns().iter().map(|column| cell(column, row)).collect())
        .collect()
}

/// All rows of a scan, sorted.
pub fn scanned(snapshot: &Arc<Snapshot>, request: &Request) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in snapshot.parts(request) {
        for batch in part {
            let batch = batch.unwrap();
            assert_eq!(batch.schema(), request.schema());
            assert!(batch.num_rows() > 0);
            rows.extend(of_batch(&batch));
        }
    }
    rows.sort();
    rows
}

/// All rows of a table, in batches of about so many rows.
pub fn all(snapshot: &Arc<Snapshot>, table: Table, batch_rows: usize) -> Vec<Row> {
    scanned(snapshot, &Request { batch_rows, ..Request::all(table) })
}

/// A column that says what others do: their texts, with a bar between.
pub fn joined(table: Table, needs: &[usize]) -> Derived {
    let columns = needs.len();
    let make = move |raw: &RecordBatch| {
        assert_eq!(raw.num_columns(), columns);
        let text = |row: Row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join("|");
        Ok(Arc::new(of_batch(raw).into_iter().map(text).map(Some).collect::<StringArray>()) as ArrayRef)
    };
    let key = needs.iter().fold(table as u64 + 1, |key, column| key * 31 + *column as u64);
    let field = Arc::new(Field::new("joined", DataType::Utf8, true));
    Derived { key, needs: needs.to_vec(), of: 0, field, make: Arc::new(make) }
}

fn said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn bytes(bytes: &[u8]) -> Option<String> {
    said(std::str::from_utf8(bytes).unwrap())
}

/// The same of a replica in whose memory all of it is.
pub fn held(shared: &Arc<Shared>, table: Table) -> Vec<Row> {
    let id = |facet: &FacetId| Some(hex(facet.as_bytes()));
    let home = |facet: &FacetId| {
        let record = read::record(shared, facet).unwrap();
        record.map_or(*facet, |record| record.home(*facet))
    };
    let summaries: BTreeMap<_, _> = read::scan(shared, None, 100_000).unwrap().facets.into_iter().collect();
    let of_table = |table: u8| -> Vec<(Vec<u8>, bytes::Bytes)> {
        let state = shared.state.read();
        let rows = state.active.rows.iter().filter(|(key, value)| key[0] == table && value.is_some());
        rows.map(|(key, value)| (key, value.unwrap().clone())).collect()
    };
    let mut rows: Vec<Row> = match table {
        Table::Events => summaries
            .keys()
            .flat_map(|facet| {
                let events = read::events(shared, facet, None, 100_000).unwrap().events.into_iter();
                events.map(move |((time, key), stamp, event)| {
                    vec![
                        id(facet),
                        id(&home(facet)),
                        Some(time.to_string()),
                        Some(hex(&key)),
                        Some(stamp.0.to_string()),
                        Some(event.kind.to_string()),
                        Some(event.source.clone()),
                        said(&event.name),
                        Some(event.message_id.clone()),
                        bytes(&event.properties),
                        bytes(&event.context),
                    ]
                })
            })
            .collect(),
        Table::Facets => {
            let linked = of_table(keys::table::RECORD).into_iter();
            let linked = linked.map(|(key, _)| isthmus_identity::keys::facet(&key).unwrap());
            let facets: BTreeSet<FacetId> = summaries.keys().copied().chain(linked).collect();
            let row = |facet: FacetId| {
                let (summary, record) = (summaries.get(&facet), read::record(shared, &facet).unwrap());
                // Who has a record may be one of several: all shards together know.
                let alone = record.is_none();
                let identifier = record.map(|record| (record.namespace, record.value)).or_else(|| {
                    let identifier = summary?.identifier().unwrap();
                    Some((identifier.namespace().to_string(), identifier.value().to_owned()))
                });
                let (namespace, value) = identifier.unzip();
                vec![
                    id(&facet),
                    id(&home(&facet)),
                    alone.then(|| "1".to_owned()),
                    namespace,
                    value,
                    summary.and_then(|it| it.first_seen()).map(|it| it.to_string()),
                    summary.and_then(|it| it.last_seen()).map(|it| it.to_string()),
                    Some(summary.map_or(0, |it| it.events()).to_string()),
                    Some(summary.map(|it| hex(&it.to_bytes())).unwrap_or_default()),
                ]
            };
            facets.into_iter().map(row).collect()
        }
        Table::LinkFacts => {
            let row = |(key, value): (Vec<u8>, bytes::Bytes)| {
                let stored = StoredRow::read(&value).unwrap();
                let fact = LinkFact::decode(stored.fact.as_ref()?).unwrap();
                let facet = isthmus_identity::keys::facet(&key).unwrap();
                Some(vec![
                    id(&facet),
                    id(&home(&facet)),
                    Some(fact.a.namespace().to_string()),
                    Some(fact.a.value().to_owned()),
                    Some(fact.b.namespace().to_string()),
                    Some(fact.b.value().to_owned()),
                    Some(fact.source),
                    Some(if fact.kind == LinkKind::Alias { "alias" } else { "plain" }.to_owned()),
                    Some(fact.timestamp.to_string()),
                    Some(fact.message_id),
                    (!stored.told).then(|| "false".to_owned()),
                ])
            };
            of_table(keys::table::LINK_ROW).into_iter().filter_map(row).collect()
        }
        Table::Quarantine => {
            let query = QuarantineQuery { limit: 10_000, resolved_too: true, ..QuarantineQuery::default() };
            let entries = read::page(shared, &query).unwrap().entries.into_iter();
            let row = |entry: isthmus_domain::QuarantineEntry| {
                let whole = read::entry(shared, &entry.id()).unwrap().unwrap();
                let resolution = whole.resolution.as_ref();
                let kind = |kind: ResolutionKind| format!("{kind:?}").to_lowercase();
                vec![
                    Some(hex(&whole.id)),
                    Some(whole.source.clone()),
                    Some(whole.reason.clone()),
                    said(&whole.message),
                    said(&whole.field),
                    said(&whole.origin),
                    said(&whole.message_id),
                    Some(whole.received.to_string()),
                    resolution.map(|it| kind(it.kind())),
                    resolution.map(|it| it.at.to_string()),
                    Some(String::from_utf8(whole.payload.to_vec()).unwrap()),
                ]
            };
            entries.map(row).collect()
        }
    };
    assert!(rows.iter().all(|row| row.len() == schema(table).fields().len()));
    rows.sort();
    rows
}
