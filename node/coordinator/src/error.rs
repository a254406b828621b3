//! What can go wrong, in the caller's terms. No text holds personal data or a secret.

use std::path::{Path, PathBuf};

use crate::state::{Code, DamagedRow};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The metadata group refused: an answer, not a failure. Nothing was changed.
    #[error("{code}: {message}")]
    Refused {
        /// A stable code, as [`Code::as_str`] gives it.
        code: String,
        /// What is wrong and what to do, for people.
        message: String,
    },
    /// Nobody who could answer was reached before the deadline. Nothing was changed.
    #[error("no leader of the metadata group could be reached: {0}")]
    NoLeader(String),
    /// A change was proposed, and what became of it isn't known. Sending it again is safe.
    #[error("the outcome is unknown; look, or send the same again")]
    OutcomeUnknown,
    /// Too much is waiting.
    #[error("overloaded; retry after {retry_after:?}")]
    Overloaded {
        /// When it makes sense to come back.
        retry_after: std::time::Duration,
    },
    /// The other end belongs to another cluster.
    #[error("the other node belongs to another cluster")]
    WrongCluster,
    /// This node has no replica of the metadata group.
    #[error("this node is not in the metadata group")]
    NotMetadataPeer,
    /// The node is shutting down.
    #[error("the node is stopping")]
    Stopped,
    /// A message or stored value isn't what it should be.
    #[error("not a valid {what}")]
    Malformed {
        /// The part.
        what: &'static str,
    },
    /// The data directory lacks what a member of a cluster has, or holds what contradicts it.
    #[error("the data directory {}: {what}", path.display())]
    Membership {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// A secret file can't be used.
    #[error("the secret file {}: {what}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A sealed secret can't be opened with this node's key.
    #[error("a secret was sealed to another node's key, or is damaged")]
    Unsealable,
    /// The operating system gave no randomness.
    #[error("the system gives no randomness: {0}")]
    NoRandomness(String),
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A stored row is damaged.
    #[error(transparent)]
    Damaged(#[from] DamagedRow),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] isthmus_storage::Error),
    /// The metadata group's replica failed.
    #[error("metadata group: {0}")]
    Raft(#[from] isthmus_raft::Error),
}

impl Error {
    pub(crate) fn malformed(what: &'static str) -> Self {
        Self::Malformed { what }
    }

    pub(crate) fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused { code: code.as_str().to_owned(), message: message.into() }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// Whether it is a refusal with this code.
    pub fn is_refusal(&self, code: Code) -> bool {
        matches!(self, Self::Refused { code: given, .. } if given == code.as_str())
    }

    /// A stable reason for programs: a refusal's code, or the kind of failure.
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::NoLeader(_) => "NO_LEADER",
            Self::OutcomeUnknown => "OUTCOME_UNKNOWN",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::WrongCluster => "WRONG_CLUSTER",
            Self::NotMetadataPeer => "NOT_METADATA_PEER",
            Self::Stopped => "STOPPED",
            Self::Malformed { .. } => "MALFORMED",
            _ => "INTERNAL",
        }
    }
}
