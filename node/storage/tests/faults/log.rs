//! Failing writes and syncs of the Raft log, and power cuts with and without the sync.

use std::sync::Arc;

use fail::FailScenario;
use isthmus_storage::Error;
use isthmus_storage::log::{EngineLog, EngineLogOptions, EntryId, GroupWrite, Log, MemoryLog};
use raft::eraftpb::Entry;

use crate::power::PowerCutFiles;

const SMALL: EngineLogOptions = EngineLogOptions { file_bytes: 2048, purge_bytes: 4096 };

fn append(first: u64, count: u64) -> Vec<GroupWrite> {
    let entries = (first..first + count).map(|index| Entry {
        index,
        term: 1,
        data: vec![index as u8; 100].into(),
        ..Entry::default()
    });
    vec![GroupWrite { group: 1, entries: entries.collect(), ..GroupWrite::default() }]
}

/// The last index of the log in a directory.
fn last_in(dir: &std::path::Path) -> u64 {
    let log = EngineLog::open(dir, SMALL).unwrap();
    log.state(1).unwrap().map_or(0, |state| state.last.index)
}

fn is_fatal<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    result.is_err_and(|error| error.is_fatal())
}

#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(PowerCutFiles::default());
    let log = EngineLog::open_on(dir.path(), SMALL, files.clone()).unwrap();
    for round in 0..30 {
        log.write(&append(round * 3 + 1, 3)).unwrap();
        if round % 7 == 6 {
            log.compact(1, EntryId { index: round * 3, term: 1 }).unwrap();
            log.purge().unwrap();
        }
        assert_eq!(last_in(files.after_power_cut().path()), round * 3 + 3, "round {round}");
    }
    log.remove(1).unwrap();
    assert_eq!(last_in(files.after_power_cut().path()), 0);
}

#[test]
fn without_the_sync_a_power_cut_loses_what_was_acknowledged() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(PowerCutFiles::default());
    let on_disk = EngineLog::open_on(dir.path(), SMALL, files.clone()).unwrap();
    let in_memory = MemoryLog::new();
    for log in [&on_disk as &dyn Log, &in_memory] {
        log.write(&append(1, 3)).unwrap();
    }
    fail::cfg("storage::log::sync", "return").unwrap();
    for log in [&on_disk as &dyn Log, &in_memory] {
        log.write(&append(4, 3)).unwrap();
        assert_eq!(log.state(1).unwrap().unwrap().last.index, 6);
    }
    assert_eq!(last_in(files.after_power_cut().path()), 3);
    in_memory.crash();
    assert_eq!(in_memory.state(1).unwrap().unwrap().last.index, 3);

    // The next sync covers what was left out.
    fail::remove("storage::log::sync");
    on_disk.write(&append(7, 1)).unwrap();
    assert_eq!(last_in(files.after_power_cut().path()), 7);
    scenario.teardown();
}

#[test]
fn after_a_failed_write_the_log_takes_nothing_more() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    {
        let on_disk = EngineLog::open(dir.path(), SMALL).unwrap();
        let in_memory = MemoryLog::new();
        for log in [&on_disk as &dyn Log, &in_memory] {
            log.write(&append(1, 3)).unwrap();
            fail::cfg("storage::log::write", "return").unwrap();
            assert!(is_fatal(log.write(&append(4, 1))));
            fail::remove("storage::log::write");
            assert!(is_fatal(log.write(&append(4, 1))));
            assert!(is_fatal(log.compact(1, EntryId { index: 2, term: 1 })));
            assert!(is_fatal(log.remove(1)));
            assert_eq!(log.state(1).unwrap().unwrap().last.index, 3);
        }
    }
    assert_eq!(last_in(dir.path()), 3);
    scenario.teardown();
}

#[test]
fn a_failed_sync_is_fatal_and_not_tried_again() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(PowerCutFiles::default());
    let log = EngineLog::open_on(dir.path(), SMALL, files.clone()).unwrap();
    log.write(&append(1, 3)).unwrap();
    files.break_syncs(true);
    assert!(is_fatal(log.write(&append(4, 1))));
    files.break_syncs(false);
    assert!(is_fatal(log.write(&append(4, 1))));
    assert_eq!(log.state(1).unwrap().unwrap().last.index, 3);
    assert_eq!(last_in(files.after_power_cut().path()), 3);
}
