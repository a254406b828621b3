//! Queries in SQL: how many, what became of them, how long they took, what they gave.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use isthmus_raft::Histogram;
use tokio::time::Instant;

use super::family::Family;

/// From 1 ms to 524 s, each twice the one before.
const MICROS: [u64; 20] = [
    1_000,
    2_000,
    4_000,
    8_000,
    16_000,
    32_000,
    64_000,
    128_000,
    256_000,
    512_000,
    1_024_000,
    2_048_000,
    4_096_000,
    8_192_000,
    16_384_000,
    32_768_000,
    65_536_000,
    131_072_000,
    262_144_000,
    524_288_000,
];

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryOutcome {
    /// All its rows were handed over.
    Answered,
    /// The statement made no sense.
    Refused,
    /// It ran into a bound: memory, rows, time, how many may run.
    Limited,
    /// Whoever asked let go of it.
    Cancelled,
    /// Shards could not be read, or something broke.
    Failed,
}

const OUTCOMES: [(QueryOutcome, &str); 5] = [
    (QueryOutcome::Answered, "answered"),
    (QueryOutcome::Refused, "refused"),
    (QueryOutcome::Limited, "limited"),
    (QueryOutcome::Cancelled, "cancelled"),
    (QueryOutcome::Failed, "failed"),
];

/// What is counted of queries.
pub struct Queries {
    outcomes: [AtomicU64; OUTCOMES.len()],
    micros: Histogram,
    rows: AtomicU64,
    running: AtomicU64,
}

impl Default for Queries {
    fn default() -> Self {
        let outcomes = Default::default();
        Self {
            outcomes,
            micros: Histogram::new(&MICROS),
            rows: AtomicU64::new(0),
            running: AtomicU64::new(0),
        }
    }
}

impl Queries {
    /// A statement has ended so; for those that never began to run.
    pub fn count(&self, outcome: QueryOutcome) {
        let place = OUTCOMES.iter().position(|(known, _)| *known == outcome);
        if let Some(count) = place.and_then(|place| self.outcomes.get(place)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// A query begins.
    pub fn begin(self: &Arc<Self>) -> RunningQuery {
        self.running.fetch_add(1, Relaxed);
        RunningQuery { of: self.clone(), begun: Instant::now(), outcome: QueryOutcome::Cancelled }
    }

    pub(super) fn families(&self) -> Vec<Family> {
        let mut queries = Family::counter("query_queries", "Queries in SQL that have ended, by outcome");
        for ((_, name), count) in OUTCOMES.iter().zip(&self.outcomes) {
            queries.push(vec![("outcome", (*name).to_owned())], count.load(Relaxed));
        }
        let mut seconds = Family::histogram("query_seconds", "Time to the last row of a query");
        seconds.push_micros(Vec::new(), self.micros.read());
        let rows = Family::counter("query_rows", "Rows that queries gave").of(self.rows.load(Relaxed));
        let running =
            Family::gauge("query_running_queries", "Queries under way that came in through this node");
        vec![queries, seconds, rows, running.of(self.running.load(Relaxed))]
    }
}

/// A query under way. One that is let go of before it has ended was cancelled.
pub struct RunningQuery {
    of: Arc<Queries>,
    begun: Instant,
    outcome: QueryOutcome,
}

impl RunningQuery {
    /// It gave rows.
    pub fn rows(&self, rows: u64) {
        self.of.rows.fetch_add(rows, Relaxed);
    }

    /// It has ended.
    pub fn ended(mut self, outcome: QueryOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        self.of.running.fetch_sub(1, Relaxed);
        self.of.micros.observe(u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.of.count(self.outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_let_go_of_was_cancelled() {
        let queries = Arc::new(Queries::default());
        let (one, two) = (queries.begin(), queries.begin());
        one.rows(5);
        one.ended(QueryOutcome::Answered);
        queries.count(QueryOutcome::Refused);
        assert_eq!((queries.running.load(Relaxed), queries.rows.load(Relaxed)), (1, 5));
        drop(two);
        let counts: Vec<u64> = queries.outcomes.iter().map(|count| count.load(Relaxed)).collect();
        assert_eq!((counts, queries.running.load(Relaxed)), (vec![1, 1, 0, 1, 0], 0));
    }
}
