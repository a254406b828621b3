//! How replicas reach each other.
//!
//! A transport is best effort: it may drop, and after a reconnect repeat or reorder, what it carries; Raft copes
//! with all of that. What it must not do is block a group, or grow without bound. [`grpc::GrpcTransport`] is the
//! real one; [`channel::ChannelTransport`] carries messages within a process and has switches for faults.

use std::{fmt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{
    machine::SnapshotFile,
    types::{GroupId, PeerId},
};

pub mod channel;
pub mod grpc;

/// One Raft message of one group, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMessage {
    /// The group.
    pub group: GroupId,
    /// The sending peer.
    pub from: PeerId,
    /// The peer that is meant. A message for another generation is dropped.
    pub to: PeerId,
    /// raft-rs's `eraftpb.Message`.
    pub message: Bytes,
}

/// A snapshot to send.
#[derive(Clone, Debug)]
pub struct OutgoingSnapshot {
    /// The group whose state it is.
    pub group: GroupId,
    /// The sending peer.
    pub from: PeerId,
    /// The receiving peer.
    pub to: PeerId,
    /// Unique among the sender's snapshots.
    pub id: u64,
    /// The `MsgSnapshot` that announces it, encoded: the receiver steps it once it has all files.
    pub message: Bytes,
    /// Where the files lie. They stay there until the future of [`Transport::send_snapshot`] ends.
    pub dir: PathBuf,
    /// The files.
    pub files: Vec<SnapshotFile>,
}

/// A snapshot that arrived: its files are in `dir`, synced, lengths and checksums verified.
#[derive(Debug)]
pub struct IncomingSnapshot {
    /// The group.
    pub group: GroupId,
    /// The sending peer.
    pub from: PeerId,
    /// The peer that is meant.
    pub to: PeerId,
    /// The `MsgSnapshot` that announced it.
    pub message: Bytes,
    /// Where the files lie. Belongs to the receiver now.
    pub dir: PathBuf,
    /// The files.
    pub files: Vec<SnapshotFile>,
}

/// Why a snapshot didn't arrive.
#[derive(Debug, thiserror::Error)]
#[error("snapshot not delivered: {reason}")]
pub struct SnapshotLost {
    /// What happened.
    pub reason: String,
}

impl SnapshotLost {
    /// With a reason.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }
}

/// Carries messages to other nodes.
pub trait Transport: Send + Sync + 'static {
    /// Tells the transport where to deliver what arrives. Called once, before anything else.
    fn bind(&self, inbound: Arc<dyn Inbound>);

    /// Takes messages for `node` (all of them or none) and returns at once. `false`: they were dropped, since the
    /// queue is full or the peer is not connected; the caller tells Raft that the peer is unreachable.
    fn send(&self, node: u32, messages: Vec<GroupMessage>) -> bool;

    /// Sends a snapshot on a connection of its own. `Ok` only when the receiver has all of it and has passed the
    /// announcing message on.
    fn send_snapshot(&self, snapshot: OutgoingSnapshot) -> BoxFuture<'static, Result<(), SnapshotLost>>;
}

/// Takes what arrives from other nodes. Implemented by [`RaftNode`](crate::RaftNode).
pub trait Inbound: Send + Sync + 'static {
    /// Messages from `from_node`, oldest first. Never blocks; drops what doesn't fit.
    fn deliver(&self, from_node: u32, messages: Vec<GroupMessage>);

    /// The connection to `node` broke: messages sent to it may be lost.
    fn unreachable(&self, node: u32);

    /// A fresh, empty directory for a snapshot that is about to arrive from `from_node` for `group`, or an error
    /// if this node holds no such peer.
    fn stage(&self, group: GroupId, from: PeerId, to: PeerId, id: u64) -> Result<PathBuf, SnapshotLost>;

    /// A snapshot is complete. Its directory is taken over; the message is stepped.
    fn snapshot(&self, from_node: u32, snapshot: IncomingSnapshot) -> Result<(), SnapshotLost>;
}
