//! Why the router could not answer, in the words that callers get to see.
//!
//! Every variant has a stable reason ([`Error::reason`]) and, where coming back helps, a time to do so
//! ([`Error::retry_after`]). No variant holds an identifier, a value or a key: shards and nodes are named by number.

use std::time::Duration;

use isthmus_proto::internal::v1::{CallError, CallErrorCode};

/// When to come back after a refusal that names no time of its own: about as long as an election takes to begin.
const RETRY_SOON: Duration = Duration::from_millis(100);

/// Why a request could not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No replica of the shard led, or said who does, until the deadline. Nothing was done.
    #[error("shard {shard} has no leader at the moment")]
    NoLeader {
        /// The shard.
        shard: u64,
    },
    /// No replica of the shard could be reached, or those reached were stopping or broken. Nothing was done.
    #[error("no replica of shard {shard} could be reached")]
    Unavailable {
        /// The shard.
        shard: u64,
    },
    /// The shard map and the shards did not agree on who owns a slot until the deadline, or this node knows no map
    /// yet. Nothing was done.
    #[error("the shard map of this node (version {version}) is out of date")]
    StaleShardMap {
        /// The version that this node has; 0 before it knows any.
        version: u64,
    },
    /// Too much is waiting. Nothing was done.
    #[error("too much is waiting: come back in {} ms", retry_after.as_millis())]
    Overloaded {
        /// When to come back.
        retry_after: Duration,
    },
    /// The disk of the node that leads the shard is nearly full. Nothing was done.
    #[error(
        "the disk of the node that leads shard {shard} is nearly full: make room, or let another node join"
    )]
    DiskFull {
        /// The shard.
        shard: u64,
        /// When to come back.
        retry_after: Duration,
    },
    /// A change was asked for, and by the deadline it was not known whether it was made.
    #[error("it is not known whether shard {shard} did what it was asked to")]
    OutcomeUnknown {
        /// The shard.
        shard: u64,
    },
    /// A read had no answer by its deadline.
    #[error("shard {shard} did not answer before the deadline")]
    DeadlineExceeded {
        /// The shard.
        shard: u64,
    },
    /// There is no such shard.
    #[error("there is no shard {shard}")]
    NoShard {
        /// The shard that was asked for.
        shard: u64,
    },
    /// The shard has no replica on that node.
    #[error("shard {shard} has no replica on node {node}")]
    NoReplica {
        /// The shard.
        shard: u64,
        /// The node.
        node: u32,
    },
    /// The request makes no sense; sending it again can't help. Nothing was done.
    #[error("the request is not valid: {message}")]
    Invalid {
        /// What is wrong with it.
        message: String,
    },
    /// An expression over segments makes no sense. Nothing was done.
    #[error("{message}")]
    Expression {
        /// What is wrong with it, and where.
        message: String,
        /// The line, from 1.
        line: u32,
        /// The column, in characters, from 1.
        column: u32,
    },
    /// A shard answered with something that this node can't make sense of: a defect, or versions too far apart.
    #[error("shard {shard} gave an answer that makes no sense: {what}")]
    BadReply {
        /// The shard.
        shard: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The feed keeps no changes for that position any more.
    #[error(
        "the cursor is too old: changes behind it are no longer kept. Take a new cursor (a watch from now), list all \
         profiles, then go on from that cursor"
    )]
    CursorTooOld,
    /// This node is stopping. Nothing was done.
    #[error("this node is stopping")]
    Stopping,
}

