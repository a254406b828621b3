//! What the crate measures of itself, for whoever shows it: counts and histograms, no names and no formats.
//!
//! All of it is relaxed atomics that are added to once a write, a turn or a batch; nothing waits for anything.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::types::GroupView;

/// How often values came in ranges between fixed bounds. Values are whole numbers of some unit, such as microseconds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than there are bounds: the last one is of what is above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one. A value belongs to the first bound (rising, inclusive) that it isn't above.
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Notes a value.
    pub fn observe(&self, value: u64) {
        let bucket = self.bucket(value);
        self.add(bucket, 1, value);
    }

    /// The number of the bucket of a value.
    pub fn bucket(&self, value: u64) -> usize {
        self.bounds.partition_point(|bound| *bound < value)
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> usize {
        self.counts.len()
    }

    /// Notes several values of one bucket at once, which are `sum` together.
    pub fn add(&self, bucket: usize, count: u64, sum: u64) {
        if let Some(counted) = self.counts.get(bucket) {
            counted.fetch_add(count, Relaxed);
            self.sum.fetch_add(sum, Relaxed);
        }
    }

    /// What it holds now.
    pub fn read(&self) -> HistogramView {
        HistogramView {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            sum: self.sum.load(Relaxed),
        }
    }
}

/// A histogram as it was at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramView {
    /// The upper bounds, inclusive.
    pub bounds: &'static [u64],
    /// How often a value fell into each range; one more than there are bounds.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: u64,
}

/// From 50 µs to 10 s.
const SYNC_MICROS: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
/// Powers of two.
const ENTRIES: [u64; 13] = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048];

/// What the log writer measures.
#[derive(Debug)]
pub struct LogMeasures {
    /// Time of a synced write, in microseconds.
    pub sync_micros: Histogram,
    /// Entries of all groups that one synced write carried.
    pub entries: Histogram,
    /// Groups that had something in one synced write.
    pub groups: Histogram,
    /// Bytes of entries that were written.
    pub written_bytes: AtomicU64,
}

impl Default for LogMeasures {
    fn default() -> Self {
        Self {
            sync_micros: Histogram::new(&SYNC_MICROS),
            entries: Histogram::new(&ENTRIES),
            groups: Histogram::new(&ENTRIES),
            written_bytes: AtomicU64::new(0),
        }
    }
}

/// What a replica counts.
#[derive(Debug, Default)]
pub(crate) struct GroupCounts {
    pub(crate) proposals: AtomicU64,
    pub(crate) elections: AtomicU64,
    pub(crate) leaderships: AtomicU64,
}

impl GroupCounts {
    /// Notes a change of what the replica shows of itself.
    pub(crate) fn note(&self, was: &GroupView, is: &GroupView) {
        use crate::types::Role::{Candidate, Follower, Leader};
        let began_to_lead = is.role == Leader && (was.role != Leader || was.term != is.term);
        if began_to_lead {
            self.leaderships.fetch_add(1, Relaxed);
        }
        // A lone voter is elected within the turn in which it stands.
        if (is.role == Candidate && was.role != Candidate) || (began_to_lead && was.role == Follower) {
            self.elections.fetch_add(1, Relaxed);
        }
    }
}

/// What a replica shows and has counted.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupMeasures {
    /// What it shows, with the applied index of this moment.
    pub view: GroupView,
    /// Proposals that it was given, since it was opened.
    pub proposals: u64,
    /// How often it stood for election, since it was opened.
    pub elections: u64,
    /// How often it began to lead, since it was opened.
    pub leaderships: u64,
    /// Clients' requests that wait for its next turn.
    pub waiting_requests: usize,
    /// Peers' messages that wait for its next turn.
    pub waiting_messages: usize,
    /// Committed entries that wait for the state machine.
    pub waiting_entries: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Role;

    #[test]
    fn a_value_at_a_bound_belongs_to_it() {
        let histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21] {
            histogram.observe(value);
        }
        let view = histogram.read();
        assert_eq!((view.counts, view.sum), (vec![2, 2, 1], 62));
    }

    #[test]
    fn elections_and_terms_of_leading_are_told_apart() {
        let counts = GroupCounts::default();
        let view = |role, term| GroupView { role, term, ..GroupView::default() };
        let follower = view(Role::Follower, 1);
        counts.note(&follower, &view(Role::Candidate, 2));
        counts.note(&view(Role::Candidate, 2), &view(Role::Candidate, 3));
        counts.note(&view(Role::Candidate, 3), &view(Role::Leader, 3));
        counts.note(&view(Role::Leader, 3), &view(Role::Leader, 3));
        counts.note(&view(Role::Leader, 3), &view(Role::Follower, 4));
        counts.note(&follower, &view(Role::Leader, 5));
        assert_eq!((counts.elections.load(Relaxed), counts.leaderships.load(Relaxed)), (2, 2));
    }
}
