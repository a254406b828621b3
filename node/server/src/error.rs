//! Why a node did not start, or did not go on.
//!
//! Two kinds matter to whoever starts the process. [`Error::Setting`]: what was asked for can't be, and someone has to
//! change a setting (exit code 78, `EX_CONFIG` of `sysexits.h`). All others: something broke (exit code 1). Secrets and
//! customers' data are in neither.

use std::process::ExitCode;

/// `EX_CONFIG`: a configuration that can't be used.
const EX_CONFIG: u8 = 78;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a node did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting can't be used as it is. The node did not start.
    #[error("{key}: {problem}")]
    Setting {
        /// The setting, as in the configuration file: `raft.tick`.
        key: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A setting can't be used as it is, and it is known where it was made.
    #[error("{place}: {key}: {problem}")]
    Located {
        /// Where: `isthmus.toml:3`, `ISTHMUS_SHARDS`, `--shards`.
        place: String,
        /// As in [`Self::Setting`].
        key: String,
        /// As in [`Self::Setting`].
        problem: String,
    },
    /// The storage failed.
    #[error("storage: {0}")]
    Storage(#[from] isthmus_storage::Error),
    /// The Raft node failed.
    #[error("raft: {0}")]
    Raft(#[from] isthmus_raft::Error),
    /// A shard could not be opened.
    #[error("shard: {0}")]
    Shard(#[from] isthmus_shard::Error),
    /// The router could not start.
    #[error("router: {0}")]
    Router(#[from] isthmus_router::Error),
    /// The coordinator failed.
    #[error("coordinator: {0}")]
    Coordinator(#[from] isthmus_coordinator::Error),
    /// A file or socket operation failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was being done, with on what.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A server or client of gRPC failed.
    #[error("gRPC: {0}")]
    Grpc(String),
    /// Something did not come about in the time that it was given.
    #[error("{0}")]
    NotReady(String),
    /// What the demonstration found is not what is known to be true.
    #[error("the demonstration failed: {0}")]
    Demo(String),
}

impl Error {
    /// A setting that can't be used.
    pub fn setting(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Setting { key: key.into(), problem: problem.into() }
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// What a failure to open a data directory comes to: most are for an operator to mend.
    pub(crate) fn data_dir(error: isthmus_storage::Error) -> Self {
        use isthmus_storage::Error as Storage;
        match error {
            Storage::Locked { .. }
            | Storage::NewerFormat { .. }
            | Storage::OtherCluster { .. }
            | Storage::Io { .. } => Self::setting("data_dir", error.to_string()),
            other => Self::Storage(other),
        }
    }

    /// The exit code of a process that ends with this.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Setting { .. } | Self::Located { .. } => ExitCode::from(EX_CONFIG),
            _ => ExitCode::FAILURE,
        }
    }
}

impl From<tonic::transport::Error> for Error {
    fn from(error: tonic::transport::Error) -> Self {
        // tonic's own text says "transport error" alone; what matters is the cause.
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Self::Grpc(cause)
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Grpc(format!("{:?}: {}", status.code(), status.message()))
    }
}
