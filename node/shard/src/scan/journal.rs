//! Which facets have changed since a [`Base`](super::base::Base) was made.
//!
//! It lies in the active memtable, where all changes go through, and goes on to the next one at a freeze. There is none
//! until somebody has asked for one, so apply pays one look at an empty pointer. It may name a facet that hasn't changed
//! since; it never leaves one out that has.

use std::ops::Range;

use hashbrown::HashMap;
use isthmus_domain::{FacetId, Stamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::keys::table;

/// Facets that are noted; with more the journal ends, and a base with it.
const FACETS_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Which one it is.
    number: u64,
    /// The stamp of the last command that isn't in it.
    since: Stamp,
    /// The stamp of the command under way.
    now: Stamp,
    /// When a facet's events or its record changed last.
    facets: HashMap<FacetId, Stamp>,
    /// When its record did.
    places: HashMap<FacetId, Stamp>,
    /// When a record changed last, or an event came of a facet that has one.
    identities: Stamp,
    /// When link rows of a slot changed last.
    links: HashMap<u16, Stamp>,
}

/// Facets that have changed, in no order.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// In any way.
    pub facets: Vec<FacetId>,
    /// In their records, which say where their profile is.
    pub places: Vec<FacetId>,
}

impl Journal {
    /// Of what comes after a stamp.
    pub fn begin(number: u64, since: Stamp) -> Self {
        Self {
            number,
            since,
            now: since,
            facets: HashMap::new(),
            places: HashMap::new(),
            identities: since,
            links: HashMap::new(),
        }
    }

    /// Which one it is.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The stamp of the last command that isn't in it.
    pub fn since(&self) -> Stamp {
        self.since
    }

    /// A command begins.
    pub fn command(&mut self, stamp: Stamp) {
        self.now = stamp;
    }

    /// An event came; `false` when that is more than is noted.
    pub fn event(&mut self, facet: FacetId) -> bool {
        self.facets.insert(facet, self.now);
        self.facets.len() <= FACETS_MAX
    }

    /// The event that came last is of a facet that has a record.
    pub fn of_linked(&mut self) {
        self.identities = self.now;
    }

    /// A name of what was so since a stamp: never 0, and no other journal's.
    fn state(&self, since: Stamp) -> u64 {
        let mut both = [0; 16];
        both[..8].copy_from_slice(&self.number.to_be_bytes());
        both[8..].copy_from_slice(&since.0.to_be_bytes());
        xxh3_64(&both).max(1)
    }

    /// Names the state of all records, and of what is known of facets that have one, at a stamp; 0: that is not known.
    pub fn identities(&self, at: Stamp) -> u64 {
        match self.identities <= at {
            true => self.state(self.identities),
            false => 0,
        }
    }

    /// Names the state of the link rows of some slots at a stamp; 0: that is not known.
    pub fn links(&self, slots: Range<u16>, at: Stamp) -> u64 {
        let changed = slots.filter_map(|slot| self.links.get(&slot)).max();
        match changed.copied().unwrap_or(self.since) {
            changed if changed <= at && self.since <= at => self.state(changed),
            _ => 0,
        }
    }

    /// A control row changes; `false` when that is more than is noted.
    pub fn changes(&mut self, key: &[u8]) -> bool {
        // Of a part of a large row, too, its slot comes second, and then its table.
        if let [table::LINK_ROW, high, low, ..] | [table::PART, high, low, table::LINK_ROW, ..] = key {
            self.links.insert(u16::from_be_bytes([*high, *low]), self.now);
        }
        let facet = match key {
            [table::RECORD, ..] => isthmus_identity::keys::facet(key),
            // A part of a large row: its table stands behind the slot.
            [table::PART, _, _, table::RECORD, rest @ ..] => rest.get(..16).and_then(FacetId::from_slice),
            _ => None,
        };
        if let Some(facet) = facet {
            self.facets.insert(facet, self.now);
            self.places.insert(facet, self.now);
            self.identities = self.now;
        }
        self.facets.len() <= FACETS_MAX
    }

    /// What has changed after a stamp.
    pub(super) fn after(&self, stamp: Stamp) -> Changed {
        let after = |changes: &HashMap<FacetId, Stamp>| {
            changes.iter().filter(|(_, at)| **at > stamp).map(|(facet, _)| *facet).collect()
        };
        Changed { facets: after(&self.facets), places: after(&self.places) }
    }
}
