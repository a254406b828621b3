//! Sort keys as bytes: the order of the bytes is the order of the columns.
//!
//! Key columns have a fixed width and no nulls, so a key of a table has one length, needs no escapes, and a batch's
//! keys are one flat buffer that is compared with `memcmp`. Signed numbers have their sign bit flipped, all numbers
//! are big-endian. The encoding is part of the stored format (first keys in a run's index).

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::datatypes::{
    Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, UInt16Type, UInt32Type,
    UInt64Type,
};

use crate::{Error, Result};

/// Bytes of a point key.
pub const POINT_BYTES: usize = 16;

/// The first 16 bytes of every sort key: what filters know and what a look-up names. Uniformly spread (a hash).
pub type PointKey = [u8; POINT_BYTES];

/// A sort key, or the beginning of one, as ordered bytes.
///
/// Built column by column in the order of the table's key columns. A key that stops early sorts before all keys that
/// go on from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SortKey(Vec<u8>);

impl SortKey {
    /// The key that begins with this point key.
    pub fn of_point(point: &PointKey) -> Self {
        Self(point.to_vec())
    }

    /// Goes on with a signed column: Int64, or a timestamp in its unit.
    pub fn then_i64(mut self, value: i64) -> Self {
        self.0.extend_from_slice(&order_i64(value));
        self
    }

    /// Goes on with an unsigned column of 64 bits.
    pub fn then_u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Goes on with an unsigned column of 32 bits.
    pub fn then_u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Goes on with a FixedSizeBinary column; `value` has its width.
    pub fn then_bytes(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    /// The ordered bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn order_i64(value: i64) -> [u8; 8] {
    (value.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn order_i32(value: i32) -> [u8; 4] {
    (value.cast_unsigned() ^ (1 << 31)).to_be_bytes()
}

/// Bytes of a column in a sort key; `None` when it can't be one.
pub(crate) fn key_width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).ok(),
        DataType::Int64 | DataType::UInt64 => Some(8),
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Millisecond, _) => Some(8),
        DataType::Int32 | DataType::UInt32 => Some(4),
        DataType::UInt16 => Some(2),
        _ => None,
    }
}

/// The sort keys of the rows of one batch, side by side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    bytes: Vec<u8>,
    width: usize,
}

impl Keys {
    /// Encodes the first `columns` columns of `batch`.
    pub fn of(batch: &RecordBatch, columns: usize) -> Result<Self> {
        let mut width = 0;
        for column in &batch.columns()[..columns] {
            width += key_width(column.data_type())
                .ok_or_else(|| Error::Refused(format!("a key column of type {}", column.data_type())))?;
            if column.null_count() > 0 {
                return Err(Error::Refused("a null in a key column".into()));
            }
        }
        let mut keys = Self { bytes: vec![0; width * batch.num_rows()], width };
        let mut at = 0;
        for column in &batch.columns()[..columns] {
            at += keys.fill(column, at)?;
        }
        Ok(keys)
    }

    /// Writes one column into its place of every key; says how wide it is.
    fn fill(&mut self, column: &ArrayRef, at: usize) -> Result<usize> {
        let (bytes, width) = (&mut self.bytes, self.width);
        macro_rules! numbers {
            ($kind:ty, $order:expr) => {
                put(
                    bytes,
                    width,
                    at,
                    column.as_primitive::<$kind>().values().iter().map(|value| $order(*value)),
                )
            };
        }
        Ok(match column.data_type() {
            DataType::FixedSizeBinary(_) => {
                let column = column.as_fixed_size_binary();
                let size = column.value_length() as usize;
                let values = column.value_data().chunks_exact(size.max(1));
                for (key, value) in bytes.chunks_exact_mut(width).zip(values) {
                    key[at..at + size].copy_from_slice(value);
                }
                size
            }
            DataType::Int64 => numbers!(Int64Type, order_i64),
            DataType::UInt64 => numbers!(UInt64Type, u64::to_be_bytes),
            DataType::Int32 => numbers!(Int32Type, order_i32),
            DataType::UInt32 => numbers!(UInt32Type, u32::to_be_bytes),
            DataType::UInt16 => numbers!(UInt16Type, u16::to_be_bytes),
            DataType::Timestamp(TimeUnit::Microsecond, _) => numbers!(TimestampMicrosecondType, order_i64),
            DataType::Timestamp(TimeUnit::Millisecond, _) => numbers!(TimestampMillisecondType, order_i64),
            other => return Err(Error::Refused(format!("a key column of type {other}"))),
        })
    }

