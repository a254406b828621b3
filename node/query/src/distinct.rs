//! Distinct counts beside other aggregates.
//!
//! The engine counts distinct values with a table of their own for each group, of some KiB from the beginning: a hundred
//! thousand groups take gigabytes. Where nothing but distinct values of one expression is asked for, it groups twice
//! instead. Here the same is done where counts, sums, minima and maxima stand beside: first by the groups and the value,
//! then by the groups.

use std::sync::Arc;

use datafusion::{
    common::{Column, Result, tree_node::Transformed},
    functions_aggregate::expr_fn::{count, max, min, sum},
    logical_expr::{
        Aggregate, Expr, ExprSchemable, LogicalPlan, Projection,
        expr::{AggregateFunction, AggregateFunctionParams},
    },
};

/// What the inner aggregate calls the value, and what it has for the others.
const VALUE: &str = "distinct_value";
const PART: &str = "distinct_part";

/// The plan with the same rows, which groups twice where that spares tables.
///
/// # Errors
/// None for a plan that the optimizer made; a fault otherwise.
pub(crate) fn group_twice(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let twice = |plan: LogicalPlan| match &plan {
        LogicalPlan::Aggregate(node) => match twice(node)? {
            Some(made) => Ok(Transformed::yes(made)),
            None => Ok(Transformed::no(plan)),
        },
        _ => Ok(Transformed::no(plan)),
    };
    Ok(plan.clone().transform_up_with_subqueries(twice)?.data)
}

/// An aggregate function without anything that matters here.
struct Plain<'a> {
    name: &'a str,
    argument: &'a Expr,
    distinct: bool,
}

fn plain(expr: &Expr) -> Option<Plain<'_>> {
    let AggregateFunction { func, params } = match expr {
        Expr::AggregateFunction(function) => function,
        Expr::Alias(alias) => return plain(&alias.expr),
        _ => return None,
    };
    let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = params;
    let ([argument], None, [], None) = (args.as_slice(), filter, order_by.as_slice(), null_treatment) else {
        return None;
    };
    let known = match func.name() {
        "count" => true,
        "sum" | "min" | "max" => !distinct,
        _ => false,
    };
    (known && !argument.is_volatile()).then_some(Plain { name: func.name(), argument, distinct: *distinct })
}

fn twice(node: &Aggregate) -> Result<Option<LogicalPlan>> {
    if node.group_expr.is_empty() || matches!(node.group_expr.as_slice(), [Expr::GroupingSet(_)]) {
        return Ok(None);
    }
    let Some(functions) = node.aggr_expr.iter().map(plain).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let mut values = functions.iter().filter(|it| it.distinct).map(|it| it.argument);
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) || functions.iter().all(|it| it.distinct) {
        return Ok(None);
    }
    let (mut parts, mut wholes) = (Vec::new(), Vec::new());
    for (at, function) in functions.iter().enumerate() {
        let argument = function.argument.clone();
        let part = || Expr::Column(Column::new_unqualified(format!("{PART}_{at}")));
        let (inner, outer) = match (function.name, function.distinct) {
            (_, true) => (None, count(Expr::Column(Column::new_unqualified(VALUE)))),
            ("count", false) => (Some(count(argument)), sum(part())),
            ("sum", false) => (Some(sum(argument)), sum(part())),
            ("min", false) => (Some(min(argument)), min(part())),
            _ => (Some(max(argument)), max(part())),
        };
        parts.extend(inner.map(|inner| inner.alias(format!("{PART}_{at}"))));
        wholes.push(outer.alias(format!("{PART}_all_{at}")));
    }
    let groups = node.group_expr.iter().cloned().chain([value.clone().alias(VALUE)]).collect();
    let inner = Aggregate::try_new(Arc::clone(&node.input), groups, parts)?;
    let columns = inner.schema.columns().into_iter().take(node.group_expr.len()).map(Expr::Column);
    let outer = Aggregate::try_new(Arc::new(LogicalPlan::Aggregate(inner)), columns.collect(), wholes)?;
    // Under the names and of the types that it had.
    let had = node.schema.iter().zip(outer.schema.columns());
    let shown = had.map(|((relation, field), column)| {
        let same = column.relation.as_ref() == relation && column.name == *field.name();
        let shown = Expr::Column(column).cast_to(field.data_type(), &outer.schema)?;
        Ok(if same { shown } else { shown.alias_qualified(relation.cloned(), field.name()) })
    });
    let shown = shown.collect::<Result<Vec<_>>>()?;
    let outer = Arc::new(LogicalPlan::Aggregate(outer));
    Ok(Some(LogicalPlan::Projection(Projection::try_new(shown, outer)?)))
}
