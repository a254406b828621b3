//! What the router must know of the cluster, and the tables it makes of that.
//!
//! A [`Topology`] is given from outside, whole, whenever something changes. [`Routes`] is what routing looks up in: one
//! immutable table per topology, swapped as a whole, so that a request never sees half a change. What is worth keeping
//! over a change is carried over: who leads a shard, and connections to nodes whose address is the same.
//!
//! All of it is a hint. Whether a shard owns a slot is decided by the shard, in apply; who leads is decided by Raft.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use isthmus_domain::shard_map::OwnerTable;
use isthmus_domain::{ReplicaId, ShardMap, Slot, SlotRange};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::exchange::Link;

/// The cluster as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Rises with every change.
    pub version: u64,
    /// The cluster's id, 16 bytes; empty before the node knows it, and then no other node is spoken to.
    pub cluster_id: Vec<u8>,
    /// This node.
    pub node: u32,
    /// Which shard owns which slot, and where its replicas are.
    pub shard_map: ShardMap,
    /// Version of the configuration that shards should have.
    pub config_version: u64,
    /// The nodes: `host:port` for other nodes, by id.
    pub nodes: BTreeMap<u32, String>,
}

/// One shard as routing needs it.
#[derive(Debug)]
pub(crate) struct ShardRoute {
    pub(crate) id: u64,
    /// The peers of the shard map, the preferred leader first.
    pub(crate) replicas: Vec<u64>,
    /// The peer that led when last heard of; 0 when unknown.
    leader: AtomicU64,
}

impl ShardRoute {
    pub(crate) fn leader(&self) -> u64 {
        self.leader.load(Ordering::Relaxed)
    }

    pub(crate) fn learn_leader(&self, peer: u64) {
        if self.leader() != peer {
            self.leader.store(peer, Ordering::Relaxed);
        }
    }

    /// Forgets the leader if it still is this peer.
    pub(crate) fn forget_leader(&self, peer: u64) {
        let _unchanged_if_another =
            self.leader.compare_exchange(peer, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Slots in a row that belong to one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) shard: u64,
    pub(crate) slots: SlotRange,
}

/// The tables of one topology.
pub(crate) struct Routes {
    /// Counts the tables that this router has had; rises with each.
    pub(crate) revision: u64,
    pub(crate) topology: Arc<Topology>,
    owners: OwnerTable,
    shards: BTreeMap<u64, Arc<ShardRoute>>,
    /// All owned slots, in order; neighbours belong to different shards or don't touch.
    segments: Vec<Segment>,
    links: BTreeMap<u32, Link>,
}

impl Routes {
    /// The tables of a topology; `connect` makes the link to a node that has none at this address yet.
    pub(crate) fn build(
        topology: Arc<Topology>,
        before: Option<&Self>,
        mut connect: impl FnMut(u32, &str) -> Link,
    ) -> Self {
        let shards = topology.shard_map.shards.iter().map(|entry| {
            let replicas: Vec<u64> = entry.replicas.iter().map(|peer| peer.0).collect();
            let known = before.and_then(|routes| routes.shards.get(&entry.id.0));
            let route = match known {
                Some(route) if route.replicas == replicas => Arc::clone(route),
                _ => {
                    let leader = known.map_or(0, |route| route.leader());
                    let leader = if replicas.contains(&leader) { leader } else { 0 };
                    Arc::new(ShardRoute { id: entry.id.0, replicas, leader: AtomicU64::new(leader) })
                }
            };
            (entry.id.0, route)
        });
        let shards = shards.collect();
        let mut segments: Vec<Segment> = topology
            .shard_map
            .shards
            .iter()
            .flat_map(|entry| {
                entry.ranges.as_slice().iter().map(|slots| Segment { shard: entry.id.0, slots: *slots })
            })
            .collect();
        segments.sort_unstable_by_key(|segment| segment.slots);
        let same_cluster = before.is_none_or(|routes| routes.topology.cluster_id == topology.cluster_id);
        let others = topology.nodes.iter().filter(|_| !topology.cluster_id.is_empty());
        let links = others.filter(|(node, _)| **node != topology.node).map(|(node, address)| {
            let known = before.and_then(|routes| routes.links.get(node));
            let link = match known {
                Some(link) if same_cluster && link.address() == address => link.clone(),
                _ => connect(*node, address),
            };
            (*node, link)
        });
        let links = links.collect();
        let revision = before.map_or(1, |routes| routes.revision + 1);
        Self { revision, owners: topology.shard_map.owner_table(), topology, shards, segments, links }
    }

    /// The shard that owns the slot, as far as this node knows.
    pub(crate) fn owner(&self, slot: Slot) -> Option<u64> {
        self.owners.owner(slot).map(|shard| shard.0)
    }

