//! Which profiles may have changed: what matching looks at again.
//!
//! Kept in memory, on the replica whose leader asked for it, and never part of the state that replicas share. Whoever
//! takes the place of a leader begins by looking at all.

use std::collections::BTreeSet;

use isthmus_domain::FacetId;

/// More facets than this are not kept one by one.
const FACETS_MAX: usize = 100_000;

/// Facets that have changed since they were taken last.
#[derive(Debug, Default)]
pub struct Touched {
    /// Whether anybody asks.
    on: bool,
    facets: BTreeSet<FacetId>,
    lost: bool,
}

impl Touched {
    /// Begins to take notes, or ends it; either way nothing is noted yet.
    pub(crate) fn turn(&mut self, on: bool) {
        *self = Self { on, ..Self::default() };
    }

    /// Whether notes are taken.
    pub(crate) const fn is_on(&self) -> bool {
        self.on
    }

    /// Notes a facet whose traits or links have changed.
    pub(crate) fn add(&mut self, facet: FacetId) {
        if !self.on || self.lost {
            return;
        }
        self.facets.insert(facet);
        if self.facets.len() > FACETS_MAX {
            self.facets.clear();
            self.lost = true;
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        if self.lost { FACETS_MAX } else { self.facets.len() }
    }

    /// Takes what was noted: the facets, or `None` when there were too many to be noted one by one.
    pub(crate) fn take(&mut self) -> Option<BTreeSet<FacetId>> {
        let facets = std::mem::take(&mut self.facets);
        if std::mem::take(&mut self.lost) { None } else { Some(facets) }
    }
}
