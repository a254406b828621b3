//! What lies in quarantine.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use isthmus_domain::QuarantineEntry;
use isthmus_raft::Broken;
use isthmus_storage::control::{
    Order,
    keys::{KeyRange, prefix_end},
};

use crate::{error::broken, keys, machine::Shared, memtable::Memtable};

/// Which entries are asked for.
#[derive(Clone, Debug, Default)]
pub struct QuarantineQuery {
    /// Only ids above this one.
    pub after: Option<[u8; 16]>,
    /// At most so many.
    pub limit: usize,
    /// Only of this source; empty: of all.
    pub source: String,
    /// Only with this reason; empty: with any.
    pub reason: String,
}

/// A page of entries.
pub struct QuarantinePage {
    /// The entries without their payload, by rising id.
    pub entries: Vec<QuarantineEntry>,
    /// Whether there are more.
    pub more: bool,
}

/// Rows that a filtered page looks at before it ends early: a rare reason must not hold a reader for ever.
const LOOKED_AT_MAX: usize = 10_000;
/// Rows that are read at a time.
const PAGE_ROWS: usize = 256;

/// A page of entries. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn page(shared: &Shared, query: &QuarantineQuery) -> Result<QuarantinePage, Broken> {
    let mut start = match &query.after {
        Some(id) => keys::quarantine(id),
        None => vec![keys::table::QUARANTINE],
    };
    if query.after.is_some() {
        start.push(0);
    }
    let mut entries = Vec::new();
    let mut looked_at = 0;
    loop {
        let (rows, next) = rows(shared, &start, keys::table::QUARANTINE, PAGE_ROWS)?;
        for (_, value) in rows {
            looked_at += 1;
            let entry = QuarantineEntry::from_bytes(value).map_err(broken)?;
            let fits = |asked: &str, has: &str| asked.is_empty() || asked == has;
            if fits(&query.source, &entry.source) && fits(&query.reason, &entry.reason) {
                if entries.len() == query.limit {
                    return Ok(QuarantinePage { entries, more: true });
                }
                entries.push(entry);
            }
        }
        let Some(next) = next else { return Ok(QuarantinePage { entries, more: false }) };
        // The page has to bring its reader on, so an early end needs an entry to go on from.
        if looked_at >= LOOKED_AT_MAX && !entries.is_empty() {
            return Ok(QuarantinePage { entries, more: true });
        }
        start = next;
    }
}

/// One entry with its payload. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn entry(shared: &Shared, id: &[u8; 16]) -> Result<Option<QuarantineEntry>, Broken> {
    let key = keys::quarantine(id);
    let (head, _next) = rows(shared, &key, keys::table::QUARANTINE, 1)?;
    let Some((_, value)) = head.into_iter().find(|(found, _)| *found == key) else { return Ok(None) };
    let mut entry = QuarantineEntry::from_bytes(value).map_err(broken)?;
    let mut payload = BytesMut::new();
    let mut start = keys::quarantine_part(id, 0);
    let prefix = start[..start.len() - 2].to_vec();
    loop {
        let (parts, next) = rows(shared, &start, keys::table::QUARANTINE_PART, PAGE_ROWS)?;
        let whole = parts.len();
        let own = parts.into_iter().take_while(|(key, _)| key.starts_with(&prefix));
        let own = own.map(|(_, part)| payload.extend_from_slice(&part)).count();
        match next {
            Some(next) if own == whole => start = next,
            _ => break,
        }
    }
    entry.payload = payload.freeze();
    Ok(Some(entry))
}

type Rows = Vec<(Vec<u8>, Bytes)>;

/// The first control rows of a table from `start` on, of all parts of the state, and where the next page begins.
fn rows(shared: &Shared, start: &[u8], table: u8, limit: usize) -> Result<(Rows, Option<Vec<u8>>), Broken> {
    let end = prefix_end(&[table]);
    let first = |memtable: &Memtable| -> Vec<(Vec<u8>, Option<Bytes>)> {
        let range = memtable.rows.range(start.to_vec()..);
        let range = range.take_while(|(key, _)| end.as_ref().is_none_or(|end| *key < end)).take(limit + 1);
        range.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let view = shared.view(|state| (first(&state.active), state.store));
    let (active, store) = view.active;
    let frozen = view.lower.frozen.as_ref().map(|frozen| first(frozen)).unwrap_or_default();
    let range = KeyRange { start: start.to_vec(), end: end.clone() };
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
