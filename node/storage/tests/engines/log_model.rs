//! A plain model of the Raft log, and the comparison of an engine with it.

use std::collections::BTreeMap;
use std::path::Path;

use isthmus_storage::GroupId;
use isthmus_storage::log::{EngineLog, EngineLogOptions, EntryId, GroupWrite, Log};
use raft::eraftpb::{Entry, HardState};

/// Small files, so that a few writes fill several and purges have something to delete.
pub const SMALL: EngineLogOptions = EngineLogOptions { file_bytes: 2048, purge_bytes: 4096 };

pub fn open(dir: &Path) -> EngineLog {
    EngineLog::open(dir, SMALL).expect("the log opens")
}

pub fn entry(index: u64, term: u64, data: &[u8]) -> Entry {
    Entry { index, term, data: data.to_vec().into(), ..Entry::default() }
}

pub fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit, ..HardState::default() }
}

/// A write of `count` entries of `term` from `first` on.
pub fn append(group: GroupId, first: u64, term: u64, count: u64) -> GroupWrite {
    let entries = (first..first + count).map(|index| {
        let data = format!("group {group}, entry {index}, term {term}");
        entry(index, term, data.as_bytes())
    });
    GroupWrite { group, entries: entries.collect(), ..GroupWrite::default() }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    pub base: EntryId,
    pub entries: Vec<Entry>,
    pub hard_state: HardState,
}

impl Group {
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, |entry| EntryId { index: entry.index, term: entry.term })
    }

    pub fn term(&self, index: u64) -> u64 {
        match index.checked_sub(self.base.index + 1) {
            Some(position) => self.entries[position as usize].term,
            None => self.base.term,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model(pub BTreeMap<GroupId, Group>);

impl Model {
    pub fn write(&mut self, writes: &[GroupWrite]) {
        for write in writes {
            let group = self.0.entry(write.group).or_default();
            if let Some(base) = write.reset {
                group.base = base;
                group.entries.clear();
            }
            if let Some(first) = write.entries.first() {
                group.entries.retain(|entry| entry.index < first.index);
                group.entries.extend(write.entries.iter().cloned());
            }
            if let Some(hard_state) = &write.hard_state {
                group.hard_state = hard_state.clone();
            }
        }
    }

    pub fn compact(&mut self, group: GroupId, base: EntryId) {
        let group = self.0.get_mut(&group).expect("a group of the model");
        if base.index > group.base.index {
            group.entries.retain(|entry| entry.index > base.index);
            group.base = base;
        }
    }

    /// Everything that can be read from `log` is what the model says.
    pub fn assert_equals(&self, log: &dyn Log) {
        assert_eq!(log.groups(), self.0.keys().copied().collect::<Vec<_>>());
        for (id, group) in &self.0 {
            let state = log.state(*id).expect("state").expect("the group is known");
            assert_eq!(state.base, group.base, "base of group {id}");
            assert_eq!(state.last, group.last(), "last entry of group {id}");
            assert_eq!(state.hard_state, group.hard_state, "hard state of group {id}");
            let entries = all_entries(log, *id);
            assert_eq!(entries, group.entries, "entries of group {id}");
            for index in group.base.index..=group.last().index {
                assert_eq!(log.term(*id, index).expect("a term"), group.term(index));
            }
        }
    }
}

pub fn all_entries(log: &dyn Log, group: GroupId) -> Vec<Entry> {
    let state = log.state(group).expect("state").expect("the group is known");
    log.entries(group, state.base.index + 1, state.last.index + 1, u64::MAX).expect("entries")
}
