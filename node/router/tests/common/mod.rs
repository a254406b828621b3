//! Scripted shards: a world that says who owns what and remembers what was stored, and replicas that answer from it,
//! or do what their script says first.

#![allow(dead_code, reason = "each test binary uses its own part")]

mod node;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::future::BoxFuture;
use isthmus_domain::{ShardMap, Slot};
use isthmus_proto::internal::v1::{
    CallError, CallErrorCode, CommandItem, DoneReply, FacetEntry, FeedChange, FixReply, IngestCall,
    IngestReply, ItemReason, PinReply, QuarantineRow, ReadEventsReply, ReadFacetsReply, ReadFeedCall,
    ReadFeedReply, ReadQuarantineReply, ReplicaStatusReply, ScanFacetsReply, command_item, shard_call,
    shard_reply,
};
use isthmus_router::{Leadership, ShardCalls};
use tokio::time::Instant;

pub use self::node::*;

/// What a replica does with a call instead of answering it from the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Answer after all.
    Answer,
    /// Name another leader, or nobody.
    NotLeader(u64),
    NoLeader,
    Unavailable,
    NoReplica,
    Overloaded(u32),
    DiskFull(u32),
    /// Say that the outcome is unknown, having done nothing.
    LostBefore,
    /// Do it, and say that the outcome is unknown.
    LostAfter,
    /// Never answer.
    Hang,
    /// Do it, and never answer.
    HangAfter,
}

/// All that the shards of a test share.
#[derive(Default)]
pub struct World {
    /// Who really owns which slot.
    pub map: ShardMap,
    pub facets: BTreeMap<[u8; 16], Bytes>,
    pub quarantine: BTreeMap<[u8; 16], Bytes>,
    /// Rows in a page, at most.
    pub page_max: usize,
    /// Changes of the feed, of all shards, in order, and where it begins.
    pub feed: Vec<FeedChange>,
    pub feed_floor: u64,
    pub stored: BTreeMap<Bytes, u64>,
    pub attempts: BTreeSet<u64>,
    /// Pins that are held, by shard and number, with their stamps; and how far shards were brought.
    pub pins: BTreeMap<(u64, u64), u64>,
    pub advanced: BTreeMap<u64, u64>,
    pub calls: usize,
    pub bytes_running: usize,
    pub bytes_running_max: usize,
    pub stamp: u64,
}

/// A handle on the world.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub fn new(map: ShardMap) -> Self {
        Self(Arc::new(Mutex::new(World { map, page_max: 1_000, ..World::default() })))
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

/// A replica.
#[derive(Clone)]
pub struct Fake {
    pub shard: u64,
    pub peer: u64,
    pub leadership: Arc<Mutex<Leadership>>,
    pub script: Arc<Mutex<VecDeque<Step>>>,
    pub world: Shared,
}

impl Fake {
    pub fn new(shard: u64, peer: u64, world: &Shared, script: impl IntoIterator<Item = Step>) -> Self {
        let leadership = Leadership { peer, leader: Some(peer), is_leader: true };
        Self {
            shard,
            peer,
            leadership: Arc::new(Mutex::new(leadership)),
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            world: world.clone(),
        }
    }

    fn answer(&self, body: shard_call::Body) -> Result<shard_reply::Body, CallError> {
        let leads = self.leadership.lock().unwrap().is_leader;
        self.world.lock().answer_pin(self.shard, self.peer, leads, body)
    }

    fn next_step(&self) -> Step {
        self.script.lock().unwrap().pop_front().unwrap_or(Step::Answer)
    }
}

fn error(code: CallErrorCode) -> CallError {
    CallError { code: code.into(), message: "scripted".to_owned(), ..CallError::default() }
}

/// What a call weighs while it runs.
fn weight(body: &shard_call::Body) -> usize {
    match body {
        shard_call::Body::Ingest(call) => call.items.iter().map(|item| record(item).len()).sum(),
        _ => 0,
    }
}

impl ShardCalls for Fake {
    fn shard(&self) -> u64 {
        self.shard
    }

    fn leadership(&self) -> Leadership {
        *self.leadership.lock().unwrap()
    }

