//! Making batches row by row, of the columns of a schema.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, FixedSizeBinaryArray, RecordBatch, RecordBatchOptions,
    StringBuilder, StringDictionaryBuilder, TimestampMicrosecondBuilder, UInt8Array, UInt32Builder,
    UInt64Array,
};
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use arrow::error::ArrowError;
use isthmus_raft::Broken;

use crate::error::broken;

/// A column in the making, by its type.
enum Column {
    Ids(Vec<u8>),
    Times(TimestampMicrosecondBuilder),
    Kinds(Vec<u8>),
    Counts(Vec<u64>),
    Members(UInt32Builder),
    Flags(BooleanBuilder),
    Texts(StringBuilder),
    Words(StringDictionaryBuilder<Int32Type>),
    Blobs(BinaryBuilder),
}

impl Column {
    fn of(kind: &DataType) -> Self {
        match kind {
            DataType::FixedSizeBinary(_) => Self::Ids(Vec::new()),
            DataType::Timestamp(..) => {
                Self::Times(TimestampMicrosecondBuilder::new().with_data_type(kind.clone()))
            }
            DataType::UInt8 => Self::Kinds(Vec::new()),
            DataType::UInt64 => Self::Counts(Vec::new()),
            DataType::UInt32 => Self::Members(UInt32Builder::new()),
            DataType::Boolean => Self::Flags(BooleanBuilder::new()),
            DataType::Binary => Self::Blobs(BinaryBuilder::new()),
            DataType::Dictionary(..) => Self::Words(StringDictionaryBuilder::new()),
            _ => Self::Texts(StringBuilder::new()),
        }
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Ids(values) => Arc::new(FixedSizeBinaryArray::try_new(16, values.into(), None)?),
            Self::Times(mut values) => Arc::new(values.finish()),
            Self::Kinds(values) => Arc::new(UInt8Array::from(values)),
            Self::Counts(values) => Arc::new(UInt64Array::from(values)),
            Self::Members(mut values) => Arc::new(values.finish()),
            Self::Flags(mut values) => Arc::new(values.finish()),
            Self::Texts(mut values) => Arc::new(values.finish()),
            Self::Words(mut values) => Arc::new(values.finish()),
            Self::Blobs(mut values) => Arc::new(values.finish()),
        })
    }
}

/// Rows on their way into a batch. Each row gives each column a value of its type; one of another type is left out, and
/// the batch is refused at its end.
pub(super) struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

/// Texts and blobs of a batch: far below what its offsets could tell.
const BYTES_MAX: usize = 64 << 20;

macro_rules! put {
    ($self:ident, $place:ident, $kind:ident, $values:ident => $put:expr) => {
        if let Some(Column::$kind($values)) = $self.columns.get_mut($place) {
            $put
        }
    };
}

impl Columns {
    pub fn new(schema: &SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|field| Column::of(field.data_type())).collect();
        Self { schema: schema.clone(), columns, rows: 0, bytes: 0 }
    }

    pub fn id(&mut self, place: usize, id: &[u8; 16]) {
        put!(self, place, Ids, values => values.extend_from_slice(id));
    }

    pub fn time(&mut self, place: usize, micros: Option<i64>) {
        put!(self, place, Times, values => values.append_option(micros));
    }

    pub fn kind(&mut self, place: usize, kind: u8) {
        put!(self, place, Kinds, values => values.push(kind));
    }

    pub fn count(&mut self, place: usize, count: u64) {
        put!(self, place, Counts, values => values.push(count));
    }

    pub fn members(&mut self, place: usize, members: Option<u32>) {
        put!(self, place, Members, values => values.append_option(members));
    }

    pub fn flag(&mut self, place: usize, flag: Option<bool>) {
        put!(self, place, Flags, values => values.append_option(flag));
    }

    pub fn text(&mut self, place: usize, text: Option<&str>) {
        self.bytes += text.map_or(0, str::len);
        put!(self, place, Texts, values => values.append_option(text));
        put!(self, place, Words, values => values.append_option(text));
    }

    pub fn blob(&mut self, place: usize, blob: &[u8]) {
        self.bytes += blob.len();
        put!(self, place, Blobs, values => values.append_value(blob));
    }

    pub fn end_row(&mut self) {
        self.rows += 1;
    }

    /// How many rows there are; very many when no more should come.
    pub fn rows(&self) -> usize {
        if self.bytes > BYTES_MAX { usize::MAX } else { self.rows }
    }

    /// The batch, if it has a row.
    pub fn finish_some(self) -> Result<Option<RecordBatch>, Broken> {
        if self.rows == 0 {
            return Ok(None);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let columns = self.columns.into_iter().map(Column::finish).collect::<Result<Vec<_>, _>>();
        let batch = columns
            .and_then(|columns| RecordBatch::try_new_with_options(self.schema, columns, &options))
            .map_err(broken)?;
        Ok(Some(batch))
    }
}
