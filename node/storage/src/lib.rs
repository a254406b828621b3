//! # Storage: what a node keeps on its disk, and how it gets it back
//!
//! Three kinds of data live in a node's directory, each behind a trait of its own, because each is written and read
//! in a way of its own:
//!
//! - [`log`]: the Raft log of all groups of the node. Appended and synced on the commit path: one synced write a
//!   round for all groups together. Engines: [`log::EngineLog`] on raft-engine, [`log::MemoryLog`].
//! - [`control`]: few, small, hot rows in key order: meta rows, manifests, identity records, inbox, outbox. Engines:
//!   [`control::SledControl`] on sled, [`control::MemoryControl`].
//! - [`runs`]: bulk state in sorted immutable files with filters, merged in the background.
//!
//! [`keeper`] joins control rows and runs: it writes a shard's state out atomically with the help of a [`redo`] file,
//! merges runs, exports and installs snapshots. [`mod@format`] owns the directory: versions, identity, the lock.
//!
//! ## What the crate promises
//!
//! 1. What a call reports as durable survives a killed process and a power cut.
//! 2. Damage is found, not guessed around: every record and row is checksummed; what is torn at the end of the log is
//!    cut off, damage anywhere else is [`Error::Corrupt`] and says where.
//! 3. An error of a write or a sync on the commit path is [`Error::Fatal`]: the process has to end. It is never
//!    retried, since after a failed sync nobody knows what the disk holds.
//!
//! ## What it leaves out
//!
//! It knows nothing of customers, shards or Raft's rules: keys, tables and entries are the callers'. It has no clock,
//! starts no task, and encrypts nothing. All calls block: callers run them on a thread that may wait.

pub mod control;
pub mod error;
pub mod format;
pub mod keeper;
pub mod log;
pub mod redo;
pub mod runs;

pub use error::{Error, Result};

/// The number of a Raft group: a shard's, or the metadata group's. Unique in a cluster, never used twice.
pub type GroupId = u64;

/// The number of a *store*: one copy of one shard's state on this node.
///
/// Node-local and never used twice: a snapshot installs into a fresh store, and what is left of the old one is
/// dropped lazily. Store 0 holds the rows of the node itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u32);

impl StoreId {
    /// The store of rows that belong to the node, not to a shard.
    pub const NODE: StoreId = StoreId(0);
}

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "store-{}", self.0)
    }
}
