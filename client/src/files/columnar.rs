//! Parquet files as rows, read batch by batch: of each column no more than a page is in memory.
//!
//! Types are those that the Parquet schema itself tells, whatever wrote the file. Decimals become text, dates and times
//! of day too, timestamps times; lists, maps and structs become lists and objects. What is null in a struct is left out:
//! Parquet doesn't tell it from absent, and null would remove a trait. NaN counts as nothing. Timestamps without a zone
//! are taken as UTC unless a mapping names another one. Binary columns are refused where they are asked for.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Error, ErrorKind},
};

use ::parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    basic::Compression,
    errors::ParquetError,
};
use arrow::{
    array::{Array, AsArray as _, RecordBatch, StructArray},
    datatypes::{DataType, Fields, SchemaRef},
};

use super::{
    arrow_value,
    record::{Cell, Record},
};
use crate::{json, proto::value::Kind};

/// So many rows are decoded at once.
const BATCH_ROWS: usize = 256;
/// How deep struct columns may be named, with dots between.
const DEPTH_MAX: usize = 8;

/// A Parquet file under way.
pub(crate) struct Table {
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    batch: RecordBatch,
    next: usize,
    /// How many rows it has, and how many were handed out.
    rows: u64,
    read: u64,
}

/// A column that can be named: a top-level one, or a field of a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name, with dots between for a field of a struct.
    pub(crate) name: String,
    /// Where it is: the number of the top-level column, then of the field in it.
    path: Vec<usize>,
    /// Why it can't be read, if it can't.
    pub(crate) refused: Option<&'static str>,
}

impl Column {
    /// Whether it is a field of a struct.
    pub(crate) fn is_inner(&self) -> bool {
        self.path.len() > 1
    }
}

impl Table {
    /// Reads the schema.
    ///
    /// # Errors
    /// When it isn't a Parquet file.
    pub(crate) fn open(file: File) -> io::Result<Self> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
            .map_err(|error| invalid(format!("isn't a whole Parquet file: {}", told(&error))))?;
        let groups = builder.metadata().row_groups().iter();
        let mut packings = groups.flat_map(|group| group.columns()).map(|column| column.compression());
        let refused = packings.find_map(|packing| match packing {
            Compression::BROTLI(_) => Some("Brotli"),
            Compression::LZO => Some("LZO"),
            _ => None,
        });
        if let Some(name) = refused {
            let advice = "write it with zstd, snappy, gzip or lz4";
            return Err(invalid(format!("is compressed by {name}, which isn't taken: {advice}")));
        }
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
        let (schema, mask) = (builder.schema().clone(), ProjectionMask::all());
        let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build();
        let reader = reader.map_err(|error| invalid(format!("can't be read: {}", told(&error))))?;
        let batch = RecordBatch::new_empty(schema.clone());
        Ok(Self { reader, schema, batch, next: 0, rows, read: 0 })
    }

    /// All columns that can be named, fields of structs behind the struct.
    pub(crate) fn columns(&self) -> Vec<Column> {
        let mut columns = Vec::new();
        name_columns(self.schema.fields(), "", &[], &mut columns);
        columns
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// How many rows were handed out.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// The next row; nothing at the end.
    pub(crate) fn next_row(&mut self) -> io::Result<Option<TableRow<'_>>> {
        while self.next == self.batch.num_rows() {
            match self.reader.next() {
                None => return Ok(None),
                Some(Err(error)) => return Err(invalid(format!("the Parquet data is damaged: {error}"))),
                Some(Ok(batch)) => (self.batch, self.next) = (batch, 0),
            }
        }
        self.next += 1;
        self.read += 1;
        Ok(Some(TableRow { batch: &self.batch, index: self.next - 1, columns: &[] }))
    }
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn told(error: &ParquetError) -> String {
    match error {
        ParquetError::General(what) | ParquetError::NYI(what) | ParquetError::EOF(what) => what.clone(),
        other => other.to_string(),
    }
}

fn name_columns(fields: &Fields, prefix: &str, path: &[usize], columns: &mut Vec<Column>) {
    for (number, field) in fields.iter().enumerate() {
        let name = format!("{prefix}{}", field.name());
        let path = [path, &[number]].concat();
        columns.push(Column {
            name: name.clone(),
            path: path.clone(),
            refused: arrow_value::refused(field.data_type()),
        });
        if let DataType::Struct(inner) = field.data_type()
            && path.len() < DEPTH_MAX
        {
            name_columns(inner, &format!("{name}."), &path, columns);
        }
    }
}

/// A row, and what stands for the columns of a mapping.
pub(crate) struct TableRow<'a> {
    batch: &'a RecordBatch,
    index: usize,
    columns: &'a [Column],
}

impl<'a> TableRow<'a> {
    /// The row as cells of these columns.
    pub(crate) fn of(self, columns: &'a [Column]) -> Self {
        Self { columns, ..self }
    }

    /// The row as a JSON object, what is null left out.
    pub(crate) fn json(&self) -> io::Result<Vec<u8>> {
        let schema = self.batch.schema_ref();
        let mut text = vec![b'{'];
        for (field, column) in schema.fields().iter().zip(self.batch.columns()) {
            let value = arrow_value::value(column, self.index);
            if arrow_value::is_null(&value) {
                continue;
            }
            if text.len() > 1 {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, field.name())?;
            text.push(b':');
            serde_json::to_writer(&mut text, &json::Value(&value))?;
        }
        text.push(b'}');
        Ok(text)
    }

    /// The array that holds a column, unless something on the way to it is null.
    fn array(&self, column: &Column) -> Option<&'a dyn Array> {
        let (first, rest) = column.path.split_first()?;
        let mut array: &'a dyn Array = self.batch.columns().get(*first)?.as_ref();
        for &field in rest {
            let inner: &'a StructArray = array.as_struct_opt()?;
            if inner.is_null(self.index) {
                return None;
            }
            array = inner.columns().get(field)?.as_ref();
        }
        (!array.is_null(self.index)).then_some(array)
    }
}

impl Record for TableRow<'_> {
    fn problem(&self, _: usize) -> Option<String> {
        None
    }

    fn cell(&self, column: usize) -> Result<Cell<'_>, &'static str> {
        let Some(array) = self.columns.get(column).and_then(|column| self.array(column)) else {
            return Ok(Cell::Empty);
        };
        let value = arrow_value::value(array, self.index);
        let text: Option<Cow<'_, str>> = match &value.kind {
            None | Some(Kind::NullValue(_)) => return Ok(Cell::Empty),
            Some(Kind::ListValue(_) | Kind::MapValue(_)) => None,
            Some(Kind::BoolValue(value)) => Some(value.to_string().into()),
            Some(Kind::IntValue(value)) => Some(value.to_string().into()),
            Some(Kind::UintValue(value)) => Some(value.to_string().into()),
            Some(Kind::DoubleValue(value)) => Some(value.to_string().into()),
            Some(Kind::TimestampValue(time)) => Some(written(time, array).into()),
            Some(Kind::StringValue(text)) => return Ok(Cell::text(text.clone())),
        };
        Ok(Cell::Typed(value, text))
    }
}

/// A time as text: with a `Z` only if the column says that it is in UTC.
fn written(time: &prost_types::Timestamp, array: &dyn Array) -> String {
    let mut text = json::time(Some(time)).unwrap_or_default();
    if matches!(array.data_type(), DataType::Timestamp(_, None)) && text.ends_with('Z') {
        text.pop();
    }
    text
}
