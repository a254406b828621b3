//! Random operations on every engine of the Raft log, compared with the model after each restart.

use isthmus_storage::log::{EntryId, GroupWrite, Log, MemoryLog};
use proptest::prelude::*;

use crate::log_model::{Model, entry, hard_state, open};

/// An operation in terms that make sense in any state.
#[derive(Clone, Debug)]
enum Operation {
    Write(Vec<Part>),
    /// Compact a group; the share of its entries, in percent.
    Compact(u64, u64),
    Remove(u64),
    Purge,
    Restart,
}

#[derive(Clone, Debug)]
struct Part {
    group: u64,
    /// How many entries are replaced.
    back: u64,
    count: u64,
    term_step: u64,
    /// A reset first, this far from the last entry.
    reset: Option<i64>,
    commit: Option<u64>,
    bytes: usize,
}

fn parts() -> impl Strategy<Value = Part> {
    (
        1u64..4,
        0u64..4,
        0u64..6,
        0u64..2,
        prop::option::weighted(0.1, -5i64..20),
        any::<Option<u64>>(),
        0..300usize,
    )
        .prop_map(|(group, back, count, term_step, reset, commit, bytes)| Part {
            group,
            back,
            count,
            term_step,
            reset,
            commit,
            bytes,
        })
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        10 => prop::collection::vec(parts(), 0..4).prop_map(Operation::Write),
        3 => (1u64..4, 0u64..=100).prop_map(|(group, share)| Operation::Compact(group, share)),
        1 => (1u64..4).prop_map(Operation::Remove),
        2 => Just(Operation::Purge),
        1 => Just(Operation::Restart),
    ];
    prop::collection::vec(operation, 1..60)
}

/// The write that `part` means in the state of the model, which it is then applied to.
fn concrete(part: &Part, model: &mut Model, term: &mut u64) -> GroupWrite {
    *term += part.term_step;
    let known = model.0.get(&part.group).cloned().unwrap_or_default();
    let reset = part.reset.map(|offset| EntryId {
        index: known.last().index.saturating_add_signed(offset).max(1),
        term: *term,
    });
    let (base, last) = match reset {
        Some(base) => (base.index, base.index),
        None => (known.base.index, known.last().index),
    };
    let first = (last + 1).saturating_sub(part.back).max(base + 1);
    let entries =
        (first..first + part.count).map(|index| entry(index, *term, &vec![index as u8; part.bytes]));
    let write = GroupWrite {
        group: part.group,
        reset,
        entries: entries.collect(),
        hard_state: part.commit.map(|commit| hard_state(*term, part.group, commit)),
    };
    model.write(std::slice::from_ref(&write));
    write
}

fn run<L: Log>(operations: &[Operation], start: impl Fn(Option<L>) -> L) {
    let mut model = Model::default();
    let mut term = 1;
    let mut log = start(None);
    for operation in operations {
        match operation {
            Operation::Write(parts) => {
                let writes: Vec<_> = parts.iter().map(|part| concrete(part, &mut model, &mut term)).collect();
                log.write(&writes).unwrap();
            }
            Operation::Compact(group, share) => {
                let Some(known) = model.0.get(group) else { continue };
                let index = known.base.index + known.entries.len() as u64 * share / 100;
                let base = EntryId { index, term: known.term(index) };
                log.compact(*group, base).unwrap();
                model.compact(*group, base);
            }
            Operation::Remove(group) => {
                log.remove(*group).unwrap();
                model.0.remove(group);
            }
            Operation::Purge => {
                log.purge().unwrap();
            }
            Operation::Restart => {
                model.assert_equals(&log);
                log = start(Some(log));
                model.assert_equals(&log);
            }
        }
    }
    model.assert_equals(&log);
    model.assert_equals(&start(Some(log)));
}

proptest! {
    #![proptest_config(crate::cases(64))]

    #[test]
    fn the_memory_log_is_the_model_after_any_operations(operations in operations()) {
        run(&operations, |log: Option<MemoryLog>| {
            let log = log.unwrap_or_default();
            log.crash();
            log
        });
    }

    #[test]
    fn the_log_on_disk_is_the_model_after_any_operations(operations in operations()) {
        let dir = tempfile::tempdir().unwrap();
        run(&operations, |log| {
            drop(log);
            open(dir.path())
        });
    }
}
