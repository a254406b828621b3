//! Crashes at every step of the keeper, and what each guard is for: with the guard switched off, the damage shows.
//!
//! Fail points belong to the whole process, so all tests here run one after the other, under a `FailScenario`.

#![allow(clippy::unwrap_used, reason = "in tests a failure is a panic")]

#[path = "../keeper_fixture/mod.rs"]
mod keeper_fixture;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use fail::FailScenario;
use isthmus_storage::control::{KeyRange, Order};
use isthmus_storage::keeper::{Keeper, STEPS};
use isthmus_storage::{Error, Result, StoreId};
use keeper_fixture::{Change, Crash, Machine, State, observe, write_out};

const CRASHES: [Crash; 5] = [
    Crash::Process,
    Crash::Power { survivors: 0 },
    Crash::Power { survivors: 1 },
    Crash::Power { survivors: 2 },
    Crash::Power { survivors: usize::MAX },
];

/// Every machine with every crash that can be made on it.
fn machines() -> Vec<(Machine, Crash)> {
    let memory = CRASHES.iter().map(|crash| (Machine::memory(), *crash));
    memory.chain([(Machine::files(), Crash::Process)]).collect()
}

fn steps(part: &str) -> Vec<&'static str> {
    let found: Vec<_> = STEPS.into_iter().filter(|step| step.contains(part)).collect();
    assert!(!found.is_empty());
    found
}

fn crash_at<T>(step: &str, run: impl FnOnce() -> Result<T>) {
    crash_later(step, 0, run);
}

/// Crashes when the step is passed for the time after `passed`.
fn crash_later<T>(step: &str, passed: usize, run: impl FnOnce() -> Result<T>) {
    fail::cfg(step, &format!("{passed}*off->panic")).unwrap();
    let result = catch_unwind(AssertUnwindSafe(run));
    fail::remove(step);
    assert!(result.is_err(), "{step} was not passed");
}

/// A keeper with a group that had some write-outs, and the model of it.
fn prepared(machine: &Machine, write_outs: u64) -> (Keeper, StoreId, State) {
    let keeper = machine.open().unwrap();
    let store = keeper.create_group(1, 1, Bytes::new(), Bytes::new()).unwrap().store_id();
    let mut state = State::default();
    for number in 0..write_outs {
        write_out(&keeper, 1, &Change::numbered(number)).unwrap();
        state.apply(&Change::numbered(number));
    }
    (keeper, store, state)
}

/// Stores that no group has hold no rows.
fn no_dead_rows(keeper: &Keeper, what: &str) {
    let live: Vec<u32> = keeper.groups().unwrap().iter().map(|meta| meta.store).collect();
    for store in (1..9).filter(|store| !live.contains(store)) {
        let page = keeper.scan(StoreId(store), &KeyRange::all(), Order::Ascending, 1).unwrap();
        assert!(page.rows.is_empty(), "{what}: rows of store {store}");
    }
}

fn files(machine: &Machine) -> usize {
    machine.runs().list().unwrap().iter().map(|(_, names)| names.len()).sum()
}

#[test]
fn a_crash_at_any_step_of_a_write_out_leaves_all_of_it_or_nothing() {
    let _scenario = FailScenario::setup();
    let all = STEPS.into_iter().filter(|step| step.contains("write_out") || step.contains("redo"));
    for step in all {
        for (machine, crash) in machines() {
            let (keeper, _, before) = prepared(&machine, 2);
            let mut after = before.clone();
            after.apply(&Change::numbered(7));
            crash_at(step, || write_out(&keeper, 1, &Change::numbered(7)));
            let machine = machine.after(crash, keeper);
            let keeper = machine.open().unwrap();
            let found = observe(&keeper, 1).unwrap().unwrap();
            let what = format!("{step}, {crash:?}");
            if step.ends_with("::durable") || step.ends_with("redo_synced") || step.ends_with("redo_removed")
            {
                assert_eq!(found, after, "{what}: it was durable");
            }
            if found != after {
                assert_eq!(found, before, "{what}");
                write_out(&keeper, 1, &Change::numbered(7)).unwrap();
                assert_eq!(observe(&keeper, 1).unwrap().unwrap(), after, "{what}: replayed");
            }
            assert_eq!(
                files(&machine),
                3 * 3 * 2,
                "{what}: three runs of two files for each of three write-outs"
            );
            // And it goes on.
            write_out(&keeper, 1, &Change::numbered(8)).unwrap();
            after.apply(&Change::numbered(8));
            let machine = machine.after(crash, keeper);
            assert_eq!(observe(&machine.open().unwrap(), 1).unwrap().unwrap(), after, "{what}");
        }
    }
}

