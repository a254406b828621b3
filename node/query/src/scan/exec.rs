//! The plan node of a scan.

use std::{fmt, sync::Arc};

use arrow::record_batch::RecordBatch;
use datafusion::{
    common::{Result, exec_err, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchReceiverStreamBuilder,
    },
};
use datafusion_distributed::DistributedTaskContext;
use tokio::sync::mpsc;

use crate::{
    error::{QueryError, to_datafusion},
    scan::{Of, ScanSpec, make::Maker},
    seam::{Request, Shards},
    tables::{Make, schema_of},
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
            return exec_err!("a scan needs two partitions at least");
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

    /// Whether a column of it names profiles.
    pub(crate) fn needs_names(&self) -> bool {
        self.spec.outs.iter().any(|out| matches!(out.make, Make::ProfileId(_)))
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
                return exec_err!(
                    "the plan is not sound: task {} of {} on node {} reads shards of {} nodes",
                    task.task_index,
                    task.task_count,
                    self.host.node(),
                    self.of.nodes.len()
                );
            }
        };
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema(), 2);
        let work = Work {
            spec: Arc::clone(&self.spec),
            maker: Maker::new(&self.spec, &self.of.names),
            host: Arc::clone(&self.host),
            shards,
            partition,
            partitions: self.of.partitions,
            batch_rows: self.of.batch_rows,
            batches: builder.tx(),
            baseline: BaselineMetrics::new(&self.metrics, partition),
            metrics: self.metrics.clone(),
        };
        builder.spawn_blocking(move || work.run());
        Ok(builder.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A partition of a scan on its thread.
struct Work {
    spec: Arc<ScanSpec>,
    maker: Maker,
    host: Arc<dyn Shards>,
    shards: Vec<(u64, u64)>,
    partition: usize,
    partitions: usize,
    batch_rows: usize,
    batches: mpsc::Sender<Result<RecordBatch>>,
    baseline: BaselineMetrics,
    metrics: ExecutionPlanMetricsSet,
}

impl Work {
    fn run(&self) -> Result<()> {
        let request = Request {
            table: self.spec.table,
            columns: self.maker.columns().to_vec(),
            filters: self.spec.filters.clone(),
            batch_rows: self.batch_rows,
        };
        let mut left = self.spec.limit.unwrap_or(usize::MAX);
        let mut dealt = 0;
        for &(shard, pin) in &self.shards {
            if self.batches.is_closed() {
                return Ok(());
            }
            let Some(snapshot) = self.host.snapshot(shard, pin) else {
                let why = format!(
                    "the snapshot of shard {shard} is gone: it was read for too long, or the node began anew"
                );
                return Err(to_datafusion(QueryError::Unavailable(why)));
            };
            let of_shard = |what: &str| self.count(format!("shard_{shard}_{what}"));
            let (rows, batches) = (of_shard("rows"), of_shard("batches"));
            for part in snapshot.parts(&request) {
                let mine = dealt % self.partitions == self.partition;
                dealt += 1;
                if !mine {
                    continue;
                }
                for batch in part {
                    let batch = batch.map_err(to_datafusion)?;
                    batches.add(1);
                    rows.add(batch.num_rows());
                    let timer = self.baseline.elapsed_compute().timer();
                    let mut made = self.maker.make(&batch)?;
                    timer.done();
                    if made.num_rows() > left {
                        made = made.slice(0, left);
                    }
                    left -= made.num_rows();
                    if made.num_rows() > 0 {
                        self.baseline.record_output(made.num_rows());
                        if self.batches.blocking_send(Ok(made)).is_err() {
                            return Ok(());
                        }
                    }
                    if left == 0 {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&self, name: String) -> Count {
        MetricBuilder::new(&self.metrics).counter(name, self.partition)
    }
}
