//! The three servers of a node, and what they tell of it.

use std::{sync::Arc, time::Duration};

use isthmus_coordinator::Coordinator;
use isthmus_raft::transport::grpc::GrpcTransport;
use isthmus_router::Router;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{service::RoutesBuilder, transport::server::TcpIncoming};
use tonic_health::server::HealthReporter;

use super::probe::{NodeProbe, Observed};
use crate::{
    Result,
    activity::service::Answering,
    config::GrpcOptions,
    grpc::{self, hub::Hub},
    http,
};

/// What is served to other nodes.
pub(super) struct PeerServices<'a> {
    pub(super) transport: &'a GrpcTransport,
    pub(super) router: &'a Router,
    pub(super) coordinator: &'a Coordinator,
    pub(super) hub: &'a Arc<Hub>,
}

/// Running servers.
pub(super) struct Serving {
    peers: JoinHandle<()>,
    stop_peers: CancellationToken,
    clients: Option<Clients>,
}

struct Clients {
    grpc: JoinHandle<()>,
    http: JoinHandle<()>,
    stop: CancellationToken,
    health: HealthReporter,
}

/// A server's task. The servers are the roots of a node: they are joined at its stop.
#[expect(clippy::disallowed_methods, reason = "the handle is kept, and awaited at the stop")]
fn spawn<E: std::fmt::Display>(
    what: &'static str,
    server: impl Future<Output = Result<(), E>> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, what, "a server ended");
        }
    })
}

impl Serving {
    /// Serves other nodes.
    pub(super) fn peers(listener: TcpListener, services: PeerServices<'_>) -> Self {
        let stop_peers = CancellationToken::new();
        // Queries of other nodes have their tasks here.
        let tasks = services.hub.queries.engine().add_worker_to(RoutesBuilder::default());
        let router = isthmus_router::peer_server()
            .add_routes(tasks.routes())
            .add_service(services.transport.raft_service())
            .add_service(services.transport.snapshot_service())
            .add_service(services.router.exchange_service().into_server())
            .add_service(services.coordinator.service())
            .add_service(Answering::server(services.hub.clone()));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = router.serve_with_incoming_shutdown(incoming, stop_peers.clone().cancelled_owned());
        Self { peers: spawn("peers' port", server), stop_peers, clients: None }
    }

    /// Serves clients, too.
    pub(super) async fn clients(
        &mut self,
        grpc_listener: TcpListener,
        http_listener: TcpListener,
        hub: &Arc<Hub>,
        observed: Observed,
        options: &GrpcOptions,
    ) {
        let stop = CancellationToken::new();
        let (health, router) = grpc::services(hub, options);
        grpc::set_serving(&health, false).await;
        let incoming = TcpIncoming::from(grpc_listener).with_nodelay(Some(true));
        let server = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let grpc = spawn("clients' port", server);
        let probe = NodeProbe { hub: hub.clone(), observed, stop: stop.clone() };
        let http = spawn("HTTP port", http::serve(http_listener, probe, hub.clone(), stop.clone()));
        self.clients = Some(Clients { grpc, http, stop, health });
    }

    /// What keeps the node from serving; `None`: nothing.
    pub(super) fn unready(&self, hub: &Hub) -> Option<String> {
        match &self.clients {
            Some(clients) if !clients.stop.is_cancelled() => unready(hub),
            _ => Some("it is stopping".to_owned()),
        }
    }

    /// Tells health checks that the node serves.
    pub(super) async fn set_serving(&self) {
        if let Some(clients) = &self.clients {
            grpc::set_serving(&clients.health, true).await;
        }
    }

    /// Takes no new connections and calls from clients.
    pub(super) async fn close_clients(&self) {
        if let Some(clients) = &self.clients {
            grpc::set_serving(&clients.health, false).await;
            clients.stop.cancel();
        }
    }

    /// Waits for clients' calls that are under way, for a while.
    pub(super) async fn drain_clients(mut self, patience: Duration) -> Self {
        if let Some(Clients { mut grpc, mut http, .. }) = self.clients.take() {
            let both = async { (&mut grpc).await.and((&mut http).await) };
            if timeout(patience, both).await.is_err() {
                tracing::warn!("some calls did not end in time and are broken off");
                grpc.abort();
                http.abort();
            }
        }
        self
    }

    /// Serves other nodes no more.
    pub(super) async fn close_peers(mut self) {
        self.stop_peers.cancel();
        // Streams of other nodes end with the parts that serve them; what doesn't is broken off.
        if timeout(Duration::from_secs(1), &mut self.peers).await.is_err() {
            self.peers.abort();
        }
    }
}

/// What keeps a node from serving; `None`: nothing.
pub(super) fn unready(hub: &Hub) -> Option<String> {
    let status = hub.coordinator.status();
    if status.view.version == 0 {
        return Some("it doesn't know its cluster yet".to_owned());
    }
    if status.metadata_leader.is_none() {
        return Some("no leader of the metadata group is known".to_owned());
    }
    let me = isthmus_domain::NodeId(hub.node);
    status.view.shards_of(me).into_iter().find_map(|peer| match hub.router.local().get(peer.shard) {
        None => Some(format!("shard {} is not open", peer.shard)),
        Some(shard) if shard.leadership().leader.is_none() => {
            Some(format!("shard {} has no leader", peer.shard))
        }
        Some(_) => None,
    })
}
