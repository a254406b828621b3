//! What is asked of one replica or of a leader: its state, to hand over, to change its group's members; and the
//! courier's way to other shards.

use futures::stream::{self, StreamExt as _};
use isthmus_domain::ReplicaId;
use isthmus_proto::internal::v1::{
    CallError, ChangeMembersCall, DeliverCommand, DeliverReply, ReplicaStatusCall, ReplicaStatusReply,
    TransferCall, shard_call, shard_reply,
};
use isthmus_shard::Deliver;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::pursuit::Want;
use crate::router::Router;
use crate::topology::node_of;

/// How many replicas are asked for their state at once.
const STATUS_CALLS_MAX: usize = 64;

/// A replica's shard and node, and what it told or why it did not.
pub type ReplicaAnswer = (u64, u32, Result<ReplicaStatusReply, Error>);

impl Router {
    /// The state of one replica, asked once.
    ///
    /// # Errors
    /// [`Error::NoShard`] and [`Error::NoReplica`] by the shard map, [`Error::Unavailable`] when the node can't be
    /// reached or has not opened the replica, [`Error::DeadlineExceeded`].
    pub async fn replica_status(
        &self,
        shard: u64,
        node: u32,
        deadline: Instant,
    ) -> Result<ReplicaStatusReply, Error> {
        let routes = self.routes();
        let route = routes.shard(shard).ok_or(Error::NoShard { shard })?;
        let peer = route.replicas.iter().copied().find(|peer| node_of(*peer) == node);
        let peer = peer.ok_or(Error::NoReplica { shard, node })?;
        let body = shard_call::Body::ReplicaStatus(ReplicaStatusCall {});
        match timeout_at(deadline, self.ask(&routes, shard, peer, body, deadline)).await {
            Ok(Ok(shard_reply::Body::ReplicaStatus(reply))) => Ok(reply),
            Ok(Ok(_)) => Err(Error::BadReply { shard, what: "not a replica's state" }),
            Ok(Err(error)) => Err(match Error::from_call(shard, &error) {
                Error::OutcomeUnknown { shard } => Error::DeadlineExceeded { shard },
                error => error,
            }),
            Err(_) => Err(Error::DeadlineExceeded { shard }),
        }
    }

    /// The state of every replica of the shard map, by shard and then in the map's order.
    pub async fn all_replicas(&self, deadline: Instant) -> Vec<ReplicaAnswer> {
        let routes = self.routes();
        let replicas: Vec<(u64, u32)> = routes
            .shards()
            .flat_map(|route| route.replicas.iter().map(|peer| (route.id, ReplicaId(*peer).node().0)))
            .collect();
        drop(routes);
        let asked = replicas.into_iter().map(|(shard, node)| async move {
            (shard, node, self.replica_status(shard, node, deadline).await)
        });
        stream::iter(asked).buffered(STATUS_CALLS_MAX).collect().await
    }

    /// Asks the shard's leader to hand over to a peer.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when the leader was asked and did not say; others when nothing was done.
    pub async fn transfer(&self, shard: u64, to_peer: u64, deadline: Instant) -> Result<(), Error> {
        self.change(shard, shard_call::Body::Transfer(TransferCall { to_peer }), deadline).await
    }

    /// Asks the shard's leader to change the members of its group.
    ///
    /// # Errors
    /// As [`Self::transfer`].
    pub async fn change_members(
        &self,
        shard: u64,
        change: ChangeMembersCall,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.change(shard, shard_call::Body::ChangeMembers(change), deadline).await
    }

    async fn change(&self, shard: u64, body: shard_call::Body, deadline: Instant) -> Result<(), Error> {
        match self.reach(shard, &mut self.pursuit_once(), &body, deadline).await? {
            shard_reply::Body::Done(_) => Ok(()),
            _ => Err(Error::BadReply { shard, what: "not done, and no error either" }),
        }
    }
}

#[async_trait::async_trait]
impl Deliver for Router {
    /// Brings messages to the shard's leader. Repeated until the deadline: the receiver knows each message's number
    /// and takes none twice.
    async fn deliver(
        &self,
        to_shard: u64,
        command: DeliverCommand,
        deadline: Instant,
    ) -> Result<DeliverReply, CallError> {
        let body = shard_call::Body::Deliver(command);
        let mut pursuit = self.pursuit(Want::Leader);
        match self.reach(to_shard, &mut pursuit, &body, deadline).await {
            Ok(shard_reply::Body::Deliver(reply)) => Ok(reply),
            Ok(_) => Err(Error::BadReply { shard: to_shard, what: "not a receipt" }.to_call()),
            Err(error) => Err(error.to_call()),
        }
    }
}
