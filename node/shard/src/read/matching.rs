//! Pairs of profiles that may be one person, and the models that they are found by.

use bytes::Bytes;
use isthmus_domain::{FacetId, Slot, SlotRanges};
use isthmus_proto::internal::v1::PairRow;
use isthmus_raft::Broken;
use prost::Message as _;

use super::control_rows::rows;
use crate::{error::broken, keys, machine::Shared};

/// Rows that are read at a time.
const PAGE_ROWS: usize = 256;
/// Rows that a filtered page looks at before it ends early.
const LOOKED_AT_MAX: usize = 20_000;
/// Parts of a model that one answer brings: each has at most 32 KiB.
const PARTS: usize = 32;

/// Which pairs are asked for.
#[derive(Clone, Debug, Default)]
pub struct PairQuery {
    /// Only pairs whose `a` is above this one.
    pub after: Option<FacetId>,
    /// About so many.
    pub limit: usize,
    /// Only from this probability on.
    pub probability_min: f64,
    /// Only in this state (the number of a `PairState`); `None`: in any.
    pub state: Option<i32>,
    /// Only accepted ones whose link is not known to be in force.
    pub unlinked: bool,
    /// Only those found by an older model.
    pub before_model: Option<u64>,
    /// Only of slots below this number.
    pub end_slot: Option<u32>,
}

/// A page of pairs.
pub struct PairsPage {
    /// The pairs, by rising key; all of one `a`, or none.
    pub rows: Vec<PairRow>,
    /// Where the next page begins; `None`: this is the last.
    pub next: Option<FacetId>,
    /// The slots that the shard owned then.
    pub owned: SlotRanges,
}

/// A page of pairs. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn pairs(shared: &Shared, query: &PairQuery) -> Result<PairsPage, Broken> {
    let owned = shared.state.read().meta.owned.clone();
    let mut start = match &query.after {
        Some(after) => keys::pair(after, &FacetId::from_bytes([0xff; 16])),
        None => vec![keys::table::PAIR],
    };
    if query.after.is_some() {
        start.push(0);
    }
    let (mut page, mut looked_at, mut last) = (Vec::new(), 0, None);
    loop {
        let (found, next) = rows(shared, &start, &[keys::table::PAIR], PAGE_ROWS)?;
        for (key, value) in found {
            let a = key.get(3..19).and_then(FacetId::from_slice);
            let a = a.ok_or_else(|| broken("the key of a pair is damaged"))?;
            if last.is_some_and(|last| last != a) && (page.len() >= query.limit || looked_at >= LOOKED_AT_MAX)
            {
                return Ok(PairsPage { rows: page, next: last, owned });
            }
            if query.end_slot.is_some_and(|end| u32::from(a.slot().number()) >= end) {
                return Ok(PairsPage { rows: page, next: None, owned });
            }
            last = Some(a);
            looked_at += 1;
            let row = PairRow::decode(value).map_err(broken)?;
            let fits = row.probability >= query.probability_min
                && query.state.is_none_or(|state| row.state == state)
                && query.before_model.is_none_or(|model| row.model_version < model)
                && !(query.unlinked && row.linked)
                // What is left of pairs that are none only goes with older models.
                && (!row.gone || query.before_model.is_some());
            if fits && owned.contains(a.slot()) {
                page.push(row);
            }
        }
        let Some(next) = next else { return Ok(PairsPage { rows: page, next: None, owned }) };
        start = next;
    }
}

/// Parts of a model from one on, as many as one answer takes. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn model_parts(shared: &Shared, slot: Slot, model: u64, first: u32) -> Result<Vec<Bytes>, Broken> {
    let start = keys::model_part(slot, model, first);
    let prefix = start[..start.len() - 4].to_vec();
    let (rows, _) = rows(shared, &start, &[keys::table::MODEL_PART], PARTS)?;
    Ok(rows.into_iter().take_while(|(key, _)| key.starts_with(&prefix)).map(|(_, part)| part).collect())
}
