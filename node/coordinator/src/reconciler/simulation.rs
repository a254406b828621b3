//! A little world for the reconciler: the real metadata state, pretended groups and nodes.
//!
//! Groups follow Raft's rules as far as placement meets them: a leader is one of the voters and needs most of them
//! to change anything; a joint configuration may be left standing when its leader crashes in the middle; a learner
//! catches up only while its replica is open; a replica is deleted when the placement doesn't list it.
//! After every step the world checks what must never happen ([`World::check`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use isthmus_domain::{NodeId, ReplicaId};
use isthmus_proto::internal::v1::{
    ForgetNodeCommand, InitCommand, LeaveNodeCommand, MetaCommand, MetaOutcome, NodeInfo,
    PlaceMetadataCommand, PlaceShardCommand, PutNodeCommand, ReplicaReport, meta_command::Command,
};

use super::{Observed, Step, decide};
use crate::{
    state::{METADATA_GROUP, MetaState},
    view::View,
};

/// Milliseconds of a round: decide, carry out, report.
const ROUND_MS: u64 = 1_000;

#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) voters: BTreeSet<ReplicaId>,
    pub(super) outgoing: BTreeSet<ReplicaId>,
    pub(super) learners: BTreeSet<ReplicaId>,
    pub(super) caught_up: BTreeSet<ReplicaId>,
    pub(super) leader: Option<ReplicaId>,
    pub(super) term: u64,
    /// Every peer that was ever a member.
    ever: BTreeSet<ReplicaId>,
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is carried out.
    Done,
    /// It is lost.
    Lost,
    /// It is carried out, and again later when other steps were taken meanwhile.
    Repeated,
    /// The group's leader crashes in the middle of it.
    Interrupted,
}

pub(super) struct World {
    pub(super) state: MetaState,
    pub(super) groups: BTreeMap<u64, Group>,
    /// Open replicas: group and peer.
    pub(super) open: BTreeSet<(u64, ReplicaId)>,
    pub(super) down: BTreeSet<NodeId>,
    pub(super) observed: Observed,
    pub(super) now_ms: u64,
    late: Vec<Step>,
    pub(super) log: Vec<String>,
    view: Arc<View>,
}

pub(super) fn node(id: u32) -> NodeInfo {
    NodeInfo {
        node_id: id,
        grpc_address: format!("n{id}:1"),
        http_address: format!("n{id}:2"),
        peer_address: format!("n{id}:3"),
        public_key: Bytes::from(vec![id as u8; 32]),
        ..NodeInfo::default()
    }
}

impl World {
    /// A cluster of one node.
    pub(super) fn new(shards: u32, replicas: u32) -> Self {
        let mut world = Self {
            state: MetaState::new(),
            groups: BTreeMap::new(),
            open: BTreeSet::new(),
            down: BTreeSet::new(),
            observed: Observed::new(0),
            now_ms: 0,
            late: Vec::new(),
            log: Vec::new(),
            view: Arc::default(),
        };
        world.apply(Command::Init(InitCommand {
            cluster_id: Bytes::from(vec![9; 16]),
            node: Some(node(1)),
            shards,
            replicas,
            sealed_identity_key: Bytes::from(vec![1; 80]),
            sources: Vec::new(),
        }));
        let view = world.view();
        for group in super::groups(&view) {
            let founder = BTreeSet::from_iter(view.peers(group).iter().copied());
            let group_state = Group {
                voters: founder.clone(),
                caught_up: founder.clone(),
                ever: founder,
                ..Group::default()
            };
            world.groups.insert(group, group_state);
        }
        world
    }

    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    pub(super) fn apply(&mut self, command: Command) -> MetaOutcome {
        let outcome = self.state.apply(&MetaCommand { now_micros: 1, command: Some(command) }).unwrap();
        if outcome.version != self.view.version {
            self.state.check().unwrap();
            self.view = Arc::new(View::of(&self.state).unwrap());
        }
        outcome
    }

    pub(super) fn join(&mut self, id: u32) {
        let sealed_identity_key = Bytes::from(vec![1; 80]);
        let outcome =
            self.apply(Command::PutNode(PutNodeCommand { node: Some(node(id)), sealed_identity_key }));
        assert_eq!(outcome.refused, "");
    }

