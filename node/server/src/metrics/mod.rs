//! What is counted and measured of a node, as text for whoever scrapes `/metrics`.
//!
//! **What it promises.** Names begin with `isthmus_`, units come last, counters end in `_total`. Labels are few and
//! bounded: methods are those of the interface, routes those of the HTTP port, sources the first 64 that were met. No
//! label holds anything that a customer or sender said. `deploy/metrics.md` describes each metric; a test compares.
//!
//! **How.** What happens on the way of calls and events is added to counters that were looked up before ([`calls`],
//! [`requests`], [`sources`]; histograms of the raft and shard crates). What merely *is* gets read when it is asked for
//! ([`Levels`], by [`raft`] and [`node`]). Both become [`family::Family`]s, which `prometheus-client` writes ([`text`]).
//!
//! **What it leaves out.** Streams' messages: a stream counts as one call.

mod calls;
mod family;
mod node;
mod queries;
mod raft;
mod requests;
mod sources;
mod text;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use isthmus_proto::v1::ItemOutcome;

pub use self::{
    calls::{Calls, InFlight, name as code_name},
    node::{Levels, LogLevels},
    queries::{Queries, QueryOutcome, RunningQuery},
    requests::{Requests, usual},
    sources::{Sources, Tally},
    text::Format,
};
use crate::traces::SpanCounts;

/// What is counted as it happens.
#[derive(Default)]
pub struct Metrics {
    /// Clients' gRPC calls.
    pub calls: Calls,
    /// HTTP requests.
    pub requests: Requests,
    /// Items of batches, by source.
    pub sources: Sources,
    /// Queries in SQL.
    pub queries: Arc<Queries>,
    /// Changes that were handed to watchers.
    pub watched_changes: AtomicU64,
}

impl Metrics {
    /// All metrics as text.
    ///
    /// # Errors
    /// The formatter's, which a string has none of.
    pub fn text(&self, levels: &Levels, spans: SpanCounts, format: Format) -> Result<String, fmt::Error> {
        let mut families = self.calls.families();
        families.extend(self.requests.families());
        families.extend(self.sources.families(&levels.freshness));
        families.extend(self.queries.families());
        families.extend(raft::families(levels));
        families.extend(node::families(levels, &self.watched_changes));
        families.extend(node::span_families(spans));
        text::write(families, format)
    }
}

/// The labels of outcomes, by number.
const OUTCOMES: [&str; 6] =
    ["unspecified", "accepted", "duplicate", "quarantined", "rejected", "outcome_unknown"];

/// The number of an outcome among [`OUTCOMES`].
fn outcome_number(outcome: ItemOutcome) -> usize {
    usize::try_from(i32::from(outcome)).ok().filter(|number| *number < OUTCOMES.len()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;

    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::default();
        let call = metrics.calls.begin("/isthmus.v1.IngestService/Ingest");
        call.timed(Duration::from_millis(2));
        call.ended(Code::Ok);
        metrics.calls.begin("/made/up").ended(Code::Unimplemented);
        let under_way = metrics.calls.begin("/grpc.health.v1.Health/Check");
        metrics.requests.begin(Some("/v1/batch"), "POST").answered(503, Duration::from_millis(2));
        let mut tally = Tally::default();
        tally.note(ItemOutcome::Duplicate);
        metrics.sources.of("web").add(&tally);
        let levels = Levels { view_version: 7, ..Levels::default() };
        let text = metrics.text(&levels, SpanCounts::default(), Format::Prometheus).unwrap();
        for line in [
            r#"isthmus_grpc_calls_total{method="/isthmus.v1.IngestService/Ingest",code="OK"} 1"#,
            r#"isthmus_grpc_calls_total{method="(other)",code="UNIMPLEMENTED"} 1"#,
            r#"isthmus_grpc_call_seconds_bucket{le="0.0032",method="/isthmus.v1.IngestService/Ingest"} 1"#,
            r#"isthmus_grpc_in_flight_calls{method="/grpc.health.v1.Health/Check"} 1"#,
            r#"isthmus_grpc_in_flight_calls{method="/isthmus.v1.IngestService/Ingest"} 0"#,
            r#"isthmus_http_requests_total{route="/v1/batch",method="POST",status="503"} 1"#,
            r#"isthmus_ingest_items_total{source="web",outcome="duplicate"} 1"#,
            r#"isthmus_ingest_items_total{source="web",outcome="accepted"} 0"#,
            "isthmus_view_version 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        drop(under_way);
    }
}
