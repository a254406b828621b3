//! What both engines must do, and do alike; and random runs against a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt64Type};
use proptest::prelude::*;

use super::disk::{Disk, MemoryDisk, RealDisk};
use super::*;
use crate::Error;

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
    let kind = TableKind::Columnar { schema: event_schema(columns), key_columns: 3, combine: None, page_rows };
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
        let (points, values) = (rows.column(0).as_fixed_size_binary(), rows.column(1).as_primitive::<Int64Type>());
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
    let kind = TableKind::Columnar { schema: sum_schema(), key_columns: 1, combine: Some(combine), page_rows };
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
    let options =
        RunOptions { first_compression: PageCompression::None, merged_compression: compression, cache_bytes: 0 };
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

fn event() -> impl Strategy<Value = Event> {
    let body = prop::option::of("[a-z]{0,60}");
    (0..12_u64, -5..5_i64, any::<u64>(), prop::sample::select(vec!["page", "track", "a kind"]), body)
        .prop_map(|(point, time, number, kind, body)| (spread(point), time, number, kind, body))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn columnar_reads_equal_the_model(
        runs in prop::collection::vec(prop::collection::vec(event(), 1..150), 1..5),
        page_rows in 1..40_usize,
        batch_rows in 1..60_usize,
        limit in 1..30_usize,
        time in -5..5_i64,
    ) {
        for (store, ..) in engines() {
            let table = events_table(5, page_rows);
            let mut writer = Writer { store: store.as_ref(), next: 0 };
            let mut opened = Vec::new();
            let mut sorted_runs = Vec::new();
            for rows in &runs {
                let mut rows = rows.clone();
                rows.sort_by_key(|row| (row.0, row.1, row.2));
                opened.push(writer.events(&table, &rows));
                sorted_runs.push(rows);
            }
            let mut all: Vec<Event> = sorted_runs.concat();
            all.sort_by_key(|row| (row.0, row.1, row.2));
            let merged = writer.run(&table, 1, RowSource::Runs(opened.iter().rev().cloned().collect())).unwrap();
            for set in [set(&table, opened), set(&table, vec![merged])] {
                let batches: Vec<_> = set.scan(EVENTS, None, None, Projection::ALL, batch_rows).unwrap().map(Result::unwrap).collect();
                prop_assert!(batches.iter().all(|batch| batch.num_rows() <= batch_rows));
                prop_assert_eq!(&rows(&batches), &all);
                let (from, to) = (spread(3), spread(8));
                let part: Vec<_> = all.iter().filter(|row| row.0 >= from && row.0 < to).cloned().collect();
                let scan = set.scan(EVENTS, Some(from), Some(to), Projection::ALL, batch_rows).unwrap();
                prop_assert_eq!(rows(&scan.map(Result::unwrap).collect::<Vec<_>>()), part);
                for point in (0..14).map(spread) {
                    let of_point: Vec<_> = all.iter().filter(|row| row.0 == point).cloned().collect();
                    prop_assert!(of_point.is_empty() || set.may_contain(EVENTS, &point));
                    let mut found = rows(&set.rows_of(EVENTS, &point, Projection::ALL).unwrap());
                    found.sort_by_key(|row| (row.0, row.1, row.2));
                    prop_assert_eq!(&found, &of_point);
                    let before = SortKey::of_point(&point).then_i64(time);
                    for before in [None, Some(&before)] {
                        let earlier: Vec<_> = of_point.iter().filter(|row| before.is_none() || row.1 < time).cloned().collect();
                        let mut tail = Vec::new();
                        for batch in set.tail(EVENTS, &point, before, limit, Projection::ALL).unwrap() {
                            prop_assert!(batch.num_rows() <= limit);
                            tail.extend(rows(&[batch]));
                        }
                        tail.sort_by_key(|row| (row.0, row.1, row.2));
                        let last = limit.min(earlier.len());
                        prop_assert_eq!(&tail[tail.len() - last..], &earlier[earlier.len() - last..]);
                    }
                }
            }
        }
    }

    #[test]
    fn flat_reads_equal_the_model(
        runs in prop::collection::vec(prop::collection::btree_map(0..400_u64, any::<u8>(), 1..200), 1..5),
    ) {
        for (store, ..) in engines() {
            let table = seen_table();
            let mut writer = Writer { store: store.as_ref(), next: 0 };
            let (mut model, mut opened) = (BTreeMap::new(), Vec::new());
            let key = |number: u64| [spread(number / 3).as_slice(), &(number as u32).to_be_bytes()].concat();
            for run in &runs {
                let rows: BTreeMap<Vec<u8>, u8> = run.iter().map(|(number, value)| (key(*number), *value)).collect();
                let flat = rows.iter().flat_map(|(key, value)| [key.as_slice(), &[*value; 57]].concat()).collect();
                opened.push(writer.run(&table, 0, RowSource::Rows(Rows::Flat(flat))).unwrap());
                model.extend(rows);
            }
            let merged = writer.run(&table, 1, RowSource::Runs(opened.iter().rev().cloned().collect())).unwrap();
            prop_assert_eq!(merged.meta().rows, model.len() as u64);
            for set in [set(&table, opened), set(&table, vec![merged])] {
                let keys: Vec<_> = (0..420).map(key).collect();
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                let found = set.flat_get_sorted(SEEN, &keys).unwrap();
                for (key, found) in keys.iter().zip(found) {
                    let expected = model.get(*key).map(|value| vec![*value; 57]);
                    prop_assert_eq!(found.as_deref(), expected.as_deref());
                    let single = set.flat_get(SEEN, key).unwrap();
                    prop_assert_eq!(single.as_deref(), expected.as_deref());
                }
                let scan: Result<Vec<_>> = set.flat_scan(SEEN, None, None).unwrap().collect();
                let scan: BTreeMap<_, _> = scan.unwrap().into_iter().map(|row| (row.key.to_vec(), row.value[0])).collect();
                prop_assert_eq!(&scan, &model);
                let (from, to) = (spread(40), spread(90));
                let part = set.flat_scan(SEEN, Some(from), Some(to)).unwrap().count();
                prop_assert_eq!(part, model.range(from.to_vec()..to.to_vec().max(from.to_vec())).count());
            }
        }
    }

    #[test]
    fn a_merge_folds_equal_keys(
        runs in prop::collection::vec(prop::collection::vec((0..30_u64, -100..100_i64), 1..60), 1..6),
        page_rows in 1..20_usize,
    ) {
        for (store, ..) in engines() {
            let table = sums_table(page_rows);
            let mut writer = Writer { store: store.as_ref(), next: 0 };
            let mut model: BTreeMap<PointKey, i64> = BTreeMap::new();
            let mut opened = Vec::new();
            for run in &runs {
                let mut rows: Vec<_> = run.iter().map(|(point, value)| (spread(*point), *value)).collect();
                rows.sort();
                rows.iter().for_each(|(point, value)| *model.entry(*point).or_default() += value);
                let source = RowSource::Rows(Rows::Columnar(vec![sum_rows(rows.into_iter())]));
                opened.push(writer.run(&table, 0, source).unwrap());
            }
            opened.reverse();
            let merged = writer.run(&table, 1, RowSource::Runs(opened)).unwrap();
            let set = set(&table, vec![merged]);
            let batches: Result<Vec<_>> = set.scan(SUMS, None, None, Projection::ALL, 1000).unwrap().collect();
            let batch = concat_batches(&sum_schema(), &batches.unwrap()).unwrap();
            let expected = sum_rows(model.into_iter());
            prop_assert_eq!(batch, expected);
        }
    }
}

