//! Who is in which segment, as a shard keeps it.
//!
//! **What it promises.** What the leader has worked out is taken exactly once, whatever leaders come and go: a command
//! says up to where the one before it went ([`Through`]), and is refused when that isn't so. Rows outlive leaders, and
//! each change of a row is a change of the feed in the same command.
//!
//! **How.** A row for each profile and segment, by the profile's home: apply reads none of them, since the command says
//! what they were. They lie in a flat table of runs, where the newest row of a key counts; who has left keeps a row that
//! says so. A row is part of the state's hash while the profile is in the segment.
//!
//! **Left out.** What segments are and who is in them: that is worked out beside the leader, by `isthmus-segmenter`.

use isthmus_domain::{FacetId, Stamp};

use crate::{StateHash, hash::Kind};

/// What a row takes in a memtable, about.
pub(crate) const MEMORY_BYTES: usize = 80;

/// How far segments have been worked out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Through {
    /// All changes up to this stamp are in it, and all that time brought about by then.
    pub stamp: Stamp,
    /// The version of the definitions.
    pub version: u64,
}

/// A profile and a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The facet at whose slot the profile is put together.
    pub home: FacetId,
    /// The segment's name in what is stored.
    pub segment: u64,
}

/// Whether the profile is in the segment, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// 0: no, 1: yes, 2: it can't be said.
    pub membership: u8,
    /// The stamp of the command that said so.
    pub since: Stamp,
}

impl Key {
    /// Bytes of the stored form.
    pub const BYTES: usize = 24;

    /// Stored form: home (16), segment (8, big-endian).
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(self.home.as_bytes());
        bytes[16..].copy_from_slice(&self.segment.to_be_bytes());
        bytes
    }

    /// From the stored form.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (home, segment) = bytes.split_at_checked(16)?;
        let segment = u64::from_be_bytes(segment.try_into().ok()?);
        Some(Self { home: FacetId::from_slice(home)?, segment })
    }
}

impl Row {
    /// Bytes of the stored form.
    pub const BYTES: usize = 16;

    /// Stored form: membership (1), zeros (7), stamp (8, big-endian).
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.membership;
        bytes[8..].copy_from_slice(&self.since.0.to_be_bytes());
        bytes
    }

    /// From the stored form.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let [membership, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = *bytes;
        Some(Self { membership, since: Stamp(u64::from_be_bytes([a, b, c, d, e, f, g, h])) })
    }

    /// Adds it to a hash, if it counts.
    pub(crate) fn count(self, key: &Key, hash: &mut StateHash) {
        if self.membership > 0 {
            hash.add(Kind::Member, &key.to_bytes(), &self.to_bytes());
        }
    }

    /// Takes it out of a hash, if it counted.
    pub(crate) fn discount(self, key: &Key, hash: &mut StateHash) {
        if self.membership > 0 {
            hash.remove(Kind::Member, &key.to_bytes(), &self.to_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_rows_are_read_back_and_keys_lie_by_home() {
        let key = |home: u8, segment| Key { home: FacetId::from_bytes([home; 16]), segment };
        let row = Row { membership: 2, since: Stamp(77) };
        assert_eq!(Key::from_slice(&key(3, 9).to_bytes()), Some(key(3, 9)));
        assert_eq!(Row::from_slice(&row.to_bytes()), Some(row));
        assert!(key(3, u64::MAX).to_bytes() < key(4, 0).to_bytes());
        assert!(Key::from_slice(&[0; 23]).is_none() && Row::from_slice(&[0; 17]).is_none());
    }
}
