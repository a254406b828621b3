//! Where facets' profiles are put together, at a snapshot's stamp.
//!
//! A facet's own record decides, and nothing else: what a home says of its members may be ahead of what they say, or
//! behind, while messages are under way. So only a facet without a record is known to be a whole profile here: nobody is
//! given a home that has none. Of the others all shards together know.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use isthmus_domain::FacetId;
use isthmus_raft::Broken;

use super::{Snapshot, control::Records};

/// Facets that have a record.
#[derive(Debug, Default)]
pub(super) struct Homes {
    /// Facets whose home is another.
    elsewhere: HashMap<FacetId, FacetId>,
    /// Facets that are their own home.
    own: HashSet<FacetId>,
    /// What is as it was at an earlier stamp, unless it is said here.
    before: Option<Arc<Self>>,
}

impl Homes {
    /// Reads them; may wait for a disk.
    pub fn read(snapshot: &Arc<Snapshot>) -> Result<Self, Broken> {
        let mut homes = Self::default();
        for record in Records::between(snapshot.clone(), None, None) {
            let (facet, record) = record?;
            homes.put(facet, record.home(facet));
        }
        Ok(homes)
    }

    /// The same at a later stamp, given the facets whose records may have changed. May wait for a disk.
    pub fn changed(self: &Arc<Self>, snapshot: &Arc<Snapshot>, facets: &[FacetId]) -> Result<Self, Broken> {
        let mut homes = Self { before: Some(self.clone()), ..Self::default() };
        for facet in facets {
            let next = super::successor(facet.as_bytes());
            // A record stays once it is there.
            for record in Records::between(snapshot.clone(), Some(facet.as_bytes()), next.as_ref()) {
                let (facet, record) = record?;
                homes.put(facet, record.home(facet));
            }
        }
        Ok(homes)
    }

    fn put(&mut self, facet: FacetId, home: FacetId) {
        match home == facet {
            true => _ = self.own.insert(facet),
            false => _ = self.elsewhere.insert(facet, home),
        }
    }

    /// A facet's home.
    #[inline]
    pub fn of(&self, facet: FacetId) -> FacetId {
        if let Some(home) = self.elsewhere.get(&facet) {
            return *home;
        }
        match &self.before {
            Some(before) if !self.own.contains(&facet) => before.of(facet),
            _ => facet,
        }
    }

    /// Whether every facet is its own home.
    pub fn is_plain(&self) -> bool {
        self.elsewhere.is_empty() && self.before.as_ref().is_none_or(|before| before.is_plain())
    }

    /// Whether a facet is known to be a whole profile.
    #[inline]
    pub fn is_alone(&self, facet: &FacetId) -> bool {
        !self.own.contains(facet)
            && !self.elsewhere.contains_key(facet)
            && self.before.as_ref().is_none_or(|before| before.is_alone(facet))
    }
}
