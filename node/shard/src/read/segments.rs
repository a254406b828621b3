//! What is kept of segments, and what of identity they are worked out from: who has another home, and who is in which
//! segment. A bounded part at a call.

use std::collections::BTreeMap;

use isthmus_domain::FacetId;
use isthmus_identity::{keys as identity_keys, stored};
use isthmus_raft::Broken;
use prost::Message as _;

use crate::{
    below::Below,
    error::broken,
    keys::table,
    machine::Shared,
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
    let is_behind = |key: &Key| after.is_none_or(|after| key.home > after);
    let view = shared.view(|state| {
        let members = state.active.members().iter().filter(|(key, _)| is_behind(key));
        members.map(|(key, row)| (*key, *row)).collect::<Vec<_>>()
    });
    let from = match after.map(|after| successor(after.as_bytes())) {
        Some(None) => return Ok((BTreeMap::new(), None)),
        Some(from) => from,
        None => None,
    };
    let (mut rows, mut end) = (BTreeMap::new(), None);
    for row in view.lower.runs.flat_scan(MEMBERS, from, None).map_err(broken)? {
        let row = row.map_err(broken)?;
        let (Some(key), Some(row)) = (Key::from_slice(&row.key), Row::from_slice(&row.value)) else {
            return Err(broken("a member of a segment is damaged"));
        };
        if rows.len() >= limit
            && rows.last_key_value().is_some_and(|(last, _): (&Key, _)| last.home < key.home)
        {
            end = rows.last_key_value().map(|(last, _)| last.home);
            break;
        }
        rows.insert(key, row);
    }
    let within = |key: &Key| end.is_none_or(|end| key.home <= end);
    if let Some(frozen) = &view.lower.frozen {
        let members = frozen.members().iter().filter(|(key, _)| is_behind(key) && within(key));
        rows.extend(members.map(|(key, row)| (*key, *row)));
    }
    rows.extend(view.active.into_iter().filter(|(key, _)| within(key)));
    Ok((rows, end))
}
