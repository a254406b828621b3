//! Counting the state's hash again, from all that is kept: finds rows that were lost, doubled or damaged.

use std::collections::BTreeMap;

use bytes::Bytes;
use isthmus_raft::Broken;

use crate::{
    StateHash, error::broken, hash::Kind, keys::table, machine::Shared, state::table_rows, tables::DEDUP,
};

const TABLES: [u8; 19] = [
    table::LINK_ROW,
    table::HALF_ROW,
    table::RECORD,
    table::HOME,
    table::ROOT,
    table::RETRACTION,
    table::HISTORY,
    table::SEARCH,
    table::PART,
    table::QUARANTINE,
    table::QUARANTINE_PART,
    table::PAIR,
    table::MODEL_PART,
    table::GROUP,
    table::GROUP_MEMBER,
    table::MEMBER_OF,
    table::OUTBOX,
    table::OUTBOX_LAST,
    table::INBOX,
];

/// The hash of all rows of the active and the frozen memtable, the runs and the control store.
pub(crate) fn count_hash(shared: &Shared) -> Result<StateHash, Broken> {
    let view = shared.view(|state| {
        let events: Vec<_> = state.active.dedup_rows().copied().collect();
        (events, state.active.rows.clone(), state.store)
    });
    let (active, active_rows, store) = view.active;
    let mut hash = StateHash::default();
    let mut rows: BTreeMap<Vec<u8>, Option<Bytes>> = BTreeMap::new();
    for table in TABLES {
        let found = table_rows(shared.keeper.storage(), store, table)?;
        rows.extend(found.into_iter().map(|(key, value)| (key.to_vec(), Some(value))));
    }
    for event in &active {
        hash.add(Kind::Event, &event.key, &event.entry.to_bytes());
    }
    if let Some(frozen) = &view.lower.frozen {
        for event in frozen.dedup_rows() {
            hash.add(Kind::Event, &event.key, &event.entry.to_bytes());
        }
        rows.extend(frozen.rows.iter().map(|(key, value)| (key, value.cloned())));
    }
    rows.extend(active_rows.iter().map(|(key, value)| (key, value.cloned())));
    for (key, value) in &rows {
        if let Some(value) = value {
            hash.add(Kind::Row, key, value);
        }
    }
    for row in view.lower.runs.flat_scan(DEDUP, None, None).map_err(broken)? {
        let row = row.map_err(broken)?;
        hash.add(Kind::Event, &row.key, &row.value);
    }
    let mut after = None;
    loop {
        let (members, next) = super::segment_members(shared, after, usize::MAX)?;
        members.iter().for_each(|(key, row)| row.count(key, &mut hash));
        match next {
            Some(next) => after = Some(next),
            None => return Ok(hash),
        }
    }
}
