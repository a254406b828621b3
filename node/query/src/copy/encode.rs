//! Rows as the bytes of a file.

use std::io::Write;

use arrow::{array::RecordBatch, csv, datatypes::SchemaRef, json::LineDelimitedWriter};
use datafusion::common::{DataFusionError, Result};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use tokio::sync::mpsc;

use super::Format;

/// Writes batches until no more come; how many rows that were, and the writer, which is not flushed.
pub(super) fn encode<W: Write + Send>(
    to: W,
    schema: &SchemaRef,
    format: Format,
    mut batches: mpsc::Receiver<RecordBatch>,
) -> Result<(usize, W)> {
    let mut rows = 0;
    let mut each = |write: &mut dyn FnMut(&RecordBatch) -> Result<()>| {
        while let Some(batch) = batches.blocking_recv() {
            rows += batch.num_rows();
            write(&batch)?;
        }
        Ok::<_, DataFusionError>(())
    };
    let to = match format {
        Format::Parquet => {
            let properties = WriterProperties::builder().set_compression(Compression::LZ4_RAW).build();
            let mut writer = ArrowWriter::try_new(to, SchemaRef::clone(schema), Some(properties))?;
            each(&mut |batch| Ok(writer.write(batch)?))?;
            writer.into_inner()?
        }
        Format::Csv => {
            let mut writer = csv::WriterBuilder::new().with_header(true).build(to);
            // So that the names of columns are there without a row, too.
            writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
            each(&mut |batch| Ok(writer.write(batch)?))?;
            writer.into_inner()
        }
        Format::Json => {
            let mut writer = LineDelimitedWriter::new(to);
            each(&mut |batch| Ok(writer.write(batch)?))?;
            writer.finish()?;
            writer.into_inner()
        }
    };
    Ok((rows, to))
}
