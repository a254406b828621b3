//! Tables: what the rows of a run look like, as the caller declares it.
//!
//! A [`TableSpec`] is the declaration; [`Table`] is the same, checked once and with what every read and write of its
//! runs needs worked out: the width of keys, the Parquet schema, the decoders for a projection.
//!
//! A table may get new columns later: behind the last one, and nullable. Runs written before have nulls there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parking_lot::RwLock;
use parquet::arrow::{ArrowSchemaConverter, FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::file::metadata::{FileMetaData, ParquetMetaData};
use parquet::schema::types::SchemaDescPtr;

use super::checked::CHUNK_BYTES;
use super::key::{POINT_BYTES, key_width};
use crate::{Error, Result};

/// The most columns of a columnar table: a projection is a set of 64 bits.
pub const COLUMNS_MAX: usize = 64;
/// The most rows of a page; the least is 1.
pub const PAGE_ROWS_MAX: usize = 8192;
/// The most bytes of the key of a flat table; the least is a point key's.
pub const FLAT_KEY_BYTES_MAX: usize = 32;
/// Mark a string or binary column with this field metadata (any value) when it has few distinct values: it is then
/// written with a dictionary. All other columns are written plain.
pub const DICTIONARY: &str = "isthmus.dictionary";

/// The number of a table, unique in a node; the same for all stores. Stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u8);

/// Folds the rows of one sort key into one row (deltas of a facet into their sum).
///
/// Must be commutative and associative, since levels are merged one after the other.
pub trait Combine: Send + Sync {
    /// `rows` are sorted and hold whole key groups of two or more rows each, older rows first. Returns one row for
    /// each group, in the same order, with the same key and the table's schema.
    ///
    /// # Errors
    /// A text without customers' data. It stops the merge, nothing is changed.
    fn combine(&self, rows: &RecordBatch) -> Result<RecordBatch, String>;
}

/// The shape of a table's rows.
#[derive(Clone)]
pub enum TableKind {
    /// A Parquet file. Columns are flat: numbers, booleans, timestamps, strings, binaries.
    Columnar {
        /// The columns; the first `key_columns` are not nullable.
        schema: SchemaRef,
        /// The first columns are the sort key: fixed-size binaries, integers and timestamps. Column 0 is
        /// FixedSizeBinary(16), the point key; its order is the order of slots.
        key_columns: usize,
        /// Folds rows of one sort key at merges; without it all rows are kept.
        combine: Option<Arc<dyn Combine>>,
        /// Rows of a page: the smallest unit that is read. All columns' pages end at the same rows.
        page_rows: usize,
    },
    /// A flat file of rows of fixed width. A newer run's row replaces an older one's of the same key.
    Flat {
        /// Bytes of the key, 16 to 32; the first 16 are uniformly spread (a hash).
        key_len: usize,
        /// Bytes of the value.
        value_len: usize,
    },
    /// A flat file of rows that only ever come behind all that are there: a log. It is read on from a key, never
    /// looked up, so it has no filter; merging stops at runs of some MB, so that what is old goes by whole runs.
    Sequence {
        /// Bytes of the value; the key has 16, and each write-out's are above all before.
        value_len: usize,
    },
}

/// A table as the caller declares it.
#[derive(Clone)]
pub struct TableSpec {
    /// Its number.
    pub id: TableId,
    /// Its name, for people.
    pub name: &'static str,
    /// The shape of its rows.
    pub kind: TableKind,
}

impl fmt::Debug for TableSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} ({})", self.id.0, self.name)
    }
}

/// Which columns to read. The columns come in the schema's order, whatever order they were named in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Projection(pub(crate) u64);

impl Projection {
    /// All columns.
    pub const ALL: Projection = Projection(u64::MAX);

    /// The columns with these numbers (0 is the point key); numbers from [`COLUMNS_MAX`] on name nothing.
    pub const fn of(columns: &[usize]) -> Self {
        let (mut mask, mut at) = (0, 0);
        while at < columns.len() {
            if columns[at] < COLUMNS_MAX {
                mask |= 1 << columns[at];
            }
            at += 1;
        }
        Self(mask)
    }

    pub(crate) const fn first(columns: usize) -> Self {
        if columns >= COLUMNS_MAX { Self(u64::MAX) } else { Self((1 << columns) - 1) }
    }

