//! A replica without Raft: a log in memory in front of a [`Machine`] on in-memory engines, which can be crashed.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part, and a test may panic")]

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use isthmus_domain::{
    AcceptContext, BlockedValues, EventRecord, FacetId, IdentityKey, Limits, QuarantineEntry, RawItem,
    ReplicaId, ShardMap, SlotRange, SourceView, Stamp, accept,
};
use isthmus_proto::internal::v1::{
    CommandItem, IngestCommand, Member, SetConfigCommand, ShardCommand, command_item::Body, feed_change,
    shard_command::Command,
};
use isthmus_raft::{Committed, PeerId, SnapshotSource, StagedSnapshot, StateMachine as _};
use isthmus_shard::{
    Freezer, Keeper, KeeperOptions, Machine, Shared, StateHash,
    apply::Outcome,
    feed::{Filter, Place},
    read::{self, FeedPart, FeedQuery},
    tables,
};
use isthmus_storage::{
    control::{MemoryControl, Order, keys::KeyRange},
    keeper::{Keeper as Storage, KeeperOptions as StorageOptions},
    runs::{MemoryRuns, RunOptions},
};
use prost::Message as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The identity key of all tests.
pub const KEY: [u8; 32] = [7; 32];
/// The clock of all tests stands still here: 2026-01-01T00:00:00Z.
pub const NOW: i64 = 1_767_225_600_000_000;

/// A replica and what survives its crash: its log and its engines.
pub struct Replica {
    pub shard: u64,
    pub log: Vec<Bytes>,
    control: Arc<MemoryControl>,
    runs: Arc<MemoryRuns>,
    storage: Option<Arc<Storage>>,
    machine: Option<Machine>,
    stop: CancellationToken,
    tracker: TaskTracker,
    applied: u64,
}

impl Replica {
    /// An empty replica of a shard, which owns nothing yet.
    pub fn new(shard: u64) -> Self {
        let mut replica = Self {
            shard,
            log: Vec::new(),
            control: Arc::new(MemoryControl::new()),
            runs: MemoryRuns::new(RunOptions::default()).unwrap(),
            storage: None,
            machine: None,
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            applied: 0,
        };
        replica.open();
        replica
    }

    /// A replica of the only shard there is.
    pub async fn alone() -> Self {
        let mut replica = Self::new(1);
        replica.configure(1, &map(1)).await;
        replica
    }

    fn open(&mut self) {
        let storage = Storage::open(
            Path::new("/keeper"),
            self.control.clone(),
            self.runs.clone(),
            tables(),
            StorageOptions::default(),
        )
        .unwrap();
        let storage = Arc::new(storage);
        let meta = match storage.group(self.shard).unwrap() {
            Some(meta) => meta,
            None => storage.create_group(self.shard, 1, Bytes::new(), Bytes::new()).unwrap(),
        };
        self.storage = Some(storage.clone());
        let keeper = Keeper::start(storage, KeeperOptions::default(), &self.tracker, self.stop.clone());
        let machine =
            Machine::load(&keeper, &meta, "/snapshots".into(), self.tracker.clone(), 1 << 20).unwrap();
        self.applied = meta.applied_index;
        self.machine = Some(machine);
    }

    /// Loses all memory, loads what was written out and applies the rest of the log again.
    pub async fn crash(&mut self) {
        (self.machine, self.storage) = (None, None);
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        (self.stop, self.tracker) = (CancellationToken::new(), TaskTracker::new());
        self.open();
        self.apply_log().await;
    }

    async fn apply_log(&mut self) -> Option<Outcome> {
        let machine = self.machine.as_mut().unwrap();
        let entries: Vec<Committed> = (self.applied + 1..=self.log.len() as u64)
            .map(|index| Committed { index, term: 1, data: self.log[index as usize - 1].clone() })
            .collect();
        machine.prepare(&entries).await.unwrap();
        let mut last = None;
        for entry in entries {
            self.applied = entry.index;
            last = Some(machine.apply(entry).unwrap());
        }
        machine.batch_end();
        last
    }

    /// Appends a command and applies it.
    pub async fn propose(&mut self, command: Command) -> Outcome {
        self.propose_at(NOW as u64, command).await
    }

    /// The same, with another proposal for the stamp.
    pub async fn propose_at(&mut self, stamp: u64, command: Command) -> Outcome {
        let command = ShardCommand { stamp, command: Some(command) };
        self.log.push(command.encode_to_vec().into());
        self.apply_log().await.unwrap()
    }

    /// Applies another's log, or the beginning of it.
    pub async fn replay(&mut self, log: &[Bytes]) {
        self.log.extend_from_slice(log);
        if !log.is_empty() {
            self.apply_log().await;
        }
    }

    /// Appends commands without applying them, to be applied as one batch with the next.
    pub fn append(&mut self, command: Command) {
        let command = ShardCommand { stamp: NOW as u64, command: Some(command) };
        self.log.push(command.encode_to_vec().into());
    }

    pub async fn configure(&mut self, version: u64, map: &ShardMap) {
        let set = SetConfigCommand { version, shard_map: map.encode().into(), ..SetConfigCommand::default() };
        self.propose(Command::SetConfig(set)).await;
    }

    /// Ingests items; outcomes by item.
    pub async fn ingest(&mut self, items: Vec<CommandItem>) -> Vec<u8> {
        match self.propose(Command::Ingest(IngestCommand { items })).await {
            Outcome::Ingested(ingested) => ingested.outcomes,
            other => panic!("{other:?}"),
        }
    }

