//! What clients ask of a replica: proposals, read barriers, a hand-over of leadership.

use std::time::Duration;

use bytes::Bytes;
use raft::{
    StateRole,
    eraftpb::{Entry, Message, MessageType},
};

use super::{Core, Tokens};
use crate::{Error, types::PeerId};

/// Bytes and entries that are stepped as one append; more become several.
const APPEND_BYTES_MAX: usize = 1 << 20;
const APPEND_ENTRIES_MAX: usize = 512;

/// A new leader's reads wait for its first commit; a fail point switches that guard off, and with it the proof
/// that this replica leads at all.
fn serves_before_commit() -> bool {
    fail::fail_point!("raft::serve_read_before_commit", |_| true);
    false
}

impl<T: Tokens> Core<T> {
    /// Proposes all at once, in order. Each token comes back exactly once: with its entry, or as failed.
    pub fn propose(&mut self, proposals: Vec<(Bytes, T::Proposal)>) {
        let (mut entries, mut tokens, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (data, token) in proposals {
            if let Some(error) = self.refuses(&data, tokens.len()) {
                self.out.failed.push((token, error));
                continue;
            }
            if bytes + data.len() > APPEND_BYTES_MAX && !entries.is_empty()
                || entries.len() == APPEND_ENTRIES_MAX
            {
                self.append(std::mem::take(&mut entries), std::mem::take(&mut tokens));
                bytes = 0;
            }
            bytes += data.len();
            entries.push(Entry { data, ..Default::default() });
            tokens.push(token);
        }
        if !entries.is_empty() {
            self.append(entries, tokens);
        }
    }

    fn refuses(&self, data: &Bytes, batched: usize) -> Option<Error> {
        let limit_bytes = self.limits.proposal_bytes_max;
        let full = self.unapplied_bytes > self.limits.backlog_bytes_max
            || self.pending.len() + batched >= self.limits.pending_max;
        if !self.is_leader() {
            Some(self.not_leader())
        } else if data.is_empty() {
            Some(Error::Invalid { reason: "an empty proposal" })
        } else if data.len() > limit_bytes {
            Some(Error::TooLarge { bytes: data.len(), limit_bytes })
        } else if self.raw.raft.lead_transferee.is_some() {
            Some(Error::NoLeader)
        } else if full {
            Some(overloaded())
        } else {
            None
        }
    }

    fn append(&mut self, entries: Vec<Entry>, tokens: Vec<T::Proposal>) {
        let first = self.raw.raft.raft_log.last_index() + 1;
        let term = self.raw.raft.term;
        let mut message = Message { from: self.peer.0, ..Default::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(entries.into());
        match self.raw.raft.step(message) {
            Ok(()) => {
                for (offset, token) in tokens.into_iter().enumerate() {
                    self.pending.push(term, first + offset as u64, token);
                }
            }
            // Nothing was appended: too much is uncommitted already.
            Err(_) => self.out.failed.extend(tokens.into_iter().map(|token| (token, overloaded()))),
        }
    }

    fn not_leader(&self) -> Error {
        match self.leader() {
            Some(leader) if leader != self.peer => Error::NotLeader { leader: Some(leader) },
            _ => Error::NoLeader,
        }
    }

    /// Asks for a read barrier. It waits, if need be, until somebody leads; the token comes back with an index, or
    /// as refused.
    pub fn read(&mut self, token: T::Read) {
        if self.reads.len() >= self.limits.reads_max {
            self.out.refused_reads.push((token, overloaded()));
        } else {
            self.reads.push(token);
        }
    }

    /// Begins a round of reads if one is due and somebody can answer it.
    pub(super) fn begin_reads(&mut self) {
        if serves_before_commit() {
            let committed = self.raw.raft.raft_log.committed;
            let readers = self.reads.take_all();
            self.out.reads.extend(readers.into_iter().map(|reader| (committed, reader)));
            return;
        }
        let raft = &self.raw.raft;
        let answerable = match raft.state {
            StateRole::Leader => raft.commit_to_current_term(),
            StateRole::Follower => raft.leader_id != 0,
            StateRole::Candidate | StateRole::PreCandidate => false,
        };
        if answerable && let Some(context) = self.reads.begin(self.tick) {
            self.raw.read_index(context);
        }
    }

    /// Begins to hand leadership over; it is done when the view says so, and given up after an election timeout.
    pub fn transfer_leader(&mut self, to: PeerId) -> Result<(), Error> {
        if !self.is_leader() {
            return Err(self.not_leader());
        }
        if to == self.peer {
            return Ok(());
        }
        if !self.conf.voters.contains(&to.0) {
            return Err(Error::Invalid { reason: "leadership can only be handed to a voter" });
        }
        self.raw.transfer_leader(to.0);
        Ok(())
    }

    /// Asks for votes, pre-vote first, as if the election timeout had passed; a little later if it isn't known yet
    /// whether what is committed and not applied changes the members.
    pub fn campaign(&mut self) {
        self.standing = Some(Standing { asked: self.tick, next: self.tick, persists: false });
        self.stand_if_due();
    }

    pub(super) fn stand_if_due(&mut self) {
        const GIVE_UP_TICKS: u64 = 20;
        const AGAIN_TICKS: u64 = 4;
        let Some(standing) = &self.standing else { return };
        let raft = &self.raw.raft;
        if raft.leader_id != 0 || self.tick.saturating_sub(standing.asked) > GIVE_UP_TICKS {
            self.standing = None;
            return;
        }
        let (applied, committed) = (raft.raft_log.applied, raft.raft_log.committed);
        let due = self.tick >= standing.next
            && raft.promotable()
            && !self.raw.store().may_change_members(applied + 1, committed + 1);
        if !due || !self.may_campaign() {
            return;
        }
        match &mut self.standing {
            Some(standing) if standing.persists => standing.next = self.tick + AGAIN_TICKS,
            standing => *standing = None,
        }
        // An error says that raft-rs ignored it.
        let _ = self.raw.campaign();
    }
}

/// An election that this replica was asked to stand for, or that it stands for by itself after a restart.
pub(super) struct Standing {
    /// The tick at which it was asked for: after a while the election timeout does the rest.
    pub(super) asked: u64,
    /// The tick of the next try.
    pub(super) next: u64,
    /// Whether it tries again until somebody leads.
    pub(super) persists: bool,
}

/// Refused for now. Queues are a few ten milliseconds deep.
pub(crate) fn overloaded() -> Error {
    Error::Overloaded { retry_after: Duration::from_millis(50) }
}
