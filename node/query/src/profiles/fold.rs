//! The plan node that folds profiles of several facets.
//!
//! Its input is [`crate::tables::piece`]: all facets of a home in one partition, one behind the other. DataFusion brings
//! that about (by hash and by sorting, which spills); the node only walks along.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, RecordBatch, RecordBatchOptions},
    datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType},
};
use datafusion::{
    common::{Result, Statistics, internal_err, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{
        Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, Partitioning, PhysicalExpr,
        PhysicalSortExpr, expressions::Column,
    },
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        distribution_requirements::InputDistributionRequirements,
        execution_plan::{Boundedness, CardinalityEffect, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        statistics::{ChildStats, StatisticsArgs},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, stream};
use isthmus_domain::{FacetId, FacetSummary, Identifier};

use crate::{
    error::broken,
    profiles::{Builder, Person, alone::read, founder_key, founder_of},
    seam::Table,
    tables::{Make, Out, ProfileColumn, schema_of},
};

/// Where the home stands in the input.
const HOME: usize = 0;

/// Folds facets, sorted by home, into profiles.
#[derive(Debug, Clone)]
pub(crate) struct FoldExec {
    input: Arc<dyn ExecutionPlan>,
    columns: Vec<(String, ProfileColumn)>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl FoldExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, columns: Vec<(String, ProfileColumn)>) -> Result<Self> {
        let outs: Vec<Out> = columns
            .iter()
            .map(|(name, column)| Out::new(name.clone(), Make::Profile(column.clone())))
            .collect();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema_of(Table::Facets, &outs)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { input, columns, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }

    pub(crate) fn columns(&self) -> &[(String, ProfileColumn)] {
        &self.columns
    }

    fn home(&self) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new("home", HOME))
    }
}

impl DisplayAs for FoldExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        write!(f, "FoldExec: columns=[{}]", columns.join(", "))
    }
}

impl ExecutionPlan for FoldExec {
    fn name(&self) -> &'static str {
        "FoldExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::KeyPartitioned(vec![self.home()])])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![LexOrdering::new([PhysicalSortExpr::new_default(self.home())]).map(OrderingRequirements::from)]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        if let Some(input) = inputs.first() {
            statistics.num_rows = input.num_rows.to_inexact();
            statistics.total_byte_size = input.total_byte_size.to_inexact();
        }
        Ok(Arc::new(statistics))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([input]) = <[_; 1]>::try_from(children) else {
            return internal_err!("a fold has one input");
        };
        Ok(Arc::new(Self::new(input, self.columns.clone())?))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let schema = self.schema();
        let fold = Fold::new(&self.columns, Arc::clone(&schema), context.session_config().batch_size());
        let walk = Walk {
            input: Some(input),
            fold,
            ready: VecDeque::new(),
            baseline: BaselineMetrics::new(&self.metrics, partition),
        };
        let batches =
            stream::try_unfold(
                walk,
                |mut walk| async move { Ok(walk.next().await?.map(|batch| (batch, walk))) },
            );
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A walk along the input.
struct Walk {
    /// Until it is at its end.
    input: Option<SendableRecordBatchStream>,
    fold: Fold,
    ready: VecDeque<RecordBatch>,
    baseline: BaselineMetrics,
}

impl Walk {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                self.baseline.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            let Some(input) = &mut self.input else { return Ok(None) };
            let next = input.next().await.transpose()?;
            let _timer = self.baseline.elapsed_compute().timer();
            match next {
                Some(batch) => self.fold.take(&batch, &mut self.ready)?,
                None => {
                    self.input = None;
                    self.fold.end(&mut self.ready)?;
                }
            }
        }
    }
}

