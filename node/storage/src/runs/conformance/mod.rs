//! What both engines must do, and do alike: [`facts`], and random runs against a [`model`]. Here: tables and rows.

mod facts;
mod model;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt64Type};

const EVENTS: TableId = TableId(1);
const SUMS: TableId = TableId(2);
const SEEN: TableId = TableId(3);
const STORE: StoreId = StoreId(7);

/// (point, time, number, kind, body)
type Event = (PointKey, i64, u64, &'static str, Option<String>);

fn event_schema(columns: usize) -> arrow::datatypes::SchemaRef {
    let few = [(DICTIONARY.to_string(), String::new())].into();
    let mut fields = vec![
        Field::new("point", DataType::FixedSizeBinary(16), false),
        Field::new("time", DataType::Int64, false),
        Field::new("number", DataType::UInt64, false),
        Field::new("kind", DataType::Utf8, false).with_metadata(few),
        Field::new("body", DataType::Utf8, true),
    ];
    fields.truncate(columns);
    Arc::new(Schema::new(fields))
}

fn events_table(columns: usize, page_rows: usize) -> Arc<Table> {
    let kind =
        TableKind::Columnar { schema: event_schema(columns), key_columns: 3, combine: None, page_rows };
    Table::new(TableSpec { id: EVENTS, name: "events", kind }).unwrap()
}

fn events(rows: &[Event]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::try_from_iter(rows.iter().map(|row| row.0)).unwrap()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.2))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.3))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.4.as_deref()))),
    ];
    RecordBatch::try_new(event_schema(5), columns).unwrap()
}

fn rows(batches: &[RecordBatch]) -> Vec<Event> {
    let mut rows = Vec::new();
    for batch in batches {
        let kinds = ["page", "track", "a kind"];
        for row in 0..batch.num_rows() {
            let point = batch.column(0).as_fixed_size_binary().value(row).try_into().unwrap();
            let kind = batch.column(3).as_string::<i32>().value(row);
            let body = batch.column(4).as_string::<i32>();
            rows.push((
                point,
                batch.column(1).as_primitive::<Int64Type>().value(row),
                batch.column(2).as_primitive::<UInt64Type>().value(row),
                *kinds.iter().find(|known| **known == kind).unwrap(),
                body.is_valid(row).then(|| body.value(row).to_string()),
            ));
        }
    }
    rows
}

/// Adds the second column of rows with equal keys.
struct Sum;

impl Combine for Sum {
    fn combine(&self, rows: &RecordBatch) -> Result<RecordBatch, String> {
        let (points, values) =
            (rows.column(0).as_fixed_size_binary(), rows.column(1).as_primitive::<Int64Type>());
        let mut sums: BTreeMap<&[u8], (usize, i64)> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let sum = sums.entry(points.value(row)).or_default();
            *sum = (sum.0 + 1, sum.1 + values.value(row));
        }
        if sums.values().any(|(count, _)| *count < 2) {
            return Err("a group of one row".into());
        }
        Ok(sum_rows(sums.iter().map(|(point, (_, sum))| ((*point).try_into().unwrap(), *sum))))
    }
}

fn sum_rows(rows: impl Iterator<Item = (PointKey, i64)>) -> RecordBatch {
    let (points, values): (Vec<_>, Vec<_>) = rows.unzip();
    let points = FixedSizeBinaryArray::try_from_iter(points.into_iter()).unwrap();
    RecordBatch::try_new(sum_schema(), vec![Arc::new(points), Arc::new(Int64Array::from(values))]).unwrap()
}

fn sum_schema() -> arrow::datatypes::SchemaRef {
    let point = Field::new("point", DataType::FixedSizeBinary(16), false);
    Arc::new(Schema::new(vec![point, Field::new("sum", DataType::Int64, false)]))
}

fn sums_table(page_rows: usize) -> Arc<Table> {
    let combine: Arc<dyn Combine> = Arc::new(Sum);
    let kind =
        TableKind::Columnar { schema: sum_schema(), key_columns: 1, combine: Some(combine), page_rows };
    Table::new(TableSpec { id: SUMS, name: "sums", kind }).unwrap()
}

fn seen_table() -> Arc<Table> {
    let kind = TableKind::Flat { key_len: 20, value_len: 57 };
    Table::new(TableSpec { id: SEEN, name: "seen", kind }).unwrap()
}

fn spread(number: u64) -> PointKey {
    xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes()).to_be_bytes()
}

/// Each engine, with a directory that lives as long as it.
fn engines() -> Vec<(Arc<dyn RunStore>, PathBuf, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    let real: Arc<dyn RunStore> = FileRuns::open(&path.join("runs"), RunOptions::default()).unwrap();
    let compression = PageCompression::Zstd;
    let options = RunOptions {
        first_compression: PageCompression::None,
        merged_compression: compression,
        cache_bytes: 0,
    };
    let memory: Arc<dyn RunStore> = MemoryRuns::new(options).unwrap();
    vec![(real, path, Some(dir)), (memory, PathBuf::from("/"), None)]
}

struct Writer<'a> {
    store: &'a dyn RunStore,
    next: u64,
}

impl Writer<'_> {
    fn run(&mut self, table: &Arc<Table>, level: u32, source: RowSource) -> Result<Arc<Run>> {
        self.next += 1;
        let new = NewRun { id: RunId(self.next), level, created_from: self.next };
        let meta = self.store.write(STORE, table, new, source)?;
        self.store.open(STORE, table, &meta)
    }

    fn events(&mut self, table: &Arc<Table>, rows: &[Event]) -> Arc<Run> {
        self.run(table, 0, RowSource::Rows(Rows::Columnar(vec![events(rows)]))).unwrap()
    }
}

fn set(table: &Arc<Table>, runs: Vec<Arc<Run>>) -> RunSet {
    RunSet::empty(STORE, [table]).changed(&[], runs)
}
