//! Write keys: what a source shows to be let in.
//!
//! A key is `iswk_` and 32 random bytes as 64 hexadecimal digits: safe in URLs and headers, and recognisable, so that
//! scanners find one that was committed to a repository. The hub keeps the BLAKE3 hash only. The hash needs no salt
//! and no stretching: there is no dictionary of 256 random bits.

use std::fmt;

use bytes::Bytes;

/// What every generated write key begins with.
pub const WRITE_KEY_PREFIX: &str = "iswk_";
/// How many characters of a key are kept so that people can tell keys apart.
const SHOWN_CHARS: usize = WRITE_KEY_PREFIX.len() + 6;

/// A write key in full. It is shown once and never stored; `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct WriteKey(String);

impl WriteKey {
    /// A key from 32 bytes of good randomness.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(format!("{WRITE_KEY_PREFIX}{}", blake3::Hash::from_bytes(bytes).to_hex()))
    }

    /// Whether a text could be a key that was made here. One that couldn't was never given out and never will be.
    pub fn has_form(text: &str) -> bool {
        let digits = text.strip_prefix(WRITE_KEY_PREFIX).unwrap_or_default();
        digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its hash, which is what the hub keeps.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0)
    }

    /// The first characters.
    pub fn prefix(&self) -> String {
        self.0.chars().take(SHOWN_CHARS).collect()
    }
}

impl fmt::Debug for WriteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteKey(redacted)")
    }
}

/// BLAKE3 of a write key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key as text.
    pub fn of(write_key: &str) -> Self {
        Self(*blake3::hash(write_key.as_bytes()).as_bytes())
    }

    /// From its 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// As it is stored.
    pub fn to_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_recognisable_url_safe_and_hidden() {
        let key = WriteKey::from_random([0xa5; 32]);
        assert_eq!(key.as_str(), format!("iswk_{}", "a5".repeat(32)));
        assert_eq!(key.prefix(), "iswk_a5a5a5");
        assert_eq!(format!("{key:?}"), "WriteKey(redacted)");
        assert_eq!(KeyHash::from_slice(&key.hash().to_bytes()), Some(KeyHash::of(key.as_str())));
        assert!(
            WriteKey::has_form(key.as_str()) && WriteKey::has_form(WriteKey::from_random([0; 32]).as_str())
        );
        for other in
            ["", "iswk_", "iswk_A5", &key.as_str()[1..], &format!("{}0", key.as_str()), &key.prefix()]
        {
            assert!(!WriteKey::has_form(other), "{other}");
        }
        assert_ne!(key.hash(), WriteKey::from_random([0xa6; 32]).hash());
    }
}