#[test]
fn a_run_is_plain_parquet_with_statistics_of_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileRuns::open(dir.path(), RunOptions::default()).unwrap();
    let table = events_table(5, 64);
    let mut all: Vec<Event> = (0..1000).map(|n| (spread(n % 50), n as i64, n, "track", Some(format!("b{n}")))).collect();
    all.sort();
    let run = Writer { store: store.as_ref(), next: 0 }.events(&table, &all);
    let file = std::fs::File::open(run.path()).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let group = reader.metadata().row_group(0).clone();
    assert!(group.column(0).statistics().is_some() && group.column(4).statistics().is_none());
    assert_eq!(group.column(3).dictionary_page_offset().is_some(), true);
    assert_eq!(group.column(4).dictionary_page_offset().is_some(), false);
    let batches: Vec<_> = reader.build().unwrap().map(|batch| batch.unwrap()).collect();
    assert_eq!(rows(&batches), all);
}

#[test]
fn several_row_groups_read_as_one() {
    let (store, table) = (MemoryRuns::new(RunOptions::default()).unwrap(), events_table(5, 1000));
    let all: Vec<Event> = (0..150_000_u64)
        .map(|n| ((u128::from(n / 7) << 64).to_be_bytes(), n as i64, n, "page", (n % 3 == 0).then(String::new)))
        .collect();
    let mut writer = Writer { store: store.as_ref(), next: 0 };
    let run = writer.events(&table, &all);
    let again = writer.run(&table, 1, RowSource::Runs(vec![run])).unwrap();
    let set = set(&table, vec![again]);
    let scan: Vec<_> = set.scan(EVENTS, None, None, Projection::ALL, 10_000).unwrap().map(Result::unwrap).collect();
    assert!(rows(&scan) == all);
    for n in [0, 65_999, 66_000, 66_001, 131_999, 132_000, 149_999] {
        let found = rows(&set.rows_of(EVENTS, &all[n].0, Projection::ALL).unwrap());
        assert!(found.contains(&all[n]), "row {n}");
    }
}

