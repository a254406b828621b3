//! The transport between nodes: one gRPC stream per peer for Raft, a connection of its own for each snapshot.
//!
//! **What it promises.** Messages of a group arrive in order within one connection, or not at all. Sending never
//! blocks: each peer has a queue bounded in messages and bytes, and while there is no connection, or the queue is
//! full, messages are refused and Raft is told. A stream begins by saying which cluster and nodes are meant; what
//! doesn't fit is refused before any message is stepped.
//!
//! **How.** The queue is drained greedily into frames, so that under load one frame carries the heartbeats and
//! entries of many groups; a lone message leaves at once, no timer waits for company. HTTP/2 flow control slows the
//! draining down, not the groups. Keep-alive pings find a dead peer within 5 s, and a broken connection is tried again
//! with a growing pause.
//!
//! **What it leaves out.** TLS: it belongs to whoever hosts the services and gives the addresses.

mod link;
mod receiver;
mod sender;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use isthmus_proto::internal::v1::{
    PeerHello, raft_service_server::RaftServiceServer, snapshot_service_server::SnapshotServiceServer,
};
use parking_lot::RwLock;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Endpoint;

use self::link::Link;
pub use self::receiver::{RaftReceiver, SnapshotReceiver};
use super::{GroupMessage, Inbound, OutgoingSnapshot, SnapshotLost, Transport};
use crate::Error;

/// Largest message either end decodes: a frame of one mebibyte and one last message of the largest entry.
const DECODE_BYTES_MAX: usize = 64 << 20;

/// Options of the transport.
#[derive(Clone, Debug)]
pub struct GrpcOptions {
    /// The cluster's id: 16 bytes.
    pub cluster_id: Bytes,
    /// This node.
    pub node: u32,
    /// Messages that wait for a peer.
    pub queue_messages_max: usize,
    /// Bytes that wait for a peer.
    pub queue_bytes_max: usize,
    /// Messages in a frame.
    pub frame_messages_max: usize,
    /// Bytes in a frame, but for its last message.
    pub frame_bytes_max: usize,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// Between keep-alive pings.
    pub keep_alive_interval: Duration,
    /// How long a ping's answer may take.
    pub keep_alive_timeout: Duration,
    /// Longest pause between attempts to connect.
    pub backoff_max: Duration,
    /// A snapshot's transfer is given up when nothing of it arrives for so long.
    pub snapshot_idle_timeout: Duration,
}

impl GrpcOptions {
    /// Safe values.
    pub fn new(cluster_id: Bytes, node: u32) -> Self {
        Self {
            cluster_id,
            node,
            queue_messages_max: 4096,
            queue_bytes_max: 32 << 20,
            frame_messages_max: 256,
            frame_bytes_max: 1 << 20,
            connect_timeout: Duration::from_secs(2),
            keep_alive_interval: Duration::from_secs(2),
            keep_alive_timeout: Duration::from_secs(3),
            backoff_max: Duration::from_millis(200),
            snapshot_idle_timeout: Duration::from_secs(30),
        }
    }
}

/// What the parts of the transport share.
pub(crate) struct Shared {
    options: GrpcOptions,
    inbound: OnceLock<Arc<dyn Inbound>>,
    shard_map_version: AtomicU64,
    stopping: CancellationToken,
}

impl Shared {
    fn hello(&self, to_node: u32) -> PeerHello {
        PeerHello {
            cluster_id: self.options.cluster_id.clone(),
            from_node: self.options.node,
            to_node,
            shard_map_version: self.shard_map_version.load(Ordering::Relaxed),
        }
    }

    /// Who speaks, if it is a node of this cluster that means this node.
    fn check(&self, hello: Option<&PeerHello>) -> Result<u32, tonic::Status> {
        let hello =
            hello.ok_or_else(|| tonic::Status::failed_precondition("the stream doesn't say who speaks"))?;
        if hello.cluster_id != self.options.cluster_id {
            return Err(tonic::Status::failed_precondition("another cluster is meant"));
        }
        if hello.to_node != self.options.node {
            return Err(tonic::Status::failed_precondition("another node is meant"));
        }
        if hello.from_node == 0 || hello.from_node == self.options.node {
            return Err(tonic::Status::failed_precondition("the stream comes from no other node"));
        }
        Ok(hello.from_node)
    }

