//! What the metadata group's leader has been told by the nodes.
//!
//! Kept in memory by whoever leads and gone with its leadership: a new leader hears from every node within a second,
//! and decides nothing until it has, or until it is clear that the rest doesn't answer.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::{NodeId, ReplicaId};
use isthmus_proto::internal::v1::ReplicaReport;

use crate::view::View;

/// A node that hasn't reported for this long doesn't answer. Nodes report every second.
pub const ALIVE_MS: u64 = 3_000;

/// The last report of a node.
#[derive(Clone, Debug, PartialEq)]
struct NodeReport {
    at_ms: u64,
    replicas: BTreeMap<u64, ReplicaReport>,
}

/// Reports of all nodes, and which steps were taken since. Times are milliseconds of any clock that never goes back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    since_ms: u64,
    nodes: BTreeMap<NodeId, NodeReport>,
    acted_ms: BTreeMap<u64, u64>,
}

impl Observed {
    /// Nothing heard yet: leadership begins now.
    pub fn new(now_ms: u64) -> Self {
        Self { since_ms: now_ms, ..Self::default() }
    }

    /// Takes a node's report in; at most one replica of each group is kept. Tells whether it says anything new but
    /// how far replicas have come.
    pub fn report(&mut self, node: NodeId, replicas: Vec<ReplicaReport>, now_ms: u64) -> bool {
        let replicas = replicas.into_iter().filter(|replica| ReplicaId(replica.peer).node() == node);
        let replicas = replicas.map(|replica| (replica.group, ReplicaReport { applied_index: 0, ..replica }));
        let report = NodeReport { at_ms: now_ms, replicas: replicas.collect() };
        let before = self.nodes.insert(node, report);
        before.is_none_or(|before| self.nodes.get(&node).is_none_or(|now| now.replicas != before.replicas))
    }

    /// A step for a group was begun: nothing more is decided for it before [`Self::acted`].
    pub fn acting(&mut self, group: u64) {
        self.acted_ms.insert(group, u64::MAX);
    }

    /// A step for a group ended: until its leader reports again, what it reported before is out of date.
    pub fn acted(&mut self, group: u64, now_ms: u64) {
        self.acted_ms.insert(group, now_ms);
    }

    /// Forgets nodes and groups that are no more.
    pub fn retain(&mut self, view: &View) {
        self.nodes.retain(|node, _| view.has_node(*node));
        self.acted_ms.retain(|group, _| !view.peers(*group).is_empty());
    }

    /// Whether enough was heard to decide anything: every active member has reported, or had time enough to.
    pub fn is_ready(&self, view: &View, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) >= ALIVE_MS
            || view.active_nodes().all(|node| self.nodes.contains_key(&node))
    }

    /// Whether a node answers.
    pub fn is_alive(&self, node: NodeId, now_ms: u64) -> bool {
        self.nodes.get(&node).is_some_and(|report| now_ms.saturating_sub(report.at_ms) < ALIVE_MS)
    }

    /// The nodes that answer.
    pub fn alive(&self, now_ms: u64) -> BTreeSet<NodeId> {
        self.nodes.keys().copied().filter(|node| self.is_alive(*node, now_ms)).collect()
    }

    /// Whether a node that answers has opened this peer.
    pub fn is_open(&self, group: u64, peer: ReplicaId, now_ms: u64) -> bool {
        let node = peer.node();
        self.is_alive(node, now_ms)
            && self.nodes.get(&node).and_then(|n| n.replicas.get(&group)).is_some_and(|r| r.peer == peer.0)
    }

    /// What the group's leader says of it; of several that think they lead, the one with the highest term. `None`
    /// while no leader tells, or hasn't told since the last step.
    pub fn leader(&self, group: u64, now_ms: u64) -> Option<Led> {
        let acted = self.acted_ms.get(&group).copied();
        let nodes = self.nodes.iter().filter(|(node, _)| self.is_alive(**node, now_ms));
        let reports =
            nodes.filter_map(|(_, node)| node.replicas.get(&group).map(|replica| (node.at_ms, replica)));
        let leaders = reports.filter(|(_, replica)| replica.leader == replica.peer && replica.leader != 0);
        let (at_ms, replica) = leaders.max_by_key(|(_, replica)| (replica.term, replica.peer))?;
        (acted.is_none_or(|acted| at_ms > acted)).then(|| Led::of(replica))
    }

    /// The node that leads a group, as far as any node's report tells.
    pub fn leading_node(&self, group: u64, now_ms: u64) -> Option<NodeId> {
        let nodes = self.nodes.iter().filter(|(node, _)| self.is_alive(**node, now_ms));
        let replicas = nodes.filter_map(|(_, node)| node.replicas.get(&group));
        let led = replicas.filter(|replica| replica.leader == replica.peer && replica.leader != 0);
        led.max_by_key(|replica| (replica.term, replica.peer)).map(|replica| ReplicaId(replica.peer).node())
    }
}

/// A group as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// The leader.
    pub leader: ReplicaId,
    /// Peers that vote.
    pub voters: BTreeSet<ReplicaId>,
    /// Peers that don't.
    pub learners: BTreeSet<ReplicaId>,
    /// Peers that answer, and whose log is close to the leader's; the leader itself is one.
    pub caught_up: BTreeSet<ReplicaId>,
    /// Whether a change of members is under way.
    pub joint: bool,
}

impl Led {
    fn of(replica: &ReplicaReport) -> Self {
        let set = |peers: &[u64]| peers.iter().copied().map(ReplicaId).collect::<BTreeSet<_>>();
        let mut caught_up = set(&replica.caught_up);
        caught_up.insert(ReplicaId(replica.peer));
        Self {
            leader: ReplicaId(replica.peer),
            voters: set(&replica.voters),
            learners: set(&replica.learners),
            caught_up,
            joint: replica.joint,
        }
    }

    /// Whether a peer belongs to the group.
    pub fn has(&self, peer: ReplicaId) -> bool {
        self.voters.contains(&peer) || self.learners.contains(&peer)
    }

    /// Whether a group of these voters could commit right now: most of them answer and are close behind.
    pub fn could_commit(&self, voters: &BTreeSet<ReplicaId>) -> bool {
        voters.intersection(&self.caught_up).count() > voters.len() / 2
    }
}