    /// Keys that are encoded already (the first keys of an index).
    pub fn from_bytes(bytes: Vec<u8>, width: usize) -> Self {
        Self { bytes, width }
    }

    pub fn len(&self) -> usize {
        self.bytes.len().checked_div(self.width).unwrap_or(0)
    }

    pub fn get(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.width..(row + 1) * self.width]
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many rows have a key smaller than `key`, or one that doesn't go beyond `key` where `key` is only a
    /// beginning: the first row that is not smaller.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        self.partition(|row| row < key)
    }

    /// The first row behind all rows whose key begins with `prefix` or is smaller.
    pub fn upper_bound(&self, prefix: &[u8]) -> usize {
        self.partition(|row| row < prefix || row.starts_with(prefix))
    }

    /// How many keys are at most `key`.
    pub fn partition_at_most(&self, key: &[u8]) -> usize {
        self.partition(|row| row <= key)
    }

    fn partition(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.get(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

fn put<const N: usize>(
    bytes: &mut [u8],
    width: usize,
    at: usize,
    values: impl Iterator<Item = [u8; N]>,
) -> usize {
    for (key, value) in bytes.chunks_exact_mut(width).zip(values) {
        key[at..at + N].copy_from_slice(&value);
    }
    N
}

/// The point key at the start of an encoded key.
pub(crate) fn point_of(key: &[u8]) -> PointKey {
    let mut point = [0; POINT_BYTES];
    let length = key.len().min(POINT_BYTES);
    point[..length].copy_from_slice(&key[..length]);
    point
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{FixedSizeBinaryArray, Int64Array, UInt32Array};
    use arrow::datatypes::{Field, Schema};
    use proptest::prelude::*;

    use super::*;

    fn batch(rows: &[([u8; 16], i64, u32)]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("point", DataType::FixedSizeBinary(16), false),
            Field::new("time", DataType::Int64, false),
            Field::new("number", DataType::UInt32, false),
        ]);
        let points = FixedSizeBinaryArray::try_from_iter(rows.iter().map(|row| row.0)).unwrap();
        let times = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        let numbers = UInt32Array::from_iter_values(rows.iter().map(|row| row.2));
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(points), Arc::new(times), Arc::new(numbers)])
            .unwrap()
    }

    proptest! {
        #[test]
        fn bytes_are_ordered_as_the_columns_are(rows in prop::collection::vec((any::<[u8; 16]>(), any::<i64>(), any::<u32>()), 1..20)) {
            let mut rows = rows;
            rows.sort();
            let keys = Keys::of(&batch(&rows), 3).unwrap();
            for (row, value) in rows.iter().enumerate() {
                let built = SortKey::of_point(&value.0).then_i64(value.1).then_u32(value.2);
                prop_assert_eq!(keys.get(row), built.as_bytes());
                prop_assert!(row == 0 || keys.get(row - 1) <= keys.get(row));
            }
        }
    }

    #[test]
    fn bounds_of_a_prefix_hold_all_its_rows() {
        let keys =
            Keys::of(&batch(&[([1; 16], -1, 0), ([2; 16], -5, 0), ([2; 16], 7, 1), ([3; 16], 0, 0)]), 3)
                .unwrap();
        assert_eq!((keys.lower_bound(&[2; 16]), keys.upper_bound(&[2; 16])), (1, 3));
        let before = SortKey::of_point(&[2; 16]).then_i64(7);
        assert_eq!(keys.lower_bound(before.as_bytes()), 2);
        assert_eq!(keys.upper_bound(&[9; 16]), 4);
    }
}
