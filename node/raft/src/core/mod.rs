//! The pure core of a replica: raft-rs's `RawNode`, who waits for what, and the rules around both.
//!
//! **What it promises.** Inputs in (methods), effects out ([`Core::collect`]); no task, no clock but
//! [`tick`](Core::tick), no I/O but reading the log. The same inputs give the same effects, up to raft-rs's
//! election timeouts, which [`Options::election_ticks_fixed`](crate::Options) fixes. What it hands out at once may
//! be sent at once; what depends on a write is held back here until [`persisted`](Core::persisted).
//!
//! **How.** A caller feeds all inputs that wait, then collects once: many proposals become one append, one write
//! and one message per peer. raft-rs's asynchronous ready loop is used: a `Ready` is handed out and advanced at
//! once; its number comes back when the log writer has synced it; several may be on their way.
//!
//! - A hard state in which only the commit index moved isn't worth a sync: it goes with the next write. On load
//!   commit is at least what was applied.
//! - Changes of members take effect here as soon as their entry is handed out, in order.
//! - While a snapshot is being installed no `Ready` is made. The leader sends nothing but heartbeats meanwhile.
//! - Bytes handed out and not applied, and bytes not synced, are bounded: over the bound raft-rs gets no committed
//!   entries to hand out, a leader refuses proposals, a follower drops appends (they come again).
//!
//! **What it leaves out.** It trusts the members: messages are checked for whom they are for and of what kind
//! they are ([`admit`](Core::admit)), not for lies.

mod compaction;
mod effects;
mod membership;
mod open;
mod pending;
mod reads;
mod ready;
mod requests;
mod store;

use std::collections::VecDeque;

use raft::{
    RawNode, SnapshotStatus, StateRole,
    eraftpb::{ConfState, HardState, Message, MessageType, Snapshot},
};

pub(crate) use self::requests::overloaded;
pub use self::{
    effects::{Apply, Effects, Tokens, Write},
    open::Open,
};
use self::{membership::Changing, pending::Pending, reads::Reads, requests::Standing, store::Store};
use crate::{
    machine::Broken,
    types::{GroupId, GroupView, PeerId, PeerProgress, Position, ProgressState, ReplicaState, Role},
};

/// Messages of a `Ready` that wait for its write, or for earlier ones.
struct Held {
    number: u64,
    /// Whether the `Ready` had anything to write itself.
    writes: bool,
    bytes: usize,
    messages: Vec<Message>,
}

/// The bounds that the core itself keeps.
struct Limits {
    proposal_bytes_max: usize,
    backlog_bytes_max: usize,
    reads_max: usize,
    pending_max: usize,
    read_retry_ticks: u64,
    log_keep_bytes: u64,
    compact_entries_min: u64,
    snapshot_keep_ticks: u64,
}

/// One replica's decisions. See the [module](self).
pub struct Core<T: Tokens> {
    group: GroupId,
    peer: PeerId,
    limits: Limits,
    raw: RawNode<Store>,
    tick: u64,
    pending: Pending<T::Proposal>,
    reads: Reads<T::Read>,
    changing: Option<Changing<T::Change>>,
    /// The members as of the last entry handed out, each list sorted.
    conf: ConfState,
    /// Oldest first; the front one waits for the log writer.
    held: VecDeque<Held>,
    unsynced_bytes: usize,
    /// A hard state that differs from the written one in nothing but commit.
    hard_state_unwritten: Option<HardState>,
    /// The write that follows the installation under way.
    installing: Option<Write>,
    /// Last index and bytes of what was handed out and not applied, oldest first.
    unapplied: VecDeque<(u64, usize)>,
    unapplied_bytes: usize,
    applied: u64,
    durable: u64,
    making_snapshot: bool,
    compact_now: bool,
    /// An election to stand for.
    standing: Option<Standing>,
    out: Effects<T>,
}

impl<T: Tokens> Core<T> {
    /// A tick passed. Missed ticks are not made up for: a pause must not set off elections.
    pub fn tick(&mut self) {
        self.tick += 1;
        self.raw.mut_store().tick = self.tick;
        if self.may_campaign() {
            self.raw.tick();
        }
        self.stand_if_due();
        self.reads.abandon_after(self.tick, self.limits.read_retry_ticks);
        self.leave_joint_if_due();
        self.expire_snapshot();
        self.compact_if_due();
    }

