//! The hash of a shard's state.
//!
//! A sum, modulo 2^128, of a hash of each row that the shard holds (after Bellare and Micciancio, *A New Paradigm for
//! Collision-Free Hashing: Incrementality at Reduced Cost*, 1997, with XXH3 instead of a cryptographic hash: it finds
//! faults, not forgers). It costs the same however large the state is, doesn't depend on the order of rows, and can
//! be counted again from what lies on disk. What follows from counted rows (facets from events) isn't counted again.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Most rows are no longer than this.
const SHORT_BYTES: usize = 384;

/// A sum of row hashes. Replicas at the same index have the same one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct StateHash(u128);

/// Which kind of row a hash is of, so that equal bytes in two tables don't cancel out.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A deduplication entry, and with it an event row.
    Event = 1,
    /// A control row.
    Row = 2,
    /// A profile in a segment.
    Member = 3,
}

impl StateHash {
    /// Adds a row.
    pub(crate) fn add(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(row(kind, key, value));
    }

    /// Takes a row away that was added before.
    pub(crate) fn remove(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_sub(row(kind, key, value));
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// 16 bytes, big-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From [`to_bytes`](Self::to_bytes); `None` unless 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

fn row(kind: Kind, key: &[u8], value: &[u8]) -> u128 {
    // The length in front of the key keeps (ab, c) and (a, bc) apart.
    let head = [kind as u8, u8::try_from(key.len()).unwrap_or(u8::MAX)];
    let mut buffer = [0; SHORT_BYTES];
    let (of_key, of_value) = (head.len() + key.len(), key.len() + value.len() + head.len());
    if let Some(whole) = buffer.get_mut(..of_value) {
        // The same hash, without a hasher's large state.
        whole[..head.len()].copy_from_slice(&head);
        whole[head.len()..of_key].copy_from_slice(key);
        whole[of_key..].copy_from_slice(value);
        return xxh3_128(whole);
    }
    let mut hasher = Xxh3::new();
    hasher.update(&head);
    hasher.update(key);
    hasher.update(value);
    hasher.digest128()
}

impl std::fmt::Display for StateHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::fmt::Debug for StateHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rows_does_not_matter_and_a_removed_row_leaves_no_trace() {
        let (mut a, mut b) = (StateHash::default(), StateHash::default());
        a.add(Kind::Row, b"x", b"1");
        a.add(Kind::Row, b"y", b"2");
        a.add(Kind::Row, b"x", b"3");
        a.remove(Kind::Row, b"x", b"1");
        b.add(Kind::Row, b"x", b"3");
        b.add(Kind::Row, b"y", b"2");
        assert_eq!(a, b);
        assert_ne!(a, StateHash::default());
    }

    #[test]
    fn short_rows_are_hashed_as_long_ones_are() {
        let value = [7; 2 * SHORT_BYTES];
        for length in [0, 1, SHORT_BYTES - 6, SHORT_BYTES - 5, SHORT_BYTES - 4, 2 * SHORT_BYTES] {
            let mut hasher = Xxh3::new();
            hasher.update(&[Kind::Row as u8, 3]);
            hasher.update(b"key");
            hasher.update(&value[..length]);
            assert_eq!(row(Kind::Row, b"key", &value[..length]), hasher.digest128(), "{length} bytes");
        }
    }

    #[test]
    fn where_a_key_ends_and_which_table_it_is_of_matter() {
        let hash = |kind, key: &[u8], value: &[u8]| {
            let mut hash = StateHash::default();
            hash.add(kind, key, value);
            hash
        };
        assert_ne!(hash(Kind::Row, b"ab", b"c"), hash(Kind::Row, b"a", b"bc"));
        assert_ne!(hash(Kind::Row, b"a", b"b"), hash(Kind::Event, b"a", b"b"));
    }
}
