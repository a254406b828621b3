//! How the coordinator reaches shards: it never imports them.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use isthmus_proto::internal::v1::{ChangeMembersCall, ReplicaReport};
use isthmus_raft::{GroupView, ReplicaState, Role};
use tokio::time::Instant;

/// A peer whose log is at most so many entries behind the leader's is close: it gets a vote.
const CLOSE_ENTRIES: u64 = 512;

/// What the coordinator wants of the node's shards, and of shards elsewhere. Implemented over the router.
pub trait ShardControl: Send + Sync + 'static {
    /// What this node's replicas do: [`replica_report`] of each. Called about ten times a second: cheap.
    fn reports(&self) -> Vec<ReplicaReport>;

    /// Has the leader of a shard, wherever it is, change the group's members in one step. An error says why it was
    /// not done, or is not known to be.
    fn change_members(
        &self,
        shard: u64,
        change: ChangeMembersCall,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<(), String>>;

    /// Has the leader of a shard hand leadership over to a peer.
    fn transfer(&self, shard: u64, to_peer: u64, deadline: Instant)
    -> BoxFuture<'static, Result<(), String>>;
}

/// What a replica is reported to do.
pub fn replica_report(view: &GroupView) -> ReplicaReport {
    let mut report = ReplicaReport {
        group: view.group,
        peer: view.peer.0,
        term: view.term,
        applied_index: view.applied,
        ..ReplicaReport::default()
    };
    if view.state != ReplicaState::Running {
        // It takes no part: whom it followed says nothing.
        return report;
    }
    report.leader = view.leader.map_or(0, |leader| leader.0);
    // A leader that can't serve yet has not committed in its term: it may not know what its group looks like.
    if view.role != Role::Leader || !view.serving {
        if report.leader == report.peer {
            report.leader = 0;
        }
        return report;
    }
    let voters =
        view.conf.voters.iter().chain(&view.conf.voters_outgoing).copied().collect::<BTreeSet<u64>>();
    report.voters = voters.into_iter().collect();
    report.learners = view.conf.learners.iter().chain(&view.conf.learners_next).copied().collect();
    report.joint = !view.conf.voters_outgoing.is_empty();
    let close = view.progress.iter().filter(|peer| {
        peer.recent_active && peer.matched > 0 && peer.matched.saturating_add(CLOSE_ENTRIES) >= view.last
    });
    report.caught_up = close.map(|peer| peer.peer.0).collect();
    report
}
