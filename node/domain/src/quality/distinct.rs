//! How many different values there are: exactly for few, by a sketch for many.
//!
//! The K smallest hashes of the values are kept (K minimum values). Up to K different values that is all of them, and
//! the number is exact; beyond, the K-th smallest of n uniform hashes lies at about K/n, which estimates n with a
//! standard error of 1/sqrt(K-2): 2.2 %. The union of two sketches, cut to K, is the sketch of the union, so the
//! result does not depend on order or split.
//!
//! Source: Bar-Yossef, Jayram, Kumar, Sivakumar, Trevisan, "Counting distinct elements in a data stream" (RANDOM 2002);
//! Beyer et al., "On synopses for distinct-value estimation under multiset operations" (SIGMOD 2007).

use std::collections::BTreeSet;

/// Up to so many different values are counted exactly.
pub const DISTINCT_EXACT_MAX: usize = 2_048;

/// A set of values, of which only the number is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distinct {
    smallest: BTreeSet<u64>,
    /// Whether there are more than are kept.
    over: bool,
}

impl Distinct {
    /// Adds a value.
    pub fn add(&mut self, value: &[u8]) {
        let hash = blake3::hash(value);
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        self.put(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    }

    fn put(&mut self, hash: u64) {
        if self.smallest.len() == DISTINCT_EXACT_MAX && self.smallest.last().is_some_and(|last| hash > *last)
        {
            self.over = true;
            return;
        }
        self.smallest.insert(hash);
        if self.smallest.len() > DISTINCT_EXACT_MAX {
            self.smallest.pop_last();
            self.over = true;
        }
    }

    /// Adds another set.
    pub fn merge(&mut self, other: &Self) {
        self.over |= other.over;
        other.smallest.iter().for_each(|hash| self.put(*hash));
    }

    /// Whether [`Distinct::count`] is exact.
    pub fn is_exact(&self) -> bool {
        !self.over
    }

    /// How many different values there are.
    pub fn count(&self) -> u64 {
        let kept = self.smallest.len();
        match self.smallest.last() {
            Some(kth) if self.over => {
                // K-1 over the K-th smallest, as a part of the range of hashes, is unbiased.
                let part = (*kth as f64 + 1.0) / 2f64.powi(64);
                ((kept as f64 - 1.0) / part).round() as u64
            }
            _ => kept as u64,
        }
    }

    /// The stored form: the hashes, rising, and whether there were more.
    pub(super) fn parts(&self) -> (Vec<u64>, bool) {
        (self.smallest.iter().copied().collect(), self.over)
    }

    /// From the stored form.
    pub(super) fn from_parts(hashes: &[u64], over: bool) -> Self {
        let mut set = Self { smallest: BTreeSet::new(), over };
        hashes.iter().for_each(|hash| set.put(*hash));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: std::ops::Range<u32>) -> Distinct {
        let mut set = Distinct::default();
        range.for_each(|n| set.add(&n.to_be_bytes()));
        set
    }

    #[test]
    fn few_are_counted_exactly_and_many_within_the_error() {
        let exact = of(0..DISTINCT_EXACT_MAX as u32);
        assert_eq!((exact.count(), exact.is_exact()), (DISTINCT_EXACT_MAX as u64, true));
        for many in [3_000u32, 50_000, 200_000] {
            let set = of(0..many);
            assert!(!set.is_exact());
            let error = (set.count() as f64 / f64::from(many) - 1.0).abs();
            assert!(error < 4.0 / (DISTINCT_EXACT_MAX as f64).sqrt(), "{many}: {}", set.count());
        }
    }

    #[test]
    fn the_union_is_the_sketch_of_all_whatever_the_split() {
        for (a, b) in [(0..10, 5..15), (0..2_000, 1_000..3_000), (0..9_000, 0..9_000)] {
            let whole = of(a.start..b.end.max(a.end));
            let (mut left, right) = (of(a), of(b));
            left.merge(&right);
            assert_eq!(left, whole);
            let (hashes, over) = left.parts();
            assert_eq!(Distinct::from_parts(&hashes, over), left);
        }
    }
}
