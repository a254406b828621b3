//! Keys of control rows: ordered bytes, `store (4, big-endian) | table (1) | slot (2, big-endian) | rest`.
//!
//! The order of the bytes is the order of (store, table, slot, rest), so a store, a table of a store, and a range of
//! slots of a table are each one range of keys: a snapshot copies ranges, a split names ranges, a dropped store is
//! deleted by range. Rows of the node itself use store 0. Tables without slots leave the slot out and put their own
//! ordered bytes behind the table; a table does one or the other, never both.

use std::ops::Range;

use crate::StoreId;

/// Bytes of the store prefix.
pub const STORE_BYTES: usize = 4;
/// Bytes up to and with the table.
pub const TABLE_BYTES: usize = STORE_BYTES + 1;
/// Bytes up to and with the slot.
pub const SLOT_BYTES: usize = TABLE_BYTES + 2;

/// A range of keys: from `start` up to, but without, `end`; without an `end`, up to the last key there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that may be in the range.
    pub start: Vec<u8>,
    /// The first key behind the range; `None`: there is none.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// All keys.
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None }
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: prefix.to_vec(), end: prefix_end(prefix) }
    }

    /// From `start` up to, but without, `end`.
    pub fn between(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self { start: start.into(), end: Some(end.into()) }
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// Whether no key can be in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_deref().is_some_and(|end| end <= self.start.as_slice())
    }
}

/// The first key behind all keys that begin with `prefix`; `None` when there is none (the prefix is all `0xff`).
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// The prefix of all rows of a store.
pub fn store_prefix(store: StoreId) -> [u8; STORE_BYTES] {
    store.0.to_be_bytes()
}

/// A key of a table without slots.
pub fn table_key(store: StoreId, table: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(TABLE_BYTES + rest.len());
    key.extend_from_slice(&store_prefix(store));
    key.push(table);
    key.extend_from_slice(rest);
    key
}

/// A key of a table by slots.
pub fn slot_key(store: StoreId, table: u8, slot: u16, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(SLOT_BYTES + rest.len());
    key.extend_from_slice(&store_prefix(store));
    key.push(table);
    key.extend_from_slice(&slot.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

/// All rows of a store.
pub fn store_range(store: StoreId) -> KeyRange {
    KeyRange::prefix(&store_prefix(store))
}

/// All rows of a table of a store.
pub fn table_range(store: StoreId, table: u8) -> KeyRange {
    KeyRange::prefix(&table_key(store, table, &[]))
}

/// The rows of a table of a store whose slot is in `slots`. The end is a `u32`, so that the last slot can be named.
pub fn slot_range(store: StoreId, table: u8, slots: Range<u32>) -> KeyRange {
    let bound = |slot: u32| match u16::try_from(slot) {
        Ok(slot) => Some(slot_key(store, table, slot, &[])),
        Err(_) => prefix_end(&table_key(store, table, &[])),
    };
    match bound(slots.start) {
        Some(start) => KeyRange { start, end: bound(slots.end) },
        // Only when the table is the last possible one and the slots begin behind the last: nothing is there.
        None => KeyRange::between(Vec::new(), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_is_the_order_of_their_parts() {
        let keys = [
            slot_key(StoreId(0), 255, u16::MAX, b"z"),
            table_key(StoreId(1), 0, b""),
            slot_key(StoreId(1), 1, 0, b""),
            slot_key(StoreId(1), 1, 0, b"a"),
            slot_key(StoreId(1), 1, 255, b"a"),
            slot_key(StoreId(1), 1, 256, b""),
            slot_key(StoreId(1), 2, 0, b""),
            slot_key(StoreId(256), 0, 0, b""),
        ];
        assert!(keys.is_sorted());
    }

    #[test]
    fn a_store_range_holds_its_rows_and_no_other() {
        let range = store_range(StoreId(7));
        assert!(range.contains(&table_key(StoreId(7), 0, b"")));
        assert!(range.contains(&slot_key(StoreId(7), 255, u16::MAX, &[0xff; 8])));
        assert!(!range.contains(&slot_key(StoreId(6), 255, u16::MAX, &[0xff; 8])));
        assert!(!range.contains(&table_key(StoreId(8), 0, b"")));
    }

    #[test]
    fn a_slot_range_can_end_behind_the_last_slot() {
        let range = slot_range(StoreId(1), 9, 16_000..65_536);
        assert!(range.contains(&slot_key(StoreId(1), 9, u16::MAX, &[0xff; 4])));
        assert!(!range.contains(&slot_key(StoreId(1), 9, 15_999, &[0xff; 4])));
        assert!(!range.contains(&slot_key(StoreId(1), 10, 0, b"")));
        let last = slot_range(StoreId(u32::MAX), 255, 0..65_536);
        assert_eq!(last.end, None);
        assert!(slot_range(StoreId(u32::MAX), 255, 70_000..70_001).is_empty());
    }

    #[test]
    fn the_end_of_a_prefix_carries() {
        assert_eq!(prefix_end(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(prefix_end(&[0xff, 0xff]), None);
        assert_eq!(prefix_end(&[]), None);
    }
}
