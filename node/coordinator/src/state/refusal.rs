//! Why a command was refused: a stable code for programs, a sentence for people.

use std::fmt;

/// A stable reason. The text of [`Code::as_str`] is replicated and answered to clients, so it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The name is taken, or the cluster has been made already.
    AlreadyExists,
    /// There is no such node, shard or source.
    NotFound,
    /// Decided on a version that has been overtaken: look again and decide anew.
    StaleView,
    /// The nodes that remain could not hold the data.
    QuorumAtRisk,
    /// The node id belongs to another node, now or earlier.
    NodeIdTaken,
    /// The node was removed for good.
    NodeRemoved,
    /// The node is not a member, or on its way out.
    NodeNotActive,
    /// The node still should hold replicas.
    NodeInUse,
    /// Part of the hub: can't be changed.
    BuiltIn,
    /// The source is disabled.
    SourceDisabled,
    /// The write key belongs to another source.
    KeyTaken,
    /// A value is out of its bounds; the message names it.
    Invalid,
    /// A limit on numbers of things is reached.
    TooMany,
    /// The cluster has not been made yet.
    NotInitialised,
}

impl Code {
    /// The code as it is replicated and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::NotFound => "NOT_FOUND",
            Self::StaleView => "STALE_VIEW",
            Self::QuorumAtRisk => "QUORUM_AT_RISK",
            Self::NodeIdTaken => "NODE_ID_TAKEN",
            Self::NodeRemoved => "NODE_REMOVED",
            Self::NodeNotActive => "NODE_NOT_ACTIVE",
            Self::NodeInUse => "NODE_IN_USE",
            Self::BuiltIn => "BUILT_IN",
            Self::SourceDisabled => "SOURCE_DISABLED",
            Self::KeyTaken => "KEY_TAKEN",
            Self::Invalid => "INVALID_ARGUMENT",
            Self::TooMany => "TOO_MANY",
            Self::NotInitialised => "NOT_INITIALISED",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: what is wrong and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