    fn call(
        &self,
        body: shard_call::Body,
        _deadline: Instant,
    ) -> BoxFuture<'static, Result<shard_reply::Body, CallError>> {
        let fake = self.clone();
        let step = fake.next_step();
        Box::pin(async move {
            let bytes = weight(&body);
            let _running = Running::new(&fake.world, bytes);
            tokio::task::yield_now().await;
            match step {
                Step::Answer => fake.answer(body),
                Step::NotLeader(leader) => Err(CallError { leader, ..error(CallErrorCode::NotLeader) }),
                Step::NoLeader => Err(error(CallErrorCode::NoLeader)),
                Step::Unavailable => Err(error(CallErrorCode::Unavailable)),
                Step::NoReplica => Err(error(CallErrorCode::NoReplica)),
                Step::Overloaded(retry_after_ms) => {
                    Err(CallError { retry_after_ms, ..error(CallErrorCode::Overloaded) })
                }
                Step::DiskFull(retry_after_ms) => {
                    Err(CallError { retry_after_ms, ..error(CallErrorCode::DiskFull) })
                }
                Step::LostBefore => Err(error(CallErrorCode::OutcomeUnknown)),
                Step::LostAfter => {
                    fake.world.lock().answer(fake.shard, fake.peer, body)?;
                    Err(error(CallErrorCode::OutcomeUnknown))
                }
                Step::Hang => std::future::pending().await,
                Step::HangAfter => {
                    fake.world.lock().answer(fake.shard, fake.peer, body)?;
                    std::future::pending().await
                }
            }
        })
    }
}

struct Running(Shared, usize);

impl Running {
    fn new(world: &Shared, bytes: usize) -> Self {
        let mut locked = world.lock();
        locked.calls += 1;
        locked.bytes_running += bytes;
        locked.bytes_running_max = locked.bytes_running_max.max(locked.bytes_running);
        Self(world.clone(), bytes)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().bytes_running -= self.1;
    }
}

impl World {
    /// Calls about snapshots; a shard's stamp is that of its last call.
    fn answer_pin(
        &mut self,
        shard: u64,
        peer: u64,
        leads: bool,
        body: shard_call::Body,
    ) -> Result<shard_reply::Body, CallError> {
        Ok(match body {
            shard_call::Body::Pin(call) => {
                assert!(leads || call.level.is_some(), "without a level, a leader is asked");
                self.stamp += 1;
                let pin = PinReply { pin: self.stamp * 1_000, stamp: self.stamp, peer, leads };
                self.pins.insert((shard, pin.pin), pin.stamp);
                shard_reply::Body::Pin(pin)
            }
            shard_call::Body::Advance(call) => {
                self.advanced.insert(shard, call.stamp);
                shard_reply::Body::Done(DoneReply {})
            }
            shard_call::Body::Fix(call) => {
                let stamp = self.pins.get(&(shard, call.pin)).ok_or(error(CallErrorCode::Invalid))?;
                let reached = leads || call.stamp <= *stamp || self.advanced.get(&shard) >= Some(&call.stamp);
                if !reached {
                    return Err(error(CallErrorCode::Unavailable));
                }
                shard_reply::Body::Fix(FixReply {
                    owned_bounds: self.owned_bounds(shard),
                    ..FixReply::default()
                })
            }
            shard_call::Body::Unpin(call) => {
                self.pins.remove(&(shard, call.pin));
                shard_reply::Body::Done(DoneReply {})
            }
            other => self.answer(shard, peer, other)?,
        })
    }

    fn owns(&self, shard: u64, slot: Slot) -> bool {
        self.map.owner(slot).is_some_and(|entry| entry.id.0 == shard)
    }

    fn owned_bounds(&self, shard: u64) -> Vec<u32> {
        let entry = self.map.shards.iter().find(|entry| entry.id.0 == shard);
        entry.map(|entry| entry.ranges.to_bounds()).unwrap_or_default()
    }

