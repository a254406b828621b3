//! What a node as a whole holds: replicas, memory, disk, links to other nodes, watchers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use isthmus_raft::{GroupMeasures, HistogramView};
use isthmus_shard::Waiting;

use super::family::Family;
pub use super::raft::LogLevels;
use crate::{traces::SpanCounts, version::VERSION};

/// What is measured when it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Levels {
    /// The Raft groups that are open on this node.
    pub groups: Vec<GroupMeasures>,
    /// What waits for each open shard.
    pub shards: Vec<(u64, Waiting)>,
    /// The log that the groups share.
    pub log: LogLevels,
    /// How fresh events were, by source, in microseconds.
    pub freshness: Vec<(String, HistogramView)>,
    /// By node: calls that wait to be sent there, and bytes of those that wait or have no reply yet.
    pub links: Vec<(u32, usize, usize)>,
    /// Bytes of events that were taken and are not answered.
    pub ingest_bytes: usize,
    /// Replicas of shards that are open on this node.
    pub replicas: usize,
    /// Those of them that lead.
    pub leaders: usize,
    /// Bytes in active memtables.
    pub memtable_active_bytes: u64,
    /// Bytes in memtables that are being written out.
    pub memtable_frozen_bytes: u64,
    /// Bytes of log that a restart would replay.
    pub replay_bytes: u64,
    /// Bytes in caches, by name.
    pub caches: Vec<(&'static str, u64)>,
    /// Resident memory of the process; `None`: not known.
    pub resident_bytes: Option<u64>,
    /// Free and total bytes of the file system of the data; `None`: not known.
    pub disk: Option<(u64, u64)>,
    /// Bytes that the data takes, by part.
    pub disk_used: Vec<(&'static str, u64)>,
    /// Quarantine entries that this node's open replicas deleted at the end of their retention.
    pub quarantine_expired: u64,
    /// Facets that segments know on this node, and bytes that their states take in memory, about.
    pub segment_states: (u64, u64),
    /// How far the evaluator of segments that is most behind is behind, in microseconds.
    pub segment_lag_micros: u64,
    /// How often one began anew since something failed.
    pub segment_failures: u64,
    /// Version of the view that this node has.
    pub view_version: u64,
    /// Streams of changes.
    pub watch_streams: usize,
    /// How far the one that is most behind is behind, in microseconds.
    pub watch_lag_micros: u64,
    /// When the node started, microseconds since 1970.
    pub started_micros: i64,
}

pub(super) fn families(levels: &Levels, watched_changes: &AtomicU64) -> Vec<Family> {
    let gauge = |name, help, value: u64| Family::gauge(name, help).of(value);
    let mut build = Family::gauge("build_info", "1 with the version of the program in its label");
    build.push(vec![("version", VERSION.to_owned())], 1);
    let seconds = |micros: i64| micros as f64 / 1e6;
    let lag = |micros: u64| seconds(i64::try_from(micros).unwrap_or(i64::MAX));
    let mut all = vec![
        build,
        Family::gauge("start_time_seconds", "When the node started, in seconds since 1970")
            .of_seconds(seconds(levels.started_micros)),
        gauge("view_version", "Version of the cluster's view that this node has", levels.view_version),
        gauge("shard_replicas", "Replicas of shards that are open on this node", levels.replicas as u64),
        gauge("shard_leaders", "Replicas of shards on this node that lead", levels.leaders as u64),
        gauge(
            "ingest_in_flight_bytes",
            "Bytes of events taken and not answered yet",
            levels.ingest_bytes as u64,
        ),
        Family::counter("quarantine_expired", "Quarantine entries deleted at the end of their retention")
            .of(levels.quarantine_expired),
        gauge("segment_facets", "Facets whose states segments keep in memory", levels.segment_states.0),
        gauge(
            "segment_state_bytes",
            "Memory that these states take, judged by some of them",
            levels.segment_states.1,
        ),
        Family::gauge(
            "segment_lag_seconds",
            "How far whoever evaluates segments and is most behind is behind what was applied",
        )
        .of_seconds(lag(levels.segment_lag_micros)),
        Family::counter("segment_failures", "Evaluators of segments that began anew since something failed")
            .of(levels.segment_failures),
        gauge("watch_streams", "Streams of changes that are open", levels.watch_streams as u64),
        Family::gauge("watch_lag_seconds", "How far the stream of changes that is most behind is behind")
            .of_seconds(lag(levels.watch_lag_micros)),
        Family::counter("watch_changes", "Changes handed to streams of changes")
            .of(watched_changes.load(Relaxed)),
    ];
    all.extend(links(&levels.links));
    all.extend(memory(levels));
    all.extend(disk(levels));
    all
}

fn links(links: &[(u32, usize, usize)]) -> [Family; 2] {
    let mut calls = Family::gauge("link_waiting_calls", "Calls that wait to be sent to another node");
    let mut bytes =
        Family::gauge("link_in_flight_bytes", "Bytes of calls to another node that are not answered");
    for (node, waiting, open) in links {
        let labels = || vec![("node", node.to_string())];
        calls.push(labels(), *waiting as u64);
        bytes.push(labels(), *open as u64);
    }
    [calls, bytes]
}

fn memory(levels: &Levels) -> Vec<Family> {
    let mut resident = Family::gauge("memory_resident_bytes", "Resident memory of the process");
    if let Some(bytes) = levels.resident_bytes {
        resident = resident.of(bytes);
    }
    let mut caches = Family::gauge("cache_bytes", "Bytes in a cache");
    for (cache, bytes) in &levels.caches {
        caches.push(vec![("cache", (*cache).to_owned())], *bytes);
    }
    vec![
        resident,
        Family::gauge("memtable_active_bytes", "Rows in memory, not written out")
            .of(levels.memtable_active_bytes),
        Family::gauge("memtable_frozen_bytes", "Rows in memory, being written out")
            .of(levels.memtable_frozen_bytes),
        Family::gauge("replay_bytes", "Log that a restart would replay").of(levels.replay_bytes),
        caches,
    ]
}

fn disk(levels: &Levels) -> [Family; 3] {
    let mut free =
        Family::gauge("disk_free_bytes", "What may still be written to the file system of the data");
    let mut size = Family::gauge("disk_size_bytes", "Size of the file system of the data");
    if let Some((free_bytes, size_bytes)) = levels.disk {
        (free, size) = (free.of(free_bytes), size.of(size_bytes));
    }
    let mut used = Family::gauge("disk_used_bytes", "What the node's data takes on the disk, by part");
    for (part, bytes) in &levels.disk_used {
        used.push(vec![("part", (*part).to_owned())], *bytes);
    }
    [free, size, used]
}

/// What became of recorded spans.
pub(super) fn span_families(spans: SpanCounts) -> [Family; 1] {
    let mut family = Family::counter("trace_spans", "Recorded spans, by what became of them");
    let SpanCounts { exported, failed, dropped } = spans;
    for (result, count) in [("exported", exported), ("failed", failed), ("dropped", dropped)] {
        family.push(vec![("result", result.to_owned())], count);
    }
    [family]
}