    /// Whether raft-rs would survive an election now. It asserts that whoever becomes leader has synced its log: of
    /// several voters that holds, since their vote requests wait for the sync, but a single voter elects itself on
    /// the spot. And it reads the entries after the applied one, which are gone while a snapshot is being installed.
    fn may_campaign(&self) -> bool {
        let alone = self.raw.raft.prs().is_singleton() && !self.is_quiescent();
        let installing = self.raw.store().base().index > self.raw.raft.raft_log.applied;
        self.is_leader() || !(alone || installing)
    }

    /// Whether a message may be stepped: for this peer, of a kind that peers may send.
    pub fn admit(&self, message: &Message) -> bool {
        let kind = match message.get_msg_type() {
            MessageType::MsgAppend
            | MessageType::MsgAppendResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse
            | MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgTimeoutNow => true,
            MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => message.entries.len() == 1,
            // A proposal or a transfer comes from a client of the leader; a snapshot has a way of its own; the rest
            // is local to raft-rs.
            _ => false,
        };
        kind && message.to == self.peer.0 && message.from != 0 && message.from != self.peer.0
    }

    /// A message came from a peer. What isn't admitted is dropped.
    pub fn step(&mut self, message: Message) -> Result<(), Broken> {
        if !self.admit(&message) {
            return Ok(());
        }
        match message.get_msg_type() {
            MessageType::MsgAppend
                if !message.entries.is_empty() && self.unsynced_bytes > self.limits.backlog_bytes_max =>
            {
                return Ok(());
            }
            MessageType::MsgTimeoutNow if !self.may_campaign() => return Ok(()),
            MessageType::MsgHeartbeat
                if message.term >= self.raw.raft.term
                    && message.commit > self.raw.raft.raft_log.last_index() =>
            {
                return Err(Broken::new(format!(
                    "the leader knows this replica to have acknowledged entry {}, its log ends at {}",
                    message.commit,
                    self.raw.raft.raft_log.last_index()
                )));
            }
            _ => {}
        }
        // An error says that raft-rs ignored the message: from a peer it doesn't know.
        let _ = self.raw.step(message);
        Ok(())
    }

    /// A snapshot's files are all here; this is the message that announced it. If it is of use, the next
    /// [`collect`](Self::collect) asks to install it.
    pub fn snapshot_arrived(&mut self, message: Message) {
        let fits = message.get_msg_type() == MessageType::MsgSnapshot && message.to == self.peer.0;
        if fits && self.installing.is_none() {
            let _ = self.raw.step(message);
        }
    }

    /// The snapshot that was to be installed is installed, durably.
    pub fn installed(&mut self) {
        if let Some(write) = self.installing.take() {
            self.out.writes.push(write);
        }
    }

    /// Whether an installation is under way.
    pub fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// The write of this number, and all before it, are synced.
    pub fn persisted(&mut self, number: u64) {
        self.release(number);
        self.advance_applied();
    }

    /// The state machine has applied all up to `applied`, and made all up to `durable` durable.
    pub fn applied(&mut self, applied: u64, durable: u64) {
        self.applied = self.applied.max(applied);
        self.durable = self.durable.max(durable.min(self.applied));
        while let Some((_, bytes)) = self.unapplied.pop_front_if(|(last, _)| *last <= self.applied) {
            self.unapplied_bytes -= bytes;
        }
        self.advance_applied();
        self.compact_if_due();
    }

    /// raft-rs insists that applied <= persisted, which an installed snapshot is only once its write is synced.
    fn advance_applied(&mut self) {
        let log = &self.raw.raft.raft_log;
        let to = self.applied.min(log.committed).min(log.persisted);
        if to > log.applied {
            self.raw.advance_apply_to(to);
            self.stand_if_due();
        }
    }

    /// Messages to this node may have been lost.
    pub fn unreachable(&mut self, node: u32) {
        let peers: Vec<u64> = self.members().filter(|id| PeerId(*id).node() == node).collect();
        for peer in peers {
            self.raw.report_unreachable(peer);
        }
    }