#[test]
fn without_the_redo_file_a_crash_between_batches_shows() {
    let _scenario = FailScenario::setup();
    fail::cfg("storage::redo::skip", "return").unwrap();
    for machine in [Machine::memory(), Machine::files()] {
        let (keeper, _, before) = prepared(&machine, 2);
        // Large enough that sled writes the first batch to its file while the second is applied.
        let mut change = Change::numbered(7);
        change.control.iter_mut().for_each(|(_, value)| *value = Some(vec![7; 30_000]));
        let mut after = before.clone();
        after.apply(&change);
        let step = "storage::keeper::write_out::batch_applied";
        crash_later(step, 1, || write_out(&keeper, 1, &change));
        let machine = machine.after(Crash::Process, keeper);
        let found = observe(&machine.open().unwrap(), 1).unwrap().unwrap();
        assert!(found != before && found != after, "half of a write-out is there");
        assert_ne!(found.control, before.control);
        assert_eq!(found.applied_index, before.applied_index);
    }
}

#[test]
fn a_redo_file_that_comes_back_is_not_applied_again() {
    let _scenario = FailScenario::setup();
    let machine = Machine::memory();
    let (keeper, store, state) = prepared(&machine, 4);
    // The last redo file's removal was never synced: the power cut brings it back. Its runs are merged away.
    while keeper.merge_once(store).unwrap().is_some() {}
    let machine = machine.after(Crash::Power { survivors: 0 }, keeper);
    let redo = |machine: &Machine| machine.runs().disk().list(&machine.path("redo")).unwrap().len();
    assert_eq!(redo(&machine), 1, "the test is about a file that came back");
    let keeper = machine.open().unwrap();
    assert_eq!(observe(&keeper, 1).unwrap().unwrap(), state);
    assert_eq!(redo(&machine), 0);
}

#[test]
fn a_crash_at_any_step_of_a_merge_changes_nothing_that_is_read() {
    let _scenario = FailScenario::setup();
    for step in steps("keeper::merge") {
        for (machine, crash) in machines() {
            let (keeper, store, state) = prepared(&machine, 4);
            assert!(keeper.wants_merge(store));
            crash_at(step, || keeper.merge_once(store));
            let machine = machine.after(crash, keeper);
            let keeper = machine.open().unwrap();
            assert_eq!(observe(&keeper, 1).unwrap().unwrap(), state, "{step}, {crash:?}");
            let runs = keeper.runs(store).unwrap().all().count();
            assert_eq!(files(&machine), runs * 2, "{step}, {crash:?}: nothing is left over");
            while keeper.merge_once(store).unwrap().is_some() {}
            assert_eq!(keeper.runs(store).unwrap().all().count(), 3, "one run a table");
            assert_eq!(observe(&keeper, 1).unwrap().unwrap(), state, "{step}, {crash:?}");
            assert_eq!(files(&machine), 6);
        }
    }
}

#[test]
fn a_crash_during_an_export_harms_nothing() {
    let _scenario = FailScenario::setup();
    for step in steps("keeper::export") {
        for (machine, crash) in machines() {
            let (keeper, _, state) = prepared(&machine, 3);
            crash_at(step, || keeper.export(1, &machine.path("export")));
            let machine = machine.after(crash, keeper);
            let keeper = machine.open().unwrap();
            assert_eq!(observe(&keeper, 1).unwrap().unwrap(), state, "{step}, {crash:?}");
            let exported = keeper.export(1, &machine.path("another")).unwrap();
            assert_eq!(exported.control_rows, state.control.len() as u64);
        }
    }
}

