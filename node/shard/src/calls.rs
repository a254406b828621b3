//! Calls to a shard, of this node's router or of another's: what each waits for, and how it is answered.

mod feed;
mod group;
mod matching;
mod quality;
mod quarantine;
mod rules;
mod scan;
mod segments;

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use isthmus_domain::{FacetId, FacetSummary};
use isthmus_identity::stored::Record;
use isthmus_proto::internal::v1::{
    CallError, ChangeMembersCall, CommandItem, DeliverCommand, DeliverReply, DoneReply, FacetEntry,
    IngestCall, IngestReply, ReadEventsCall, ReadEventsReply, ReadFacetsCall, ReadFacetsReply, ReadLevel,
    ScanFacetsCall, ScanFacetsReply, ShardCommand, StoredEvent, shard_call, shard_command::Command,
    shard_reply,
};
use isthmus_raft::{MembershipChange, PeerId, ReplicaState, Role};
use prost::Message as _;
use tokio::time::Instant;

use crate::{Error, ShardHandle, apply::Outcome, ingest_queue::COMMAND_BYTES, machine::blocking, read};

/// Facets that one call may ask for.
pub const FACETS_MAX: usize = 4_096;
/// When a caller should come back whose events found the disk full.
const DISK_AGAIN: Duration = Duration::from_secs(5);
/// Rows that one page may have.
pub const PAGE_MAX: usize = 1_000;
/// Messages that may wait in a shard's outbox before ingest is refused.
const OUTBOX_MAX: usize = 200_000;

impl ShardHandle {
    /// Carries out a call of another node or of this one.
    ///
    /// # Errors
    /// As in [`CallError`].
    pub async fn call(
        &self,
        body: shard_call::Body,
        deadline: Instant,
    ) -> Result<shard_reply::Body, CallError> {
        use shard_call::Body as Call;
        use shard_reply::Body as Reply;
        let reply = match body {
            Call::Ingest(call) => self.ingest(call, deadline).await.map(Reply::Ingest),
            Call::ReadFacets(call) => self.read_facets(call, deadline).await.map(Reply::ReadFacets),
            Call::ReadEvents(call) => self.read_events(call, deadline).await.map(Reply::ReadEvents),
            Call::ScanFacets(call) => self.scan_facets(call, deadline).await.map(Reply::ScanFacets),
            Call::ReadQuarantine(call) => {
                self.read_quarantine(call, deadline).await.map(Reply::ReadQuarantine)
            }
            Call::ResolveQuarantine(call) => {
                self.resolve_quarantine(call, deadline).await.map(Reply::ResolveQuarantine)
            }
            Call::CountQuarantine(call) => {
                self.count_quarantine(call, deadline).await.map(Reply::CountQuarantine)
            }
            Call::Quality(call) => self.quality(call, deadline).await.map(Reply::Quality),
            Call::Matching(call) => self.matching(call, deadline).await.map(Reply::Matching),
            Call::ReadPairs(call) => self.read_pairs(call, deadline).await.map(Reply::ReadPairs),
            Call::ReadFeed(call) => self.read_feed(call, deadline).await.map(Reply::ReadFeed),
            Call::ReadGroup(call) => self.read_group(call, deadline).await.map(Reply::ReadGroup),
            Call::ScanGroups(call) => self.scan_groups(call, deadline).await.map(Reply::ScanGroups),
            Call::ReadMemberships(call) => {
                self.read_memberships(call, deadline).await.map(Reply::ReadMemberships)
            }
            Call::Pin(call) => self.call_pin(call, deadline).await.map(Reply::Pin),
            Call::Fix(call) => self.call_fix(call, deadline).await.map(Reply::Fix),
            Call::Unpin(call) => Ok(Reply::Done(self.call_unpin(&call))),
            Call::Advance(call) => self.call_advance(call, deadline).await.map(Reply::Done),
            Call::ReadModel(call) => self.read_model(call, deadline).await.map(Reply::ReadModel),
            // What is only in memory, and of the node: whoever hosts the shard answers these before.
            Call::Compare(_) | Call::Touch(_) | Call::MatchingStatus(_) => {
                Err(Error::Unavailable("nothing is compared on this node".to_owned()))
            }
            Call::Segment(_) => Err(Error::Unavailable("this node knows no segments".to_owned())),
            Call::Deliver(call) => self.deliver(call, deadline).await.map(Reply::Deliver),
            Call::ReplicaStatus(_) => Ok(Reply::ReplicaStatus(self.status())),
            Call::Transfer(call) => self.transfer(call.to_peer, deadline).await.map(Reply::Done),
            Call::ChangeMembers(call) => self.change_members(call, deadline).await.map(Reply::Done),
            Call::ReadMembers(call) => self.read_members(call, deadline).await.map(Reply::ReadMembers),
            Call::Retract(call) => self.retract(call, deadline).await.map(Reply::Retract),
            Call::ReadRoot(call) => self.read_root(call, deadline).await.map(Reply::ReadRoot),
            Call::ReadRules(_) => self.read_rules(deadline).await.map(Reply::ReadRules),
        };
        reply.map_err(CallError::from)
    }

