//! What the rest of the node holds of a group.

use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::ConfState;
use tokio::{
    sync::{oneshot, watch},
    time::{Duration, Instant, timeout_at},
};

use crate::{
    Error,
    group::Replica,
    inbox::Mail,
    proposer::Proposer,
    types::{GroupId, GroupView, MembershipChange, PeerId, Proposed, ReplicaState, Role},
};

/// A cheap handle on one replica of a group. The replica goes on without handles, until it is stopped.
///
/// Deadlines are of tokio's clock. When one passes, the call returns at once; what was accepted before may still
/// take effect.
pub struct GroupHandle<O> {
    replica: Arc<Replica<O>>,
}

impl<O> Clone for GroupHandle<O> {
    fn clone(&self) -> Self {
        Self { replica: self.replica.clone() }
    }
}

impl<O> std::fmt::Debug for GroupHandle<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupHandle")
            .field("group", &self.replica.group)
            .field("peer", &self.replica.peer)
            .finish()
    }
}

impl<O: Send + 'static> GroupHandle<O> {
    pub(crate) fn new(replica: Arc<Replica<O>>) -> Self {
        Self { replica }
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.replica.group
    }

    /// This replica.
    pub fn peer(&self) -> PeerId {
        self.replica.peer
    }

    /// Proposes `data` (not empty) and returns what the state machine of this replica made of it.
    ///
    /// Refused with `NotLeader`, `NoLeader`, `Overloaded`, `TooLarge`, `Invalid` or `Stopped`: nothing was proposed.
    /// `OutcomeUnknown`: the deadline passed or leadership was lost after it was accepted.
    pub async fn propose(&self, data: Bytes, deadline: Instant) -> Result<Proposed<O>, Error> {
        let (reply, answer) = oneshot::channel();
        let from = Proposer::new(self.replica.group, reply);
        self.replica.inbox.mail(Mail::Propose { data, from })?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::OutcomeUnknown),
        }
    }

    /// A linearizable barrier: returns once this replica has applied everything that was answered anywhere before
    /// this call, and says up to which index at least. Works on any member; a follower asks its leader.
    ///
    /// `NoLeader` or `TimedOut` when the deadline passes without or with a leader known.
    pub async fn read_index(&self, deadline: Instant) -> Result<u64, Error> {
        let (reply, answer) = oneshot::channel();
        self.replica.inbox.mail(Mail::Read { reply })?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) if self.replica.view.borrow().leader.is_none() => Err(Error::NoLeader),
            Err(_) => Err(Error::TimedOut),
        }
    }

    /// Returns once this replica has applied `index`. Says nothing of other replicas.
    pub async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.replica.gate.wait(index, reply);
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer.map(|_| ()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::TimedOut),
        }
    }

    /// Hands leadership to a voter; returns once this replica sees it lead. Proposals are refused with `NoLeader`
    /// meanwhile, for at most an election timeout a try. Tried again until the deadline.
    pub async fn transfer_leader(&self, to: PeerId, deadline: Instant) -> Result<(), Error> {
        let mut view = self.replica.view.subscribe();
        let try_every = Duration::from_secs(1);
        loop {
            let (reply, answer) = oneshot::channel();
            self.replica.inbox.mail(Mail::Transfer { to, reply })?;
            let begun = match timeout_at(deadline, answer).await {
                Ok(Ok(begun)) => begun,
                Ok(Err(_)) => return Err(Error::Stopped),
                Err(_) => return Err(Error::TimedOut),
            };
            match begun {
                Err(Error::NotLeader { leader: Some(leader) }) if leader == to => return Ok(()),
                Err(error) => return Err(error),
                Ok(()) => {}
            }
            let until = deadline.min(Instant::now() + try_every);
            let led = timeout_at(until, view.wait_for(|view| view.leader == Some(to))).await;
            match led {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(Error::Stopped),
                Err(_) if until >= deadline => return Err(Error::TimedOut),
                Err(_) => {}
            }
        }
    }

    /// Changes the members; returns them once the change is complete, any joint configuration left.
    ///
    /// A leader can't remove itself: hand leadership over first. One change at a time: `MembershipChanging`.
    /// `OutcomeUnknown`: the deadline passed or leadership was lost; the change may still be completed by any leader.
    pub async fn change_membership(
        &self,
        change: MembershipChange,
        deadline: Instant,
    ) -> Result<ConfState, Error> {
        let (reply, answer) = oneshot::channel();
        self.replica.inbox.mail(Mail::Change { change, reply })?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::OutcomeUnknown),
        }
    }

    /// Makes this replica stand for election now, if it is a voter that would be elected; for a new group, so that
    /// it needn't wait for the time-out. Returns at once.
    pub async fn campaign(&self) {
        // Only a stopped or overloaded replica refuses; the election timeout does it then.
        let _ = self.replica.inbox.mail(Mail::Campaign);
    }

    /// What the replica shows of itself, with the applied index of this moment.
    pub fn view(&self) -> GroupView {
        let mut view = self.replica.view.borrow().clone();
        view.applied = view.applied.max(self.replica.gate.applied());
        view
    }

    /// Whether the replica works, what it is to its group, and who leads as far as it knows: the part of the view that
    /// every call needs, without a copy of the rest.
    pub fn leadership(&self) -> (ReplicaState, Role, Option<PeerId>) {
        let view = self.replica.view.borrow();
        (view.state, view.role, view.leader)
    }

    /// Follows the view: role, leader, term and members at once, counters with each tick.
    pub fn watch(&self) -> watch::Receiver<GroupView> {
        self.replica.view.subscribe()
    }

    /// The index this replica has applied.
    pub fn applied(&self) -> u64 {
        self.replica.gate.applied()
    }

    /// Stops the replica and waits until its tasks have ended and its log is quiescent. All that wait are answered:
    /// accepted proposals with `OutcomeUnknown`, the rest with `Stopped`.
    pub async fn stop(&self) {
        self.replica.inbox.request_stop();
        self.replica.ended.cancelled().await;
    }
}
