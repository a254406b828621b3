//! One promise at a time.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::super::disk::{Disk, MemoryDisk, RealDisk};
use super::super::*;
use super::*;
use crate::Error;

#[test]
fn a_run_is_plain_parquet_with_statistics_of_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileRuns::open(dir.path(), RunOptions::default()).unwrap();
    let table = events_table(5, 64);
    let mut all: Vec<Event> =
        (0..1000).map(|n| (spread(n % 50), n as i64, n, "track", Some(format!("b{n}")))).collect();
    all.sort();
    let run = Writer { store: store.as_ref(), next: 0 }.events(&table, &all);
    let file = std::fs::File::open(run.path()).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let group = reader.metadata().row_group(0).clone();
    assert!(group.column(0).statistics().is_some() && group.column(4).statistics().is_none());
    assert!(group.column(3).dictionary_page_offset().is_some());
    assert!(group.column(4).dictionary_page_offset().is_none());
    let batches: Vec<_> = reader.build().unwrap().map(|batch| batch.unwrap()).collect();
    assert_eq!(rows(&batches), all);
}

#[test]
fn several_row_groups_read_as_one() {
    let (store, table) = (MemoryRuns::new(RunOptions::default()).unwrap(), events_table(5, 1000));
    let all: Vec<Event> = (0..150_000_u64)
        .map(|n| {
            ((u128::from(n / 7) << 64).to_be_bytes(), n as i64, n, "page", (n % 3 == 0).then(String::new))
        })
        .collect();
    let mut writer = Writer { store: store.as_ref(), next: 0 };
    let run = writer.events(&table, &all);
    let again = writer.run(&table, 1, RowSource::Runs(vec![run])).unwrap();
    let set = set(&table, vec![again]);
    let scan: Vec<_> =
        set.scan(EVENTS, None, None, Projection::ALL, 10_000).unwrap().map(Result::unwrap).collect();
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
        assert_eq!(
            found[0].schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
            ["time", "body"]
        );
        assert_eq!(
            found[0].column(0).as_primitive::<Int64Type>().values(),
            &(40..50).collect::<Vec<i64>>()[..]
        );
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
        assert!(matches!(
            writer.run(&seen_table(), 0, RowSource::Rows(Rows::Flat(twice))),
            Err(Error::Refused(_))
        ));
        let part = vec![0; 78];
        assert!(matches!(
            writer.run(&seen_table(), 0, RowSource::Rows(Rows::Flat(part))),
            Err(Error::Refused(_))
        ));
    }
}

#[test]
fn linked_files_outlive_the_run_and_are_adopted_elsewhere() {
    for (store, path, _dir) in engines() {
        let table = events_table(5, 8);
        let run =
            Writer { store: store.as_ref(), next: 0 }.events(&table, &[(spread(1), 5, 0, "page", None)]);
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

fn scanned(store: &dyn RunStore, run: &Run, table: &Arc<Table>) -> Result<Vec<Event>> {
    let set = set(table, vec![store.open(STORE, table, run.meta())?]);
    let batches: Result<Vec<_>> = set.scan(table.id(), None, None, Projection::ALL, 100)?.collect();
    Ok(rows(&batches?))
}

#[test]
fn every_flipped_byte_is_found_and_never_read() {
    let memory = MemoryRuns::new(RunOptions { cache_bytes: 0, ..RunOptions::default() }).unwrap();
    let table = events_table(5, 64);
    let rows: Vec<Event> = (0..900).map(|n| (spread(1), n, 0, "page", Some(format!("body {n}")))).collect();
    let run = Writer { store: memory.as_ref(), next: 0 }.events(&table, &rows);
    for offset in (0..run.meta().bytes).step_by(37) {
        memory.medium().flip(run.path(), offset).unwrap();
        assert!(run.scrub().is_err_and(|error| error.is_corrupt()), "offset {offset}");
        match scanned(memory.as_ref(), &run, &table) {
            // Damage outside of the pages (footer, page index) is none of a scan's business.
            Ok(found) => assert!(found == rows, "offset {offset}"),
            Err(error) => assert!(error.is_corrupt(), "offset {offset}: {error}"),
        }
        memory.medium().flip(run.path(), offset).unwrap();
    }
    let index = run.path().with_extension("index");
    for offset in (0..run.meta().index_bytes).step_by(11) {
        memory.medium().flip(&index, offset).unwrap();
        assert!(
            memory.open(STORE, &table, run.meta()).is_err_and(|error| error.is_corrupt()),
            "offset {offset}"
        );
        memory.medium().flip(&index, offset).unwrap();
    }
}

#[test]
fn a_written_run_survives_a_power_cut() {
    let memory = MemoryRuns::new(RunOptions::default()).unwrap();
    let table = events_table(5, 8);
    let run = Writer { store: memory.as_ref(), next: 0 }.events(&table, &[(spread(1), 5, 0, "page", None)]);
    let found =
        Runs::on(memory.medium().after_power_cut(), Path::new("/runs"), RunOptions::default()).unwrap();
    assert!(found.open(STORE, &table, run.meta()).unwrap().scrub().is_ok());
}

#[test]
fn tables_that_make_no_sense_are_refused() {
    let flat = |key_len, value_len| TableSpec {
        id: SEEN,
        name: "seen",
        kind: TableKind::Flat { key_len, value_len },
    };
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
    for (disk, root) in
        [(Arc::new(RealDisk) as Arc<dyn Disk>, dir.path()), (Arc::new(MemoryDisk::new()), Path::new("/"))]
    {
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
