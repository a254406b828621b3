//! Answers, printed: tables for people, CSV, JSON as the hub makes it, Parquet files.
//!
//! Rows are printed as they come: an answer of any size needs no memory, except that a table's columns get their widths from
//! up to 1,000 rows at a time. CSV is that of RFC 4180 with a heading; what is null is nothing there, an empty text `""`.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use arrow::{
    array::{Array as _, ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Schema},
    util::display::{ArrayFormatter, FormatOptions},
};
use comfy_table::{CellAlignment, Table, presets};
use futures::TryStreamExt as _;
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};

use crate::{
    QueryBatches, QueryRows,
    cli::{
        failure::Failure,
        output::{Output, harmless},
    },
};

/// Rows that one table is made of.
const TABLE_ROWS: usize = 1_000;

/// Whether there is no value; a column of type NULL says so in no other way.
fn is_null(column: &ArrayRef, row: usize) -> bool {
    column.logical_nulls().is_some_and(|nulls| nulls.is_null(row))
}

/// Cells as text. Times are RFC 3339, bytes hexadecimal digits.
fn options() -> FormatOptions<'static> {
    FormatOptions::new().with_display_error(true)
}

/// The cells of a batch, column by column.
fn formatters(batch: &RecordBatch) -> Result<Vec<ArrayFormatter<'_>>, Failure> {
    static OPTIONS: std::sync::LazyLock<FormatOptions<'static>> = std::sync::LazyLock::new(options);
    let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &OPTIONS));
    formatters
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::Failed(format!("an answer can't be shown: {error}")))
}

/// Prints rows as JSON, one object a line. How many they were.
pub async fn json(mut rows: QueryRows, output: &mut Output) -> Result<u64, Failure> {
    let mut count = 0;
    while let Some(row) = rows.try_next().await? {
        output.line(row.as_json())?;
        count += 1;
    }
    Ok(count)
}

/// Prints rows as CSV. How many they were.
pub async fn csv(mut batches: QueryBatches, output: &mut Output) -> Result<u64, Failure> {
    let mut count = 0;
    let schema = batches.schema();
    output.line(&csv_line(schema.fields().iter().map(|field| Some(field.name().clone()))))?;
    while let Some(batch) = batches.try_next().await? {
        let formatters = formatters(&batch)?;
        for row in 0..batch.num_rows() {
            let cells = formatters.iter().zip(batch.columns());
            let cells =
                cells.map(|(cell, column)| (!is_null(column, row)).then(|| cell.value(row).to_string()));
            output.line(&csv_line(cells))?;
        }
        count += batch.num_rows() as u64;
    }
    Ok(count)
}

/// A line of CSV; what is absent is null.
fn csv_line(cells: impl Iterator<Item = Option<String>>) -> String {
    let quoted = |cell: String| match cell.is_empty() || cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    };
    cells.map(|cell| cell.map(quoted).unwrap_or_default()).collect::<Vec<_>>().join(",")
}

/// Prints rows as tables. How many they were.
pub async fn table(mut batches: QueryBatches, output: &mut Output) -> Result<u64, Failure> {
    let schema = batches.schema();
    let plans = is_plan(&schema);
    let (mut count, mut waiting, mut shown) = (0, Vec::new(), false);
    while let Some(batch) = batches.try_next().await? {
        count += batch.num_rows() as u64;
        if plans {
            for (kind, text) in plans_of(&batch) {
                plan(&kind, &text, output)?;
            }
            continue;
        }
        let formatters = formatters(&batch)?;
        for row in 0..batch.num_rows() {
            let cells = formatters.iter().zip(batch.columns());
            let cell = |(cell, column): (&ArrayFormatter<'_>, &ArrayRef)| match is_null(column, row) {
                true => "NULL".to_owned(),
                false => harmless(&cell.value(row).to_string()),
            };
            waiting.push(cells.map(cell).collect::<Vec<_>>());
            if waiting.len() == TABLE_ROWS {
                rows(&schema, std::mem::take(&mut waiting), output)?;
                shown = true;
            }
        }
    }
    if !plans && (!waiting.is_empty() || !shown) {
        rows(&schema, waiting, output)?;
    }
    Ok(count)
}

fn rows(schema: &Schema, rows: Vec<Vec<String>>, output: &mut Output) -> io::Result<()> {
    if schema.fields().is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(schema.fields().iter().map(|field| harmless(field.name())));
    for row in rows {
        table.add_row(row);
    }
    for (column, field) in table.column_iter_mut().zip(schema.fields()) {
        if field.data_type().is_numeric() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for line in table.to_string().lines() {
        output.line(line.trim_end())?;
    }
    Ok(())
}

/// Whether this is what EXPLAIN answers: the kinds of plans, and their texts of several lines.
fn is_plan(schema: &Schema) -> bool {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names == ["plan_type", "plan"] && schema.fields().iter().all(|field| *field.data_type() == DataType::Utf8)
}

fn plans_of(batch: &RecordBatch) -> Vec<(String, String)> {
    let text = |column: usize| batch.column(column).as_any().downcast_ref::<StringArray>();
    let (Some(kinds), Some(texts)) = (text(0), text(1)) else { return Vec::new() };
    let value = |text: Option<&str>| text.unwrap_or_default().to_owned();
    kinds.iter().zip(texts).map(|(kind, text)| (value(kind), value(text))).collect()
}

/// A plan: its kind, and below its lines as they are.
fn plan(kind: &str, text: &str, output: &mut Output) -> io::Result<()> {
    output.line(&harmless(kind))?;
    for line in text.lines() {
        output.line(&format!("  {}", harmless(line.trim_end())))?;
    }
    Ok(())
}

/// Writes rows into a Parquet file: whole, or not at all. How many they were.
pub async fn parquet(mut batches: QueryBatches, to: &Path) -> Result<u64, Failure> {
    let failed = |what: String| Failure::Failed(format!("{}: {what}", to.display()));
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let file = fs::File::create(part).map_err(|error| failed(error.to_string()))?;
    let written = async {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let broken = |error: parquet::errors::ParquetError| failed(error.to_string());
        let mut writer = ArrowWriter::try_new(file, batches.schema(), Some(properties)).map_err(broken)?;
        let mut count = 0;
        while let Some(batch) = batches.try_next().await? {
            count += batch.num_rows() as u64;
            writer.write(&batch).map_err(broken)?;
        }
        let mut file = writer.into_inner().map_err(broken)?;
        let synced = file.flush().and_then(|()| file.sync_all()).and_then(|()| fs::rename(part, to));
        synced.map_err(|error| failed(error.to_string()))?;
        Ok(count)
    };
    let written = written.await;
    if written.is_err() {
        // What is half is of no use to anybody; that it can't be removed changes nothing of why.
        let _ = fs::remove_file(part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_the_empty_text_differ_in_csv() {
        let cells = [Some("a".to_owned()), None, Some(String::new()), Some("x,\"y\"\n".to_owned())];
        assert_eq!(csv_line(cells.into_iter()), "a,,\"\",\"x,\"\"y\"\"\n\"");
    }
}
