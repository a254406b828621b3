//! Starting a node, in order.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use isthmus_coordinator::{
    Coordinator, Error as CoordinatorError, Membership, NodeOptions as MemberOptions, Parts,
    SystemClock as MetaClock,
};
use isthmus_domain::NodeId;
use isthmus_matcher::{Holders, Matching, Models};
use isthmus_raft::{
    Options as RaftOptions, RaftNode,
    transport::grpc::{GrpcOptions, GrpcTransport},
};
use isthmus_router::{ExchangeOptions, LocalShards, Router, RouterOptions};
use isthmus_segmenter::{Definitions, Segments};
use isthmus_shard::{Freshness, Keeper, KeeperOptions};
use isthmus_storage::format::{DataDir, Identity};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Addresses, Node, NodeOptions, Origin,
    control::Control,
    disk,
    host::{self, Host, Shards},
    listen::Ports,
    probe::Observed,
    serving::{PeerServices, Serving},
    storage::{self, Storage},
};
use crate::{
    Error, Result,
    activity::Activity,
    grpc::{hub::Hub, ingest::OpenStreams, profile::watch::Watchers, registry::Registries},
    metrics::Metrics,
    query::{Queries, shards::NodeShards},
    traces::Named,
    version::VERSION,
};

/// Comparisons of profiles that run at a time: beside what clients wait for, not instead of it.
const COMPARING: usize = 2;
/// Engines of segments that are made at a time beside those in use.
const MAKING: usize = 2;

