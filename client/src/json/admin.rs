//! Nodes, shards and sources as JSON.

use serde::Serialize;

use super::{text, time};
use crate::proto;

/// How the cluster is.
#[derive(Debug, Clone, Serialize)]
pub struct Status<'a> {
    cluster_id: &'a str,
    healthy: bool,
    problems: &'a [String],
    nodes: u32,
    nodes_alive: u32,
    shards: u32,
    shards_with_leader: u32,
    replicas: u32,
    shard_map_version: u64,
    metadata_leader: Option<u32>,
    version: &'a str,
}

impl<'a> From<&'a proto::StatusResponse> for Status<'a> {
    fn from(status: &'a proto::StatusResponse) -> Self {
        Self {
            cluster_id: &status.cluster_id,
            healthy: status.healthy,
            problems: &status.problems,
            nodes: status.nodes,
            nodes_alive: status.nodes_alive,
            shards: status.shards,
            shards_with_leader: status.shards_with_leader,
            replicas: status.replicas,
            shard_map_version: status.shard_map_version,
            metadata_leader: Some(status.metadata_leader).filter(|&leader| leader != 0),
            version: &status.version,
        }
    }
}

/// A node.
#[derive(Debug, Clone, Serialize)]
pub struct Node<'a> {
    node_id: u32,
    state: &'static str,
    alive: bool,
    grpc_address: &'a str,
    http_address: &'a str,
    peer_address: &'a str,
    replicas: u32,
    leaders: u32,
    version: Option<&'a str>,
}

/// The name of a node's state.
pub fn state_name(state: proto::NodeState) -> &'static str {
    match state {
        proto::NodeState::Unspecified => "unknown",
        proto::NodeState::Active => "active",
        proto::NodeState::Leaving => "leaving",
    }
}

impl<'a> From<&'a proto::Node> for Node<'a> {
    fn from(node: &'a proto::Node) -> Self {
        Self {
            node_id: node.node_id,
            state: state_name(node.state()),
            alive: node.alive,
            grpc_address: &node.grpc_address,
            http_address: &node.http_address,
            peer_address: &node.peer_address,
            replicas: node.replicas,
            leaders: node.leaders,
            version: text(&node.version),
        }
    }
}

/// A replica of a shard.
#[derive(Debug, Clone, Serialize)]
pub struct Replica<'a> {
    shard: u64,
    node: u32,
    role: &'static str,
    term: u64,
    applied_index: u64,
    state_hash: Option<&'a str>,
    state_hash_index: u64,
    slots: &'a str,
}

/// The name of a replica's role.
pub fn role_name(role: proto::ReplicaRole) -> &'static str {
    match role {
        proto::ReplicaRole::Unspecified => "unknown",
        proto::ReplicaRole::Leader => "leader",
        proto::ReplicaRole::Follower => "follower",
        proto::ReplicaRole::Candidate => "candidate",
        proto::ReplicaRole::Learner => "learner",
    }
}

impl<'a> From<&'a proto::Replica> for Replica<'a> {
    fn from(replica: &'a proto::Replica) -> Self {
        Self {
            shard: replica.shard,
            node: replica.node,
            role: role_name(replica.role()),
            term: replica.term,
            applied_index: replica.applied_index,
            state_hash: text(&replica.state_hash),
            state_hash_index: replica.state_hash_index,
            slots: &replica.slots,
        }
    }
}

/// A source, without its keys.
#[derive(Debug, Clone, Serialize)]
pub struct Source<'a> {
    name: &'a str,
    disabled: bool,
    created_at: Option<String>,
    primary_order: &'a [String],
    default_currency: Option<&'a str>,
    key_prefix: Option<&'a str>,
}

impl<'a> From<&'a proto::Source> for Source<'a> {
    fn from(source: &'a proto::Source) -> Self {
        Self {
            name: &source.name,
            disabled: source.disabled,
            created_at: time(source.created_at.as_ref()),
            primary_order: &source.primary_order,
            default_currency: text(&source.default_currency),
            key_prefix: text(&source.key_prefix),
        }
    }
}
