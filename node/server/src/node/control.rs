//! The coordinator's way to shards: over the router, which finds their leaders.

use futures::future::BoxFuture;
use isthmus_coordinator::{ShardControl, replica_report, state::FIRST_SHARD};
use isthmus_proto::internal::v1::{ChangeMembersCall, ReplicaReport};
use isthmus_raft::RaftNode;
use isthmus_router::Router;
use tokio::time::Instant;

/// See the [module](self).
pub(super) struct Control {
    pub(super) raft: RaftNode,
    pub(super) router: Router,
}

impl ShardControl for Control {
    fn reports(&self) -> Vec<ReplicaReport> {
        let views = self.raft.views();
        views.iter().filter(|view| view.group >= FIRST_SHARD).map(replica_report).collect()
    }

    fn change_members(
        &self,
        shard: u64,
        change: ChangeMembersCall,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<(), String>> {
        let router = self.router.clone();
        Box::pin(async move {
            router.change_members(shard, change, deadline).await.map_err(|error| error.to_string())
        })
    }

    fn transfer(
        &self,
        shard: u64,
        to_peer: u64,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<(), String>> {
        let router = self.router.clone();
        Box::pin(
            async move { router.transfer(shard, to_peer, deadline).await.map_err(|error| error.to_string()) },
        )
    }
}
