//! The state of one group's log, and what a write does to it: pure, shared by all engines.
//!
//! ## Invariants
//!
//! 1. `base.index <= last`.
//! 2. The runs' first indexes and terms rise strictly; the first run begins at `base.index + 1`; all of them begin at
//!    or before `last`. There is none exactly when the log is empty.
//!
//! Terms change rarely, so a run per term takes a few bytes for a million entries, and is exact.

use prost::Message as _;
use raft::eraftpb::{Entry, HardState};

use super::{EntryId, GroupWrite, LogState};
use crate::{Error, GroupId, Result};

/// What is known of a group's log without reading entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupState {
    base: EntryId,
    last: u64,
    /// First index and term of each run of entries of one term.
    runs: Vec<EntryId>,
    hard_state: HardState,
}

impl GroupState {
    /// The public view.
    pub fn view(&self) -> LogState {
        LogState { base: self.base, last: self.last_entry(), hard_state: self.hard_state.clone() }
    }

    /// The entry before the first.
    pub fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry, or the base when there is none.
    pub fn last_entry(&self) -> EntryId {
        let term = self.runs.last().map_or(self.base.term, |run| run.term);
        EntryId { index: self.last, term }
    }

    /// The term of the entry at `index`, or of the base.
    pub fn term(&self, group: GroupId, index: u64) -> Result<u64> {
        if index < self.base.index {
            return Err(Error::Compacted { group, index, base: self.base.index });
        }
        if index > self.last {
            return Err(Error::NotFound(format!("group {group}, entry {index}: the last is {}", self.last)));
        }
        let later = self.runs.partition_point(|run| run.index <= index);
        Ok(if later == 0 { self.base.term } else { self.runs[later - 1].term })
    }

    /// The range of indexes that a read may have: `low` up to at most `high`, cut to `entries_max`.
    pub fn readable(&self, group: GroupId, low: u64, high: u64, entries_max: u64) -> Result<u64> {
        if low <= self.base.index {
            return Err(Error::Compacted { group, index: low, base: self.base.index });
        }
        if high > self.last + 1 {
            return Err(Error::NotFound(format!(
                "group {group}, entries {low} to {high}: the last is {}",
                self.last
            )));
        }
        Ok(high.min(low.saturating_add(entries_max)))
    }

    /// The state after `write`; refused when it breaks the promises of the log.
    pub fn after(&self, write: &GroupWrite) -> Result<GroupState> {
        let mut next = self.clone();
        if let Some(base) = write.reset {
            next.base = base;
            next.last = base.index;
            next.runs.clear();
        }
        next.append(write.group, &write.entries)?;
        if let Some(hard_state) = &write.hard_state {
            next.hard_state = hard_state.clone();
        }
        Ok(next)
    }

    fn append(&mut self, group: GroupId, entries: &[Entry]) -> Result<()> {
        let Some(first) = entries.first() else { return Ok(()) };
        let refuse = |what: String| Err(Error::Refused(format!("log write of group {group}: {what}")));
        if first.index <= self.base.index {
            return refuse(format!("entry {} is compacted, the base is {}", first.index, self.base.index));
        }
        if first.index > self.last + 1 {
            return refuse(format!("entry {} leaves a hole after {}", first.index, self.last));
        }
        self.runs.truncate(self.runs.partition_point(|run| run.index < first.index));
        let mut term = self.runs.last().map_or(self.base.term, |run| run.term);
        for (expected, entry) in (first.index..).zip(entries) {
            if entry.index != expected {
                return refuse(format!("entry {} stands where {expected} belongs", entry.index));
            }
            if entry.term < term || entry.term == 0 {
                return refuse(format!("entry {} has term {} after term {term}", entry.index, entry.term));
            }
            if entry.term > term || self.runs.is_empty() {
                self.runs.push(EntryId { index: entry.index, term: entry.term });
                term = entry.term;
            }
        }
        self.last = first.index + (entries.len() as u64 - 1);
        Ok(())
    }

    /// The state after dropping the entries up to and with `base`; `None` when they are gone already.
    pub fn compacted(&self, group: GroupId, base: EntryId) -> Result<Option<GroupState>> {
        if base.index <= self.base.index {
            return Ok(None);
        }
        let refuse = |what: String| {
            Err(Error::Refused(format!("compacting group {group} to entry {}: {what}", base.index)))
        };
        if base.index > self.last {
            return refuse(format!("the last entry is {}", self.last));
        }
        let term = self.term(group, base.index)?;
        if term != base.term {
            return refuse(format!("its term is {term}, not {}", base.term));
        }
        let mut next = self.clone();
        next.base = base;
        let first = base.index + 1;
        if first > self.last {
            next.runs.clear();
        } else {
            // The run that holds the new first entry begins there now.
            let holds = next.runs.partition_point(|run| run.index <= first) - 1;
            next.runs.drain(..holds);
            next.runs[0].index = first;
        }
        Ok(Some(next))
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let record = Record {
            base_index: self.base.index,
            base_term: self.base.term,
            last: self.last,
            run_indexes: self.runs.iter().map(|run| run.index).collect(),
            run_terms: self.runs.iter().map(|run| run.term).collect(),
            term: self.hard_state.term,
            vote: self.hard_state.vote,
            commit: self.hard_state.commit,
        };
        record.encode_to_vec()
    }

