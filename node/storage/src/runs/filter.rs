//! Filters on the point key: whether a run may hold rows of a key, from memory alone.
//!
//! Binary fuse filters (Graf and Lemire 2022, "Binary Fuse Filters: Fast and Smaller Than Xor Filters"): three memory
//! reads, 9 bits a key at one false positive in 256, or 18 bits at one in 65,536. The wide ones are for flat tables,
//! where almost every look-up is for a key that isn't there and each false positive costs a read.
//!
//! A filter is built from all its keys at once, so a run's filter is cut into parts of at most a million keys in key
//! order: building one needs about 40 MB, however large the run.

use bytes::Bytes;
use xorf::{BinaryFuse8, BinaryFuse16, Descriptor, Filter};

use super::key::{POINT_BYTES, PointKey, point_of};
use crate::{Error, Result};

/// Keys of a part.
const PART_KEYS_MAX: usize = 1 << 20;

/// Which keys a run may hold.
pub(crate) struct PointFilter {
    parts: Vec<Part>,
}

struct Part {
    first: PointKey,
    fuse: Fuse,
}

enum Fuse {
    Narrow(BinaryFuse8),
    Wide(BinaryFuse16),
}

/// A part as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredPart {
    /// The smallest point key in it.
    #[prost(bytes = "bytes", tag = "1")]
    pub first: Bytes,
    /// 8 or 16.
    #[prost(uint32, tag = "2")]
    pub bits: u32,
    #[prost(fixed64, tag = "3")]
    pub seed: u64,
    #[prost(uint32, tag = "4")]
    pub segment_length: u32,
    #[prost(uint32, tag = "5")]
    pub segment_length_mask: u32,
    #[prost(uint32, tag = "6")]
    pub segment_count_length: u32,
    /// Little-endian.
    #[prost(bytes = "bytes", tag = "7")]
    pub fingerprints: Bytes,
}

