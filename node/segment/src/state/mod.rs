//! States: what a facet's events come to, for each term.
//!
//! A state is a sum over events in any order: [`FacetState::merge`] is commutative and associative, so batches, splits
//! into facets and late events make no difference. **Each event must be counted once**; deduplication comes before, as
//! with facet summaries.
//!
//! **Bounds.** What has a bound is exact up to it, and beyond it says so; never is a number wrong.
//! - Events of a window are kept from the newest on, one more than the bound. A window reaches from some time to the
//!   newest event, so those kept tell for every window whether it holds more than the bound, whatever is dropped and
//!   whenever: the answer is a function of the events and the time alone.
//! - Values that are counted are given up altogether when there are more than the bound.
//! - A list of first values keeps the values whose (timestamp, event key) are the smallest; a value that was dropped
//!   could come back only with an older event, which brings it itself.

mod codec;

pub use codec::DecodeError;

use isthmus_domain::Amount;

use crate::{scalar::Scalar, term::TermId};

/// The states of a facet's terms, or of one event. Equal states are equal bytes.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct FacetState {
    /// Sorted, each once. Apart from the states, so that finding one stays within a few cache lines.
    ids: Vec<TermId>,
    /// Those of the terms, in the same order.
    states: Vec<State>,
}

/// What is known for a term. `Debug` shows no personal data.
#[derive(Clone, PartialEq, Debug)]
pub enum State {
    /// The newest that was said of a trait, or of consent.
    Said(Said),
    /// Timestamps of the oldest and the newest event, microseconds since the epoch.
    Seen {
        /// The oldest.
        first: i64,
        /// The newest.
        last: i64,
    },
    /// A sum of revenue.
    Revenue(Amount),
    /// A number of events.
    Count(u64),
    /// A sum of values, and how many there were.
    Sum {
        /// The sum.
        sum: Amount,
        /// How many.
        values: u64,
    },
    /// The least and the largest value.
    Extremes {
        /// The least.
        min: Scalar<'static>,
        /// The largest.
        max: Scalar<'static>,
    },
    /// The oldest and the newest value. In a box, as it is twice as large as the others.
    Ends(Box<Ends>),
    /// Values and how often they came.
    Values {
        /// How many may be told apart.
        bound: u32,
        /// Sorted by value; `None`: there are more than that.
        counts: Option<Vec<(Scalar<'static>, u64)>>,
    },
    /// The values that were first.
    FirstValues {
        /// How many are kept.
        limit: u32,
        /// Sorted; each value once.
        entries: Vec<Entry>,
    },
    /// Timestamps of the newest events.
    Times {
        /// How many are answered for.
        bound: u32,
        /// Rising, at most one more than the bound.
        times: Vec<i64>,
    },
    /// Values of the newest events.
    Entries {
        /// How many are answered for.
        bound: u32,
        /// Rising, at most one more than the bound.
        entries: Vec<Entry>,
    },
}

/// The oldest and the newest value.
#[derive(Clone, PartialEq, Debug)]
pub struct Ends {
    /// The oldest.
    pub first: Entry,
    /// The newest.
    pub last: Entry,
}

/// A value of an event. The order of the fields is the order of entries.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry {
    /// The event's time, microseconds since the epoch.
    pub timestamp: i64,
    /// The event's key: its deduplication key.
    pub key: [u8; 16],
    /// The value.
    pub value: Scalar<'static>,
}

/// What was said of a trait. The order of the fields is the order in which newer is decided, as in profiles.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Said {
    /// The event's time, microseconds since the epoch.
    pub timestamp: i64,
    /// Its source.
    pub source: String,
    /// Its message id.
    pub message_id: String,
    /// Canonical JSON; empty when the trait was removed.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Said({} bytes at {})", self.value.len(), self.timestamp)
    }
}

/// States of different kinds for one term, or of one kind with different bounds: what is stored is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("states of term {:016x} don't fit together: the stored state is damaged", .0.0)]
pub struct Mismatch(pub TermId);

