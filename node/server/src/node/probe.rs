//! What a node's HTTP port tells of it: whether it can serve, and what it holds.

use std::{os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use isthmus_raft::{LogMeasures, RaftNode};
use isthmus_shard::{Freshness, Keeper};
use isthmus_storage::{format::DataDir, runs::FileRuns};
use tokio_util::sync::CancellationToken;

use super::{host::Shards, serving::unready};
use crate::{
    grpc::hub::Hub,
    http::Probe,
    metrics::{Levels, LogLevels},
};

/// What is looked at.
#[derive(Clone)]
pub(super) struct Observed {
    pub(super) raft: RaftNode,
    pub(super) shards: Shards,
    pub(super) keeper: Keeper,
    pub(super) runs: Arc<FileRuns>,
    pub(super) freshness: Arc<Freshness>,
    pub(super) dir: Arc<DataDir>,
    pub(super) segments: isthmus_segmenter::Gauges,
}

/// See the [module](self).
pub(super) struct NodeProbe {
    pub(super) hub: Arc<Hub>,
    pub(super) observed: Observed,
    /// Cancelled when clients are served no more.
    pub(super) stop: CancellationToken,
}

impl Probe for NodeProbe {
    fn unready(&self) -> Option<String> {
        if self.stop.is_cancelled() { Some("it is stopping".to_owned()) } else { unready(&self.hub) }
    }

    fn levels(&self) -> Levels {
        let (hub, Observed { raft, shards, keeper, runs, freshness, dir, segments }) =
            (&self.hub, &self.observed);
        let shards = shards.all();
        let (memtable_active_bytes, memtable_frozen_bytes, replay_bytes) = keeper.totals();
        let (log, waiting_jobs) = raft.log_measures();
        let facets = shards.iter().map(|shard| shard.cached_bytes()).sum();
        let parts = [("log", dir.log_dir()), ("runs", dir.runs_dir()), ("control", dir.control_dir())];
        Levels {
            groups: raft.measures(),
            shards: shards.iter().map(|shard| (shard.shard(), shard.waiting())).collect(),
            log: log_levels(log, waiting_jobs),
            freshness: freshness.read(),
            links: hub.router.waiting_calls(),
            ingest_bytes: hub.router.ingest_bytes(),
            replicas: shards.len(),
            leaders: shards.iter().filter(|shard| shard.leadership().is_leader).count(),
            memtable_active_bytes,
            memtable_frozen_bytes,
            replay_bytes,
            caches: vec![
                ("runs", runs.cached_bytes()),
                ("facets", facets),
                ("query_columns", keeper.hot_bytes()),
            ],
            resident_bytes: resident_bytes(),
            disk: dir.space().ok().map(|space| (space.free_bytes, space.total_bytes)),
            disk_used: parts.map(|(part, path)| (part, used_bytes(&path))).into(),
            quarantine_expired: shards.iter().map(|shard| shard.expired_entries()).sum(),
            segment_states: segments.states(),
            segment_lag_micros: segments.lag_micros(hub.clock.now_micros()),
            segment_failures: segments.failures(),
            view_version: hub.view().version,
            watch_streams: hub.watchers.open(),
            watch_lag_micros: hub.watchers.lag_micros(hub.clock.now_micros()),
            started_micros: hub.started_micros,
        }
    }
}

fn log_levels(log: &LogMeasures, waiting_jobs: usize) -> LogLevels {
    LogLevels {
        sync_micros: log.sync_micros.read(),
        entries: log.entries.read(),
        groups: log.groups.read(),
        written_bytes: log.written_bytes.load(std::sync::atomic::Ordering::Relaxed),
        waiting_jobs,
    }
}

/// The process's resident memory, as the kernel tells it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The blocks that the files in a directory take. What is removed meanwhile, or can't be looked at, counts as nothing.
fn used_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => used_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_understood() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("inner")).unwrap();
        std::fs::write(dir.path().join("inner/file"), vec![7; 100_000]).unwrap();
        assert!(used_bytes(dir.path()) >= 100_000);
        assert_eq!(used_bytes(&dir.path().join("none")), 0);
    }
}
