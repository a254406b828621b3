//! `/sql`: a statement, and its rows.
//!
//! A statement comes by a form, as what changes something does: it is work for all nodes, which no page of elsewhere is to
//! cause. What is more than a page holds is not waited for: its query ends there.

use arrow::{
    array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch},
    compute::cast,
    datatypes::{DataType, SchemaRef, TimeUnit},
    util::display::{ArrayFormatter, FormatOptions},
};
use axum::{
    Form,
    extract::rejection::FormRejection,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use isthmus_console::sql::{
    Column, Outcome, PATH, Refused, Rows, STATEMENT_BYTES_MAX, Sort, Sql, Table, page as shown,
};
use isthmus_query::{ParamValues, QueryError, ScalarValue, TableInfo};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    Asked,
    form::{Tokened, checked},
    reply,
};
use crate::{
    fault::{Fault as _, Refusal},
    http::errors::Failure,
    query::{Ask, Queries, QueryFault},
};

/// Rows of a page.
const ROWS_MAX: usize = 1_000;
/// The longest text of a cell, in characters; the rest is left out and said to be.
const CELL_MAX: usize = 10_000;

/// A statement.
#[derive(Debug, Deserialize)]
pub(super) struct Statement {
    token: String,
    statement: String,
}

impl Tokened for Statement {
    fn token(&self) -> &str {
        &self.token
    }
}

/// The page before anything was asked.
pub(super) async fn page(asked: Asked) -> Response {
    let told = match asked.console.hub.queries.tables() {
        Ok(tables) => Sql { tables: tables.into_iter().map(table).collect(), ..Sql::default() },
        Err(fault) => Sql { outcome: Some(Outcome::Refused(refused(fault.into()))), ..Sql::default() },
    };
    reply::page(shown(&asked.shell(), &told))
}

/// The page with a statement's rows, or with what is wrong about it.
pub(super) async fn run(asked: Asked, form: Result<Form<Statement>, FormRejection>) -> Response {
    asked
        .answer(async {
            let form = checked(asked.token(), asked.headers(), form)?;
            if form.statement.len() > STATEMENT_BYTES_MAX {
                let what = format!("must have at most {STATEMENT_BYTES_MAX} bytes");
                return Err(Refusal::field("INVALID_QUERY", "statement", what).into());
            }
            // Forms send line ends as CR LF; places are told in what is shown.
            let statement = form.statement.replace("\r\n", "\n");
            let (status, outcome) = match rows(&asked.console.hub.queries, &statement).await {
                Ok(rows) => (StatusCode::OK, Outcome::Rows(rows)),
                Err(fault) => (status_of(&fault), Outcome::Refused(refused(fault))),
            };
            let told = Sql { statement: &statement, outcome: Some(outcome), tables: Vec::new() };
            Ok((status, reply::page(shown(&asked.shell_at(PATH), &told))).into_response())
        })
        .await
}

fn table(info: TableInfo) -> Table {
    let name = match info.schema.as_str() {
        "public" => info.name,
        schema => format!("{schema}.{}", info.name),
    };
    let columns = info.columns.fields().iter();
    Table {
        name,
        columns: columns.map(|field| (field.name().clone(), field.data_type().to_string())).collect(),
    }
}

/// The status of a page that tells of a refusal. What is wrong with a statement is what the page is for; that it needed more
/// than it may is its status, too, as for programs.
fn status_of(fault: &QueryFault) -> StatusCode {
    match fault {
        QueryFault::Query(error @ QueryError::Limit { .. }) => Failure::from_fault(error).status(),
        _ => StatusCode::OK,
    }
}

/// A refusal as the page tells it.
fn refused(fault: QueryFault) -> Refused {
    match fault {
        QueryFault::Query(error) => {
            let place = match &error {
                QueryError::Invalid { line: Some(line), column: Some(column), .. } => {
                    usize::try_from(*line).ok().zip(usize::try_from(*column).ok())
                }
                _ => None,
            };
            Refused { message: error.message(), reason: error.reason().to_owned(), place }
        }
        QueryFault::Refused(refusal) => {
            Refused { message: refusal.message(), reason: refusal.reason().to_owned(), place: None }
        }
    }
}

