//! A plan whose tables give numbers for names.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::{Column, DFSchema, DFSchemaRef, Result},
    datasource::provider_as_source,
    logical_expr::{
        Aggregate, Expr, Filter, Join, Limit, LogicalPlan, Projection, Sort, SubqueryAlias, TableScan, Union,
        Window, builder::build_join_schema, expr_rewriter::NamePreserver,
    },
};

use super::{
    fit::{Numbers, as_number, as_text, either, gives_number, has_subquery, reads, sort},
    number_type,
};
use crate::{functions, tables::ShardTable};

/// The plan with the same rows, which works with numbers inside.
///
/// # Errors
/// None for a plan that the optimizer made; a fault otherwise.
pub(crate) fn to_numbers(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let (plan, numbers) = rewrite(plan)?;
    with_texts(plan, &numbers)
}

/// A plan and which of its columns are numbers.
type Rewritten = (LogicalPlan, Numbers);

fn rewrite(plan: &LogicalPlan) -> Result<Rewritten> {
    match plan {
        LogicalPlan::TableScan(scan) => table(scan),
        LogicalPlan::Projection(node) => projection(plan, node),
        LogicalPlan::Filter(node) => {
            let (input, numbers) = input_of(plan, &node.input)?;
            let predicate = as_text(node.predicate.clone(), &numbers)?;
            Ok((LogicalPlan::Filter(Filter::new(predicate, Arc::new(input))), numbers))
        }
        LogicalPlan::Sort(node) => {
            let (input, numbers) = input_of(plan, &node.input)?;
            let expr = node.expr.iter().map(|by| sort(by.clone(), &numbers)).collect::<Result<_>>()?;
            Ok((LogicalPlan::Sort(Sort { expr, input: Arc::new(input), fetch: node.fetch }), numbers))
        }
        LogicalPlan::Limit(node) => {
            let (input, numbers) = input_of(plan, &node.input)?;
            Ok((LogicalPlan::Limit(Limit { input: Arc::new(input), ..node.clone() }), numbers))
        }
        LogicalPlan::SubqueryAlias(node) => {
            let (input, numbers) = rewrite(&node.input)?;
            let alias = SubqueryAlias::try_new(Arc::new(input), node.alias.clone())?;
            let renamed = alias.input.schema().columns().into_iter().zip(alias.schema.columns());
            let numbers =
                renamed.filter(|(inner, _)| numbers.contains(inner)).map(|(_, outer)| outer).collect();
            Ok((LogicalPlan::SubqueryAlias(alias), numbers))
        }
        LogicalPlan::Window(node) => {
            let (input, numbers) = input_of(plan, &node.input)?;
            let exprs = named(plan, &node.window_expr, |expr| as_text(expr, &numbers))?;
            Ok((LogicalPlan::Window(Window::try_new(exprs, Arc::new(input))?), numbers))
        }
        LogicalPlan::Aggregate(node) => aggregate(plan, node),
        LogicalPlan::Join(node) => join(plan, node),
        LogicalPlan::Union(node) => union(node),
        other => with_texts_below(other),
    }
}

/// The input of a node that uses it; with texts where the node's expressions read other plans.
fn input_of(plan: &LogicalPlan, input: &LogicalPlan) -> Result<Rewritten> {
    let (input, numbers) = rewrite(input)?;
    if plan.expressions().iter().any(has_subquery) {
        return Ok((with_texts(input, &numbers)?, Numbers::new()));
    }
    Ok((input, numbers))
}

/// A node that is not known here: it gets texts.
fn with_texts_below(plan: &LogicalPlan) -> Result<Rewritten> {
    let inputs = plan.inputs().into_iter().map(|input| {
        let (input, numbers) = rewrite(input)?;
        with_texts(input, &numbers)
    });
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    if inputs.is_empty() {
        return Ok((plan.clone(), Numbers::new()));
    }
    Ok((plan.with_new_exprs(plan.expressions(), inputs)?, Numbers::new()))
}

/// The plan with texts for numbers, under the same names.
fn with_texts(plan: LogicalPlan, numbers: &Numbers) -> Result<LogicalPlan> {
    if numbers.is_empty() {
        return Ok(plan);
    }
    let text = |column: Column| match numbers.contains(&column) {
        false => Expr::Column(column),
        true => {
            let (relation, name) = (column.relation.clone(), column.name.clone());
            functions::id().call(vec![Expr::Column(column)]).alias_qualified(relation, name)
        }
    };
    let exprs = plan.schema().columns().into_iter().map(text).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}

fn table(scan: &TableScan) -> Result<Rewritten> {
    let unchanged = || Ok((LogicalPlan::TableScan(scan.clone()), Numbers::new()));
    let Ok(provider) = source_as_provider(&scan.source) else { return unchanged() };
    let Some(table) = provider.downcast_ref::<ShardTable>() else { return unchanged() };
    let (table, ids) = table.with_numbers();
    let numbers: Numbers =
        scan.projected_schema.columns().into_iter().filter(|it| ids.contains(&it.name)).collect();
    // Filters of a scan go with it, as nobody may apply them again above it; no name of a profile is part of one.
    if numbers.is_empty() || scan.filters.iter().any(|filter| reads(filter, &numbers)) {
        return unchanged();
    }
    let projected_schema = retyped(&scan.projected_schema, &numbers)?;
    let scan = TableScan { source: provider_as_source(Arc::new(table)), projected_schema, ..scan.clone() };
    Ok((LogicalPlan::TableScan(scan), numbers))
}

