//! Scans: a raw table of a cut's shards as the columns that a query asks for.
//!
//! A scan knows all shards of its cut and which node holds which. One task a node runs it: the task reads the shards of its
//! own node, and refuses to run if it isn't on the node that it should be on, so that no plan, however it was cut into
//! stages, reads a shard twice or not at all without being found out ([`crate::distribute::is_sound`] looks before).
//!
//! Parts of shards are dealt to partitions in turn; a partition reads its parts one after the other, some batches at a time
//! on a thread that may block, as many scans at a time as the engine has threads. It stops when nobody takes its batches any
//! more.

mod exec;
mod filters;
mod make;

use std::sync::Arc;

use bytes::Bytes;
pub(crate) use exec::{ScanExec, Turns};
pub(crate) use filters::{filters_of, is_useful};
pub(crate) use make::Raw;
use serde::{Deserialize, Serialize};

use crate::{
    seam::{Filters, Table},
    tables::Out,
};

/// What is read, of whatever cut.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ScanSpec {
    /// What people call it.
    pub name: String,
    pub table: Table,
    pub outs: Vec<Out>,
    pub filters: Filters,
    /// Rows without a value in this raw column are left out.
    pub present: Option<usize>,
    /// So many rows are enough.
    pub limit: Option<usize>,
}

/// A node and what it holds of a cut: shards and their pins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NodeShards {
    pub node: u32,
    pub shards: Vec<(u64, u64)>,
}

/// Of which cut, and how.
#[derive(Clone, Debug)]
pub(crate) struct Of {
    /// In the order of tasks.
    pub nodes: Arc<Vec<NodeShards>>,
    pub names: Names,
    pub partitions: usize,
    pub batch_rows: usize,
    pub rows: Rows,
}

/// How many rows all shards of a cut have, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rows {
    pub events: u64,
    pub facets: u64,
}

/// The names of profiles whose home is not their founder: pairs of home and name, 32 bytes each, sorted.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Names(Bytes);

impl Names {
    /// Of pairs in any order.
    pub(crate) fn new(mut pairs: Vec<[u8; 32]>) -> Self {
        pairs.sort_unstable();
        Self(Bytes::from(pairs.concat()))
    }

    /// Of what [`Self::as_bytes`] gave; `None` when that can't be.
    pub(crate) fn from_bytes(bytes: Bytes) -> Option<Self> {
        bytes.len().is_multiple_of(32).then_some(Self(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len() / 32
    }

    /// The name of the profile with this home: mostly the home itself.
    pub(crate) fn of<'a>(&'a self, home: &'a [u8]) -> &'a [u8] {
        let pair = |at: usize| {
            self.0.get(at * 32..at * 32 + 32).unwrap_or_default().split_at_checked(16).unwrap_or_default()
        };
        // Ids are hashes, so where one lies among the others follows from its first bytes, about; a few looks at far places
        // of memory are spared, compared with halving from the middle.
        let (mut low, mut high) = (0, self.len());
        let (mut lowest, mut highest) = (0, u64::MAX);
        let wanted = place_of(home);
        for look in 0_u32.. {
            if low >= high {
                break;
            }
            let room = (high - low) as u128;
            let at = match look {
                // Should they not be spread evenly.
                8.. => low + (high - low) / 2,
                _ => {
                    let part =
                        u128::from(wanted.saturating_sub(lowest)) * room / (u128::from(highest - lowest) + 1);
                    low + usize::try_from(part.min(room - 1)).unwrap_or(0)
                }
            };
            let (known, name) = pair(at);
            match known.cmp(home) {
                std::cmp::Ordering::Equal => return name,
                std::cmp::Ordering::Less => (low, lowest) = (at + 1, place_of(known)),
                std::cmp::Ordering::Greater => (high, highest) = (at, place_of(known)),
            }
        }
        home
    }
}

/// The first bytes of an id as a number.
fn place_of(id: &[u8]) -> u64 {
    id.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Names({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_its_own_name_unless_another_is_known() {
        let pair = |home: u8, name: u8| {
            let mut pair = [home; 32];
            pair[16..].fill(name);
            pair
        };
        let names = Names::new((0..100).rev().map(|n| pair(2 * n, 2 * n + 1)).collect());
        let names = Names::from_bytes(names.as_bytes().clone()).unwrap();
        for n in 0..=255_u8 {
            let name = if n < 200 && n % 2 == 0 { n + 1 } else { n };
            assert_eq!(names.of(&[n; 16]), [name; 16]);
        }
        assert!(Names::from_bytes(Bytes::from_static(b"short")).is_none());
    }

    #[test]
    fn names_are_found_however_homes_are_spread() {
        // Nearly all at one end, some far apart, and many with the same first bytes.
        let mut homes: Vec<u128> = (0..500).map(|n| n * n).collect();
        homes.extend((0..200).map(|n| (7 << 64) + n * 3));
        homes.extend((0..100).map(|n| u128::MAX - (n << 90)));
        let pair = |home: &u128| {
            let mut pair = [0; 32];
            pair[..16].copy_from_slice(&home.to_be_bytes());
            pair[16..].copy_from_slice(&(!home).to_be_bytes());
            pair
        };
        let names = Names::new(homes.iter().map(pair).collect());
        for home in &homes {
            assert_eq!(names.of(&home.to_be_bytes()), (!home).to_be_bytes());
            let other = home ^ 2;
            if !homes.contains(&other) {
                assert_eq!(names.of(&other.to_be_bytes()), other.to_be_bytes());
            }
        }
    }
}