impl FacetState {
    /// How much memory it takes, about.
    pub fn bytes(&self) -> usize {
        let text = |scalar: &Scalar<'static>| match scalar {
            Scalar::Text(text) => text.len(),
            _ => 0,
        };
        let entries = |entries: &[Entry]| {
            entries.iter().map(|entry| size_of::<Entry>() + text(&entry.value)).sum::<usize>()
        };
        let heap = |state: &State| match state {
            State::Said(said) => said.source.len() + said.message_id.len() + said.value.len(),
            State::Seen { .. } | State::Revenue(_) | State::Count(_) | State::Sum { .. } => 0,
            State::Extremes { min, max } => text(min) + text(max),
            State::Ends(ends) => size_of::<Ends>() + text(&ends.first.value) + text(&ends.last.value),
            State::Values { counts, .. } => counts
                .iter()
                .flatten()
                .map(|(value, _)| size_of::<(Scalar<'static>, u64)>() + text(value))
                .sum(),
            State::FirstValues { entries: kept, .. } | State::Entries { entries: kept, .. } => entries(kept),
            State::Times { times, .. } => times.len() * size_of::<i64>(),
        };
        let each = size_of::<TermId>() + size_of::<State>();
        size_of::<Self>() + self.states.iter().map(|state| each + heap(state)).sum::<usize>()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The state of a term.
    pub fn get(&self, term: TermId) -> Option<&State> {
        self.states.get(self.ids.binary_search(&term).ok()?)
    }

    /// All states, by rising term.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (TermId, &State)> {
        self.ids.iter().copied().zip(&self.states)
    }

    /// Keeps the states of the terms that `wanted` names, and forgets the rest.
    pub fn retain(&mut self, mut wanted: impl FnMut(TermId) -> bool) {
        self.retain_mut(|id, _| wanted(id));
    }

    /// Adds what other events of the profile come to; the two must have no event in common.
    ///
    /// # Errors
    /// One of them is damaged; this one is left with part of the other.
    pub fn merge(&mut self, other: &Self) -> Result<(), Mismatch> {
        for (id, state) in other.iter() {
            match self.ids.binary_search(&id) {
                Ok(at) => self.states[at].merge(state).ok_or(Mismatch(id))?,
                Err(at) => self.insert(at, id, state.clone()),
            }
        }
        Ok(())
    }

    fn insert(&mut self, at: usize, id: TermId, state: State) {
        self.ids.insert(at, id);
        self.states.insert(at, state);
    }

    /// Takes up an event for a term: changes the state, or makes one. Says whether an answer may have changed.
    pub(crate) fn upsert(
        &mut self,
        term: TermId,
        known: impl FnOnce(&mut State) -> bool,
        new: impl FnOnce() -> State,
    ) -> bool {
        match self.ids.binary_search(&term) {
            Ok(at) => known(&mut self.states[at]),
            Err(at) => {
                self.insert(at, term, new());
                true
            }
        }
    }

    /// Hands each state to `f`, and forgets those for which it says no.
    pub(crate) fn retain_mut(&mut self, mut f: impl FnMut(TermId, &mut State) -> bool) {
        let kept: Vec<bool> =
            self.ids.iter().zip(&mut self.states).map(|(id, state)| f(*id, state)).collect();
        if kept.contains(&false) {
            let (mut ids, mut states) = (kept.iter(), kept.iter());
            self.ids.retain(|_| ids.next() == Some(&true));
            self.states.retain(|_| states.next() == Some(&true));
        }
    }
}

impl State {
    /// Adds another state of the same term; `None`: they don't fit.
    fn merge(&mut self, other: &Self) -> Option<()> {
        match (self, other) {
            (Self::Said(a), Self::Said(b)) => {
                if *a < *b {
                    a.clone_from(b);
                }
            }
            (Self::Seen { first, last }, Self::Seen { first: f, last: l }) => {
                (*first, *last) = ((*first).min(*f), (*last).max(*l));
            }
            (Self::Revenue(a), Self::Revenue(b)) => *a += b,
            (Self::Count(a), Self::Count(b)) => *a = a.saturating_add(*b),
            (Self::Sum { sum, values }, Self::Sum { sum: s, values: n }) => {
                *sum += s;
                *values = values.saturating_add(*n);
            }
            (Self::Extremes { min, max }, Self::Extremes { min: low, max: high }) => {
                if low < min {
                    min.clone_from(low);
                }
                if high > max {
                    max.clone_from(high);
                }
            }
            (Self::Ends(ends), Self::Ends(others)) => {
                if others.first < ends.first {
                    ends.first.clone_from(&others.first);
                }
                if others.last > ends.last {
                    ends.last.clone_from(&others.last);
                }
            }
            (Self::Values { bound, counts }, Self::Values { bound: b, counts: others }) if bound == b => {
                match (&mut *counts, others) {
                    (Some(known), Some(others)) => {
                        for (value, n) in others {
                            add_value(known, value, *n);
                        }
                        give_up(counts, *bound);
                    }
                    _ => *counts = None,
                }
            }
            (Self::FirstValues { limit, entries }, Self::FirstValues { limit: l, entries: others })
                if limit == l =>
            {
                for entry in others {
                    add_first(entries, entry, *limit);
                }
            }
            (Self::Times { bound, times }, Self::Times { bound: b, times: others }) if bound == b => {
                times.extend_from_slice(others);
                // Two sorted runs, which a stable sort finds and merges.
                times.sort();
                keep_newest(times, *bound);
            }
            (Self::Entries { bound, entries }, Self::Entries { bound: b, entries: others }) if bound == b => {
                entries.extend_from_slice(others);
                entries.sort();
                keep_newest(entries, *bound);
            }
            _ => return None,
        }
        Some(())
    }
}

/// Drops the oldest beyond one more than the bound.
pub(crate) fn keep_newest<T>(rising: &mut Vec<T>, bound: u32) {
    let kept = bound as usize + 1;
    if rising.len() > kept {
        rising.drain(..rising.len() - kept);
    }
}

/// Puts one in its place among the newest; says whether it was kept.
pub(crate) fn insert_newest<T: Ord>(rising: &mut Vec<T>, one: T, bound: u32) -> bool {
    // Most events are newer than those before.
    let at = match rising.last() {
        Some(last) if *last > one => rising.partition_point(|known| *known <= one),
        _ => rising.len(),
    };
    if at == 0 && rising.len() > bound as usize {
        return false;
    }
    rising.insert(at, one);
    keep_newest(rising, bound);
    true
}

/// Counts a value.
pub(crate) fn add_value(counts: &mut Vec<(Scalar<'static>, u64)>, value: &Scalar<'_>, n: u64) {
    match counts.binary_search_by(|(known, _)| known.cmp(value)) {
        Ok(at) => counts[at].1 = counts[at].1.saturating_add(n),
        Err(at) => counts.insert(at, (value.clone().into_owned(), n)),
    }
}

/// Gives up counting when there are too many values.
pub(crate) fn give_up(counts: &mut Option<Vec<(Scalar<'static>, u64)>>, bound: u32) {
    if counts.as_ref().is_some_and(|counts| counts.len() > bound as usize) {
        *counts = None;
    }
}

/// Adds a value to a list of first values; says whether the list has changed.
pub(crate) fn add_first(entries: &mut Vec<Entry>, entry: &Entry, limit: u32) -> bool {
    if let Some(at) = entries.iter().position(|known| known.value == entry.value) {
        if entries[at] <= *entry {
            return false;
        }
        entries.remove(at);
    }
    let at = entries.partition_point(|known| known < entry);
    if at >= limit as usize {
        return false;
    }
    entries.insert(at, entry.clone());
    entries.truncate(limit as usize);
    true
}
