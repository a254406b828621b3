//! Facets as they lie in runs, so that a hot profile costs no disk and no decoding of pages.
//!
//! An entry is right for one set of runs. Entries are looked up and put under the lock of [`Lower`], whose write side
//! a write-out takes to swap the runs and to remove what it changed: so nobody meets an entry of other runs.
//!
//! [`Lower`]: crate::state::Lower

use std::sync::Arc;

use isthmus_domain::{FacetId, FacetSummary};
use quick_cache::{Weighter, sync::Cache};

/// What is known of a facet in runs: its summary, or that there is none.
pub type Base = Option<Arc<FacetSummary>>;

#[derive(Clone)]
struct Bytes;

impl Weighter<FacetId, Base> for Bytes {
    fn weight(&self, _: &FacetId, base: &Base) -> u64 {
        64 + base.as_ref().map_or(0, |summary| summary.weight_bytes() as u64)
    }
}

/// A bounded cache of facets.
pub struct BaseCache(Cache<FacetId, Base, Bytes>);

impl BaseCache {
    /// With room for so many bytes, roughly.
    pub fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / 512).unwrap_or(usize::MAX).max(16);
        Self(Cache::with_weighter(items, bytes, Bytes))
    }

    pub(super) fn get(&self, facet: &FacetId) -> Option<Base> {
        self.0.get(facet)
    }

    pub(super) fn put(&self, facet: FacetId, base: Base) {
        self.0.insert(facet, base);
    }

    /// Forgets a facet that a write-out changed.
    pub fn remove(&self, facet: &FacetId) {
        self.0.remove(facet);
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.clear();
    }
}
