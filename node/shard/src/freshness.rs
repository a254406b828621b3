//! How fresh events are when they take effect: from their own time to their application, by source.
//!
//! It is measured beside apply, by the replica that leads, and never decides anything. A command's events are counted
//! up first and then added to what all shards of the node share, once for each source and bucket. Sources are bounded:
//! those beyond [`SOURCES_MAX`] count together, as [`OTHER`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use isthmus_proto::v1::ItemOutcome;
use isthmus_raft::{GroupView, Histogram, HistogramView, Role};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{Clock, apply::Item};

/// Sources that are told apart.
pub const SOURCES_MAX: usize = 64;
/// Stands for all others. No source can have this name: sources' names have no parentheses.
pub const OTHER: &str = "(other)";

const SECOND: u64 = 1_000_000;
/// From 5 ms to a day, in microseconds.
const BOUNDS: [u64; 19] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    SECOND,
    2_500_000,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
    300 * SECOND,
    900 * SECOND,
    3_600 * SECOND,
    21_600 * SECOND,
    43_200 * SECOND,
    86_400 * SECOND,
];
const BUCKETS: usize = BOUNDS.len() + 1;

/// What a node measures, over all its shards.
pub struct Freshness {
    clock: Arc<dyn Clock>,
    sources: RwLock<BTreeMap<Box<str>, Arc<Histogram>>>,
    full: AtomicBool,
    other: Arc<Histogram>,
}

impl Freshness {
    /// Nothing measured yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let other = Arc::new(Histogram::new(&BOUNDS));
        Self { clock, sources: RwLock::default(), full: AtomicBool::new(false), other }
    }

    /// By source, in microseconds from an event's time to its application. An event of the future counts as 0.
    pub fn read(&self) -> Vec<(String, HistogramView)> {
        let mut all: Vec<_> = self
            .sources
            .read()
            .iter()
            .map(|(name, histogram)| (name.to_string(), histogram.read()))
            .collect();
        if self.full.load(Relaxed) {
            all.push((OTHER.to_owned(), self.other.read()));
        }
        all
    }

    fn source(&self, name: &str) -> Option<Arc<Histogram>> {
        if let Some(known) = self.sources.read().get(name) {
            return Some(known.clone());
        }
        let mut sources = self.sources.write();
        if sources.len() >= SOURCES_MAX && !sources.contains_key(name) {
            self.full.store(true, Relaxed);
            return None;
        }
        Some(sources.entry(name.into()).or_insert_with(|| Arc::new(Histogram::new(&BOUNDS))).clone())
    }
}

/// One replica's part in it. Nothing is measured before [`Gauge::begin`], nor while another replica leads.
#[derive(Default)]
pub(crate) struct Gauge {
    begun: OnceLock<(Arc<Freshness>, watch::Receiver<GroupView>)>,
}

impl Gauge {
    /// Measures from now on, while the view says that this replica leads.
    pub(crate) fn begin(&self, freshness: Arc<Freshness>, view: watch::Receiver<GroupView>) {
        // A replica is opened once.
        let _begun_before = self.begun.set((freshness, view));
    }

    fn leading(&self) -> Option<&Arc<Freshness>> {
        let (freshness, view) = self.begun.get()?;
        (view.borrow().role == Role::Leader).then_some(freshness)
    }
}

/// The apply task's notes, kept for their buffers.
#[derive(Default)]
pub(crate) struct Notes {
    /// Of each item of the command: its source's number in `known`, and its freshness in microseconds.
    items: Vec<Option<(usize, u64)>>,
    /// The sources that were met, with [`OTHER`] first; at most one more than the node tells apart.
    known: Vec<(Box<[u8]>, Arc<Histogram>)>,
}

impl Notes {
    /// Notes a command's items before they are applied; false when nothing is to be measured.
    pub(crate) fn take(&mut self, gauge: &Gauge, items: &[Item]) -> bool {
        let Some(freshness) = gauge.leading() else { return false };
        if self.known.is_empty() {
            self.known.push((Box::default(), freshness.other.clone()));
        }
        let now = freshness.clock.now_micros();
        self.items.clear();
        let mut last = 0;
        for item in items {
            let Some((source, timestamp)) = item.source_and_time() else {
                self.items.push(None);
                continue;
            };
            // Events of a source come together.
            if last == 0 || *self.known[last].0 != *source {
                last = self.number(freshness, source);
            }
            let age = now.saturating_sub(timestamp).max(0).cast_unsigned();
            self.items.push(Some((last, age)));
        }
        true
    }

