//! What became of items, by source; and how fresh events were when they took effect.
//!
//! A batch is of one source: it looks the source up once, and its items are counted up before they are added.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use isthmus_proto::v1::ItemOutcome;
use isthmus_raft::HistogramView;
use isthmus_shard::freshness::{OTHER, SOURCES_MAX};
use parking_lot::RwLock;

use super::{OUTCOMES, family::Family, outcome_number};

/// All sources that sent to this node, within [`SOURCES_MAX`].
#[derive(Default)]
pub struct Sources {
    known: RwLock<BTreeMap<Box<str>, Arc<Outcomes>>>,
    other: Arc<Outcomes>,
}

/// What became of a source's items.
#[derive(Default)]
pub struct Outcomes([AtomicU64; OUTCOMES.len()]);

/// What became of a batch's items.
#[derive(Default)]
pub struct Tally([u64; OUTCOMES.len()]);

impl Tally {
    /// Counts an item.
    pub fn note(&mut self, outcome: ItemOutcome) {
        self.0[outcome_number(outcome)] += 1;
    }
}

impl Outcomes {
    /// Adds a batch's.
    pub fn add(&self, tally: &Tally) {
        for (all, more) in self.0.iter().zip(tally.0).filter(|(_, more)| *more > 0) {
            all.fetch_add(more, Relaxed);
        }
    }
}

impl Sources {
    /// The counters of a source.
    pub fn of(&self, source: &str) -> Arc<Outcomes> {
        if let Some(known) = self.known.read().get(source) {
            return known.clone();
        }
        let mut known = self.known.write();
        if known.len() >= SOURCES_MAX && !known.contains_key(source) {
            return self.other.clone();
        }
        known.entry(source.into()).or_default().clone()
    }

    pub(super) fn families(&self, freshness: &[(String, HistogramView)]) -> Vec<Family> {
        let mut items =
            Family::counter("ingest_items", "Items of batches that this node took, by source and outcome");
        let known = self.known.read();
        let all = known.iter().map(|(source, outcomes)| (&**source, outcomes));
        for (source, outcomes) in all.chain((known.len() >= SOURCES_MAX).then_some((OTHER, &self.other))) {
            for (outcome, count) in OUTCOMES.iter().zip(&outcomes.0).skip(1) {
                let labels = vec![("source", source.to_owned()), ("outcome", (*outcome).to_owned())];
                items.push(labels, count.load(Relaxed));
            }
        }
        let mut fresh = Family::histogram(
            "ingest_freshness_seconds",
            "From an event's own time to its application, at the leader, by source",
        );
        for (source, view) in freshness {
            fresh.push_micros(vec![("source", source.clone())], view.clone());
        }
        vec![items, fresh]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_beyond_the_bound_count_together() {
        let sources = Sources::default();
        let mut tally = Tally::default();
        tally.note(ItemOutcome::Accepted);
        for number in 0..SOURCES_MAX + 2 {
            sources.of(&format!("source-{number}")).add(&tally);
        }
        let items = &sources.families(&[])[0];
        let of = |source: &str| {
            let labels = [("source", source.to_owned()), ("outcome", "accepted".to_owned())];
            items.samples.iter().find(|(found, _)| *found == labels).map(|(_, value)| value.clone())
        };
        assert_eq!(of(OTHER), Some(super::super::family::Value::Whole(2)));
        assert_eq!(of("source-64"), None);
    }
}
