//! A [`Log`] in memory, for the simulation: it can lose what was not synced, as a power cut does.
//!
//! It holds two copies of the log: what a reader sees, and what is "on disk". A write with its sync brings the second
//! up to the first. With the fail point `storage::log::sync` on, writes only reach the first, and
//! [`MemoryLog::crash`] falls back to the second: whoever acknowledged such a write is caught.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use protobuf::Message as _;
use raft::eraftpb::Entry;

use super::{
    ENTRIES_MAX, EntryId, GroupState, GroupWrite, Log, LogState, injected_write_error, sync_is_skipped,
};
use crate::{Error, GroupId, Result};

/// The log in memory. See the head of its module for how.
#[derive(Default)]
pub struct MemoryLog {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    seen: Groups,
    synced: Groups,
    /// What `seen` has and `synced` has not.
    unsynced: Vec<Change>,
    failed: bool,
}

type Groups = BTreeMap<GroupId, Stored>;

#[derive(Clone, Default)]
struct Stored {
    state: GroupState,
    /// From `base + 1` to `last`.
    entries: VecDeque<Entry>,
    bytes: u64,
}

/// A change of one group, already checked.
#[derive(Clone)]
enum Change {
    Write { group: GroupId, state: GroupState, reset: bool, entries: Vec<Entry> },
    Compact { group: GroupId, state: GroupState },
    Remove { group: GroupId },
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// A power cut: what was not synced is lost. The log can be used on, as after a restart.
    pub fn crash(&self) {
        let mut inner = self.inner.lock();
        inner.seen = inner.synced.clone();
        inner.unsynced.clear();
        inner.failed = false;
    }

    fn commit(inner: &mut Inner, changes: Vec<Change>) -> Result<()> {
        if inner.failed {
            return Err(Error::Fatal {
                action: "writing the log",
                reason: "an earlier write has failed".into(),
            });
        }
        if let Err(error) = injected_write_error() {
            inner.failed = true;
            return Err(error);
        }
        for change in &changes {
            change.apply(&mut inner.seen);
        }
        inner.unsynced.extend(changes);
        if !sync_is_skipped() {
            for change in inner.unsynced.drain(..) {
                change.apply(&mut inner.synced);
            }
        }
        Ok(())
    }
}

impl Change {
    fn apply(&self, groups: &mut Groups) {
        match self {
            Change::Write { group, state, reset, entries } => {
                let stored = groups.entry(*group).or_default();
                if *reset {
                    *stored = Stored::default();
                }
                stored.state = state.clone();
                for entry in entries {
                    let end = stored.entries.back().map_or(entry.index, |last| last.index + 1);
                    for _ in entry.index..end {
                        stored.drop_back();
                    }
                    stored.bytes += entry_bytes(entry);
                    stored.entries.push_back(entry.clone());
                }
            }
            Change::Compact { group, state } => {
                let stored = groups.entry(*group).or_default();
                stored.state = state.clone();
                while stored.entries.front().is_some_and(|entry| entry.index <= state.base().index) {
                    stored.drop_front();
                }
            }
            Change::Remove { group } => {
                groups.remove(group);
            }
        }
    }
}

impl Stored {
    fn drop_back(&mut self) {
        self.bytes -= self.entries.pop_back().as_ref().map_or(0, entry_bytes);
    }

    fn drop_front(&mut self) {
        self.bytes -= self.entries.pop_front().as_ref().map_or(0, entry_bytes);
    }
}

fn entry_bytes(entry: &Entry) -> u64 {
    u64::from(entry.compute_size())
}

impl Log for MemoryLog {
    fn groups(&self) -> Vec<GroupId> {
        self.inner.lock().seen.keys().copied().collect()
    }

    fn state(&self, group: GroupId) -> Result<Option<LogState>> {
        Ok(self.inner.lock().seen.get(&group).map(|stored| stored.state.view()))
    }

    fn write(&self, writes: &[GroupWrite]) -> Result<()> {
        let mut inner = self.inner.lock();
        let mut states: BTreeMap<GroupId, GroupState> = BTreeMap::new();
        let mut changes = Vec::with_capacity(writes.len());
        for write in writes {
            let before = match states.get(&write.group) {
                Some(state) => state.clone(),
                None => inner.seen.get(&write.group).map(|stored| stored.state.clone()).unwrap_or_default(),
            };
            let state = before.after(write)?;
            states.insert(write.group, state.clone());
            changes.push(Change::Write {
                group: write.group,
                state,
                reset: write.reset.is_some(),
                entries: write.entries.clone(),
            });
        }
        Self::commit(&mut inner, changes)
    }

    fn entries(&self, group: GroupId, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>> {
        let inner = self.inner.lock();
        let stored =
            inner.seen.get(&group).ok_or_else(|| Error::NotFound(format!("log of group {group}")))?;
        let high = stored.state.readable(group, low, high, ENTRIES_MAX)?;
        let mut found = Vec::new();
        let mut bytes = 0;
        let skipped = (low - stored.state.base().index - 1) as usize;
        for entry in stored.entries.iter().skip(skipped).take(high.saturating_sub(low) as usize) {
            bytes += entry_bytes(entry);
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, group: GroupId, index: u64) -> Result<u64> {
        let inner = self.inner.lock();
        let stored =
            inner.seen.get(&group).ok_or_else(|| Error::NotFound(format!("log of group {group}")))?;
        stored.state.term(group, index)
    }

    fn compact(&self, group: GroupId, base: EntryId) -> Result<()> {
        let mut inner = self.inner.lock();
        let stored =
            inner.seen.get(&group).ok_or_else(|| Error::NotFound(format!("log of group {group}")))?;
        match stored.state.compacted(group, base)? {
            Some(state) => Self::commit(&mut inner, vec![Change::Compact { group, state }]),
            None => Ok(()),
        }
    }

    fn remove(&self, group: GroupId) -> Result<()> {
        let mut inner = self.inner.lock();
        if !inner.seen.contains_key(&group) {
            return Ok(());
        }
        Self::commit(&mut inner, vec![Change::Remove { group }])
    }

    fn purge(&self) -> Result<Vec<GroupId>> {
        Ok(Vec::new())
    }

    fn bytes(&self) -> u64 {
        self.inner.lock().seen.values().map(|stored| stored.bytes).sum()
    }
}
