//! What is kept of segments, and what of identity they are worked out from: who has another home, and who is in which
//! segment. A bounded part at a call.

use std::{collections::BTreeMap, ops::Bound};

use isthmus_domain::FacetId;
use isthmus_identity::{keys as identity_keys, stored};
use isthmus_raft::Broken;
use prost::Message as _;

use crate::{
    below::Below,
    error::broken,
    keys::table,
    machine::Shared,
    memtable::Memtable,
    read::facets::successor,
    segments::{Key, Row},
    tables::MEMBERS,
};

/// Records that one part looks at.
const RECORDS: usize = 1_000;

/// A page of identifiers with their homes, and the place where the rest lies; `None` when there is none.
pub type HomesPage = (Vec<(FacetId, FacetId)>, Option<Vec<u8>>);

/// Identifiers that have another home than themselves, behind a place among all. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn homes(shared: &Shared, after: Option<Vec<u8>>) -> Result<HomesPage, Broken> {
    let rows = {
        let state = shared.state.read();
        let below = Below::of(shared, &state);
        state.identity_rows_over(&[table::RECORD], after.as_deref(), RECORDS, Some(&below))?
    };
    let next = rows.last().filter(|_| rows.len() == RECORDS).map(|(key, _)| key.clone());
    let mut found = Vec::new();
    for (key, row) in rows {
        let Some(facet) = identity_keys::facet(&key) else { continue };
        let home = stored::Record::decode(row).map_err(broken)?.home(facet);
        if home != facet {
            found.push((facet, home));
        }
    }
    Ok((found, next))
}

/// Who is in which segment, behind a home, about `limit` rows, whole homes: and behind which home the rest lies. Rows of
/// those who have left are among them. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn segment_members(
    shared: &Shared,
    after: Option<FacetId>,
    limit: usize,
) -> Result<(BTreeMap<Key, Row>, Option<FacetId>), Broken> {
    let behind = match after {
        Some(home) => Bound::Excluded(Key { home, segment: u64::MAX }),
        None => Bound::Unbounded,
    };
    let view = shared.view(|state| some(&state.active, behind, limit));
    let (active, mut end) = view.active;
    let frozen = view.lower.frozen.as_ref().map(|frozen| some(frozen, behind, limit));
    let (frozen, frozen_end) = frozen.unwrap_or_default();
    end = earlier(end, frozen_end);
    let from = match after.map(|after| successor(after.as_bytes())) {
        Some(None) => return Ok((BTreeMap::new(), None)),
        Some(from) => from,
        None => None,
    };
    let (mut rows, mut last): (BTreeMap<Key, Row>, Option<FacetId>) = (BTreeMap::new(), None);
    for row in view.lower.runs.flat_scan(MEMBERS, from, None).map_err(broken)? {
        let row = row.map_err(broken)?;
        let (Some(key), Some(row)) = (Key::from_slice(&row.key), Row::from_slice(&row.value)) else {
            return Err(broken("a member of a segment is damaged"));
        };
        if end.is_some_and(|end| key.home > end) {
            break;
        }
        if rows.len() >= limit && last != Some(key.home) {
            end = last;
            break;
        }
        last = Some(key.home);
        rows.insert(key, row);
    }
    // Behind the end some part may have more of a home: it comes with the next page.
    let within = |(key, _): &(Key, Row)| end.is_none_or(|end| key.home <= end);
    rows.extend(frozen.into_iter().chain(active).filter(within));
    Ok((rows, end))
}

/// Rows of a memtable behind a place, about `limit`, whole homes: and behind which home the rest lies.
fn some(memtable: &Memtable, behind: Bound<Key>, limit: usize) -> (Vec<(Key, Row)>, Option<FacetId>) {
    let mut rows: Vec<(Key, Row)> = Vec::new();
    for (key, row) in memtable.members().range((behind, Bound::Unbounded)) {
        if let Some((last, _)) = rows.last().filter(|(last, _)| rows.len() >= limit && last.home < key.home) {
            let end = Some(last.home);
            return (rows, end);
        }
        rows.push((*key, *row));
    }
    (rows, None)
}

/// The lower of two ends; `None` is none.
fn earlier(a: Option<FacetId>, b: Option<FacetId>) -> Option<FacetId> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
