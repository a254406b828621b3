//! Calls between nodes: one long-lived stream for each direction of each pair of nodes, many calls in a frame.
//!
//! **What it promises.**
//! 1. A call is answered exactly once, by its deadline or soon after; a reply that nobody waits for is dropped.
//! 2. A call that was never sent is answered with a code that means "nothing was done" (`UNAVAILABLE`, `OVERLOADED`,
//!    `INVALID`), so that it may be tried elsewhere. One that was sent and has no reply when the stream breaks is
//!    `OUTCOME_UNKNOWN`.
//! 3. Nothing is sent to, or taken from, a node of another cluster, or one that took another's address.
//! 4. What waits is bounded, in calls and in bytes, on both ends. What comes on top is `OVERLOADED` at once.
//!
//! **How.** On the calling side one task for each peer ([`Link`]) owns the connection, the calls that wait and those
//! that were sent. When the stream can take a frame, everything that waits goes into it, up to a limit; there is no
//! timer, so a lone call goes at once and many calls share a frame, a system call and two wake-ups. On the answering
//! side ([`ExchangeService`]) the response stream itself runs the calls: no task for a call (reads that may walk
//! through much data have one of their own), and every reply that is ready goes into one frame.
//!
//! A connection is made when there is something to send. While it can't be made, calls are refused at once and the
//! next try waits longer each time. HTTP/2 pings find a peer that is gone without a word.
//!
//! **What it leaves out.** TLS; replies that have to be cut into pieces (a page bounds itself).

mod link;
mod origin;
mod service;
mod session;

use std::sync::Arc;
use std::time::Duration;

use isthmus_proto::internal::v1::PeerHello;
use tonic::transport::Server;

pub(crate) use self::link::Link;
pub use self::origin::{Nameless, Origins};
pub use self::service::ExchangeService;
use crate::topology::Topology;

/// Bytes that may be on their way on one stream before the receiver has taken any.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes that may be on their way on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// HTTP/2's frames: larger ones mean less work for large messages.
const HTTP2_FRAME_BYTES: u32 = 256 << 10;
/// An idle or silent connection is probed so often.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// A probe that isn't answered in this time ends the connection.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How streams between nodes behave.
#[derive(Clone, Debug)]
pub struct ExchangeOptions {
    /// Calls to one peer that may wait to be sent.
    pub waiting_calls_max: usize,
    /// Bytes of calls to one peer that wait or have no reply yet. Each call counts for a KiB at least.
    pub bytes_max: usize,
    /// Calls of one peer that may be under way on the answering side.
    pub running_calls_max: usize,
    /// Calls, or replies, in one frame.
    pub frame_calls_max: usize,
    /// A frame is closed when it has so many bytes.
    pub frame_bytes_max: usize,
    /// The largest single call or reply.
    pub message_bytes_max: usize,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// The first wait after a connection that failed.
    pub reconnect_min: Duration,
    /// The longest wait after a connection that failed.
    pub reconnect_max: Duration,
    /// What calls are part of, to be told to the other end.
    pub origins: Arc<dyn Origins>,
}

impl Default for ExchangeOptions {
    fn default() -> Self {
        Self {
            waiting_calls_max: 4_096,
            bytes_max: 64 << 20,
            running_calls_max: 16_384,
            frame_calls_max: 256,
            frame_bytes_max: 1 << 20,
            message_bytes_max: 32 << 20,
            connect_timeout: Duration::from_millis(500),
            reconnect_min: Duration::from_millis(20),
            reconnect_max: Duration::from_secs(1),
            origins: Arc::new(Nameless),
        }
    }
}

impl ExchangeOptions {
    /// The largest frame: one that was nearly full and then got the largest message, with some room for headers.
    fn decode_bytes_max(&self) -> usize {
        self.frame_bytes_max + self.message_bytes_max + (1 << 20)
    }
}

/// The node at the other end of a link, and how it is greeted.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    node: u32,
    address: String,
    hello: PeerHello,
}

impl Peer {
    pub(crate) fn new(topology: &Topology, node: u32, address: &str) -> Self {
        let hello = PeerHello {
            cluster_id: topology.cluster_id.clone().into(),
            from_node: topology.node,
            to_node: node,
            shard_map_version: topology.shard_map.version,
        };
        Self { node, address: address.to_owned(), hello }
    }
}

/// A server builder with windows and keep-alive to match the calling side, for whoever serves the peer address.
pub fn peer_server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
}
