//! Random sequences of write-outs, merges, exports, installations and restarts against a plain model.

#![allow(clippy::unwrap_used, reason = "in tests a failure is a panic")]

mod keeper_fixture;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use isthmus_storage::keeper::Keeper;
use isthmus_storage::runs::RunStore;
use isthmus_storage::{Error, StoreId};
use keeper_fixture::{Change, Crash, Machine, State, observe, spread, write_out};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Create {
        group: u64,
    },
    Remove {
        group: u64,
    },
    WriteOut {
        group: u64,
        change: Change,
    },
    Merge {
        group: u64,
    },
    /// Export and install into the same node, as a snapshot of oneself.
    Reinstall {
        group: u64,
    },
    Garbage,
    Crash(Crash),
}

fn change() -> impl Strategy<Value = Change> {
    let key = (0..4_u8, 0..40_u8).prop_map(|(table, rest)| vec![table, rest]);
    let control =
        prop::collection::vec((key, prop::option::of(prop::collection::vec(any::<u8>(), 0..20))), 0..100);
    let events = prop::collection::vec((0..10_u64, -9..9_i64, any::<u64>()), 0..60);
    let sums = prop::collection::vec((0..30_u64, -99..99_i64), 0..20);
    let seen = prop::collection::btree_map(0..200_u64, any::<u64>(), 0..40);
    (control, events, sums, seen).prop_map(|(control, events, sums, seen)| Change {
        control,
        events: events.into_iter().map(|(point, time, number)| (spread(point), time, number)).collect(),
        sums: sums.into_iter().map(|(point, value)| (spread(point), value)).collect(),
        seen: seen
            .into_iter()
            .map(|(key, value)| (spread(key).to_vec(), value.to_be_bytes().to_vec()))
            .collect(),
    })
}

fn step() -> impl Strategy<Value = Step> {
    let group = || 1..4_u64;
    prop_oneof![
        1 => group().prop_map(|group| Step::Create { group }),
        1 => group().prop_map(|group| Step::Remove { group }),
        12 => (group(), change()).prop_map(|(group, change)| Step::WriteOut { group, change }),
        5 => group().prop_map(|group| Step::Merge { group }),
        1 => group().prop_map(|group| Step::Reinstall { group }),
        2 => Just(Step::Garbage),
        1 => Just(Step::Crash(Crash::Process)),
        2 => (0..3_usize).prop_map(|survivors| Step::Crash(Crash::Power { survivors })),
    ]
}

fn check(keeper: &Keeper, model: &BTreeMap<u64, State>) {
    let groups: Vec<u64> = keeper.groups().unwrap().iter().map(|meta| meta.group).collect();
    assert_eq!(groups, model.keys().copied().collect::<Vec<_>>());
    for (group, expected) in model {
        assert_eq!(observe(keeper, *group).unwrap().as_ref(), Some(expected), "group {group}");
    }
}

