//! The engine: from a statement to its answer.
//!
//! A statement runs in a task on the engine's own threads, which are few and of low priority, so that taking events in goes
//! first. The task plans against the catalog, opens one cut, and drives the plan; batches wait in a short queue for the
//! caller. When the caller drops the answer, the task ends, and with it its streams, the tasks on other nodes and the cut.

use std::{sync::Arc, time::Duration};

use datafusion::{
    common::ParamValues,
    execution::{SessionState, runtime_env::RuntimeEnv},
};
use datafusion_distributed::Worker;
use futures::{StreamExt, stream};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tonic::service::RoutesBuilder;

use crate::{
    answer::{Answer, Kind, Prepared, RunOptions, TableInfo},
    catalog,
    copy::Exports,
    distribute::Channels,
    error::{Limit, QueryError},
    limits::{Allowance, Gate},
    opaque::Opaque,
    options::EngineOptions,
    pace::Pace,
    run::{self, Head},
    scan::{KnownNames, NamesOf, Turns, says_names_are_unknown},
    seam::{Freshness, Members, OpenCut, Shards},
    session, statement,
    worker::{Elsewhere, sweep},
};

/// Batches that wait for a caller.
const READY_MAX: usize = 2;
/// How nice the engine's threads are.
const NICENESS: i32 = 10;
/// How much longer than the query its cut is leased, so that it outlives a query in its last moment.
const LEASE_MORE: Duration = Duration::from_secs(10);

/// Runs statements, and tasks of other nodes' statements.
#[derive(Clone)]
pub struct Engine {
    inner: Opaque<Inner>,
}

