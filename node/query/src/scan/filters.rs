//! What of a query's filters a scan can use to leave rows out.
//!
//! Each is a conjunct that compares a column with constants. A scan of events gives exactly what it asks for; of other tables
//! it may give more, never less, and the filter itself stays above the scan.

use datafusion::{
    common::ScalarValue,
    logical_expr::{BinaryExpr, Expr, Operator},
};
use isthmus_domain::EventType;

use crate::seam::{Filters, Table};

/// Whether a filter tells a scan anything.
pub(crate) fn is_useful(table: Table, filter: &Expr) -> bool {
    let none = Filters::default();
    filters_of(table, std::slice::from_ref(filter), none.clone()) != none
}

/// Whether a scan leaves out all that a filter doesn't let through.
pub(crate) fn is_exact(table: Table, filter: &Expr) -> bool {
    // A text that is empty is NULL in our tables, and equals nothing.
    let is_text = |column: &str| matches!(column, "name" | "source" | "type");
    let is_time = |column: &str| matches!(column, "timestamp" | "received_at");
    let are_said = |texts: &[String]| texts.iter().all(|text| !text.is_empty());
    let compares = |column: &str, op: Operator, value: &ScalarValue| match op {
        Operator::Eq if is_text(column) => value.try_as_str().flatten().is_some_and(|text| !text.is_empty()),
        Operator::Gt => is_time(column) && micros_of(value).is_some_and(|micros| micros < i64::MAX),
        Operator::Lt => is_time(column) && micros_of(value).is_some_and(|micros| micros > i64::MIN),
        Operator::Eq | Operator::GtEq | Operator::LtEq => is_time(column) && micros_of(value).is_some(),
        _ => false,
    };
    table == Table::Events
        && match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                is_exact(table, left) && is_exact(table, right)
            }
            Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
                let mut texts = Vec::new();
                one_of(filter, &mut texts).is_some_and(is_text) && are_said(&texts)
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (&**left, &**right) {
                (Expr::Column(column), Expr::Literal(value, _)) => compares(&column.name, *op, value),
                (Expr::Literal(value, _), Expr::Column(column)) => {
                    op.swap().is_some_and(|op| compares(&column.name, op, value))
                }
                _ => false,
            },
            Expr::Between(between) if !between.negated => {
                match (&*between.expr, &*between.low, &*between.high) {
                    (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) => {
                        compares(&column.name, Operator::GtEq, low)
                            && compares(&column.name, Operator::LtEq, high)
                    }
                    _ => false,
                }
            }
            Expr::InList(list) if !list.negated => match &*list.expr {
                Expr::Column(column) => {
                    let texts: Option<Vec<String>> = list.list.iter().map(text_of).collect();
                    is_text(&column.name) && texts.is_some_and(|texts| are_said(&texts))
                }
                _ => false,
            },
            _ => false,
        }
}

/// `all`, and what the filters add.
pub(crate) fn filters_of(table: Table, filters: &[Expr], mut all: Filters) -> Filters {
    for filter in filters {
        take(table, filter, &mut all);
    }
    all
}

fn take(table: Table, filter: &Expr, all: &mut Filters) {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            take(table, left, all);
            take(table, right, all);
        }
        // What the optimiser makes of a short list.
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
            let mut texts = Vec::new();
            if let Some(column) = one_of(filter, &mut texts) {
                among(table, column, texts, all);
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if let (Expr::Column(column), Expr::Literal(value, _)) = (&**left, &**right) {
                compare(table, &column.name, *op, value, all);
            } else if let (Expr::Literal(value, _), Expr::Column(column)) = (&**left, &**right)
                && let Some(op) = op.swap()
            {
                compare(table, &column.name, op, value, all);
            }
        }
        Expr::Between(between) if !between.negated => {
            if let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) =
                (&*between.expr, &*between.low, &*between.high)
            {
                compare(table, &column.name, Operator::GtEq, low, all);
                compare(table, &column.name, Operator::LtEq, high, all);
            }
        }
        Expr::InList(list) if !list.negated => {
            if let Expr::Column(column) = &*list.expr {
                let texts: Option<Vec<String>> = list.list.iter().map(text_of).collect();
                if let Some(texts) = texts {
                    among(table, &column.name, texts, all);
                }
            }
        }
        _ => {}
    }
}

/// The column of which a filter says that it is one of some texts.
fn one_of<'a>(filter: &'a Expr, texts: &mut Vec<String>) -> Option<&'a str> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    match op {
        Operator::Or => {
            let column = one_of(left, texts)?;
            (one_of(right, texts)? == column).then_some(column)
        }
        Operator::Eq => {
            let (column, value) = match (&**left, &**right) {
                (Expr::Column(column), value) | (value, Expr::Column(column)) => (column, value),
                _ => return None,
            };
            texts.push(text_of(value)?);
            Some(&column.name)
        }
        _ => None,
    }
}

fn text_of(expr: &Expr) -> Option<String> {
    let Expr::Literal(value, _) = expr else { return None };
    value.try_as_str().flatten().map(str::to_owned)
}