    fn answer(
        &mut self,
        shard: u64,
        peer: u64,
        body: shard_call::Body,
    ) -> Result<shard_reply::Body, CallError> {
        self.stamp += 1;
        let stamp = self.stamp;
        Ok(match body {
            shard_call::Body::Ingest(call) => shard_reply::Body::Ingest(self.ingest(shard, &call)),
            shard_call::Body::ReadFacets(call) => {
                let entry = |id: &Bytes| {
                    let key: [u8; 16] = id.as_ref().try_into().unwrap();
                    let not_owned = !self.owns(shard, Slot::of_hash(&key));
                    let found = self.facets.get(&key).filter(|_| !not_owned);
                    FacetEntry {
                        facet: id.clone(),
                        summary: found.cloned().unwrap_or_default(),
                        not_owned,
                        ..FacetEntry::default()
                    }
                };
                shard_reply::Body::ReadFacets(ReadFacetsReply {
                    facets: call.facets.iter().map(entry).collect(),
                    stamp,
                })
            }
            shard_call::Body::ReadEvents(call) => {
                let key: [u8; 16] = call.facet.as_ref().try_into().unwrap();
                let not_owned = !self.owns(shard, Slot::of_hash(&key));
                let known = self.facets.contains_key(&key) && !not_owned;
                shard_reply::Body::ReadEvents(ReadEventsReply {
                    not_owned,
                    known,
                    stamp,
                    ..Default::default()
                })
            }
            shard_call::Body::ScanFacets(call) => {
                let (rows, more) = self.page(shard, &self.facets, &call.after, call.limit);
                let facets = rows.into_iter().map(|(key, summary)| FacetEntry {
                    facet: Bytes::copy_from_slice(&key),
                    summary,
                    not_owned: false,
                    ..FacetEntry::default()
                });
                let owned_bounds = self.owned_bounds(shard);
                let reply = ScanFacetsReply { facets: facets.collect(), more, stamp, owned_bounds };
                shard_reply::Body::ScanFacets(reply)
            }
            shard_call::Body::ReadQuarantine(call) if !call.only.is_empty() => {
                let key: [u8; 16] = call.only.as_ref().try_into().unwrap();
                let found = self.quarantine.get(&key).filter(|_| self.owns(shard, Slot::of_hash(&key)));
                let rows = found.map(|entry| row(&key, entry.clone())).into_iter().collect();
                let owned_bounds = self.owned_bounds(shard);
                shard_reply::Body::ReadQuarantine(ReadQuarantineReply { rows, more: false, owned_bounds })
            }
            shard_call::Body::ReadQuarantine(call) => {
                let (rows, more) = self.page(shard, &self.quarantine, &call.after, call.limit);
                let rows = rows.into_iter().map(|(key, entry)| row(&key, entry)).collect();
                let owned_bounds = self.owned_bounds(shard);
                shard_reply::Body::ReadQuarantine(ReadQuarantineReply { rows, more, owned_bounds })
            }
            shard_call::Body::ReplicaStatus(_) => {
                shard_reply::Body::ReplicaStatus(ReplicaStatusReply { peer, ..Default::default() })
            }
            shard_call::Body::ReadFeed(call) => shard_reply::Body::ReadFeed(self.feed_part(shard, &call)),
            shard_call::Body::ResolveQuarantine(_)
            | shard_call::Body::CountQuarantine(_)
            | shard_call::Body::Quality(_)
            | shard_call::Body::Matching(_)
            | shard_call::Body::ReadPairs(_)
            | shard_call::Body::Compare(_)
            | shard_call::Body::Touch(_)
            | shard_call::Body::MatchingStatus(_)
            | shard_call::Body::ReadModel(_)
            | shard_call::Body::ReadGroup(_)
            | shard_call::Body::Pin(_)
            | shard_call::Body::Fix(_)
            | shard_call::Body::Unpin(_)
            | shard_call::Body::Advance(_)
            | shard_call::Body::ScanGroups(_)
            | shard_call::Body::ReadMemberships(_)
            | shard_call::Body::Segment(_) => {
                panic!("no test asks for it")
            }
            shard_call::Body::Transfer(_) | shard_call::Body::ChangeMembers(_) => {
                shard_reply::Body::Done(DoneReply {})
            }
            shard_call::Body::ReadMembers(_)
            | shard_call::Body::Retract(_)
            | shard_call::Body::ReadRoot(_)
            | shard_call::Body::ReadRules(_) => {
                panic!("nobody asks for links here")
            }
            shard_call::Body::Deliver(call) => {
                let through_sequence = call.first_sequence + call.messages.len() as u64 - 1;
                let reply = isthmus_proto::internal::v1::DeliverReply { through_sequence, stamp };
                shard_reply::Body::Deliver(reply)
            }
        })
    }

