//! What has been applied and is not yet written out.
//!
//! One memtable is active and takes what apply does; at most one is frozen and is being written out. Facets hold
//! deltas: what this memtable's events add to them, to be merged with what lies below.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::HashMap;
use isthmus_domain::{EventRecord, FacetId, FacetSummary, Stamp};

/// Key of a deduplication entry: the record's, moved into its facet's slot ([`keys::in_slot`](crate::keys::in_slot)).
pub type DedupKey = [u8; 16];

/// What is remembered of an event to know it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupEntry {
    /// The stamp it was taken in with.
    pub stamp: Stamp,
    /// The attempt that it came with: a retry of the same attempt gets the same answer.
    pub attempt: u64,
    /// Hash of what was said.
    pub body_hash: [u8; 16],
    /// The answer: the number of `isthmus.v1.ItemOutcome`.
    pub outcome: u8,
}

impl DedupEntry {
    /// Bytes of the stored form.
    pub const BYTES: usize = 40;

    /// Stored form: stamp (8), attempt (8), body hash (16), outcome (1), zeros (7); numbers big-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.stamp.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.attempt.to_be_bytes());
        bytes[16..32].copy_from_slice(&self.body_hash);
        bytes[32] = self.outcome;
        bytes
    }

    /// From the stored form.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        Some(Self {
            stamp: Stamp(u64::from_be_bytes(bytes[..8].try_into().ok()?)),
            attempt: u64::from_be_bytes(bytes[8..16].try_into().ok()?),
            body_hash: bytes[16..32].try_into().ok()?,
            outcome: bytes[32],
        })
    }
}

/// An event as applied.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// The facet that it belongs to.
    pub facet: FacetId,
    /// Its deduplication key, which also orders events of one time.
    pub key: DedupKey,
    /// The stamp it was taken in with.
    pub stamp: Stamp,
    /// The event; boxed, so that a growing memtable moves pointers and not events.
    pub record: Box<EventRecord>,
}

impl EventRow {
    /// Its place in its facet: by time, then by key.
    pub fn order(&self) -> (i64, DedupKey) {
        (self.record.timestamp, self.key)
    }
}

/// What this memtable's events add to a facet.
#[derive(Clone, Debug)]
pub struct FacetDelta {
    /// The fold of its events here.
    pub summary: FacetSummary,
    /// Where they stand in [`Memtable::events`], in the order of arrival.
    pub events: Vec<u32>,
}

/// Rows that have been applied and not yet written out.
#[derive(Clone, Debug, Default)]
pub struct Memtable {
    /// Deltas by facet. Never iterated but for reads and the write-out, which sort.
    pub facets: HashMap<FacetId, FacetDelta>,
    /// Events in the order of arrival.
    pub events: Vec<EventRow>,
    /// Deduplication entries.
    pub dedup: HashMap<DedupKey, DedupEntry>,
    /// Control rows that were put (`Some`) or deleted (`None`).
    pub rows: BTreeMap<Vec<u8>, Option<Bytes>>,
    bytes: u64,
}

/// What the maps and vectors cost for an event besides its content: measured roughly, meant for budgets.
const EVENT_OVERHEAD_BYTES: u64 = 420;
/// The same for a control row.
const ROW_OVERHEAD_BYTES: u64 = 120;

impl Memtable {
    /// Adds an accepted event with its deduplication entry.
    pub fn push_event(&mut self, row: EventRow, entry: DedupEntry) {
        self.bytes += prost::Message::encoded_len(&*row.record) as u64 + EVENT_OVERHEAD_BYTES;
        let place = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        match self.facets.entry(row.facet) {
            hashbrown::hash_map::Entry::Occupied(mut occupied) => {
                let delta = occupied.get_mut();
                delta.summary.absorb(&row.record);
                delta.events.push(place);
            }
            hashbrown::hash_map::Entry::Vacant(vacant) => {
                let summary = FacetSummary::of(&row.record);
                self.bytes += summary.weight_bytes() as u64;
                vacant.insert(FacetDelta { summary, events: vec![place] });
            }
        }
        self.dedup.insert(row.key, entry);
        self.events.push(row);
    }

    /// Puts or deletes a control row.
    pub fn set_row(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        self.bytes += (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64 + ROW_OVERHEAD_BYTES;
        self.rows.insert(key, value);
    }

    /// Bytes of memory it takes, roughly.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.rows.is_empty()
    }

    /// The events of a facet before a place in its order, newest first, at most `limit`.
    pub fn events_before(
        &self,
        facet: &FacetId,
        before: Option<(i64, DedupKey)>,
        limit: usize,
    ) -> Vec<EventRow> {
        let Some(delta) = self.facets.get(facet) else { return Vec::new() };
        let mut rows: Vec<&EventRow> = delta
            .events
            .iter()
            .filter_map(|place| self.events.get(*place as usize))
            .filter(|row| before.is_none_or(|before| row.order() < before))
            .collect();
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.order()));
        rows.truncate(limit);
        rows.into_iter().cloned().collect()
    }

    /// The smallest facets above `after`, at most `limit`, rising.
    pub fn facets_after(&self, after: Option<&FacetId>, limit: usize) -> Vec<FacetId> {
        let mut ids: Vec<FacetId> =
            self.facets.keys().filter(|id| after.is_none_or(|after| *id > after)).copied().collect();
        if limit < ids.len() {
            ids.select_nth_unstable(limit);
            ids.truncate(limit);
        }
        ids.sort_unstable();
        ids
    }
}