fn run(mut machine: Machine, steps: Vec<Step>) {
    let mut keeper = machine.open().unwrap();
    let mut model: BTreeMap<u64, State> = BTreeMap::new();
    let mut stores: BTreeSet<StoreId> = BTreeSet::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Create { group } => {
                let made = keeper.create_group(group, number as u64, Bytes::new(), Bytes::new());
                assert_eq!(made.is_ok(), !model.contains_key(&group));
                if let Ok(meta) = made {
                    assert!(stores.insert(meta.store_id()), "a store's number is used once");
                    model.insert(group, State::default());
                }
            }
            Step::Remove { group } => {
                assert_eq!(keeper.remove_group(group).is_ok(), model.remove(&group).is_some());
            }
            Step::WriteOut { group, change } => {
                if let Some(state) = model.get_mut(&group) {
                    write_out(&keeper, group, &change).unwrap();
                    state.apply(&change);
                }
            }
            Step::Merge { group } => {
                if let Some(meta) = keeper.group(group).unwrap() {
                    let wanted = keeper.wants_merge(meta.store_id());
                    assert_eq!(keeper.merge_once(meta.store_id()).unwrap().is_some(), wanted);
                }
            }
            Step::Reinstall { group } => {
                if model.contains_key(&group) {
                    let dir = machine.path(&format!("export-{number}"));
                    let exported = keeper.export(group, &dir).unwrap();
                    let meta = keeper.install(group, number as u64, &dir, &exported).unwrap();
                    assert!(stores.insert(meta.store_id()));
                    machine.runs().disk().remove_dir(&dir).unwrap();
                }
            }
            Step::Garbage => {
                keeper.collect_garbage().unwrap();
            }
            Step::Crash(crash) => {
                machine = machine.after(crash, keeper);
                keeper = machine.open().unwrap();
                check(&keeper, &model);
                no_leftovers(&keeper, machine.runs().as_ref());
            }
        }
    }
    check(&keeper, &model);
    while keeper.collect_garbage().unwrap() {}
    no_leftovers(&keeper, machine.runs().as_ref());
}

