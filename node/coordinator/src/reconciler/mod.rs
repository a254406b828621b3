//! The reconciler: brings the groups to where placement wants them, one safe step at a time.
//!
//! **What it promises.** [`decide`] is pure: view, reports and time in, steps out. Whatever is interrupted, repeated or
//! lost, the next decision starts from what is: nothing is remembered but what the metadata group holds and the
//! groups' leaders report. So a leader of either may crash between any two steps.
//! 1. At most one step for a group at a time; none while a joint configuration is under way.
//! 2. A group's voters are never changed to a set that could not commit right now.
//! 3. A peer is taken off the placement only when its group doesn't have it any more; a node deletes a replica only
//!    when the placement doesn't list it. So no voter's data is deleted.
//! 4. A leader never removes itself: leadership is handed over first.
//! 5. A node that doesn't answer keeps its replicas until someone removes the node.
//!
//! **How.** For each group, the first that applies:
//!
//! | when | step |
//! | --- | --- |
//! | the group has members that the placement doesn't list | remove them |
//! | placement wants a node that has no peer | place a peer there, of a new generation |
//! | a placed peer is open on its node and not a member | add it as learner |
//! | a learner is not wanted any more | remove it |
//! | the leader is to go, and a voter that stays has caught up | hand leadership over |
//! | the leader is to go, and nobody that stays can vote yet | give learners that have caught up a vote |
//! | all wanted peers have caught up, and members differ from them | promote and remove in one joint change |
//! | the placement lists peers that are not wanted and not members | take them off |
//!
//! Then leadership is handed away from leaving nodes and spread evenly, and leaving nodes that hold nothing are
//! forgotten. Bounds: [`MOVING_MAX`] groups change members at a time, [`TRANSFERS_MAX`] leaderships move a round.
//!
//! **What it leaves out.** A change that was called for and not answered may still be carried out later, by a leader
//! that was slow. It can bring a peer back that was taken off meanwhile: the first line of the table removes it.
//!
//! Source for the order of steps: D. Ongaro, *Consensus: Bridging Theory and Practice* (2014), §4.2 and §4.3.

pub(crate) mod actor;
mod leaders;
mod observed;
pub mod risk;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::{NodeId, ReplicaId};

pub use observed::{ALIVE_MS, Led, Observed};

use crate::{
    placement::{GroupState, NodeState, desired, metadata_voters},
    state::METADATA_GROUP,
    view::View,
};

/// The most groups whose members change at a time: each may mean a whole shard's data on its way.
pub const MOVING_MAX: usize = 8;
/// The most leaderships handed over in one round to spread them.
pub const TRANSFERS_MAX: usize = 4;

/// One step towards the placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Set the peers that a group should have; generation 0 stands for a new one. Refused if the group was placed
    /// anew after `based_on_version` (of the shard map; of the view for the metadata group).
    Place {
        /// The group.
        group: u64,
        /// See above.
        based_on_version: u64,
        /// The peers.
        peers: Vec<ReplicaId>,
    },
    /// Change a group's members, in one step.
    Change {
        /// The group.
        group: u64,
        /// To receive the log without a vote.
        add_learners: Vec<ReplicaId>,
        /// Learners that get a vote.
        promote: Vec<ReplicaId>,
        /// To leave.
        remove: Vec<ReplicaId>,
    },
    /// Hand leadership over.
    Transfer {
        /// The group.
        group: u64,
        /// To whom.
        to: ReplicaId,
    },
    /// Forget a node that has left.
    Forget {
        /// The node.
        node: NodeId,
    },
}

impl Step {
    /// The group that it is about.
    pub fn group(&self) -> Option<u64> {
        match self {
            Self::Place { group, .. } | Self::Change { group, .. } | Self::Transfer { group, .. } => {
                Some(*group)
            }
            Self::Forget { .. } => None,
        }
    }

    fn change(group: u64) -> Change {
        Change { group, add_learners: Vec::new(), promote: Vec::new(), remove: Vec::new() }
    }
}

/// [`Step::Change`] in the making.
struct Change {
    group: u64,
    add_learners: Vec<ReplicaId>,
    promote: Vec<ReplicaId>,
    remove: Vec<ReplicaId>,
}

impl From<Change> for Step {
    fn from(change: Change) -> Self {
        let Change { group, add_learners, promote, remove } = change;
        Self::Change { group, add_learners, promote, remove }
    }
}

/// Decides what to do next; empty: all is as it should be, or has to wait.
pub fn decide(view: &View, observed: &Observed, now_ms: u64) -> Vec<Step> {
    if view.version == 0 || !observed.is_ready(view, now_ms) {
        return Vec::new();
    }
    let nodes: BTreeMap<NodeId, NodeState> = view
        .nodes
        .iter()
        .map(|(id, info)| (*id, NodeState { alive: observed.is_alive(*id, now_ms), leaving: info.leaving }))
        .collect();
    let groups = groups(view);
    let led: BTreeMap<u64, Led> =
        groups.iter().filter_map(|group| Some((*group, observed.leader(*group, now_ms)?))).collect();
    let states = groups.iter().map(|group| (*group, state_of(view, *group, led.get(group)))).collect();
    let wanted = desired(&nodes, &states);

    let mut moving = led.iter().filter(|(group, led)| is_moving(view.peers(**group), led)).count();
    let mut steps: Vec<Step> = Vec::new();
    for (group, led) in &led {
        let (Some(wanted), false) = (wanted.get(group), led.joint) else { continue };
        let round = Round { view, observed, now_ms, group: *group, led, wanted };
        let Some(step) = round.step() else { continue };
        let begins =
            matches!(&step, Step::Place { peers, .. } if peers.iter().any(|peer| peer.generation() == 0));
        let had_begun = is_moving(view.peers(*group), led);
        if begins && !had_begun {
            if moving >= MOVING_MAX {
                continue;
            }
            moving += 1;
        }
        steps.push(step);
    }
    leaders::hand_over(&nodes, &led, &mut steps);
    let leaving = view.nodes.iter().filter(|(_, info)| info.leaving).map(|(id, _)| *id);
    steps.extend(leaving.filter(|node| view.replicas_on(*node) == 0).map(|node| Step::Forget { node }));
    steps
}

