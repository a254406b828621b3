//! Who is a profile by itself, of those whose changes are told: most are, and nobody else has to be asked who they are.

use std::collections::BTreeSet;

use bytes::Bytes;
use isthmus_domain::{FacetId, RecordView};
use isthmus_identity::keys;
use isthmus_proto::internal::v1::{FeedChange, FeedName};
use isthmus_raft::Broken;

use crate::{error::broken, machine::Shared, memtable::Memtable};

/// The identifiers of changes that were linked with no other up to now, each once. Those that no memtable has an event of are
/// left out: this waits for no disk.
///
/// # Errors
/// Storage that is damaged.
pub fn names(shared: &Shared, changes: &[FeedChange]) -> Result<Vec<FeedName>, Broken> {
    let facets: BTreeSet<FacetId> =
        changes.iter().filter_map(|change| FacetId::from_slice(&change.facet)).collect();
    let view = shared.view(|state| {
        let is_alone = |facet: &FacetId| {
            let record = keys::record(facet);
            state.active.rows.get(&record).is_none() && !state.may_lie_below(&record)
        };
        let alone = facets.into_iter().filter(is_alone);
        alone
            .map(|facet| (facet, record(&state.active, &facet).map(Bytes::copy_from_slice)))
            .collect::<Vec<_>>()
    });
    let mut names = Vec::with_capacity(view.active.len());
    for (facet, active) in view.active {
        let frozen = || view.lower.frozen.as_deref().and_then(|frozen| record(frozen, &facet));
        let Some(event) = active.as_deref().or_else(frozen) else { continue };
        let RecordView { namespace, value, .. } = RecordView::read(event).map_err(broken)?;
        let [namespace, value] = [namespace, value].map(str::to_owned);
        names.push(FeedName { facet: Bytes::copy_from_slice(facet.as_bytes()), namespace, value });
    }
    Ok(names)
}

/// An event of a facet, encoded.
fn record<'a>(memtable: &'a Memtable, facet: &FacetId) -> Option<&'a [u8]> {
    memtable.events_of(facet).next().map(|(_, record)| record)
}
