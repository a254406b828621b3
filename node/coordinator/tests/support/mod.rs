//! A cluster of coordinators in one process: real gRPC between coordinators, real raft groups for metadata and shards
//! over a channel network, logs and control rows in memory, views and runs in temporary directories.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _};
use isthmus_coordinator::{
    Coordinator, FoundOptions, Membership, NodeOptions, Parts, ShardControl, SystemClock, View,
    replica_report,
};
use isthmus_domain::NodeId;
use isthmus_proto::internal::v1::{ChangeMembersCall, ReplicaReport};
use isthmus_raft::{
    Broken, Committed, ConfState, GroupHandle, MembershipChange, OpenGroup, Options, PeerId, Position,
    RaftNode, SnapshotSource, StagedSnapshot, Start, StateMachine, transport::channel::ChannelNetwork,
};
use isthmus_storage::{
    control::MemoryControl,
    keeper::{Keeper, KeeperOptions},
    log::MemoryLog,
    runs::{FileRuns, RunOptions},
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Long enough for a busy machine; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// A shard that counts: enough for Raft.
#[derive(Default)]
struct Counter {
    position: Position,
}

impl StateMachine for Counter {
    type Outcome = u64;

    fn position(&self) -> Position {
        self.position.clone()
    }
    async fn prepare(&mut self, _: &[Committed]) -> Result<(), Broken> {
        Ok(())
    }
    fn apply(&mut self, entry: Committed) -> Result<u64, Broken> {
        (self.position.index, self.position.term) = (entry.index, entry.term);
        Ok(entry.index)
    }
    fn reconfigured(&mut self, index: u64, term: u64, conf: ConfState) {
        self.position = Position { index, term, conf };
    }
    fn empty(&mut self, index: u64, term: u64) {
        (self.position.index, self.position.term) = (index, term);
    }
    fn batch_end(&mut self) {}
    fn durable_index(&self) -> u64 {
        0
    }
    async fn snapshot(&mut self) -> Result<SnapshotSource, Broken> {
        Err(Broken::new("the log is never compacted"))
    }
    async fn install(&mut self, _: StagedSnapshot) -> Result<Position, Broken> {
        Err(Broken::new("the log is never compacted"))
    }
}

/// What survives a restart, apart from the directory.
pub struct Disk {
    pub dir: tempfile::TempDir,
    log: Arc<MemoryLog>,
    control: Arc<MemoryControl>,
    port: Mutex<u16>,
}

impl Disk {
    pub fn new() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (log, control) = (Arc::new(MemoryLog::new()), Arc::new(MemoryControl::new()));
        Arc::new(Self { dir, log, control, port: Mutex::new(0) })
    }
}

/// All nodes' shard groups, so that a leader can be reached wherever it is.
#[derive(Default)]
pub struct Shards(Mutex<BTreeMap<u32, BTreeMap<u64, GroupHandle<u64>>>>);

impl Shards {
    fn leader(&self, shard: u64) -> Option<GroupHandle<u64>> {
        let nodes = self.0.lock();
        let groups = nodes.values().filter_map(|groups| groups.get(&shard));
        groups.filter(|g| g.view().serving).max_by_key(|g| g.view().term).cloned()
    }
}

struct Control {
    node: u32,
    shards: Arc<Shards>,
}

impl ShardControl for Control {
    fn reports(&self) -> Vec<ReplicaReport> {
        let nodes = self.shards.0.lock();
        nodes.get(&self.node).into_iter().flatten().map(|(_, group)| replica_report(&group.view())).collect()
    }

