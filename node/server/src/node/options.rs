//! What a node is started with, checked already.

use std::{path::PathBuf, sync::Arc};

use isthmus_coordinator::FoundOptions;
use isthmus_shard::{Clock, SystemClock};

use crate::config::{FeedOptions, GrpcOptions, QuarantineOptions, QueryOptions, RaftOptions, StorageOptions};

/// How a node without data comes to belong to a cluster. A node that has data ignores it.
#[derive(Clone, Debug)]
pub enum Origin {
    /// It makes a new one.
    Found(FoundOptions),
    /// It joins the one of these nodes (`host:port` for nodes).
    Join(Vec<String>),
    /// It was told neither: without data it does not start.
    Resume,
}

/// What a node is started with.
#[derive(Clone)]
pub struct NodeOptions {
    /// Its id: 1 or more.
    pub node_id: u32,
    /// `host:port` for clients' gRPC; port 0 is any free one.
    pub grpc_listen: String,
    /// `host:port` for HTTP.
    pub http_listen: String,
    /// `host:port` for other nodes.
    pub peer_listen: String,
    /// The host that others reach this node under; absent: the hosts listened on.
    pub advertise_host: Option<String>,
    /// Where the data is kept.
    pub data_dir: PathBuf,
    /// See [`Origin`].
    pub origin: Origin,
    /// Whether plaintext is allowed off loopback.
    pub insecure_plaintext: bool,
    /// About storage and memory.
    pub storage: StorageOptions,
    /// About replication.
    pub raft: RaftOptions,
    /// About clients' calls.
    pub grpc: GrpcOptions,
    /// About what could not be applied.
    pub quarantine: QuarantineOptions,
    /// About the change feed.
    pub feed: FeedOptions,
    /// About queries in SQL.
    pub query: QueryOptions,
    /// Time of day.
    pub clock: Arc<dyn Clock>,
}

impl NodeOptions {
    /// A node on free ports of the loopback address, with default options.
    pub fn local(node_id: u32, data_dir: impl Into<PathBuf>, origin: Origin) -> Self {
        let any = || "127.0.0.1:0".to_owned();
        Self {
            node_id,
            grpc_listen: any(),
            http_listen: any(),
            peer_listen: any(),
            advertise_host: None,
            data_dir: data_dir.into(),
            origin,
            insecure_plaintext: false,
            storage: StorageOptions::default(),
            raft: RaftOptions::default(),
            grpc: GrpcOptions::default(),
            quarantine: QuarantineOptions::default(),
            feed: FeedOptions::default(),
            query: QueryOptions::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl std::fmt::Debug for NodeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeOptions")
            .field("node_id", &self.node_id)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}
