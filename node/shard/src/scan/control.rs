//! Control rows as they were at a snapshot's stamp.
//!
//! A page is read as rows are now: from the control store and the frozen memtable without a lock, then from the active
//! one, under a short one, with what has changed since the stamp, which is undone. A freeze or the end of a write-out in
//! between would tear the two: then the page is read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use isthmus_domain::{FacetId, Slot};
use isthmus_identity::stored::Record;
use isthmus_raft::Broken;
use isthmus_storage::control::{
    Order,
    keys::{KeyRange, prefix_end},
};
use prost::Message as _;

use super::{Snapshot, Watch, slots::SlotSpan};
use crate::{State, error::broken, keys::table, large, machine::Shared, state::Lower};

/// Rows of a page: apply waits while so many are looked at.
const PAGE_ROWS: usize = 512;

/// Keys and values.
type Rows = Vec<(Vec<u8>, Bytes)>;

fn gone() -> Broken {
    Broken::new("the snapshot's lease has ended, or too much has changed since: ask again")
}

/// Whether nothing was moved between the parts below the active memtable.
fn same(before: &Lower, now: &Lower) -> bool {
    let frozen = match (&before.frozen, &now.frozen) {
        (Some(before), Some(now)) => Arc::ptr_eq(before, now),
        (None, None) => true,
        _ => false,
    };
    frozen && before.generation == now.generation
}

impl Snapshot {
    fn shared(&self) -> &Shared {
        &self.guard.shared
    }

    /// What `take` finds in the active memtable and in what has changed, provided that the parts below are those that
    /// `lower` was taken from; `None` when they aren't.
    fn beside<T>(&self, lower: &Lower, take: impl FnOnce(&State, &Watch) -> T) -> Result<Option<T>, Broken> {
        let shared = self.shared();
        let state = shared.state.read();
        let watch =
            state.active.watch.as_ref().filter(|watch| watch.holds(self.guard.id)).ok_or_else(gone)?;
        let unmoved = state.store == self.runs.store() && same(lower, &shared.lower.read());
        Ok(unmoved.then(|| take(&state, watch)))
    }

    /// A row as it was, or a part of it. May wait for a disk.
    fn plain_row(&self, key: &[u8]) -> Result<Option<Bytes>, Broken> {
        loop {
            let lower = self.shared().lower.read().clone();
            let below = match lower.frozen.as_ref().and_then(|frozen| frozen.rows.get(key)) {
                Some(row) => row.cloned(),
                None => self.shared().keeper.storage().get(self.runs.store(), key).map_err(broken)?,
            };
            let now = self.beside(&lower, |state, watch| match watch.row_at(key, self.at()) {
                Some(before) => before,
                None => state.active.rows.get(key).map_or(below, |row| row.cloned()),
            })?;
            if let Some(row) = now {
                return Ok(row);
            }
        }
    }

    /// The first rows of a range of one table as they were, by rising keys, and where the next page begins.
    fn page(&self, range: &KeyRange) -> Result<(Rows, Option<Vec<u8>>), Broken> {
        let owned = |(key, value): (Vec<u8>, Option<&Bytes>)| (key, value.cloned());
        loop {
            let lower = self.shared().lower.read().clone();
            let storage = self.shared().keeper.storage();
            let page = storage.scan(self.runs.store(), range, Order::Ascending, PAGE_ROWS).map_err(broken)?;
            let frozen: Vec<_> = match &lower.frozen {
                Some(frozen) => frozen.rows.range(range).take(PAGE_ROWS).map(owned).collect(),
                None => Vec::new(),
            };
            let now = self.beside(&lower, |state, watch| {
                let active: Vec<_> = state.active.rows.range(range).take(PAGE_ROWS).map(owned).collect();
                let before = watch.rows_at(range, self.at()).take(PAGE_ROWS);
                (active, before.map(|(key, row)| (key.clone(), row)).collect::<Vec<_>>())
            })?;
            let Some((active, before)) = now else { continue };
            // Behind the last row of a part that may have more, the others are not known to be complete.
            let mut end = page.rows.last().filter(|_| page.more).map(|(key, _)| key.to_vec());
            let mut rows: BTreeMap<Vec<u8>, Option<Bytes>> =
                page.rows.into_iter().map(|(key, value)| (key.to_vec(), Some(value))).collect();
            for part in [frozen, active, before] {
                if let Some((last, _)) = part.get(PAGE_ROWS - 1) {
                    end = Some(end.map_or_else(|| last.clone(), |end| end.min(last.clone())));
                }
                rows.extend(part);
            }
            if let Some(end) = &end {
                rows.retain(|key, _| key <= end);
            }
            let rows = rows.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            let next = end.map(|mut end| {
                end.push(0);
                end
            });
            return Ok((rows, next));
        }
    }
}

/// Rows of a table as they were, whole, page by page.
pub(super) struct Cursor {
    snapshot: Arc<Snapshot>,
    range: Option<KeyRange>,
    page: std::vec::IntoIter<(Vec<u8>, Bytes)>,
}

impl Cursor {
    /// Over a part of a table's slots.
    pub fn of_slots(snapshot: Arc<Snapshot>, table: u8, slots: SlotSpan) -> Self {
        let at = |slot: u16| [&[table][..], &slot.to_be_bytes()].concat();
        let end = match Slot::new(slots.end) {
            Some(_) => Some(at(slots.end)),
            None => prefix_end(&[table]),
        };
        Self::of(snapshot, KeyRange { start: at(slots.start), end })
    }

    /// Over the rows whose keys have a prefix.
    pub fn of_prefix(snapshot: Arc<Snapshot>, prefix: &[u8]) -> Self {
        Self::of(snapshot, KeyRange::prefix(prefix))
    }

    /// Over a range, of one table.
    pub fn of(snapshot: Arc<Snapshot>, range: KeyRange) -> Self {
        Self { snapshot, range: Some(range), page: Vec::new().into_iter() }
    }

    fn next_row(&mut self) -> Result<Option<(Vec<u8>, Bytes)>, Broken> {
        loop {
            if let Some((key, value)) = self.page.next() {
                let whole = large::join(&key, value, |part| self.snapshot.plain_row(part))?;
                let whole = whole.ok_or_else(|| Broken::new("a part of a row is missing"))?;
                return Ok(Some((key, whole)));
            }
            let Some(range) = self.range.take() else { return Ok(None) };
            let (rows, next) = self.snapshot.page(&range)?;
            self.page = rows.into_iter();
            self.range = next.map(|start| KeyRange { start, end: range.end });
        }
    }
}

impl Iterator for Cursor {
    type Item = Result<(Vec<u8>, Bytes), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

/// Identity records as they were, by rising facets.
pub(super) struct Records(pub Cursor);

impl Records {
    /// Of the facets from one on and before another.
    pub fn between(snapshot: Arc<Snapshot>, from: Option<&[u8; 16]>, to: Option<&[u8; 16]>) -> Self {
        let key = |id: &[u8; 16]| isthmus_identity::keys::record(&FacetId::from_bytes(*id));
        let mut range = KeyRange::prefix(&[table::RECORD]);
        if let Some(from) = from {
            range.start = key(from);
        }
        if let Some(to) = to {
            range.end = Some(key(to));
        }
        Self(Cursor::of(snapshot, range))
    }
}

impl Iterator for Records {
    type Item = Result<(FacetId, Record), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.0.next()?;
        Some(row.and_then(|(key, value)| {
            let facet =
                isthmus_identity::keys::facet(&key).ok_or_else(|| broken("a record's key is damaged"))?;
            Ok((facet, Record::decode(value).map_err(broken)?))
        }))
    }
}