    fn change_members(
        &self,
        shard: u64,
        change: ChangeMembersCall,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<(), String>> {
        let leader = self.shards.leader(shard);
        async move {
            let peers = |ids: Vec<u64>| ids.into_iter().map(PeerId).collect();
            let change = MembershipChange {
                add_learners: peers(change.add_learners),
                promote: peers(change.add_voters),
                remove: peers(change.remove),
            };
            let leader = leader.ok_or("no leader")?;
            leader.change_membership(change, deadline).await.map(|_| ()).map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn transfer(
        &self,
        shard: u64,
        to_peer: u64,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<(), String>> {
        let leader = self.shards.leader(shard);
        async move {
            let leader = leader.ok_or("no leader")?;
            leader.transfer_leader(PeerId(to_peer), deadline).await.map_err(|error| error.to_string())
        }
        .boxed()
    }
}

/// The cluster's surroundings.
pub struct World {
    pub network: ChannelNetwork,
    pub shards: Arc<Shards>,
}

impl World {
    pub fn new() -> Self {
        // RUST_LOG shows what the nodes do; another test of this binary may have set it up.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        Self { network: ChannelNetwork::new(7), shards: Arc::default() }
    }
}

/// A running node.
pub struct Node {
    pub id: u32,
    pub disk: Arc<Disk>,
    pub coordinator: Coordinator,
    pub address: String,
    raft: RaftNode,
    network: ChannelNetwork,
    shards: Arc<Shards>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

/// How a node comes in.
pub enum Way<'a> {
    Found { shards: u32, replicas: u32 },
    Join(&'a [String]),
    Resume,
}

impl Node {
    pub async fn start(world: &World, id: u32, disk: &Arc<Disk>, way: Way<'_>) -> Self {
        Self::try_start(world, id, disk, way).await.unwrap()
    }

    pub async fn try_start(
        world: &World,
        id: u32,
        disk: &Arc<Disk>,
        way: Way<'_>,
    ) -> Result<Self, isthmus_coordinator::Error> {
        // The port stays the node's own over restarts, as an operator's configuration does.
        let port = *disk.port.lock();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        *disk.port.lock() = listener.local_addr().unwrap().port();
        let node = NodeOptions {
            node: NodeId(id),
            grpc_address: format!("127.0.0.1:{}", 10_000 + id),
            http_address: format!("127.0.0.1:{}", 20_000 + id),
            peer_address: address.clone(),
            version: "test".into(),
        };
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let dir = disk.dir.path().join("coordinator");
        let membership = match way {
            Way::Found { shards, replicas } => {
                let options = FoundOptions { shards, replicas, identity_key: None, dev_source: true };
                Membership::found(&dir, &node, options)?
            }
            Way::Join(peers) => Membership::join(&dir, &node, peers, &stop).await?,
            Way::Resume => Membership::resume(&dir, &node)?.expect("started before"),
        };
        let mut options = Options::new(id, disk.dir.path().join("staging"));
        // So that whoever joins late needs a snapshot.
        options.log_keep_bytes = 0;
        options.compact_entries_min = 1;
        let raft = RaftNode::start(disk.log.clone(), world.network.transport(id), options).unwrap();
        let runs = FileRuns::open(&disk.dir.path().join("runs"), RunOptions::default()).unwrap();
        let keeper = Keeper::open(
            &disk.dir.path().join("keeper"),
            disk.control.clone(),
            runs,
            Vec::new(),
            KeeperOptions::default(),
        );
        let parts = Parts {
            membership,
            raft: raft.clone(),
            keeper: Arc::new(keeper.unwrap()),
            snapshots: disk.dir.path().join("snapshots"),
            clock: Arc::new(SystemClock),
        };
        std::fs::create_dir_all(&parts.snapshots).unwrap();
        let coordinator = Coordinator::start(parts).await?;
        let server = tonic::transport::Server::builder()
            .add_service(coordinator.service())
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        tracker.spawn(server);
        let shards = world.shards.clone();
        tracker.spawn(hold_shards(
            raft.clone(),
            id,
            Arc::downgrade(&shards),
            coordinator.view(),
            stop.clone(),
        ));
        coordinator.attach(Arc::new(Control { node: id, shards: shards.clone() }));
        let network = world.network.clone();
        Ok(Self { id, disk: disk.clone(), coordinator, address, raft, network, shards, stop, tracker })
    }

    /// Stops without a word to anybody: as much of a crash as one process can have.
    pub async fn kill(self) -> Arc<Disk> {
        self.network.remove(self.id);
        self.stop.cancel();
        self.shards.0.lock().remove(&self.id);
        self.coordinator.stop().await;
        // Before the raft node: it may be closing a group.
        self.tracker.close();
        self.tracker.wait().await;
        self.raft.stop().await;
        self.disk.clone()
    }

    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.coordinator.view().borrow())
    }

    pub async fn wait(&self, what: &str, mut holds: impl FnMut(&View) -> bool) -> Arc<View> {
        let mut view = self.coordinator.view();
        let waited = tokio::time::timeout(PATIENCE, view.wait_for(|view| holds(view))).await;
        match waited {
            Ok(view) => Arc::clone(&view.unwrap()),
            Err(_) => panic!("node {}: never {what}: {:?}", self.id, self.view()),
        }
    }

    pub fn leads_metadata(&self) -> bool {
        self.coordinator.metadata_view().is_some_and(|view| view.serving)
    }

    pub fn metadata_voters(&self) -> usize {
        self.coordinator.metadata_view().map_or(0, |view| view.conf.voters.len())
    }

    /// Voters of each shard, by its leader, whichever node that is on.
    pub fn shard_voters(&self, shard: u64) -> Vec<u32> {
        let Some(leader) = self.shards.leader(shard) else { return Vec::new() };
        let view = leader.view();
        if !view.conf.voters_outgoing.is_empty() || !view.conf.learners.is_empty() {
            return Vec::new();
        }
        view.conf.voters.iter().map(|peer| PeerId(*peer).node()).collect()
    }
}

/// Opens and deletes shard replicas as the view says.
async fn hold_shards(
    raft: RaftNode,
    node: u32,
    shards: Weak<Shards>,
    mut view: watch::Receiver<Arc<View>>,
    stop: CancellationToken,
) {
    loop {
        let shown = Arc::clone(&view.borrow_and_update());
        let wanted = shown.shards_of(NodeId(node));
        let Some(all) = shards.upgrade() else { return };
        let open: Vec<_> =
            all.0.lock().get(&node).into_iter().flatten().map(|(s, g)| (*s, g.peer())).collect();
        for (shard, peer) in open {
            if shown.version > 0 && !wanted.iter().any(|w| w.shard == shard && w.peer.0 == peer.0) {
                all.0.lock().entry(node).or_default().remove(&shard);
                raft.remove_group(shard).await.unwrap();
            }
        }
        for peer in wanted {
            if all.0.lock().get(&node).is_some_and(|groups| groups.contains_key(&peer.shard)) {
                continue;
            }
            let voters = peer.founders.iter().map(|peer| PeerId(peer.0)).collect::<Vec<_>>();
            let start = if voters.is_empty() { Start::Join } else { Start::Bootstrap(voters) };
            let open = OpenGroup {
                group: peer.shard,
                peer: PeerId(peer.peer.0),
                start,
                machine: Counter::default(),
            };
            let group = raft.open_group(open).await.unwrap();
            all.0.lock().entry(node).or_default().insert(peer.shard, group);
        }
        drop(all);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

/// Waits until something holds, looking every now and then.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = soon();
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
