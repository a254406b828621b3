"""The cluster, and how good its data are."""

from __future__ import annotations

import datetime

from .. import _wire as wire
from .._retry import Kind
from .._values import duration
from ..model.base import Page
from ..model.cluster import ClusterStatus, Node, Replica
from ..model.quality import QualityReport
from ._caller import Caller


class Cluster:
    """`hub.cluster`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def status(self, *, timeout: float | None = None) -> ClusterStatus:
        """Whether all is well, and if not, what is amiss.

        >>> (await hub.cluster.status()).healthy
        True
        """
        return ClusterStatus.of(
            await self._caller.call(wire.ClusterService.Status, wire.StatusRequest(), timeout=timeout)
        )

    async def nodes(self, *, timeout: float | None = None) -> Page[Node]:
        """All nodes, by id."""
        answer = await self._caller.call(wire.ClusterService.Nodes, wire.NodesRequest(), timeout=timeout)
        return Page([Node.of(node) for node in answer.nodes])

    async def shards(self, *, timeout: float | None = None) -> Page[Replica]:
        """All replicas of all shards, each asked where it lives."""
        answer = await self._caller.call(wire.ClusterService.Shards, wire.ShardsRequest(), timeout=timeout)
        return Page([Replica.of(replica) for replica in answer.replicas])

    async def transfer(self, shard: int, to_node: int, *, timeout: float | None = None) -> int:
        """Hands a shard's leadership to the replica on a node. Returns the node that leads then."""
        request = wire.TransferRequest(shard=shard, to_node=to_node)
        answer = await self._caller.call(wire.ClusterService.Transfer, request, kind=Kind.REPEATABLE, timeout=timeout)
        return answer.leader

    async def remove(self, node_id: int, *, timeout: float | None = None) -> int:
        """Removes a node for good. Returns how many of its replicas are still to be placed elsewhere.

        Raises:
            QuorumAtRiskError: When the nodes that remain could not hold the data.
        """
        request = wire.RemoveRequest(node_id=node_id)
        answer = await self._caller.call(wire.ClusterService.Remove, request, kind=Kind.REPEATABLE, timeout=timeout)
        return answer.replicas_left


class Quality:
    """`hub.quality`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def report(
        self,
        *,
        source: str = "",
        updated_within: datetime.timedelta | None = None,
        timeout: float = 300.0,
    ) -> QualityReport:
        """How good the data are, by source and trait. It takes as long as there are events.

        >>> (await hub.quality.report()).traits.to_pandas()[["source", "trait", "completeness", "validity"]]

        Args:
            source: Only this source; all by default.
            updated_within: Values set within this time are up to date; 30 days by default.
            timeout: In seconds, at most 300.

        Raises:
            SourceNotFoundError: When there is none of this name.
        """
        request = wire.ReportRequest(
            source=source, updated_within=None if updated_within is None else duration(updated_within)
        )
        return QualityReport.of(
            await self._caller.call(wire.QualityService.Report, request, timeout=timeout, long=True)
        )