#[test]
fn a_projection_gives_its_columns_and_missing_ones_are_null() {
    for (store, ..) in engines() {
        let old = events_table(4, 8);
        let rows: Vec<Event> = (0..50).map(|n| (spread(1), n, 0, "page", None)).collect();
        let batch = events(&rows).project(&[0, 1, 2, 3]).unwrap();
        let source = RowSource::Rows(Rows::Columnar(vec![batch]));
        let meta = Writer { store: store.as_ref(), next: 0 }.run(&old, 0, source).unwrap().meta().clone();
        // The table got a column since.
        let table = events_table(5, 8);
        let set = set(&table, vec![store.open(STORE, &table, &meta).unwrap()]);
        let projection = Projection::of(&[4, 1]);
        let found = set.tail(EVENTS, &spread(1), None, 10, projection).unwrap();
        assert_eq!(found[0].schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["time", "body"]);
        assert_eq!(found[0].column(0).as_primitive::<Int64Type>().values(), &(40..50).collect::<Vec<i64>>()[..]);
        assert_eq!(found[0].column(1).null_count(), 10);
        let scan: Result<Vec<_>> = set.scan(EVENTS, None, None, projection, 7).unwrap().collect();
        assert_eq!(scan.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 50);
    }
}

#[test]
fn rows_out_of_order_are_refused() {
    for (store, ..) in engines() {
        let mut writer = Writer { store: store.as_ref(), next: 0 };
        let rows = [(spread(1), 5, 0, "page", None), (spread(1), 4, 0, "page", None)];
        let source = RowSource::Rows(Rows::Columnar(vec![events(&rows[..1]), events(&rows[1..])]));
        assert!(matches!(writer.run(&events_table(5, 8), 0, source), Err(Error::Refused(_))));
        let twice = vec![0; 2 * 77];
        assert!(matches!(writer.run(&seen_table(), 0, RowSource::Rows(Rows::Flat(twice))), Err(Error::Refused(_))));
        let part = vec![0; 78];
        assert!(matches!(writer.run(&seen_table(), 0, RowSource::Rows(Rows::Flat(part))), Err(Error::Refused(_))));
    }
}

#[test]
fn linked_files_outlive_the_run_and_are_adopted_elsewhere() {
    for (store, path, _dir) in engines() {
        let table = events_table(5, 8);
        let run = Writer { store: store.as_ref(), next: 0 }.events(&table, &[(spread(1), 5, 0, "page", None)]);
        let into = path.join("sent");
        store.disk().create_dir(&into).unwrap();
        let files = store.link(STORE, &table, run.meta(), &into).unwrap();
        assert_eq!(store.disk().list(&into).unwrap(), [files[1].name.clone(), files[0].name.clone()]);
        store.remove(STORE, &table, RunId(1)).unwrap();
        assert_eq!(store.list().unwrap(), [(STORE, vec![])]);
        let held = set(&table, vec![Arc::clone(&run)]);
        assert_eq!(held.rows_of(EVENTS, &spread(1), Projection::ALL).unwrap().len(), 1, "a reader goes on");
        let adopted = store.adopt(&into, &table, run.meta(), StoreId(9), RunId(44)).unwrap();
        assert_eq!((adopted.run, &adopted.xxh3), (44, &run.meta().xxh3));
        let moved = store.open(StoreId(9), &table, &adopted).unwrap();
        assert_eq!(set(&table, vec![moved]).rows_of(EVENTS, &spread(1), Projection::ALL).unwrap().len(), 1);
    }
}

