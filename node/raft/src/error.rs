//! What can go wrong, in the caller's terms.

use std::time::Duration;

use crate::types::{GroupId, PeerId};

/// Why a request to a group wasn't carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This replica doesn't lead. Nothing was proposed; ask `leader`.
    #[error("this replica does not lead")]
    NotLeader {
        /// Who leads, as far as this replica knows.
        leader: Option<PeerId>,
    },
    /// Nobody leads just now, or leadership is being handed over. Nothing was proposed; try again.
    #[error("the group has no leader just now")]
    NoLeader,
    /// A queue is full. Nothing was proposed; come back later.
    #[error("overloaded; retry after {retry_after:?}")]
    Overloaded {
        /// When it makes sense to come back.
        retry_after: Duration,
    },
    /// The proposal was accepted, but what became of it isn't known: it may be applied later, or never.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
    /// The deadline passed. Nothing was proposed.
    #[error("the deadline passed")]
    TimedOut,
    /// The replica was stopped, is broken, or its node is shutting down.
    #[error("the replica is stopped")]
    Stopped,
    /// Another change of members is under way; wait for it.
    #[error("a change of members is under way")]
    MembershipChanging,
    /// The request contradicts the group's state.
    #[error("invalid request: {reason}")]
    Invalid {
        /// What contradicts what.
        reason: &'static str,
    },
    /// An entry is larger than a message may be.
    #[error("a proposal of {bytes} bytes is over the limit of {limit_bytes}")]
    TooLarge {
        /// The proposal's size.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The node holds no replica of the group, or already holds one.
    #[error("group {group}: {reason}")]
    Group {
        /// The group.
        group: GroupId,
        /// What is the matter with it.
        reason: &'static str,
    },
    /// Log and state machine contradict each other: the replica must not take part and has to be rebuilt.
    #[error("group {group} cannot be opened: {reason} (applied {applied}, log {base}..={last})")]
    Inconsistent {
        /// The group.
        group: GroupId,
        /// What contradicts what.
        reason: &'static str,
        /// What the state machine has applied.
        applied: u64,
        /// Index before the log's first entry.
        base: u64,
        /// The log's last index.
        last: u64,
    },
    /// The log couldn't be read.
    #[error("storage: {0}")]
    Storage(String),
}

impl Error {
    /// How long to wait before trying the same again; `None` where trying again doesn't help by itself.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after } => Some(*retry_after),
            Self::NoLeader | Self::MembershipChanging => Some(Duration::from_millis(100)),
            Self::NotLeader { leader: None } => Some(Duration::from_millis(100)),
            _ => None,
        }
    }
}

impl From<isthmus_storage::Error> for Error {
    fn from(error: isthmus_storage::Error) -> Self {
        Self::Storage(error.to_string())
    }
}
