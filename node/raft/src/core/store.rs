//! What raft-rs sees of a group's log: recent entries in memory, the rest in the node's [`Log`].
//!
//! raft-rs demands that what a `Ready` holds can be read back before it is synced, so entries go into the cache
//! when they are handed to the log writer, and those that aren't synced yet are never evicted. Hence the log on
//! disk is only asked for entries that are known to be there.
//!
//! Before an election raft-rs reads every entry that is committed and not applied, only to see whether one changes the
//! members: after a restart that can be all of the log. It is answered from memory, with entries of no payload.
//!
//! Invariants: cached entries are consecutive and end at `last`; an entry above `pinned_from` (the first that may
//! not be synced) is in the cache; `base <= last`.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    ops::Range,
    sync::Arc,
};

use isthmus_storage::log::{EntryId, Log};
use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot},
};

use crate::types::GroupId;

/// What an entry takes besides its payload, roughly, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// The bytes that an entry is counted with, in every budget of this crate.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD_BYTES
}

/// The state of the log at the start.
pub(super) struct Loaded {
    pub(super) base: EntryId,
    pub(super) last: u64,
    pub(super) hard_state: HardState,
    pub(super) conf: ConfState,
}

/// What raft-rs gets when it asks for committed entries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HandOut {
    /// The next ones.
    Next,
    /// None: those handed out before have to be applied first.
    Withhold,
}

/// A finished snapshot, as raft-rs wants it, and when it was last asked for.
struct Offer {
    snapshot: Snapshot,
    asked_tick: u64,
}

/// raft-rs's view of one group's log.
pub(super) struct Store {
    group: GroupId,
    log: Arc<dyn Log>,
    loaded: Loaded,
    base: EntryId,
    last: u64,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    cache_bytes_max: usize,
    /// Bytes appended since the start, and that sum at some indexes: tells how many bytes lie behind an index.
    appended_bytes: u64,
    marks: VecDeque<(u64, u64)>,
    /// Set while a `Ready` is made: raft-rs then asks for committed entries to hand out, and gets some or none.
    pub(super) handing_out: Option<HandOut>,
    /// Indexes of changes of members in the log, and the entries that aren't known to be one or not: those that were
    /// in the log at the start and have not been handed out.
    conf_changes: RefCell<BTreeSet<u64>>,
    unknown: RefCell<Range<u64>>,
    /// The core's tick, for the age of a snapshot.
    pub(super) tick: u64,
    offer: RefCell<Option<Offer>>,
    wanted: Cell<bool>,
}

impl Store {
    pub(super) fn new(
        group: GroupId,
        log: Arc<dyn Log>,
        loaded: Loaded,
        applied: u64,
        cache_bytes_max: usize,
    ) -> Self {
        Self {
            handing_out: None,
            conf_changes: RefCell::default(),
            unknown: RefCell::new(applied + 1..loaded.last + 1),
            group,
            log,
            base: loaded.base,
            last: loaded.last,
            loaded,
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_bytes_max,
            appended_bytes: 0,
            marks: VecDeque::new(),
            tick: 0,
            offer: RefCell::new(None),
            wanted: Cell::new(false),
        }
    }

    /// The entry before the first.
    pub(super) fn base(&self) -> EntryId {
        self.base
    }