    pub(crate) async fn propose(&self, command: Command, deadline: Instant) -> Result<Outcome, Error> {
        let stamp = self.clock.now_micros().max(0).cast_unsigned();
        let command = ShardCommand { stamp, command: Some(command) };
        Ok(self.group.propose(Bytes::from(command.encode_to_vec()), deadline).await?.outcome)
    }

    pub(crate) fn must_lead(&self) -> Result<(), Error> {
        let (state, role, leader) = self.group.leadership();
        match (state, role) {
            (ReplicaState::Running, Role::Leader) => Ok(()),
            (ReplicaState::Running, _) => match leader {
                Some(leader) => Err(Error::NotLeader { leader: Some(leader.0) }),
                None => Err(Error::NoLeader),
            },
            (state, _) => Err(Error::Unavailable(format!("the replica is {state:?}"))),
        }
    }

    async fn ingest(&self, call: IngestCall, deadline: Instant) -> Result<IngestReply, Error> {
        self.must_lead()?;
        if self.keeper.disk_is_full() {
            return Err(Error::DiskFull { retry_after: DISK_AGAIN });
        }
        if self.outbox_messages() > OUTBOX_MAX {
            return Err(Error::Overloaded { retry_after: Duration::from_secs(1) });
        }
        let mut parts = parts(call.items);
        if parts.len() == 1
            && let Some(only) = parts.pop()
        {
            let taken = self.queue.propose(only, deadline).await?;
            return self.in_force(taken, deadline).await;
        }
        let mut whole = IngestReply::default();
        let mut outcomes = Vec::new();
        for taken in join_all(parts.into_iter().map(|part| self.queue.propose(part, deadline))).await {
            // One part of unknown outcome makes the call's unknown: its attempts are asked again.
            let reply = self.in_force(taken?, deadline).await?;
            let from = u32::try_from(outcomes.len()).unwrap_or(u32::MAX);
            outcomes.extend_from_slice(&reply.outcomes);
            whole.reasons.extend(reply.reasons.into_iter().map(|mut reason| {
                reason.index += from;
                reason
            }));
            whole.stamp = whole.stamp.max(reply.stamp);
            whole.shard_map_version = whole.shard_map_version.max(reply.shard_map_version);
        }
        whole.outcomes = outcomes.into();
        Ok(whole)
    }

    /// Waits until the replica may answer a read of this level.
    pub(crate) async fn barrier(&self, level: Option<ReadLevel>, deadline: Instant) -> Result<(), Error> {
        let level = level.unwrap_or_default();
        let stamp = self.shared.state.read().meta.stamp.0;
        if level.min_stamp > 0 && stamp >= level.min_stamp {
            return Ok(());
        }
        if level.max_staleness_ms > 0 {
            let oldest = self.clock.now_micros() - i64::from(level.max_staleness_ms) * 1_000;
            if i64::try_from(stamp).unwrap_or(i64::MAX) >= oldest {
                return Ok(());
            }
        }
        // A stamp from another shard may never be reached here; what was acknowledged before it is seen all the same.
        self.group.read_index(deadline).await?;
        Ok(())
    }

    async fn read_facets(&self, call: ReadFacetsCall, deadline: Instant) -> Result<ReadFacetsReply, Error> {
        if call.facets.len() > FACETS_MAX {
            return Err(Error::Invalid("too many facets in one call"));
        }
        let ids: Vec<FacetId> = call
            .facets
            .iter()
            .map(|bytes| FacetId::from_slice(bytes))
            .collect::<Option<_>>()
            .ok_or(Error::Invalid("a facet's id is not 16 bytes"))?;
        self.barrier(call.level, deadline).await?;
        let of = |shared: &crate::Shared, ids: &[FacetId]| {
            let (summaries, stamp) = read::facets(shared, ids)?;
            let records = ids.iter().map(|id| read::record(shared, id)).collect::<Result<Vec<_>, _>>()?;
            Ok((summaries, records, stamp))
        };
        let (summaries, records, stamp) = if ids.iter().all(|id| read::is_resident(&self.shared, id)) {
            of(&self.shared, &ids)?
        } else {
            let (shared, ids) = (self.shared.clone(), ids.clone());
            blocking(move || of(&shared, &ids)).await?
        };
        let owned = self.shared.state.read().meta.owned.clone();
        let entries = ids.iter().zip(summaries).zip(records).map(|((id, summary), record)| {
            let not_owned = !owned.contains(id.slot());
            entry(id, summary.filter(|_| !not_owned), record.filter(|_| !not_owned), not_owned)
        });
        Ok(ReadFacetsReply { facets: entries.collect(), stamp: stamp.0 })
    }

