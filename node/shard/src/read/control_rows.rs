//! Pages of control rows, of all parts of the state together.

use std::collections::BTreeMap;

use bytes::Bytes;
use isthmus_raft::Broken;
use isthmus_storage::control::{
    Order,
    keys::{KeyRange, prefix_end},
};

use crate::{error::broken, machine::Shared, memtable::Memtable};

/// Keys and values.
pub(super) type Rows = Vec<(Vec<u8>, Bytes)>;

/// The first control rows whose keys have a prefix from `start` on, of all parts of the state, and where the next page
/// begins.
pub(super) fn rows(
    shared: &Shared,
    start: &[u8],
    prefix: &[u8],
    limit: usize,
) -> Result<(Rows, Option<Vec<u8>>), Broken> {
    let end = prefix_end(prefix);
    let range = KeyRange { start: start.to_vec(), end };
    let first = |memtable: &Memtable| -> Vec<(Vec<u8>, Option<Bytes>)> {
        let rows = memtable.rows.range(&range).take(limit + 1);
        rows.map(|(key, value)| (key, value.cloned())).collect()
    };
    let view = shared.view(|state| (first(&state.active), state.store));
    let (active, store) = view.active;
    let frozen = view.lower.frozen.as_ref().map(|frozen| first(frozen)).unwrap_or_default();
    let page = shared.keeper.storage().scan(store, &range, Order::Ascending, limit + 1).map_err(broken)?;
    // Behind the last row of a part that has more, the others are not known to be complete.
    let mut bound = page.rows.last().filter(|_| page.more).map(|(key, _)| key.to_vec());
    let mut all: BTreeMap<Vec<u8>, Option<Bytes>> =
        page.rows.into_iter().map(|(key, value)| (key.to_vec(), Some(value))).collect();
    for part in [frozen, active] {
        if let Some((last, _)) = part.get(limit) {
            bound = Some(bound.map_or(last.clone(), |bound| bound.min(last.clone())));
        }
        all.extend(part);
    }
    let whole = all.into_iter().filter(|(key, _)| bound.as_ref().is_none_or(|bound| key <= bound));
    let mut rows: Rows = whole.filter_map(|(key, value)| Some((key, value?))).collect();
    let last = if rows.len() > limit { Some(rows[limit - 1].0.clone()) } else { bound };
    rows.truncate(limit);
    let next = last.map(|mut key| {
        key.push(0);
        key
    });
    Ok((rows, next))
}