/// See [`Node::start`].
pub(super) async fn start(options: NodeOptions, stop: &CancellationToken) -> Result<Node> {
    let ports = Ports::bind(&options).await?;
    let addresses = Addresses {
        grpc: ports.grpc.address.clone(),
        http: ports.http.address.clone(),
        peer: ports.peer.address.clone(),
    };
    let dir = storage::open_dir(options.data_dir.clone()).await?;
    let membership = membership(&options, &addresses, &dir, stop).await?;
    let identity = Identity { cluster: membership.cluster_id_text(), node: options.node_id };
    dir.set_identity(&identity).map_err(Error::data_dir)?;
    let storage = Storage::open(dir, options.storage.clone()).await?;

    let transport = transport(&membership, &options)?;
    let raft =
        RaftNode::start(storage.log.clone(), transport.clone(), raft_options(&options, &storage.incoming))?;
    let identity_key = membership.identity_key.clone();
    let started = Coordinator::start(Parts {
        membership,
        raft: raft.clone(),
        keeper: storage.keeper.clone(),
        snapshots: storage.outgoing.clone(),
        clock: Arc::new(MetaClock),
    });
    let coordinator = match started.await {
        Ok(coordinator) => coordinator,
        Err(error) => {
            raft.stop().await;
            transport.stop().await;
            return Err(error.into());
        }
    };
    let (tracker, stop_rest, stop_host) =
        (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    let me = NodeId(options.node_id);
    let view = coordinator.view();
    let first = view.borrow().clone();
    if first.version > 0 && !first.has_node(me) {
        coordinator.stop().await;
        raft.stop().await;
        transport.stop().await;
        let problem = "this node was removed from its cluster for good; to take part again it needs a new id and an \
                       empty data directory";
        return Err(Error::setting("node_id", problem));
    }
    let (topology, topology_receiver) = watch::channel(Arc::new(host::topology(&first, me)));
    let (config, _) = watch::channel(host::shard_config(&first));
    let router = Router::start(
        topology_receiver,
        LocalShards::new(),
        RouterOptions {
            exchange: ExchangeOptions { origins: Arc::new(Named), ..ExchangeOptions::default() },
            ..RouterOptions::default()
        },
        tracker.clone(),
        stop_rest.clone(),
    )?;
    let keeper_options = KeeperOptions {
        memory_bytes: options.storage.memtables.0,
        replay_bytes: options.storage.replay.0,
        hot_bytes: options.query.columns.0,
    };
    let keeper = Keeper::start(storage.keeper.clone(), keeper_options, &tracker, stop_rest.clone());

    let (matching_document, documents) = watch::channel(None);
    let (loaded, models) = watch::channel(None);
    tracker.spawn(isthmus_matcher::model::follow(router.clone(), documents, loaded, stop_rest.clone()));
    let models = Models::new(models);
    let (holders, look) = Holders::new(router.clone(), models.clone(), stop_rest.clone());
    tracker.spawn(look);
    let matching = Matching {
        router: router.clone(),
        key: identity_key.clone(),
        currency: isthmus_coordinator::DEFAULT_CURRENCY.to_owned(),
        models,
        holders,
        comparing: Arc::new(Semaphore::new(COMPARING)),
        clock: options.clock.clone(),
        tracker: tracker.clone(),
        stop: stop_host.clone(),
    };

    let metrics = Arc::<Metrics>::default();
    let shards = NodeShards::new(options.node_id, router.clone(), coordinator.clone(), options.clock.clone());
    let queries =
        Queries::start(Arc::new(shards), options.query.clone(), &options.data_dir, metrics.queries.clone());
    let queries = match queries {
        Ok(queries) => queries,
        Err(error) => {
            stop_rest.cancel();
            coordinator.stop().await;
            raft.stop().await;
            transport.stop().await;
            return Err(error);
        }
    };
    let (segments_document, documents) = watch::channel(None);
    let (compiled, definitions) = watch::channel(None);
    tracker.spawn(isthmus_segmenter::definitions::follow(
        documents,
        isthmus_coordinator::DEFAULT_CURRENCY.to_owned(),
        compiled,
        stop_rest.clone(),
    ));
    let gauges = isthmus_segmenter::Gauges::default();
    let segments = Segments {
        router: router.clone(),
        definitions: Definitions::new(definitions),
        currency: isthmus_coordinator::DEFAULT_CURRENCY.to_owned(),
        making: Arc::new(Semaphore::new(MAKING)),
        gauges: gauges.clone(),
        clock: options.clock.clone(),
        tracker: tracker.clone(),
        stop: stop_host.clone(),
    };

    let hub = Arc::new(Hub {
        node: options.node_id,
        router: router.clone(),
        coordinator: coordinator.clone(),
        view: view.clone(),
        identity_key,
        clock: options.clock.clone(),
        watchers: Watchers::new(options.feed.watchers as usize),
        ingest_streams: OpenStreams::new(&options.grpc),
        registries: Registries::default(),
        learning: tokio::sync::Mutex::new(()),
        metrics,
        queries,
        activity: Activity::default(),
        deadline: options.grpc.deadline,
        started_micros: options.clock.now_micros(),
    });
    let shards = Shards::default();
    let freshness = Arc::new(Freshness::new(options.clock.clone()));
    let mut serving = Serving::peers(
        ports.peer.listener,
        PeerServices { transport: &transport, router: &router, coordinator: &coordinator, hub: &hub },
    );
    coordinator.attach(Arc::new(Control { raft: raft.clone(), router: router.clone() }));
    let host = Host {
        node: me,
        view,
        raft: raft.clone(),
        transport: transport.clone(),
        keeper: keeper.clone(),
        router,
        outgoing: storage.outgoing,
        cache_bytes: options.storage.facet_cache.0,
        quarantine_retention: options.quarantine.retention,
        feed: options.feed.clone(),
        clock: options.clock.clone(),
        freshness: freshness.clone(),
        topology,
        config,
        shards: shards.clone(),
        matching_document,
        matching,
        segments_document,
        segments,
    };
    let host = tracker.spawn(host.run(stop_host.clone()));
    let dir = storage.dir;
    let reserve_bytes = options.storage.disk_reserve.0;
    disk::look(&dir, reserve_bytes, &keeper);
    tracker.spawn(disk::watch(dir.clone(), reserve_bytes, keeper.clone(), stop_rest.clone()));
    let observed = Observed {
        raft: raft.clone(),
        shards: shards.clone(),
        keeper,
        runs: storage.runs,
        freshness,
        dir: dir.clone(),
        segments: gauges,
    };
    serving.clients(ports.grpc.listener, ports.http.listener, &hub, observed, &options.grpc).await;
    tracing::info!(
        node = options.node_id,
        grpc = addresses.grpc,
        peer = addresses.peer,
        version = VERSION,
        "started"
    );
    Ok(Node {
        addresses,
        hub,
        raft,
        transport,
        shards,
        serving,
        host,
        tracker,
        stop_host,
        stop_rest,
        _dir: dir,
    })
}

/// The node's place in a cluster: what an earlier start left, or a new one.
async fn membership(
    options: &NodeOptions,
    addresses: &Addresses,
    dir: &DataDir,
    stop: &CancellationToken,
) -> Result<Membership> {
    let node = MemberOptions {
        node: NodeId(options.node_id),
        grpc_address: addresses.grpc.clone(),
        http_address: addresses.http.clone(),
        peer_address: addresses.peer.clone(),
        version: VERSION.to_owned(),
    };
    if let Some(found) = dir.identity().filter(|found| found.node != options.node_id) {
        let problem = format!("{} holds the data of node {}", dir.path().display(), found.node);
        return Err(Error::setting("node_id", problem));
    }
    let path = storage::membership_dir(dir.path());
    let membership = match Membership::resume(&path, &node).map_err(explained)? {
        Some(membership) => membership,
        None if dir.identity().is_some() => {
            let problem = format!(
                "{} lacks the node's membership: restore it, or begin anew under another id",
                path.display()
            );
            return Err(Error::setting("data_dir", problem));
        }
        None => enter(&path, &node, &options.origin, stop).await?,
    };
    match dir.identity() {
        Some(found) if found.cluster != membership.cluster_id_text() => {
            let problem = format!("{} holds data of another cluster", dir.path().display());
            Err(Error::setting("data_dir", problem))
        }
        _ => Ok(membership),
    }
}

async fn enter(
    path: &Path,
    node: &MemberOptions,
    origin: &Origin,
    stop: &CancellationToken,
) -> Result<Membership> {
    let entered = match origin {
        Origin::Found(options) => Membership::found(path, node, options.clone()),
        Origin::Join(peers) => {
            let bare = peers.iter().map(|peer| peer.strip_prefix("http://").unwrap_or(peer).to_owned());
            Membership::join(path, node, &bare.collect::<Vec<_>>(), stop).await
        }
        Origin::Resume => {
            let problem = "the node has no data: say with --bootstrap that it makes a cluster, or with --join which \
                           one it joins";
            return Err(Error::setting("bootstrap", problem));
        }
    };
    entered.map_err(explained)
}

/// What keeps a node from being a member is mostly for an operator to mend.
fn explained(error: CoordinatorError) -> Error {
    match &error {
        CoordinatorError::Refused { code, message } => match code.as_str() {
            "NODE_ID_TAKEN" | "NODE_REMOVED" => Error::setting("node_id", format!("{code}: {message}")),
            _ => Error::setting("join", format!("{code}: {message}")),
        },
        CoordinatorError::Membership { .. } | CoordinatorError::Secret { .. } => {
            Error::setting("data_dir", error.to_string())
        }
        CoordinatorError::Storage(isthmus_storage::Error::Exposed { .. }) => {
            Error::setting("data_dir", error.to_string())
        }
        _ => Error::Coordinator(error),
    }
}

fn transport(membership: &Membership, options: &NodeOptions) -> Result<Arc<GrpcTransport>> {
    let cluster_id = Bytes::copy_from_slice(&membership.cluster_id);
    Ok(GrpcTransport::new(GrpcOptions::new(cluster_id, options.node_id)))
}

fn raft_options(options: &NodeOptions, staging: &Path) -> RaftOptions {
    RaftOptions {
        tick: options.raft.tick,
        heartbeat_ticks: options.raft.heartbeat_ticks as usize,
        election_ticks: options.raft.election_ticks as usize,
        ..RaftOptions::new(options.node_id, staging)
    }
}