    /// Asks for a node to be removed; the answer's code.
    pub(super) fn remove(&mut self, id: u32) -> String {
        if let Err(refusal) = super::risk::leaving(&self.view(), &self.observed, NodeId(id), self.now_ms) {
            return refusal.code.to_string();
        }
        self.apply(Command::LeaveNode(LeaveNodeCommand { node_id: id })).refused
    }

    fn up(&self, peer: ReplicaId, group: u64) -> bool {
        !self.down.contains(&peer.node()) && self.open.contains(&(group, peer))
    }

    /// Nodes open and delete replicas, groups elect leaders, learners catch up, nodes report.
    pub(super) fn settle(&mut self) {
        self.settle_unchecked();
        self.check();
    }

    /// As [`Self::settle`], for a world that a test has put out of order.
    pub(super) fn settle_unchecked(&mut self) {
        self.now_ms += ROUND_MS;
        let view = self.view();
        for (id, group) in &self.groups {
            for peer in view.peers(*id) {
                if !self.down.contains(&peer.node()) {
                    // A founder opens with its voters, any other is empty until the leader speaks to it.
                    let known = group.ever.contains(peer) || peer.generation() > 1;
                    assert!(known, "a founder that never was a member");
                    self.open.insert((*id, *peer));
                }
            }
        }
        let down = self.down.clone();
        self.open.retain(|(group, peer)| down.contains(&peer.node()) || view.peers(*group).contains(peer));
        let open = self.open.clone();
        let up = |peer: &ReplicaId, id: u64| !down.contains(&peer.node()) && open.contains(&(id, *peer));
        for (id, group) in &mut self.groups {
            let most = |of: &BTreeSet<ReplicaId>| {
                of.is_empty() || of.iter().filter(|peer| up(peer, *id)).count() > of.len() / 2
            };
            let quorum = most(&group.voters) && most(&group.outgoing);
            if group.leader.is_some_and(|leader| !up(&leader, *id) || !group.voters.contains(&leader))
                || !quorum
            {
                group.leader = None;
            }
            if group.leader.is_none() && quorum {
                group.leader = group.voters.iter().copied().find(|peer| up(peer, *id));
                group.term += 1;
            }
            if group.leader.is_some() {
                // Any leader leaves the joint configuration it finds, and brings everyone up to date.
                group.outgoing.clear();
                let members = group.voters.union(&group.learners);
                group.caught_up = members.copied().filter(|peer| up(peer, *id)).collect();
            }
        }
        self.report_all();
    }

    /// All nodes that are up tell what their replicas do.
    pub(super) fn report_all(&mut self) {
        let view = self.view();
        for info in view.nodes.values().filter(|info| !self.down.contains(&NodeId(info.node_id))) {
            let of_node = self.open.iter().filter(|(_, peer)| peer.node().0 == info.node_id);
            let reports = of_node.map(|(group, peer)| self.report(*group, *peer)).collect();
            self.observed.report(NodeId(info.node_id), reports, self.now_ms);
        }
    }

    fn report(&self, id: u64, peer: ReplicaId) -> ReplicaReport {
        let group = &self.groups[&id];
        let leads = group.leader == Some(peer);
        let list = |peers: &BTreeSet<ReplicaId>| {
            if leads { peers.iter().map(|peer| peer.0).collect() } else { Vec::new() }
        };
        ReplicaReport {
            group: id,
            peer: peer.0,
            leader: group.leader.map_or(0, |leader| leader.0),
            term: group.term,
            voters: list(&group.voters),
            learners: list(&group.learners),
            caught_up: list(&group.caught_up),
            joint: leads && !group.outgoing.is_empty(),
            ..ReplicaReport::default()
        }
    }

    /// One round: decide, carry out with the fates given, settle. Returns how many steps were decided on.
    pub(super) fn round(&mut self, mut fate: impl FnMut(&Step) -> Fate) -> usize {
        let view = self.view();
        let steps = decide(&view, &self.observed, self.now_ms);
        let groups: Vec<_> = steps.iter().filter_map(Step::group).collect();
        assert_eq!(groups.iter().collect::<BTreeSet<_>>().len(), groups.len(), "two steps for one group");
        for step in std::mem::take(&mut self.late) {
            self.carry_out(&step, false);
        }
        for step in &steps {
            let fate = fate(step);
            self.log.push(format!("{:>6} {fate:?} {step:?}", self.now_ms));
            match fate {
                Fate::Lost => {}
                Fate::Done => self.carry_out(step, false),
                Fate::Interrupted => self.carry_out(step, true),
                Fate::Repeated => {
                    self.carry_out(step, false);
                    self.late.push(step.clone());
                }
            }
            if let Some(group) = step.group() {
                self.observed.acted(group, self.now_ms);
            }
        }
        self.settle();
        steps.len()
    }