    /// A snapshot's transfer ended, one way or the other.
    pub fn snapshot_reported(&mut self, to: PeerId, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to.0, status);
    }

    /// The snapshot that was wanted: its position, and what [`Snapshot::data`](Snapshot) shall hold.
    pub fn snapshot_made(&mut self, position: Position, data: bytes::Bytes) {
        self.making_snapshot = false;
        let mut snapshot = Snapshot { data, ..Default::default() };
        let meta = snapshot.mut_metadata();
        meta.index = position.index;
        meta.term = position.term;
        meta.set_conf_state(position.conf);
        self.raw.mut_store().offer(Some(snapshot));
    }

    fn expire_snapshot(&mut self) {
        let Some((_, asked)) = self.raw.store().offered() else { return };
        let in_use = self.raw.raft.prs().iter().any(|(_, peer)| peer.state == raft::ProgressState::Snapshot);
        let old = self.tick.saturating_sub(asked) > self.limits.snapshot_keep_ticks;
        if old && !(in_use && self.is_leader()) {
            self.raw.mut_store().offer(None);
            self.out.drop_snapshot = true;
        }
    }

    fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Ids of all members, voters first; some twice in a joint configuration.
    fn members(&self) -> impl Iterator<Item = u64> + '_ {
        let conf = &self.conf;
        conf.voters.iter().chain(&conf.voters_outgoing).chain(&conf.learners).copied()
    }

    /// Requests that wait for an answer: the shell's mailbox is not the only place where they can pile up.
    pub fn waiting(&self) -> usize {
        self.pending.len() + self.reads.len()
    }

    /// Whether anything waits for the state machine to get on: the shell then tells of each batch at once.
    pub fn awaits_applied(&self) -> bool {
        self.raw.raft.has_pending_conf()
            || self.standing.is_some()
            || !self.conf.voters_outgoing.is_empty()
            || self.unapplied_bytes > self.limits.backlog_bytes_max / 2
    }

    /// Whether all that was handed out to be written is synced.
    pub fn is_quiescent(&self) -> bool {
        self.held.iter().all(|held| !held.writes)
    }

    /// Answers all that wait, with what is known: accepted proposals are unknown, the rest stopped.
    pub fn abort(&mut self) -> Effects<T> {
        use crate::Error;
        let mut out = std::mem::take(&mut self.out);
        out.failed.extend(self.pending.fail_unless(None).map(|token| (token, Error::OutcomeUnknown)));
        out.refused_reads.extend(self.reads.take_all().into_iter().map(|token| (token, Error::Stopped)));
        if let Some(changing) = self.changing.take() {
            out.changes.push((changing.token, Err(Error::OutcomeUnknown)));
        }
        out
    }

    /// What the replica shows of itself.
    pub fn view(&self) -> GroupView {
        let raft = &self.raw.raft;
        let mut progress = Vec::new();
        if self.is_leader() {
            for (id, peer) in raft.prs().iter().filter(|(id, _)| **id != self.peer.0) {
                progress.push(PeerProgress {
                    peer: PeerId(*id),
                    matched: peer.matched,
                    recent_active: peer.recent_active,
                    state: match peer.state {
                        raft::ProgressState::Probe => ProgressState::Probe,
                        raft::ProgressState::Replicate => ProgressState::Replicate,
                        raft::ProgressState::Snapshot => ProgressState::Snapshot,
                    },
                    learner: self.conf.learners.contains(id),
                });
            }
            progress.sort_by_key(|peer| peer.peer);
        }
        GroupView {
            group: self.group,
            peer: self.peer,
            state: ReplicaState::Running,
            role: match raft.state {
                StateRole::Leader => Role::Leader,
                StateRole::Follower => Role::Follower,
                StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            },
            leader: PeerId::known(raft.leader_id),
            term: raft.term,
            commit: raft.raft_log.committed,
            applied: self.applied,
            last: raft.raft_log.last_index(),
            durable: self.durable,
            compacted: self.raw.store().base().index,
            conf: self.conf.clone(),
            serving: self.is_leader() && raft.commit_to_current_term(),
            progress,
        }
    }
}
