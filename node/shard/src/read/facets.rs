//! Facets: one, some, or all in order.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use isthmus_domain::{FacetId, FacetSummary, SlotRanges, Stamp};
use isthmus_raft::Broken;
use isthmus_storage::runs::{Projection, RunSet};

use super::cache::{Base, encoded, sum};
use crate::{
    error::broken,
    machine::Shared,
    state::Lower,
    tables::{FACETS, facet as column},
};

const SUMMARY: Projection = Projection::of(&[column::FACET, column::SUMMARY]);
/// Rows that a scan reads at a time.
const SCAN_ROWS: usize = 512;

/// A page of facets.
pub struct FacetsPage {
    /// The facets, by rising id.
    pub facets: Vec<(FacetId, FacetSummary)>,
    /// Whether there are more.
    pub more: bool,
    /// The stamp that the page is exact at.
    pub stamp: Stamp,
    /// The slots that the shard owned then.
    pub owned: SlotRanges,
}

/// A facet's summary; `None` when nothing was said under it or the shard doesn't own its slot. Reads runs when they
/// may hold it and the cache doesn't: then it waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn facet(shared: &Shared, id: &FacetId) -> Result<(Option<FacetSummary>, Stamp), Broken> {
    let view = shared.view(|state| {
        let cached = shared.cache.get(id);
        (state.active.summary(id), cached)
    });
    let (active, cached) = view.active;
    let base = match cached {
        Some(base) => sum(base.iter().map(|part| &part[..])).map_err(broken)?,
        None => base(shared, &view.lower, id)?,
    };
    let frozen = match &view.lower.frozen {
        Some(frozen) => frozen.summary(id).map_err(broken)?,
        None => None,
    };
    let mut sum = active.map_err(broken)?;
    for part in [frozen, base].into_iter().flatten() {
        match &mut sum {
            Some(sum) => sum.merge(&part),
            None => sum = Some(part),
        }
    }
    Ok((sum, view.stamp))
}

/// Whether [`facet`] would have to read from disk.
pub fn is_resident(shared: &Shared, id: &FacetId) -> bool {
    let lower = shared.lower.read();
    shared.cache.get(id).is_some() || !lower.runs.may_contain(FACETS, id.as_bytes())
}

/// Some facets, each by itself.
///
/// # Errors
/// As [`facet`].
pub fn facets(shared: &Shared, ids: &[FacetId]) -> Result<(Vec<Option<FacetSummary>>, Stamp), Broken> {
    let mut stamp = Stamp::ZERO;
    let found = ids.iter().map(|id| {
        let (summary, at) = facet(shared, id)?;
        stamp = stamp.max(at);
        Ok(summary)
    });
    Ok((found.collect::<Result<_, Broken>>()?, stamp))
}

/// What runs hold of a facet, remembered for as long as the runs are these.
fn base(shared: &Shared, lower: &Lower, id: &FacetId) -> Result<Option<FacetSummary>, Broken> {
    let base = read(&lower.runs, id)?;
    let entry: Base = encoded(base.as_ref());
    let current = shared.lower.read();
    if current.generation == lower.generation {
        shared.cache.put(*id, entry);
    }
    Ok(base)
}

fn read(runs: &RunSet, id: &FacetId) -> Result<Option<FacetSummary>, Broken> {
    if !runs.may_contain(FACETS, id.as_bytes()) {
        return Ok(None);
    }
    let mut sum: Option<FacetSummary> = None;
    for batch in runs.rows_of(FACETS, id.as_bytes(), SUMMARY).map_err(broken)? {
        for bytes in batch.column(1).as_binary::<i32>().iter().flatten() {
            add(&mut sum, bytes)?;
        }
    }
    Ok(sum)
}

fn add(sum: &mut Option<FacetSummary>, bytes: &[u8]) -> Result<(), Broken> {
    let part = FacetSummary::from_bytes(bytes).map_err(broken)?;
    match sum {
        Some(sum) => sum.merge(&part),
        None => *sum = Some(part),
    }
    Ok(())
}

/// The next facets above `after` that the shard owns, at most `limit`. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn scan(shared: &Shared, after: Option<FacetId>, limit: usize) -> Result<FacetsPage, Broken> {
    let wanted = limit + 1;
    let view = shared.view(|state| {
        let ids = state.active.facets_after(after.as_ref(), wanted);
        let deltas = ids.into_iter().map(|id| Ok((id, state.active.summary(&id)?)));
        (deltas.collect::<Result<Vec<_>, isthmus_domain::Error>>(), state.meta.owned.clone())
    });
    let (active, owned) = view.active;
    let mut facets: BTreeMap<FacetId, FacetSummary> = BTreeMap::new();
    let mut put = |id: FacetId, summary: &FacetSummary| match facets.get_mut(&id) {
        Some(sum) => sum.merge(summary),
        None => {
            facets.insert(id, summary.clone());
        }
    };
    for (id, summary) in active.map_err(broken)? {
        summary.iter().for_each(|summary| put(id, summary));
    }
    if let Some(frozen) = &view.lower.frozen {
        for id in frozen.facets_after(after.as_ref(), wanted) {
            frozen.summary(&id).map_err(broken)?.iter().for_each(|summary| put(id, summary));
        }
    }
    for (id, summary) in from_runs(&view.lower.runs, after, wanted)? {
        put(id, &summary);
    }
    // Each part gave its first `wanted`: so the first `wanted` of all are complete, and those behind may not be.
    let mut facets: Vec<_> = facets.into_iter().take(wanted).collect();
    let more = facets.len() == wanted;
    facets.truncate(limit);
    facets.retain(|(id, _)| owned.contains(id.slot()));
    Ok(FacetsPage { facets, more, stamp: view.stamp, owned })
}

fn from_runs(
    runs: &RunSet,
    after: Option<FacetId>,
    wanted: usize,
) -> Result<Vec<(FacetId, FacetSummary)>, Broken> {
    let from = match after {
        None => None,
        Some(after) => match successor(after.as_bytes()) {
            None => return Ok(Vec::new()),
            from => from,
        },
    };
    let mut found: Vec<(FacetId, FacetSummary)> = Vec::new();
    let rows = SCAN_ROWS.min(wanted.max(16));
    for batch in runs.scan(FACETS, from, None, SUMMARY, rows).map_err(broken)? {
        let batch = batch.map_err(broken)?;
        let (ids, summaries) = (batch.column(0).as_fixed_size_binary(), batch.column(1).as_binary::<i32>());
        for row in 0..batch.num_rows() {
            let id =
                FacetId::from_slice(ids.value(row)).ok_or_else(|| broken("a facet's id is not 16 bytes"))?;
            let summary = FacetSummary::from_bytes(summaries.value(row)).map_err(broken)?;
            if let Some((_, sum)) = found.last_mut().filter(|(last, _)| *last == id) {
                sum.merge(&summary);
            } else if found.len() == wanted {
                return Ok(found);
            } else {
                found.push((id, summary));
            }
        }
    }
    Ok(found)
}

/// The next larger key; `None` behind the last.
pub(super) fn successor(key: &[u8; 16]) -> Option<[u8; 16]> {
    u128::from_be_bytes(*key).checked_add(1).map(u128::to_be_bytes)
}
