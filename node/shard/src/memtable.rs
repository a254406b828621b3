//! What has been applied and is not yet written out.
//!
//! One memtable is active and takes what apply does; at most one is frozen and is being written out.
//!
//! **Layout.** An event stays as it is encoded: its bytes are copied into chunks that the memtable owns, behind each
//! other, and an [`EventRow`] of fixed size says where, with what sorting and deduplication need. So taking an event in
//! allocates nothing, dropping a memtable of a million events frees some thousand chunks, and what it takes is known to
//! the byte. Copies, not slices: a record that arrived over the network is part of a frame that other shards' entries
//! lie in, too, and would keep all of it.
//!
//! **Facets** are chains through the events, newest first. What a facet's events here come to (a *delta*, to be merged
//! with what lies below) is folded when somebody asks, which for most facets means one or two events; a facet with
//! more than [`FOLDED_MAX`] keeps a summary that each further event is added to.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::{HashTable, hash_table::Entry};
use isthmus_domain::{Error, FacetId, FacetSummary, RecordView, Stamp, Summary};

use crate::{
    rows::Rows,
    scan::{Journal, Watch},
    segments,
};

mod chunks;
mod feed;

pub use self::chunks::SharedEvents;
use self::chunks::{Events, Records};
use self::feed::Change;
pub use self::feed::FeedItem;

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
#[derive(Clone, Copy, Debug)]
pub struct EventRow {
    /// The facet that it belongs to.
    pub facet: FacetId,
    /// Its deduplication key, which also orders events of one time.
    pub key: DedupKey,
    /// When it happened, microseconds since the epoch.
    pub timestamp: i64,
    /// What is remembered of it.
    pub entry: DedupEntry,
    /// Where the record lies: chunk, first byte, length.
    place: [u32; 3],
    /// The facet's event before it in the order of arrival; [`NONE`] for the first.
    previous: u32,
}

impl EventRow {
    /// Its place in its facet: by time, then by key.
    pub fn order(&self) -> (i64, DedupKey) {
        (self.timestamp, self.key)
    }
}

/// An event that a reader has taken out of a memtable.
#[derive(Clone, Debug)]
pub struct FoundEvent {
    /// Its place in its facet.
    pub order: (i64, DedupKey),
    /// The stamp it was taken in with.
    pub stamp: Stamp,
    /// The encoded record, in memory of its own.
    pub record: Bytes,
}

/// A facet with events here.
#[derive(Debug)]
struct Facet {
    id: FacetId,
    newest: u32,
    events: u32,
    summary: Option<Box<Kept>>,
}

/// The summary of a facet with many events.
#[derive(Debug)]
struct Kept {
    summary: FacetSummary,
    /// Its weight when it was last counted.
    bytes: usize,
}

/// Rows that have been applied and not yet written out.
#[derive(Debug, Default)]
pub struct Memtable {
    facets: HashTable<Facet>,
    events: Events,
    /// Numbers of events, by deduplication key.
    dedup: HashTable<u32>,
    records: Records,
    /// Changes that are no events, in order.
    changes: Vec<Change>,
    /// Control rows.
    pub rows: Rows,
    /// What remembers how control rows were, while somebody wants a snapshot.
    pub(crate) watch: Option<Box<Watch>>,
    /// What has changed since queries last looked at all facets.
    pub(crate) journal: Option<Box<Journal>>,
    /// Who is in which segment, as it has changed.
    members: BTreeMap<segments::Key, segments::Row>,
    kept_bytes: usize,
}