    /// The state that [`GroupState::encode`] stored; checks the invariants.
    pub fn decode(group: GroupId, bytes: &[u8]) -> Result<GroupState> {
        let corrupt = |what: &str| Error::corrupt(format!("log state of group {group}"), what);
        let record = Record::decode(bytes).map_err(|error| corrupt(&error.to_string()))?;
        if record.run_indexes.len() != record.run_terms.len() {
            return Err(corrupt("runs of terms are incomplete"));
        }
        let runs: Vec<EntryId> = std::iter::zip(&record.run_indexes, &record.run_terms)
            .map(|(&index, &term)| EntryId { index, term })
            .collect();
        let hard_state =
            HardState { term: record.term, vote: record.vote, commit: record.commit, ..HardState::default() };
        let base = EntryId { index: record.base_index, term: record.base_term };
        let state = GroupState { base, last: record.last, runs, hard_state };
        if !state.holds_invariants() {
            return Err(corrupt("base, last entry and terms do not fit each other"));
        }
        Ok(state)
    }

    fn holds_invariants(&self) -> bool {
        let rising = self.runs.windows(2).all(|two| two[0].index < two[1].index && two[0].term < two[1].term);
        let ends = match (self.runs.first(), self.runs.last()) {
            (Some(first), Some(last)) => first.index == self.base.index + 1 && last.index <= self.last,
            _ => self.last == self.base.index,
        };
        rising && ends && self.base.index <= self.last
    }
}

/// As stored.
#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint64, tag = "1")]
    base_index: u64,
    #[prost(uint64, tag = "2")]
    base_term: u64,
    #[prost(uint64, tag = "3")]
    last: u64,
    #[prost(uint64, repeated, tag = "4")]
    run_indexes: Vec<u64>,
    #[prost(uint64, repeated, tag = "5")]
    run_terms: Vec<u64>,
    #[prost(uint64, tag = "6")]
    term: u64,
    #[prost(uint64, tag = "7")]
    vote: u64,
    #[prost(uint64, tag = "8")]
    commit: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(from: u64, terms: &[u64]) -> GroupWrite {
        let entries = (from..).zip(terms).map(|(index, &term)| Entry { index, term, ..Entry::default() });
        GroupWrite { group: 1, entries: entries.collect(), ..GroupWrite::default() }
    }

    fn terms_of(state: &GroupState) -> Vec<u64> {
        (state.base.index..=state.last).map(|index| state.term(1, index).unwrap()).collect()
    }

    #[test]
    fn every_entry_has_the_term_it_was_written_with() {
        let state = GroupState::default().after(&entries(1, &[1, 1, 2, 2, 5])).unwrap();
        assert_eq!(terms_of(&state), [0, 1, 1, 2, 2, 5]);
        let state = state.after(&entries(4, &[6, 6])).unwrap();
        assert_eq!(terms_of(&state), [0, 1, 1, 2, 6, 6]);
        assert_eq!(GroupState::decode(1, &state.encode()).unwrap(), state);
    }

    #[test]
    fn compaction_keeps_the_terms_of_the_base_and_of_what_is_left() {
        let state = GroupState::default().after(&entries(1, &[1, 1, 2, 2, 5])).unwrap();
        for base in 1..=5 {
            let id = EntryId { index: base, term: state.term(1, base).unwrap() };
            let compacted = state.compacted(1, id).unwrap().unwrap();
            assert!(compacted.holds_invariants());
            assert_eq!(terms_of(&compacted), terms_of(&state)[base as usize..]);
            assert_eq!(compacted.compacted(1, id).unwrap(), None);
        }
    }

    #[test]
    fn holes_and_falling_terms_are_refused() {
        let state = GroupState::default().after(&entries(1, &[3, 3])).unwrap();
        assert!(state.after(&entries(4, &[3])).is_err());
        assert!(state.after(&entries(3, &[2])).is_err());
        assert!(state.after(&entries(0, &[3])).is_err());
        assert!(state.compacted(1, EntryId { index: 3, term: 3 }).is_err());
        assert!(state.compacted(1, EntryId { index: 2, term: 2 }).is_err());
    }

    #[test]
    fn a_damaged_record_is_refused() {
        let state = GroupState::default().after(&entries(1, &[1, 2, 3])).unwrap();
        let broken = GroupState { last: 2, ..state.clone() };
        assert!(GroupState::decode(1, &broken.encode()).unwrap_err().is_corrupt());
        let broken = GroupState { runs: Vec::new(), ..state };
        assert!(GroupState::decode(1, &broken.encode()).unwrap_err().is_corrupt());
    }
}
