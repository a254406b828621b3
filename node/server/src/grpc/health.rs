//! Whether all is well with the cluster: one judgement for `ClusterService.Status`, for `dev` and for the demo.
//!
//! A shard is well when it has one leader, its members are the peers that the placement lists, there are as many of
//! them as the cluster wants, each of them votes, and each of them answers. Fewer nodes than replicas are a problem
//! too: the cluster holds less than it was asked to survive.

use std::collections::BTreeMap;

use isthmus_coordinator::{ClusterStatus, placement::metadata_voters, state::largest_odd};
use isthmus_domain::ShardEntry;
use isthmus_proto::internal::v1::ReplicaStatusReply;
use isthmus_proto::v1::ReplicaRole;

/// The most problems that are listed one by one.
const PROBLEMS_MAX: usize = 20;

/// What replicas told of themselves, by shard and node; those that did not answer are missing.
pub type Answers = BTreeMap<(u64, u32), ReplicaStatusReply>;

/// How the cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is amiss, for people. Empty: all is well.
    pub problems: Vec<String>,
    /// Shards with a leader.
    pub shards_with_leader: u32,
}

/// Judges. `voting` is how many peers vote in the metadata group, if this node can tell.
pub fn judge(status: &ClusterStatus, answers: &Answers, voting: Option<usize>) -> Health {
    let view = &status.view;
    let mut health = Health::default();
    if view.version == 0 {
        health.problems.push("this node doesn't know its cluster yet".to_owned());
        return health;
    }
    if status.metadata_leader.is_none() {
        health.problems.push("the metadata group has no leader that this node knows of".to_owned());
    }
    let nodes = view.active_nodes().count();
    let wanted = view.replicas as usize;
    if nodes < wanted {
        health
            .problems
            .push(format!("{wanted} replicas of each shard need {wanted} nodes, there are {nodes}"));
    } else {
        let enough = largest_odd(nodes.min(metadata_voters(view.replicas)));
        let placed = view.metadata_peers.len();
        let voting = voting.unwrap_or(placed);
        if placed < enough || voting < enough {
            health
                .problems
                .push(format!("the metadata group has {} of {enough} replicas", placed.min(voting)));
        }
    }
    for entry in &view.shard_map.shards {
        let leader = leader_of(entry, answers);
        health.shards_with_leader += u32::from(leader.is_some());
        if let Some(problem) = problem_of(entry, leader, answers, wanted) {
            health.problems.push(format!("shard {}: {problem}", entry.id));
        }
    }
    if health.problems.len() > PROBLEMS_MAX {
        let rest = health.problems.len() - PROBLEMS_MAX;
        health.problems.truncate(PROBLEMS_MAX);
        health.problems.push(format!("and {rest} more"));
    }
    health
}

/// The newest of those that say they lead.
pub fn leader_of<'a>(entry: &ShardEntry, answers: &'a Answers) -> Option<&'a ReplicaStatusReply> {
    let told = entry.replicas.iter().filter_map(|peer| answers.get(&(entry.id.0, peer.node().0)));
    let leaders =
        told.filter(|reply| reply.role == u32::try_from(i32::from(ReplicaRole::Leader)).unwrap_or(0));
    leaders.max_by_key(|reply| reply.term)
}

fn problem_of(
    entry: &ShardEntry,
    leader: Option<&ReplicaStatusReply>,
    answers: &Answers,
    wanted: usize,
) -> Option<String> {
    let Some(leader) = leader else { return Some("it has no leader".to_owned()) };
    let silent: Vec<String> = entry
        .replicas
        .iter()
        .filter(|peer| answers.get(&(entry.id.0, peer.node().0)).is_none_or(|reply| reply.peer != peer.0))
        .map(|peer| peer.node().to_string())
        .collect();
    if !silent.is_empty() {
        return Some(format!("its replicas on nodes {} don't answer", silent.join(", ")));
    }
    let voting = entry.replicas.iter().filter(|peer| leader.voters.contains(&peer.0)).count();
    if voting < wanted {
        return Some(format!("{voting} of {wanted} replicas vote"));
    }
    let members = leader.voters.len() + leader.learners.len();
    if leader.joint || members != entry.replicas.len() || entry.replicas.len() != wanted {
        return Some("its replicas are being moved".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use isthmus_coordinator::View;
    use isthmus_domain::{NodeId, ReplicaId, ShardMap};
    use isthmus_proto::internal::v1::{ClusterView, NodeInfo};

    use super::*;

    fn peer(node: u32) -> u64 {
        ReplicaId::new(NodeId(node), 1).0
    }

    fn status(nodes: u32, replicas: u32) -> ClusterStatus {
        let mut map = ShardMap::even(2).unwrap();
        for entry in &mut map.shards {
            entry.replicas = (1..=nodes.min(replicas)).map(|node| ReplicaId(peer(node))).collect();
        }
        let wire = ClusterView {
            version: 1,
            cluster_id: vec![1; 16].into(),
            nodes: (1..=nodes).map(|node_id| NodeInfo { node_id, ..NodeInfo::default() }).collect(),
            shard_map: map.encode().into(),
            metadata_peers: (1..=nodes).map(peer).collect(),
            replicas,
            ..ClusterView::default()
        };
        ClusterStatus {
            view: Arc::new(View::from_wire(wire).unwrap()),
            metadata_leader: Some(NodeId(1)),
            alive: (1..=nodes).map(NodeId).collect(),
        }
    }

    fn answers(status: &ClusterStatus) -> Answers {
        let mut answers = Answers::new();
        for entry in &status.view.shard_map.shards {
            let voters: Vec<u64> = entry.replicas.iter().map(|peer| peer.0).collect();
            for (index, peer) in entry.replicas.iter().enumerate() {
                let role = if index == 0 { 1 } else { 2 };
                let reply =
                    ReplicaStatusReply { peer: peer.0, role, voters: voters.clone(), ..Default::default() };
                answers.insert((entry.id.0, peer.node().0), reply);
            }
        }
        answers
    }

    #[test]
    fn a_cluster_with_all_its_replicas_is_well() {
        for (nodes, replicas) in [(1, 1), (3, 3), (3, 1)] {
            let status = status(nodes, replicas);
            let health = judge(&status, &answers(&status), None);
            assert_eq!(health, Health { problems: Vec::new(), shards_with_leader: 2 }, "{nodes} {replicas}");
        }
    }

    #[test]
    fn each_thing_that_is_amiss_is_said() {
        let problems =
            |status: &ClusterStatus, answers: &Answers| judge(status, answers, None).problems.join("; ");
        let few = status(1, 3);
        assert!(problems(&few, &answers(&few)).contains("need 3 nodes"));
        let good = status(3, 3);
        let mut silent = answers(&good);
        silent.remove(&(1, 2));
        assert_eq!(problems(&good, &silent), "shard 1: its replicas on nodes 2 don't answer");
        let mut leaderless = answers(&good);
        leaderless.get_mut(&(2, 1)).unwrap().role = 2;
        assert_eq!(problems(&good, &leaderless), "shard 2: it has no leader");
        let mut learning = answers(&good);
        let leader = learning.get_mut(&(1, 1)).unwrap();
        leader.learners = vec![leader.voters.pop().unwrap()];
        assert_eq!(problems(&good, &learning), "shard 1: 2 of 3 replicas vote");
        assert_eq!(
            judge(&good, &answers(&good), Some(1)).problems,
            ["the metadata group has 1 of 3 replicas"]
        );
        let unknown = ClusterStatus { metadata_leader: None, ..status(1, 1) };
        assert!(problems(&unknown, &answers(&unknown)).contains("metadata group has no leader"));
    }
}