    fn carry_out(&mut self, step: &Step, interrupted: bool) {
        match step.clone() {
            Step::Place { group, based_on_version, peers } => {
                let peers = peers.iter().map(|peer| peer.0).collect();
                self.apply(if group == METADATA_GROUP {
                    Command::PlaceMetadata(PlaceMetadataCommand { peers, based_on_version })
                } else {
                    Command::PlaceShard(PlaceShardCommand { shard: group, based_on_version, peers })
                });
            }
            Step::Forget { node } => {
                self.apply(Command::ForgetNode(ForgetNodeCommand { node_id: node.0 }));
            }
            Step::Transfer { group: id, to } => {
                let up = self.up(to, id);
                let Some(group) = self.groups.get_mut(&id) else { return };
                if up && group.leader.is_some() && group.voters.contains(&to) {
                    group.leader = Some(to);
                    group.term += 1;
                }
            }
            Step::Change { group: id, add_learners, promote, remove } => {
                let open: BTreeSet<_> = self.open.iter().filter(|(g, _)| *g == id).map(|(_, p)| *p).collect();
                let down = self.down.clone();
                let Some(group) = self.groups.get_mut(&id) else { return };
                if group.leader.is_none() || !group.outgoing.is_empty() {
                    return;
                }
                let before = group.voters.clone();
                for peer in add_learners.into_iter().filter(|peer| !before.contains(peer)) {
                    group.learners.insert(peer);
                    group.ever.insert(peer);
                }
                for peer in
                    promote.iter().filter(|peer| group.learners.contains(*peer)).copied().collect::<Vec<_>>()
                {
                    group.learners.remove(&peer);
                    group.voters.insert(peer);
                }
                for peer in remove {
                    group.learners.remove(&peer);
                    group.voters.remove(&peer);
                }
                if group.voters == before {
                    return;
                }
                let up = |peer: &&ReplicaId| !down.contains(&peer.node()) && open.contains(*peer);
                let alive = group.voters.iter().filter(up).count();
                assert!(alive > group.voters.len() / 2, "{id}: voters {:?} could not commit", group.voters);
                assert!(
                    group.leader.is_none_or(|leader| group.voters.contains(&leader)),
                    "a leader removed itself"
                );
                if interrupted {
                    group.outgoing = before;
                    group.leader = None;
                }
            }
        }
        self.check();
    }

    /// What must hold at every moment: no voter's data is gone.
    pub(super) fn check(&self) {
        let view = self.view();
        for (id, group) in &self.groups {
            for peer in group.voters.iter().chain(&group.outgoing) {
                let kept = self.open.contains(&(*id, *peer)) || view.peers(*id).contains(peer);
                assert!(kept, "group {id}: voter {peer} has no data\n{}", self.log.join("\n"));
            }
        }
    }

    /// Rounds until nothing is decided any more; panics when that doesn't come.
    pub(super) fn converge(&mut self) {
        for _ in 0..400 {
            if self.round(|_| Fate::Done) == 0 && self.late.is_empty() {
                // Once more, so that what was reported is what is.
                self.settle();
                if self.round(|_| Fate::Done) == 0 {
                    return;
                }
            }
        }
        panic!("no end of steps:\n{}", self.log.join("\n"));
    }

    /// How many voters each node has, over all groups, and that placement and members agree.
    pub(super) fn voters_by_node(&self) -> BTreeMap<u32, usize> {
        let view = self.view();
        let mut count = BTreeMap::new();
        for (id, group) in &self.groups {
            assert_eq!(group.voters, view.peers(*id).iter().copied().collect(), "group {id}");
            assert!(group.learners.is_empty() && group.outgoing.is_empty());
            for peer in &group.voters {
                *count.entry(peer.node().0).or_default() += 1;
            }
        }
        count
    }

    /// How many shards each node leads.
    pub(super) fn leaders_by_node(&self) -> BTreeMap<u32, usize> {
        let mut count = BTreeMap::new();
        for (_, group) in self.groups.iter().filter(|(id, _)| **id != METADATA_GROUP) {
            *count.entry(group.leader.map_or(0, |leader| leader.node().0)).or_default() += 1;
        }
        count
    }
}
