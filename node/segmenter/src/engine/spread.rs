//! A hash for what is found by ids of facets: those are hashes under a key that nobody outside knows, so nobody can choose
//! them to fall together, and little is left to do.

use std::hash::{BuildHasherDefault, Hasher};

/// A map by ids of facets.
pub type FacetMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Spread>>;

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes what is written, eight bytes at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<8>();
        whole.iter().for_each(|part| self.write_u64(u64::from_ne_bytes(*part)));
        rest.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(FACTOR);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        // The tables take their places from both ends.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        hash::{BuildHasher, BuildHasherDefault},
    };

    use isthmus_domain::FacetId;
    use isthmus_shard::segments::Key;

    use super::*;

    #[test]
    fn segments_of_a_profile_and_profiles_of_a_segment_lie_apart() {
        let of = BuildHasherDefault::<Spread>::default();
        let (mut low, mut high) = (BTreeSet::new(), BTreeSet::new());
        for number in 0..1_024_u64 {
            let mut id = [7; 16];
            id[8..].copy_from_slice(&(number / 32).wrapping_mul(FACTOR).to_be_bytes());
            let segment = (number % 32).wrapping_mul(FACTOR);
            let hash = of.hash_one(Key { home: FacetId::from_bytes(id), segment });
            low.insert(hash & 0xffff);
            high.insert(hash >> 48);
        }
        assert!(low.len() > 1_000 && high.len() > 1_000, "{} and {}", low.len(), high.len());
    }
}
