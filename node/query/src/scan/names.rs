//! What profiles are called.
//!
//! A profile's name is that of its founder, and its home may be another identifier. So a query that reads names needs a map
//! from homes to names, of all shards. It is gathered by the node that was asked, and sent to the others once: they keep it
//! by the state of identifiers that it is of, and later plans name the state alone. A node that has let go of it says so, and
//! the query begins again, with the names.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use crate::error::QueryError;

/// Of which state of identifiers names are: that of each shard, by rising shard. Empty: it isn't known.
pub(crate) type NamesOf = Arc<[(u64, u64)]>;

/// States that are kept at most. Nodes that are asked at the same time may see different ones.
const KEPT: usize = 3;
/// Bytes of older states.
const KEPT_BYTES: usize = 128 << 20;
/// How a node says that it doesn't know the names that a plan needs.
const UNKNOWN: &str = "the names of profiles are not known here any more";

/// The names of profiles whose home is not their founder.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Pairs of home and name, 32 bytes each, sorted.
    pairs: Bytes,
    of: NamesOf,
    /// What this node calls the state that they are of; 0: it isn't known.
    number: u64,
}

impl Names {
    /// Of pairs in any order.
    pub(crate) fn new(mut pairs: Vec<[u8; 32]>) -> Self {
        pairs.sort_unstable();
        Self { pairs: Bytes::from(pairs.concat()), ..Self::default() }
    }

    /// Of what [`Self::as_bytes`] gave; `None` when that can't be.
    pub(crate) fn from_bytes(bytes: Bytes) -> Option<Self> {
        bytes.len().is_multiple_of(32).then_some(Self { pairs: bytes, ..Self::default() })
    }

    pub(crate) fn as_bytes(&self) -> &Bytes {
        &self.pairs
    }

    /// Of which state of identifiers they are.
    pub(crate) fn state(&self) -> &NamesOf {
        &self.of
    }

    /// A number of that state, in this process; 0: it isn't known.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len() / 32
    }

    /// The name of the profile with this home: mostly the home itself.
    pub(crate) fn of<'a>(&'a self, home: &'a [u8]) -> &'a [u8] {
        let pair = |at: usize| {
            self.pairs.get(at * 32..at * 32 + 32).unwrap_or_default().split_at_checked(16).unwrap_or_default()
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

/// Names that a node has kept.
#[derive(Debug, Default)]
pub(crate) struct KnownNames {
    kept: Mutex<VecDeque<Names>>,
    /// The state whose names the other nodes have been told: those of the cut that they were told with.
    told: Mutex<NamesOf>,
    last: AtomicU64,
}

impl KnownNames {
    /// The names of a state.
    pub(crate) fn get(&self, of: &NamesOf) -> Option<Names> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|names| !of.is_empty() && names.of == *of)?;
        let found = kept.remove(at)?;
        // What is asked for goes last.
        kept.push_front(found.clone());
        Some(found)
    }

    /// Keeps names of a state, if that is known.
    pub(crate) fn put(&self, of: NamesOf, names: Names) -> Names {
        if of.is_empty() {
            return names;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.iter().find(|known| known.of == of) {
            return known.clone();
        }
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let names = Names { of, number, ..names };
        kept.truncate(KEPT - 1);
        while kept.iter().map(|names| names.pairs.len()).sum::<usize>() > KEPT_BYTES {
            kept.pop_back();
        }
        kept.push_front(names.clone());
        names
    }

    /// Whether the other nodes have been told the names of a state.
    pub(crate) fn are_told(&self, of: &NamesOf) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        !of.is_empty() && *told == *of
    }

    /// The other nodes have been told the names of a state; an empty one: who knows.
    pub(crate) fn tell(&self, of: NamesOf) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = of;
    }
}

/// What a node answers that doesn't know the names that a plan needs.
pub(crate) fn unknown() -> QueryError {
    QueryError::Unavailable(UNKNOWN.to_owned())
}

/// Whether a query failed for that.
pub(crate) fn are_unknown(error: &QueryError) -> bool {
    matches!(error, QueryError::Unavailable(why) if why.contains(UNKNOWN))
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

    #[test]
    fn names_are_kept_by_the_state_that_they_are_of() {
        let known = KnownNames::default();
        let state = |n: u64| NamesOf::from([(1, n), (2, 7)]);
        assert!(known.get(&state(1)).is_none());
        let put = |n: u8| known.put(state(u64::from(n)), Names::new(vec![[n; 32]]));
        let first = put(1);
        assert_eq!(first, known.get(&state(1)).unwrap());
        // Of the same state are the same names, whoever tells them.
        assert_eq!(known.put(state(1), Names::default()), first);
        let others: Vec<Names> = (2..=4).map(put).collect();
        let mut numbers: Vec<u64> = others.iter().chain([&first]).map(Names::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert!(known.get(&state(1)).is_none(), "the oldest goes");
        assert_eq!(known.get(&state(2)).unwrap().of(&[2; 16]), [2; 16]);
        // What isn't known is not kept, nor taken for known.
        assert_eq!(known.put(NamesOf::default(), Names::new(vec![[9; 32]])).number(), 0);
        assert!(known.get(&NamesOf::default()).is_none());
        assert!(!known.are_told(&NamesOf::default()));
        known.tell(state(2));
        assert!(known.are_told(&state(2)) && !known.are_told(&state(3)));
    }
}
