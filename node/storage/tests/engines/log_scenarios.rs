//! The same scenarios on every engine of the Raft log.

use std::sync::atomic::{AtomicBool, Ordering};

use isthmus_storage::Error;
use isthmus_storage::log::{EntryId, GroupWrite, Log, MemoryLog};

use crate::log_model::{Model, all_entries, append, entry, hard_state, open};

/// Runs a scenario on each engine.
fn on_each(scenario: impl Fn(&dyn Log)) {
    scenario(&MemoryLog::new());
    let dir = tempfile::tempdir().unwrap();
    scenario(&open(dir.path()));
}

#[test]
fn what_was_written_is_read() {
    on_each(|log| {
        let mut model = Model::default();
        let mut first = append(7, 1, 1, 3);
        first.hard_state = Some(hard_state(1, 5, 2));
        let second = GroupWrite { group: 9, hard_state: Some(hard_state(4, 0, 0)), ..GroupWrite::default() };
        for writes in [vec![first, second], vec![append(7, 4, 2, 2), append(9, 1, 5, 1)], Vec::new()] {
            log.write(&writes).unwrap();
            model.write(&writes);
            model.assert_equals(log);
        }
        assert_eq!(log.state(8).unwrap(), None);
        assert!(log.bytes() > 0);
    });
}

#[test]
fn a_later_write_replaces_the_suffix() {
    on_each(|log| {
        let mut model = Model::default();
        for write in [append(1, 1, 1, 10), append(1, 6, 2, 2), append(1, 1, 3, 1)] {
            model.write(std::slice::from_ref(&write));
            log.write(&[write]).unwrap();
            model.assert_equals(log);
        }
    });
}

#[test]
fn a_group_may_be_named_twice_in_a_write() {
    on_each(|log| {
        let writes = [append(1, 1, 1, 5), append(1, 3, 2, 1)];
        log.write(&writes).unwrap();
        let mut model = Model::default();
        model.write(&writes);
        model.assert_equals(log);
    });
}

#[test]
fn a_reset_forgets_all_entries_and_keeps_the_hard_state() {
    on_each(|log| {
        let mut model = Model::default();
        let mut first = append(1, 1, 1, 10);
        first.hard_state = Some(hard_state(1, 2, 3));
        // Far ahead of the log, into the middle of it, and behind it; with entries in the same write.
        let resets = [(100, 4), (50, 5), (51, 6)].map(|(index, term)| GroupWrite {
            reset: Some(EntryId { index, term }),
            ..append(1, index + 1, term, 2)
        });
        let empty = GroupWrite {
            group: 1,
            reset: Some(EntryId { index: 60, term: 9 }),
            hard_state: Some(hard_state(9, 0, 60)),
            ..GroupWrite::default()
        };
        let fresh = GroupWrite { group: 2, reset: Some(EntryId { index: 5, term: 5 }), ..append(2, 6, 5, 1) };
        for write in [vec![first], resets.to_vec(), vec![empty, fresh], vec![append(1, 61, 9, 1)]] {
            log.write(&write).unwrap();
            model.write(&write);
            model.assert_equals(log);
        }
    });
}

#[test]
fn a_hole_is_refused_and_nothing_of_the_write_is_done() {
    on_each(|log| {
        log.write(&[append(1, 1, 1, 2)]).unwrap();
        let refused = [append(1, 4, 1, 1), append(1, 0, 1, 1), append(3, 2, 1, 1)];
        for write in refused {
            let error = log.write(&[append(2, 1, 1, 1), write]).unwrap_err();
            assert!(matches!(error, Error::Refused(_)), "{error}");
            assert_eq!(log.groups(), [1]);
        }
        log.compact(1, EntryId { index: 2, term: 1 }).unwrap();
        assert!(matches!(log.write(&[append(1, 2, 1, 1)]), Err(Error::Refused(_))));
        log.write(&[append(1, 3, 1, 1)]).unwrap();
    });
}

#[test]
fn compaction_drops_a_prefix_for_good() {
    on_each(|log| {
        let mut model = Model::default();
        let writes = [append(1, 1, 1, 10), append(2, 1, 1, 2)];
        log.write(&writes).unwrap();
        model.write(&writes);
        for index in [4, 3, 9, 10] {
            log.compact(1, EntryId { index, term: 1 }).unwrap();
            model.compact(1, EntryId { index, term: 1 });
            model.assert_equals(log);
        }
        assert!(matches!(log.entries(1, 10, 11, 1), Err(Error::Compacted { index: 10, base: 10, .. })));
        assert!(matches!(log.term(1, 9), Err(Error::Compacted { .. })));
        assert_eq!(log.term(1, 10).unwrap(), 1);
        assert!(matches!(log.compact(1, EntryId { index: 11, term: 1 }), Err(Error::Refused(_))));
        assert!(matches!(log.compact(2, EntryId { index: 1, term: 3 }), Err(Error::Refused(_))));
    });
}