    /// Freezes and writes out.
    pub async fn write_out(&self) {
        Freezer::of(self.shared()).write_out().await.unwrap();
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.machine.as_ref().unwrap().shared()
    }

    /// Control rows of a table that were written out.
    pub fn stored_rows(&self, table: u8) -> Vec<(Vec<u8>, Bytes)> {
        let shared = self.shared();
        let store = shared.state.read().store;
        let mut range = KeyRange::prefix(&[table]);
        let mut rows = Vec::new();
        loop {
            let page = self.storage.as_ref().unwrap().scan(store, &range, Order::Ascending, 1_000).unwrap();
            rows.extend(page.rows.into_iter().map(|(key, value)| (key.to_vec(), value)));
            match rows.last() {
                Some((last, _)) if page.more => range.start = [last.as_slice(), &[0]].concat(),
                _ => return rows,
            }
        }
    }

    /// Says what a snapshot holds, and puts it in place of the state, as on a replica that has just come.
    pub async fn reinstall(&mut self) {
        let machine = self.machine.as_mut().unwrap();
        let source = machine.snapshot().await.unwrap();
        let SnapshotSource { position, manifest, dir, files } = source;
        let staged = StagedSnapshot { from: PeerId(2), position, manifest, dir, files };
        machine.install(staged).await.unwrap();
    }

    /// Changes of the feed behind a place, at most `limit`; `Err` when it isn't kept.
    pub fn feed_after(&self, after: Place, limit: usize) -> FeedPart {
        let ranges = vec![(SlotRange::ALL, after)];
        read::feed(&self.shared(), &FeedQuery { ranges, filter: Filter::default(), limit }).unwrap()
    }

    /// All changes of the feed, read in steps: place, facet, and the event's message id or who came and left.
    pub fn feed(&self, step: usize) -> Vec<(Place, Bytes, String)> {
        let (mut found, mut after) = (Vec::new(), Place::end_of(Stamp::ZERO));
        loop {
            let FeedPart::Changes { changes, through, more, .. } = self.feed_after(after, step) else {
                panic!()
            };
            assert!(changes.len() <= step && through >= after);
            for change in changes {
                let place = Place { stamp: Stamp(change.stamp), number: change.number };
                assert!(place > after && place <= through, "{place:?} after {after:?}");
                after = place;
                let names = |members: &[Member]| {
                    members.iter().map(|member| member.value.clone()).collect::<Vec<_>>().join(",")
                };
                let what = match change.body.unwrap() {
                    feed_change::Body::Event(event) => EventRecord::decode(event).unwrap().message_id,
                    feed_change::Body::Members(it) => format!("+{} -{}", names(&it.came), names(&it.left)),
                    feed_change::Body::Segment(it) => {
                        format!("{} {}>{} by {}", it.segment, it.from, it.to, it.cause_stamp)
                    }
                    feed_change::Body::Home(_) | feed_change::Body::LeftHome(_) => {
                        panic!("homes are nobody's business")
                    }
                };
                found.push((place, change.facet, what));
            }
            after = through;
            if !more {
                return found;
            }
        }
    }

    /// The hash that apply kept, after checking that all rows together still have it.
    pub fn hash(&self) -> StateHash {
        let shared = self.shared();
        let kept = shared.state.read().meta.hash;
        assert_eq!(shared.count_hash().unwrap(), kept, "rows were lost, doubled or changed");
        kept
    }
}

/// A map of `count` shards with ids from 1 on.
pub fn map(count: u32) -> ShardMap {
    let mut map = ShardMap::even(count).unwrap();
    for entry in &mut map.shards {
        entry.replicas = vec![ReplicaId(1 << 32 | 1)];
    }
    map
}

/// An event as a gateway proposes it.
pub fn event(json: &str) -> (FacetId, Bytes) {
    let (key, source, blocked) = (IdentityKey::new(KEY), SourceView::new("test"), BlockedValues::default());
    let context = AcceptContext {
        source: &source,
        key: &key,
        now_micros: NOW,
        sent_at: None,
        limits: Limits::default(),
        blocked: &blocked,
        make_message_id: &|| "made".to_owned(),
    };
    let accepted = accept(RawItem::Json(json.as_bytes()), &context).unwrap();
    (accepted.facet, accepted.record.to_bytes())
}

/// An item of one event, of an attempt.
pub fn item(attempt: u64, json: &str) -> CommandItem {
    CommandItem { attempt, body: Some(Body::Record(event(json).1)), ..CommandItem::default() }
}

/// A purchase.
pub fn track(user: &str, message: &str, seconds: u32, revenue: &str) -> String {
    let time = format!("2025-06-01T{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        r#"{{"type":"track","event":"Order Completed","userId":"{user}","messageId":"{message}","timestamp":"{time}","properties":{{"revenue":"{revenue}"}}}}"#
    )
}

/// A quarantined item.
pub fn quarantined(number: u8, payload: &[u8]) -> CommandItem {
    let entry = QuarantineEntry {
        id: Bytes::copy_from_slice(&[number; 16]),
        reason: "MALFORMED".to_owned(),
        source: "test".to_owned(),
        payload: Bytes::copy_from_slice(payload),
        ..QuarantineEntry::default()
    };
    CommandItem {
        attempt: 1,
        body: Some(Body::Quarantine(entry.encode_to_vec().into())),
        ..CommandItem::default()
    }
}

/// The facet of a user.
pub fn user(id: &str) -> FacetId {
    event(&format!(r#"{{"type":"page","userId":"{id}","messageId":"m"}}"#)).0
}