fn compare(table: Table, column: &str, op: Operator, value: &ScalarValue, all: &mut Filters) {
    if let (Operator::Eq, Some(Some(text))) = (op, value.try_as_str()) {
        return among(table, column, vec![text.to_owned()], all);
    }
    let Some(micros) = micros_of(value) else { return };
    let range = match (table, column) {
        (Table::Events, "timestamp") => &mut all.timestamp,
        (Table::Events | Table::Quarantine, "received_at") => &mut all.received_at,
        _ => return,
    };
    let (low, high) = match op {
        Operator::Eq => (Some(micros), Some(micros)),
        Operator::Gt => (micros.checked_add(1), None),
        Operator::GtEq => (Some(micros), None),
        Operator::Lt => (None, micros.checked_sub(1)),
        Operator::LtEq => (None, Some(micros)),
        _ => return,
    };
    range.0 = range.0.max(low);
    range.1 = match (range.1, high) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

fn micros_of(value: &ScalarValue) -> Option<i64> {
    // Only the column's own unit: the optimiser has brought constants to it where that changes nothing.
    if let ScalarValue::TimestampMicrosecond(micros, _) = value { *micros } else { None }
}

/// The column is one of these texts.
fn among(table: Table, column: &str, texts: Vec<String>, all: &mut Filters) {
    match (table, column) {
        (Table::SegmentMembers, "segment") => narrow(&mut all.names, texts),
        (Table::Events, "name") => narrow(&mut all.names, texts),
        (Table::Events, "source") => narrow(&mut all.sources, texts),
        (Table::Events, "type") => {
            // Another name is no event's: it adds nothing to what may come out.
            let numbers = texts.iter().filter_map(|text| EventType::parse(text));
            narrow(&mut all.types, numbers.filter_map(|kind| u8::try_from(i32::from(kind)).ok()).collect());
        }
        _ => {}
    }
}

fn narrow<T: PartialEq>(known: &mut Option<Vec<T>>, new: Vec<T>) {
    *known = Some(match known.take() {
        None => new,
        Some(known) => known.into_iter().filter(|one| new.contains(one)).collect(),
    });
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn time(micros: i64) -> Expr {
        Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())), None)
    }

    fn of(filter: Expr) -> Filters {
        filters_of(Table::Events, &[filter], Filters::default())
    }

    #[test]
    fn comparisons_of_times_become_a_range() {
        let filter = col("timestamp").gt(time(10)).and(time(20).gt_eq(col("timestamp")));
        assert_eq!(of(filter.clone()).timestamp, (Some(11), Some(20)));
        assert_eq!(of(filter.and(col("timestamp").lt(time(15)))).timestamp, (Some(11), Some(14)));
        assert_eq!(of(col("received_at").between(time(1), time(2))).received_at, (Some(1), Some(2)));
    }

    #[test]
    fn lists_of_names_are_cut_with_each_other() {
        let filter = col("name").in_list(vec![lit("a"), lit("b")], false).and(col("name").eq(lit("b")));
        assert_eq!(of(filter).names, Some(vec!["b".to_owned()]));
        let either = col("source").eq(lit("a")).or(lit("b").eq(col("source"))).or(col("source").eq(lit("c")));
        assert_eq!(of(either.clone()).sources.map(|sources| sources.len()), Some(3));
        assert!(!is_useful(Table::Events, &either.or(col("name").eq(lit("a")))));
        assert_eq!(of(col("type").eq(lit("track"))).types.map(|types| types.len()), Some(1));
        assert_eq!(of(col("type").eq(lit("nonsense"))).types, Some(vec![]));
    }

    #[test]
    fn filters_that_a_scan_answers_for_are_told_from_those_that_only_help() {
        let exact = |filter: Expr| is_exact(Table::Events, &filter);
        assert!(exact(col("name").eq(lit("a")).and(time(1).lt(col("timestamp")))));
        assert!(exact(col("type").eq(lit("nonsense")).or(col("type").eq(lit("track")))));
        assert!(exact(col("source").in_list(vec![lit("a"), lit("b")], false)));
        assert!(exact(col("received_at").between(time(1), time(2))));
        assert!(!exact(col("name").eq(lit(""))));
        assert!(!exact(col("name").in_list(vec![lit("a"), lit("")], false)));
        assert!(!exact(col("timestamp").gt(time(i64::MAX))));
        assert!(!exact(col("timestamp").eq(lit("2026-01-01"))));
        assert!(!exact(col("name").gt(lit("a"))));
        assert!(!is_exact(Table::Quarantine, &col("received_at").between(time(1), time(2))));
    }

    #[test]
    fn what_is_no_conjunct_of_constants_tells_nothing() {
        for filter in [
            col("name").eq(lit("a")).or(col("source").eq(lit("b"))),
            col("name").not_eq(lit("a")),
            col("name").in_list(vec![lit("a")], true),
            col("name").eq(col("source")),
            col("properties").eq(lit("{}")),
            col("timestamp").not_between(time(1), time(2)),
        ] {
            assert!(!is_useful(Table::Events, &filter), "{filter}");
            assert!(!is_exact(Table::Events, &filter), "{filter}");
        }
        assert!(!is_useful(Table::LinkFacts, &col("source").eq(lit("a"))));
    }
}
