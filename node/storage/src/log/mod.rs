//! # The Raft log of a node: entries and hard states of all its groups
//!
//! A [`Log`] is the only thing on the commit path. One [`Log::write`] carries what all groups of the node have to
//! persist in a round, and returns when it is durable: one sync a round, no matter how many groups there are.
//!
//! ## What it promises
//!
//! 1. *Durable on return.* What `write`, `compact` and `remove` did survives a power cut once they return.
//! 2. *A round is atomic.* After a crash all of a `write` is there or none of it, and no later one without all
//!    earlier ones. So hard state, entries and base of a group always fit each other.
//! 3. *No hole.* Entries of a group are consecutive from `base + 1` to `last`. A write may replace a suffix; one that
//!    would leave a hole or reach into what is compacted is refused, and nothing is written.
//! 4. *Damage is found.* A record that is torn at the very end, as a crash leaves it, is cut off: it was never
//!    acknowledged. Damage anywhere else refuses to open and says where.
//! 5. *Errors end the process.* A failed write or sync is [`Error::Fatal`](crate::Error::Fatal); from then on the log
//!    refuses every change, and the caller aborts. It is never retried, since the page cache may have dropped what it
//!    could not write.
//!
//! ## How it works
//!
//! [`GroupState`] is the pure part, shared by the engines: it decides what a write does to a group (base, last index,
//! the terms of all entries as runs, hard state), and is stored as one small record beside the entries of each write.
//! So `state` and `term` never read the disk. [`EngineLog`] keeps it all in raft-engine, [`MemoryLog`] in memory,
//! where it can also lose what was not synced.
//!
//! ## What it leaves out
//!
//! - It is no cache: `entries` reads from the disk; whoever sends or applies recent entries keeps them in memory.
//! - A flipped bit in the *last* record cannot be told from a torn one, so it is cut off too.
//! - Raft's own rules (terms never fall, commit <= last) are the caller's.
//!
//! ## Fail points
//!
//! `storage::log::write` makes a write fail as with EIO. `storage::log::sync` skips the sync and acknowledges all the
//! same: the guard of promise 1 switched off. [`MemoryLog::crash`] then loses acknowledged entries.

mod engine;
mod group;
mod memory;
mod reader;
mod scan;

use raft::eraftpb::{Entry, HardState};

pub use self::engine::{EngineLog, EngineLogOptions};
pub use self::group::GroupState;
pub use self::memory::MemoryLog;
use crate::{GroupId, Result};

/// The most entries that one [`Log::entries`] returns.
pub const ENTRIES_MAX: u64 = 65_536;

/// Index and term of an entry. They name an entry for ever: Raft's log matching property.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The position in the log; the first entry is 1.
    pub index: u64,
    /// The term of the leader that proposed it.
    pub term: u64,
}

/// What is in the log of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogState {
    /// The entry before the first one that is kept: compacted, or covered by a snapshot. Index 0: nothing is gone.
    pub base: EntryId,
    /// The last entry; equals `base` when there is none.
    pub last: EntryId,
    /// The hard state written last.
    pub hard_state: HardState,
}

/// What one group has to persist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupWrite {
    /// The group.
    pub group: GroupId,
    /// Forget all entries first, and let the log begin after this one: a snapshot was installed.
    pub reset: Option<EntryId>,
    /// Consecutive entries. They replace what is there from the first one's index on; the first index is more than
    /// the base's, and at most one more than the last one's.
    pub entries: Vec<Entry>,
    /// The new hard state; `None` leaves it as it is.
    pub hard_state: Option<HardState>,
}

/// The Raft log of all groups of a node. All calls block; any thread may call any of them. See the [module](self).
pub trait Log: Send + Sync + 'static {
    /// The groups that have anything in the log, in rising order.
    fn groups(&self) -> Vec<GroupId>;

    /// What is in the log of a group; `None` when nothing was ever written, or it was removed.
    fn state(&self, group: GroupId) -> Result<Option<LogState>>;

    /// Writes and syncs, for all groups at once. A group may be named more than once: its writes take effect in
    /// their order. An empty list does nothing.
    ///
    /// # Errors
    /// [`Error::Fatal`](crate::Error::Fatal) when it could not be written or synced: the caller ends the process.
    /// [`Error::Refused`](crate::Error::Refused) when a write leaves a hole or reaches into what is compacted:
    /// nothing was written.
    fn write(&self, writes: &[GroupWrite]) -> Result<()>;

    /// The entries from `low` on, without `high`: as many as fit in `max_bytes` (of encoded entries) and
    /// [`ENTRIES_MAX`], but at least one if the range has any.
    ///
    /// # Errors
    /// [`Error::Compacted`](crate::Error::Compacted) when `low` is not after the base,
    /// [`Error::NotFound`](crate::Error::NotFound) when `high` is more than one after the last,
    /// [`Error::Corrupt`](crate::Error::Corrupt) when what is stored fails its checksum.
    fn entries(&self, group: GroupId, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>>;

    /// The term of an entry, or of the base. Never reads the disk.
    ///
    /// # Errors
    /// [`Error::Compacted`](crate::Error::Compacted) before the base, [`Error::NotFound`](crate::Error::NotFound)
    /// after the last.
    fn term(&self, group: GroupId, index: u64) -> Result<u64>;

    /// Drops the entries up to and with `base`, durably. Older than the present base: does nothing.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) when `base` is not an entry of the log;
    /// [`Error::Fatal`](crate::Error::Fatal) as for [`Log::write`].
    fn compact(&self, group: GroupId, base: EntryId) -> Result<()>;

    /// Forgets a group, durably. Does nothing when there is none.
    fn remove(&self, group: GroupId) -> Result<()>;

    /// Gives the space of dropped entries back to the file system; to be called now and then. Returns the groups
    /// whose old entries hold the most back: they should be written out and compacted.
    fn purge(&self) -> Result<Vec<GroupId>>;

    /// The bytes of the log on disk, dropped entries that are not yet purged included.
    fn bytes(&self) -> u64;
}

/// Whether a test has switched the sync off.
fn sync_is_skipped() -> bool {
    fail::fail_point!("storage::log::sync", |_| true);
    false
}

/// The injected write error of a test.
fn injected_write_error() -> Result<()> {
    fail::fail_point!("storage::log::write", |_| Err(crate::Error::Fatal {
        action: "writing the log",
        reason: "injected: input/output error".into(),
    }));
    Ok(())
}
