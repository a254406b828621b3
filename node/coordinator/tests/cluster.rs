//! Coordinators of several nodes in one process: growth, loss of the leader, removal, restart.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use isthmus_coordinator::{DEV_WRITE_KEY, Error, WriteKey, state::Code};
use isthmus_domain::NodeId;
use support::{Disk, Node, Way, World, eventually, soon};

const SHARDS: u32 = 4;
const FIRST_SHARD: u64 = 16;

fn all_shards() -> impl Iterator<Item = u64> {
    FIRST_SHARD..FIRST_SHARD + u64::from(SHARDS)
}

async fn three(world: &World) -> Vec<Node> {
    let first = Node::start(world, 1, &Disk::new(), Way::Found { shards: SHARDS, replicas: 3 }).await;
    let peers = [first.address.clone()];
    let second = Node::start(world, 2, &Disk::new(), Way::Join(&peers)).await;
    let third = Node::start(world, 3, &Disk::new(), Way::Join(std::slice::from_ref(&second.address))).await;
    let nodes = vec![first, second, third];
    grown(&nodes, &[1, 2, 3]).await;
    nodes
}

/// Waits until the metadata group and all shards have their voters on these nodes.
async fn grown(nodes: &[Node], on: &[u32]) {
    let on = on.to_vec();
    eventually("all shards have their voters", || {
        all_shards().all(|shard| {
            let mut voters = nodes[0].shard_voters(shard);
            voters.sort_unstable();
            voters == on
        })
    })
    .await;
    eventually("the metadata group has three voters", || {
        nodes.iter().filter(|node| node.leads_metadata()).any(|node| node.metadata_voters() == 3)
    })
    .await;
}