fn damaged(store: &dyn RunStore, disk: &dyn Fn(&Path, u64), run: &Run, table: &Arc<Table>) {
    for offset in (0..run.meta().bytes).step_by(37) {
        disk(run.path(), offset);
        assert!(run.scrub().is_err_and(|error| error.is_corrupt()), "offset {offset}");
        let set = set(table, vec![store.open(STORE, table, run.meta()).unwrap()]);
        let rows: Vec<_> = set.scan(table.id(), None, None, Projection::ALL, 100).unwrap().collect();
        // Damage outside of the pages (footer, page index) is none of a scan's business.
        assert!(rows.iter().all(|batch| batch.as_ref().map_or_else(Error::is_corrupt, |_| true)), "offset {offset}");
        disk(run.path(), offset);
    }
}

#[test]
fn every_flipped_byte_is_found_and_never_read() {
    let memory = MemoryRuns::new(RunOptions { cache_bytes: 0, ..RunOptions::default() }).unwrap();
    let table = events_table(5, 64);
    let rows: Vec<Event> = (0..300).map(|n| (spread(1), n, 0, "page", Some(format!("body {n}")))).collect();
    let run = Writer { store: memory.as_ref(), next: 0 }.events(&table, &rows);
    damaged(memory.as_ref(), &|path, offset| memory.medium().flip(path, offset).unwrap(), &run, &table);
    let index = run.path().with_extension("index");
    for offset in (0..run.meta().index_bytes).step_by(11) {
        memory.medium().flip(&index, offset).unwrap();
        assert!(memory.open(STORE, &table, run.meta()).is_err_and(|error| error.is_corrupt()), "offset {offset}");
        memory.medium().flip(&index, offset).unwrap();
    }
}

#[test]
fn a_written_run_survives_a_power_cut() {
    let memory = MemoryRuns::new(RunOptions::default()).unwrap();
    let table = events_table(5, 8);
    let run = Writer { store: memory.as_ref(), next: 0 }.events(&table, &[(spread(1), 5, 0, "page", None)]);
    let found = Runs::on(memory.medium().after_power_cut(), Path::new("/runs"), RunOptions::default()).unwrap();
    assert!(found.open(STORE, &table, run.meta()).unwrap().scrub().is_ok());
}

#[test]
fn tables_that_make_no_sense_are_refused() {
    let flat = |key_len, value_len| TableSpec { id: SEEN, name: "seen", kind: TableKind::Flat { key_len, value_len } };
    let columnar = |schema, key_columns, page_rows| TableSpec {
        id: EVENTS,
        name: "events",
        kind: TableKind::Columnar { schema, key_columns, combine: None, page_rows },
    };
    let list = Field::new_list("list", Field::new_list_field(DataType::Int64, true), true);
    let nested = Arc::new(Schema::new(vec![Field::new("point", DataType::FixedSizeBinary(16), false), list]));
    for spec in [
        flat(15, 8),
        flat(33, 8),
        flat(16, 4096),
        columnar(event_schema(5), 0, 8),
        columnar(event_schema(5), 6, 8),
        columnar(event_schema(5), 4, 8),
        columnar(event_schema(5), 3, 0),
        columnar(nested, 1, 8),
    ] {
        assert!(matches!(Table::new(spec), Err(Error::Refused(_))));
    }
}

#[test]
fn the_real_disk_keeps_the_rules_of_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    for (disk, root) in [(Arc::new(RealDisk) as Arc<dyn Disk>, dir.path()), (Arc::new(MemoryDisk::new()), Path::new("/"))] {
        let deep = root.join("a/b");
        disk.create_dir(&deep).unwrap();
        disk.create_dir(&deep).unwrap();
        let (one, two) = (deep.join("one"), deep.join("two"));
        disk::write_all(disk.as_ref(), &one, b"contents").unwrap();
        assert!(disk.create(&one).is_err(), "a file is written once");
        disk.link(&one, &two).unwrap();
        assert!(disk.link(&one, &two).is_err());
        disk.remove(&one).unwrap();
        disk.remove(&one).unwrap();
        assert!(disk.open(&one).is_err());
        assert_eq!(disk::read_all(disk.as_ref(), &two, 8).unwrap(), b"contents");
        assert!(disk::read_all(disk.as_ref(), &two, 7).unwrap_err().is_corrupt());
        assert!(disk.open(&two).unwrap().read_at(&mut [0; 4], 6).is_err());
        disk.rename(&two, &one).unwrap();
        disk.sync_dir(&deep).unwrap();
        assert_eq!(disk.list(&deep).unwrap(), ["one"]);
        disk.remove_dir(&deep).unwrap();
        disk.remove_dir(&deep).unwrap();
        assert!(disk.list(&deep).unwrap().is_empty());
    }
}
