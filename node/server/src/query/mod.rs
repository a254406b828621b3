//! SQL: the engine of this node, and what all doors to it share.
//!
//! **What it promises.** Every statement goes through [`Queries`], whichever door it came in by: gRPC ([`crate::grpc`]), Flight
//! SQL ([`crate::flight`]) and the console. So all give the same rows under the same bounds, and all are counted. A query
//! ends when its answer is let go of, when its time is up, or when the node stops.
//!
//! **How.** `isthmus-query` plans and runs; [`shards`] is what it needs of this node: cuts and snapshots by the router, the
//! other nodes and the [`catalog`] by the view of the cluster. [`json`] writes rows.
//!
//! **What it leaves out.** Who may ask what: that comes with access control.

pub mod catalog;
mod fault;
pub mod json;
mod members;
mod running;
pub mod shards;

use std::{path::Path, sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use futures::TryStreamExt as _;
use isthmus_query::{
    Engine, EngineOptions, Freshness, Members, OpenCut, ParamValues, Prepared, QueryError, RunOptions,
    Shards, TableInfo,
};
use isthmus_router::ReadLevel;
use tokio_util::sync::CancellationToken;
use tonic::Code;

pub use self::running::Running;
use crate::{Error, Result, config::QueryOptions, grpc::status::Refusal, metrics::Queries as Counts};

/// The folder below the data directory for what doesn't fit into memory.
const SPILL: &str = "spill";

/// How a statement is to be run, as its caller says. The default: linearizable, within what the node allows.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// How fresh.
    pub level: ReadLevel,
    /// How long it may take; absent: as long as the node allows.
    pub timeout: Option<Duration>,
    /// The most rows; 0: as many as the node allows.
    pub rows_max: u64,
    /// The most bytes; 0: as many as the node allows.
    pub bytes_max: u64,
}

/// The way of all doors to the engine.
pub struct Queries {
    engine: Engine,
    options: QueryOptions,
    counts: Arc<Counts>,
    stop: CancellationToken,
}

impl Queries {
    /// Starts the engine.
    ///
    /// # Errors
    /// [`Error::Setting`] when it can't work with its settings or its folder.
    pub fn start(
        shards: Arc<dyn Shards>,
        options: QueryOptions,
        data_dir: &Path,
        counts: Arc<Counts>,
    ) -> Result<Self> {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let engine_options = EngineOptions {
            memory_bytes: bytes(options.memory.0),
            spill_bytes: options.spill.0,
            threads: options.threads as usize,
            queries: options.concurrent as usize,
            waiting: options.waiting as usize,
            wait: options.wait,
            timeout_max: options.timeout,
            export_dir: options.export_dir.clone(),
            export_bytes: options.export_bytes_max.0,
            export_urls: options.exports()?,
            ..EngineOptions::spilling_into(data_dir.join(SPILL))
        };
        let engine = Engine::start(shards, engine_options)
            .map_err(|error| Error::setting("query", format!("the query engine does not start: {error}")))?;
        Ok(Self { engine, options, counts, stop: CancellationToken::new() })
    }

    /// The engine, for what other nodes send it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What this node allows.
    pub fn options(&self) -> &QueryOptions {
        &self.options
    }

    /// Ends all queries: the node stops.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Understands a statement.
    ///
    /// # Errors
    /// `BAD_QUERY`.
    pub async fn prepare(&self, sql: &str) -> Result<Prepared, QueryError> {
        let prepared = self.engine.prepare(sql).await;
        if let Err(error) = &prepared {
            self.counts.count(outcome(error));
        }
        prepared
    }