/// The schema with numbers where there were names.
fn retyped(schema: &DFSchema, numbers: &Numbers) -> Result<DFSchemaRef> {
    let fields = schema.iter().map(|(relation, field)| {
        let is_number = numbers.contains(&Column::new(relation.cloned(), field.name()));
        let field = match is_number {
            true => Arc::new(field.as_ref().clone().with_data_type(number_type())),
            false => Arc::clone(field),
        };
        (relation.cloned(), field)
    });
    let retyped = DFSchema::new_with_metadata(fields.collect(), schema.metadata().clone())?;
    Ok(Arc::new(retyped.with_functional_dependencies(schema.functional_dependencies().clone())?))
}

/// Expressions that are rewritten and keep their names.
fn named(plan: &LogicalPlan, exprs: &[Expr], rewrite: impl Fn(Expr) -> Result<Expr>) -> Result<Vec<Expr>> {
    let names = NamePreserver::new(plan);
    exprs.iter().map(|expr| Ok(names.save(expr).restore(rewrite(expr.clone())?))).collect()
}

fn projection(plan: &LogicalPlan, node: &Projection) -> Result<Rewritten> {
    let (input, numbers) = input_of(plan, &node.input)?;
    let exprs = named(plan, &node.expr, |expr| either(expr, &numbers))?;
    let is_number = |expr: &Expr| as_number(expr, &numbers).is_some();
    let kept: Vec<bool> = node.expr.iter().map(is_number).collect();
    let made = Projection::try_new(exprs, Arc::new(input))?;
    let numbers = which(&made.schema, kept);
    Ok((LogicalPlan::Projection(made), numbers))
}

/// The columns of a schema of which something holds.
fn which(schema: &DFSchema, holds: impl IntoIterator<Item = bool>) -> Numbers {
    schema.columns().into_iter().zip(holds).filter(|(_, holds)| *holds).map(|(column, _)| column).collect()
}

fn aggregate(plan: &LogicalPlan, node: &Aggregate) -> Result<Rewritten> {
    let (mut input, mut numbers) = input_of(plan, &node.input)?;
    // What grouping sets leave out is NULL, and their columns come in an order of their own.
    if matches!(node.group_expr.as_slice(), [Expr::GroupingSet(_)]) {
        (input, numbers) = (with_texts(input, &numbers)?, Numbers::new());
    }
    let groups = named(plan, &node.group_expr, |expr| either(expr, &numbers))?;
    let made = named(plan, &node.aggr_expr, |expr| as_text(expr, &numbers))?;
    let of_groups = node.group_expr.iter().map(|expr| as_number(expr, &numbers).is_some());
    let of_made = node.aggr_expr.iter().map(|expr| gives_number(expr, &numbers));
    let kept: Vec<bool> = of_groups.chain(of_made).collect();
    let aggregate = Aggregate::try_new(Arc::new(input), groups, made)?;
    let numbers = if kept.contains(&true) { which(&aggregate.schema, kept) } else { Numbers::new() };
    Ok((LogicalPlan::Aggregate(aggregate), numbers))
}

fn join(plan: &LogicalPlan, node: &Join) -> Result<Rewritten> {
    let ((mut left, mut of_left), (mut right, mut of_right)) = (rewrite(&node.left)?, rewrite(&node.right)?);
    if plan.expressions().iter().any(has_subquery) {
        (left, of_left) = (with_texts(left, &of_left)?, Numbers::new());
        (right, of_right) = (with_texts(right, &of_right)?, Numbers::new());
    }
    let pair = |(one, other): &(Expr, Expr)| -> Result<(Expr, Expr)> {
        match (as_number(one, &of_left), as_number(other, &of_right)) {
            (Some(one), Some(other)) => Ok((one, other)),
            _ => Ok((as_text(one.clone(), &of_left)?, as_text(other.clone(), &of_right)?)),
        }
    };
    let on = node.on.iter().map(pair).collect::<Result<_>>()?;
    let both: Numbers = of_left.union(&of_right).cloned().collect();
    let filter = node.filter.clone().map(|filter| as_text(filter, &both)).transpose()?;
    let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &node.join_type)?);
    let numbers = schema.columns().into_iter().filter(|column| both.contains(column)).collect();
    let (left, right) = (Arc::new(left), Arc::new(right));
    Ok((LogicalPlan::Join(Join { left, right, on, filter, schema, ..node.clone() }), numbers))
}

fn union(node: &Union) -> Result<Rewritten> {
    let inputs = node.inputs.iter().map(|input| rewrite(input)).collect::<Result<Vec<_>>>()?;
    let is_number = |at: usize| {
        let of = |(plan, numbers): &Rewritten| {
            plan.schema().columns().get(at).is_some_and(|it| numbers.contains(it))
        };
        inputs.iter().all(of)
    };
    let kept: Vec<bool> = (0..node.schema.fields().len()).map(is_number).collect();
    let fit = |(plan, numbers): Rewritten| -> Result<Arc<LogicalPlan>> {
        let columns = plan.schema().columns().into_iter().zip(&kept);
        let others: HashSet<Column> =
            columns.filter(|(column, kept)| !**kept && numbers.contains(column)).map(|(it, _)| it).collect();
        Ok(Arc::new(with_texts(plan, &others)?))
    };
    let numbers = which(&node.schema, kept.iter().copied());
    let schema = retyped(&node.schema, &numbers)?;
    let inputs = inputs.into_iter().map(fit).collect::<Result<_>>()?;
    Ok((LogicalPlan::Union(Union { inputs, schema }), numbers))
}