async fn rows(queries: &Queries, sql: &str) -> Result<Rows, QueryFault> {
    let begun = Instant::now();
    let statement = queries.prepare(sql).await?;
    let none = ParamValues::from(Vec::<ScalarValue>::new());
    let mut running = queries.run(&statement, none, &Ask::default()).await?;
    let version = running.cut().map(|cut| cut.to_string()).unwrap_or_default();
    let mut told = Rows { columns: columns(&running.schema()), version, ..Rows::default() };
    while let Some(batch) = running.next().await {
        let batch = batch?;
        let room = ROWS_MAX - told.rows.len();
        told.more = batch.num_rows() > room;
        add(&mut told, &batch.slice(0, room.min(batch.num_rows())))?;
        if told.more {
            break;
        }
    }
    told.millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(told)
}

fn columns(schema: &SchemaRef) -> Vec<Column> {
    let column = |field: &std::sync::Arc<arrow::datatypes::Field>| {
        let sort = match field.data_type() {
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Sort::Time,
            kind if kind.is_numeric() => Sort::Number,
            _ => Sort::Text,
        };
        Column { name: field.name().clone(), sort, values: Vec::new() }
    };
    schema.fields().iter().map(column).collect()
}

/// Adds rows as texts, and what can be drawn as numbers.
fn add(told: &mut Rows, batch: &RecordBatch) -> Result<(), QueryFault> {
    static PLAIN: FormatOptions<'static> = FormatOptions::new();
    let broken = |error: arrow::error::ArrowError| {
        QueryFault::Query(QueryError::Internal(format!("the rows can't be shown: {error}")))
    };
    let cells = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &PLAIN));
    let cells = cells.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    for row in 0..batch.num_rows() {
        let texts = cells.iter().zip(batch.columns());
        let texts =
            texts.map(|(cell, column)| (!is_null(column, row)).then(|| cut(&cell.value(row).to_string())));
        told.rows.push(texts.collect());
    }
    for (column, array) in told.columns.iter_mut().zip(batch.columns()) {
        column.values.extend(numbers(array, column.sort));
    }
    Ok(())
}

/// Whether there is no value; a column of type NULL says so in no other way.
fn is_null(column: &ArrayRef, row: usize) -> bool {
    column.logical_nulls().is_some_and(|nulls| nulls.is_null(row))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A column's values as numbers; none of a column that has none.
fn numbers(array: &ArrayRef, sort: Sort) -> Vec<Option<f64>> {
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    match sort {
        Sort::Text => Vec::new(),
        Sort::Number => cast(array, &DataType::Float64)
            .ok()
            .and_then(|cast| {
                let values = cast.as_any().downcast_ref::<Float64Array>()?;
                Some(values.iter().map(|value| value.and_then(finite)).collect())
            })
            .unwrap_or_default(),
        Sort::Time => cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))
            .and_then(|cast_to| cast(&cast_to, &DataType::Int64))
            .ok()
            .and_then(|cast| {
                let values = cast.as_any().downcast_ref::<Int64Array>()?;
                Some(values.iter().map(|value| value.map(|micros| micros as f64 / 1e6)).collect())
            })
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{Date32Array, StringArray, TimestampMicrosecondArray, UInt64Array},
        datatypes::{Field, Schema},
    };

    use super::*;

    #[test]
    fn rows_are_texts_and_what_can_be_drawn_numbers() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_500_000]).with_timezone("UTC"))),
            ("day", Arc::new(Date32Array::from(vec![1]))),
            ("n", Arc::new(UInt64Array::from(vec![None]))),
            ("name", Arc::new(StringArray::from(vec!["x".repeat(CELL_MAX + 5)]))),
        ];
        let fields = columns.iter().map(|(name, of)| Field::new(*name, of.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch =
            RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, of)| of).collect()).unwrap();
        let mut told = Rows { columns: super::columns(&schema), ..Rows::default() };
        add(&mut told, &batch).ok().unwrap();
        let values: Vec<_> = told.columns.iter().map(|column| (column.sort, column.values.clone())).collect();
        assert_eq!(
            values,
            [
                (Sort::Time, vec![Some(1.5)]),
                (Sort::Time, vec![Some(86_400.0)]),
                (Sort::Number, vec![None]),
                (Sort::Text, vec![]),
            ]
        );
        assert_eq!(told.rows[0][0].as_deref(), Some("1970-01-01T00:00:01.500Z"));
        assert_eq!(
            (told.rows[0][2].as_deref(), told.rows[0][3].as_ref().map(|text| text.chars().count())),
            (None, Some(CELL_MAX + 1))
        );
    }
}
