//! Quantiles of lags, within 1 % of the value, from counts in buckets that grow by a factor.
//!
//! Bucket i holds what lies in (g^(i-1), g^i] microseconds, g = (1 + e) / (1 - e) with e the relative error; its
//! middle is at most e off any of its values. Counts add up, so the result does not depend on order or split; the range
//! of 64-bit microseconds has some 2,200 buckets, of which only those that are used are kept.
//!
//! Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees"
//! (VLDB 2019). Written out here since the crates for it don't expose their buckets, which travel between nodes.

use std::collections::BTreeMap;

/// The relative error of a quantile.
pub const LAG_ERROR: f64 = 0.01;

/// Lags in microseconds. Those below one count as zero: an event may claim to be of the future.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LagSketch {
    zero: u64,
    buckets: BTreeMap<i32, u64>,
}

impl LagSketch {
    fn factor() -> f64 {
        (1.0 + LAG_ERROR) / (1.0 - LAG_ERROR)
    }

    /// Adds a lag.
    pub fn add(&mut self, lag_micros: i64) {
        if lag_micros < 1 {
            self.zero += 1;
            return;
        }
        let bucket = ((lag_micros as f64).ln() / Self::factor().ln()).ceil() as i32;
        *self.buckets.entry(bucket).or_default() += 1;
    }

    /// Adds another sketch.
    pub fn merge(&mut self, other: &Self) {
        self.zero = self.zero.saturating_add(other.zero);
        for (bucket, count) in &other.buckets {
            let own = self.buckets.entry(*bucket).or_default();
            *own = own.saturating_add(*count);
        }
    }

    /// How many lags it holds.
    pub fn count(&self) -> u64 {
        self.buckets.values().fold(self.zero, |sum, count| sum.saturating_add(*count))
    }

    /// The lag that this share (0 to 1) of all is not above, in microseconds; `None` when it is empty.
    pub fn quantile(&self, share: f64) -> Option<i64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut below = self.zero;
        if rank <= below {
            return Some(0);
        }
        let mut last = 0;
        for (bucket, count) in &self.buckets {
            (last, below) = (*bucket, below.saturating_add(*count));
            if rank <= below {
                break;
            }
        }
        let factor = Self::factor();
        Some((2.0 * factor.powi(last) / (factor + 1.0)).round() as i64)
    }

    /// The stored form: the count of zeros, then buckets, rising, with their counts.
    pub(super) fn parts(&self) -> (u64, Vec<i32>, Vec<u64>) {
        (self.zero, self.buckets.keys().copied().collect(), self.buckets.values().copied().collect())
    }

    /// From the stored form.
    pub(super) fn from_parts(zero: u64, buckets: &[i32], counts: &[u64]) -> Self {
        Self { zero, buckets: buckets.iter().copied().zip(counts.iter().copied()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_the_error_of_the_sorted_values() {
        let lags: Vec<i64> = (0..10_000i64).map(|n| n * n % 7_919_000 + n / 3).collect();
        let mut sketch = LagSketch::default();
        lags.iter().for_each(|lag| sketch.add(*lag));
        let mut sorted = lags;
        sorted.sort_unstable();
        for share in [0.0_f64, 0.5, 0.95, 0.99, 1.0] {
            let exact = sorted[((10_000.0 * share).ceil() as usize).max(1) - 1];
            let told = sketch.quantile(share).unwrap();
            assert!(
                (told - exact).abs() as f64 <= exact as f64 * LAG_ERROR + 1.0,
                "{share}: {told}, {exact}"
            );
        }
        assert_eq!(LagSketch::default().quantile(0.5), None);
    }

    #[test]
    fn the_future_has_no_lag_and_the_longest_lag_has_a_bucket() {
        let mut sketch = LagSketch::default();
        for lag in [i64::MIN, -1, 0, i64::MAX] {
            sketch.add(lag);
        }
        assert_eq!((sketch.count(), sketch.quantile(0.75)), (4, Some(0)));
        assert!(sketch.quantile(1.0).unwrap() > i64::MAX / 100 * 98);
    }
}
