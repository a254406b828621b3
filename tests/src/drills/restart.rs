//! All nodes are killed in the middle of full load, and started again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use isthmus_proto::v1::{
    IngestItem, IngestRequest, ItemOutcome, ingest_item::Body, ingest_service_client::IngestServiceClient,
};

use crate::{
    cluster::Cluster,
    drills::Acknowledged,
    load::{Numbers, event},
    look,
};

/// What was seen.
#[derive(Clone, Debug)]
pub struct RestartReport {
    /// Events that had been acknowledged when all nodes were killed.
    pub acknowledged: u64,
    /// Events that are there afterwards; those without an answer may be.
    pub found: u64,
    /// Seconds from the start of the processes until a linearizable read of every shard was answered.
    pub serving_seconds: f64,
}

/// Loads the cluster until `events` events are acknowledged, kills all nodes at once, starts them, and looks.
///
/// # Panics
/// When an acknowledged event is lost, one is counted twice, or the cluster doesn't come back.
pub async fn all_killed_under_load(cluster: &mut Cluster, events: u64, senders: usize) -> RestartReport {
    let stop = Arc::new(AtomicBool::new(false));
    let load = Arc::new(Acknowledged::none());
    let running: Vec<_> = (0..senders)
        .map(|sender| {
            let channel = cluster.channel(sender % cluster.nodes.len());
            let (stop, load) = (stop.clone(), load.clone());
            tokio::task::spawn(async move {
                let mut client = IngestServiceClient::new(channel);
                let (run, mut numbers, mut sent, mut acknowledged) =
                    (format!("restart{sender}"), Numbers(sender as u64), 0, 0);
                while !stop.load(Relaxed) {
                    let items = (0..100).map(|_| {
                        sent += 1;
                        IngestItem {
                            body: Some(Body::Json(event(&run, sent, 5_000, &mut numbers))),
                            ..IngestItem::default()
                        }
                    });
                    let request = IngestRequest { items: items.collect(), ..IngestRequest::default() };
                    let Ok(response) = client.ingest(request).await else { break };
                    let results = response.into_inner().results;
                    let accepted = results.iter().filter(|r| r.outcome() == ItemOutcome::Accepted).count();
                    acknowledged += accepted as u64;
                    load.add(accepted);
                }
                (sent, acknowledged)
            })
        })
        .collect();
    load.wait(events).await;
    for index in 0..cluster.nodes.len() {
        cluster.kill(index);
    }
    stop.store(true, Relaxed);
    let (mut sent, mut acknowledged) = (0, 0);
    for sender in running {
        let (all, answered) = sender.await.unwrap();
        sent += all;
        acknowledged += answered;
    }
    let begin = Instant::now();
    for index in 0..cluster.nodes.len() {
        cluster.launch(index);
    }
    cluster.serving().await;
    let found = look::events_counted(cluster.channel(0)).await;
    let serving_seconds = begin.elapsed().as_secs_f64();
    assert!(
        (acknowledged..=sent).contains(&found),
        "{acknowledged} acknowledged, {found} found, {sent} sent"
    );
    cluster.healthy().await;
    look::replicas_agree(cluster.channel(1), cluster.nodes.len()).await;
    assert_eq!(look::events_counted(cluster.channel(2)).await, found, "another node answers otherwise");
    RestartReport { acknowledged, found, serving_seconds }
}
