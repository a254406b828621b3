//! Expressions over names that have become numbers.

use std::collections::HashSet;

use datafusion::{
    common::{
        Column, Result, ScalarValue,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{
        BinaryExpr, Case, Expr, Operator,
        expr::{AggregateFunction, AggregateFunctionParams, Alias, Sort, WindowFunction},
    },
};

use super::{constant, number_of_text};
use crate::functions;

/// The columns that are numbers.
pub(super) type Numbers = HashSet<Column>;

/// Whether an expression reads a plan of its own, whose names are texts.
pub(super) fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        ))
    })
    .unwrap_or(true)
}

/// Whether an expression reads a column that is a number.
pub(super) fn reads(expr: &Expr, numbers: &Numbers) -> bool {
    expr.column_refs().iter().any(|column| numbers.contains(*column))
}

/// An expression that gives a name, as one that gives its number; `None` where it gives something else.
pub(super) fn as_number(expr: &Expr, numbers: &Numbers) -> Option<Expr> {
    match expr {
        Expr::Column(column) => numbers.contains(column).then(|| expr.clone()),
        Expr::Alias(alias) => {
            let inner = as_number(&alias.expr, numbers)?;
            Some(Expr::Alias(Alias { expr: Box::new(inner), ..alias.clone() }))
        }
        // Names of those of whom something holds.
        Expr::Case(case) => {
            let mut any = false;
            let mut branch = |expr: &Expr| match nothing(expr) {
                true => Some(Expr::Literal(constant(None), None)),
                false => {
                    any = true;
                    as_number(expr, numbers)
                }
            };
            let then =
                case.when_then_expr.iter().map(|(_, then)| branch(then)).collect::<Option<Vec<_>>>()?;
            let other = match &case.else_expr {
                Some(other) => Some(Box::new(branch(other)?)),
                None => None,
            };
            let text = |expr: &Expr| as_text(expr.clone(), numbers).ok();
            let base = match &case.expr {
                Some(base) => Some(Box::new(text(base)?)),
                None => None,
            };
            let when = case.when_then_expr.iter().map(|(when, _)| text(when)).collect::<Option<Vec<_>>>()?;
            let pairs = when.into_iter().zip(then).map(|(when, then)| (Box::new(when), Box::new(then)));
            any.then(|| Expr::Case(Case::new(base, pairs.collect(), other)))
        }
        _ => None,
    }
}

fn nothing(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(cast) => nothing(&cast.expr),
        _ => false,
    }
}

/// A side of a comparison as a number.
fn side(expr: &Expr, numbers: &Numbers) -> Option<Expr> {
    match expr {
        Expr::Cast(cast) if cast.field.data_type().is_string() => side(&cast.expr, numbers),
        Expr::Literal(value, metadata) => {
            let text = match value {
                ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => {
                    text.as_ref()?
                }
                _ => return None,
            };
            Some(Expr::Literal(constant(Some(number_of_text(text)?)), metadata.clone()))
        }
        other => as_number(other, numbers),
    }
}

fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// The same expression, of the same type as before: numbers are compared as such, and become texts for all else.
pub(super) fn as_text(expr: Expr, numbers: &Numbers) -> Result<Expr> {
    if !reads(&expr, numbers) {
        return Ok(expr);
    }
    let fit = |expr: Expr| -> Result<Transformed<Expr>> {
        match &expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => {
                match (side(left, numbers), side(right, numbers)) {
                    (Some(left), Some(right)) => {
                        let pair = BinaryExpr::new(Box::new(left), *op, Box::new(right));
                        Ok(Transformed::new(Expr::BinaryExpr(pair), true, TreeNodeRecursion::Jump))
                    }
                    _ => Ok(Transformed::no(expr)),
                }
            }
            Expr::IsNull(inner) | Expr::IsNotNull(inner) if matches!(&**inner, Expr::Column(column) if numbers.contains(column)) => {
                Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump))
            }
            Expr::AggregateFunction(function) => match aggregate(function, numbers)? {
                Some(function) => Ok(Transformed::new(function, true, TreeNodeRecursion::Jump)),
                None => Ok(Transformed::no(expr)),
            },
            Expr::WindowFunction(function) => {
                let function = window(function, numbers)?;
                Ok(Transformed::new(function, true, TreeNodeRecursion::Jump))
            }
            Expr::Column(column) if numbers.contains(column) => {
                let text = functions::id().call(vec![expr]);
                Ok(Transformed::new(text, true, TreeNodeRecursion::Jump))
            }
            _ => Ok(Transformed::no(expr)),
        }
    };
    Ok(expr.transform_down(fit)?.data)
}

/// As a number where it is a name, else as it was.
pub(super) fn either(expr: Expr, numbers: &Numbers) -> Result<Expr> {
    match as_number(&expr, numbers) {
        Some(number) => Ok(number),
        None => as_text(expr, numbers),
    }
}

/// What to sort by.
pub(super) fn sort(sort: Sort, numbers: &Numbers) -> Result<Sort> {
    Ok(Sort { expr: either(sort.expr, numbers)?, ..sort })
}

/// A function that doesn't look into the names that it is given, over their numbers.
fn aggregate(function: &AggregateFunction, numbers: &Numbers) -> Result<Option<Expr>> {
    let params = &function.params;
    let [argument] = params.args.as_slice() else { return Ok(None) };
    // The smallest and largest are names, whose columns `plan` knows of.
    if !matches!(function.func.name(), "count" | "min" | "max") {
        return Ok(None);
    }
    let Some(argument) = as_number(argument, numbers) else { return Ok(None) };
    let filter = params.filter.as_ref().map(|filter| as_text((**filter).clone(), numbers)).transpose()?;
    let order_by = params.order_by.iter().map(|by| sort(by.clone(), numbers)).collect::<Result<_>>()?;
    Ok(Some(Expr::AggregateFunction(AggregateFunction {
        func: function.func.clone(),
        params: AggregateFunctionParams {
            args: vec![argument],
            filter: filter.map(Box::new),
            order_by,
            ..params.clone()
        },
    })))
}

/// Whether an aggregate gives a number.
pub(super) fn gives_number(expr: &Expr, numbers: &Numbers) -> bool {
    match expr {
        Expr::Alias(alias) => gives_number(&alias.expr, numbers),
        Expr::AggregateFunction(function) if matches!(function.func.name(), "min" | "max") => {
            matches!(function.params.args.as_slice(), [argument] if as_number(argument, numbers).is_some())
        }
        _ => false,
    }
}

/// A window over names: it goes by numbers, and its function gets texts.
fn window(function: &WindowFunction, numbers: &Numbers) -> Result<Expr> {
    let mut function = function.clone();
    let params = &mut function.params;
    let texts =
        |exprs: Vec<Expr>| exprs.into_iter().map(|expr| as_text(expr, numbers)).collect::<Result<_>>();
    params.args = texts(std::mem::take(&mut params.args))?;
    let by = std::mem::take(&mut params.partition_by);
    params.partition_by = by.into_iter().map(|expr| either(expr, numbers)).collect::<Result<_>>()?;
    let by = std::mem::take(&mut params.order_by);
    params.order_by = by.into_iter().map(|by| sort(by, numbers)).collect::<Result<_>>()?;
    params.filter = match params.filter.take() {
        Some(filter) => Some(Box::new(as_text(*filter, numbers)?)),
        None => None,
    };
    Ok(Expr::WindowFunction(Box::new(function)))
}
