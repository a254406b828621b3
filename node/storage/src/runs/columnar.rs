//! Writing a columnar run: a plain Parquet file whose pages end at the same rows in all columns.
//!
//! The rows between two page ends are a *stripe*: the unit of the sparse index and of the cache. The writer is fed
//! whole stripes, byte limits are out of the way and dictionaries never overflow into plain pages, so page n of every
//! column holds the rows of stripe n; the offset index says so at the end, and it is checked.
//!
//! Statistics are kept of key columns only: nobody prunes by the others, and they cost as much as the rows. Integers in
//! the key are delta-encoded: rows of one point are sorted by them.

use std::io;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::checked::{SummingWriter, Sums};
use super::filter::FilterBuilder;
use super::index::{FORMAT, StoredChunk, StoredIndex};
use super::key::{Keys, PointKey, point_of};
use super::table::{Columnar, DICTIONARY};
use crate::{Error, Result};

/// Rows of a row group, about: cut to whole pages. A writer holds one row group of encoded pages in memory.
const GROUP_ROWS: usize = 64 * 1024;
/// "No limit" for pages and dictionaries; still far from overflowing a 32-bit page size.
const PAGE_BYTES_MAX: usize = 1 << 30;

/// How pages are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageCompression {
    /// Not at all.
    None,
    /// LZ4, fast to write and to read.
    #[default]
    Lz4,
    /// Zstandard at level 1: smaller, slower.
    Zstd,
}

impl PageCompression {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(crate) fn of_number(number: u32) -> Result<Compression> {
        match number {
            0 => Ok(Compression::UNCOMPRESSED),
            1 => Ok(Compression::LZ4_RAW),
            2 => Ok(Compression::ZSTD(ZstdLevel::try_new(1)?)),
            other => Err(Error::corrupt("a run's index", format!("compression {other} is unknown"))),
        }
    }
}

/// What a writer knows when all rows are in.
pub(crate) struct Written {
    pub sums: Sums,
    pub index: StoredIndex,
    pub min_point: Bytes,
    pub max_point: Bytes,
}

/// Writes sorted rows.
pub(crate) struct ColumnarWriter<'a> {
    table: &'a Columnar,
    compression: PageCompression,
    parquet: ArrowWriter<SummingWriter>,
    /// Rows of a stripe that isn't whole yet.
    rest: Vec<RecordBatch>,
    rest_rows: usize,
    rows: u64,
    first_keys: Vec<u8>,
    last_key: Vec<u8>,
    filter: FilterBuilder,
    min_point: Option<PointKey>,
}

impl<'a> ColumnarWriter<'a> {
    pub fn new(table: &'a Columnar, compression: PageCompression, file: SummingWriter) -> Result<Self> {
        let properties = properties(table, compression)?;
        Ok(Self {
            table,
            compression,
            parquet: ArrowWriter::try_new(file, Arc::clone(&table.schema), Some(properties))?,
            rest: Vec::new(),
            rest_rows: 0,
            rows: 0,
            first_keys: Vec::new(),
            last_key: Vec::new(),
            filter: FilterBuilder::new(false),
            min_point: None,
        })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// [`Error::Refused`] when they are not sorted or not of the table's schema.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = with_schema(batch, &self.table.schema)?;
        self.take_keys(&Keys::of(&batch, self.table.key_columns)?)?;
        let page_rows = self.table.page_rows;
        let mut start = 0;
        if self.rest_rows > 0 {
            start = (page_rows - self.rest_rows).min(batch.num_rows());
            self.rest.push(batch.slice(0, start));
            self.rest_rows += start;
            if self.rest_rows == page_rows {
                let stripe = concat_batches(&self.table.schema, &std::mem::take(&mut self.rest))?;
                self.rest_rows = 0;
                self.append(&stripe)?;
            }
        }
        let whole = (batch.num_rows() - start) / page_rows * page_rows;
        if whole > 0 {
            self.append(&batch.slice(start, whole))?;
        }
        let left = batch.num_rows() - start - whole;
        if left > 0 {
            self.rest.push(batch.slice(start + whole, left));
            self.rest_rows = left;
        }
        Ok(())
    }

    fn append(&mut self, stripes: &RecordBatch) -> Result<()> {
        self.parquet.write(stripes).map_err(|error| file_error(self.parquet.inner(), error))
    }

    fn take_keys(&mut self, keys: &Keys) -> Result<()> {
        let mut last = self.last_key.as_slice();
        for row in 0..keys.len() {
            let key = keys.get(row);
            if key < last {
                return Err(Error::Refused("rows to write are not sorted by their key".into()));
            }
            if self.rows.is_multiple_of(self.table.page_rows as u64) {
                self.first_keys.extend_from_slice(key);
            }
            self.filter.push(&point_of(key))?;
            self.rows += 1;
            last = key;
        }
        self.min_point.get_or_insert_with(|| point_of(keys.get(0)));
        self.last_key = last.to_vec();
        Ok(())
    }

