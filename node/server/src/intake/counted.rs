//! What became of items, counted by source: for metrics, and for the console.

use isthmus_proto::v1::ItemOutcome;

use crate::{activity, grpc::hub::Hub, metrics};

/// Items of one source that are told at one moment. What is shared is touched once, at the [end](Counted::end).
pub(super) struct Counted<'a> {
    hub: &'a Hub,
    source: &'a str,
    now: i64,
    outcomes: metrics::Tally,
    activity: activity::Tally,
}

impl<'a> Counted<'a> {
    /// Nothing yet, of a source.
    pub(super) fn new(hub: &'a Hub, source: &'a str) -> Self {
        let now = hub.clock.now_micros();
        Self { hub, source, now, outcomes: metrics::Tally::default(), activity: activity::Tally::default() }
    }

    /// An item that is told what became of it; `happened` is its own time, microseconds since 1970.
    pub(super) fn told(&mut self, outcome: ItemOutcome, happened: Option<i64>) {
        self.outcomes.note(outcome);
        self.activity.add(outcome, happened, self.now);
    }

    /// Adds it to what is counted of the source.
    pub(super) fn end(self) {
        self.hub.metrics.sources.of(self.source).add(&self.outcomes);
        self.hub.activity.add(self.source, &self.activity, self.now);
    }
}
