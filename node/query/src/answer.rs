//! What goes into a run of a statement, and what comes out.

use std::{fmt, sync::Arc, time::Duration};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use datafusion::{arrow::datatypes::DataType, logical_expr::LogicalPlan};
use futures::stream::BoxStream;
use isthmus_domain::Stamp;

use crate::{
    copy::Target,
    error::QueryError,
    opaque::Opaque,
    seam::{Freshness, OpenCut},
};

/// What a statement does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It answers with rows: `SELECT`, `SHOW`, `DESCRIBE`.
    Query,
    /// It writes files and answers with how many rows: `COPY`.
    Copy,
    /// It answers with a plan: `EXPLAIN`.
    Explain,
}

/// A statement that was understood: planned against the tables as they were, not yet optimised.
#[derive(Clone)]
pub struct Prepared {
    /// The statement as it was sent.
    pub sql: String,
    /// The names of its parameters without the `$`, rising; none where they are numbered.
    pub names: Vec<String>,
    /// The types of its parameters `$1`, `$2`, …, or in the order of their names, where they follow from how they are used.
    pub parameters: Vec<Option<DataType>>,
    /// The columns of its answer.
    pub schema: SchemaRef,
    /// What it does.
    pub kind: Kind,
    pub(crate) plan: Opaque<LogicalPlan>,
    pub(crate) copy: Option<Target>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("kind", &self.kind)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

/// How a statement is run.
#[derive(Clone)]
pub struct RunOptions {
    /// The cut that it is run over, which has all that it asks for; `None`: one of its own.
    pub cut: Option<Arc<dyn OpenCut>>,
    /// How fresh the cut must be.
    pub freshness: Freshness,
    /// How long it may take, the reading of the answer included.
    pub timeout: Duration,
    /// How many rows its answer may have.
    pub rows_max: Option<u64>,
    /// How many bytes its answer may have.
    pub bytes_max: u64,
}

impl fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunOptions")
            .field("cut", &self.cut.as_ref().map(|cut| cut.at()))
            .field("freshness", &self.freshness)
            .field("timeout", &self.timeout)
            .field("rows_max", &self.rows_max)
            .field("bytes_max", &self.bytes_max)
            .finish()
    }
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            cut: None,
            freshness: Freshness::Linearizable,
            timeout: Duration::from_secs(60),
            rows_max: None,
            bytes_max: 1 << 30,
        }
    }
}

/// An answer that is being made. Dropping it ends the query's work on all nodes.
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// The cut that it is of; `None` when the statement reads no shard.
    pub cut: Option<Stamp>,
    /// Its rows. An error is the last thing that comes.
    pub batches: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("cut", &self.cut).finish_non_exhaustive()
    }
}

/// The key of a schema's metadata that says what a row is, and of a field's that says what the column means.
pub const DESCRIPTION: &str = "description";

/// A table of the catalog.
#[derive(Clone, Debug)]
pub struct TableInfo {
    /// `isthmus`.
    pub catalog: String,
    /// `public`, `system` or `information_schema`.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `TABLE` or `VIEW`.
    pub kind: &'static str,
    /// Its columns, described: see [`DESCRIPTION`]. Answers of statements carry no descriptions.
    pub columns: SchemaRef,
    /// The columns that no two rows have all alike, none of them NULL.
    pub key: &'static [&'static str],
}
