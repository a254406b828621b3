//! What an engine may use.

use std::{path::PathBuf, time::Duration};

use url::Url;

use crate::error::QueryError;

/// What an engine may use. The defaults are for a node of a few gigabytes.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Bytes of memory that all queries on this node may use together before they spill.
    pub memory_bytes: usize,
    /// The folder for what doesn't fit into memory; it is emptied when the engine starts.
    pub spill_dir: PathBuf,
    /// Bytes that may lie in it.
    pub spill_bytes: u64,
    /// Threads that run queries, and tasks of other nodes' queries; they have a low priority.
    pub threads: usize,
    /// Queries that this node coordinates at once.
    pub queries: usize,
    /// Queries that wait for a place; more are refused.
    pub waiting: usize,
    /// How long a query waits for a place.
    pub wait: Duration,
    /// The longest that a query may run, whatever its caller says.
    pub timeout_max: Duration,
    /// The longest statement, in bytes.
    pub statement_bytes: usize,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// The folder that `COPY` may write below; without it, `COPY` to files is refused.
    pub export_dir: Option<PathBuf>,
    /// Bytes that one `COPY` may write to files there, all together. What goes to URLs is not counted.
    pub export_bytes: u64,
    /// The URLs that `COPY` may write below, each with a `/` at its end; without any, `COPY` to URLs is refused.
    pub export_urls: Vec<Url>,
}

impl EngineOptions {
    /// Defaults, spilling into a folder.
    pub fn spilling_into(spill_dir: PathBuf) -> Self {
        Self {
            memory_bytes: 512 << 20,
            spill_dir,
            spill_bytes: 16 << 30,
            threads: 2,
            queries: 8,
            waiting: 16,
            wait: Duration::from_secs(5),
            timeout_max: Duration::from_secs(600),
            statement_bytes: 1 << 20,
            batch_rows: 8192,
            export_dir: None,
            export_bytes: 64 << 30,
            export_urls: Vec::new(),
        }
    }

    /// # Errors
    /// A bound is zero, or too small to work with.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        let fault = if self.memory_bytes < 16 << 20 {
            "memory_bytes must be at least 16 MiB"
        } else if self.threads == 0 || self.queries == 0 {
            "threads and queries must be at least 1"
        } else if self.batch_rows == 0 || self.batch_rows > 1 << 16 {
            "batch_rows must be 1 to 65536"
        } else {
            return Ok(());
        };
        Err(QueryError::Internal(format!("options of the query engine: {fault}")))
    }
}