    async fn read_events(&self, call: ReadEventsCall, deadline: Instant) -> Result<ReadEventsReply, Error> {
        let facet = FacetId::from_slice(&call.facet).ok_or(Error::Invalid("a facet's id is not 16 bytes"))?;
        let before = match call.before.is_empty() {
            true => None,
            false => {
                Some(place(&call.before).ok_or(Error::Invalid("a place in a timeline is not 24 bytes"))?)
            }
        };
        let limit = (call.limit as usize).clamp(1, PAGE_MAX);
        self.barrier(call.level, deadline).await?;
        if !self.shared.state.read().meta.owned.contains(facet.slot()) {
            return Ok(ReadEventsReply { not_owned: true, ..ReadEventsReply::default() });
        }
        let shared = self.shared.clone();
        let (page, summary) = blocking(move || {
            let page = read::events(&shared, &facet, before, limit)?;
            Ok((page, read::facet(&shared, &facet)?.0))
        })
        .await?;
        let identifier = summary.as_ref().and_then(|summary| summary.identifier().ok());
        let events = page.events.into_iter().map(|((_, key), stamp, mut record)| {
            // The key that orders events of one time: what the next page begins behind.
            record.dedup_key = Bytes::copy_from_slice(&key);
            StoredEvent { record: record.to_bytes(), stamp: stamp.0 }
        });
        Ok(ReadEventsReply {
            events: events.collect(),
            more: page.more,
            known: summary.is_some(),
            not_owned: false,
            stamp: page.stamp.0,
            namespace: identifier.as_ref().map(|i| i.namespace().to_string()).unwrap_or_default(),
            value: identifier.map(|i| i.value().to_owned()).unwrap_or_default(),
        })
    }

    async fn scan_facets(&self, call: ScanFacetsCall, deadline: Instant) -> Result<ScanFacetsReply, Error> {
        let after = match call.after.is_empty() {
            true => None,
            false => {
                Some(FacetId::from_slice(&call.after).ok_or(Error::Invalid("a facet's id is not 16 bytes"))?)
            }
        };
        let limit = (call.limit as usize).clamp(1, PAGE_MAX);
        self.barrier(call.level, deadline).await?;
        let shared = self.shared.clone();
        let (page, facets) = blocking(move || {
            let mut page = read::scan(&shared, after, limit)?;
            let mut facets = Vec::with_capacity(page.facets.len());
            for (id, summary) in std::mem::take(&mut page.facets) {
                facets.push(entry(&id, Some(summary), read::record(&shared, &id)?, false));
            }
            Ok((page, facets))
        })
        .await?;
        Ok(ScanFacetsReply {
            facets,
            more: page.more,
            stamp: page.stamp.0,
            owned_bounds: page.owned.to_bounds(),
        })
    }

    async fn deliver(&self, call: DeliverCommand, deadline: Instant) -> Result<DeliverReply, Error> {
        self.must_lead()?;
        self.inbox.propose(call, deadline).await
    }

    async fn transfer(&self, to_peer: u64, deadline: Instant) -> Result<DoneReply, Error> {
        self.must_lead()?;
        self.group.transfer_leader(PeerId(to_peer), deadline).await?;
        Ok(DoneReply {})
    }

    async fn change_members(&self, call: ChangeMembersCall, deadline: Instant) -> Result<DoneReply, Error> {
        self.must_lead()?;
        let peers = |ids: Vec<u64>| ids.into_iter().map(PeerId).collect();
        let change = MembershipChange {
            add_learners: peers(call.add_learners),
            promote: peers(call.add_voters),
            remove: peers(call.remove),
        };
        self.group.change_membership(change, deadline).await?;
        Ok(DoneReply {})
    }
}

fn entry(id: &FacetId, summary: Option<FacetSummary>, record: Option<Record>, not_owned: bool) -> FacetEntry {
    let copied = |id: &FacetId| Bytes::copy_from_slice(id.as_bytes());
    FacetEntry {
        facet: copied(id),
        summary: summary.map(|summary| summary.to_bytes().into()).unwrap_or_default(),
        not_owned,
        home: record.as_ref().map(|record| copied(&record.home(*id))).unwrap_or_default(),
        epoch: record.as_ref().map_or(0, |record| record.epoch),
        namespace: record.as_ref().map(|record| record.namespace.clone()).unwrap_or_default(),
        value: record.map(|record| record.value).unwrap_or_default(),
    }
}

/// A place in a timeline from its 24 bytes: the time with its sign bit flipped, then the key.
fn place(bytes: &[u8]) -> Option<read::EventPosition> {
    let (time, key) = bytes.split_at_checked(8)?;
    let time = u64::from_be_bytes(time.try_into().ok()?) ^ (1 << 63);
    Some((time.cast_signed(), key.try_into().ok()?))
}

/// Cuts items into parts that fit one command each; at least one part.
fn parts(items: Vec<CommandItem>) -> Vec<Vec<CommandItem>> {
    let mut parts = vec![Vec::with_capacity(items.len())];
    let mut bytes = 0;
    for item in items {
        let size = item.encoded_len();
        if bytes > 0 && bytes + size > COMMAND_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size.max(1);
        if let Some(part) = parts.last_mut() {
            part.push(item);
        }
    }
    parts
}