/// What runs share.
pub(crate) struct Inner {
    pub(crate) host: Arc<dyn Shards>,
    pub(crate) options: EngineOptions,
    pub(crate) base: SessionState,
    pub(crate) worker: Worker,
    pub(crate) channels: Arc<Channels>,
    /// The names of profiles as they were last.
    pub(crate) names: Arc<KnownNames>,
    /// Where `COPY` may write to.
    pub(crate) exports: Arc<Exports>,
    gate: Gate,
    tasks: TaskTracker,
    stopping: CancellationToken,
    /// Until the engine is dropped.
    runtime: Option<Runtime>,
    _env: Arc<RuntimeEnv>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime must not wait for its threads where other tasks run.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Engine {
    /// Starts the engine's threads. To be called in the runtime that connections to other nodes belong to.
    ///
    /// # Errors
    /// An option is out of bounds, or the spill folder can't be used.
    pub fn start(shards: Arc<dyn Shards>, options: EngineOptions) -> Result<Self, QueryError> {
        options.check()?;
        let env = session::environment(&options)?;
        let (turns, pace) = (Arc::new(Turns::new(options.threads)), Arc::new(Pace::new(Arc::clone(&shards))));
        let base = session::base(&options, &env, (&turns, &pace))
            .map_err(|error| QueryError::Internal(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads)
            .thread_name("query")
            // Reading blocks, in turns; writing does, too.
            .max_blocking_threads((options.threads * 8).max(32))
            .on_thread_start(be_nice)
            .enable_all()
            .build()
            .map_err(|error| {
                QueryError::Internal(format!("the query engine's threads don't start: {error}"))
            })?;
        let (channels, names) = (Arc::new(Channels::here()), Arc::<KnownNames>::default());
        let exports = Arc::new(Exports::below(&options.export_urls));
        let inner = Inner {
            worker: session::worker(&options, &env, (&turns, &pace), &shards, &channels, (&names, &exports)),
            exports,
            gate: Gate::new(options.queries, options.waiting, options.wait),
            channels,
            names,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            runtime: Some(runtime),
            host: shards,
            options,
            base,
            _env: env,
        };
        let engine = Self { inner: Opaque::new(inner) };
        if let Some(runtime) = &engine.inner.runtime {
            let (stopping, sweep) = (engine.inner.stopping.clone(), sweep(engine.inner.worker.clone()));
            let sweeping = async move { stopping.run_until_cancelled(sweep).await };
            engine.inner.tasks.spawn_on(sweeping, runtime.handle());
        }
        Ok(engine)
    }

    /// Adds the service that the other nodes send their tasks to; it belongs on the nodes' own address.
    pub fn add_worker_to(&self, mut routes: RoutesBuilder) -> RoutesBuilder {
        if let Some(runtime) = &self.inner.runtime {
            routes.add_service(Elsewhere {
                inner: self.inner.worker.clone().into_worker_server(),
                runtime: runtime.handle().clone(),
                tasks: self.inner.tasks.clone(),
                stopping: self.inner.stopping.clone(),
            });
        }
        routes
    }

    /// Understands a statement.
    ///
    /// # Errors
    /// It is wrong, or does what no statement may.
    pub async fn prepare(&self, sql: &str) -> Result<Prepared, QueryError> {
        let longest = self.inner.options.statement_bytes;
        if sql.len() > longest {
            let detail = format!("a statement may have {longest} bytes");
            return Err(QueryError::Limit { what: Limit::Statement, detail });
        }
        let (inner, sql) = (self.inner.clone(), sql.to_owned());
        let work = async move {
            let state = session::planning(&inner.base, &inner.host)
                .map_err(|error| QueryError::Internal(error.strip_backtrace()))?;
            statement::prepare(&state, &sql).await
        };
        // Planning is work, too: a statement of a megabyte takes its time.
        self.spawn(work)?.await.ok().flatten().unwrap_or(Err(QueryError::Cancelled))
    }

    /// Opens a cut for statements that are to be of the same moment ([`RunOptions::cut`]).
    ///
    /// # Errors
    /// Shards can't be reached.
    pub async fn open_cut(
        &self,
        freshness: Freshness,
        members: Option<Members>,
        time: Duration,
    ) -> Result<Arc<dyn OpenCut>, QueryError> {
        let deadline = Instant::now() + time;
        self.inner.host.open_cut(freshness, members, time + LEASE_MORE, deadline.into_std()).await
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// The parameters don't fit, a bound is met, or shards can't be reached.
    pub async fn run(
        &self,
        statement: &Prepared,
        parameters: ParamValues,
        options: RunOptions,
    ) -> Result<Answer, QueryError> {
        let longest = self.inner.options.timeout_max;
        let time = options.timeout.min(longest);
        let deadline = Instant::now() + time;
        let late = if options.timeout > longest {
            let detail = format!("a query may take {} seconds; ask for less at once", longest.as_secs());
            QueryError::Limit { what: Limit::Time, detail }
        } else {
            QueryError::DeadlineExceeded
        };
        let place = self.inner.gate.enter(deadline).await?;
        let (head, told) = oneshot::channel();
        let (batches, ready) = mpsc::channel(READY_MAX);
        let work = Work {
            inner: self.inner.clone(),
            statement: statement.clone(),
            parameters,
            options,
            deadline,
            lease: time + LEASE_MORE,
        };
        let task = self.spawn(async move {
            let _place = place;
            let mut head = Some(head);
            let done = match timeout_at(deadline, work.drive(&mut head, &batches)).await {
                Ok(done) => done,
                Err(_) => Err(late),
            };
            if let Err(error) = done {
                match head.take() {
                    // Nobody may listen any more.
                    Some(head) => drop(head.send(Err(error))),
                    None => drop(batches.send(Err(error)).await),
                }
            }
        })?;
        let head = match told.await {
            Ok(head) => head?,
            Err(_) => return Err(ended(task).await.unwrap_or(QueryError::Cancelled)),
        };
        let batches = stream::unfold(Some((ready, task)), |reading| async move {
            let (mut ready, task) = reading?;
            if let Some(next) = ready.recv().await {
                return Some((next, Some((ready, task))));
            }
            // A task that was broken off must not look like one that was done.
            Some((Err(ended(task).await?), None))
        });
        Ok(Answer { schema: head.schema, cut: head.cut, batches: batches.boxed() })
    }

    /// Ends all that runs, here and for other nodes, and takes nothing more.
    pub async fn stop(&self) {
        self.inner.gate.close();
        self.inner.stopping.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// The tables of the catalog.
    ///
    /// # Errors
    /// `Internal`: the catalog has a fault.
    pub fn tables(&self) -> Result<Vec<TableInfo>, QueryError> {
        catalog::tables(&self.inner.host).map_err(|error| QueryError::Internal(error.to_string()))
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<AbortOnDropHandle<Option<T>>, QueryError> {
        let runtime = self.inner.runtime.as_ref().ok_or(QueryError::Cancelled)?;
        let stopping = self.inner.stopping.clone();
        let work = async move { stopping.run_until_cancelled(work).await };
        Ok(AbortOnDropHandle::new(self.inner.tasks.spawn_on(work, runtime.handle())))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// Why a task ended without its work done; `None` when it was.
async fn ended(task: AbortOnDropHandle<Option<()>>) -> Option<QueryError> {
    match task.await {
        Ok(Some(())) => None,
        Ok(None) => Some(QueryError::Cancelled),
        Err(error) if error.is_panic() => {
            Some(QueryError::Internal("the query engine has a fault".to_owned()))
        }
        Err(_) => Some(QueryError::Cancelled),
    }
}

fn be_nice() {
    // Where that isn't allowed, the threads are as the others.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the query engine's threads keep their priority");
    }
}

/// A statement as it runs.
struct Work {
    inner: Opaque<Inner>,
    statement: Prepared,
    parameters: ParamValues,
    options: RunOptions,
    deadline: Instant,
    lease: Duration,
}

type Told = oneshot::Sender<Result<Head, QueryError>>;

impl Work {
    async fn drive(
        &self,
        head: &mut Option<Told>,
        batches: &mpsc::Sender<Result<arrow::record_batch::RecordBatch, QueryError>>,
    ) -> Result<(), QueryError> {
        let (mut sent, mut cut) = (false, self.options.cut.clone());
        match self.rows(head, batches, &mut sent, &mut cut).await {
            Err(error) if says_names_are_unknown(&error) => {
                self.inner.names.tell(NamesOf::default());
                if sent {
                    return Err(error);
                }
                // Nobody has seen anything of it yet but which cut it is of.
                self.rows(head, batches, &mut sent, &mut cut).await
            }
            done => done,
        }
    }

    async fn rows(
        &self,
        head: &mut Option<Told>,
        batches: &mpsc::Sender<Result<arrow::record_batch::RecordBatch, QueryError>>,
        sent: &mut bool,
        cut: &mut Option<Arc<dyn OpenCut>>,
    ) -> Result<(), QueryError> {
        let sql = &self.statement.sql;
        let started = run::start(
            &self.inner,
            &self.statement,
            &self.parameters,
            (self.options.freshness, cut.clone()),
            self.lease,
            self.deadline.into_std(),
        )
        .await?;
        if let Some(head) = head.take()
            && head.send(Ok(started.head)).is_err()
        {
            return Err(QueryError::Cancelled);
        }
        let mut allowance = Allowance::new(self.options.rows_max, self.options.bytes_max);
        let counts = self.statement.kind == Kind::Query;
        // The cut lives as long as the rows are read.
        let mut rows = started.rows;
        *cut = started.cut;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(|error| crate::error::from_datafusion(&error, sql))?;
            if counts {
                allowance.take(&batch)?;
            }
            *sent = true;
            if batches.send(Ok(batch)).await.is_err() {
                return Err(QueryError::Cancelled);
            }
        }
        // Each node that has rows has had the whole plan.
        if let Some(names) = started.names {
            self.inner.names.tell(names);
        }
        Ok(())
    }
}