    pub(crate) fn contains(self, column: usize) -> bool {
        column < COLUMNS_MAX && self.0 & (1 << column) != 0
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// A checked table.
pub struct Table {
    pub(crate) spec: TableSpec,
    pub(crate) shape: Shape,
}

pub(crate) enum Shape {
    Columnar(Box<Columnar>),
    Flat(Flat),
}

pub(crate) struct Columnar {
    pub schema: SchemaRef,
    pub key_columns: usize,
    pub key_width: usize,
    pub page_rows: usize,
    pub combine: Option<Arc<dyn Combine>>,
    pub parquet_schema: SchemaDescPtr,
    /// A footer without row groups: what the decoders ask for besides pages.
    pub footer: ParquetMetaData,
    levels: RwLock<BTreeMap<Projection, Arc<FieldLevels>>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Flat {
    pub key_len: usize,
    pub row_len: usize,
    /// Rows of a block; what is left of its 4 KiB is zero.
    pub block_rows: usize,
    /// Whether it is a sequence: rows in order of their keys over all runs, without filters.
    pub sequence: bool,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl Table {
    /// Checks a declaration.
    ///
    /// # Errors
    /// [`Error::Refused`] says what is wrong with it.
    pub fn new(spec: TableSpec) -> Result<Arc<Self>> {
        let refused = |what: &str| Error::Refused(format!("{spec:?}: {what}"));
        let shape = match &spec.kind {
            TableKind::Flat { key_len, value_len } => {
                if !(POINT_BYTES..=FLAT_KEY_BYTES_MAX).contains(key_len) {
                    return Err(refused("a key has 16 to 32 bytes"));
                }
                let flat = Flat::new(*key_len, *value_len, false);
                Shape::Flat(flat.ok_or_else(|| refused("a row is longer than a block of 4 KiB"))?)
            }
            TableKind::Sequence { value_len } => {
                let flat = Flat::new(POINT_BYTES, *value_len, true);
                Shape::Flat(flat.ok_or_else(|| refused("a row is longer than a block of 4 KiB"))?)
            }
            TableKind::Columnar { schema, key_columns, combine, page_rows } => {
                let fields = schema.fields();
                if fields.is_empty() || fields.len() > COLUMNS_MAX {
                    return Err(refused("1 to 64 columns"));
                }
                if *key_columns == 0 || *key_columns > fields.len() {
                    return Err(refused("the sort key has no column or more than there are"));
                }
                if fields[0].data_type() != &DataType::FixedSizeBinary(POINT_BYTES as i32) {
                    return Err(refused("column 0 is the point key, FixedSizeBinary(16)"));
                }
                let mut width = 0;
                for field in &fields[..*key_columns] {
                    width +=
                        key_width(field.data_type()).ok_or_else(|| refused("a key column of this type"))?;
                    if field.is_nullable() {
                        return Err(refused("a key column is nullable"));
                    }
                }
                if fields.iter().any(|field| !is_flat(field)) {
                    return Err(refused("columns are numbers, booleans, timestamps, strings or binaries"));
                }
                if *page_rows == 0 || *page_rows > PAGE_ROWS_MAX {
                    return Err(refused("a page has 1 to 8192 rows"));
                }
                let parquet_schema = Arc::new(ArrowSchemaConverter::new().convert(schema)?);
                let footer = FileMetaData::new(2, 0, None, None, Arc::clone(&parquet_schema), None);
                Shape::Columnar(Box::new(Columnar {
                    schema: Arc::clone(schema),
                    key_columns: *key_columns,
                    key_width: width,
                    page_rows: *page_rows,
                    combine: combine.clone(),
                    parquet_schema,
                    footer: ParquetMetaData::new(footer, Vec::new()),
                    levels: RwLock::default(),
                }))
            }
        };
        Ok(Arc::new(Self { spec, shape }))
    }

    /// Its number.
    pub fn id(&self) -> TableId {
        self.spec.id
    }

    /// The declaration.
    pub fn spec(&self) -> &TableSpec {
        &self.spec
    }

    pub(crate) fn columnar(&self) -> Result<&Columnar> {
        match &self.shape {
            Shape::Columnar(columnar) => Ok(columnar),
            Shape::Flat(_) => Err(Error::Refused(format!("{:?} is flat", self.spec))),
        }
    }

    pub(crate) fn flat(&self) -> Result<&Flat> {
        match &self.shape {
            Shape::Flat(flat) => Ok(flat),
            Shape::Columnar(_) => Err(Error::Refused(format!("{:?} is columnar", self.spec))),
        }
    }
}

impl Flat {
    /// `None` when a row is longer than a block.
    fn new(key_len: usize, value_len: usize, sequence: bool) -> Option<Self> {
        let row_len = key_len + value_len;
        (row_len <= CHUNK_BYTES).then(|| Self {
            key_len,
            row_len,
            block_rows: CHUNK_BYTES / row_len,
            sequence,
        })
    }

    /// Bytes of a file with so many rows: blocks of 4 KiB, the last one only up to its last row.
    pub fn file_bytes(&self, rows: u64) -> u128 {
        let block_rows = self.block_rows as u64;
        let before = rows.saturating_sub(1) / block_rows;
        let last = rows - before * block_rows;
        u128::from(before) * CHUNK_BYTES as u128 + u128::from(last) * self.row_len as u128
    }
}

impl Columnar {
    /// The columns of the sort key.
    pub fn key(&self) -> Projection {
        Projection::first(self.key_columns)
    }

    /// The columns of `projection` that exist.
    pub fn existing(&self, projection: Projection) -> Projection {
        projection.intersection(Projection::first(self.schema.fields().len()))
    }

    /// The schema of a projection.
    pub fn projected(&self, projection: Projection) -> SchemaRef {
        if self.existing(projection) == Projection::first(self.schema.fields().len()) {
            return Arc::clone(&self.schema);
        }
        let fields =
            self.schema.fields().iter().enumerate().filter(|(column, _)| projection.contains(*column));
        Arc::new(Schema::new(fields.map(|(_, field)| Arc::clone(field)).collect::<Vec<_>>()))
    }

    /// The decoders of a projection; made once.
    pub fn levels(&self, projection: Projection) -> Result<Arc<FieldLevels>> {
        if let Some(levels) = self.levels.read().get(&projection) {
            return Ok(Arc::clone(levels));
        }
        let columns = (0..self.schema.fields().len()).filter(|column| projection.contains(*column));
        let mask = ProjectionMask::leaves(&self.parquet_schema, columns);
        let levels =
            Arc::new(parquet_to_arrow_field_levels(&self.parquet_schema, mask, Some(self.schema.fields()))?);
        self.levels.write().insert(projection, Arc::clone(&levels));
        Ok(levels)
    }
}

fn is_flat(field: &Field) -> bool {
    let kind = field.data_type();
    kind.is_primitive()
        || matches!(
            kind,
            DataType::Boolean
                | DataType::FixedSizeBinary(_)
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Binary
                | DataType::LargeBinary
        )
}
