//! The replicated state of a shard, as apply sees it.
//!
//! Apply sees the active memtable, what was fetched for the batch, and the resident part (streams, meta). *Fetched*
//! are the rows below the active memtable (frozen, runs, control store) that a batch's commands name:
//! [`needs`](crate::apply::needs) finds out which, and they are read before the first is applied. From there to the batch's end nothing may be
//! frozen, so a key is either in the active memtable, or fetched, or nowhere.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use hashbrown::HashMap;
use isthmus_domain::{FacetId, Stamp};
use isthmus_identity::{Roots, stored::StoredRow};
use isthmus_proto::internal::v1::IdentityMessage;
use isthmus_raft::{Broken, ConfState};
use isthmus_storage::{
    StoreId,
    control::{Order, PAGE_ROWS_MAX, keys::KeyRange},
    keeper::{GroupMeta, Keeper as Storage},
    runs::RunSet,
};
use prost::Message as _;

use crate::{
    ShardMeta,
    below::{self, Below, Linked},
    error::broken,
    hash::Kind,
    keys, large,
    memtable::{DedupEntry, DedupKey, Memtable},
    outbox::{Streams, put},
    tables::DEDUP,
    touched::Touched,
    waits::Awaited,
};

/// What lies below the active memtable. Replaced as a whole; who holds one reads on from it.
#[derive(Clone)]
pub struct Lower {
    /// What is being written out.
    pub frozen: Option<Arc<Memtable>>,
    /// What was written out.
    pub runs: Arc<RunSet>,
    /// Rises when a write-out moves rows from `frozen` into `runs`.
    pub generation: u64,
}

/// Rows below the active memtable that a batch of commands needs.
#[derive(Debug, Default)]
pub struct Fetched {
    dedup: BTreeMap<DedupKey, DedupEntry>,
    rows: BTreeMap<Vec<u8>, Bytes>,
    /// Rows of identity resolution; `None`: there is none.
    identities: BTreeMap<Vec<u8>, Option<Bytes>>,
    /// Where all others lie.
    below: Option<Below>,
}

/// What a batch of commands may need.
#[derive(Debug, Default)]
pub struct Needs {
    /// Events that may have been taken in before.
    pub events: Vec<EventNeed>,
    /// Keys of control rows.
    pub rows: Vec<Vec<u8>>,
    /// Keys of rows of identity resolution.
    pub identities: Vec<Vec<u8>>,
}

/// An event that may have been taken in before.
#[derive(Clone, Copy, Debug)]
pub struct EventNeed {
    /// Its deduplication key.
    pub key: DedupKey,
    /// Hash of what it says.
    pub body_hash: [u8; 16],
    /// The id of the quarantine row that it gets if its key is known with another body.
    pub conflict: [u8; 16],
}

/// The state of a shard.
pub struct State {
    /// The shard.
    pub shard: u64,
    /// The store that holds what was written out.
    pub store: StoreId,
    /// The last applied entry's index.
    pub applied: u64,
    /// Its term.
    pub term: u64,
    /// The group's members as of that entry.
    pub conf: ConfState,
    /// Stamp, configuration, ownership, hash.
    pub meta: ShardMeta,
    /// What has been applied since the last freeze.
    pub active: Memtable,
    /// Messages to and from other shards.
    pub streams: Streams,
    /// Rows fetched for the batch under way.
    pub fetched: Fetched,
    /// The bundles of identifiers that are in use.
    pub roots: Roots,
    /// What identifiers of this shard have told each other within the command under way.
    pub local: VecDeque<IdentityMessage>,
    /// Whose record lies below the active memtable.
    pub(crate) linked: Linked,
    /// Identifiers among whose events facts are searched, with the search's number.
    pub searches: BTreeMap<FacetId, u64>,
    /// How often lists came to be served, or retractions to be done: who waits for that looks again.
    pub settled: u64,
    /// What has come to be done in the batch under way, of what answers wait for.
    pub(crate) done: Vec<Awaited>,
    /// What matching is to look at again.
    pub(crate) touched: Touched,
}