fn follower(nodes: &[Node]) -> &Node {
    nodes.iter().find(|node| !node.leads_metadata()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_serves_at_once_with_the_built_in_sources() {
    let world = World::new();
    let node = Node::start(&world, 1, &Disk::new(), Way::Found { shards: SHARDS, replicas: 3 }).await;
    let view = node.view();
    assert_eq!(view.shard_map.shards.len(), SHARDS as usize);
    assert_eq!(view.source_by_key(DEV_WRITE_KEY).unwrap().name, "dev");
    assert!(view.source_by_key("wrong").is_none());
    assert!(view.sources["default"].built_in);
    let (source, key) =
        node.coordinator.create_source("shop", vec!["user_id".into()], "", [7; 32], soon()).await.unwrap();
    assert_eq!((source.name.as_str(), source.default_currency.as_str()), ("shop", "USD"));
    assert_eq!(node.view().source_by_key(key.as_str()).unwrap().name, "shop");
    let error = node.coordinator.create_source("shop", vec![], "", [8; 32], soon()).await.unwrap_err();
    assert!(error.is_refusal(Code::AlreadyExists), "{error}");
    let error = node.coordinator.create_source("shop2", vec![], "usd", [8; 32], soon()).await.unwrap_err();
    assert!(error.is_refusal(Code::Invalid), "{error}");
    let (_, newer) = node.coordinator.rotate_source("shop", [9; 32], soon()).await.unwrap();
    assert!(node.view().source_by_key(key.as_str()).is_none());
    node.coordinator.disable_source("shop", soon()).await.unwrap();
    assert!(node.view().source_by_key(newer.as_str()).unwrap().disabled);
    let error = node.coordinator.remove_node(NodeId(1), soon()).await.unwrap_err();
    assert!(error.is_refusal(Code::QuorumAtRisk), "{error}");
    node.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_to_three_and_outlives_its_leader() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let keys: Vec<_> = nodes.iter().map(|node| node.coordinator.identity_key().clone()).collect();
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "the sealed key opened to the same on all");

    let (_, key) =
        follower(&nodes).coordinator.create_source("a", vec![], "EUR", [1; 32], soon()).await.unwrap();
    for node in &nodes {
        node.wait("sees the source", |view| view.source_by_key(key.as_str()).is_some()).await;
    }
    let error = follower(&nodes).coordinator.remove_node(NodeId(2), soon()).await.unwrap_err();
    assert!(error.is_refusal(Code::QuorumAtRisk), "{error}");

    let at = nodes.iter().position(Node::leads_metadata).unwrap();
    let leader = nodes.remove(at);
    let (id, disk) = (leader.id, leader.kill().await);
    let (_, key) = nodes[0].coordinator.create_source("b", vec![], "", [2; 32], soon()).await.unwrap();
    eventually("the survivors say who is alive", || {
        let status = nodes[1].coordinator.status();
        status.metadata_leader.is_some() && !status.alive.contains(&NodeId(id)) && status.alive.len() == 2
    })
    .await;

    let back = Node::start(&world, id, &disk, Way::Resume).await;
    back.wait("catches up", |view| view.source_by_key(key.as_str()).is_some()).await;
    nodes.push(back);
    grown(&nodes, &[1, 2, 3]).await;
    for node in nodes {
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_node_joins_and_an_old_one_is_removed_for_good() {
    let world = World::new();
    let mut nodes = three(&world).await;
    // Enough commands for a write-out and compaction, so that the metadata group's newcomer needs a snapshot.
    for i in 0..300_u32 {
        let mut random = [0; 32];
        random[..4].copy_from_slice(&i.to_be_bytes());
        nodes[0].coordinator.create_source(&format!("source-{i}"), vec![], "", random, soon()).await.unwrap();
    }
    let peers: Vec<_> = nodes.iter().map(|node| node.address.clone()).collect();
    let fourth = Node::start(&world, 4, &Disk::new(), Way::Join(&peers)).await;
    assert_eq!(fourth.view().sources.len(), 302);
    // A node outside the metadata group follows by watch.
    let (_, key) = nodes[0].coordinator.create_source("watched", vec![], "", [2; 32], soon()).await.unwrap();
    fourth.wait("sees the source", |view| view.source_by_key(key.as_str()).is_some()).await;
    nodes.push(fourth);

    let leader = nodes.iter().find(|node| node.leads_metadata()).unwrap().id;
    let asked = nodes.iter().find(|node| node.id != leader).unwrap();
    eventually("the leader has heard from the fourth", || {
        asked.coordinator.status().alive.contains(&NodeId(4))
    })
    .await;
    let left = asked.coordinator.remove_node(NodeId(leader), soon()).await.unwrap();
    assert!(left > 0);
    for node in &nodes {
        node.wait("the node is gone", |view| !view.has_node(NodeId(leader))).await;
    }
    let stay: Vec<u32> = (1..=4).filter(|id| *id != leader).collect();
    let at = nodes.iter().position(|node| node.id == leader).unwrap();
    let removed = nodes.remove(at);
    eventually("the removed node knows", || removed.coordinator.is_removed()).await;
    eventually("it has deleted its metadata replica", || removed.coordinator.metadata_view().is_none()).await;
    let disk = removed.kill().await;
    grown(&nodes, &stay).await;

    let (_, key) = nodes[0].coordinator.create_source("after", vec![], "", [3; 32], soon()).await.unwrap();
    for node in &nodes {
        node.wait("sees the source", |view| view.source_by_key(key.as_str()).is_some()).await;
    }
    // Neither with its data nor without does it come back.
    let back = Node::start(&world, leader, &disk, Way::Resume).await;
    assert!(back.coordinator.is_removed());
    back.kill().await;
    let peers = [nodes[0].address.clone()];
    let error = Node::try_start(&world, leader, &Disk::new(), Way::Join(&peers)).await.err().unwrap();
    assert!(error.is_refusal(Code::NodeIdTaken), "{error}");
    for node in nodes {
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_known_to_every_node_as_soon_as_it_was_given_out() {
    let world = World::new();
    let mut nodes = three(&world).await;
    // One without a replica of the metadata group, which has to ask those that have one.
    let peers = [nodes[0].address.clone()];
    nodes.push(Node::start(&world, 4, &Disk::new(), Way::Join(&peers)).await);
    assert!(nodes[3].coordinator.metadata_view().is_none());
    let knows = async |node: &Node, key: &WriteKey| {
        let view = node.coordinator.view_for_key(key.as_str(), soon()).await;
        view.unwrap().source_by_key(key.as_str()).is_some()
    };
    for round in 0..40_u8 {
        let maker = &nodes[usize::from(round) % nodes.len()];
        let name = format!("source-{round}");
        let (_, key) =
            maker.coordinator.create_source(&name, vec![], "", [round + 1; 32], soon()).await.unwrap();
        for node in &nodes {
            assert!(knows(node, &key).await, "node {}, round {round}", node.id);
        }
    }
    let wrong = WriteKey::from_random([200; 32]);
    for node in &nodes {
        assert!(!knows(node, &wrong).await);
    }
    // Without a quorum nobody can say that a key is wrong; what was found before still is.
    for node in nodes.drain(1..3) {
        node.kill().await;
    }
    let unheard = WriteKey::from_random([201; 32]);
    for node in &nodes {
        let error = node.coordinator.view_for_key(unheard.as_str(), soon()).await.unwrap_err();
        assert!(matches!(error, Error::NoLeader(_)), "{error}");
        for known in [wrong.as_str(), "no-key-at-all", DEV_WRITE_KEY] {
            let view = node.coordinator.view_for_key(known, soon()).await.unwrap();
            assert_eq!(view.source_by_key(known).is_some(), known == DEV_WRITE_KEY);
        }
    }
    for node in nodes {
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restart_with_what_they_knew() {
    let world = World::new();
    let nodes = three(&world).await;
    let (_, key) = nodes[1].coordinator.create_source("kept", vec![], "", [4; 32], soon()).await.unwrap();
    for node in &nodes {
        node.wait("sees the source", |view| view.source_by_key(key.as_str()).is_some()).await;
    }
    let mut disks = Vec::new();
    for node in nodes {
        let version = node.view().version;
        disks.push((node.id, version, node.kill().await));
    }
    let mut nodes = Vec::new();
    for (id, version, disk) in &disks {
        let node = Node::start(&world, *id, disk, Way::Resume).await;
        assert!(node.view().version >= *version, "a view never goes back");
        assert!(node.view().source_by_key(key.as_str()).is_some(), "at once, before anyone leads");
        nodes.push(node);
    }
    nodes[2].coordinator.create_source("new", vec![], "", [5; 32], soon()).await.unwrap();
    grown(&nodes, &[1, 2, 3]).await;
    for node in nodes {
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_is_refused() {
    let (world, other) = (World::new(), World::new());
    let here = Node::start(&world, 1, &Disk::new(), Way::Found { shards: 1, replicas: 1 }).await;
    let there = Node::start(&other, 1, &Disk::new(), Way::Found { shards: 1, replicas: 1 }).await;
    let mut client =
        isthmus_proto::internal::v1::coordinator_service_client::CoordinatorServiceClient::connect(format!(
            "http://{}",
            here.address
        ))
        .await
        .unwrap();
    let report = isthmus_proto::internal::v1::ReportRequest {
        cluster_id: there.coordinator.cluster_id().to_vec().into(),
        node_id: 1,
        ..Default::default()
    };
    let status = client.report(report).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().contains("another cluster"), "{status}");
    let watch =
        isthmus_proto::internal::v1::WatchRequest { cluster_id: vec![0; 3].into(), ..Default::default() };
    assert_eq!(client.watch(watch).await.err().unwrap().code(), tonic::Code::FailedPrecondition);
    // A founder's id is taken, too.
    let peers = [here.address.clone()];
    let error = Node::try_start(&world, 1, &Disk::new(), Way::Join(&peers)).await.err().unwrap();
    assert!(matches!(&error, Error::Refused { .. }) && error.is_refusal(Code::NodeIdTaken), "{error}");
    here.kill().await;
    there.kill().await;
}