    pub(crate) fn shard(&self, shard: u64) -> Option<&Arc<ShardRoute>> {
        self.shards.get(&shard)
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = &Arc<ShardRoute>> {
        self.shards.values()
    }

    /// The segments that hold the slot or lie behind it, in order. A slot that nobody owns makes `None`.
    pub(crate) fn segments_from(&self, slot: Slot) -> Option<&[Segment]> {
        let first = self.segments.partition_point(|segment| segment.slots.end_exclusive() <= slot.number());
        let rest = &self.segments[first..];
        rest.first().is_some_and(|segment| segment.slots.contains(slot)).then_some(rest)
    }

    /// The ways to all other nodes.
    pub(crate) fn links(&self) -> impl Iterator<Item = (u32, &Link)> {
        self.links.iter().map(|(node, link)| (*node, link))
    }

    pub(crate) fn link(&self, node: u32) -> Option<&Link> {
        self.links.get(&node)
    }

    pub(crate) fn map_version(&self) -> u64 {
        self.owners.version()
    }
}

/// The node that a peer lives on.
pub(crate) fn node_of(peer: u64) -> u32 {
    ReplicaId(peer).node().0
}

/// Makes new tables whenever the topology changes, until the stop. When nobody will change it any more, the last
/// tables stay.
pub(crate) async fn keep_routes(
    mut topology: watch::Receiver<Arc<Topology>>,
    routes: watch::Sender<Arc<Routes>>,
    connect: impl Fn(&Arc<Topology>, u32, &str) -> Link,
    stop: CancellationToken,
) {
    loop {
        let changed = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = topology.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        let now = Arc::clone(&topology.borrow_and_update());
        let before = Arc::clone(&routes.borrow());
        let next =
            Routes::build(Arc::clone(&now), Some(&before), |node, address| connect(&now, node, address));
        tracing::debug!(version = next.topology.version, shard_map = next.map_version(), "routes changed");
        routes.send_replace(Arc::new(next));
    }
}

#[cfg(test)]
mod tests {
    use isthmus_domain::NodeId;

    use super::*;

    fn topology(shards: u32) -> Topology {
        let mut shard_map = ShardMap::even(shards).unwrap();
        for entry in &mut shard_map.shards {
            entry.replicas = (1..=3).map(|node| ReplicaId::new(NodeId(node), 1)).collect();
        }
        Topology { version: 1, node: 1, shard_map, ..Topology::default() }
    }

    fn build(topology: Topology, before: Option<&Routes>) -> Routes {
        Routes::build(Arc::new(topology), before, |_, _| panic!("no cluster id, so nobody is spoken to"))
    }

    #[test]
    fn a_leader_that_is_still_a_replica_is_remembered_over_a_change() {
        let first = build(topology(4), None);
        let leader = ReplicaId::new(NodeId(2), 1).0;
        first.shard(1).unwrap().learn_leader(leader);
        first.shard(2).unwrap().learn_leader(leader);

        let mut changed = topology(4);
        changed.shard_map.version += 1;
        changed.shard_map.shards[0].replicas.swap(0, 2);
        changed.shard_map.shards[1].replicas.retain(|peer| peer.0 != leader);
        let second = build(changed, Some(&first));
        assert_eq!(second.shard(1).unwrap().leader(), leader);
        assert_eq!(second.shard(2).unwrap().leader(), 0, "a peer that is gone leads nothing");
        assert_eq!(second.revision, first.revision + 1);
    }

    #[test]
    fn segments_follow_the_slots_however_ranges_are_scattered() {
        let mut topology = topology(3);
        let moved = SlotRange::new(100, 200).unwrap();
        topology.shard_map.shards[0].ranges.remove(moved);
        topology.shard_map.shards[2].ranges.insert(moved);
        let routes = build(topology, None);
        let all = routes.segments_from(Slot::new(0).unwrap()).unwrap();
        assert_eq!(all.iter().map(|s| s.shard).collect::<Vec<_>>(), [1, 3, 1, 2, 3]);
        assert!(all.windows(2).all(|w| w[0].slots.end_exclusive() == w[1].slots.start().number()));
        let rest = routes.segments_from(Slot::new(150).unwrap()).unwrap();
        assert_eq!(rest.first(), Some(&Segment { shard: 3, slots: moved }));
    }

    #[test]
    fn before_any_map_is_known_nobody_owns_anything() {
        let routes = build(Topology::default(), None);
        assert_eq!(routes.owner(Slot::new(0).unwrap()), None);
        assert!(routes.segments_from(Slot::new(0).unwrap()).is_none());
    }
}
