//! Attempt ids: what tells the router's own retry from a client's second attempt.
//!
//! A shard remembers the attempt that stored an event. The same attempt again gets the original outcome, another one
//! gets `DUPLICATE`. So every item that enters the router gets an id of its own, once, and keeps it over all retries.
//!
//! Ids are SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) of a random
//! start and a counter: a bijection, so no two ids of one start are equal; and two starts that share an id for the same
//! event are a chance of about 2^-64. The same numbers serve as jitter.

use std::sync::atomic::{AtomicU64, Ordering};

/// The odd step between two states of SplitMix64.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A source of attempt ids.
#[derive(Debug)]
pub(crate) struct Attempts(AtomicU64);

impl Attempts {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next id. Never 0, which stands for an attempt that was not set.
    pub(crate) fn next(&self) -> u64 {
        loop {
            let id = mix(self.0.fetch_add(GAMMA, Ordering::Relaxed));
            // One state in 2^64 mixes to zero.
            if id != 0 {
                return id;
            }
        }
    }
}

fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_of_two_starts_are_all_different_and_none_is_zero() {
        let (one, other) = (Attempts::new(0), Attempts::new(1));
        let ids: BTreeSet<u64> = (0..10_000).flat_map(|_| [one.next(), other.next()]).collect();
        assert_eq!(ids.len(), 20_000);
        assert!(!ids.contains(&0));
    }
}
