//! When to cut the log.
//!
//! Never past what the state machine has made durable: what is cut is gone, and a restart would skip it silently.
//! Behind that, entries stay for peers that lag, within a budget of bytes: it is cheaper to send a few megabytes of
//! log than a snapshot. A leader knows who lags; a follower keeps the budget's worth in case it leads tomorrow.

use isthmus_storage::log::EntryId;
use raft::Storage as _;

use super::{Core, Tokens};

/// With this much to drop, a compaction is worth its write even if it drops few entries.
const COMPACT_BYTES_MIN: u64 = 4 << 20;

impl<T: Tokens> Core<T> {
    /// The log is short of space: cut all that is durable, whether or not a peer lags.
    pub fn compact_now(&mut self) {
        self.compact_now = true;
        self.compact_if_due();
    }

    pub(super) fn compact_if_due(&mut self) {
        if self.installing.is_some() || self.making_snapshot {
            return;
        }
        let store = self.raw.store();
        let base = store.base().index;
        // The durable index may be ahead of the log for a moment, after a snapshot's installation.
        let limit = self.durable.min(self.raw.raft.raft_log.applied);
        let mut target = if self.compact_now { limit } else { limit.min(self.keep_from(limit)) };
        if let Some((index, asked)) = store.offered()
            && self.tick.saturating_sub(asked) <= self.limits.snapshot_keep_ticks
        {
            // A peer that installs this snapshot goes on with the entries after it.
            target = target.min(index);
        }
        if target <= base {
            self.compact_now = false;
            return;
        }
        let worth = self.compact_now
            || target - base >= self.limits.compact_entries_min
            || store.bytes_up_to(target) >= COMPACT_BYTES_MIN;
        if !worth {
            return;
        }
        self.compact_now = false;
        // An unknown term can only mean that the log is being replaced: then this is moot.
        let Ok(term) = store.term(target) else { return };
        let base = EntryId { index: target, term };
        self.raw.mut_store().compacted(base);
        self.out.compact = Some(base);
    }

    /// Entries after this index stay for peers that lag.
    fn keep_from(&self, limit: u64) -> u64 {
        let budget = self.raw.store().index_with_bytes_behind(self.limits.log_keep_bytes);
        if !self.is_leader() {
            return budget;
        }
        let lagging = self.raw.raft.prs().iter().map(|(_, peer)| peer.matched).min();
        budget.max(lagging.unwrap_or(limit))
    }
}