/// No event.
const NONE: u32 = u32::MAX;
/// The most events of a facet that are folded on demand.
pub const FOLDED_MAX: u32 = 16;
/// Keys and facet ids are keyed hashes: all but their slot is uniform, and nobody can choose it.
fn spread(id: &[u8; 16]) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *id;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Memtable {
    /// Adds an accepted event with its deduplication entry. `record` is the encoded record.
    ///
    /// # Errors
    /// A record that can't be read; apply checks it before.
    pub fn push_event(
        &mut self,
        facet: FacetId,
        key: DedupKey,
        timestamp: i64,
        entry: DedupEntry,
        record: &[u8],
    ) -> Result<(), Error> {
        if self.journal.as_mut().is_some_and(|journal| !journal.event(facet)) {
            self.journal = None;
        }
        let number = u32::try_from(self.events.len()).unwrap_or(NONE);
        let hash = |known: &Facet| spread(known.id.as_bytes());
        let found = self.facets.entry(spread(facet.as_bytes()), |known| known.id == facet, hash);
        let new = Facet { id: facet, newest: NONE, events: 0, summary: None };
        let mut found = found.or_insert(new);
        let known = found.get_mut();
        let previous = std::mem::replace(&mut known.newest, number);
        known.events += 1;
        let place = self.records.push(record);
        self.events.push(EventRow { facet, key, timestamp, entry, place, previous });
        if known.events > FOLDED_MAX {
            let kept = match &mut known.summary {
                Some(kept) => {
                    kept.summary.absorb_copy(&RecordView::read(record)?);
                    kept
                }
                None => {
                    let summary = fold(&self.events, &self.records, number)?;
                    known.summary.insert(Box::new(Kept { summary, bytes: 0 }))
                }
            };
            // A walk over the summary, so not for each event.
            if kept.bytes == 0 || known.events.is_power_of_two() {
                let bytes = kept.summary.weight_bytes();
                self.kept_bytes = self.kept_bytes + bytes - kept.bytes;
                kept.bytes = bytes;
            }
        }
        let events = &self.events;
        let key_of = |number: &u32| events.get(*number as usize).map(|row| &row.key);
        let hash = |number: &u32| key_of(number).map_or(0, spread);
        match self.dedup.entry(spread(&key), |number| key_of(number) == Some(&key), hash) {
            Entry::Occupied(mut known) => *known.get_mut() = number,
            Entry::Vacant(vacant) => _ = vacant.insert(number),
        }
        Ok(())
    }

    /// Bytes of memory it takes: of all but the control rows what was allocated.
    pub fn bytes(&self) -> u64 {
        let tables = self.facets.allocation_size() + self.dedup.allocation_size();
        let events = self.events.bytes();
        let changes = self.changes.capacity() * size_of::<Change>();
        let members = self.members.len() * segments::MEMORY_BYTES;
        (tables + events + changes + members + self.records.bytes + self.kept_bytes + self.rows.bytes())
            as u64
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.rows.is_empty() && self.changes.is_empty() && self.members.is_empty()
    }

    /// Notes whether a profile is in a segment; what was noted of it here before.
    pub fn put_member(&mut self, key: segments::Key, row: segments::Row) -> Option<segments::Row> {
        self.members.insert(key, row)
    }

    /// Who is in which segment, as it has changed, by rising key.
    pub fn members(&self) -> &BTreeMap<segments::Key, segments::Row> {
        &self.members
    }

    /// The events in the order of arrival.
    pub fn events(&self) -> impl Iterator<Item = &EventRow> {
        self.events.iter()
    }

    /// An event by its number in that order.
    pub fn event(&self, number: usize) -> Option<&EventRow> {
        self.events.get(number)
    }

    /// A share in the events with this stamp or an older one.
    pub fn share(&self, through: Stamp) -> SharedEvents {
        SharedEvents::of(&self.events, &self.records, through)
    }

    /// The encoded record of an event of this memtable.
    pub fn record(&self, row: &EventRow) -> &[u8] {
        self.records.get(row.place)
    }

    /// What is remembered of an event.
    pub fn dedup(&self, key: &DedupKey) -> Option<DedupEntry> {
        let row = |number: &u32| self.events.get(*number as usize);
        let is = |number: &u32| row(number).is_some_and(|row| row.key == *key);
        self.dedup.find(spread(key), is).and_then(row).map(|row| row.entry)
    }

    /// All deduplication entries, each key once, in no order.
    pub fn dedup_rows(&self) -> impl Iterator<Item = &EventRow> {
        self.dedup.iter().filter_map(|number| self.events.get(*number as usize))
    }

    /// The facets that have events here, in no order.
    pub fn facets(&self) -> impl Iterator<Item = FacetId> + '_ {
        self.facets.iter().map(|facet| facet.id)
    }

    fn facet(&self, id: &FacetId) -> Option<&Facet> {
        self.facets.find(spread(id.as_bytes()), |facet| facet.id == *id)
    }

    /// What the events of a facet here come to; `None` when there is none.
    ///
    /// # Errors
    /// A record that can't be read; apply checks it before.
    pub fn summary(&self, id: &FacetId) -> Result<Option<FacetSummary>, Error> {
        let Some(facet) = self.facet(id) else { return Ok(None) };
        match &facet.summary {
            Some(kept) => Ok(Some(kept.summary.clone())),
            None => fold(&self.events, &self.records, facet.newest).map(Some),
        }
    }

    /// The events of a facet with their encoded records, in no order.
    pub fn events_of(&self, facet: &FacetId) -> impl Iterator<Item = (&EventRow, &[u8])> {
        let newest = self.facet(facet).map_or(NONE, |facet| facet.newest);
        chain(&self.events, newest).map(|row| (row, self.record(row)))
    }

    /// The events of a facet before a place in its order, newest first, at most `limit`.
    pub fn events_before(
        &self,
        facet: &FacetId,
        before: Option<(i64, DedupKey)>,
        limit: usize,
    ) -> Vec<FoundEvent> {
        let Some(facet) = self.facet(facet) else { return Vec::new() };
        let mut rows: Vec<&EventRow> = chain(&self.events, facet.newest)
            .filter(|row| before.is_none_or(|before| row.order() < before))
            .collect();
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.order()));
        rows.truncate(limit);
        let found = rows.into_iter().map(|row| FoundEvent {
            order: row.order(),
            stamp: row.entry.stamp,
            record: Bytes::copy_from_slice(self.record(row)),
        });
        found.collect()
    }

    /// The smallest facets above `after`, at most `limit`, rising.
    pub fn facets_after(&self, after: Option<&FacetId>, limit: usize) -> Vec<FacetId> {
        let mut ids: Vec<FacetId> = self.facets().filter(|id| after.is_none_or(|after| id > after)).collect();
        if limit < ids.len() {
            ids.select_nth_unstable(limit);
            ids.truncate(limit);
        }
        ids.sort_unstable();
        ids
    }
}