    fn inbound(&self) -> Result<&Arc<dyn Inbound>, tonic::Status> {
        self.inbound.get().ok_or_else(|| tonic::Status::unavailable("the node is starting"))
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, Error> {
        let endpoint = Endpoint::from_shared(address.to_owned())
            .map_err(|_| Error::Invalid { reason: "a peer's address is not a URI" })?;
        Ok(endpoint
            .connect_timeout(self.options.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.options.keep_alive_interval)
            .keep_alive_timeout(self.options.keep_alive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(Some(4 << 20))
            .initial_connection_window_size(Some(8 << 20)))
    }
}

/// See the [module](self).
pub struct GrpcTransport {
    shared: Arc<Shared>,
    links: RwLock<BTreeMap<u32, (Arc<Link>, String)>>,
    tasks: TaskTracker,
}

impl GrpcTransport {
    /// A transport without peers.
    pub fn new(options: GrpcOptions) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::new(Shared {
                options,
                inbound: OnceLock::new(),
                shard_map_version: AtomicU64::new(0),
                stopping: CancellationToken::new(),
            }),
            links: RwLock::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Where a node is reached, as a URI: `http://host:port`. Begins to connect; another address than before
    /// replaces the connection. Within a tokio runtime.
    pub fn set_peer(&self, node: u32, address: impl Into<String>) -> Result<(), Error> {
        let address = address.into();
        let endpoint = self.shared.endpoint(&address)?;
        let mut links = self.links.write();
        if links.get(&node).is_some_and(|(_, known)| *known == address) {
            return Ok(());
        }
        let link = Link::new(node, self.shared.clone());
        self.tasks.spawn(link.clone().run(endpoint));
        if let Some((old, _)) = links.insert(node, (link, address)) {
            old.close();
        }
        Ok(())
    }

    /// Forgets a node.
    pub fn remove_peer(&self, node: u32) {
        if let Some((link, _)) = self.links.write().remove(&node) {
            link.close();
        }
    }

    /// Whether a stream to the node is up.
    pub fn is_connected(&self, node: u32) -> bool {
        self.links.read().get(&node).is_some_and(|(link, _)| link.is_connected())
    }

    /// The version of the shard map that new streams will name.
    pub fn set_shard_map_version(&self, version: u64) {
        self.shared.shard_map_version.store(version, Ordering::Relaxed);
    }

    /// The receiving half for Raft messages, to be hosted on the node's peer port.
    pub fn raft_service(&self) -> RaftServiceServer<RaftReceiver> {
        RaftServiceServer::new(RaftReceiver::new(self.shared.clone()))
            .max_decoding_message_size(DECODE_BYTES_MAX)
    }

    /// The receiving half for snapshots, to be hosted on the node's peer port.
    pub fn snapshot_service(&self) -> SnapshotServiceServer<SnapshotReceiver> {
        SnapshotServiceServer::new(SnapshotReceiver::new(self.shared.clone()))
            .max_decoding_message_size(DECODE_BYTES_MAX)
    }

    /// Ends all streams, both ways, and waits for the sending ones.
    pub async fn stop(&self) {
        self.shared.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Transport for GrpcTransport {
    fn bind(&self, inbound: Arc<dyn Inbound>) {
        // Bound once, by the node that uses it.
        let _ = self.shared.inbound.set(inbound);
    }

    fn send(&self, node: u32, messages: Vec<GroupMessage>) -> bool {
        self.links.read().get(&node).is_some_and(|(link, _)| link.push(messages))
    }

    fn send_snapshot(&self, snapshot: OutgoingSnapshot) -> BoxFuture<'static, Result<(), SnapshotLost>> {
        let address = self.links.read().get(&snapshot.to.node()).map(|(_, address)| address.clone());
        let shared = self.shared.clone();
        Box::pin(async move {
            let address = address.ok_or_else(|| SnapshotLost::new("the node's address is not known"))?;
            let endpoint = shared.endpoint(&address).map_err(SnapshotLost::new)?;
            tokio::select! {
                biased;
                () = shared.stopping.cancelled() => Err(SnapshotLost::new("the node is stopping")),
                sent = sender::send(&shared, endpoint, snapshot) => sent,
            }
        })
    }
}
