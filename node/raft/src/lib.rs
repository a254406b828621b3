//! A replicated group: a deterministic state machine kept identical on several nodes by Raft.
//!
//! **What it promises.** A proposal that was answered with an outcome is synced on a quorum, was applied exactly
//! at its `(term, index)`, and survives any minority of failures. A read barrier that was answered at index *i*
//! is linearizable: every proposal answered before the barrier was asked for has an index of at most *i*. What is
//! not known is called unknown (`Error::OutcomeUnknown`), never "failed". Overload is refused at the door.
//!
//! **How.** Each group has a pure core (`core`) around raft-rs's `RawNode`: inputs in, effects out; no clock
//! but ticks, no task, no disk but the log it reads. In its turns a group (`group`) feeds it from a bounded mailbox
//! and carries the effects out; a few drivers (`driver`) give all groups of a node their turns. The state machine lives
//! in a task of its own (`apply`), so that a slow apply never delays a heartbeat. One thread per node (`writer`) merges
//! what all groups want written into one synced write, and only then lets go of the messages that depend on it. Messages
//! travel by a [`Transport`]; snapshots by the same trait on a connection of their own, so that bulk never delays
//! heartbeats.
//!
//! ```text
//!   GroupHandle --mail--> group's turn --entries--> apply task (StateMachine) --outcome--> caller
//!                           |   ^  \--write--> log writer thread (one per node) --synced--^
//!                       send v   | deliver
//!                          Transport
//! ```
//!
//! **Invariants**, each with a test (`tests/`):
//! 1. No vote and no append acknowledgement leaves before its hard state and entries are synced.
//! 2. A log write error ends the process; an fsync is never tried again.
//! 3. On load, applied <= commit <= last index; what contradicts that refuses to open, and says why.
//! 4. The log is never compacted past the state machine's durable index.
//! 5. A new leader serves no read before it has committed an entry of its own term.
//! 6. Every snapshot message ends in exactly one report, by an end of the transfer or by its time-out.
//! 7. A joint configuration always ends: whoever leads proposes to leave it.
//! 8. A message for another peer, from another node than its stream's, or of a kind that only a client may
//!    cause, never reaches `step`.
//! 9. Every queue has a bound in items and in bytes.
//!
//! **Fail points**: `raft::ack_before_sync` switches the guard of invariant 1 off, `raft::serve_read_before_commit`
//! that of 5 (and the proof of leadership with it).
//!
//! **What it leaves out.** Entries that fell out of the memory cache are read from the log in the group's turn, which
//! waits for the page cache or the disk meanwhile: a peer that lags far costs the groups of one driver a little. No
//! lease reads: raft-rs's lease checks no lease. No witness replicas, no follower replication. Peer ids must never be
//! used twice: whoever hands them out (the coordinator) guarantees that. TLS belongs to the server that hosts the
//! services. The crate knows nothing of customers, shards or slots.
//!
//! Sources: D. Ongaro, *Consensus: Bridging Theory and Practice* (2014): §3 the algorithm, §4.3 joint consensus,
//! §6.4 reads, §10.2.1 writing to the leader's disk in parallel.

mod apply;
mod codec;
pub mod core;
mod drain;
mod driver;
mod error;
mod group;
mod handle;
mod inbox;
mod machine;
mod measure;
mod node;
mod options;
mod proposer;
mod snapshot;
pub mod transport;
mod types;
mod writer;

pub use codec::{decode_conf, encode_conf};
pub use error::Error;
pub use handle::GroupHandle;
pub use machine::{Broken, SnapshotFile, SnapshotSource, StagedSnapshot, StateMachine};
pub use measure::{GroupMeasures, Histogram, HistogramView, LogMeasures};
pub use node::{OpenGroup, RaftNode, Start};
pub use options::Options;
pub use raft::eraftpb::ConfState;
pub use transport::{GroupMessage, Inbound, OutgoingSnapshot, Transport};
pub use types::{
    Committed, GroupId, GroupView, MembershipChange, PeerId, PeerProgress, Position, ProgressState, Proposed,
    ReplicaState, Role,
};
