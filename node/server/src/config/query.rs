//! `[query]`: what queries in SQL may use.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use url::Url;

use super::options::{ByteSize, one_or_many, within, within_time};
use crate::{Error, Result};

/// `[query]`: what queries in SQL may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryOptions {
    /// Memory of all queries that work on this node, before they use the disk.
    pub memory: ByteSize,
    /// Disk below the data directory for what doesn't fit into memory; it is emptied at each start.
    pub spill: ByteSize,
    /// Threads that queries work on.
    pub threads: u32,
    /// Queries that come in through this node and run at a time.
    pub concurrent: u32,
    /// Queries that wait for their turn; more are refused.
    pub waiting: u32,
    /// How long they wait.
    #[serde(with = "humantime_serde")]
    pub wait: Duration,
    /// Decoded columns of events and facets that a node keeps for queries, over all its shards.
    pub columns: ByteSize,
    /// The longest that a query may take until its last row was handed over.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// The most rows of an answer.
    pub rows_max: u64,
    /// The most bytes of an answer, as its rows lie in memory.
    pub bytes_max: ByteSize,
    /// The folder that COPY may write below. Absent: COPY is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_dir: Option<PathBuf>,
    /// The most bytes that one COPY may write to files there, all together: the folder may be on the disk that the log is on.
    /// What goes to URLs is not counted.
    pub export_bytes_max: ByteSize,
    /// The URLs that COPY may write below, each with a `/` at its end: `file://` of folders that all nodes see, `s3://`, `gs://`
    /// and `az://` of object stores, whose settings are in the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`). None: COPY to
    /// URLs is refused.
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub export_urls: Vec<String>,
    /// Prepared statements that clients of Flight SQL may have open at this node.
    pub prepared: u32,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(512),
            spill: ByteSize::mib(16 << 10),
            columns: ByteSize::mib(512),
            threads: 2,
            concurrent: 8,
            waiting: 16,
            wait: Duration::from_secs(5),
            timeout: Duration::from_secs(300),
            rows_max: 10_000_000,
            bytes_max: ByteSize::mib(4 << 10),
            export_dir: None,
            export_bytes_max: ByteSize::mib(64 << 10),
            export_urls: Vec::new(),
            prepared: 1_000,
        }
    }
}

impl QueryOptions {
    /// Checks the bounds.
    pub(super) fn validate(&self) -> Result<()> {
        let most = ByteSize(1 << 50);
        within("query.memory", self.memory, ByteSize::mib(16), ByteSize(1 << 40))?;
        within("query.columns", self.columns, ByteSize(0), most)?;
        within("query.spill", self.spill, ByteSize(0), most)?;
        within("query.threads", self.threads, 1, 1_024)?;
        within("query.concurrent", self.concurrent, 1, 10_000)?;
        within("query.waiting", self.waiting, 0, 100_000)?;
        within_time("query.wait", self.wait, Duration::ZERO, Duration::from_secs(300))?;
        within_time(
            "query.timeout",
            self.timeout,
            Duration::from_millis(10),
            Duration::from_secs(24 * 3_600),
        )?;
        within("query.rows_max", self.rows_max, 1, u64::MAX)?;
        within("query.bytes_max", self.bytes_max, ByteSize::mib(1), most)?;
        within("query.export_bytes_max", self.export_bytes_max, ByteSize::mib(1), most)?;
        within("query.prepared", self.prepared, 1, 1_000_000)?;
        if self.export_dir.as_ref().is_some_and(|folder| !folder.is_absolute()) {
            return Err(Error::setting("query.export_dir", "must be an absolute path"));
        }
        self.exports().map(drop)
    }

    /// The URLs that COPY may write below.
    ///
    /// # Errors
    /// One isn't one, or not that of a folder.
    pub fn exports(&self) -> Result<Vec<Url>> {
        let one = |text: &String| {
            let fault = |why: String| Error::setting("query.export_urls", format!("{text}: {why}"));
            let url = Url::parse(text).map_err(|error| fault(error.to_string()))?;
            isthmus_query::check_export_url(&url).map_err(fault)?;
            Ok(url)
        };
        self.export_urls.iter().map(one).collect()
    }
}