impl State {
    /// Loads a shard's resident state from storage.
    ///
    /// # Errors
    /// Storage that fails or holds what can't be read: the replica must not be opened.
    pub fn load(storage: &Storage, meta: &GroupMeta) -> Result<Self, Broken> {
        let store = StoreId(meta.store);
        let mut rows = Vec::new();
        for table in [keys::table::OUTBOX, keys::table::OUTBOX_LAST, keys::table::INBOX, keys::table::PART] {
            rows.extend(table_rows(storage, store, table)?);
        }
        let mut linked = Linked::default();
        for (key, _) in table_rows(storage, store, keys::table::RECORD)? {
            linked.insert(&key);
        }
        let searches = table_rows(storage, store, keys::table::SEARCH)?;
        let searches = searches.iter().filter_map(|(key, value)| search(key, value)).collect();
        Ok(Self {
            shard: meta.group,
            store,
            conf: isthmus_raft::decode_conf(&meta.conf_state).map_err(broken)?,
            applied: meta.applied_index,
            term: meta.applied_term,
            meta: ShardMeta::decode(meta.group, &meta.state).map_err(Broken::new)?,
            active: Memtable::default(),
            streams: Streams::load(rows).map_err(Broken::new)?,
            fetched: Fetched::default(),
            roots: Roots::default(),
            local: VecDeque::new(),
            linked,
            searches,
            settled: 0,
            done: Vec::new(),
            touched: Touched::default(),
        })
    }

    /// The deduplication entry of an event, if it has been taken in before.
    pub(crate) fn dedup(&self, key: &DedupKey) -> Option<DedupEntry> {
        self.active.dedup(key).or_else(|| self.fetched.dedup.get(key).copied())
    }

    /// A control row that the batch named beforehand.
    pub(crate) fn row(&self, key: &[u8]) -> Option<Bytes> {
        match self.active.rows.get(key) {
            Some(row) => row.cloned(),
            None => self.fetched.rows.get(key).cloned(),
        }
    }

    /// A row of identity resolution. What a batch doesn't name beforehand is read here: see [`Below`].
    pub(crate) fn identity_row(&self, key: &[u8]) -> Result<Option<Bytes>, Broken> {
        self.identity_row_over(key, self.fetched.below.as_ref())
    }

    /// The same, over what a reader holds of what lies below.
    pub(crate) fn identity_row_over(
        &self,
        key: &[u8],
        below: Option<&Below>,
    ) -> Result<Option<Bytes>, Broken> {
        let plain = |key: &[u8]| self.plain_row(key, below);
        match plain(key)? {
            Some(value) => large::join(key, value, plain)?
                .map_or_else(|| Err(Broken::new("a part of a row is missing")), |v| Ok(Some(v))),
            None => Ok(None),
        }
    }

    fn plain_row(&self, key: &[u8], below: Option<&Below>) -> Result<Option<Bytes>, Broken> {
        if let Some(row) = self.active.rows.get(key) {
            return Ok(row.cloned());
        }
        if let Some(row) = self.fetched.identities.get(key) {
            return Ok(row.clone());
        }
        if let Some(row) = self.fetched.rows.get(key) {
            return Ok(Some(row.clone()));
        }
        match below {
            Some(below) if self.may_lie_below(key) => below.get(key),
            _ => Ok(None),
        }
    }