impl Error {
    /// The stable code for `google.rpc.ErrorInfo`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoLeader { .. } => "NO_LEADER",
            Self::Unavailable { .. } | Self::Stopping => "UNAVAILABLE",
            Self::StaleShardMap { .. } => "STALE_SHARD_MAP",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::DiskFull { .. } => "DISK_FULL",
            Self::OutcomeUnknown { .. } => "OUTCOME_UNKNOWN",
            Self::DeadlineExceeded { .. } => "DEADLINE_EXCEEDED",
            Self::NoShard { .. } | Self::NoReplica { .. } => "NOT_FOUND",
            Self::Invalid { .. } | Self::Expression { .. } => "INVALID_CALL",
            Self::BadReply { .. } => "INTERNAL",
            Self::CursorTooOld => "CURSOR_TOO_OLD",
        }
    }

    /// When to come back; `None` where coming back as it is can't help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after } | Self::DiskFull { retry_after, .. } => Some(*retry_after),
            Self::NoLeader { .. }
            | Self::Unavailable { .. }
            | Self::Stopping
            | Self::StaleShardMap { .. }
            | Self::OutcomeUnknown { .. }
            | Self::DeadlineExceeded { .. } => Some(RETRY_SOON),
            Self::NoShard { .. }
            | Self::NoReplica { .. }
            | Self::Invalid { .. }
            | Self::Expression { .. }
            | Self::BadReply { .. }
            | Self::CursorTooOld => None,
        }
    }

    /// The shard that it is about.
    pub fn shard(&self) -> Option<u64> {
        match self {
            Self::NoLeader { shard }
            | Self::Unavailable { shard }
            | Self::DiskFull { shard, .. }
            | Self::OutcomeUnknown { shard }
            | Self::DeadlineExceeded { shard }
            | Self::NoShard { shard }
            | Self::NoReplica { shard, .. }
            | Self::BadReply { shard, .. } => Some(*shard),
            Self::StaleShardMap { .. }
            | Self::Overloaded { .. }
            | Self::Invalid { .. }
            | Self::Expression { .. }
            | Self::CursorTooOld
            | Self::Stopping => None,
        }
    }

    /// What the last refusal of a shard's replicas comes down to once no further try is made.
    pub(crate) fn from_call(shard: u64, error: &CallError) -> Self {
        match error.code() {
            // A leader that was named but did not answer to that name is as good as none.
            CallErrorCode::NotLeader | CallErrorCode::NoLeader => Self::NoLeader { shard },
            CallErrorCode::NoReplica | CallErrorCode::Unavailable => Self::Unavailable { shard },
            CallErrorCode::Overloaded => Self::Overloaded {
                retry_after: Duration::from_millis(u64::from(error.retry_after_ms.max(1))),
            },
            CallErrorCode::DiskFull => Self::DiskFull {
                shard,
                retry_after: Duration::from_millis(u64::from(error.retry_after_ms.max(1))),
            },
            CallErrorCode::OutcomeUnknown => Self::OutcomeUnknown { shard },
            CallErrorCode::Invalid if error.line > 0 => {
                Self::Expression { message: error.message.clone(), line: error.line, column: error.column }
            }
            CallErrorCode::Invalid => Self::Invalid { message: error.message.clone() },
            CallErrorCode::Unspecified => Self::BadReply { shard, what: "an error without a code" },
        }
    }

    /// The same as one shard would say it to another, for the courier.
    pub(crate) fn to_call(&self) -> CallError {
        let code = match self {
            Self::NoLeader { .. } => CallErrorCode::NoLeader,
            Self::Unavailable { .. } | Self::Stopping | Self::StaleShardMap { .. } => {
                CallErrorCode::Unavailable
            }
            Self::Overloaded { .. } => CallErrorCode::Overloaded,
            Self::DiskFull { .. } => CallErrorCode::DiskFull,
            Self::OutcomeUnknown { .. } | Self::DeadlineExceeded { .. } => CallErrorCode::OutcomeUnknown,
            Self::NoShard { .. } | Self::NoReplica { .. } => CallErrorCode::NoReplica,
            Self::Invalid { .. } | Self::Expression { .. } | Self::BadReply { .. } | Self::CursorTooOld => {
                CallErrorCode::Invalid
            }
        };
        let retry_after_ms = match self {
            Self::Overloaded { retry_after } | Self::DiskFull { retry_after, .. } => {
                u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX)
            }
            _ => 0,
        };
        CallError { retry_after_ms, ..call_error(code, self.to_string()) }
    }
}

/// A refusal in the form in which shards give them.
pub(crate) fn call_error(code: CallErrorCode, message: impl Into<String>) -> CallError {
    CallError { code: code.into(), message: message.into(), ..CallError::default() }
}

/// A refusal because of too much that waits.
pub(crate) fn overloaded(retry_after: Duration, message: impl Into<String>) -> CallError {
    let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
    CallError { retry_after_ms, ..call_error(CallErrorCode::Overloaded, message) }
}
