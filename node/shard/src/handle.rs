//! What the rest of the node holds of a shard's replica.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use isthmus_domain::{FacetId, FacetSummary};
use isthmus_proto::internal::v1::{
    CallError, ChangeMembersCall, CommandItem, DeliverCommand, DeliverReply, DoneReply, FacetEntry,
    IngestCall, IngestReply, ReadEventsCall, ReadEventsReply, ReadFacetsCall, ReadFacetsReply, ReadLevel,
    ReadQuarantineCall, ReadQuarantineReply, ReplicaStatusReply, ScanFacetsCall, ScanFacetsReply,
    SetConfigCommand, ShardCommand, shard_call, shard_command::Command, shard_reply,
};
use isthmus_raft::{
    GroupHandle, GroupView, MembershipChange, OpenGroup, PeerId, RaftNode, ReplicaState, Role, Start,
};
use isthmus_storage::{StoreId, keeper::GroupMeta};
use prost::Message as _;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Clock, Deliver, Error, Keeper, Machine,
    apply::Outcome,
    courier,
    ingest_queue::{COMMAND_BYTES, IngestQueue},
    machine::{Shared, blocking},
    read::{self, QuarantineQuery},
};

/// Facets that one call may ask for.
pub const FACETS_MAX: usize = 4_096;
/// When a caller should come back whose events found the disk full.
const DISK_AGAIN: Duration = Duration::from_secs(5);
/// Rows that one page may have.
pub const PAGE_MAX: usize = 1_000;
/// Messages that may wait in a shard's outbox before ingest is refused.
const OUTBOX_MAX: usize = 200_000;

/// The configuration that a shard is to have; pushed into its log by its leader.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardConfig {
    /// Rises with every change; 0: none yet.
    pub version: u64,
    /// The shard map: `ShardMap`'s encoding.
    pub shard_map: Bytes,
}

/// What a replica is opened with.
pub struct Open {
    /// The shard's id, which is its group's.
    pub shard: u64,
    /// This replica's peer id.
    pub peer: u64,
    /// The peers that the group was founded with, if this is one of them; empty: wait for a leader.
    pub founders: Vec<u64>,
    /// The node's keeper.
    pub keeper: Keeper,
    /// A directory for snapshots on their way out, on the file system of the runs.
    pub snapshots: PathBuf,
    /// Bytes of the replica's cache of facets.
    pub cache_bytes: u64,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The courier's way to other shards.
    pub way: Arc<dyn Deliver>,
    /// The configuration, as it changes.
    pub config: watch::Receiver<ShardConfig>,
}

/// What a replica shows of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaView {
    /// This replica.
    pub peer: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<u64>,
    /// Whether this replica leads.
    pub is_leader: bool,
    /// Whether it works.
    pub works: bool,
    /// Raft's term.
    pub term: u64,
    /// Index of the last applied entry.
    pub applied_index: u64,
    /// Version of the configuration in force.
    pub config_version: u64,
}