/// Files on the disk are those of runs that sets refer to, no more and no fewer.
fn no_leftovers(keeper: &Keeper, runs: &dyn RunStore) {
    for (store, names) in runs.list().unwrap() {
        let set = keeper
            .runs(store)
            .map_or_else(|_| Vec::new(), |set| set.all().map(|run| run.meta().run).collect());
        let mut expected: Vec<u64> = set.iter().flat_map(|run| [*run, *run]).collect();
        expected.sort_unstable();
        let mut found: Vec<u64> = names
            .iter()
            .map(|name| u64::from_str_radix(name.split('.').next().unwrap(), 16).unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{store}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sequence_in_memory_equals_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let start = (1..4).map(|group| Step::Create { group });
        run(Machine::memory(), start.chain(steps).collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn any_sequence_on_files_equals_the_model(steps in prop::collection::vec(step(), 20..40)) {
        let start = (1..4).map(|group| Step::Create { group });
        run(Machine::files(), start.chain(steps).collect());
    }
}

#[test]
fn write_outs_that_make_no_sense_are_refused_and_change_nothing() {
    let machine = Machine::memory();
    let keeper = machine.open().unwrap();
    let meta = keeper.create_group(1, 1, Bytes::new(), Bytes::new()).unwrap();
    write_out(&keeper, 1, &Change::numbered(1)).unwrap();
    let before = observe(&keeper, 1).unwrap();
    let good = isthmus_storage::keeper::WriteOut {
        meta: keeper.group(1).unwrap().unwrap(),
        rows: vec![],
        tables: vec![],
    };
    let with = |change: &dyn Fn(&mut isthmus_storage::keeper::WriteOut)| {
        let mut write_out = good.clone();
        change(&mut write_out);
        keeper.write_out(write_out)
    };
    use isthmus_storage::control::ControlWrite;
    use isthmus_storage::runs::{Rows, TableId, TableRows};
    let seen = |rows: Vec<u8>| TableRows { table: TableId(3), rows: Rows::Flat(rows) };
    for result in [
        with(&|bad| bad.meta.applied_index = 0),
        with(&|bad| bad.meta.replica = 9),
        with(&|bad| bad.meta.state = vec![0; 70_000].into()),
        with(&|bad| bad.rows = vec![ControlWrite::put([0xf8, 1], Bytes::new())]),
        with(&|bad| bad.rows = vec![ControlWrite::put([], Bytes::new())]),
        with(&|bad| bad.rows = vec![ControlWrite::put([1], vec![0; 70_000])]),
        with(&|bad| bad.rows = vec![ControlWrite::put(vec![1; 2000], Bytes::new())]),
        with(&|bad| bad.tables = vec![seen(vec![0; 48])]),
        with(&|bad| bad.tables = vec![seen(vec![0; 24]), seen(vec![0; 24])]),
        with(&|bad| bad.tables = vec![TableRows { table: TableId(1), rows: Rows::Flat(vec![0; 24]) }]),
    ] {
        assert!(matches!(result, Err(Error::Refused(_))), "{result:?}");
    }
    assert!(matches!(with(&|bad| bad.meta.store = 77), Err(Error::NotFound(_))));
    assert_eq!(observe(&keeper, 1).unwrap(), before);
    no_leftovers(&keeper, machine.runs().as_ref());
    assert!(with(&|good| good.meta.applied_term = 5).is_ok());
    assert_eq!(meta.store, 1, "store 0 is the node's");
}

#[test]
fn a_reader_goes_on_while_its_runs_are_merged_away() {
    for machine in [Machine::memory(), Machine::files()] {
        let keeper = machine.open().unwrap();
        let store = keeper.create_group(1, 1, Bytes::new(), Bytes::new()).unwrap().store_id();
        (0..4).for_each(|number| write_out(&keeper, 1, &Change::numbered(number)).unwrap());
        let held = keeper.runs(store).unwrap();
        let count = |set: &isthmus_storage::runs::RunSet| {
            let scan = set
                .scan(keeper_fixture::EVENTS, None, None, isthmus_storage::runs::Projection::ALL, 64)
                .unwrap();
            scan.map(|batch| batch.unwrap().num_rows()).sum::<usize>()
        };
        while keeper.merge_once(store).unwrap().is_some() {}
        assert!(
            held.all().all(|run| machine.runs().disk().open(run.path()).is_ok()),
            "files stay while they are held"
        );
        assert_eq!(count(&held), count(&keeper.runs(store).unwrap()));
        let paths: Vec<_> = held.all().map(|run| run.path().to_path_buf()).collect();
        drop(held);
        keeper.collect_garbage().unwrap();
        assert!(
            paths.iter().all(|path| machine.runs().disk().open(path).is_err()),
            "and go when they are not"
        );
        no_leftovers(&keeper, machine.runs().as_ref());
    }
}

#[test]
fn a_snapshot_installs_on_another_node_and_damage_in_it_is_refused() {
    let (sender, receiver) = (Machine::files(), Machine::files());
    let (from, to) = (sender.open().unwrap(), receiver.open().unwrap());
    from.create_group(5, 1, Bytes::new(), Bytes::new()).unwrap();
    (0..5).for_each(|number| write_out(&from, 5, &Change::numbered(number)).unwrap());
    from.merge_once(StoreId(1)).unwrap();
    let sent = sender.path("sent");
    let exported = from.export(5, &sent).unwrap();
    // What comes later is not in it.
    let expected = observe(&from, 5).unwrap();
    write_out(&from, 5, &Change::numbered(9)).unwrap();

    let staged = receiver.path("staged");
    std::fs::create_dir(&staged).unwrap();
    for file in &exported.files {
        std::fs::copy(sent.join(&file.name), staged.join(&file.name)).unwrap();
    }
    for file in &exported.files {
        let path = staged.join(&file.name);
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let error = to.install(5, 2, &staged, &exported).unwrap_err();
        assert!(error.is_corrupt(), "{error}");
        assert!(to.group(5).unwrap().is_none());
        std::fs::write(&path, &whole).unwrap();
    }
    let meta = to.install(5, 2, &staged, &exported).unwrap();
    assert_eq!((meta.group, meta.replica, meta.applied_index), (5, 2, 5));
    std::fs::remove_dir_all(&staged).unwrap();
    while to.collect_garbage().unwrap() {}
    no_leftovers(&to, receiver.runs().as_ref());
    write_out(&to, 5, &Change::numbered(9)).unwrap();
    drop(to);
    let to = receiver.open().unwrap();
    assert_eq!(observe(&to, 5).unwrap(), observe(&from, 5).unwrap());
    assert_ne!(observe(&to, 5).unwrap(), expected);
}