/// The profile that is being folded, and the rows of those before it.
struct Fold {
    schema: SchemaRef,
    builder: Builder,
    batch_rows: usize,
    home: Option<FacetId>,
    /// The least [`founder_key`] so far.
    founder: Option<Vec<u8>>,
    identifiers: BTreeSet<Identifier>,
    first_seen: Option<i64>,
    last_seen: Option<i64>,
    events: u64,
    summary: FacetSummary,
}

impl Fold {
    fn new(columns: &[(String, ProfileColumn)], schema: SchemaRef, batch_rows: usize) -> Self {
        Self {
            schema,
            builder: Builder::new(columns.iter().map(|(_, column)| column.clone()), batch_rows),
            batch_rows,
            home: None,
            founder: None,
            identifiers: BTreeSet::new(),
            first_seen: None,
            last_seen: None,
            events: 0,
            summary: FacetSummary::default(),
        }
    }

    fn take(&mut self, batch: &RecordBatch, ready: &mut VecDeque<RecordBatch>) -> Result<()> {
        let column = |at: usize| {
            batch.columns().get(at).ok_or_else(|| broken!("a piece of a profile lacks column {at}"))
        };
        let wrong = || broken!("a piece of a profile has other columns than it should");
        let homes = column(HOME)?.as_fixed_size_binary_opt().ok_or_else(wrong)?;
        let facets = column(1)?.as_fixed_size_binary_opt().ok_or_else(wrong)?;
        let namespaces = column(2)?.as_string_opt::<i32>().ok_or_else(wrong)?;
        let values = column(3)?.as_string_opt::<i32>().ok_or_else(wrong)?;
        let first = column(4)?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
        let last = column(5)?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
        let events = column(6)?.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let summaries = batch
            .columns()
            .get(7)
            .map(|column| column.as_binary_opt::<i32>().ok_or_else(wrong))
            .transpose()?;
        for row in 0..batch.num_rows() {
            let home = FacetId::from_slice(homes.value(row)).ok_or_else(wrong)?;
            if self.home != Some(home) {
                self.close(ready)?;
                self.home = Some(home);
            }
            let first = first.is_valid(row).then(|| first.value(row));
            if namespaces.is_valid(row) && values.is_valid(row) {
                let (namespace, value) = (namespaces.value(row), values.value(row));
                let facet = FacetId::from_slice(facets.value(row)).ok_or_else(wrong)?;
                let key = founder_key(first, namespace, value, facet);
                if self.founder.as_ref().is_none_or(|known| key < *known) {
                    self.founder = Some(key);
                }
                self.identifiers.extend(Identifier::from_stored(namespace, value).ok());
            }
            self.first_seen = match (self.first_seen, first) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            self.last_seen = self.last_seen.max(last.is_valid(row).then(|| last.value(row)));
            self.events = self.events.saturating_add(u64::try_from(events.value(row)).unwrap_or(0));
            if let Some(summaries) = summaries {
                self.summary.merge(&read(summaries.value(row))?);
            }
        }
        Ok(())
    }

    fn end(&mut self, ready: &mut VecDeque<RecordBatch>) -> Result<()> {
        self.close(ready)?;
        if self.builder.rows() > 0 {
            ready.push_back(self.batch()?);
        }
        Ok(())
    }

    /// Writes the row of the profile that is complete.
    fn close(&mut self, ready: &mut VecDeque<RecordBatch>) -> Result<()> {
        let Some(home) = self.home.take() else { return Ok(()) };
        let founder = self.founder.take().and_then(|key| founder_of(&key));
        self.builder.push(&Person {
            id: founder.unwrap_or(home),
            identifiers: &self.identifiers,
            first_seen: self.first_seen.take(),
            last_seen: self.last_seen.take(),
            events: self.events,
            summary: &self.summary,
        });
        self.identifiers.clear();
        self.events = 0;
        self.summary.clear();
        if self.builder.rows() >= self.batch_rows {
            ready.push_back(self.batch()?);
        }
        Ok(())
    }

    fn batch(&mut self) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.builder.rows()));
        let columns = self.builder.finish();
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}
