//! A node: all its parts, put together, started in order and stopped in order.
//!
//! **What it promises.** Either [`Node::start`] returns a node that serves, or nothing of it is left running and the
//! error says what to mend. A stop loses nothing that was acknowledged, hands leadership over first, and leaves little
//! or nothing to be replayed. Several nodes may live in one process: they share nothing but the process.
//!
//! **How.** Start: ports, then the directory's lock (so that what is in the way is found while nothing was touched),
//! then the membership (made, joined, or found on disk), storage, raft, coordinator, router, the peers' port, replicas,
//! and last the clients' ports. Stop: no new calls, leadership handed over, shards written out, then everything in
//! reverse. Each step of a stop has a bound; what is not done by then a restart makes up for.
//!
//! **What it leaves out.** TLS, and who may do what.

mod control;
mod disk;
mod host;
mod listen;
mod options;
mod probe;
mod serving;
mod start;
mod stop;
mod storage;

use std::{sync::Arc, time::Duration};

use isthmus_coordinator::Coordinator;
use isthmus_raft::{RaftNode, transport::grpc::GrpcTransport};
use isthmus_storage::format::DataDir;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::options::{NodeOptions, Origin};
pub(crate) use self::storage::membership_dir;
use self::{host::Shards, serving::Serving};
use crate::{
    Error, Result,
    grpc::{health::Health, hub::Hub},
};

/// How often something that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a port or directory that is in use is waited for: a process that was killed takes a moment to let go of it.
const LET_GO: Duration = Duration::from_secs(1);

/// Where a node is reached, each as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Clients' gRPC.
    pub grpc: String,
    /// HTTP.
    pub http: String,
    /// Other nodes.
    pub peer: String,
}

/// A running node.
pub struct Node {
    addresses: Addresses,
    hub: Arc<Hub>,
    raft: RaftNode,
    transport: Arc<GrpcTransport>,
    shards: Shards,
    serving: Serving,
    host: JoinHandle<()>,
    /// Tasks of the router and the keeper.
    tracker: TaskTracker,
    /// Ends the host.
    stop_host: CancellationToken,
    /// Ends the router and the keeper.
    stop_rest: CancellationToken,
    /// Holds the directory's lock until the end.
    _dir: Arc<DataDir>,
}

impl Node {
    /// Starts a node. `stop` gives up a join that waits for an answer.
    ///
    /// # Errors
    /// [`Error::Setting`] for what someone has to mend; others for what failed.
    pub async fn start(options: NodeOptions, stop: &CancellationToken) -> Result<Self> {
        start::start(options, stop).await
    }

    /// Where it is reached.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until the node can serve: a leader of the metadata group is known, and of each shard that has a replica
    /// here.
    ///
    /// # Errors
    /// [`Error::NotReady`] with what is missing.
    pub async fn ready(&self, deadline: Instant) -> Result<()> {
        loop {
            match self.serving.unready(&self.hub) {
                None => break,
                Some(missing) if Instant::now() >= deadline => {
                    return Err(Error::NotReady(format!("the node is not ready: {missing}")));
                }
                Some(_) => sleep(LOOK_EVERY).await,
            }
        }
        self.serving.set_serving().await;
        Ok(())
    }

    /// Waits until all is well with the whole cluster: each shard has its leader and all its replicas.
    ///
    /// # Errors
    /// [`Error::NotReady`] with what is amiss.
    pub async fn healthy(&self, deadline: Instant) -> Result<()> {
        loop {
            let Health { problems, .. } = self.hub.health(deadline).await;
            if problems.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::NotReady(format!("the cluster is not ready: {}", problems.join("; "))));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the node has been removed from its cluster for good.
    pub async fn removed(&self) {
        let mut view = self.hub.view.clone();
        let me = isthmus_domain::NodeId(self.hub.node);
        let gone = view.wait_for(|view| view.version > 0 && !view.has_node(me)).await;
        if gone.is_err() {
            // Nobody tells any more: the node is stopping.
            std::future::pending().await
        }
    }

    /// The way to the metadata group.
    pub fn coordinator(&self) -> &Coordinator {
        &self.hub.coordinator
    }

    /// Stops the node gracefully: what it leads is handed over to other nodes first.
    pub async fn stop(self) {
        stop::stop(self, true).await;
    }

    /// Stops the node gracefully, and leaves it to the others to elect new leaders: for a cluster that stops as a whole.
    pub async fn stop_with_the_cluster(self) {
        stop::stop(self, false).await;
    }
}
