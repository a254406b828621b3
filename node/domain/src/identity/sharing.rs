//! Shared identifiers: a kiosk's cookie, a family's phone, the address that every test order is sent to.
//!
//! An identifier is *shared* when it stands beside more distinct counterparts of a namespace whose limit is one (by
//! default: more than 32 user ids) than anybody's own does. None of its facts is followed, and it joins no further
//! bundle: or else every customer of a shop would share a root with its till. Its facets and events stay as they are.
//!
//! The count is over facts that count (see the module above) and that the rules don't refuse by themselves, followed
//! or not: an untrusted source can make nobody's phone a kiosk, and the order of facts doesn't matter. Whoever owns
//! the identifier's slot keeps the count; a flag that changes is news to the root.

use std::collections::BTreeMap;

use super::rules::IdentityRules;
use crate::hash::FacetId;
use crate::identifier::Namespace;

/// The distinct counterparts of one identifier, by namespace, each with the number of rows that name it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sharing(BTreeMap<Namespace, BTreeMap<FacetId, u32>>);

impl Sharing {
    /// Counts a row whose fact counts.
    pub fn add(&mut self, namespace: &Namespace, counterpart: FacetId) {
        let rows = self.0.entry(namespace.clone()).or_default().entry(counterpart).or_default();
        *rows = rows.saturating_add(1);
    }

    /// Takes back what [`Self::add`] counted; nothing when it was not counted.
    pub fn remove(&mut self, namespace: &Namespace, counterpart: FacetId) {
        let Some(of_namespace) = self.0.get_mut(namespace) else { return };
        if let Some(rows) = of_namespace.get_mut(&counterpart) {
            *rows -= 1;
            if *rows == 0 {
                of_namespace.remove(&counterpart);
            }
        }
        if of_namespace.is_empty() {
            self.0.remove(namespace);
        }
    }

    /// Whether the identifier is shared under these rules.
    pub fn is_shared(&self, rules: &IdentityRules) -> bool {
        let above = usize::try_from(rules.shared_above()).unwrap_or(usize::MAX);
        self.0.iter().any(|(namespace, of_it)| of_it.len() > above && rules.limit(namespace) == 1)
    }
}
