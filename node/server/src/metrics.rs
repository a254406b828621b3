//! What is counted, in the text format of OpenMetrics, for whoever scrapes `/metrics`.
//!
//! Names begin with `isthmus_`, units come last. Labels are few and fixed: methods are those that exist, outcomes and
//! codes those of the interface. No label holds anything that a customer or sender said. Gauges are set when they are
//! asked for.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use isthmus_proto::v1::ItemOutcome;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tonic::Code;

/// The methods of the public package, and of the standard services.
const METHODS: [&str; 26] = [
    "/isthmus.v1.IngestService/Ingest",
    "/isthmus.v1.ProfileService/Get",
    "/isthmus.v1.ProfileService/BatchGet",
    "/isthmus.v1.ProfileService/List",
    "/isthmus.v1.ProfileService/Timeline",
    "/isthmus.v1.ProfileService/Watch",
    "/isthmus.v1.SourceService/Create",
    "/isthmus.v1.SourceService/List",
    "/isthmus.v1.SourceService/Disable",
    "/isthmus.v1.SourceService/Rotate",
    "/isthmus.v1.QuarantineService/List",
    "/isthmus.v1.QuarantineService/Show",
    "/isthmus.v1.QuarantineService/Counts",
    "/isthmus.v1.QuarantineService/Mend",
    "/isthmus.v1.QuarantineService/Replay",
    "/isthmus.v1.QuarantineService/Drop",
    "/isthmus.v1.QualityService/Report",
    "/isthmus.v1.ClusterService/Status",
    "/isthmus.v1.ClusterService/Nodes",
    "/isthmus.v1.ClusterService/Shards",
    "/isthmus.v1.ClusterService/Transfer",
    "/isthmus.v1.ClusterService/Remove",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Method {
    method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// What is measured when it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Replicas of shards that are open on this node.
    pub replicas: u64,
    /// Those of them that lead.
    pub leaders: u64,
    /// Messages that wait in their outboxes.
    pub outbox_messages: u64,
    /// Bytes in active memtables.
    pub memtable_active_bytes: u64,
    /// Bytes in memtables that are being written out.
    pub memtable_frozen_bytes: u64,
    /// Bytes of log that a restart would replay.
    pub replay_bytes: u64,
    /// What may still be written to the file system of the data.
    pub disk_free_bytes: u64,
    /// Quarantine entries that this node's open replicas deleted at the end of their retention.
    pub quarantine_expired: u64,
    /// Version of the view that this node has.
    pub view_version: u64,
}

/// A node's metrics.
pub struct Metrics {
    registry: Registry,
    calls: Family<Call, Counter>,
    durations: Family<Method, Histogram, fn() -> Histogram>,
    items: [Counter; 6],
    gauges: [Gauge<u64, AtomicU64>; 8],
    quarantine_expired: Counter,
}

fn durations() -> Histogram {
    // 100 µs to 13 s, each twice the one before.
    Histogram::new((0..18).map(|power| 0.0001 * f64::from(1 << power)))
}

impl Metrics {
    /// Metrics that begin at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("isthmus");
        let calls = Family::<Call, Counter>::default();
        registry.register("grpc_calls", "Clients' calls, by method and code", calls.clone());
        let seconds = Family::<Method, Histogram, fn() -> Histogram>::new_with_constructor(durations);
        registry.register_with_unit(
            "grpc_call",
            "Time to the answer's beginning",
            Unit::Seconds,
            seconds.clone(),
        );
        let family = Family::<Outcome, Counter>::default();
        registry.register("ingest_items", "Items of batches, by outcome", family.clone());
        let items = ["unspecified", "accepted", "duplicate", "quarantined", "rejected", "outcome_unknown"]
            .map(|outcome| family.get_or_create_owned(&Outcome { outcome }));
        let gauges = [
            ("shard_replicas", "Replicas of shards on this node"),
            ("shard_leaders", "Replicas on this node that lead"),
            ("outbox_messages", "Messages to other shards that wait"),
            ("memtable_active_bytes", "Rows in memory, not written out"),
            ("memtable_frozen_bytes", "Rows in memory, being written out"),
            ("replay_bytes", "Log that a restart would replay"),
            ("disk_free_bytes", "What may still be written"),
            ("view_version", "Version of the cluster's view"),
        ]
        .map(|(name, help)| {
            let gauge = Gauge::<u64, AtomicU64>::default();
            registry.register(name, help, gauge.clone());
            gauge
        });
        let quarantine_expired = Counter::<u64, AtomicU64>::default();
        registry.register(
            "quarantine_expired",
            "Quarantine entries deleted at the end of their retention",
            quarantine_expired.clone(),
        );
        Self { registry, calls, durations: seconds, items, gauges, quarantine_expired }
    }

    /// The label of a path: the method if there is such a one.
    pub fn method(&self, path: &str) -> &'static str {
        METHODS.into_iter().find(|method| *method == path).unwrap_or("other")
    }

    /// Counts a call.
    pub fn called(&self, method: &'static str, code: Code, took: Duration) {
        self.calls.get_or_create(&Call { method, code: name(code) }).inc();
        self.durations.get_or_create(&Method { method }).observe(took.as_secs_f64());
    }

    /// Counts an item of a batch.
    pub fn ingested(&self, outcome: ItemOutcome) {
        let index = usize::try_from(i32::from(outcome)).unwrap_or_default();
        if let Some(counter) = self.items.get(index) {
            counter.inc();
        }
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// The formatter's, which a string has none of.
    pub fn text(&self, levels: Levels) -> Result<String, std::fmt::Error> {
        let values = [
            levels.replicas,
            levels.leaders,
            levels.outbox_messages,
            levels.memtable_active_bytes,
            levels.memtable_frozen_bytes,
            levels.replay_bytes,
            levels.disk_free_bytes,
            levels.view_version,
        ];
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.set(value);
        }
        self.quarantine_expired.inner().store(levels.quarantine_expired, Relaxed);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A code's name as gRPC spells it.
pub fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::new();
        let method = metrics.method("/isthmus.v1.IngestService/Ingest");
        metrics.called(method, Code::Ok, Duration::from_millis(2));
        metrics.called(metrics.method("/made/up"), Code::Unimplemented, Duration::ZERO);
        metrics.ingested(ItemOutcome::Duplicate);
        let text = metrics.text(Levels { leaders: 7, ..Levels::default() }).unwrap();
        for line in [
            r#"isthmus_grpc_calls_total{method="/isthmus.v1.IngestService/Ingest",code="OK"} 1"#,
            r#"isthmus_grpc_calls_total{method="other",code="UNIMPLEMENTED"} 1"#,
            r#"isthmus_ingest_items_total{outcome="duplicate"} 1"#,
            r#"isthmus_ingest_items_total{outcome="accepted"} 0"#,
            "isthmus_shard_leaders 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
