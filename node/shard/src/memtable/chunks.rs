//! Events and their records in the order of arrival, in chunks that a reader can take a share of.
//!
//! A chunk that is full changes no more, and who shares it copies nothing; only the last one, which still grows, is
//! copied. So a snapshot of a memtable of a million events costs some thousand counters and one chunk of each sort.

use std::ops::Range;
use std::sync::Arc;

use isthmus_domain::Stamp;

use super::{EventRow, NONE};

/// Rows of a chunk.
const CHUNK_ROWS: usize = 2_048;
/// Bytes of the first chunk of records and of the largest: each is twice the one before.
const CHUNK_BYTES: [usize; 2] = [16 << 10, 256 << 10];

/// Rows of events.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Chunks of [`CHUNK_ROWS`].
    sealed: Vec<Arc<Vec<EventRow>>>,
    open: Vec<EventRow>,
}

/// Encoded records, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Records {
    sealed: Vec<Arc<Vec<u8>>>,
    open: Vec<u8>,
    /// What was allocated.
    pub bytes: usize,
}

/// A share in the first events of a memtable: they stay as they are, whatever becomes of it.
#[derive(Clone, Debug, Default)]
pub struct SharedEvents {
    events: Vec<Arc<Vec<EventRow>>>,
    records: Vec<Arc<Vec<u8>>>,
    len: usize,
}

impl Events {
    pub fn push(&mut self, row: EventRow) {
        self.open.push(row);
        if self.open.len() == CHUNK_ROWS {
            let full = std::mem::replace(&mut self.open, Vec::with_capacity(CHUNK_ROWS));
            self.sealed.push(Arc::new(full));
        }
    }

    pub fn len(&self) -> usize {
        self.sealed.len() * CHUNK_ROWS + self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.open.is_empty()
    }

    /// Bytes that were allocated.
    pub fn bytes(&self) -> usize {
        (self.sealed.len() * CHUNK_ROWS + self.open.capacity()) * size_of::<EventRow>()
            + self.sealed.capacity() * size_of::<Arc<Vec<EventRow>>>()
    }

    #[inline]
    pub fn get(&self, number: usize) -> Option<&EventRow> {
        match self.sealed.get(number / CHUNK_ROWS) {
            Some(chunk) => chunk.get(number % CHUNK_ROWS),
            None => self.open.get(number - self.sealed.len() * CHUNK_ROWS),
        }
    }

    pub fn last(&self) -> Option<&EventRow> {
        self.open.last().or_else(|| self.sealed.last().and_then(|chunk| chunk.last()))
    }

    pub fn iter(&self) -> impl Iterator<Item = &EventRow> {
        self.sealed.iter().flat_map(|chunk| chunk.iter()).chain(&self.open)
    }

    /// How many events have a stamp below this one: stamps never fall.
    pub fn before(&self, stamp: Stamp) -> usize {
        let is_before = |row: &EventRow| row.entry.stamp < stamp;
        let whole = self.sealed.partition_point(|chunk| chunk.last().is_some_and(is_before));
        let rest = self.sealed.get(whole).map_or(&self.open, |chunk| chunk);
        whole * CHUNK_ROWS + rest.partition_point(is_before)
    }
}

impl Records {
    pub fn push(&mut self, record: &[u8]) -> [u32; 3] {
        if self.open.capacity() - self.open.len() < record.len() {
            let [first, largest] = CHUNK_BYTES;
            let full = std::mem::take(&mut self.open);
            // Before the first there is nothing to keep.
            if full.capacity() > 0 {
                self.sealed.push(Arc::new(full));
            }
            let usual = (first << self.sealed.len().min(16)).min(largest);
            self.open = Vec::with_capacity(usual.max(record.len()));
            self.bytes += self.open.capacity();
        }
        let start = self.open.len();
        self.open.extend_from_slice(record);
        // Far within 32 bits: the node's budget stops a memtable long before.
        [self.sealed.len(), start, record.len()].map(|number| u32::try_from(number).unwrap_or(NONE))
    }

    pub fn get(&self, [chunk, start, length]: [u32; 3]) -> &[u8] {
        let chunk = self.sealed.get(chunk as usize).map_or(&self.open, |chunk| chunk);
        slice(chunk, start, length)
    }
}

fn slice(chunk: &[u8], start: u32, length: u32) -> &[u8] {
    let start = start as usize;
    chunk.get(start..start + length as usize).unwrap_or_default()
}

impl SharedEvents {
    /// Of the events with this stamp or an older one.
    pub(super) fn of(events: &Events, records: &Records, through: Stamp) -> Self {
        let len = events.before(Stamp(through.0.saturating_add(1)));
        if len == 0 {
            return Self::default();
        }
        let mut shared: Vec<_> = events.sealed.iter().take(len.div_ceil(CHUNK_ROWS)).cloned().collect();
        let rest = len - (shared.len() * CHUNK_ROWS).min(len);
        if let Some(open) = events.open.get(..rest).filter(|open| !open.is_empty()) {
            shared.push(Arc::new(open.to_vec()));
        }
        let mut of_records: Vec<_> = records.sealed.clone();
        of_records.push(Arc::new(records.open.clone()));
        Self { events: shared, records: of_records, len }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// An event by its number in the order of arrival.
    pub fn get(&self, number: usize) -> Option<&EventRow> {
        let chunk = self.events.get(number / CHUNK_ROWS)?;
        chunk.get(number % CHUNK_ROWS).filter(|_| number < self.len)
    }

    /// Events in the order of arrival.
    pub fn rows(&self, numbers: Range<usize>) -> impl Iterator<Item = &EventRow> {
        numbers.map_while(|number| self.get(number))
    }

    /// The encoded record of an event of these.
    pub fn record(&self, row: &EventRow) -> &[u8] {
        let [chunk, start, length] = row.place;
        self.records.get(chunk as usize).map_or(&[], |chunk| slice(chunk, start, length))
    }
}