    /// Takes entries that were handed to the log writer; they replace what is there from the first one's index on.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        const MARK_EVERY_BYTES: u64 = 256 << 10;
        let Some(first) = entries.first() else { return };
        while let Some(back) = self.cache.pop_back_if(|back| back.index >= first.index) {
            self.cache_bytes -= entry_bytes(&back);
        }
        while self.marks.pop_back_if(|(index, _)| *index >= first.index).is_some() {}
        self.conf_changes.get_mut().split_off(&first.index);
        let unknown = self.unknown.get_mut();
        unknown.end = unknown.end.min(first.index);
        for entry in entries {
            let bytes = entry_bytes(entry);
            self.cache_bytes += bytes;
            self.appended_bytes += bytes as u64;
            let marked = self.marks.back().map_or(0, |(_, bytes)| *bytes);
            if self.appended_bytes - marked >= MARK_EVERY_BYTES {
                self.marks.push_back((entry.index, self.appended_bytes));
            }
            self.last = entry.index;
            if entry.get_entry_type() != EntryType::EntryNormal {
                self.conf_changes.get_mut().insert(entry.index);
            }
            self.cache.push_back(entry.clone());
        }
    }

    /// Forgets all entries: a snapshot takes their place.
    pub(super) fn reset(&mut self, base: EntryId) {
        self.cache.clear();
        self.cache_bytes = 0;
        self.marks.clear();
        self.conf_changes.get_mut().clear();
        *self.unknown.get_mut() = 0..0;
        self.base = base;
        self.last = base.index;
    }

    /// Drops cached entries over the budget, the oldest first, but none after `synced`.
    pub(super) fn evict(&mut self, synced: u64) {
        while self.cache_bytes > self.cache_bytes_max
            && let Some(front) = self.cache.pop_front_if(|front| front.index <= synced)
        {
            self.cache_bytes -= entry_bytes(&front);
        }
    }

    /// The log begins after `base` from now on.
    pub(super) fn compacted(&mut self, base: EntryId) {
        self.base = base;
        while let Some(front) = self.cache.pop_front_if(|front| front.index <= base.index) {
            self.cache_bytes -= entry_bytes(&front);
        }
        while self.marks.pop_front_if(|(index, _)| *index <= base.index).is_some() {}
        *self.conf_changes.get_mut() = self.conf_changes.get_mut().split_off(&(base.index + 1));
    }

    /// The largest index with at least `keep_bytes` behind it, as far as marks tell; the base if there is none.
    pub(super) fn index_with_bytes_behind(&self, keep_bytes: u64) -> u64 {
        let found = self.marks.iter().rev().find(|(_, bytes)| self.appended_bytes - bytes >= keep_bytes);
        found.map_or(self.base.index, |(index, _)| *index)
    }

    /// Roughly the bytes between the base and `index`, of entries appended since the start.
    pub(super) fn bytes_up_to(&self, index: u64) -> u64 {
        let Some((_, first)) = self.marks.front() else { return 0 };
        let upto = self.marks.iter().take_while(|(at, _)| *at <= index).last();
        upto.map_or(0, |(_, bytes)| bytes - first)
    }

    /// Whether raft-rs asked for a snapshot that isn't there; asking clears it.
    pub(super) fn take_snapshot_wanted(&self) -> bool {
        self.wanted.replace(false)
    }

    /// Offers a snapshot from now on, or none.
    pub(super) fn offer(&mut self, snapshot: Option<Snapshot>) {
        let asked_tick = self.tick;
        *self.offer.get_mut() = snapshot.map(|snapshot| Offer { snapshot, asked_tick });
    }

    /// Index of the offered snapshot, and the tick at which it was last asked for.
    pub(super) fn offered(&self) -> Option<(u64, u64)> {
        let offer = self.offer.borrow();
        offer.as_ref().map(|offer| (offer.snapshot.get_metadata().index, offer.asked_tick))
    }

    /// Entries from `low` on, without `high`, without payloads; the changes of members alone if that is enough. One
    /// that isn't known might be a change.
    fn kinds(&self, low: u64, high: u64) -> Vec<Entry> {
        let change = |index| {
            let mut entry = Entry { index, ..Default::default() };
            entry.set_entry_type(EntryType::EntryConfChangeV2);
            entry
        };
        let unknown = self.unknown.borrow();
        if low.max(unknown.start) < high.min(unknown.end) {
            return vec![change(low.max(unknown.start))];
        }
        let changes = self.conf_changes.borrow();
        if high <= self.last {
            return changes.range(low..high).copied().map(change).collect();
        }
        // raft-rs goes on with what it hasn't handed over yet only if it gets all up to there.
        let normal = |index| Entry { index, ..Default::default() };
        (low..high)
            .map(|index| if changes.contains(&index) { change(index) } else { normal(index) })
            .collect()
    }

    /// Whether a change of members may be among the entries from `low` on, without `high`.
    pub(super) fn may_change_members(&self, low: u64, high: u64) -> bool {
        let unknown = self.unknown.borrow();
        low.max(unknown.start) < high.min(unknown.end)
            || low < high && self.conf_changes.borrow().range(low..high).next().is_some()
    }

    /// Entries are handed out in order: what they are is known from now on.
    fn handed_out(&self, entries: &[Entry]) {
        let mut unknown = self.unknown.borrow_mut();
        for entry in entries.iter().filter(|entry| unknown.contains(&entry.index)) {
            if entry.get_entry_type() != EntryType::EntryNormal {
                self.conf_changes.borrow_mut().insert(entry.index);
            }
        }
        if let Some(last) = entries.last() {
            unknown.start = unknown.start.max(last.index + 1);
        }
    }

    fn read(&self, low: u64, high: u64, max_bytes: u64) -> raft::Result<Vec<Entry>> {
        self.log.entries(self.group, low, high, max_bytes).map_err(|error| match error {
            isthmus_storage::Error::Compacted { .. } => raft::Error::Store(StorageError::Compacted),
            other => raft::Error::Store(StorageError::Other(Box::new(other))),
        })
    }
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.loaded.hard_state.clone(), self.loaded.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if self.handing_out == Some(HandOut::Withhold) {
            return Ok(Vec::new());
        }
        if low <= self.base.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        // Entries to send may be fetched asynchronously, as raft-rs sees it; those to hand out come with a `Ready`;
        // else it only looks for changes of members.
        if self.handing_out.is_none() && !context.can_async() {
            return Ok(self.kinds(low, high));
        }
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        let cached_from = self.cache.front().map_or(self.last + 1, |front| front.index);
        let mut entries = Vec::new();
        if low < cached_from {
            entries = self.read(low, high.min(cached_from), max_bytes)?;
            if self.handing_out.is_some() {
                self.handed_out(&entries);
            }
        }
        let mut bytes: u64 = entries.iter().map(|entry| entry_bytes(entry) as u64).sum();
        let next = low + entries.len() as u64;
        if next < cached_from {
            return Ok(entries);
        }
        for entry in self.cache.range((next - cached_from) as usize..(high.max(next) - cached_from) as usize)
        {
            bytes += entry_bytes(entry) as u64;
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.index {
            return Ok(self.base.term);
        }
        if index < self.base.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if index > self.last {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        match self.cache.front() {
            Some(front) if front.index <= index => Ok(self.cache[(index - front.index) as usize].term),
            _ => self
                .log
                .term(self.group, index)
                .map_err(|error| raft::Error::Store(StorageError::Other(Box::new(error)))),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let mut offer = self.offer.borrow_mut();
        if let Some(offer) = offer.as_mut() {
            let meta = offer.snapshot.get_metadata();
            let (index, conf) = (meta.index, meta.get_conf_state());
            // One from before the peer joined: raft-rs would refuse it there, and ask for it again, for ever.
            let knows_peer =
                [&conf.voters, &conf.learners, &conf.voters_outgoing].iter().any(|list| list.contains(&to));
            // One that ends before our log begins leads nowhere: the entries after it are gone.
            if knows_peer && index >= request_index && index >= self.base.index {
                offer.asked_tick = self.tick;
                return Ok(offer.snapshot.clone());
            }
        }
        self.wanted.set(true);
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
