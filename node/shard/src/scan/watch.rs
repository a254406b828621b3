//! What apply remembers while somebody holds a pin: how control rows were before they changed, and memtables that were
//! active since.
//!
//! It lies in the active memtable, since that is where all control rows change (`outbox::put`), and goes on to the next
//! one at a freeze. There is none while there is no pin, so apply pays one look at an empty pointer.
//!
//! **What is kept.** Of each row that changes, what it was before each command that changed it, with that command's
//! stamp: its value at a stamp T is what it was before the first change above T, or else what it is now. While a pin has
//! no snapshot yet, T may be any stamp, so every change counts. Once all have one, a row's first change above the latest
//! of them is enough. What no pin can ask for any more goes when it has come to much. What is kept is bounded by
//! [`BYTES_MAX`]: beyond it the oldest pins end, and apply goes on.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use isthmus_domain::{SlotRanges, Stamp};
use isthmus_storage::control::keys::KeyRange;

use crate::{keys::table, memtable::Memtable};

/// Bytes of rows that are kept of one shard.
const BYTES_MAX: usize = 64 << 20;
/// So much may be kept before it is looked through for what nobody needs.
const TRIM_BYTES: usize = 1 << 20;
/// What an entry costs besides key and value, about.
const ENTRY_BYTES: usize = 96;
/// Tables whose rows are part of a snapshot.
const TABLES: [u8; 6] =
    [table::RECORD, table::HOME, table::LINK_ROW, table::QUARANTINE, table::QUARANTINE_PART, table::PART];

/// A pin as apply knows it.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// The number of the memtable that was active when it was made.
    memtable: u64,
    /// The stamp that was there then.
    begun: Stamp,
    /// The stamp of its snapshot, once it has one.
    fixed: Option<Stamp>,
}

impl Held {
    /// Changes up to this stamp are of no use to it.
    fn from(&self) -> Stamp {
        self.fixed.unwrap_or(self.begun)
    }
}

/// What changed, by key: the stamp of the change, and what was there before; oldest first.
type Before = VecDeque<(Stamp, Option<Bytes>)>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pins: BTreeMap<u64, Held>,
    /// The stamp of the command under way.
    now: Stamp,
    rows: BTreeMap<Vec<u8>, Before>,
    bytes: usize,
    /// What was left when rows that nobody asks for were let go last.
    trimmed_bytes: usize,
    /// What was let go: to be given back where nobody waits.
    trash: Vec<(Stamp, Option<Bytes>)>,
    /// The slots that the shard owned before commands that changed that.
    owned: Vec<(Stamp, SlotRanges)>,
    /// How many memtables were frozen since it began; the next one's number.
    active: u64,
    /// Those that a pin without a snapshot needs, with their numbers.
    frozen: Vec<(u64, Arc<Memtable>)>,
}

impl Watch {
    /// Begins to watch, at a state's stamp.
    pub fn begin(now: Stamp) -> Self {
        Self { now, ..Self::default() }
    }

    /// Takes a pin.
    pub fn pin(&mut self, id: u64) {
        let held = Held { memtable: self.active, begun: self.now, fixed: None };
        self.pins.insert(id, held);
    }

    /// Whether a pin is held.
    pub fn holds(&self, id: u64) -> bool {
        self.pins.contains_key(&id)
    }

    /// Notes that a pin has a snapshot at a stamp; gives the memtables that were active since it was made, but for the
    /// one that still is.
    pub fn fix(&mut self, id: u64, at: Stamp) -> Option<Vec<Arc<Memtable>>> {
        let held = self.pins.get_mut(&id)?;
        held.fixed = Some(at);
        let from = held.memtable;
        let memtables = self.frozen.iter().filter(|(number, _)| *number >= from);
        let memtables = memtables.map(|(_, memtable)| memtable.clone()).collect();
        self.let_memtables_go();
        Some(memtables)
    }

    /// Lets a pin go. Whether any is left; and what to drop without the lock that apply takes.
    pub fn unpin(&mut self, id: u64) -> (bool, impl Sized + use<>) {
        self.pins.remove(&id);
        self.let_memtables_go();
        if self.bytes > TRIM_BYTES.max(2 * self.trimmed_bytes) {
            self.trim();
        }
        (!self.pins.is_empty(), std::mem::take(&mut self.trash))
    }

