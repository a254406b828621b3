//! What can be tuned, with safe values by default.
//!
//! raft-rs's own defaults are unsafe in production (no limit to uncommitted bytes, one entry a message, no
//! pre-vote, no check of the quorum); these aren't.

use std::{path::PathBuf, time::Duration};

use crate::{Error, types::PeerId};

/// Options of a node's groups. One set for all groups of a node.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node's id, the upper half of its peers' ids. Not zero.
    pub node: u32,
    /// Tasks that groups are dealt out to. A driver gives its groups turns one after the other and sends and writes
    /// for all of them at once, so fewer drivers mean larger batches.
    pub drivers: usize,
    /// Length of a tick. 50 ms: a dead leader is replaced within 2 s.
    pub tick: Duration,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Ticks without a leader before an election; Raft draws from one to two times that.
    pub election_ticks: usize,
    /// Fixes the election timeout to this many ticks instead of drawing it, so that a simulation repeats.
    pub election_ticks_fixed: Option<usize>,
    /// Largest append message, and the largest proposal, in bytes.
    pub message_bytes_max: usize,
    /// Append messages on their way to a follower at a time.
    pub inflight_messages_max: usize,
    /// Proposed and not committed bytes per group; more is refused as overload.
    pub uncommitted_bytes_max: usize,
    /// Committed entries handed over at a time, in bytes.
    pub committed_bytes_per_ready_max: usize,
    /// Bytes per group that are committed and not applied, or received and not synced. Above it a leader refuses
    /// proposals and a follower drops entries, which the leader sends again.
    pub backlog_bytes_max: usize,
    /// Entries per batch that is applied at a time.
    pub apply_batch_entries_max: usize,
    /// Client requests that wait in a group's mailbox.
    pub mail_max: usize,
    /// Bytes of proposals that wait in a group's mailbox.
    pub mail_bytes_max: usize,
    /// Peers' messages that wait in a group's mailbox; more are dropped, Raft sends them again.
    pub peer_messages_max: usize,
    /// Bytes of peers' messages that wait in a group's mailbox.
    pub peer_bytes_max: usize,
    /// Recent entries kept in memory per group, in bytes, so that replication and apply don't read the disk.
    pub cache_bytes_max: usize,
    /// Entries behind the durable index that stay in the log for followers that lag, in bytes per group.
    pub log_keep_bytes: u64,
    /// The log is compacted when that drops at least this many entries.
    pub compact_entries_min: u64,
    /// Ticks after which a read round that got no answer is tried again.
    pub read_retry_ticks: u64,
    /// After this time a transfer of a snapshot counts as failed.
    pub snapshot_timeout: Duration,
    /// Snapshots a node sends at a time; more wait.
    pub snapshot_sends_max: usize,
    /// Ticks for which a snapshot that nobody fetches is kept for the next peer.
    pub snapshot_keep_ticks: u64,
    /// Where incoming snapshots are staged: on the same file system as the state machines' files.
    pub staging_dir: PathBuf,
}

impl Options {
    /// Safe values for a node. Snapshots are staged in `staging_dir`, which is emptied at the start.
    pub fn new(node: u32, staging_dir: impl Into<PathBuf>) -> Self {
        const MIB: usize = 1 << 20;
        Self {
            node,
            // A quarter of the processors may be busy with turns; the rest applies and talks to clients.
            drivers: std::thread::available_parallelism()
                .map_or(1, |processors| (processors.get() / 4).clamp(1, 8)),
            tick: Duration::from_millis(50),
            heartbeat_ticks: 2,
            election_ticks: 10,
            election_ticks_fixed: None,
            message_bytes_max: MIB,
            inflight_messages_max: 256,
            uncommitted_bytes_max: 32 * MIB,
            committed_bytes_per_ready_max: 4 * MIB,
            backlog_bytes_max: 32 * MIB,
            apply_batch_entries_max: 256,
            mail_max: 4096,
            mail_bytes_max: 16 * MIB,
            peer_messages_max: 4096,
            peer_bytes_max: 32 * MIB,
            cache_bytes_max: 2 * MIB,
            log_keep_bytes: 16 * MIB as u64,
            compact_entries_min: 1024,
            read_retry_ticks: 6,
            snapshot_timeout: Duration::from_secs(600),
            snapshot_sends_max: 2,
            snapshot_keep_ticks: 1200,
            staging_dir: staging_dir.into(),
        }
    }

    /// Refuses values that contradict each other.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |reason| Err(Error::Invalid { reason });
        if self.node == 0 {
            return invalid("node id 0");
        }
        if self.tick.is_zero() {
            return invalid("a tick of no length");
        }
        if self.heartbeat_ticks == 0 || self.election_ticks <= self.heartbeat_ticks {
            return invalid("an election timeout not above the heartbeat interval");
        }
        if self.election_ticks_fixed.is_some_and(|ticks| ticks < self.election_ticks) {
            return invalid("a fixed election timeout below the election timeout");
        }
        if self.uncommitted_bytes_max < self.message_bytes_max || self.message_bytes_max == 0 {
            return invalid("fewer uncommitted bytes than a message may have");
        }
        let counts = [
            self.drivers,
            self.inflight_messages_max,
            self.apply_batch_entries_max,
            self.mail_max,
            self.peer_messages_max,
            self.snapshot_sends_max,
        ];
        if counts.contains(&0) || self.mail_bytes_max < self.message_bytes_max {
            return invalid("a queue that holds nothing");
        }
        Ok(())
    }

    /// raft-rs's configuration for one peer whose state machine has applied `applied`.
    pub(crate) fn raft(&self, peer: PeerId, applied: u64) -> raft::Config {
        let mut config = raft::Config::new(peer.0);
        config.applied = applied;
        config.election_tick = self.election_ticks;
        config.heartbeat_tick = self.heartbeat_ticks;
        if let Some(ticks) = self.election_ticks_fixed {
            config.min_election_tick = ticks;
            config.max_election_tick = ticks + 1;
        }
        config.max_size_per_msg = self.message_bytes_max as u64;
        config.max_inflight_msgs = self.inflight_messages_max;
        config.max_uncommitted_size = self.uncommitted_bytes_max as u64;
        config.max_committed_size_per_ready = self.committed_bytes_per_ready_max as u64;
        config.pre_vote = true;
        config.check_quorum = true;
        // A follower hears of a commit with the next entries, heartbeat or read round, not by a message of its own (and
        // an answer to it). It applies up to a heartbeat later for that; a read barrier there brings the commit along.
        config.skip_bcast_commit = true;
        // Merging appends to a peer would ignore `max_size_per_msg`.
        config.batch_append = false;
        // `Safe` alone: raft-rs's `LeaseBased` checks no lease.
        config.read_only_option = raft::ReadOnlyOption::Safe;
        config
    }
}
