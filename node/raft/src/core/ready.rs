//! From a `Ready` to effects, and from a sync back to the messages that waited for it.

use isthmus_storage::log::EntryId;
use raft::{
    StateRole,
    eraftpb::{Entry, EntryType, MessageType},
};

use super::{
    Apply, Core, Effects, Held, Tokens, Write,
    membership::sorted,
    store::{HandOut, entry_bytes},
};
use crate::{
    Error, codec,
    machine::Broken,
    types::{Committed, PeerId},
};

/// `Ready`s per collection; what is left comes with the next, which the caller is told to make soon.
const READIES_MAX: usize = 8;

/// The guard of the first invariant; a fail point switches it off.
fn acks_before_sync() -> bool {
    fail::fail_point!("raft::ack_before_sync", |_| true);
    false
}

impl<T: Tokens> Core<T> {
    /// All that is to be done now. Call it after each batch of inputs, until the effects are carried out; `true`
    /// says that more is ready, and that it should be called again before long.
    pub fn collect(&mut self) -> Result<(Effects<T>, bool), Broken> {
        let mut more = false;
        self.begin_reads();
        for round in 0.. {
            if self.installing.is_some() || !self.raw.has_ready() {
                break;
            }
            if round == READIES_MAX {
                more = true;
                break;
            }
            let withhold = self.unapplied_bytes > self.limits.backlog_bytes_max;
            self.handle_ready(withhold)?;
            self.begin_reads();
            if withhold {
                // What is left is committed entries that were withheld: they wait for the state machine.
                break;
            }
        }
        self.settle();
        if self.raw.store().take_snapshot_wanted() && !self.making_snapshot {
            self.making_snapshot = true;
            self.out.make_snapshot = true;
        }
        let synced = self.raw.raft.raft_log.persisted;
        self.raw.mut_store().evict(synced);
        Ok((std::mem::take(&mut self.out), more))
    }

    fn handle_ready(&mut self, withhold: bool) -> Result<(), Broken> {
        let hand_out = if withhold { HandOut::Withhold } else { HandOut::Next };
        self.raw.mut_store().handing_out = Some(hand_out);
        let mut ready = self.raw.ready();
        self.raw.mut_store().handing_out = None;

        let number = ready.number();
        self.out.changed |= ready.ss().is_some();
        if let Some(hard_state) = ready.hs() {
            self.out.changed |= ready.must_sync();
            self.hard_state_unwritten = Some(hard_state.clone());
        }
        for message in ready.take_messages() {
            self.send(message);
        }
        let entries = ready.take_entries();
        let held_messages = ready.take_persisted_messages();
        let read_states = ready.take_read_states();
        let committed = ready.take_committed_entries();
        let writes = ready.must_sync();
        let snapshot = (!ready.snapshot().is_empty()).then(|| ready.snapshot().clone());

        let reset = snapshot.as_ref().map(|snapshot| {
            let meta = snapshot.get_metadata();
            EntryId { index: meta.index, term: meta.term }
        });
        let bytes = entries.iter().map(entry_bytes).sum();
        // raft-rs reads these back from the store before they are synced.
        if let Some(base) = reset {
            self.raw.mut_store().reset(base);
        }
        self.raw.mut_store().append(&entries);
        self.raw.advance_append_async(ready);

        self.unsynced_bytes += bytes;
        if acks_before_sync() {
            for message in held_messages {
                self.send(message);
            }
            self.held.push_back(Held { number, writes, bytes, messages: Vec::new() });
        } else {
            self.held.push_back(Held { number, writes, bytes, messages: held_messages });
        }
        if writes {
            let write = Write { number, reset, entries, hard_state: self.hard_state_unwritten.take() };
            match snapshot {
                Some(snapshot) => {
                    self.conf = sorted(snapshot.get_metadata().get_conf_state().clone());
                    self.out.changed = true;
                    self.out.install = Some(snapshot);
                    self.installing = Some(write);
                }
                None => self.out.writes.push(write),
            }
        } else {
            // With nothing before it on its way to the disk, nothing holds it.
            self.release(0);
        }
        for state in read_states {
            let readers = self.reads.answered(&state.request_ctx);
            self.out.reads.extend(readers.into_iter().map(|reader| (state.index, reader)));
        }
        self.hand_out(committed)
    }

    /// Lets go of what waited for the writes up to `number`.
    pub(super) fn release(&mut self, number: u64) {
        let mut synced = None;
        while let Some(held) = self.held.pop_front_if(|held| held.number <= number || !held.writes) {
            self.unsynced_bytes -= held.bytes;
            synced = Some(held.number);
            for message in held.messages {
                self.send(message);
            }
        }
        if let Some(number) = synced {
            self.raw.on_persist_ready(number);
        }
    }

    fn send(&mut self, message: raft::eraftpb::Message) {
        match message.get_msg_type() {
            MessageType::MsgSnapshot => self.out.snapshots.push(message),
            _ => self.out.messages.push(message),
        }
    }

    fn hand_out(&mut self, committed: Vec<Entry>) -> Result<(), Broken> {
        let Some(last) = committed.last().map(|entry| entry.index) else { return Ok(()) };
        let bytes = committed.iter().map(entry_bytes).sum();
        self.unapplied.push_back((last, bytes));
        self.unapplied_bytes += bytes;
        for entry in committed {
            let (index, term) = (entry.index, entry.term);
            if entry.get_entry_type() != EntryType::EntryNormal {
                let conf = self.reconfigure(&entry)?;
                self.out.apply.push(Apply::Conf { index, term, conf });
            } else if entry.data.is_empty() {
                self.out.apply.push(Apply::Empty { index, term });
            } else {
                let token = self.pending.take(term, index);
                self.out.apply.push(Apply::Entry(Committed { index, term, data: entry.data }, token));
            }
        }
        Ok(())
    }

    fn reconfigure(&mut self, entry: &Entry) -> Result<raft::eraftpb::ConfState, Broken> {
        let change = codec::conf_change(&entry.data).map_err(|error| {
            Broken::new(format!("the change of members at {} can't be decoded: {error}", entry.index))
        })?;
        match self.raw.apply_conf_change(&change) {
            Ok(conf) => self.conf = sorted(conf),
            // All replicas come to the same conclusion: the members stay as they are.
            Err(error) => {
                tracing::warn!(group = self.group, index = entry.index, %error, "a change of members was void")
            }
        }
        self.out.changed = true;
        self.change_applied(entry.index);
        if self.is_leader() && !self.members().any(|id| id == self.peer.0) {
            // raft-rs would go on leading, and panic at its next commit. The others should know of the commit.
            self.raw.raft.bcast_append();
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, 0);
        }
        self.leave_joint_if_due();
        Ok(self.conf.clone())
    }

    /// After all `Ready`s: who can't be answered any more is told so.
    fn settle(&mut self) {
        let leads = (self.raw.raft.state == StateRole::Leader).then_some(self.raw.raft.term);
        let failed = self.pending.fail_unless(leads);
        self.out.failed.extend(failed.map(|token| (token, Error::OutcomeUnknown)));
        if let Some(changing) = self.changing.take_if(|changing| leads != Some(changing.term)) {
            self.out.changes.push((changing.token, Err(Error::OutcomeUnknown)));
        }
        if self.out.changed {
            // A round asked of somebody who leads no more may never be answered.
            self.reads.abandon();
            self.begin_reads();
        }
    }

    /// Who leads, as far as this replica knows.
    pub(super) fn leader(&self) -> Option<PeerId> {
        PeerId::known(self.raw.raft.leader_id)
    }
}
