//! Rows as the bytes of a file.

use std::io::Write;

use arrow::{array::RecordBatch, csv, datatypes::SchemaRef, json::LineDelimitedWriter};
use datafusion::common::{DataFusionError, Result};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use tokio::sync::mpsc;

use super::Format;

/// Bytes of a row group, about: a writer keeps one in memory, and so does who reads it.
const ROW_GROUP_BYTES: usize = 64 << 20;

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
            let properties = WriterProperties::builder()
                .set_compression(Compression::LZ4_RAW)
                .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
                .build();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, BinaryArray},
        datatypes::{DataType, Field, Schema},
    };
    use bytes::Bytes;
    use parquet::file::{reader::FileReader, serialized_reader::SerializedFileReader};

    use super::*;

    #[test]
    fn a_row_group_ends_before_it_is_large() {
        const ROW_BYTES: usize = 8 << 10;
        let schema = Arc::new(Schema::new(vec![Field::new("noise", DataType::Binary, false)]));
        // What can't be compressed.
        let mut state = 1_u64;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let (lane, batches) = mpsc::channel(20);
        for _ in 0..20 {
            let rows: Vec<Vec<u8>> = (0..512)
                .map(|_| std::iter::repeat_with(&mut noise).take(ROW_BYTES / 8).flatten().collect())
                .collect();
            let rows: ArrayRef = Arc::new(BinaryArray::from_iter_values(rows));
            lane.try_send(RecordBatch::try_new(Arc::clone(&schema), vec![rows]).unwrap()).unwrap();
        }
        drop(lane);
        let (rows, file) = encode(Vec::new(), &schema, Format::Parquet, batches).unwrap();
        assert_eq!(rows, 20 * 512);
        let file = SerializedFileReader::new(Bytes::from(file)).unwrap();
        let groups = file.metadata().row_groups();
        let sizes: Vec<i64> = groups.iter().map(|group| group.compressed_size()).collect();
        // 80 MiB in two, of which none is larger than it should be by more than a batch.
        assert!(sizes.len() == 2 && sizes.iter().all(|size| *size <= 70 << 20), "{sizes:?}");
        assert_eq!(groups.iter().map(|group| group.num_rows()).sum::<i64>(), 20 * 512);
    }
}
