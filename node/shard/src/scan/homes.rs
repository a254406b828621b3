//! Where facets' profiles are put together, at a snapshot's stamp.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use isthmus_domain::FacetId;
use isthmus_identity::keys;
use isthmus_raft::Broken;

use super::{
    Snapshot,
    control::{Cursor, Records},
};
use crate::{error::broken, keys::table};

/// Facets that say something else of themselves than "a profile of its own", which most do not.
#[derive(Debug, Default)]
pub(super) struct Homes {
    /// Facets whose home is another.
    elsewhere: HashMap<FacetId, FacetId>,
    /// Homes that know of other members than themselves.
    several: HashSet<FacetId>,
}

impl Homes {
    /// Reads them; may wait for a disk.
    pub fn read(snapshot: &Arc<Snapshot>) -> Result<Self, Broken> {
        let mut homes = Self::default();
        for record in Records::between(snapshot.clone(), None, None) {
            let (facet, record) = record?;
            let home = record.home(facet);
            if home != facet {
                homes.elsewhere.insert(facet, home);
            }
        }
        for row in Cursor::of_prefix(snapshot.clone(), &[table::HOME]) {
            let (key, _) = row?;
            let home = keys::facet(&key).ok_or_else(|| broken("a home's key is damaged"))?;
            // The home's own row has nothing behind the facet.
            if key.get(19..).is_some_and(|member| !member.is_empty() && member != home.as_bytes()) {
                homes.several.insert(home);
            }
        }
        Ok(homes)
    }

    /// A facet's home.
    #[inline]
    pub fn of(&self, facet: FacetId) -> FacetId {
        if self.elsewhere.is_empty() {
            return facet;
        }
        self.elsewhere.get(&facet).copied().unwrap_or(facet)
    }

    /// Whether every facet is its own home.
    pub fn is_plain(&self) -> bool {
        self.elsewhere.is_empty()
    }

    /// Whether a facet is a whole profile; where it isn't sure, it is not.
    pub fn is_alone(&self, facet: &FacetId) -> bool {
        !self.elsewhere.contains_key(facet) && !self.several.contains(facet)
    }
}
