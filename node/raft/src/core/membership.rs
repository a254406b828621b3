//! Changes of members, by joint consensus where more than one thing changes (Ongaro 2014, §4.3).
//!
//! A joint configuration is left explicitly: whoever leads proposes to leave as soon as the entry that entered it
//! is applied, whether or not it was the one that proposed it. So it ends even if leaders die on the way. A leader
//! that is leaving the group itself first hands leadership to one that stays.

use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, EntryType,
};

use super::{Core, Tokens};
use crate::{
    Error, codec,
    types::{MembershipChange, PeerId},
};

/// Who waits for a change of members.
pub(super) struct Changing<C> {
    pub(super) term: u64,
    /// Index of the entry that begins it.
    index: u64,
    begun: bool,
    pub(super) token: C,
}

/// Lists in order: raft-rs gives them in the order of a hash set, and they become replicated state.
pub(super) fn sorted(mut conf: ConfState) -> ConfState {
    for list in [&mut conf.voters, &mut conf.learners, &mut conf.voters_outgoing, &mut conf.learners_next] {
        list.sort_unstable();
    }
    conf
}

impl<T: Tokens> Core<T> {
    /// Begins a change of members. The token comes back with the members once the change is complete (a joint
    /// configuration left), or with an error.
    pub fn change_membership(&mut self, change: &MembershipChange, token: T::Change) {
        match self.propose_change(change) {
            Ok((term, index)) => self.changing = Some(Changing { term, index, begun: false, token }),
            Err(error) => self.out.changes.push((token, Err(error))),
        }
    }

    fn propose_change(&mut self, change: &MembershipChange) -> Result<(u64, u64), Error> {
        if !self.is_leader() {
            return Err(match self.leader() {
                Some(leader) if leader != self.peer => Error::NotLeader { leader: Some(leader) },
                _ => Error::NoLeader,
            });
        }
        if self.raw.raft.lead_transferee.is_some() {
            return Err(Error::NoLeader);
        }
        let joint = !self.conf.voters_outgoing.is_empty();
        if self.changing.is_some() || joint || self.raw.raft.has_pending_conf() {
            return Err(Error::MembershipChanging);
        }
        let change = self.checked(change)?;
        let (term, index) = (self.raw.raft.term, self.raw.raft.raft_log.last_index() + 1);
        self.propose_conf_change(&change)?;
        Ok((term, index))
    }

    /// raft-rs's form of a change, if it makes sense for the present members.
    fn checked(&self, change: &MembershipChange) -> Result<ConfChangeV2, Error> {
        let invalid = |reason| Err(Error::Invalid { reason });
        let (voter, learner) = (|id| self.conf.voters.contains(&id), |id| self.conf.learners.contains(&id));
        let mut changes = std::collections::BTreeMap::new();
        for PeerId(id) in &change.add_learners {
            if *id == 0 || PeerId(*id).node() == 0 {
                return invalid("peer id 0");
            }
            if self.members().any(|member| PeerId(member).node() == PeerId(*id).node())
                && !change.remove.iter().any(|removed| removed.node() == PeerId(*id).node())
            {
                return invalid("the node is a member already");
            }
            changes.insert(*id, ConfChangeType::AddLearnerNode);
        }
        for PeerId(id) in &change.promote {
            if !learner(*id) {
                return invalid("only a learner can be promoted");
            }
            changes.insert(*id, ConfChangeType::AddNode);
        }
        for PeerId(id) in &change.remove {
            if !voter(*id) && !learner(*id) {
                return invalid("no such member to remove");
            }
            if *id == self.peer.0 {
                return invalid("a leader can't remove itself: hand leadership over first");
            }
            changes.insert(*id, ConfChangeType::RemoveNode);
        }
        let asked = change.add_learners.len() + change.promote.len() + change.remove.len();
        if changes.is_empty() || changes.len() != asked {
            return invalid("a change of nothing, or of one peer twice");
        }
        let mut v2 = ConfChangeV2::default();
        if changes.len() > 1 {
            v2.set_transition(ConfChangeTransition::Explicit);
        }
        v2.set_changes(changes.into_iter().map(single).collect::<Vec<_>>().into());
        Ok(v2)
    }

    fn propose_conf_change(&mut self, change: &ConfChangeV2) -> Result<(), Error> {
        let data = codec::encode_conf_change(change).map_err(|error| Error::Storage(error.to_string()))?;
        let mut entry = raft::eraftpb::Entry { data, ..Default::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        let mut message = raft::eraftpb::Message { from: self.peer.0, ..Default::default() };
        message.set_msg_type(raft::eraftpb::MessageType::MsgPropose);
        message.set_entries(vec![entry].into());
        self.raw.raft.step(message).map_err(|_| super::requests::overloaded())
    }

    /// The entry at `index` changed the members to `self.conf`: whoever waits for it may be answered.
    pub(super) fn change_applied(&mut self, index: u64) {
        let joint = !self.conf.voters_outgoing.is_empty();
        let term = self.raw.raft.term;
        if let Some(changing) = &mut self.changing {
            changing.begun |= changing.index == index && changing.term == term;
        }
        if let Some(changing) = self.changing.take_if(|changing| changing.begun && !joint) {
            self.out.changes.push((changing.token, Ok(self.conf.clone())));
        }
    }

    /// Proposes to leave a joint configuration, if this replica leads one and may.
    pub(super) fn leave_joint_if_due(&mut self) {
        let raft = &self.raw.raft;
        let due = self.is_leader()
            && !self.conf.voters_outgoing.is_empty()
            && !raft.has_pending_conf()
            && raft.lead_transferee.is_none();
        if !due {
            return;
        }
        if self.conf.voters.contains(&self.peer.0) {
            // Refused only if too much is uncommitted; the next tick tries again.
            let _ = self.propose_conf_change(&ConfChangeV2::default());
            return;
        }
        let staying = self.conf.voters.iter().filter_map(|id| {
            let progress = raft.prs().get(*id)?;
            progress.recent_active.then_some((progress.matched, std::cmp::Reverse(*id)))
        });
        if let Some((_, std::cmp::Reverse(heir))) = staying.max() {
            self.raw.transfer_leader(heir);
        }
    }
}

fn single((id, kind): (u64, ConfChangeType)) -> ConfChangeSingle {
    let mut single = ConfChangeSingle { node_id: id, ..Default::default() };
    single.set_change_type(kind);
    single
}