    /// Rows of identity resolution with keys of a prefix above `after`, rising, at most `limit`.
    pub(crate) fn identity_rows(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, Broken> {
        self.identity_rows_over(prefix, after, limit, self.fetched.below.as_ref())
    }

    /// The same, over what a reader holds of what lies below.
    pub(crate) fn identity_rows_over(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        below: Option<&Below>,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, Broken> {
        let below = below.filter(|_| self.may_lie_below(prefix));
        let rows = below::merged(&self.active.rows, below, prefix, after, limit)?;
        let join = |(key, value): (Vec<u8>, Bytes)| {
            let whole = large::join(&key, value, |part| self.plain_row(part, below))?;
            Ok((key, whole.ok_or_else(|| Broken::new("a part of a row is missing"))?))
        };
        rows.into_iter().map(join).collect()
    }

    /// What lies below, for the batch under way.
    pub(crate) fn below(&self) -> Option<&Below> {
        self.fetched.below.as_ref()
    }

    /// Which of these rows may lie below the active memtable. Sorted, each once.
    pub(crate) fn identities_below(&self, mut keys: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        keys.retain(|key| self.may_lie_below(key) && self.active.rows.get(key).is_none());
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Whether rows of an identifier may have been written out: a new one needs no look at a disk.
    pub(crate) fn may_lie_below(&self, key: &[u8]) -> bool {
        use keys::table::{GROUP, GROUP_MEMBER, HALF_ROW, LINK_ROW, MEMBER_OF, PART};
        match key.first() {
            // Of a version without identity resolution, whose identifiers have no record.
            Some(&(LINK_ROW | HALF_ROW)) if self.meta.sweep.done == 0 => true,
            Some(&(PART | GROUP | GROUP_MEMBER | MEMBER_OF)) => true,
            _ => key.len() < 19 || self.linked.contains(key),
        }
    }

    /// Takes the active memtable away, to be written out.
    pub(crate) fn freeze(&mut self) -> Memtable {
        let mut frozen = std::mem::take(&mut self.active);
        (self.active.watch, self.active.journal) = (frozen.watch.take(), frozen.journal.take());
        for facet in frozen.rows.facets_in(keys::table::RECORD) {
            self.linked.insert(&isthmus_identity::keys::record(&facet));
        }
        frozen
    }

    /// Takes note of a change of a row that others look at from outside.
    pub(crate) fn note(&mut self, key: &[u8], value: Option<&Bytes>) {
        if self.touched.is_on()
            && let Some(&(keys::table::RECORD | keys::table::HOME)) = key.first()
            && let Some(facet) = isthmus_identity::keys::facet(key)
        {
            self.touched.add(facet);
        }
        match key.first() {
            Some(&keys::table::LINK_ROW) => {
                let row = value.and_then(|value| StoredRow::read(value).ok());
                if row.is_some_and(|row| row.is_settled()) {
                    self.done.extend(isthmus_identity::keys::link_row_key(key).map(Awaited::Link));
                    self.settled += 1;
                }
            }
            Some(&(keys::table::HOME | keys::table::RETRACTION)) => self.settled += 1,
            Some(&keys::table::SEARCH) => {
                let Some(facet) = isthmus_identity::keys::facet(key) else { return };
                match value.and_then(|value| search(key, value)) {
                    Some((_, number)) => _ = self.searches.insert(facet, number),
                    None => _ = self.searches.remove(&facet),
                }
            }
            _ => {}
        }
    }

    /// Puts a control row, given what it was.
    pub(crate) fn put_row(&mut self, key: Vec<u8>, before: Option<&[u8]>, after: Bytes) {
        put(&mut self.active, &mut self.meta.hash, key, before, Some(after));
    }

    /// Deletes a control row, given what it was.
    pub(crate) fn delete_row(&mut self, key: Vec<u8>, before: &[u8]) {
        put(&mut self.active, &mut self.meta.hash, key, Some(before), None);
    }

    /// Adds an accepted event, encoded.
    pub(crate) fn push_event(
        &mut self,
        facet: FacetId,
        key: DedupKey,
        timestamp: i64,
        entry: DedupEntry,
        record: &[u8],
    ) -> Result<(), Broken> {
        self.meta.hash.add(Kind::Event, &key, &entry.to_bytes());
        self.active.push_event(facet, key, timestamp, entry, record).map_err(broken)?;
        if self.active.journal.is_some() {
            let row = isthmus_identity::keys::record(&facet);
            let is_linked = self.active.rows.get(&row).is_some() || self.linked.contains(&row);
            if let Some(journal) = self.active.journal.as_mut().filter(|_| is_linked) {
                journal.of_linked();
            }
        }
        Ok(())
    }

    /// The stamp of a command: above all before it and all that it brings.
    pub(crate) fn next_stamp(&mut self, proposed: u64, brought: Stamp) -> Stamp {
        let proposed = i64::try_from(proposed).unwrap_or(i64::MAX);
        self.meta.stamp = Stamp::next(proposed, self.meta.stamp.max(brought));
        if let Some(watch) = &mut self.active.watch {
            watch.command(self.meta.stamp);
        }
        if let Some(journal) = &mut self.active.journal {
            journal.command(self.meta.stamp);
        }
        self.meta.stamp
    }
}

impl Fetched {
    /// Takes in the entries of the keys that are needed: from the frozen memtable, and those read from disk.
    pub(crate) fn set_dedup(
        &mut self,
        lower: &Lower,
        needs: &Needs,
        on_disk: BTreeMap<DedupKey, DedupEntry>,
    ) {
        self.dedup = on_disk;
        if let Some(frozen) = &lower.frozen {
            let entries =
                needs.events.iter().filter_map(|event| Some((event.key, frozen.dedup(&event.key)?)));
            self.dedup.extend(entries);
        }
    }

    /// Takes in rows of identity resolution, and where all others lie.
    pub(crate) fn set_below(&mut self, rows: BTreeMap<Vec<u8>, Option<Bytes>>, below: Below) {
        (self.identities, self.below) = (rows, Some(below));
    }

    /// Takes in control rows.
    pub(crate) fn set_rows(&mut self, rows: BTreeMap<Vec<u8>, Bytes>) {
        self.rows = rows;
    }
}

/// An identifier among whose events is searched.
fn search(key: &[u8], value: &[u8]) -> Option<(FacetId, u64)> {
    Some((isthmus_identity::keys::facet(key)?, u64::decode(value).ok()?))
}

/// Which deduplication entries may lie in runs: by the filters, from memory alone. Sorted, each once.
pub(crate) fn on_disk(lower: &Lower, needs: &Needs) -> Vec<DedupKey> {
    let frozen = |key: &DedupKey| lower.frozen.as_ref().is_some_and(|frozen| frozen.dedup(key).is_some());
    let keys = needs.events.iter().map(|event| event.key);
    let mut keys: Vec<DedupKey> =
        keys.filter(|key| lower.runs.may_contain(DEDUP, key) && !frozen(key)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Reads deduplication entries from runs. Waits for a disk.
pub(crate) fn read_dedup(
    lower: &Lower,
    keys: Vec<DedupKey>,
) -> Result<BTreeMap<DedupKey, DedupEntry>, Broken> {
    let slices: Vec<&[u8]> = keys.iter().map(DedupKey::as_slice).collect();
    let found = lower.runs.flat_get_sorted(DEDUP, &slices).map_err(broken)?;
    let mut entries = BTreeMap::new();
    for (key, value) in keys.iter().zip(found) {
        if let Some(value) = value {
            let entry =
                DedupEntry::from_slice(&value).ok_or_else(|| broken("a deduplication entry is damaged"))?;
            entries.insert(*key, entry);
        }
    }
    Ok(entries)
}

/// Adds the rows of conflicts: events that are known, or will be by then, with another body.
pub(crate) fn conflicts(state: &State, fetched: &Fetched, needs: &mut Needs) {
    let mut seen: HashMap<DedupKey, [u8; 16]> = HashMap::with_capacity(needs.events.len());
    for event in &needs.events {
        let known = state.active.dedup(&event.key).or_else(|| fetched.dedup.get(&event.key).copied());
        let first =
            known.map(|entry| entry.body_hash).unwrap_or(*seen.entry(event.key).or_insert(event.body_hash));
        if first != event.body_hash {
            needs.rows.push(keys::quarantine(&event.conflict));
        }
    }
}

/// Reads control rows from below the active memtable. Waits for a disk.
pub(crate) fn read_rows(
    storage: &Storage,
    store: StoreId,
    lower: &Lower,
    keys: Vec<Vec<u8>>,
) -> Result<BTreeMap<Vec<u8>, Bytes>, Broken> {
    let mut rows = BTreeMap::new();
    for key in keys {
        let row = match lower.frozen.as_ref().and_then(|frozen| frozen.rows.get(&key)) {
            Some(row) => row.cloned(),
            None => storage.get(store, &key).map_err(broken)?,
        };
        if let Some(row) = row {
            rows.insert(key, row);
        }
    }
    Ok(rows)
}

/// All control rows of a table, page by page.
///
/// # Errors
/// Storage that fails or is damaged.
pub(crate) fn table_rows(
    storage: &Storage,
    store: StoreId,
    table: u8,
) -> Result<Vec<(Bytes, Bytes)>, Broken> {
    let mut range = KeyRange::prefix(&[table]);
    let mut rows = Vec::new();
    loop {
        let page = storage.scan(store, &range, Order::Ascending, PAGE_ROWS_MAX).map_err(broken)?;
        if let Some((last, _)) = page.rows.last().filter(|_| page.more) {
            range.start = last.to_vec();
            range.start.push(0);
        }
        rows.extend(page.rows);
        if !page.more {
            return Ok(rows);
        }
    }
}

/// Decodes a stored command.
///
/// # Errors
/// An entry that is no command: the log is damaged, or a newer version wrote it.
pub fn decode(data: Bytes) -> Result<isthmus_proto::internal::v1::ShardCommand, Broken> {
    isthmus_proto::internal::v1::ShardCommand::decode(data)
        .map_err(|error| broken(format!("a log entry is not a shard command: {error}")))
}
