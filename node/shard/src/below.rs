//! What lies below the active memtable, for rows that a batch could not name beforehand.
//!
//! Where an identifier's messages lead is known only when they are handled: its parent, its root, its home. What a
//! batch names is fetched before; the rest is read in apply, from the frozen memtable and the control store's cache.
//! What is read is the same on every replica, wherever it lies. New identifiers, which most are, cost no such look:
//! [`Linked`] knows who has been written out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;
use isthmus_raft::Broken;
use isthmus_storage::{
    StoreId,
    control::{Order, PAGE_ROWS_MAX, keys::KeyRange},
    keeper::Keeper as Storage,
};

use crate::{State, error::broken, machine::Shared, rows::Rows, state::Lower};

/// The rows below the active memtable.
#[derive(Clone)]
pub(crate) struct Below {
    pub storage: Arc<Storage>,
    pub store: StoreId,
    pub lower: Lower,
}

impl std::fmt::Debug for Below {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Below").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Below {
    /// What lies below a replica's active memtable, for a reader that holds its state.
    pub fn of(shared: &Shared, state: &State) -> Self {
        let lower = shared.lower.read().clone();
        Self { storage: shared.keeper.storage().clone(), store: state.store, lower }
    }

    /// A row. May wait for a disk.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Broken> {
        match self.lower.frozen.as_ref().and_then(|frozen| frozen.rows.get(key)) {
            Some(row) => Ok(row.cloned()),
            None => self.storage.get(self.store, key).map_err(broken),
        }
    }
}

/// A part of the facets whose record lies below: 64 bits of each, so one in many billions is taken for another, which costs
/// a look.
#[derive(Debug, Default)]
pub(crate) struct Linked(HashSet<u64>);

impl Linked {
    /// Takes a key of any row of an identifier.
    pub fn insert(&mut self, key: &[u8]) {
        self.0.extend(part(key));
    }

    /// Whether the identifier of a key of any of its rows has a record there, or almost certainly not.
    pub fn contains(&self, key: &[u8]) -> bool {
        part(key).is_none_or(|part| self.0.contains(&part))
    }
}

fn part(key: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(key.get(11..19)?.try_into().ok()?))
}

/// The first key behind so many rows of a range; `None` when there aren't so many.
fn enough(rows: &Rows, range: &KeyRange, wanted: usize) -> Option<Vec<u8>> {
    let mut rows = rows.range(range).filter(|(_, value)| value.is_some());
    rows.nth(wanted.checked_sub(1)?).map(|(key, _)| behind(&key))
}

/// The next key behind one.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// The rows of the active memtable and of what lies below with keys of a prefix above `after`, rising, at most `limit`.
pub(crate) fn merged(
    active: &Rows,
    below: Option<&Below>,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, Bytes)>, Broken> {
    let mut range = KeyRange::prefix(prefix);
    if let Some(after) = after.filter(|after| *after >= range.start.as_slice()) {
        range.start = behind(after);
    }
    let in_range = |rows: &Rows, range: &KeyRange| {
        rows.range(range).map(|(key, value)| (key, value.cloned())).collect::<BTreeMap<_, _>>()
    };
    if below.is_none() {
        let rows = active.range(&range).filter_map(|(key, value)| Some((key, value?.clone())));
        return Ok(rows.take(limit).collect());
    }
    let mut found = Vec::new();
    while found.len() < limit {
        // A page of the store, and of the memtables what belongs beside it.
        let wanted = (limit - found.len()).min(PAGE_ROWS_MAX);
        let (page, more) = match below {
            Some(below) => {
                let page =
                    below.storage.scan(below.store, &range, Order::Ascending, wanted).map_err(broken)?;
                (page.rows, page.more)
            }
            None => (Vec::new(), false),
        };
        let mut part = range.clone();
        let frozen = below.and_then(|below| below.lower.frozen.as_ref()).map(|frozen| &frozen.rows);
        // Up to where the first source that has enough says: rows behind it are not wanted yet.
        let of_page = page.last().filter(|_| more).map(|(last, _)| behind(last));
        let ends =
            [of_page, enough(active, &range, wanted), frozen.and_then(|rows| enough(rows, &range, wanted))];
        let next = ends.into_iter().flatten().min();
        if let Some(next) = &next {
            part.end = Some(next.clone());
        }
        let mut rows: BTreeMap<Vec<u8>, Option<Bytes>> =
            page.into_iter().map(|(key, value)| (key.to_vec(), Some(value))).collect();
        rows.retain(|key, _| part.contains(key));
        if let Some(frozen) = frozen {
            rows.extend(in_range(frozen, &part));
        }
        rows.extend(in_range(active, &part));
        let room = limit - found.len();
        found.extend(rows.into_iter().filter_map(|(key, value)| Some((key, value?))).take(room));
        match next {
            Some(next) => range.start = next,
            None => break,
        }
    }
    Ok(found)
}
