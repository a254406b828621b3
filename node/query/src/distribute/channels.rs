//! Connections to other nodes' engines.
//!
//! Their reading and writing belongs to the node's own threads: the engine's are few, of low priority, and busy for long
//! with one batch at times. A connection that nobody looks after then loses its keep-alive, and the query with it. Their
//! windows are as large as those of the nodes' other connections: the usual 64 KiB stop a stage many times a second.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion_distributed::{
    ChannelResolver, WorkerChannel,
    grpc::{BoxCloneSyncChannel, create_worker_client},
};
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};
use url::Url;

const CONNECT: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Addresses that are kept: more than a cluster has nodes.
const KNOWN_MAX: usize = 1_024;

/// Connections, each made when it is first needed, and again when it is lost.
pub(crate) struct Channels {
    runtime: Handle,
    known: Mutex<HashMap<Url, Channel>>,
}

impl Channels {
    /// Of the runtime that it is called in.
    pub(crate) fn here() -> Self {
        Self { runtime: Handle::current(), known: Mutex::default() }
    }

    fn channel(&self, url: &Url) -> Result<Channel> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = known.get(url) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(url.to_string())
            .map_err(|error| exec_datafusion_err!("'{url}' is no address of a node: {error}"))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        // The connection's tasks go where it is made.
        let _in = self.runtime.enter();
        let channel = endpoint.connect_lazy();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(url.clone(), channel.clone());
        Ok(channel)
    }
}

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>, DataFusionError> {
        Ok(create_worker_client(BoxCloneSyncChannel::new(self.channel(url)?)))
    }
}
