//! Keyed hashes: where data lives, and how a repeated event is recognised.
//!
//! All hashes are BLAKE3 in its keyed mode, cut to 128 bits. The key is the cluster's own and never rotates, since
//! data stays for ever where its hash put it. The key keeps an id that has leaked (in a log line, a metric, a file
//! name) from being turned back into an e-mail address by hashing a dictionary.
//!
//! 128 bits: with 10 billion identifiers the chance of any collision is about 1.5e-19.
//!
//! Source: O'Connor, Aumasson, Neves, Wilcox-O'Hearn, "BLAKE3: one function, fast everywhere" (2020).

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::identifier::Identifier;
use crate::slot::Slot;

/// The cluster's secret key for [`FacetId`] and [`hash128`]. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityKey([u8; 32]);

impl IdentityKey {
    /// Takes 32 bytes of good randomness, made once when the cluster is bootstrapped.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key itself, for wrapping and storing it. Never print it.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(redacted)")
    }
}

/// The name of a facet: the keyed hash of its identifier. Its order is the order of slots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FacetId([u8; 16]);

impl FacetId {
    /// The hash of `namespace \0 value`. Neither part can hold a NUL, so no two identifiers share an input.
    pub fn of(key: &IdentityKey, identifier: &Identifier) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&key.0);
        hasher.update(identifier.namespace().as_str().as_bytes());
        hasher.update(&[0]);
        hasher.update(identifier.value().as_bytes());
        Self(cut(&hasher.finalize()))
    }

    /// A facet id from its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A facet id from a slice; `None` unless it has exactly 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 16 bytes, whose order is the order of slots.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The slot: the top 14 bits.
    pub fn slot(&self) -> Slot {
        Slot::of_hash(&self.0)
    }
}

impl fmt::Display for FacetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for FacetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FacetId({self})")
    }
}

impl FromStr for FacetId {
    type Err = Error;

    /// Parses exactly 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Error> {
        const NOT_HEX: Error = Error::Invalid { what: "facet id", why: "it is not 32 hexadecimal digits" };
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NOT_HEX);
        }
        u128::from_str_radix(text, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| NOT_HEX)
    }
}

/// A keyed hash of several parts, such as a deduplication key.
///
/// Each part is preceded by its length (u32, little endian), so `["ab", "c"]` and `["a", "bc"]` differ. A leading
/// zero byte, which no namespace starts with, keeps these inputs apart from those of [`FacetId::of`].
pub fn hash128(key: &IdentityKey, parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(&key.0);
    hasher.update(&[0]);
    for part in parts {
        // Parts are pieces of an item, bounded far below 4 GiB; a longer one is still hashed in full.
        hasher.update(&(part.len() as u32).to_le_bytes());
        hasher.update(part);
    }
    cut(&hasher.finalize())
}

/// An unkeyed hash of an event's body: equal bodies are recognised, and it is never shown.
pub(crate) fn body_hash(body: &[u8]) -> [u8; 16] {
    cut(&blake3::hash(body))
}

fn cut(hash: &blake3::Hash) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hash.as_bytes()[..16]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifier::Namespace;

    const KEY: IdentityKey = IdentityKey::new([7; 32]);

    fn id(text: &str) -> Identifier {
        Identifier::parse(text).unwrap()
    }

    #[test]
    fn the_placement_of_data_never_changes() {
        // A golden value: if this test fails, existing clusters can no longer find their data.
        let facet = FacetId::of(&KEY, &id("email:a@b.de"));
        assert_eq!(facet.to_string(), GOLDEN);
        assert_eq!(facet.slot().number(), u16::from_str_radix(&GOLDEN[..4], 16).unwrap() >> 2);
    }

    const GOLDEN: &str = "9f3f7b4451d392665855cf44891dd517";

    #[test]
    fn hex_is_read_back_and_nothing_else_is() {
        let facet = FacetId::of(&KEY, &id("user_id:42"));
        assert_eq!(facet.to_string().parse::<FacetId>().unwrap(), facet);
        for bad in ["", "12", "+0000000000000000000000000000000", "g0000000000000000000000000000000"] {
            assert!(bad.parse::<FacetId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn another_key_or_namespace_is_another_place() {
        let a = FacetId::of(&KEY, &id("user_id:42"));
        assert_ne!(a, FacetId::of(&IdentityKey::new([8; 32]), &id("user_id:42")));
        assert_ne!(a, FacetId::of(&KEY, &Identifier::normalise(Namespace::ANONYMOUS_ID, "42").unwrap()));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(hash128(&KEY, &[b"ab", b"c"]), hash128(&KEY, &[b"a", b"bc"]));
        assert_ne!(hash128(&KEY, &[b"ab"]), hash128(&KEY, &[b"ab", b""]));
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{KEY:?}"), "IdentityKey(redacted)");
    }
}