    fn number(&mut self, freshness: &Freshness, source: &[u8]) -> usize {
        if let Some(known) = self.known.iter().position(|(name, _)| **name == *source) {
            return known;
        }
        let Some(histogram) = std::str::from_utf8(source).ok().and_then(|name| freshness.source(name)) else {
            return 0;
        };
        self.known.push((source.into(), histogram));
        self.known.len() - 1
    }

    /// Counts what was accepted of the items that were taken, by their outcomes.
    pub(crate) fn count(&self, outcomes: &[u8]) {
        const ACCEPTED: u8 = ItemOutcome::Accepted as i32 as u8;
        let mut tally = Tally::default();
        for (item, outcome) in self.items.iter().zip(outcomes) {
            let Some((source, age)) = item.filter(|_| *outcome == ACCEPTED) else { continue };
            if source != tally.source {
                tally.give(&self.known[tally.source].1);
                tally.source = source;
            }
            let bucket = self.known[source].1.bucket(age);
            tally.counts[bucket] += 1;
            tally.sums[bucket] = tally.sums[bucket].saturating_add(age);
        }
        tally.give(&self.known[tally.source].1);
    }
}

/// Events of one source, counted up before they are added to what is shared.
#[derive(Default)]
struct Tally {
    source: usize,
    counts: [u64; BUCKETS],
    sums: [u64; BUCKETS],
}

impl Tally {
    fn give(&mut self, histogram: &Histogram) {
        for (bucket, count) in self.counts.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            histogram.add(bucket, std::mem::take(count), std::mem::take(&mut self.sums[bucket]));
        }
    }
}

#[cfg(test)]
mod tests {
    use isthmus_proto::v1::ItemOutcome::{Accepted, Duplicate};

    use super::*;

    struct At(i64);

    impl Clock for At {
        fn now_micros(&self) -> i64 {
            self.0
        }
    }

    fn outcomes(list: &[ItemOutcome]) -> Vec<u8> {
        list.iter().map(|outcome| *outcome as i32 as u8).collect()
    }

    /// Notes as [`Notes::take`] leaves them, for events of sources at times.
    fn noted(freshness: &Freshness, events: &[(&str, u64)]) -> Notes {
        let mut notes = Notes { items: Vec::new(), known: vec![(Box::default(), freshness.other.clone())] };
        for (source, age) in events {
            let number = notes.number(freshness, source.as_bytes());
            notes.items.push(Some((number, *age)));
        }
        notes
    }

    fn counted(view: &HistogramView) -> u64 {
        view.counts.iter().sum()
    }

    #[test]
    fn what_was_accepted_counts_for_its_source_and_nothing_else() {
        let freshness = Freshness::new(Arc::new(At(0)));
        let mut notes =
            noted(&freshness, &[("web", 4_000), ("crm", 60 * SECOND), ("web", 6_000), ("web", 1)]);
        notes.items.push(None);
        notes.count(&outcomes(&[Accepted, Accepted, Accepted, Duplicate, Accepted]));
        let read = freshness.read();
        let of = |name: &str| &read.iter().find(|(found, _)| found == name).unwrap().1;
        assert_eq!((of("web").sum, counted(of("web"))), (10_000, 2));
        assert_eq!((of("web").counts[0], of("web").counts[1]), (1, 1));
        assert_eq!((of("crm").sum, counted(of("crm"))), (60 * SECOND, 1));
        assert_eq!(read.len(), 2, "nobody else was met");
    }

    #[test]
    fn sources_beyond_the_bound_count_together() {
        let freshness = Freshness::new(Arc::new(At(0)));
        let names: Vec<String> = (0..SOURCES_MAX + 3).map(|number| format!("source-{number}")).collect();
        let events: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 7)).collect();
        let notes = noted(&freshness, &events);
        notes.count(&outcomes(&vec![Accepted; events.len()]));
        let read = freshness.read();
        assert_eq!((read.len(), notes.known.len()), (SOURCES_MAX + 1, SOURCES_MAX + 1));
        let (name, other) = read.last().unwrap();
        assert_eq!((name.as_str(), other.sum), (OTHER, 21));
    }
}
