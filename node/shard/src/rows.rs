//! The control rows of a memtable, ordered by key.

use std::collections::BTreeMap;

use bytes::Bytes;

/// What the map costs for a row besides its content: measured roughly.
const OVERHEAD_BYTES: usize = 120;

/// Control rows that were put (`Some`) or deleted (`None`) since the last freeze.
///
/// A deleted row is kept, since it hides one that lies below; but one that came and went since the last freeze has
/// nothing to hide, and leaves nothing behind: most messages of an outbox, for example.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    rows: BTreeMap<Vec<u8>, Row>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Row {
    value: Option<Bytes>,
    /// Whether no row of this key lies below.
    new: bool,
}

impl Rows {
    /// Puts or deletes a row. `existed`: whether there was one, here or below.
    pub fn set(&mut self, key: Vec<u8>, value: Option<Bytes>, existed: bool) {
        let bytes = |key: &[u8], value: Option<&Bytes>| key.len() + value.map_or(0, Bytes::len) + OVERHEAD_BYTES;
        let Some(known) = self.rows.get_mut(&key) else {
            if existed || value.is_some() {
                self.bytes += bytes(&key, value.as_ref());
                self.rows.insert(key, Row { value, new: !existed });
            }
            return;
        };
        self.bytes -= bytes(&key, known.value.as_ref());
        if value.is_none() && known.new {
            self.rows.remove(&key);
        } else {
            self.bytes += bytes(&key, value.as_ref());
            known.value = value;
        }
    }

    /// What is known of a row: its value, or that it was deleted; `None` when what lies below counts.
    pub fn get(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        self.rows.get(key).map(|row| row.value.as_ref())
    }

    /// The rows with keys from `start` on, rising.
    pub fn range(&self, start: &[u8]) -> impl Iterator<Item = (&Vec<u8>, Option<&Bytes>)> {
        let range = self.rows.range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
        range.map(|(key, row)| (key, row.value.as_ref()))
    }

    /// All rows, by rising keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, Option<&Bytes>)> {
        self.rows.iter().map(|(key, row)| (key, row.value.as_ref()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of memory that they take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_came_and_went_leaves_nothing_but_one_from_below_stays_hidden() {
        let value = Some(Bytes::from_static(b"value"));
        let mut rows = Rows::default();
        rows.set(b"new".to_vec(), value.clone(), false);
        rows.set(b"new".to_vec(), None, true);
        assert_eq!((rows.get(b"new"), rows.bytes()), (None, 0));
        rows.set(b"old".to_vec(), None, true);
        assert_eq!(rows.get(b"old"), Some(None));
        rows.set(b"old".to_vec(), value.clone(), false);
        rows.set(b"old".to_vec(), None, true);
        assert_eq!(rows.get(b"old"), Some(None), "what lies below must not come back");
        rows.set(b"changed".to_vec(), value.clone(), true);
        rows.set(b"changed".to_vec(), None, true);
        assert_eq!(rows.get(b"changed"), Some(None));
        rows.set(b"never".to_vec(), None, false);
        assert_eq!(rows.iter().count(), 2);
    }
}
