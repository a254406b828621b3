//! `profiles`: facets that are a profile by themselves as they are, the others put together by profile.
//!
//! The second half is an ordinary aggregate over what facets bring ([`Part`]), so the planner leaves out what a query doesn't
//! name, each node adds up what it has, and what is sent are a few numbers a facet. Only what is asked for as JSON text needs
//! maps of summaries.

use std::{borrow::Cow, fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{Result, ScalarValue, internal_err},
    datasource::provider_as_source,
    functions_aggregate::expr_fn::{max, min, sum},
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType, col, ident, lit},
    physical_plan::ExecutionPlan,
};

use super::{
    Make, Out, PROFILE_ID, Part, ProfileColumn, ShardTable, facet_raw as raw, registered, schema_of,
};
use crate::{
    functions,
    seam::{Catalog, Shards, Table},
};

/// What a column of a profile of one facet needs.
pub(super) fn needs(column: &ProfileColumn) -> Vec<usize> {
    match column {
        ProfileColumn::Id => vec![raw::FACET],
        ProfileColumn::Identifiers => vec![raw::NAMESPACE, raw::VALUE],
        ProfileColumn::FirstSeen => vec![raw::FIRST_SEEN],
        ProfileColumn::LastSeen => vec![raw::LAST_SEEN],
        ProfileColumn::Events => vec![raw::EVENTS],
        _ => vec![raw::SUMMARY],
    }
}

/// The columns of `profiles`, with those of registered traits.
pub(crate) fn profiles(catalog: &Catalog) -> Vec<(String, ProfileColumn)> {
    let fixed = [
        (PROFILE_ID, ProfileColumn::Id),
        ("identifiers", ProfileColumn::Identifiers),
        ("first_seen", ProfileColumn::FirstSeen),
        ("last_seen", ProfileColumn::LastSeen),
        ("events", ProfileColumn::Events),
        ("event_counts", ProfileColumn::EventCounts),
        ("type_counts", ProfileColumn::TypeCounts),
        ("revenue", ProfileColumn::Revenue(catalog.currency.clone())),
        ("revenue_by_currency", ProfileColumn::RevenueByCurrency),
        ("sources", ProfileColumn::Sources),
        ("traits", ProfileColumn::Traits),
    ];
    let fixed = fixed.map(|(name, column)| Out::new(name, Make::Profile(column)));
    let typed = registered(&fixed, &catalog.traits, |column| Make::Profile(ProfileColumn::Trait(column)));
    let all = fixed.into_iter().chain(typed);
    all.filter_map(|out| if let Make::Profile(column) = out.make { Some((out.name, column)) } else { None })
        .collect()
}

/// The table: a name for a plan.
pub(crate) struct ProfilesTable {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl ProfilesTable {
    /// # Errors
    /// None that there is a reason for.
    pub(crate) fn new(columns: &[(String, ProfileColumn)], host: &Arc<dyn Shards>) -> Result<Self> {
        let out =
            |(name, column): &(String, ProfileColumn)| Out::new(name.clone(), Make::Profile(column.clone()));
        let outs: Vec<Out> = columns.iter().map(out).collect();
        let schema = schema_of(Table::Facets, &outs);
        let alone =
            ShardTable::new("profiles of one facet", Table::Facets, outs, Arc::clone(host)).alone(true);
        let alone = LogicalPlanBuilder::scan("one_facet", provider_as_source(Arc::new(alone)), None)?
            .project(columns.iter().map(|(name, _)| ident(name.clone())))?;
        let plan = alone.union(of_several(columns, host)?)?.build()?;
        Ok(Self { schema, plan })
    }
}

/// What profiles of several facets are put together by. Not called as the column is that is made of it: a plan may have both.
const KEY: &str = "of_profile";

/// Profiles of several facets.
fn of_several(columns: &[(String, ProfileColumn)], host: &Arc<dyn Shards>) -> Result<LogicalPlan> {
    let mut several = Several::default();
    let shown = columns.iter().map(|(name, column)| several.column(column).alias(name.clone()));
    let shown: Vec<Expr> = shown.collect();
    let table = ShardTable::new("profiles of several facets", Table::Facets, several.outs, Arc::clone(host));
    LogicalPlanBuilder::scan(
        "several_facets",
        provider_as_source(Arc::new(table.alone(false).terse())),
        None,
    )?
    .aggregate([col(KEY)], several.aggregates)?
    .project(shown)?
    .build()
}

/// What is read of facets, and how it is put together.
struct Several {
    outs: Vec<Out>,
    aggregates: Vec<Expr>,
}

impl Default for Several {
    fn default() -> Self {
        Self { outs: vec![Out::new(KEY, Make::ProfileId(raw::HOME))], aggregates: Vec::new() }
    }
}

impl Several {
    /// Has a column of facets put together; how to call what comes of it.
    fn aggregate(&mut self, make: Make, by: impl FnOnce(Expr) -> Expr) -> Expr {
        let name = format!("part_{}", self.outs.len());
        self.outs.push(Out::new(name.clone(), make));
        let sum = format!("all_{name}");
        self.aggregates.push(by(col(name)).alias(sum.clone()));
        col(sum)
    }

    /// A column of profiles, of what was put together.
    fn column(&mut self, column: &ProfileColumn) -> Expr {
        match column {
            ProfileColumn::Id => col(KEY),
            ProfileColumn::FirstSeen => self.aggregate(Make::Raw(raw::FIRST_SEEN), min),
            ProfileColumn::LastSeen => self.aggregate(Make::Raw(raw::LAST_SEEN), max),
            ProfileColumn::Events => {
                let events = self.aggregate(Make::Raw(raw::EVENTS), sum);
                datafusion::functions::core::expr_fn::coalesce(vec![events, lit(0_i64)])
            }
            ProfileColumn::Revenue(currency) => {
                let money = self.aggregate(Make::Part(Part::Money(currency.clone())), sum);
                let fold = |part| functions::fold().call(vec![part]);
                let large = self.aggregate(Make::Part(Part::LargeMoney(currency.clone())), fold);
                let currency = lit(ScalarValue::Utf8(Some(currency.clone())));
                functions::money().call(vec![money, large, currency])
            }
            ProfileColumn::Trait(registered) => {
                let newest = |part| functions::newest().call(vec![part]);
                let latest = self.aggregate(Make::Part(Part::Latest(registered.clone())), newest);
                functions::latest(registered.ty).call(vec![latest])
            }
            ProfileColumn::Identifiers => {
                let fold = |part| functions::fold_identifiers().call(vec![part]);
                let all = self.aggregate(Make::Part(Part::Identifier), fold);
                functions::shown(column).call(vec![all])
            }
            ProfileColumn::EventCounts
            | ProfileColumn::TypeCounts
            | ProfileColumn::RevenueByCurrency
            | ProfileColumn::Sources
            | ProfileColumn::Traits => {
                let fold = |part| functions::fold().call(vec![part]);
                let all = self.aggregate(Make::Part(Part::Summary(column.clone())), fold);
                functions::shown(column).call(vec![all])
            }
        }
    }
}

impl fmt::Debug for ProfilesTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProfilesTable")
    }
}

#[async_trait]
impl TableProvider for ProfilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!("profiles are a plan, and no table to scan")
    }
}