/// 128 bits to 64. Keys that fall together only cost a false positive.
fn fold(point: &PointKey) -> u64 {
    let value = u128::from_be_bytes(*point);
    ((value >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ value as u64
}

impl PointFilter {
    /// Whether there may be rows of this key. A `false` is certain.
    #[inline]
    pub fn may_contain(&self, point: &PointKey) -> bool {
        let part = match self.parts.as_slice() {
            [] => return false,
            [only] => only,
            parts => match parts.partition_point(|part| part.first <= *point).checked_sub(1) {
                Some(part) => &parts[part],
                None => return false,
            },
        };
        match &part.fuse {
            Fuse::Narrow(filter) => filter.contains(&fold(point)),
            Fuse::Wide(filter) => filter.contains(&fold(point)),
        }
    }

    pub fn load(stored: Vec<StoredPart>) -> Result<Self> {
        let parts = stored.into_iter().map(Part::load).collect::<Result<Vec<_>>>()?;
        Ok(Self { parts })
    }
}

impl Part {
    fn load(stored: StoredPart) -> Result<Self> {
        let wrong = || Error::corrupt("a run's filter", "its parts do not fit together");
        let descriptor = Descriptor {
            seed: stored.seed,
            segment_length: stored.segment_length,
            segment_length_mask: stored.segment_length_mask,
            segment_count_length: stored.segment_count_length,
        };
        let bytes = stored.fingerprints;
        let entries = bytes.len() / if stored.bits == 16 { 2 } else { 1 };
        // The largest place a look-up can touch: see `hash_of_hash` in xorf.
        let reach = u64::from(descriptor.segment_count_length) + 2 * u64::from(descriptor.segment_length);
        if stored.first.len() != POINT_BYTES || (entries as u64) < reach {
            return Err(wrong());
        }
        let length = descriptor.segment_length;
        if !length.is_power_of_two() || descriptor.segment_length_mask != length - 1 {
            return Err(wrong());
        }
        if !descriptor.segment_count_length.is_multiple_of(length) {
            return Err(wrong());
        }
        let fuse = match stored.bits {
            8 => Fuse::Narrow(BinaryFuse8 { descriptor, fingerprints: Box::from(bytes.as_ref()) }),
            16 => {
                let pairs = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
                Fuse::Wide(BinaryFuse16 { descriptor, fingerprints: pairs.collect() })
            }
            _ => return Err(wrong()),
        };
        Ok(Self { first: point_of(&stored.first), fuse })
    }
}

/// Gathers the keys of a run being written.
pub(crate) struct FilterBuilder {
    wide: bool,
    /// Folded keys of the part under way.
    keys: Vec<u64>,
    first: PointKey,
    last: Option<PointKey>,
    parts: Vec<StoredPart>,
}

impl FilterBuilder {
    pub fn new(wide: bool) -> Self {
        Self { wide, keys: Vec::new(), first: [0; POINT_BYTES], last: None, parts: Vec::new() }
    }

    /// Takes the next key; they come in order, repeated ones count once.
    #[inline]
    pub fn push(&mut self, point: &PointKey) -> Result<()> {
        if self.last.as_ref() == Some(point) {
            return Ok(());
        }
        if self.keys.len() == PART_KEYS_MAX {
            self.close_part()?;
        }
        if self.keys.is_empty() {
            self.first = *point;
        }
        self.keys.push(fold(point));
        self.last = Some(*point);
        Ok(())
    }

    pub fn finish(mut self) -> Result<Vec<StoredPart>> {
        if !self.keys.is_empty() {
            self.close_part()?;
        }
        Ok(self.parts)
    }

    fn close_part(&mut self) -> Result<()> {
        self.keys.sort_unstable();
        self.keys.dedup();
        let keys = self.keys.as_slice();
        let failed = |reason: &str| Error::Refused(format!("a filter can't be built: {reason}"));
        let (bits, descriptor, fingerprints): (_, _, Vec<u8>) = if self.wide {
            let filter = BinaryFuse16::try_from(keys).map_err(failed)?;
            (
                16,
                filter.descriptor,
                filter.fingerprints.iter().flat_map(|print| print.to_le_bytes()).collect(),
            )
        } else {
            let filter = BinaryFuse8::try_from(keys).map_err(failed)?;
            (8, filter.descriptor, filter.fingerprints.into_vec())
        };
        self.parts.push(StoredPart {
            first: Bytes::copy_from_slice(&self.first),
            bits,
            seed: descriptor.seed,
            segment_length: descriptor.segment_length,
            segment_length_mask: descriptor.segment_length_mask,
            segment_count_length: descriptor.segment_count_length,
            fingerprints: fingerprints.into(),
        });
        self.keys.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn built(points: &[PointKey], wide: bool) -> PointFilter {
        let mut builder = FilterBuilder::new(wide);
        for point in points {
            builder.push(point).unwrap();
        }
        PointFilter::load(builder.finish().unwrap()).unwrap()
    }

    fn spread(number: u64) -> PointKey {
        xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes()).to_be_bytes()
    }

    proptest! {
        #[test]
        fn what_is_in_is_never_denied(points in prop::collection::btree_set(any::<PointKey>(), 0..40), wide: bool) {
            let points: Vec<_> = points.into_iter().collect();
            let filter = built(&points, wide);
            prop_assert!(points.iter().all(|point| filter.may_contain(point)));
        }
    }

    #[test]
    fn few_strangers_pass() {
        let mut points: Vec<_> = (0..20_000).map(spread).collect();
        points.sort();
        let passed = |wide| {
            let filter = built(&points, wide);
            (1_000_000..1_100_000).filter(|number| filter.may_contain(&spread(*number))).count()
        };
        assert!(passed(false) < 600, "one in 256 is 390");
        assert!(passed(true) < 12, "one in 65,536 is 1.5");
    }

    #[test]
    fn an_empty_filter_denies_everything() {
        assert!(!built(&[], true).may_contain(&[7; 16]));
    }

    #[test]
    fn a_filter_that_would_be_read_behind_its_end_is_corrupt() {
        let mut builder = FilterBuilder::new(true);
        (0..100).for_each(|number| builder.push(&spread(number)).unwrap());
        let mut stored = builder.finish().unwrap();
        stored[0].fingerprints.truncate(16);
        assert!(PointFilter::load(stored).is_err_and(|error| error.is_corrupt()));
    }
}
