//! Facets as they lie in runs, so that a hot profile costs no disk and no decoding of pages.
//!
//! An entry is right for one set of runs. Entries are looked up and put under the lock of [`Lower`], whose write side
//! a write-out takes to swap the runs together with the entries that it changed: so nobody meets an entry of other
//! runs. A write-out keeps what it writes here too ([`BaseCache::changed_by`]): what was said a moment ago is what is
//! asked for next, and a profile that is read and written at once stays hot.
//!
//! Entries are encoded, as the write-out has them anyway: smaller than decoded summaries, for a decoding at each read.
//!
//! [`Lower`]: crate::state::Lower

use std::sync::Arc;

use arrow::{
    array::{AsArray, RecordBatch},
    error::ArrowError,
};
use bytes::Bytes;
use isthmus_domain::{FacetId, FacetSummary};
use isthmus_storage::runs::RunSet;
use quick_cache::{Weighter, sync::Cache};

use crate::tables::{FACETS, facet as column};

/// What is known of a facet in runs: encoded summaries that add up. None at all: there is no such facet.
pub type Base = Arc<[Bytes]>;

/// So many parts are folded into one. Each part costs a read its decoding.
const PARTS_MAX: usize = 4;
/// What an entry takes beside its bytes, about.
const ENTRY_BYTES: u64 = 96;

#[derive(Clone)]
struct Weight;

impl Weighter<FacetId, Base> for Weight {
    fn weight(&self, _: &FacetId, base: &Base) -> u64 {
        ENTRY_BYTES + base.iter().map(|part| (part.len() + size_of::<Bytes>()) as u64).sum::<u64>()
    }
}

/// A bounded cache of facets.
pub struct BaseCache(Cache<FacetId, Base, Weight>);

/// What becomes of the entries of facets that a write-out changed.
pub struct Changes(Vec<(FacetId, Option<Base>)>);

impl BaseCache {
    /// With room for so many bytes, roughly.
    pub fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / 256).unwrap_or(usize::MAX).max(16);
        Self(Cache::with_weighter(items, bytes, Weight))
    }

    pub(super) fn get(&self, facet: &FacetId) -> Option<Base> {
        self.0.get(facet)
    }

    pub(super) fn put(&self, facet: FacetId, base: Base) {
        self.0.insert(facet, base);
    }

    /// What the entries will be once `written` (batches of the facets table, each facet once) lies above `runs`. To be
    /// put in place by [`BaseCache::apply`] when it does; one write-out at a time.
    ///
    /// # Errors
    /// Rows that are not what the table says.
    pub fn changed_by(&self, written: &[RecordBatch], runs: &RunSet) -> Result<Changes, ArrowError> {
        let invalid = |what: &str| ArrowError::InvalidArgumentError(what.to_owned());
        let mut changes = Vec::with_capacity(written.iter().map(RecordBatch::num_rows).sum());
        for batch in written {
            let ids = batch.column(column::FACET).as_fixed_size_binary();
            let summaries = batch.column(column::SUMMARY).as_binary::<i32>();
            for row in 0..batch.num_rows() {
                let facet = FacetId::from_slice(ids.value(row)).ok_or_else(|| invalid("not a facet's id"))?;
                let delta = || Bytes::copy_from_slice(summaries.value(row));
                let base = match self.0.peek(&facet) {
                    Some(parts) if parts.len() < PARTS_MAX => {
                        Some(parts.iter().cloned().chain([delta()]).collect())
                    }
                    Some(parts) => {
                        let all = parts.iter().map(|part| &part[..]).chain([summaries.value(row)]);
                        let sum = sum(all).map_err(|error| invalid(&error.to_string()))?;
                        Some(encoded(sum.as_ref()))
                    }
                    // Certainly new: no disk is needed to know all of it.
                    None if !runs.may_contain(FACETS, facet.as_bytes()) => Some(Arc::from([delta()])),
                    None => None,
                };
                changes.push((facet, base));
            }
        }
        Ok(Changes(changes))
    }

    /// Puts changes in place; what isn't known any more is forgotten. Under the write side of the lock.
    pub fn apply(&self, changes: Changes) {
        for (facet, base) in changes.0 {
            match base {
                Some(base) => self.0.insert(facet, base),
                None => _ = self.0.remove(&facet),
            }
        }
    }

    /// Bytes in it.
    pub fn bytes(&self) -> u64 {
        self.0.weight()
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.clear();
    }
}

/// Adds encoded summaries up; `None` when there is none.
pub(super) fn sum<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<FacetSummary>, isthmus_domain::Error> {
    let mut sum: Option<FacetSummary> = None;
    for part in parts {
        let part = FacetSummary::from_bytes(part)?;
        match &mut sum {
            Some(sum) => sum.merge(&part),
            None => sum = Some(part),
        }
    }
    Ok(sum)
}

/// As an entry.
pub(super) fn encoded(sum: Option<&FacetSummary>) -> Base {
    sum.map(|sum| Bytes::from(sum.to_bytes())).into_iter().collect()
}