    /// Lets go of what no pin can ask for any more.
    fn trim(&mut self) {
        let from = self.pins.values().map(Held::from).min().unwrap_or(Stamp(u64::MAX));
        let (bytes, trash) = (&mut self.bytes, &mut self.trash);
        self.rows.retain(|key, row| {
            while row.front().is_some_and(|(stamp, _)| *stamp <= from) {
                let Some(change) = row.pop_front() else { break };
                *bytes = bytes.saturating_sub(entry_bytes(key, change.1.as_ref()));
                trash.push(change);
            }
            !row.is_empty()
        });
        self.trimmed_bytes = self.bytes;
    }

    /// Ends the oldest pins until what is kept is within its bound.
    fn end_oldest(&mut self) {
        self.trim();
        while self.bytes > BYTES_MAX
            && let Some(oldest) = self.pins.iter().min_by_key(|(_, held)| held.from()).map(|(id, _)| *id)
        {
            tracing::warn!("too much has changed: a snapshot that was being read for long is given up");
            self.pins.remove(&oldest);
            self.trim();
        }
        self.let_memtables_go();
    }

    /// A command begins.
    pub fn command(&mut self, stamp: Stamp) {
        self.now = stamp;
    }

    /// The active memtable was frozen.
    pub fn frozen(&mut self, memtable: &Arc<Memtable>) {
        if self.open() {
            self.frozen.push((self.active, memtable.clone()));
        }
        self.active += 1;
    }

    /// A control row changes.
    pub fn changes(&mut self, key: &[u8], before: Option<&[u8]>) {
        if self.pins.is_empty() || !key.first().is_some_and(|table| TABLES.contains(table)) {
            return;
        }
        let last = self.rows.get(key).and_then(|row| row.back()).map(|(stamp, _)| *stamp);
        if last == Some(self.now) || (!self.open() && last.is_some_and(|last| last > self.latest())) {
            return;
        }
        let before = before.map(Bytes::copy_from_slice);
        self.bytes += entry_bytes(key, before.as_ref());
        self.rows.entry(key.to_vec()).or_default().push_back((self.now, before));
        if self.bytes > BYTES_MAX {
            self.end_oldest();
        }
    }

    /// The slots that the shard owns change.
    pub fn slots_change(&mut self, before: &SlotRanges) {
        self.owned.push((self.now, before.clone()));
    }

    /// The slots that it owned at a stamp, given those that it owns now.
    pub fn owned_at(&self, at: Stamp, now: &SlotRanges) -> SlotRanges {
        self.owned.iter().find(|(stamp, _)| *stamp > at).map_or(now, |(_, owned)| owned).clone()
    }

    /// What a row was at a stamp; `None` when it has not changed since.
    pub fn row_at(&self, key: &[u8], at: Stamp) -> Option<Option<Bytes>> {
        value_at(self.rows.get(key)?, at)
    }

    /// The rows of a range that have changed since a stamp, with what they were, rising.
    pub fn rows_at<'a>(
        &'a self,
        range: &KeyRange,
        at: Stamp,
    ) -> impl Iterator<Item = (&'a Vec<u8>, Option<Bytes>)> {
        let end = range.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.rows.range((Bound::Included(range.start.clone()), end));
        rows.filter_map(move |(key, row)| Some((key, value_at(row, at)?)))
    }

    /// How many rows it keeps, and how many memtables: for tests.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize) {
        (self.rows.values().map(VecDeque::len).sum(), self.frozen.len())
    }

    /// Whether some pin has no snapshot yet.
    fn open(&self) -> bool {
        self.pins.values().any(|held| held.fixed.is_none())
    }

    /// The latest stamp of a snapshot.
    fn latest(&self) -> Stamp {
        self.pins.values().filter_map(|held| held.fixed).max().unwrap_or_default()
    }

    fn let_memtables_go(&mut self) {
        let open = self.pins.values().filter(|held| held.fixed.is_none());
        let needed = open.map(|held| held.memtable).min().unwrap_or(u64::MAX);
        self.frozen.retain(|(number, _)| *number >= needed);
    }
}

fn entry_bytes(key: &[u8], before: Option<&Bytes>) -> usize {
    ENTRY_BYTES + key.len() + before.map_or(0, Bytes::len)
}

