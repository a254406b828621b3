//! How long writes stand still when the leader of a shard is killed.

use std::time::{Duration, Instant};

use isthmus_proto::v1::{
    IngestItem, IngestRequest, ItemOutcome, ReplicaRole, ShardsRequest,
    cluster_service_client::ClusterServiceClient, ingest_item::Body,
    ingest_service_client::IngestServiceClient,
};

use crate::cluster::Cluster;

/// The gaps in writes, sorted.
#[derive(Clone, Debug)]
pub struct Gaps(pub Vec<Duration>);

impl Gaps {
    /// The gap that a share of the kills stayed within.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0[((self.0.len() as f64 * share).ceil() as usize).saturating_sub(1).min(last)]
    }
}

/// Kills the leader of a shard `kills` times under a stream of single writes to all shards, and measures each time
/// the longest time without an acknowledged write of any one customer.
///
/// # Panics
/// When the cluster doesn't come back.
pub async fn leader_kills(cluster: &mut Cluster, kills: usize) -> Gaps {
    let mut gaps = Vec::new();
    for kill in 0..kills {
        cluster.healthy().await;
        let leader = leader(cluster).await;
        let survivor = (0..cluster.nodes.len()).find(|index| *index != leader).unwrap();
        let channel = cluster.channel(survivor);
        // Customers enough that the killed node led the shards of some.
        let writers: Vec<_> = (0..24)
            .map(|writer| {
                let mut client = IngestServiceClient::new(channel.clone());
                tokio::task::spawn(async move {
                    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
                    let begin = Instant::now();
                    let mut number = 0;
                    while begin.elapsed() < Duration::from_secs(4) {
                        let json = format!(
                            r#"{{"type":"track","event":"Step","userId":"f{writer}","messageId":"f{kill}-{writer}-{number}"}}"#
                        );
                        let item = IngestItem { body: Some(Body::Json(json.into())), ..IngestItem::default() };
                        let mut request = tonic::Request::new(IngestRequest { items: vec![item], ..IngestRequest::default() });
                        request.set_timeout(Duration::from_secs(5));
                        let answer = client.ingest(request).await;
                        let outcome = answer.map(|answer| answer.into_inner().results[0].outcome());
                        if matches!(outcome, Ok(ItemOutcome::Accepted | ItemOutcome::Duplicate)) {
                            longest = longest.max(last.elapsed());
                            last = Instant::now();
                            number += 1;
                        }
                    }
                    longest.max(last.elapsed())
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.kill(leader);
        let mut gap = Duration::ZERO;
        for writer in writers {
            gap = gap.max(writer.await.unwrap());
        }
        gaps.push(gap);
        cluster.launch(leader);
    }
    gaps.sort_unstable();
    Gaps(gaps)
}

/// The index of the node that leads most shards.
async fn leader(cluster: &Cluster) -> usize {
    let rows =
        ClusterServiceClient::new(cluster.channel(0)).shards(ShardsRequest {}).await.unwrap().into_inner();
    let leads = |id: u32| {
        rows.replicas.iter().filter(|row| row.node == id && row.role() == ReplicaRole::Leader).count()
    };
    (0..cluster.nodes.len()).max_by_key(|index| leads(cluster.nodes[*index].id)).unwrap()
}