    /// Begins to run a statement.
    ///
    /// # Errors
    /// What the engine says; a bound that is above what this node allows.
    pub async fn run(
        &self,
        statement: &Prepared,
        parameters: ParamValues,
        ask: &Ask,
    ) -> Result<Running, QueryFault> {
        let options = self.run_options(ask)?;
        let counted = self.counts.begin();
        if self.stop.is_cancelled() {
            return Err(QueryError::Unavailable("this node is stopping".to_owned()).into());
        }
        let run = self.engine.run(statement, parameters, options);
        let answer = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(QueryError::Unavailable("this node is stopping".to_owned())),
            answer = run => answer,
        };
        match answer {
            Ok(answer) => Ok(Running::new(answer, counted, self.stop.clone())),
            Err(error) => {
                counted.ended(outcome(&error));
                Err(error.into())
            }
        }
    }

    /// Opens a cut for statements of this node itself that are to be of the same moment, with who is in which segment.
    ///
    /// # Errors
    /// Shards can't be reached.
    pub async fn open_cut(&self, members: Members, time: Duration) -> Result<Arc<dyn OpenCut>, QueryError> {
        let time = time.min(self.options.timeout);
        self.engine.open_cut(Freshness::Linearizable, Some(members), time).await
    }

    /// Runs a statement of this node itself over a cut; its rows.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn run_over(
        &self,
        cut: &Arc<dyn OpenCut>,
        sql: &str,
        time: Duration,
    ) -> Result<Vec<RecordBatch>, QueryError> {
        let statement = self.prepare(sql).await?;
        let options = RunOptions {
            cut: Some(cut.clone()),
            timeout: time.min(self.options.timeout),
            ..RunOptions::default()
        };
        let counted = self.counts.begin();
        let run = async {
            let answer = self.engine.run(&statement, ParamValues::List(Vec::new()), options).await?;
            answer.batches.try_collect().await
        };
        let ended = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(QueryError::Unavailable("this node is stopping".to_owned())),
            ended = run => ended,
        };
        counted.ended(ended.as_ref().err().map_or(Outcome::Answered, outcome));
        ended
    }

    /// The tables that there are, by schema and name.
    ///
    /// # Errors
    /// What the engine says.
    pub fn tables(&self) -> Result<Vec<TableInfo>, QueryError> {
        let mut tables = self.engine.tables()?;
        tables.sort_by(|one, other| (&one.schema, &one.name).cmp(&(&other.schema, &other.name)));
        Ok(tables)
    }

    fn run_options(&self, ask: &Ask) -> Result<RunOptions, Refusal> {
        let bound = |field: &'static str, asked: u64, most: u64| match asked {
            0 => Ok(most),
            asked if asked <= most => Ok(asked),
            _ => {
                Err(Refusal::field("INVALID_LIMIT", field, format!("must be at most {most}, or 0 for that")))
            }
        };
        let rows_max = bound("rows_max", ask.rows_max, self.options.rows_max)?;
        let bytes_max = bound("bytes_max", ask.bytes_max, self.options.bytes_max.0)?;
        Ok(RunOptions {
            cut: None,
            freshness: match ask.level {
                ReadLevel::Linearizable => Freshness::Linearizable,
                ReadLevel::AtLeast(stamp) => Freshness::MinVersion(stamp),
                ReadLevel::Stale(age) => Freshness::MaxStaleness(age),
            },
            // The engine says which of both it was: the caller's time, or what a query may take here.
            timeout: ask.timeout.unwrap_or(Duration::MAX),
            rows_max: Some(rows_max),
            bytes_max,
        })
    }
}

/// Why a statement has no answer, as doors get it: the engine's word, or this node's.
#[derive(Debug)]
pub enum QueryFault {
    /// The engine's.
    Query(QueryError),
    /// What was asked for can't be.
    Refused(Refusal),
}

impl From<QueryError> for QueryFault {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<Refusal> for QueryFault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<QueryFault> for tonic::Status {
    fn from(fault: QueryFault) -> Self {
        match fault {
            QueryFault::Query(error) => crate::grpc::status::status(&error),
            QueryFault::Refused(refusal) => refusal.into(),
        }
    }
}

/// What a query came to, as it is counted.
fn outcome(error: &QueryError) -> Outcome {
    use crate::fault::Fault as _;
    match error.code() {
        Code::InvalidArgument => Outcome::Refused,
        Code::ResourceExhausted | Code::DeadlineExceeded => Outcome::Limited,
        Code::Cancelled => Outcome::Cancelled,
        _ => Outcome::Failed,
    }
}

pub use crate::metrics::QueryOutcome as Outcome;