/// A facet's events, newest first.
fn chain(events: &Events, newest: u32) -> impl Iterator<Item = &EventRow> {
    let row = move |number: u32| events.get(number as usize);
    std::iter::successors(row(newest), move |later| row(later.previous))
}

fn fold(events: &Events, records: &Records, newest: u32) -> Result<FacetSummary, Error> {
    let mut summary = Summary::default();
    for row in chain(events, newest) {
        summary.absorb_view(&RecordView::read(records.get(row.place))?);
    }
    Ok(summary.into_owned())
}

#[cfg(test)]
mod tests {
    use isthmus_domain::EventRecord;

    use super::*;

    pub fn record(facet: u8, number: u64) -> EventRecord {
        EventRecord {
            facet: vec![facet; 16].into(),
            namespace: "user_id".into(),
            value: format!("u{facet}"),
            message_id: format!("m{number}"),
            source: "web".into(),
            kind: 2,
            name: format!("E{}", number % 3),
            timestamp: 1_000 - number as i64,
            body_hash: vec![number as u8; 16].into(),
            dedup_key: vec![0; 16].into(),
            properties: vec![b'x'; number as usize * 40].into(),
            ..EventRecord::default()
        }
    }

    pub fn key(number: u64) -> DedupKey {
        (u128::from(number) * 0x9e37_79b9_7f4a_7c15).to_be_bytes()
    }

    fn filled(events: u64) -> (Memtable, Vec<EventRecord>) {
        let (mut memtable, mut records) = (Memtable::default(), Vec::new());
        for number in 0..events {
            let record = record(if number % 10 < 7 { 1 } else { number as u8 }, number);
            let (stamp, attempt) = (Stamp(number), number);
            let entry = DedupEntry { stamp, attempt, body_hash: record.body_hash(), outcome: 1 };
            let bytes = record.to_bytes();
            memtable.push_event(record.facet_id(), key(number), record.timestamp, entry, &bytes).unwrap();
            records.push(record);
        }
        (memtable, records)
    }

    #[test]
    fn a_summary_is_the_fold_of_its_facets_events_however_many_there_are() {
        for events in [1, 2, 16, 17, 18, 200] {
            let (memtable, records) = filled(events);
            let mut ids: Vec<FacetId> = records.iter().map(EventRecord::facet_id).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(memtable.facets_after(None, usize::MAX), ids);
            for id in ids {
                let mut expected = FacetSummary::default();
                records.iter().filter(|r| r.facet_id() == id).for_each(|r| expected.absorb(r));
                assert_eq!(memtable.summary(&id).unwrap().unwrap().to_bytes(), expected.to_bytes());
            }
            assert_eq!(memtable.summary(&FacetId::from_bytes([0xee; 16])).unwrap(), None);
        }
    }

    #[test]
    fn events_are_found_again_by_key_and_newest_first_by_facet() {
        let (memtable, records) = filled(200);
        for (number, record) in (0..).zip(&records) {
            assert_eq!(memtable.dedup(&key(number)).unwrap().attempt, number);
            let row = memtable.event(number as usize).unwrap();
            assert_eq!(memtable.record(row), &record.to_bytes()[..]);
        }
        assert_eq!(memtable.dedup(&key(200)), None);
        assert_eq!(memtable.dedup_rows().count(), 200);
        let one = FacetId::from_bytes([1; 16]);
        let found = memtable.events_before(&one, Some((945, [0; 16])), 5);
        let times: Vec<i64> = found.iter().map(|event| event.order.0).collect();
        // Times fall with numbers; those whose number ends in 7, 8 or 9 are of other facets.
        assert_eq!(times, [944, 940, 939, 938, 937]);
        assert!(found.iter().all(|e| EventRecord::from_bytes(e.record.clone()).is_ok()));
    }

    #[test]
    fn what_it_counts_holds_its_records_and_little_else() {
        let (memtable, records) = filled(200);
        let encoded: u64 = records.iter().map(|record| record.to_bytes().len() as u64).sum();
        let fixed = 200 * (size_of::<EventRow>() as u64 + 100) * 2;
        assert!(memtable.bytes() > encoded && memtable.bytes() < encoded + fixed + (512 << 10));
        assert!(Memtable::default().bytes() == 0);
    }
}
