//! Reading stripes of a columnar run.
//!
//! The index knows where each column's pages lie, so a read fetches exactly the pages of its stripes and columns, one
//! verified read a column, and hands them to the Parquet decoders as if they were a small row group of their own. No
//! footer is parsed, no page index is walked, and nothing of them stays in memory.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use parquet::column::page::{PageIterator, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use super::checked::CheckedFile;
use super::columnar::PageCompression;
use super::index::{StoredChunk, StoredIndex};
use super::table::{Columnar, Projection};
use crate::{Error, Result};

/// How many stripes a run has.
pub(crate) fn count(index: &StoredIndex) -> usize {
    index.rows.div_ceil(u64::from(index.unit_rows.max(1))) as usize
}

/// The end of the row group that `stripe` is in: a read does not go beyond.
pub(crate) fn group_end(index: &StoredIndex, stripe: usize) -> usize {
    group_of(index, stripe).end
}

/// The row group that `stripe` is in.
pub(crate) fn group_of(index: &StoredIndex, stripe: usize) -> Range<usize> {
    let pages = index.group_pages.max(1) as usize;
    let start = stripe / pages * pages;
    start.min(count(index))..(start + pages).min(count(index))
}

/// Decodes stripes of one row group. `dictionary` fetches the dictionary page of a column chunk, given with its number.
pub(crate) fn read(
    table: &Columnar,
    file: &CheckedFile,
    index: &StoredIndex,
    stripes: Range<usize>,
    projection: Projection,
    dictionary: impl Fn(usize, &StoredChunk) -> Result<Bytes>,
) -> Result<RecordBatch> {
    let wrong = |what: &str| Error::corrupt_at(file.path(), 0, what);
    let wanted = table.existing(projection);
    let stored = wanted.intersection(Projection::first(index.columns as usize));
    let unit = u64::from(index.unit_rows);
    let rows =
        (stripes.end as u64 * unit).min(index.rows).saturating_sub(stripes.start as u64 * unit) as usize;
    let pages = index.group_pages.max(1) as usize;
    let group = stripes.start / pages;
    let first_page = stripes.start % pages;
    if rows == 0 || group_end(index, stripes.start) < stripes.end {
        return Err(Error::Refused("stripes to read must be of one row group".into()));
    }
    let mut columns = Vec::new();
    for column in 0..index.columns as usize {
        if !stored.contains(column) {
            columns.push(None);
            continue;
        }
        let number = group * index.columns as usize + column;
        let chunk = index.column_chunks.get(number).ok_or_else(|| wrong("the index lacks a column"))?;
        let end =
            chunk.ends.get(first_page + stripes.len() - 1).ok_or_else(|| wrong("the index lacks a page"))?;
        let start = match first_page {
            0 => 0,
            page => chunk.ends[page - 1],
        };
        let length = end.checked_sub(start).ok_or_else(|| wrong("pages overlap"))? as usize;
        let data = file.read(chunk.offset + u64::from(start), length)?;
        // The decoder wants dictionary and data in one piece.
        let bytes = match chunk.dictionary_bytes {
            0 => data,
            _ => [dictionary(number, chunk)?, data].concat().into(),
        };
        columns.push(Some(Chunk { bytes, dictionary: chunk.dictionary_bytes as usize }));
    }
    let compression = index.compression;
    let pages = StripePages { table, columns, rows, compression };
    let levels = table.levels(stored)?;
    let mut reader = ParquetRecordBatchReader::try_new_with_row_groups(&levels, &pages, rows, None)?;
    let batch = match reader.next() {
        Some(batch) => batch?,
        None => return Err(wrong("a stripe has no rows")),
    };
    if batch.num_rows() != rows {
        return Err(wrong("a stripe has fewer rows than the index says"));
    }
    // Columns the table got after this run was written are null in it.
    let mut found = batch.columns().iter();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (column, field) in
        table.schema.fields().iter().enumerate().filter(|(column, _)| wanted.contains(*column))
    {
        arrays.push(match found.next() {
            Some(array) if stored.contains(column) => Arc::clone(array),
            _ => new_null_array(field.data_type(), rows),
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(table.projected(wanted), arrays, &options)?)
}

/// The fetched pages of one column: the dictionary page, when there is one, then data pages.
struct Chunk {
    bytes: Bytes,
    dictionary: usize,
}

/// Some stripes, posing as a row group.
struct StripePages<'a> {
    table: &'a Columnar,
    columns: Vec<Option<Chunk>>,
    rows: usize,
    compression: u32,
}

impl RowGroups for StripePages<'_> {
    fn num_rows(&self) -> usize {
        self.rows
    }

    fn column_chunks(&self, column: usize) -> ParquetResult<Box<dyn PageIterator>> {
        let missing = || ParquetError::General(format!("column {column} was not fetched"));
        let chunk = self.columns.get(column).and_then(Option::as_ref).ok_or_else(missing)?;
        let compression = PageCompression::of_number(self.compression);
        let compression = compression.map_err(|error| ParquetError::General(error.to_string()))?;
        let description = self.table.parquet_schema.column(column);
        let meta = ColumnChunkMetaData::builder(description)
            .set_compression(compression)
            .set_num_values(self.rows as i64)
            .set_total_compressed_size(chunk.bytes.len() as i64)
            .set_dictionary_page_offset((chunk.dictionary > 0).then_some(0))
            .set_data_page_offset(chunk.dictionary as i64)
            .build()?;
        let reader = SerializedPageReader::new(Arc::new(chunk.bytes.clone()), &meta, self.rows, None)?;
        Ok(Box::new(OneChunk(Some(Box::new(reader)))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::empty())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.table.footer
    }
}

struct OneChunk(Option<Box<dyn PageReader>>);

impl Iterator for OneChunk {
    type Item = ParquetResult<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl PageIterator for OneChunk {}
