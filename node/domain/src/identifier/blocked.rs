//! Values that stand for "nobody": two thousand customers called `null` are not one customer.

use std::collections::{BTreeMap, BTreeSet};

use super::Namespace;

/// Whether the value stands for nobody in any namespace: empty, `-1`, `null`, `undefined`, `anonymous`, `none`,
/// `n/a` (in any case), or nothing but zeros and dashes (`0` among them).
pub fn is_blocked_everywhere(value: &str) -> bool {
    const WORDS: [&str; 6] = ["-1", "null", "undefined", "anonymous", "none", "n/a"];
    value.bytes().all(|b| b == b'0' || b == b'-') || WORDS.iter().any(|w| value.eq_ignore_ascii_case(w))
}

/// Further values to refuse, by namespace: a shop's own address, a test account.
///
/// The values of [`is_blocked_everywhere`] are always blocked and need not be listed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BlockedValues(BTreeMap<Namespace, BTreeSet<String>>);

impl BlockedValues {
    /// Blocks the value in the namespace, however it is capitalised.
    pub fn insert(&mut self, namespace: Namespace, value: &str) {
        self.0.entry(namespace).or_default().insert(value.trim().to_lowercase());
    }

    /// Whether the value is listed for the namespace.
    pub fn blocks(&self, namespace: &Namespace, value: &str) -> bool {
        self.0.get(namespace).is_some_and(|values| values.contains(&value.to_lowercase()))
    }
}
