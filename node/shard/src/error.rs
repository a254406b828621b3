//! What can go wrong, in the caller's terms, and its form between nodes.

use std::time::Duration;

use isthmus_proto::internal::v1::{CallError, CallErrorCode};
use isthmus_raft::Broken;

/// Why a call to a shard was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This replica doesn't lead. Nothing was done.
    #[error("this replica does not lead")]
    NotLeader {
        /// The peer that leads, as far as this replica knows.
        leader: Option<u64>,
    },
    /// Nobody leads just now. Nothing was done.
    #[error("the shard has no leader just now")]
    NoLeader,
    /// Too much is waiting. Nothing was done.
    #[error("overloaded; retry after {retry_after:?}")]
    Overloaded {
        /// When to come back.
        retry_after: Duration,
    },
    /// The node's disk is nearly full. Nothing was done.
    #[error("the disk is nearly full; retry after {retry_after:?}")]
    DiskFull {
        /// When to come back.
        retry_after: Duration,
    },
    /// Proposed, but not known to be applied.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
    /// The call contradicts itself or the shard. Nothing was done.
    #[error("invalid call: {0}")]
    Invalid(&'static str),
    /// The replica is stopping or broken. Nothing was done.
    #[error("the replica is unavailable: {0}")]
    Unavailable(String),
}

impl From<isthmus_raft::Error> for Error {
    fn from(error: isthmus_raft::Error) -> Self {
        use isthmus_raft::Error as Raft;
        match error {
            Raft::NotLeader { leader } => Self::NotLeader { leader: leader.map(|peer| peer.0) },
            // A read barrier that timed out and a proposal that was never accepted: nothing was done.
            Raft::NoLeader | Raft::TimedOut => Self::NoLeader,
            Raft::Overloaded { retry_after } => Self::Overloaded { retry_after },
            Raft::MembershipChanging => Self::Overloaded { retry_after: Duration::from_millis(100) },
            Raft::OutcomeUnknown => Self::OutcomeUnknown,
            Raft::Invalid { reason } => Self::Invalid(reason),
            Raft::TooLarge { .. } => Self::Invalid("the command is too large"),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<isthmus_storage::Error> for Error {
    fn from(error: isthmus_storage::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        Self::Unavailable(broken.reason)
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let (code, leader, retry_after) = match error {
            Error::NotLeader { leader } => (CallErrorCode::NotLeader, leader, None),
            Error::NoLeader => (CallErrorCode::NoLeader, None, None),
            Error::Overloaded { retry_after } => (CallErrorCode::Overloaded, None, Some(retry_after)),
            Error::DiskFull { retry_after } => (CallErrorCode::DiskFull, None, Some(retry_after)),
            Error::OutcomeUnknown => (CallErrorCode::OutcomeUnknown, None, None),
            Error::Invalid(_) => (CallErrorCode::Invalid, None, None),
            Error::Unavailable(_) => (CallErrorCode::Unavailable, None, None),
        };
        let retry_after_ms =
            retry_after.map_or(0, |wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
        Self { code: code.into(), message, leader: leader.unwrap_or(0), retry_after_ms, ..Self::default() }
    }
}

/// What stops a replica: storage that fails or contradicts itself.
pub(crate) fn broken(error: impl std::fmt::Display) -> Broken {
    Broken::new(error.to_string())
}
