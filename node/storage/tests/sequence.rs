//! Tables that are logs: read on from a key over all runs, merged while runs are small, dropped by whole runs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use isthmus_storage::StoreId;
use isthmus_storage::control::{MemoryControl, SledControl, SledOptions};
use isthmus_storage::keeper::{Keeper, KeeperOptions, WriteOut};
use isthmus_storage::runs::disk::{Disk as _, RealDisk};
use isthmus_storage::runs::{
    FileRuns, MemoryRuns, PointKey, Rows, RunOptions, RunSet, TableId, TableKind, TableRows, TableSpec,
};

const LOG: TableId = TableId(4);
/// Bytes of a value: few rows a block, so that a run has many.
const VALUE_BYTES: usize = 500;

fn tables() -> Vec<TableSpec> {
    vec![TableSpec { id: LOG, name: "log", kind: TableKind::Sequence { value_len: VALUE_BYTES } }]
}

fn options() -> KeeperOptions {
    KeeperOptions { first_level_runs: 4, fan_out: 4 }
}

fn key(number: u64) -> PointKey {
    (u128::from(number) << 64).to_be_bytes()
}

fn write(keeper: &Keeper, numbers: std::ops::Range<u64>) -> StoreId {
    let meta = match keeper.group(1).unwrap() {
        Some(meta) => meta,
        None => keeper.create_group(1, 1, Bytes::new(), Bytes::new()).unwrap(),
    };
    let row = |number: u64| [&key(number)[..], &[number as u8; VALUE_BYTES]].concat();
    let tables = vec![TableRows { table: LOG, rows: Rows::Flat(numbers.flat_map(row).collect()) }];
    keeper.write_out(WriteOut { meta: meta.clone(), rows: Vec::new(), tables }).unwrap();
    meta.store_id()
}

/// The numbers behind one, read in steps.
fn read(set: &RunSet, after: u64, step: usize) -> Vec<u64> {
    let (mut found, mut last) = (Vec::new(), key(after));
    loop {
        let rows = set.sequence_after(LOG, &last, step).unwrap();
        assert!(rows.len() <= step);
        for row in &rows {
            last = row.key.as_ref().try_into().unwrap();
            let number = (u128::from_be_bytes(last) >> 64) as u64;
            assert_eq!(row.value, vec![number as u8; VALUE_BYTES]);
            found.push(number);
        }
        if rows.len() < step {
            return found;
        }
    }
}

#[test]
fn a_sequence_is_read_on_from_any_key_however_it_is_cut_and_merged() {
    let open = |control: &Arc<MemoryControl>, runs: &Arc<MemoryRuns>| {
        Keeper::open(Path::new("/keeper"), control.clone(), runs.clone(), tables(), options()).unwrap()
    };
    let (control, runs) = (Arc::<MemoryControl>::default(), MemoryRuns::new(RunOptions::default()).unwrap());
    let keeper = open(&control, &runs);
    let (mut end, mut store) = (1, StoreId(0));
    for number in 0..21 {
        let next = end + [1, 7, 8, 9, 40][number % 5];
        store = write(&keeper, end..next);
        end = next;
        while keeper.merge_once(store).unwrap().is_some() {}
    }
    let set = keeper.runs(store).unwrap();
    assert!(set.runs_of(LOG).len() <= 7, "small runs were merged: {:?}", set.runs_of(LOG));
    assert_eq!(set.rows(LOG), end - 1);
    assert!(!set.may_contain(LOG, &key(3)), "it has no filter, and nothing looks up in it");
    for after in [0, 1, 6, 7, 8, 100, end - 2, end - 1, end + 5] {
        for step in [1, 3, 1_000] {
            assert_eq!(read(&set, after, step), (after + 1..end).collect::<Vec<_>>(), "{after}, {step}");
        }
    }
    // As it is found after a restart.
    drop(keeper);
    let found = open(&control, &runs).runs(store).unwrap();
    assert_eq!(read(&found, 0, 5), (1..end).collect::<Vec<_>>());
}

#[test]
fn what_is_old_goes_by_whole_runs_and_stays_gone() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let control = SledControl::open(&dir.path().join("control"), SledOptions::default()).unwrap();
        let runs = FileRuns::open(&dir.path().join("runs"), RunOptions::default()).unwrap();
        Keeper::open(&dir.path().join("redo"), Arc::new(control), runs, tables(), options()).unwrap()
    };
    let files =
        |store: StoreId| RealDisk.list(&dir.path().join(format!("runs/{:08x}", store.0))).unwrap().len();
    let keeper = open();
    let mut store = StoreId(0);
    for start in [1, 10, 20] {
        store = write(&keeper, start..start + 9);
    }
    assert!(keeper.drop_below(store, LOG, &key(9)).unwrap().is_none(), "9 is not below 9");
    let reader = keeper.runs(store).unwrap();
    let left = keeper.drop_below(store, LOG, &key(25)).unwrap().unwrap();
    assert_eq!(read(&left, 0, 4), (20..29).collect::<Vec<_>>(), "a run goes when all of it is old");
    assert_eq!(read(&reader, 0, 4).len(), 27, "who reads goes on reading");
    assert_eq!(files(store), 6);
    drop(reader);
    keeper.collect_garbage().unwrap();
    assert_eq!(files(store), 2);
    assert!(keeper.drop_below(store, LOG, &key(25)).unwrap().is_none());
    drop((left, keeper));
    assert_eq!(read(&open().runs(store).unwrap(), 0, 4), (20..29).collect::<Vec<_>>());
}