fn value_at(row: &Before, at: Stamp) -> Option<Option<Bytes>> {
    row.iter().find(|(stamp, _)| *stamp > at).map(|(_, before)| before.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] = &[table::RECORD, 1];

    fn change(watch: &mut Watch, stamp: u64, before: &'static [u8]) {
        watch.command(Stamp(stamp));
        watch.changes(ROW, Some(before));
    }

    #[test]
    fn a_row_is_what_it_was_before_the_first_change_above_a_stamp() {
        let mut watch = Watch::begin(Stamp(10));
        watch.pin(1);
        for (stamp, before) in [(11, b"a"), (11, b"x"), (13, b"b"), (15, b"c")] {
            change(&mut watch, stamp, before);
        }
        let at = |stamp| watch.row_at(ROW, Stamp(stamp)).map(Option::unwrap);
        assert_eq!(
            [10, 11, 12, 13, 14, 15].map(at),
            [Some("a"), Some("b"), Some("b"), Some("c"), Some("c"), None].map(|v| v.map(Bytes::from))
        );
        assert_eq!(watch.kept().0, 3, "of one command the first change counts");
    }

    #[test]
    fn what_no_snapshot_can_ask_for_is_not_kept() {
        let mut watch = Watch::begin(Stamp(10));
        change(&mut watch, 11, b"a");
        assert_eq!(watch.kept().0, 0, "no pin");
        watch.pin(1);
        change(&mut watch, 12, b"a");
        watch.fix(1, Stamp(13));
        for stamp in 14..20 {
            change(&mut watch, stamp, b"b");
        }
        assert_eq!(watch.kept().0, 2, "once above the snapshot");
        watch.changes(&[table::OUTBOX, 1], None);
        assert_eq!(watch.kept().0, 2, "messages are no part of a snapshot");
        watch.pin(2);
        change(&mut watch, 20, b"c");
        assert_eq!(watch.kept().0, 3);
    }

    #[test]
    fn memtables_are_kept_for_pins_without_a_snapshot_alone() {
        let mut watch = Watch::begin(Stamp(1));
        let memtable = Arc::new(Memtable::default());
        watch.frozen(&memtable);
        watch.pin(1);
        watch.frozen(&memtable);
        watch.pin(2);
        watch.frozen(&memtable);
        assert_eq!(watch.kept().1, 2);
        assert_eq!(watch.fix(2, Stamp(5)).map(|it| it.len()), Some(1));
        assert_eq!(watch.kept().1, 2);
        assert_eq!(watch.fix(1, Stamp(5)).map(|it| it.len()), Some(2));
        watch.frozen(&memtable);
        assert_eq!(watch.kept().1, 0);
        assert!(watch.unpin(1).0 && !watch.unpin(2).0);
    }

    #[test]
    fn pins_that_overlap_keep_no_more_than_they_need() {
        let mut watch = Watch::begin(Stamp(1));
        watch.pin(0);
        for pin in 1..100_u64 {
            watch.command(Stamp(10 * pin));
            watch.pin(pin);
            watch.fix(pin, Stamp(10 * pin));
            watch.unpin(pin - 1);
            for change in 1..5 {
                watch.command(Stamp(10 * pin + change));
                watch.changes(&[table::RECORD, change as u8], Some(&vec![0; 1 << 20]));
            }
        }
        assert!(watch.holds(99));
        assert!(watch.kept().0 <= 12, "{:?}", watch.kept());
        assert_eq!(watch.row_at(&[table::RECORD, 1], Stamp(990)), Some(Some(Bytes::from(vec![0; 1 << 20]))));
    }

    #[test]
    fn too_many_changes_end_the_oldest_pins() {
        let mut watch = Watch::begin(Stamp(1));
        watch.pin(1);
        watch.fix(1, Stamp(1));
        for stamp in 2..12 {
            if stamp == 7 {
                watch.pin(2);
                watch.fix(2, Stamp(6));
            }
            watch.command(Stamp(stamp));
            watch.changes(&[table::RECORD, stamp as u8], Some(&vec![0; 8 << 20]));
        }
        assert!(!watch.holds(1) && watch.holds(2));
        assert_eq!(watch.kept().0, 5, "what came after the stamp of the second");
    }

    #[test]
    fn too_many_changes_end_all_pins() {
        let mut watch = Watch::begin(Stamp(1));
        watch.pin(1);
        for stamp in 2..20 {
            watch.command(Stamp(stamp));
            watch.changes(ROW, Some(&vec![0; 8 << 20]));
        }
        assert!(!watch.holds(1));
        assert_eq!(watch.kept(), (0, 0));
    }
}
