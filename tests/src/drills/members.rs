//! A node joins, and another is removed for good, while reads and writes go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use isthmus_proto::v1::{
    IngestItem, IngestRequest, ItemOutcome, NodesRequest, RemoveRequest, StatusRequest,
    cluster_service_client::ClusterServiceClient, ingest_item::Body,
    ingest_service_client::IngestServiceClient,
};
use tonic::transport::Channel;

use crate::{
    cluster::{Cluster, PATIENCE},
    load::{Numbers, event},
    look,
};

/// What was seen.
#[derive(Clone, Debug)]
pub struct MembersReport {
    /// Events that were acknowledged while members changed.
    pub acknowledged: u64,
    /// The longest time between two acknowledgements.
    pub longest_gap: Duration,
    /// Seconds from the request to remove until the node was gone.
    pub removal_seconds: f64,
}

/// Adds a fourth node, removes the one at `leaving`, and looks whether all is there.
///
/// # Panics
/// When something acknowledged is lost or counted twice, or the change doesn't come to an end.
pub async fn a_node_joins_and_another_leaves(cluster: &mut Cluster, leaving: usize) -> MembersReport {
    let before = look::events_counted(cluster.channel(0)).await;
    cluster.add_node();
    all_answer(cluster).await;
    let stays: Vec<Channel> = (0..cluster.nodes.len())
        .filter(|index| *index != leaving)
        .map(|index| cluster.channel(index))
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::task::spawn(write(stays.clone(), stop.clone()));
    let id = cluster.nodes[leaving].id;
    let begin = Instant::now();
    let mut client = ClusterServiceClient::new(stays[0].clone());
    client.remove(RemoveRequest { node_id: id }).await.unwrap();
    loop {
        let nodes = client.nodes(NodesRequest {}).await.unwrap().into_inner().nodes;
        if nodes.iter().all(|node| node.node_id != id) {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "node {id} doesn't go: {nodes:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let removal_seconds = begin.elapsed().as_secs_f64();
    cluster.forget(leaving);
    cluster.healthy().await;
    stop.store(true, Relaxed);
    let (acknowledged, longest_gap) = writing.await.unwrap();
    assert_eq!(look::events_counted(stays[1].clone()).await, before + acknowledged, "lost or counted twice");
    look::replicas_agree(stays[2].clone(), 3).await;
    MembersReport { acknowledged, longest_gap, removal_seconds }
}

/// Waits until all nodes belong to the cluster and answer, and all is well with it.
async fn all_answer(cluster: &Cluster) {
    let count = cluster.nodes.len() as u32;
    let mut client = ClusterServiceClient::new(cluster.channel(0));
    let begin = Instant::now();
    loop {
        let status = client.status(StatusRequest {}).await.unwrap().into_inner();
        if status.healthy && (status.nodes, status.nodes_alive) == (count, count) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "not all of {count} nodes answer: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn write(channels: Vec<Channel>, stop: Arc<AtomicBool>) -> (u64, Duration) {
    let (mut acknowledged, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
    let mut numbers = Numbers(5);
    for number in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let json = event("members", number, 1_000, &mut numbers);
        // An item of unknown outcome is sent again, through the next node, with its message id.
        for attempt in 0.. {
            let item = IngestItem { body: Some(Body::Json(json.clone())), ..IngestItem::default() };
            let channel = channels[(number as usize + attempt) % channels.len()].clone();
            let request = IngestRequest { items: vec![item], ..IngestRequest::default() };
            let answer = IngestServiceClient::new(channel).ingest(request).await;
            let outcome = answer.map(|answer| answer.into_inner().results[0].outcome());
            if matches!(outcome, Ok(ItemOutcome::Accepted | ItemOutcome::Duplicate)) {
                acknowledged += 1;
                longest = longest.max(last.elapsed());
                last = Instant::now();
                break;
            }
        }
    }
    (acknowledged, longest)
}