    /// Rows that the shard owns, above a key.
    fn page(
        &self,
        shard: u64,
        table: &BTreeMap<[u8; 16], Bytes>,
        after: &[u8],
        limit: u32,
    ) -> (Vec<([u8; 16], Bytes)>, bool) {
        let limit = (limit as usize).min(self.page_max);
        let mut rows: Vec<([u8; 16], Bytes)> = table
            .iter()
            .filter(|(key, _)| key.as_slice() > after && self.owns(shard, Slot::of_hash(key)))
            .map(|(key, value)| (*key, value.clone()))
            .take(limit + 1)
            .collect();
        let more = rows.len() > limit;
        rows.truncate(limit);
        (rows, more)
    }

    /// As a shard does, but that it never waits.
    fn feed_part(&self, shard: u64, call: &ReadFeedCall) -> ReadFeedReply {
        let slots = call.ranges.iter().flat_map(|range| range.start_slot..range.end_slot);
        if slots.into_iter().any(|slot| !self.owns(shard, Slot::new(slot as u16).unwrap())) {
            return ReadFeedReply { not_owned: true, ..ReadFeedReply::default() };
        }
        let floor_stamp = self.feed_floor;
        if call.limit > 0 && call.ranges.iter().any(|range| range.stamp < floor_stamp) {
            return ReadFeedReply { too_old: true, floor_stamp, ..ReadFeedReply::default() };
        }
        let wanted = |change: &&FeedChange| {
            let slot = u32::from(Slot::of_hash(change.facet.as_ref().try_into().unwrap()).number());
            call.ranges.iter().any(|range| {
                (range.start_slot..range.end_slot).contains(&slot)
                    && (change.stamp, change.number) > (range.stamp, range.number)
            })
        };
        let changes: Vec<FeedChange> =
            self.feed.iter().filter(wanted).take(call.limit as usize).cloned().collect();
        let cut = changes.len() == call.limit as usize;
        let (through_stamp, through_number) = match changes.last() {
            Some(last) if cut => (last.stamp, last.number),
            _ => (self.feed.last().map_or(floor_stamp, |last| last.stamp), u32::MAX),
        };
        ReadFeedReply { changes, through_stamp, through_number, floor_stamp, ..ReadFeedReply::default() }
    }

    /// As a shard does: an attempt that is known gets the original outcome, another one with the same record is a
    /// duplicate, what isn't owned is stale. Records that `is_bad` are rejected.
    fn ingest(&mut self, shard: u64, call: &IngestCall) -> IngestReply {
        let (mut outcomes, mut reasons) = (Vec::new(), Vec::new());
        for (index, item) in call.items.iter().enumerate() {
            assert_ne!(item.attempt, 0, "an attempt is always set");
            self.attempts.insert(item.attempt);
            let record = record(item);
            outcomes.push(if !self.owns(shard, slot_of(&record)) {
                100
            } else if is_bad(&record) {
                reasons.push(ItemReason { index: index as u32, reason: reason_of(&record) });
                4
            } else {
                match self.stored.get(&record) {
                    Some(attempt) if *attempt != item.attempt => 2,
                    Some(_) => 1,
                    None => {
                        self.stored.insert(record, item.attempt);
                        1
                    }
                }
            });
        }
        IngestReply {
            stamp: self.stamp,
            outcomes: outcomes.into(),
            reasons,
            shard_map_version: self.map.version,
        }
    }
}

fn row(key: &[u8; 16], entry: Bytes) -> QuarantineRow {
    QuarantineRow { id: Bytes::copy_from_slice(key), entry, stamp: 1 }
}

pub fn record(item: &CommandItem) -> Bytes {
    match item.body.clone() {
        Some(command_item::Body::Record(bytes) | command_item::Body::Quarantine(bytes)) => bytes,
        None => Bytes::new(),
    }
}

fn slot_of(record: &[u8]) -> Slot {
    Slot::new(u16::from_be_bytes([record[0], record[1]])).unwrap()
}

pub fn is_bad(record: &[u8]) -> bool {
    record[2] % 7 == 3
}

pub fn reason_of(record: &[u8]) -> String {
    format!("BAD_{}", u16::from_be_bytes([record[2], record[3]]))
}
