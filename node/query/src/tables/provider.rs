//! Tables of shards as DataFusion knows them.
//!
//! A provider belongs to no cut: it is asked for a scan when a statement runs, and finds the cut of that run in the session
//! ([`Reading`]).

use std::{collections::HashSet, fmt, sync::Arc};

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider, default_table_source::source_as_provider},
    common::{Result, internal_err, tree_node::TreeNodeRecursion},
    logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType},
    physical_plan::ExecutionPlan,
};

use crate::{
    distribute::Reading,
    scan::{ScanExec, ScanSpec, filters_of, is_exact, is_useful},
    seam::{Filters, Members, Shards, Table},
    tables::{Out, schema_of},
};

/// The column that says since when somebody is in a segment.
const SINCE: &str = "since";

/// A table that is a scan of a raw one.
pub(crate) struct ShardTable {
    name: &'static str,
    table: Table,
    outs: Vec<Out>,
    schema: SchemaRef,
    /// What holds of every scan.
    filters: Filters,
    /// Rows without a value here are none of it.
    present: Option<usize>,
    /// See [`ScanSpec::terse`].
    terse: bool,
    host: Arc<dyn Shards>,
}

impl ShardTable {
    pub(crate) fn new(name: &'static str, table: Table, outs: Vec<Out>, host: Arc<dyn Shards>) -> Self {
        let schema = schema_of(table, &outs);
        Self { name, table, outs, schema, filters: Filters::default(), present: None, terse: false, host }
    }

    /// Only facets that are a profile by themselves, or only those that are one of several of theirs.
    pub(crate) fn alone(mut self, alone: bool) -> Self {
        self.filters.alone = Some(alone);
        self
    }

    /// The same table with numbers for the names of profiles, and the names of these columns.
    pub(crate) fn with_numbers(&self) -> (Self, HashSet<String>) {
        let mut changed = HashSet::new();
        let number = |out: &Out| match out.with_number() {
            Some(number) => {
                changed.insert(out.name.clone());
                number
            }
            None => out.clone(),
        };
        let outs = self.outs.iter().map(number).collect();
        let table = Self::new(self.name, self.table, outs, Arc::clone(&self.host));
        (Self { filters: self.filters.clone(), present: self.present, terse: self.terse, ..table }, changed)
    }

    /// Only rows with a value in this raw column.
    pub(crate) fn where_present(mut self, place: usize) -> Self {
        self.present = Some(place);
        self
    }

    /// Without rows that bring nothing to what is asked for, where rows are put together by profile: see [`ScanSpec::terse`].
    pub(crate) fn terse(mut self) -> Self {
        self.terse = true;
        self
    }

    /// Whether one of these columns is made with the names of profiles.
    fn needs_names(&self, columns: &Schema) -> bool {
        let is_asked_for = |out: &&Out| columns.column_with_name(&out.name).is_some();
        self.outs.iter().filter(is_asked_for).any(Out::needs_names)
    }
}

impl fmt::Debug for ShardTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardTable({})", self.name)
    }
}

#[async_trait]
impl TableProvider for ShardTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // A scan leaves out what it can; where that isn't all, the filter above it stays.
        let of = |filter: &&Expr| match is_useful(self.table, filter) {
            true if is_exact(self.table, filter) => TableProviderFilterPushDown::Exact,
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(of).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let outs = chosen(&self.outs, projection);
        let spec = ScanSpec {
            name: self.name.to_owned(),
            table: self.table,
            outs,
            filters: filters_of(self.table, filters, self.filters.clone()),
            present: self.present,
            terse: self.terse,
            limit: if filters.is_empty() { limit } else { None },
        };
        scan(state, spec, &self.host)
    }
}

fn chosen<T: Clone>(all: &[T], projection: Option<&Vec<usize>>) -> Vec<T> {
    match projection {
        None => all.to_vec(),
        Some(places) => places.iter().filter_map(|place| all.get(*place).cloned()).collect(),
    }
}

fn scan(state: &dyn Session, spec: ScanSpec, host: &Arc<dyn Shards>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(reading) = state.config().get_extension::<Reading>() else {
        return internal_err!("a table of shards is read without a cut");
    };
    let partitions = state.config().target_partitions();
    Ok(Arc::new(ScanExec::new(
        Arc::new(spec),
        reading.of_scan(partitions, state.config().batch_size()),
        Arc::clone(host),
    )?))
}

/// What a plan reads of shards: whether anything, and whether it needs the names of profiles whose home is not their founder.
pub(crate) fn asks_for_names(plan: &LogicalPlan) -> Result<(bool, bool)> {
    let (mut reads, mut names) = (false, false);
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(table) = provider.downcast_ref::<ShardTable>()
        {
            reads = true;
            names |= table.needs_names(scan.projected_schema.as_arrow());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok((reads, names))
}

/// What a plan asks of who is in which segment; `None`: nothing.
pub(crate) fn asks_for_members(plan: &LogicalPlan) -> Result<Option<Members>> {
    let mut wanted: Option<Members> = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(table) = provider.downcast_ref::<ShardTable>()
            && table.table == Table::SegmentMembers
        {
            let since = scan.projected_schema.as_arrow().column_with_name(SINCE).is_some();
            let named = filters_of(table.table, &scan.filters, Filters::default()).names;
            wanted = Some(match wanted.take() {
                None => Members { segments: named, since },
                Some(known) => Members {
                    segments: known.segments.zip(named).map(|(mut known, mut named)| {
                        known.append(&mut named);
                        known
                    }),
                    since: known.since || since,
                },
            });
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(wanted)
}
