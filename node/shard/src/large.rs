//! Rows that are larger than the control store takes: kept in parts.
//!
//! Only rows of tables whose values are protobuf messages may be large: no such message begins with a zero byte, so
//! that a first part that does is known to stand for several.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::keys;

/// Bytes of a part: below the store's limit of 64 KiB.
const PART_BYTES: usize = 48 << 10;

/// Whether a value is kept as it is.
pub(crate) fn is_one_row(value: &Bytes) -> bool {
    value.len() <= PART_BYTES
}

/// The rows that a value is kept in: itself, or how many parts there are, and those.
pub(crate) fn split(key: &[u8], value: &Bytes) -> Vec<(Vec<u8>, Bytes)> {
    if is_one_row(value) {
        return vec![(key.to_vec(), value.clone())];
    }
    let parts = value.len().div_ceil(PART_BYTES);
    let mut head = BytesMut::with_capacity(5);
    head.put_u8(0);
    head.put_u32(u32::try_from(parts).unwrap_or(u32::MAX));
    let mut rows = vec![(key.to_vec(), head.freeze())];
    for part in 0..parts {
        let bytes = value.slice(part * PART_BYTES..value.len().min((part + 1) * PART_BYTES));
        rows.push((keys::part(key, u16::try_from(part).unwrap_or(u16::MAX)), bytes));
    }
    rows
}

/// The value of a row: itself, or what its parts come to. `None` when one of them is missing.
pub(crate) fn join<E>(
    key: &[u8],
    value: Bytes,
    mut part: impl FnMut(&[u8]) -> Result<Option<Bytes>, E>,
) -> Result<Option<Bytes>, E> {
    if value.first() != Some(&0) {
        return Ok(Some(value));
    }
    let mut head = value.slice(1..);
    let parts = if head.len() == 4 { head.get_u32() } else { return Ok(None) };
    let mut whole = BytesMut::new();
    for number in 0..parts {
        match part(&keys::part(key, u16::try_from(number).unwrap_or(u16::MAX)))? {
            Some(bytes) => whole.extend_from_slice(&bytes),
            None => return Ok(None),
        }
    }
    Ok(Some(whole.freeze()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_value_of_any_size_is_read_back_and_parts_of_different_rows_lie_apart() {
        let mut rows = BTreeMap::new();
        let keys = [keys::outbox(7, 9), keys::outbox(7, 10), vec![0x31; 19], vec![0x32; 19]];
        let value = |n: usize| Bytes::from(vec![n as u8 + 1; [0, 48 << 10, (48 << 10) + 1, 1_000_000][n]]);
        for (n, key) in keys.iter().enumerate() {
            rows.extend(split(key, &value(n)));
        }
        for (n, key) in keys.iter().enumerate() {
            let read = join(key, rows[key].clone(), |part| Ok::<_, ()>(rows.get(part).cloned()));
            assert_eq!(read, Ok(Some(value(n))));
        }
        assert!(rows.values().all(|row| row.len() <= PART_BYTES));
    }
}
