//! A read through any node after an acknowledged write through any other never misses it, while leaders change.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
use std::time::Duration;

use isthmus_proto::v1::{
    GetRequest, Identifier, IngestItem, IngestRequest, ItemOutcome, ProfileKey, ReplicaRole, ShardsRequest,
    TransferRequest, cluster_service_client::ClusterServiceClient, ingest_item::Body,
    ingest_service_client::IngestServiceClient, profile_key::Key,
    profile_service_client::ProfileServiceClient,
};
use tonic::transport::Channel;

use crate::{cluster::Cluster, load::Numbers};

/// What was seen.
#[derive(Clone, Debug)]
pub struct LinearizableReport {
    /// Writes that were acknowledged and then read.
    pub rounds: u64,
    /// Leaderships that were handed over meanwhile.
    pub transfers: u64,
    /// Calls that had to be made again.
    pub retries: u64,
}

/// Writes through one node and reads through another, `rounds` times over `workers` customers at a time, while
/// leaderships are handed around.
///
/// # Panics
/// When a read misses a write that was acknowledged before it began.
pub async fn reads_after_writes(cluster: &Cluster, rounds: u64, workers: u64) -> LinearizableReport {
    let channels: Vec<Channel> = (0..cluster.nodes.len()).map(|index| cluster.channel(index)).collect();
    let (retries, transfers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let moving = tokio::task::spawn(hand_around(channels[0].clone(), stop.clone(), transfers.clone()));
    let working: Vec<_> = (0..workers)
        .map(|worker| tokio::task::spawn(work(channels.clone(), worker, rounds / workers, retries.clone())))
        .collect();
    for worker in working {
        worker.await.unwrap();
    }
    stop.store(true, Relaxed);
    moving.await.unwrap();
    LinearizableReport {
        rounds: rounds / workers * workers,
        transfers: transfers.load(Relaxed),
        retries: retries.load(Relaxed),
    }
}

async fn work(channels: Vec<Channel>, worker: u64, rounds: u64, retries: Arc<AtomicU64>) {
    let mut numbers = Numbers(worker);
    for round in 1..=rounds {
        let (write, read) =
            (numbers.draw() as usize % channels.len(), numbers.draw() as usize % channels.len());
        let json = format!(
            r#"{{"type":"track","event":"Step","userId":"w{worker}","messageId":"w{worker}-{round}","timestamp":"2026-01-01T00:00:00Z"}}"#
        );
        loop {
            let item = IngestItem { body: Some(Body::Json(json.clone().into())), ..IngestItem::default() };
            let request = IngestRequest { items: vec![item], ..IngestRequest::default() };
            let answer = IngestServiceClient::new(channels[write].clone()).ingest(request).await;
            let outcome = answer.map(|a| a.into_inner().results[0].outcome());
            if matches!(outcome, Ok(ItemOutcome::Accepted | ItemOutcome::Duplicate)) {
                break;
            }
            retries.fetch_add(1, Relaxed);
        }
        let count = loop {
            let identifier = Identifier { namespace: "user_id".into(), value: format!("w{worker}") };
            let key = Some(ProfileKey { key: Some(Key::Identifier(identifier)) });
            let mut client = ProfileServiceClient::new(channels[read].clone());
            match client.get(GetRequest { key, ..GetRequest::default() }).await {
                Ok(got) => break got.into_inner().profile.unwrap().event_counts["Step"],
                Err(error) if error.code() == tonic::Code::NotFound => break 0,
                Err(_) => retries.fetch_add(1, Relaxed),
            };
        };
        assert_eq!(
            count,
            round,
            "a read through node {} missed a write through node {}",
            read + 1,
            write + 1
        );
    }
}

/// Hands the leadership of one shard after the other to the next node, for as long as the work goes on.
async fn hand_around(channel: Channel, stop: Arc<AtomicBool>, transfers: Arc<AtomicU64>) {
    let mut client = ClusterServiceClient::new(channel);
    let mut numbers = Numbers(99);
    while !stop.load(Relaxed) {
        let Ok(rows) = client.shards(ShardsRequest {}).await else { continue };
        let followers: Vec<_> = rows
            .into_inner()
            .replicas
            .into_iter()
            .filter(|replica| replica.role() == ReplicaRole::Follower)
            .collect();
        if let Some(chosen) = followers.get(numbers.draw() as usize % followers.len().max(1)) {
            let request = TransferRequest { shard: chosen.shard, to_node: chosen.node };
            if client.transfer(request).await.is_ok() {
                transfers.fetch_add(1, Relaxed);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
