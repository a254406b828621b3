//! What can go wrong in storage, and what a caller has to do about it.
//!
//! There are four kinds: [`Error::Fatal`] ends the process; [`Error::Corrupt`] stops the replica or the start of the
//! node, and a person or a peer mends it; the refusals at open ([`Error::Locked`], [`Error::NewerFormat`],
//! [`Error::OtherCluster`], …) tell an operator what is wrong with the directory; the rest are failures of one call.
//! No text holds anything a customer sent: places are files, offsets, groups, tables and key lengths.

use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A write or a sync that the commit path depends on has failed. What is on the disk is unknown now: the caller
    /// aborts the process and never retries.
    #[error("{action} failed, the process must end: {reason}")]
    Fatal {
        /// What was being done.
        action: &'static str,
        /// What the system or the engine said.
        reason: String,
    },

    /// Stored bytes are not what was written.
    #[error("damaged data at {place}: {what}")]
    Corrupt {
        /// File and offset, or table and row.
        place: String,
        /// What does not fit.
        what: String,
    },

    /// A file operation failed, off the commit path.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb: "open", "read", "rename".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// Another process uses the directory.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },

    /// The directory was written by a newer version of the program.
    #[error("{}: {part} has format {found}, this version reads up to {known}", path.display())]
    NewerFormat {
        /// The format file.
        path: PathBuf,
        /// The part that is newer.
        part: String,
        /// The version found.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },

    /// The directory belongs to another cluster or another node.
    #[error("{} holds data of {found}, not of {expected}", path.display())]
    OtherCluster {
        /// The data directory.
        path: PathBuf,
        /// Whose data it holds.
        found: String,
        /// Whose was expected.
        expected: String,
    },

    /// A secret file may be read by others than its owner.
    #[error("{} may be read by others (mode {mode:o}); it must be 0600 or stricter", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// The caller asked for what the contract forbids: a hole in a log, too many rows in a batch, too large a value.
    #[error("refused: {0}")]
    Refused(String),

    /// The asked-for log entries were compacted away.
    #[error("group {group}: log entry {index} is compacted, the log begins after {base}")]
    Compacted {
        /// The group.
        group: crate::GroupId,
        /// The index asked for.
        index: u64,
        /// The last index that is gone.
        base: u64,
    },

    /// The asked-for group, entry, run or file does not exist.
    #[error("not found: {0}")]
    NotFound(String),

    /// A columnar file could not be encoded or decoded.
    #[error("columnar data: {0}")]
    Columnar(String),

    /// A storage engine refused or failed, off the commit path.
    #[error("{engine}: cannot {action}: {reason}")]
    Engine {
        /// The engine: "raft-engine", "sled".
        engine: &'static str,
        /// The operation, as a verb.
        action: &'static str,
        /// What the engine said.
        reason: String,
    },
}

impl Error {
    /// Damage at a place in words, such as a table and a row.
    pub fn corrupt(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Corrupt { place: place.into(), what: what.into() }
    }

    /// Damage in a file at an offset in bytes.
    pub fn corrupt_at(file: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { place: format!("{}, offset {offset}", file.display()), what: what.into() }
    }

    /// A failed file operation; for `map_err(Error::io("open", path))`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the process has to end.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal { .. })
    }

    /// Whether stored data is damaged: the replica has to be rebuilt from its peers.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::Columnar(error.to_string())
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Columnar(error.to_string())
    }
}
