//! The state machine that a group replicates, and what it exchanges with the group.

use std::{future::Future, path::PathBuf};

use bytes::Bytes;
use raft::eraftpb::ConfState;

use crate::types::{Committed, PeerId, Position};

/// The state machine contradicts itself or its storage failed: the replica stops (not the process). This isn't a
/// way to reject a command: a rejection is an outcome, the same on all replicas.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Broken {
    /// What is wrong, without personal data.
    pub reason: String,
}

impl Broken {
    /// With a reason, without personal data.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// A deterministic state machine. It is owned by the group's apply task, which alone calls it, one call at a time.
///
/// Entries come in order of index, each once since the position that [`position`](Self::position) returned when
/// the group was opened. After a restart those come again that were not yet durable.
///
/// Replies leave only after [`batch_end`](Self::batch_end), and read barriers pass only after it: so what readers
/// see may be published there, once for many entries.
pub trait StateMachine: Send + 'static {
    /// What applying an entry results in: the answer to whoever proposed it.
    type Outcome: Send + 'static;

    /// Where the state stands, as loaded. Asked once, when the group is opened.
    fn position(&self) -> Position;

    /// Fetches what `entries` will need, so that `apply` needn't wait. May wait for a disk.
    fn prepare(&mut self, entries: &[Committed]) -> impl Future<Output = Result<(), Broken>> + Send;

    /// Applies one entry. Deterministic; never waits.
    fn apply(&mut self, entry: Committed) -> Result<Self::Outcome, Broken>;

    /// The entry at `index` changed the members to `conf`, which must be durable together with `index`.
    fn reconfigured(&mut self, index: u64, term: u64, conf: ConfState);

    /// The entry at `index` is a new leader's empty one: it changes nothing but the position.
    fn empty(&mut self, index: u64, term: u64);

    /// A batch of entries ends: publish to readers, check budgets.
    fn batch_end(&mut self);

    /// All up to this index is durable without the log, which may be compacted up to it. Never above what was
    /// applied; never falls. Asked after each batch and about once a second.
    fn durable_index(&self) -> u64;

    /// Freezes the state for a peer that needs all of it. Files should be made by hard links, so that this returns
    /// soon: nothing is applied meanwhile.
    fn snapshot(&mut self) -> impl Future<Output = Result<SnapshotSource, Broken>> + Send;

    /// Replaces the whole state by a snapshot, all or nothing, durably when it returns. Files may be moved out of
    /// the staging directory, which is removed afterwards. Returns the new position, which must be the snapshot's.
    fn install(&mut self, staged: StagedSnapshot) -> impl Future<Output = Result<Position, Broken>> + Send;
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Plain file name within the snapshot's directory: no separator, no leading dot.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A snapshot frozen on disk, to be sent. `dir` belongs to the group from now on, which removes it when no
/// transfer needs it any more.
#[derive(Debug)]
pub struct SnapshotSource {
    /// The position at which the state was frozen: exactly what is in the files.
    pub position: Position,
    /// A few hundred bytes that the receiving state machine needs besides the files.
    pub manifest: Bytes,
    /// Where the files lie.
    pub dir: PathBuf,
    /// The files, in the order in which they are sent.
    pub files: Vec<SnapshotFile>,
}

/// A snapshot that arrived whole: every file is in `dir`, synced, with its length and checksum verified.
#[derive(Debug)]
pub struct StagedSnapshot {
    /// Who sent it.
    pub from: PeerId,
    /// The position it was frozen at.
    pub position: Position,
    /// As the sender's state machine gave it.
    pub manifest: Bytes,
    /// Where the files lie.
    pub dir: PathBuf,
    /// The files.
    pub files: Vec<SnapshotFile>,
}