/// A cheap handle on a replica.
#[derive(Clone)]
pub struct ShardHandle {
    shared: Arc<Shared>,
    group: GroupHandle<Outcome>,
    queue: IngestQueue,
    keeper: Keeper,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// Opens a replica: loads its state, or makes an empty one, and joins its group.
///
/// # Errors
/// Storage that fails, or a log and a state that contradict each other.
pub async fn open(raft: &RaftNode, open: Open) -> Result<ShardHandle, Error> {
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let storage = open.keeper.storage().clone();
    let (shard, peer) = (open.shard, open.peer);
    let meta: GroupMeta = blocking(move || match storage.group(shard).map_err(crate::error::broken)? {
        Some(meta) => Ok(meta),
        None => storage.create_group(shard, peer, Bytes::new(), Bytes::new()).map_err(crate::error::broken),
    })
    .await?;
    let machine = Machine::load(&open.keeper, &meta, open.snapshots, tracker.clone(), open.cache_bytes)?;
    let shared = machine.shared();
    let start = match open.founders.is_empty() {
        true => Start::Join,
        false => Start::Bootstrap(open.founders.iter().copied().map(PeerId).collect()),
    };
    let group = raft.open_group(OpenGroup { group: shard, peer: PeerId(peer), start, machine }).await?;
    let queue = IngestQueue::start(group.clone(), open.clock.clone(), &tracker, stop.clone());
    tracker.spawn(courier::run(shared.clone(), group.clone(), open.way, open.clock.clone(), stop.clone()));
    let handle = ShardHandle { shared, group, queue, keeper: open.keeper, clock: open.clock, tracker, stop };
    handle.tracker.spawn(configure(handle.clone(), open.config));
    Ok(handle)
}

/// Puts newer configurations into the log, while this replica leads.
async fn configure(handle: ShardHandle, mut config: watch::Receiver<ShardConfig>) {
    const TIMEOUT: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_millis(50);
    let mut view = handle.group.watch();
    loop {
        let wanted = config.borrow_and_update().clone();
        let leads = view.borrow_and_update().role == Role::Leader;
        if leads && wanted.version > handle.shared.state.read().meta.config_version {
            let command = SetConfigCommand { version: wanted.version, shard_map: wanted.shard_map };
            let deadline = Instant::now() + TIMEOUT;
            match handle.propose(Command::SetConfig(command), deadline).await {
                Ok(Outcome::Refused(why)) => {
                    tracing::error!(shard = handle.shared.shard, why, "a configuration was refused");
                }
                Ok(_) => continue,
                Err(error) => tracing::debug!(shard = handle.shared.shard, %error, "configuring"),
            }
            tokio::select! {
                () = handle.stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => continue,
            }
        }
        tokio::select! {
            biased;
            () = handle.stop.cancelled() => return,
            changed = config.changed() => if changed.is_err() { return },
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

impl ShardHandle {
    /// The shard.
    pub fn shard(&self) -> u64 {
        self.shared.shard
    }

    /// What the replica is doing.
    pub fn view(&self) -> ReplicaView {
        let view = self.group.view();
        ReplicaView {
            peer: view.peer.0,
            leader: view.leader.map(|peer| peer.0),
            is_leader: view.role == Role::Leader,
            works: view.state == ReplicaState::Running,
            term: view.term,
            applied_index: view.applied,
            config_version: self.shared.state.read().meta.config_version,
        }
    }

    /// What the Raft group shows, as it changes.
    pub fn watch(&self) -> watch::Receiver<GroupView> {
        self.group.watch()
    }

    /// The bytes that the replica's memtables take, and its log to replay.
    pub fn load(&self) -> &crate::Load {
        &self.shared.load
    }

    /// Messages that wait in the outbox.
    pub fn outbox_messages(&self) -> usize {
        self.shared.state.read().streams.waiting()
    }

    /// Asks to be the leader: a founder of a new group need not wait for an election's time-out.
    pub async fn campaign(&self) {
        self.group.campaign().await;
    }

    /// Writes the state out now, so that a restart has nothing to replay.
    ///
    /// # Errors
    /// Storage that fails.
    pub async fn write_out(&self) -> Result<(), Error> {
        Ok(crate::machine::Freezer::of(self.shared.clone()).write_out().await?)
    }

    /// Stops the replica and waits until its tasks have ended. Its state stays.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.group.stop().await;
        self.tracker.close();
        self.tracker.wait().await;
    }

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
            Call::Deliver(call) => self.deliver(call, deadline).await.map(Reply::Deliver),
            Call::ReplicaStatus(_) => Ok(Reply::ReplicaStatus(self.status())),
            Call::Transfer(call) => self.transfer(call.to_peer, deadline).await.map(Reply::Done),
            Call::ChangeMembers(call) => self.change_members(call, deadline).await.map(Reply::Done),
        };
        reply.map_err(CallError::from)
    }

    async fn propose(&self, command: Command, deadline: Instant) -> Result<Outcome, Error> {
        let stamp = self.clock.now_micros().max(0).cast_unsigned();
        let command = ShardCommand { stamp, command: Some(command) };
        Ok(self.group.propose(Bytes::from(command.encode_to_vec()), deadline).await?.outcome)
    }

    fn must_lead(&self) -> Result<(), Error> {
        let view = self.group.view();
        match (view.state, view.role) {
            (ReplicaState::Running, Role::Leader) => Ok(()),
            (ReplicaState::Running, _) => match view.leader {
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
            return self.queue.propose(only, deadline).await;
        }
        let mut whole = IngestReply::default();
        let mut outcomes = Vec::new();
        for reply in join_all(parts.into_iter().map(|part| self.queue.propose(part, deadline))).await {
            // One part of unknown outcome makes the call's unknown: its attempts are asked again.
            let reply = reply?;
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
    async fn barrier(&self, level: Option<ReadLevel>, deadline: Instant) -> Result<(), Error> {
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
        let (summaries, stamp) = if ids.iter().all(|id| read::is_resident(&self.shared, id)) {
            read::facets(&self.shared, &ids)?
        } else {
            let (shared, ids) = (self.shared.clone(), ids.clone());
            blocking(move || read::facets(&shared, &ids)).await?
        };
        let owned = self.shared.state.read().meta.owned.clone();
        let entries = ids.iter().zip(summaries).map(|(id, summary)| {
            let not_owned = !owned.contains(id.slot());
            entry(id, summary.filter(|_| !not_owned), not_owned)
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
            isthmus_proto::internal::v1::StoredEvent { record: record.to_bytes(), stamp: stamp.0 }
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
        let page = blocking(move || read::scan(&shared, after, limit)).await?;
        let facets = page.facets.into_iter().map(|(id, summary)| entry(&id, Some(summary), false)).collect();
        Ok(ScanFacetsReply {
            facets,
            more: page.more,
            stamp: page.stamp.0,
            owned_bounds: page.owned.to_bounds(),
        })
    }

    async fn read_quarantine(
        &self,
        call: ReadQuarantineCall,
        deadline: Instant,
    ) -> Result<ReadQuarantineReply, Error> {
        let id = |bytes: &Bytes| -> Result<Option<[u8; 16]>, Error> {
            match bytes.is_empty() {
                true => Ok(None),
                false => {
                    bytes.as_ref().try_into().map(Some).map_err(|_| Error::Invalid("an id is not 16 bytes"))
                }
            }
        };
        let (after, only) = (id(&call.after)?, id(&call.only)?);
        let query = QuarantineQuery {
            after,
            limit: (call.limit as usize).clamp(1, PAGE_MAX),
            source: call.source,
            reason: call.reason,
        };
        self.barrier(None, deadline).await?;
        let shared = self.shared.clone();
        let (entries, more) = blocking(move || match only {
            Some(id) => Ok((read::entry(&shared, &id)?.into_iter().collect(), false)),
            None => read::page(&shared, &query).map(|page| (page.entries, page.more)),
        })
        .await?;
        let rows = entries.into_iter().map(|entry| isthmus_proto::internal::v1::QuarantineRow {
            id: entry.id.clone(),
            stamp: entry.received,
            entry: entry.encode_to_vec().into(),
        });
        let owned_bounds = self.shared.state.read().meta.owned.to_bounds();
        Ok(ReadQuarantineReply { rows: rows.collect(), more, owned_bounds })
    }

    async fn deliver(&self, call: DeliverCommand, deadline: Instant) -> Result<DeliverReply, Error> {
        self.must_lead()?;
        match self.propose(Command::Deliver(call), deadline).await? {
            Outcome::Delivered(through_sequence, stamp) => {
                Ok(DeliverReply { through_sequence, stamp: stamp.0 })
            }
            _ => Err(Error::Invalid("the log answered a delivery with something else")),
        }
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

    /// The replica's state. Index and hash are of one moment.
    pub fn status(&self) -> ReplicaStatusReply {
        use isthmus_proto::internal::v1::PeerProgress;
        use isthmus_proto::v1::ReplicaRole;
        let view = self.group.view();
        let role = match view.role {
            _ if view.conf.learners.contains(&view.peer.0) => ReplicaRole::Learner,
            Role::Leader => ReplicaRole::Leader,
            Role::Follower => ReplicaRole::Follower,
            Role::Candidate => ReplicaRole::Candidate,
        };
        let state = self.shared.state.read();
        ReplicaStatusReply {
            peer: view.peer.0,
            leader: view.leader.map_or(0, |peer| peer.0),
            term: view.term,
            role: (role as i32).cast_unsigned(),
            committed_index: view.commit,
            applied_index: state.applied,
            state_hash: Bytes::copy_from_slice(&state.meta.hash.to_bytes()),
            durable_index: view.durable,
            config_version: state.meta.config_version,
            stamp: state.meta.stamp.0,
            outbox_messages: state.streams.waiting() as u64,
            voters: view.conf.voters.clone(),
            learners: view.conf.learners.clone(),
            joint: !view.conf.voters_outgoing.is_empty(),
            progress: view
                .progress
                .iter()
                .map(|p| PeerProgress { peer: p.peer.0, matched_index: p.matched, active: p.recent_active })
                .collect(),
        }
    }

    /// The store that holds what was written out.
    pub fn store(&self) -> StoreId {
        self.shared.store()
    }
}

fn entry(id: &FacetId, summary: Option<FacetSummary>, not_owned: bool) -> FacetEntry {
    FacetEntry {
        facet: Bytes::copy_from_slice(id.as_bytes()),
        summary: summary.map(|summary| summary.to_bytes().into()).unwrap_or_default(),
        not_owned,
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
