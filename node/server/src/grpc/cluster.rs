//! `ClusterService`: nodes, shards, and what is done with them.
//!
//! What is told is asked for at that moment: of every replica where it lives, with a short deadline, so that one node
//! that hangs doesn't keep the others' answers. A replica that doesn't answer is listed all the same, without a state.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isthmus_domain::{NodeId, ShardEntry};
use isthmus_proto::v1::{
    Node, NodeState, NodesRequest, NodesResponse, RemoveRequest, RemoveResponse, Replica, ReplicaRole,
    ShardsRequest, ShardsResponse, StatusRequest, StatusResponse, TransferRequest, TransferResponse,
    cluster_service_server::ClusterService,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    health::{self, Answers, Health, leader_of},
    hub::Hub,
    status::{Refusal, status},
};
use crate::version::VERSION;

/// How long one replica is waited for.
const ASK_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The service.
pub struct Cluster {
    hub: Arc<Hub>,
}

impl Hub {
    /// Asks all replicas how they are; those that don't answer in time are missing.
    pub(crate) async fn answers(&self, deadline: Instant) -> Answers {
        let deadline = deadline.min(Instant::now() + ASK_TIMEOUT);
        let all = self.router.all_replicas(deadline).await.into_iter();
        all.filter_map(|(shard, node, answer)| Some(((shard, node), answer.ok()?))).collect()
    }

    /// How the cluster is.
    pub(crate) async fn health(&self, deadline: Instant) -> Health {
        self.judged(&self.answers(deadline).await)
    }

    fn judged(&self, answers: &Answers) -> Health {
        let voters = self.coordinator.metadata_view().map(|group| group.conf.voters.len());
        health::judge(&self.coordinator.status(), answers, voters)
    }
}

impl Cluster {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }
}

/// A replica as clients get it.
fn replica(entry: &ShardEntry, node: NodeId, answers: &Answers) -> Replica {
    let slots: Vec<String> = entry.ranges.as_slice().iter().map(ToString::to_string).collect();
    let mut shown = Replica { shard: entry.id.0, node: node.0, slots: slots.join(","), ..Replica::default() };
    if let Some(reply) = answers.get(&(entry.id.0, node.0)) {
        let role = i32::try_from(reply.role).ok().and_then(|role| ReplicaRole::try_from(role).ok());
        shown.role = role.unwrap_or_default().into();
        shown.term = reply.term;
        shown.applied_index = reply.applied_index;
        shown.state_hash = reply.state_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        shown.state_hash_index = reply.applied_index;
    }
    shown
}

impl Cluster {
    /// How the cluster is, its nodes, and its replicas, of one round of questions.
    pub async fn all(&self) -> (StatusResponse, Vec<Node>, Vec<Replica>) {
        let answers = self.hub.answers(Instant::now() + self.hub.deadline).await;
        (self.status_of(&answers), self.nodes_of(&answers), self.replicas_of(&answers))
    }

    fn status_of(&self, answers: &Answers) -> StatusResponse {
        let health = self.hub.judged(answers);
        let cluster = self.hub.coordinator.status();
        let view = cluster.view;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let alive = cluster.alive.iter().filter(|node| view.has_node(**node)).count();
        StatusResponse {
            cluster_id: format!("{:032x}", u128::from_be_bytes(self.hub.coordinator.cluster_id())),
            healthy: health.problems.is_empty(),
            problems: health.problems,
            nodes: count(view.nodes.len()),
            nodes_alive: count(alive),
            shards: count(view.shard_map.shards.len()),
            shards_with_leader: health.shards_with_leader,
            replicas: view.replicas,
            shard_map_version: view.shard_map.version,
            metadata_leader: cluster.metadata_leader.map_or(0, |node| node.0),
            version: VERSION.to_owned(),
        }
    }

    fn nodes_of(&self, answers: &Answers) -> Vec<Node> {
        let cluster = self.hub.coordinator.status();
        let mut leaders: BTreeMap<u32, u32> = BTreeMap::new();
        let mut replicas: BTreeMap<u32, u32> = BTreeMap::new();
        for entry in &cluster.view.shard_map.shards {
            for peer in &entry.replicas {
                *replicas.entry(peer.node().0).or_default() += 1;
            }
            if let Some(leader) = leader_of(entry, answers) {
                *leaders.entry(isthmus_domain::ReplicaId(leader.peer).node().0).or_default() += 1;
            }
        }
        let nodes = cluster.view.nodes.values().map(|info| {
            let id = info.node_id;
            let alive = cluster.alive.contains(&NodeId(id)) || answers.keys().any(|(_, node)| *node == id);
            let state = if info.leaving { NodeState::Leaving } else { NodeState::Active };
            Node {
                node_id: id,
                state: state.into(),
                alive,
                grpc_address: info.grpc_address.clone(),
                http_address: info.http_address.clone(),
                peer_address: info.peer_address.clone(),
                replicas: replicas.get(&id).copied().unwrap_or_default(),
                leaders: leaders.get(&id).copied().unwrap_or_default(),
                version: if alive { info.version.clone() } else { String::new() },
            }
        });
        nodes.collect()
    }

    fn replicas_of(&self, answers: &Answers) -> Vec<Replica> {
        let view = self.hub.view();
        let mut replicas = Vec::new();
        for entry in &view.shard_map.shards {
            replicas.extend(entry.replicas.iter().map(|peer| replica(entry, peer.node(), answers)));
        }
        replicas.sort_by_key(|replica| (replica.shard, replica.node));
        replicas
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let answers = self.hub.answers(self.hub.deadline(request.metadata())).await;
        Ok(Response::new(self.status_of(&answers)))
    }

    async fn nodes(&self, request: Request<NodesRequest>) -> Result<Response<NodesResponse>, Status> {
        let answers = self.hub.answers(self.hub.deadline(request.metadata())).await;
        Ok(Response::new(NodesResponse { nodes: self.nodes_of(&answers) }))
    }

    async fn shards(&self, request: Request<ShardsRequest>) -> Result<Response<ShardsResponse>, Status> {
        let answers = self.hub.answers(self.hub.deadline(request.metadata())).await;
        Ok(Response::new(ShardsResponse { replicas: self.replicas_of(&answers) }))
    }

    async fn transfer(
        &self,
        request: Request<TransferRequest>,
    ) -> Result<Response<TransferResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let TransferRequest { shard, to_node } = request.into_inner();
        let view = self.hub.view();
        let entry = view.shard_map.shards.iter().find(|entry| entry.id.0 == shard);
        let entry = entry.ok_or_else(|| Refusal::not_found("there is no such shard").with("shard", shard))?;
        let peer = entry.replicas.iter().find(|peer| peer.node().0 == to_node).ok_or_else(|| {
            let refusal = Refusal::not_found("the shard has no replica on that node: see `cluster shards`");
            refusal.with("shard", shard).with("node", to_node)
        })?;
        self.hub.router.transfer(shard, peer.0, deadline).await.map_err(|error| status(&error))?;
        Ok(Response::new(TransferResponse { leader: to_node }))
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let node = NodeId(request.into_inner().node_id);
        let left = self.hub.coordinator.remove_node(node, deadline).await.map_err(|error| status(&error))?;
        Ok(Response::new(RemoveResponse { replicas_left: u32::try_from(left).unwrap_or(u32::MAX) }))
    }
}
