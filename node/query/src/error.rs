//! Why a query has no answer.
//!
//! One type for everything that callers can meet, so that doors turn it into their own codes in one place. What is wrong
//! with a statement is said with its place in the text; values of parameters and rows never appear.

use std::{fmt, time::Duration};

/// A bound that a query ran into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Memory, after spilling what can be spilled.
    Memory,
    /// Room in the folder for what doesn't fit into memory.
    Spill,
    /// Time.
    Time,
    /// Rows of the answer.
    Rows,
    /// Bytes of the answer.
    Bytes,
    /// Length of the statement.
    Statement,
}

impl Limit {
    /// Its name for programs: `memory`, `rows`, ….
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Spill => "spill",
            Self::Time => "time",
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Statement => "statement",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a query has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement or its parameters are wrong: what, and near what.
    #[error("{message}")]
    Invalid {
        /// What is wrong, near what, and what to do.
        message: String,
        /// The line in the statement, from 1.
        line: Option<u64>,
        /// The column in the line, in characters, from 1.
        column: Option<u64>,
    },
    /// It ran into a bound.
    #[error("the query needs more {what} than it may: {detail}")]
    Limit {
        /// Which.
        what: Limit,
        /// How much it may, and what to do.
        detail: String,
    },
    /// Too many queries run already.
    #[error("too many queries run already: try again")]
    Overloaded {
        /// When to come back.
        retry_after: Duration,
    },
    /// A shard or a node can't be reached.
    #[error("not all shards can be read at the moment: {0}")]
    Unavailable(String),
    /// The caller went away, or the engine stops.
    #[error("the query was cancelled")]
    Cancelled,
    /// The time that the caller gave is over.
    #[error("the query was not done in its time")]
    DeadlineExceeded,
    /// A fault of the engine, or of what it reads.
    #[error("the query failed: {0}")]
    Internal(String),
}

impl QueryError {
    /// The reason for programs, as in the table of reasons of the API.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "BAD_QUERY",
            Self::Limit { .. } => "QUERY_LIMIT",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::Cancelled => "CANCELLED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// Something wrong with the statement, with no place in it.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), line: None, column: None }
    }
}