/// All groups there are.
fn groups(view: &View) -> Vec<u64> {
    let shards = view.shard_map.shards.iter().map(|shard| shard.id.0);
    [METADATA_GROUP].into_iter().chain(shards).collect()
}

fn state_of(view: &View, group: u64, led: Option<&Led>) -> GroupState {
    let placed: BTreeSet<NodeId> = view.peers(group).iter().map(|peer| peer.node()).collect();
    let voters =
        led.map_or_else(|| placed.clone(), |led| led.voters.iter().map(|peer| peer.node()).collect());
    let wanted =
        if group == METADATA_GROUP { metadata_voters(view.replicas) } else { view.replicas as usize };
    GroupState { wanted, placed, voters }
}

/// Whether a group's members are being changed.
fn is_moving(placed: &[ReplicaId], led: &Led) -> bool {
    led.joint || !led.learners.is_empty() || placed.iter().any(|peer| !led.has(*peer))
}

/// What one group's step is decided on.
struct Round<'a> {
    view: &'a View,
    observed: &'a Observed,
    now_ms: u64,
    group: u64,
    led: &'a Led,
    wanted: &'a BTreeSet<NodeId>,
}

impl Round<'_> {
    fn step(&self) -> Option<Step> {
        let placed = self.view.peers(self.group);
        let members = || self.led.voters.iter().chain(&self.led.learners).copied();
        let mut change = Step::change(self.group);

        let (lost_voters, lost_learners): (Vec<_>, Vec<_>) =
            members().filter(|peer| !placed.contains(peer)).partition(|peer| self.led.voters.contains(peer));
        if !lost_learners.is_empty() {
            change.remove = lost_learners;
            return Some(change.into());
        }
        if !lost_voters.is_empty() {
            let left: BTreeSet<_> =
                self.led.voters.iter().copied().filter(|p| !lost_voters.contains(p)).collect();
            if lost_voters.contains(&self.led.leader) || !self.led.could_commit(&left) {
                return None;
            }
            change.remove = lost_voters;
            return Some(change.into());
        }

        let wants = |peer: &ReplicaId| self.wanted.contains(&peer.node());
        let missing = self.wanted.iter().filter(|node| placed.iter().all(|peer| peer.node() != **node));
        let missing: Vec<_> = missing.map(|node| ReplicaId::new(*node, 0)).collect();
        if !missing.is_empty() {
            let kept = placed.iter().copied().filter(|peer| wants(peer) || self.led.has(*peer));
            return Some(self.place(kept.chain(missing).collect()));
        }

        let absent = placed.iter().copied().filter(|peer| wants(peer) && !self.led.has(*peer));
        let (open, closed): (Vec<_>, Vec<_>) =
            absent.partition(|peer| self.observed.is_open(self.group, *peer, self.now_ms));
        if !open.is_empty() {
            change.add_learners = open;
            return Some(change.into());
        }
        let unwanted: Vec<_> = self.led.learners.iter().copied().filter(|peer| !wants(peer)).collect();
        if !unwanted.is_empty() {
            change.remove = unwanted;
            return Some(change.into());
        }
        if !closed.is_empty() {
            return None;
        }
        if let Some(step) = self.change_voters(change) {
            return step;
        }
        // Members are exactly the wanted peers here: what is left over is placed alone.
        let kept: Vec<_> = placed.iter().copied().filter(wants).collect();
        (kept.len() < placed.len()).then(|| self.place(kept))
    }

    /// The step that changes who votes; `Some(None)` when it has to wait, `None` when the right ones vote. All wanted
    /// peers are members.
    fn change_voters(&self, mut change: Change) -> Option<Option<Step>> {
        let wants = |peer: &ReplicaId| self.wanted.contains(&peer.node());
        let voters = &self.led.voters;
        let promote: Vec<_> = self.led.learners.iter().copied().filter(wants).collect();
        let remove: Vec<_> = voters.iter().copied().filter(|peer| !wants(peer)).collect();
        if promote.is_empty() && remove.is_empty() {
            return None;
        }
        let ready: Vec<_> =
            promote.iter().copied().filter(|peer| self.led.caught_up.contains(peer)).collect();
        if remove.contains(&self.led.leader) {
            let heir = voters.iter().copied().find(|peer| wants(peer) && self.led.caught_up.contains(peer));
            if let Some(to) = heir {
                return Some(Some(Step::Transfer { group: self.group, to }));
            }
            let with: BTreeSet<_> = voters.iter().chain(&ready).copied().collect();
            if ready.is_empty() || !self.led.could_commit(&with) {
                return Some(None);
            }
            change.promote = ready;
            return Some(Some(change.into()));
        }
        let then: BTreeSet<_> = voters.iter().chain(&promote).copied().filter(wants).collect();
        if ready.len() < promote.len() || !self.led.could_commit(&then) {
            return Some(None);
        }
        change.promote = promote;
        change.remove = remove;
        Some(Some(change.into()))
    }

    fn place(&self, peers: Vec<ReplicaId>) -> Step {
        let metadata = self.group == METADATA_GROUP;
        let based_on_version = if metadata { self.view.version } else { self.view.shard_map.version };
        Step::Place { group: self.group, based_on_version, peers }
    }
}