#[test]
fn a_read_is_bounded_but_gives_at_least_one_entry() {
    on_each(|log| {
        let entries: Vec<_> = (1..=5).map(|index| entry(index, 1, &[7; 1000])).collect();
        log.write(&[GroupWrite { group: 1, entries: entries.clone(), ..GroupWrite::default() }]).unwrap();
        assert_eq!(log.entries(1, 2, 6, 0).unwrap(), entries[1..2]);
        assert_eq!(log.entries(1, 2, 6, 2500).unwrap(), entries[1..3]);
        assert_eq!(log.entries(1, 2, 4, u64::MAX).unwrap(), entries[1..3]);
        assert_eq!(log.entries(1, 6, 6, u64::MAX).unwrap(), []);
        assert!(matches!(log.entries(1, 2, 7, 0), Err(Error::NotFound(_))));
        assert!(matches!(log.entries(1, 0, 3, 0), Err(Error::Compacted { .. })));
        assert!(matches!(log.entries(2, 1, 2, 0), Err(Error::NotFound(_))));
    });
}

#[test]
fn a_removed_group_is_gone_and_can_come_back_empty() {
    on_each(|log| {
        log.write(&[append(1, 1, 1, 3), append(2, 1, 1, 3)]).unwrap();
        log.remove(1).unwrap();
        log.remove(1).unwrap();
        assert_eq!((log.groups(), log.state(1).unwrap()), (vec![2], None));
        log.write(&[append(1, 1, 9, 1)]).unwrap();
        assert_eq!(all_entries(log, 1), append(1, 1, 9, 1).entries);
    });
}

#[test]
fn two_logs_in_one_process_do_not_read_each_others_entries() {
    // Same group, same positions and lengths in equally named files, other content.
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let logs = [open(dirs[0].path()), open(dirs[1].path())];
    let entries = [entry(1, 1, b"of the first"), entry(1, 1, b"of the other")];
    for (log, entry) in logs.iter().zip(&entries) {
        log.write(&[GroupWrite { group: 1, entries: vec![entry.clone()], ..GroupWrite::default() }]).unwrap();
    }
    for (log, entry) in logs.iter().zip(&entries) {
        assert_eq!(all_entries(log, 1), std::slice::from_ref(entry));
    }
}

#[test]
fn a_purge_gives_space_back_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    {
        let log = open(dir.path());
        let idle = append(9, 1, 1, 3);
        log.write(std::slice::from_ref(&idle)).unwrap();
        model.write(&[idle]);
        for round in 0..40 {
            let write = append(1, round * 5 + 1, 1, 5);
            log.write(std::slice::from_ref(&write)).unwrap();
            model.write(&[write]);
        }
        let before = log.bytes();
        log.compact(1, EntryId { index: 195, term: 1 }).unwrap();
        model.compact(1, EntryId { index: 195, term: 1 });
        log.purge().unwrap();
        assert!(log.bytes() < before / 2, "{} of {before}", log.bytes());
        model.assert_equals(&log);
    }
    model.assert_equals(&open(dir.path()));
}

/// Writes and compacts so much of group 2 that a purge copies what is alive of the other groups and deletes files.
fn purge_by_filling(log: &dyn Log) {
    let last = log.state(2).unwrap().map_or(0, |state| state.last.index);
    for round in 0..30 {
        log.write(&[append(2, last + round * 5 + 1, 1, 5)]).unwrap();
    }
    log.compact(2, EntryId { index: last + 150, term: 1 }).unwrap();
    log.purge().unwrap();
}

#[test]
fn reads_go_on_while_purges_move_and_delete_what_they_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let expected = append(9, 1, 1, 25).entries;
    log.write(&[append(9, 1, 1, 1)]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..30 {
                // One record for each entry, to be read one by one.
                for index in 1..=25 {
                    log.write(&[append(9, index, 1, 1)]).unwrap();
                }
                purge_by_filling(&log);
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            match log.state(9).and_then(|state| log.entries(9, 1, state.unwrap().last.index + 1, u64::MAX)) {
                Ok(entries) => assert_eq!(entries, expected[..entries.len()]),
                // The writer has begun again meanwhile.
                Err(error) => assert!(matches!(error, Error::NotFound(_)), "{error}"),
            }
        }
    });
}

/// Restarts, compares, writes the next entry of group 1, restarts and compares again.
fn assert_goes_on(dir: &std::path::Path, base: EntryId) {
    let log = open(dir);
    let state = log.state(1).unwrap().unwrap();
    assert_eq!((state.base, state.last), (base, base));
    let next = append(1, base.index + 1, base.term, 1);
    log.write(std::slice::from_ref(&next)).unwrap();
    drop(log);
    assert_eq!(all_entries(&open(dir), 1), next.entries);
}

#[test]
fn a_replaced_suffix_that_a_purge_has_copied_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.write(&[append(1, 1, 1, 5)]).unwrap();
    purge_by_filling(&log);
    let base = EntryId { index: 3, term: 2 };
    log.write(&[append(1, 3, 2, 1)]).unwrap();
    log.compact(1, base).unwrap();
    drop(log);
    assert_goes_on(dir.path(), base);
}

#[test]
fn compacted_entries_that_a_purge_has_copied_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.write(&[append(1, 1, 1, 5)]).unwrap();
    purge_by_filling(&log);
    let base = EntryId { index: 10, term: 1 };
    log.write(&[append(1, 6, 1, 5)]).unwrap();
    log.compact(1, base).unwrap();
    purge_by_filling(&log);
    drop(log);
    assert_goes_on(dir.path(), base);
}