#[test]
fn a_crash_at_any_step_of_an_installation_leaves_the_old_state_or_the_new() {
    let _scenario = FailScenario::setup();
    for step in steps("keeper::install") {
        for (machine, crash) in machines() {
            let (keeper, _, new) = prepared(&machine, 5);
            let exported = keeper.export(1, &machine.path("export")).unwrap();
            // The group goes on, so that old and new differ; whichever is installed replaces it as a whole.
            write_out(&keeper, 1, &Change::numbered(20)).unwrap();
            let mut old = new.clone();
            old.apply(&Change::numbered(20));
            crash_at(step, || keeper.install(1, 2, &machine.path("export"), &exported));
            let machine = machine.after(crash, keeper);
            let keeper = machine.open().unwrap();
            let found = observe(&keeper, 1).unwrap().unwrap();
            let flipped = step.ends_with("flipped");
            assert_eq!(found, if flipped { new.clone() } else { old }, "{step}, {crash:?}");
            let runs = keeper.runs(keeper.group(1).unwrap().unwrap().store_id()).unwrap().all().count();
            assert_eq!(files(&machine), runs * 2, "{step}, {crash:?}: the other store is dropped");
            no_dead_rows(&keeper, &format!("{step}, {crash:?}"));
            keeper.install(1, 3, &machine.path("export"), &exported).unwrap();
            while keeper.collect_garbage().unwrap() {}
            assert_eq!(observe(&keeper, 1).unwrap().unwrap(), new, "{step}, {crash:?}: installed again");
        }
    }
}

#[test]
fn a_full_disk_refuses_the_write_out_and_nothing_else() {
    let _scenario = FailScenario::setup();
    for machine in [Machine::memory(), Machine::files()] {
        let (keeper, store, mut state) = prepared(&machine, 4);
        // The tenth write is in the redo file or in a run, as sizes have it; each is tried.
        for writes in 0..12 {
            fail::cfg("storage::disk::write", &format!("{writes}*off->return")).unwrap();
            let refused = write_out(&keeper, 1, &Change::numbered(7));
            fail::remove("storage::disk::write");
            match refused {
                Ok(()) => state.apply(&Change::numbered(7)),
                Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::StorageFull),
                Err(other) => panic!("write {writes}: {other}"),
            }
            assert_eq!(observe(&keeper, 1).unwrap().unwrap(), state, "reads are served");
        }
        fail::cfg("storage::disk::write", "return").unwrap();
        assert!(matches!(keeper.merge_once(store), Err(Error::Io { .. })));
        fail::remove("storage::disk::write");
        write_out(&keeper, 1, &Change::numbered(8)).unwrap();
        state.apply(&Change::numbered(8));
        let runs = keeper.runs(store).unwrap().all().count();
        assert_eq!(files(&machine), runs * 2, "parts of runs are removed");
        let machine = machine.after(Crash::Process, keeper);
        assert_eq!(observe(&machine.open().unwrap(), 1).unwrap().unwrap(), state);
    }
}

#[test]
fn a_failed_sync_of_a_run_changes_nothing() {
    let _scenario = FailScenario::setup();
    let machine = Machine::memory();
    let (keeper, _, state) = prepared(&machine, 2);
    for syncs in 0..7 {
        fail::cfg("storage::disk::sync", &format!("{syncs}*off->return")).unwrap();
        assert!(matches!(write_out(&keeper, 1, &Change::numbered(7)), Err(Error::Io { .. })), "sync {syncs}");
        fail::remove("storage::disk::sync");
        assert_eq!(observe(&keeper, 1).unwrap().unwrap(), state);
    }
    let machine = machine.after(Crash::Power { survivors: usize::MAX }, keeper);
    assert_eq!(observe(&machine.open().unwrap(), 1).unwrap().unwrap(), state);
}

#[test]
fn after_a_change_that_was_not_ended_the_keeper_refuses_all_others() {
    let _scenario = FailScenario::setup();
    let machine = Machine::memory();
    let (keeper, store, _) = prepared(&machine, 4);
    crash_at("storage::keeper::write_out::batch_applied", || write_out(&keeper, 1, &Change::numbered(7)));
    for refused in [
        write_out(&keeper, 1, &Change::numbered(7)),
        keeper.merge_once(store).map(|_| ()),
        keeper.remove_group(1),
        keeper.create_group(2, 1, Bytes::new(), Bytes::new()).map(|_| ()),
        keeper.collect_garbage().map(|_| ()),
    ] {
        assert!(refused.unwrap_err().is_fatal());
    }
}

#[test]
fn a_step_that_is_not_listed_can_not_be_missed() {
    let mut named: Vec<String> = Vec::new();
    for source in [
        include_str!("../../src/redo.rs"),
        include_str!("../../src/keeper/write_out.rs"),
        include_str!("../../src/keeper/merge.rs"),
        include_str!("../../src/keeper/snapshot.rs"),
    ] {
        let points = source.split("fail_point!(\"").skip(1);
        named.extend(points.map(|point| point.split('"').next().unwrap().to_string()));
    }
    named.retain(|point| point != "storage::redo::skip");
    named.sort();
    let mut listed = STEPS.map(String::from).to_vec();
    listed.sort();
    assert_eq!(named, listed);
}