    pub fn finish(mut self) -> Result<Written> {
        if self.rest_rows > 0 {
            let stripe = concat_batches(&self.table.schema, &std::mem::take(&mut self.rest))?;
            self.append(&stripe)?;
        }
        let footer = self.parquet.finish().map_err(|error| file_error(self.parquet.inner(), error))?;
        let sums = self.parquet.inner_mut().finish()?;
        let group_pages = GROUP_ROWS.div_ceil(self.table.page_rows);
        let index = StoredIndex {
            format: FORMAT,
            data_xxh3: Bytes::copy_from_slice(&sums.xxh3),
            rows: self.rows,
            chunks: sums.chunks.clone(),
            filter: self.filter.finish()?,
            key_width: self.table.key_width as u32,
            first_keys: self.first_keys.into(),
            unit_rows: self.table.page_rows as u32,
            group_pages: group_pages as u32,
            columns: self.table.schema.fields().len() as u32,
            compression: self.compression.number(),
            column_chunks: chunks(&footer, self.table.page_rows, group_pages)?,
            row_len: 0,
        };
        let bound = |point: PointKey| Bytes::copy_from_slice(&point);
        Ok(Written {
            sums,
            index,
            min_point: self.min_point.map(bound).unwrap_or_default(),
            max_point: self.min_point.map(|_| bound(point_of(&self.last_key))).unwrap_or_default(),
        })
    }
}

/// A full disk is a full disk, also when it comes back through the encoder.
fn file_error(file: &SummingWriter, error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => Error::io("write", file.path())(*error),
            Err(other) => Error::Columnar(other.to_string()),
        },
        other => other.into(),
    }
}

/// The batch under the table's own schema object, so that names and metadata are the table's too.
fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if Arc::ptr_eq(batch.schema_ref(), schema) {
        return Ok(batch.clone());
    }
    RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())
        .map_err(|error| Error::Refused(format!("rows of another schema: {error}")))
}

fn properties(table: &Columnar, compression: PageCompression) -> Result<WriterProperties> {
    let sorting = (0..table.key_columns as i32).map(|column_idx| SortingColumn {
        column_idx,
        descending: false,
        nulls_first: false,
    });
    let mut properties = WriterProperties::builder()
        .set_created_by("isthmus".into())
        .set_compression(PageCompression::of_number(compression.number())?)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_write_batch_size(table.page_rows)
        .set_data_page_row_count_limit(table.page_rows)
        .set_data_page_size_limit(PAGE_BYTES_MAX)
        .set_dictionary_page_size_limit(PAGE_BYTES_MAX)
        .set_max_row_group_row_count(Some(GROUP_ROWS.div_ceil(table.page_rows) * table.page_rows))
        .set_max_row_group_bytes(None)
        .set_sorting_columns(Some(sorting.collect()));
    for (number, field) in table.schema.fields().iter().enumerate() {
        let path = ColumnPath::from(field.name().as_str());
        if number < table.key_columns {
            properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page);
            if !matches!(field.data_type(), DataType::FixedSizeBinary(_)) {
                properties = properties.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            }
        }
        if field.metadata().contains_key(DICTIONARY) {
            properties = properties.set_column_dictionary_enabled(path, true);
        }
    }
    Ok(properties.build())
}

/// Where pages lie, from the footer; and the check that they end where stripes do.
fn chunks(footer: &ParquetMetaData, page_rows: usize, group_pages: usize) -> Result<Vec<StoredChunk>> {
    let broken =
        |what: &str| Error::Columnar(format!("the Parquet writer broke the rule of stripes: {what}"));
    let offsets = footer.offset_index().ok_or_else(|| broken("no offset index"))?;
    let mut chunks = Vec::new();
    for (group, (columns, pages)) in footer.row_groups().iter().zip(offsets).enumerate() {
        let stripes = (columns.num_rows() as usize).div_ceil(page_rows);
        if group + 1 < footer.num_row_groups() && stripes != group_pages {
            return Err(broken("a row group ended early"));
        }
        for (column, pages) in columns.columns().iter().zip(pages) {
            let pages = pages.page_locations();
            let aligned = pages.iter().enumerate().all(|(number, page)| {
                page.first_row_index as usize == number * page_rows
                    && pages
                        .get(number + 1)
                        .is_none_or(|next| next.offset == page.offset + i64::from(page.compressed_page_size))
            });
            if pages.len() != stripes || !aligned {
                return Err(broken("a page ends inside of a stripe"));
            }
            let offset = pages.first().map_or(0, |page| page.offset);
            let (start, _) = column.byte_range();
            let dictionary_bytes =
                if column.dictionary_page_offset().is_some() { offset as u64 - start } else { 0 };
            let ends =
                pages.iter().map(|page| (page.offset - offset) as u32 + page.compressed_page_size as u32);
            chunks.push(StoredChunk {
                dictionary_offset: start,
                dictionary_bytes: dictionary_bytes as u32,
                offset: offset as u64,
                ends: ends.collect(),
            });
        }
    }
    Ok(chunks)
}
