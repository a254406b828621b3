"""The cluster: nodes and shards."""

from __future__ import annotations

from dataclasses import dataclass

from .. import _wire as wire
from .base import Record


@dataclass(frozen=True)
class ClusterStatus(Record):
    """How the cluster is; `problems` says what is amiss, one sentence each."""

    cluster_id: str
    healthy: bool
    problems: tuple[str, ...]
    nodes: int
    nodes_alive: int
    shards: int
    shards_with_leader: int
    replicas: int
    shard_map_version: int
    metadata_leader: int | None
    version: str

    @classmethod
    def of(cls, message: wire.StatusResponse) -> ClusterStatus:
        """From an answer."""
        return cls(
            cluster_id=message.cluster_id,
            healthy=message.healthy,
            problems=tuple(message.problems),
            nodes=message.nodes,
            nodes_alive=message.nodes_alive,
            shards=message.shards,
            shards_with_leader=message.shards_with_leader,
            replicas=message.replicas,
            shard_map_version=message.shard_map_version,
            metadata_leader=message.metadata_leader or None,
            version=message.version,
        )


@dataclass(frozen=True)
class Node(Record):
    """A node: one process. `state` is `active` or `leaving`; `version` is absent while it doesn't answer."""

    node_id: int
    state: str
    alive: bool
    grpc_address: str
    http_address: str
    peer_address: str
    replicas: int
    leaders: int
    version: str | None

    @classmethod
    def of(cls, message: wire.Node) -> Node:
        """From an answer."""
        return cls(
            node_id=message.node_id,
            state=wire.ENUMS["NodeState"].get(message.state, "unknown"),
            alive=message.alive,
            grpc_address=message.grpc_address,
            http_address=message.http_address,
            peer_address=message.peer_address,
            replicas=message.replicas,
            leaders=message.leaders,
            version=message.version or None,
        )


@dataclass(frozen=True)
class Replica(Record):
    """One copy of a shard. `role` is `leader`, `follower`, `candidate`, `learner`, or `unknown`: it could not be asked.

    `state_hash` is equal on all replicas at equal indexes.
    """

    shard: int
    node: int
    role: str
    term: int
    applied_index: int
    state_hash: str | None
    state_hash_index: int
    slots: str

    @classmethod
    def of(cls, message: wire.Replica) -> Replica:
        """From an answer."""
        role = wire.ENUMS["ReplicaRole"].get(message.role, "unknown")
        return cls(
            shard=message.shard,
            node=message.node,
            role="unknown" if role == "unspecified" else role,
            term=message.term,
            applied_index=message.applied_index,
            state_hash=message.state_hash or None,
            state_hash_index=message.state_hash_index,
            slots=message.slots,
        )
