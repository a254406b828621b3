//! What is known of one customer: of each source the newest value of each trait.

use std::collections::BTreeMap;

use bytes::Bytes;

/// A place in the order of a customer's events: time, then event key.
pub(super) type Order = (i64, [u8; 16]);

/// The newest that a source said of a trait.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Newest {
    pub(super) order: Order,
    /// Canonical JSON; empty when the trait was removed.
    pub(super) value: Bytes,
}

/// A customer, by source and trait. A source that said nothing of traits is there too.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Customer {
    pub(super) sources: BTreeMap<String, BTreeMap<String, Newest>>,
}

impl Customer {
    /// What a source says.
    pub(super) fn source(&mut self, source: &str) -> &mut BTreeMap<String, Newest> {
        self.sources.entry(source.to_owned()).or_default()
    }

    /// What another part of the customer's events says, too.
    pub(super) fn merge(&mut self, other: Self) {
        for (source, traits) in other.sources {
            let own = self.sources.entry(source).or_default();
            for (name, newest) in traits {
                put(own, name, newest);
            }
        }
    }

    /// The values that are there now: source, trait, newest.
    pub(super) fn values(&self) -> impl Iterator<Item = (&String, &String, &Newest)> {
        let traits = self
            .sources
            .iter()
            .flat_map(|(source, traits)| traits.iter().map(move |(name, newest)| (source, name, newest)));
        traits.filter(|(_, _, newest)| !newest.value.is_empty())
    }
}

/// Keeps the later of two.
pub(super) fn put(traits: &mut BTreeMap<String, Newest>, name: String, newest: Newest) {
    match traits.get_mut(&name) {
        Some(known) if known.order >= newest.order => {}
        Some(known) => *known = newest,
        None => _ = traits.insert(name, newest),
    }
}
