//! The plan node of a scan.

use std::{fmt, sync::Arc};

use arrow::{datatypes::FieldRef, record_batch::RecordBatch};
use datafusion::{
    common::{Result, Statistics, stats::Precision, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        statistics::StatisticsArgs,
        stream::RecordBatchReceiverStreamBuilder,
    },
};
use datafusion_distributed::DistributedTaskContext;
use tokio::sync::{Semaphore, mpsc};

use crate::{
    error::{QueryError, broken, to_datafusion},
    scan::{Of, ScanSpec, make::Maker},
    seam::{Batches, Filters, Request, Shards, Table},
    tables::{Out, schema_of},
};

/// Reads a raw table of the shards of this node.
#[derive(Clone)]
pub(crate) struct ScanExec {
    spec: Arc<ScanSpec>,
    of: Of,
    host: Arc<dyn Shards>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ScanExec {
    pub(crate) fn new(spec: Arc<ScanSpec>, of: Of, host: Arc<dyn Shards>) -> Result<Self> {
        if of.partitions < 2 {
            // With one, a plan might be cut above it where nothing brings the nodes' rows together.
            return Err(broken!("a scan needs two partitions at least"));
        }
        let schema = schema_of(spec.table, &spec.outs);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(of.partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { spec, of, host, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }

    pub(crate) fn spec(&self) -> &ScanSpec {
        &self.spec
    }

    pub(crate) fn of(&self) -> &Of {
        &self.of
    }

    /// How many rows there are, about.
    fn rows(&self) -> usize {
        let rows = self.of.rows;
        let rows = match (self.spec.table, self.spec.filters.alone) {
            (Table::Events, _) => rows.events,
            (Table::Facets, Some(false)) => rows.facets / 2,
            (Table::Facets, _) => rows.facets,
            _ => rows.facets / 4,
        };
        // What a filter leaves is a guess, the same as the engine makes of those above a scan.
        let Filters { names, sources, types, timestamp, received_at, .. } = &self.spec.filters;
        let lists = [names.is_some(), sources.is_some(), types.is_some()];
        let ranges = [timestamp, received_at].map(|range| *range != (None, None));
        let filters = lists.into_iter().chain(ranges).filter(|is| *is).count();
        let rows = (0..filters).fold(rows, |rows, _| rows.div_ceil(5));
        usize::try_from(rows).unwrap_or(usize::MAX).min(self.spec.limit.unwrap_or(usize::MAX))
    }

    /// How many bytes a row has, about.
    fn row_bytes(&self) -> usize {
        let column = |field: &FieldRef| field.data_type().primitive_width().unwrap_or(32);
        self.schema().fields().iter().map(column).sum::<usize>().max(1)
    }

    /// Whether a column of it names profiles.
    pub(crate) fn needs_names(&self) -> bool {
        self.spec.outs.iter().any(Out::needs_names)
    }
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec({})", self.spec.name)
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.spec.outs.iter().map(|out| out.name.as_str()).collect();
        let shards: usize = self.of.nodes.iter().map(|node| node.shards.len()).sum();
        let nodes = self.of.nodes.len();
        write!(
            f,
            "ScanExec: {}, shards={shards}, nodes={nodes}, columns=[{}]",
            self.spec.name,
            columns.join(", ")
        )?;
        let filters = &self.spec.filters;
        for (what, range) in [("timestamp", filters.timestamp), ("received_at", filters.received_at)] {
            if range != (None, None) {
                write!(
                    f,
                    ", {what} {}..={}",
                    range.0.map_or(String::new(), |n| n.to_string()),
                    range.1.map_or(String::new(), |n| n.to_string())
                )?;
            }
        }
        // Names of events and sources are no personal data, but may be long.
        for (what, among) in [
            ("names", filters.names.as_ref().map(Vec::len)),
            ("sources", filters.sources.as_ref().map(Vec::len)),
            ("types", filters.types.as_ref().map(Vec::len)),
        ] {
            if let Some(n) = among {
                write!(f, ", {what}={n}")?;
            }
        }
        if let Some(limit) = self.spec.limit {
            write!(f, ", limit={limit}")?;
        }
        if self.spec.terse {
            f.write_str(", terse")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &'static str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let task = DistributedTaskContext::from_ctx(&context);
        let shards = match self.of.nodes.get(task.task_index) {
            Some(mine) if task.task_count == self.of.nodes.len() && mine.node == self.host.node() => {
                mine.shards.clone()
            }
            _ => {
                return Err(broken!(
                    "the plan is not sound: task {} of {} on node {} reads shards of {} nodes",
                    task.task_index,
                    task.task_count,
                    self.host.node(),
                    self.of.nodes.len()
                ));
            }
        };
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema(), 2);
        let turns = context.session_config().get_extension::<Turns>();
        let work = Work {
            spec: Arc::clone(&self.spec),
            maker: Maker::new(&self.spec, &self.of.names),
            host: Arc::clone(&self.host),
            shards,
            partition,
            partitions: self.of.partitions,
            batch_rows: self.of.batch_rows,
            turns: turns.ok_or_else(|| broken!("a scan runs outside of an engine"))?,
            batches: builder.tx(),
            baseline: BaselineMetrics::new(&self.metrics, partition),
            metrics: self.metrics.clone(),
        };
        builder.spawn(work.run());
        Ok(builder.build())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        if args.partition().is_none() {
            statistics.num_rows = Precision::Inexact(self.rows());
            statistics.total_byte_size = Precision::Inexact(self.rows().saturating_mul(self.row_bytes()));
        }
        Ok(Arc::new(statistics))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Turns to read: as many scans of an engine decode at a time as it has threads.
pub(crate) struct Turns(Semaphore);

impl Turns {
    pub(crate) fn new(threads: usize) -> Self {
        Self(Semaphore::new(threads))
    }
}

/// Batches of a turn: few enough to be stopped soon, many enough to be worth a change of threads.
const TURN_BATCHES: usize = 4;

/// A partition of a scan.
struct Work {
    spec: Arc<ScanSpec>,
    maker: Maker,
    host: Arc<dyn Shards>,
    shards: Vec<(u64, u64)>,
    partition: usize,
    partitions: usize,
    batch_rows: usize,
    turns: Arc<Turns>,
    batches: mpsc::Sender<Result<RecordBatch>>,
    baseline: BaselineMetrics,
    metrics: ExecutionPlanMetricsSet,
}

/// A part of a shard that is being read.
struct Reading {
    part: Batches,
    rows: Count,
    batches: Count,
}

/// What a turn brought: batches that were made, and the part, if there is more of it.
type Turn = (Vec<RecordBatch>, Option<Reading>);

impl Work {
    /// Reads in turns. While nobody takes what was read no thread waits, and when nobody will, none goes on.
    async fn run(self) -> Result<()> {
        let this = Arc::new(self);
        let (mut left, mut dealt) = (this.spec.limit.unwrap_or(usize::MAX), 0);
        for &(shard, pin) in &this.shards {
            let of_shard = Arc::clone(&this);
            let parts = this.in_turn(move || of_shard.parts(shard, pin)).await?;
            let of_shard = |what: &str| this.count(format!("shard_{shard}_{what}"));
            let (rows, batches) = (of_shard("rows"), of_shard("batches"));
            for part in parts {
                let mine = dealt % this.partitions == this.partition;
                dealt += 1;
                if !mine {
                    continue;
                }
                let mut reading = Some(Reading { part, rows: rows.clone(), batches: batches.clone() });
                while let Some(part) = reading.take() {
                    let Ok(room) = this.batches.reserve().await else { return Ok(()) };
                    let of_part = Arc::clone(&this);
                    let (made, rest) = this.in_turn(move || of_part.turn(part)).await?;
                    reading = rest;
                    let mut room = Some(room);
                    for mut batch in made {
                        if batch.num_rows() > left {
                            batch = batch.slice(0, left);
                        }
                        left -= batch.num_rows();
                        this.baseline.record_output(batch.num_rows());
                        match room.take() {
                            Some(room) => room.send(Ok(batch)),
                            None if this.batches.send(Ok(batch)).await.is_err() => return Ok(()),
                            None => {}
                        }
                        if left == 0 {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Does something that may wait for a disk, once it is this scan's turn.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _turn = self.turns.0.acquire().await.map_err(|_| to_datafusion(QueryError::Cancelled))?;
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => Err(broken!("reading a shard has a fault")),
            Err(_) => Err(to_datafusion(QueryError::Cancelled)),
        }
    }

    fn parts(&self, shard: u64, pin: u64) -> Result<Vec<Batches>> {
        let request = Request {
            table: self.spec.table,
            columns: self.maker.columns().to_vec(),
            derived: self.maker.derived().to_vec(),
            filters: self.spec.filters.clone(),
            batch_rows: self.batch_rows,
        };
        let Some(snapshot) = self.host.snapshot(shard, pin) else {
            let why = format!(
                "the snapshot of shard {shard} is gone: it was read for too long, or the node began anew"
            );
            return Err(to_datafusion(QueryError::Unavailable(why)));
        };
        Ok(snapshot.parts(&request))
    }

    fn turn(&self, mut reading: Reading) -> Result<Turn> {
        let mut made = Vec::new();
        for _ in 0..TURN_BATCHES {
            let Some(batch) = reading.part.next() else { return Ok((made, None)) };
            let batch = batch.map_err(to_datafusion)?;
            reading.batches.add(1);
            reading.rows.add(batch.num_rows());
            let _timer = self.baseline.elapsed_compute().timer();
            let batch = self.maker.make(&batch)?;
            if batch.num_rows() > 0 {
                made.push(batch);
            }
        }
        Ok((made, Some(reading)))
    }

    fn count(&self, name: String) -> Count {
        MetricBuilder::new(&self.metrics).counter(name, self.partition)
    }
}
