//! A router with its surroundings, and what it is given.

use std::sync::Arc;
use std::time::Duration;

use isthmus_domain::{NodeId, ReplicaId, ShardMap, Slot};
use isthmus_proto::internal::v1::{CommandItem, command_item};
use isthmus_router::{LocalShards, RoutedItem, Router, RouterOptions, Topology};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Fake, Shared, Step};

/// An item that belongs to a slot; the same number is the same event.
pub fn item(router: &Router, slot: u16, number: u16) -> RoutedItem {
    let mut record = slot.to_be_bytes().to_vec();
    record.extend(number.to_be_bytes());
    let body = command_item::Body::Record(record.into());
    let item = CommandItem { attempt: router.next_attempt(), body: Some(body), ..CommandItem::default() };
    RoutedItem { slot: Slot::new(slot).unwrap(), item }
}

pub fn peer(node: u32) -> u64 {
    ReplicaId::new(NodeId(node), 1).0
}

/// An even map whose shards have their replicas on these nodes.
pub fn map(shards: u32, nodes: &[u32]) -> ShardMap {
    let mut map = ShardMap::even(shards).unwrap();
    for entry in &mut map.shards {
        entry.replicas = nodes.iter().map(|node| ReplicaId(peer(*node))).collect();
    }
    map
}

/// A router with its surroundings.
pub struct Node {
    pub router: Router,
    pub local: LocalShards,
    pub topology: watch::Sender<Arc<Topology>>,
    pub tracker: TaskTracker,
    pub stop: CancellationToken,
}

impl Node {
    pub fn start(topology: Topology, options: RouterOptions) -> Self {
        let (sender, receiver) = watch::channel(Arc::new(topology));
        let (local, tracker, stop) = (LocalShards::new(), TaskTracker::new(), CancellationToken::new());
        let router = Router::start(receiver, local.clone(), options, tracker.clone(), stop.clone()).unwrap();
        Self { router, local, topology: sender, tracker, stop }
    }

    /// Node 1 alone, with a replica of each shard that leads and has a script.
    pub fn alone(known: ShardMap, world: &Shared, scripts: Vec<Vec<Step>>) -> Self {
        let node =
            Self::start(Topology { version: 1, node: 1, shard_map: known, ..Topology::default() }, options());
        let shards: Vec<u64> = world.lock().map.shards.iter().map(|entry| entry.id.0).collect();
        let mut scripts = scripts.into_iter();
        for shard in shards {
            node.local.insert(Fake::new(shard, peer(1), world, scripts.next().unwrap_or_default()));
        }
        node
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

pub fn options() -> RouterOptions {
    RouterOptions { seed: 7, ..RouterOptions::default() }
}

pub fn within(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

/// Runs a test on one thread, in a time that stands still while anything can go on.
pub fn in_virtual_time<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}
