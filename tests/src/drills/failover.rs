//! How long writes stand still when the leader of a shard is killed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use isthmus_proto::v1::{
    IngestItem, IngestRequest, ItemOutcome, ingest_item::Body, ingest_service_client::IngestServiceClient,
};
use tonic::{Request, transport::Channel};

use crate::{cluster::Cluster, drills::Acknowledged};

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

/// Writes of each writer that are acknowledged before a kill.
const BEFORE: u64 = 5;
/// And after it. The first may have been on its way already; those behind it were sent to a cluster without the leader.
const AFTER: u64 = 5;

/// Kills the leader of a shard `kills` times under a stream of single writes to all shards, and measures each time
/// the longest time without an acknowledged write of any one customer.
///
/// # Panics
/// When the cluster doesn't come back.
pub async fn leader_kills(cluster: &mut Cluster, kills: usize) -> Gaps {
    let mut gaps = Vec::new();
    for kill in 0..kills {
        cluster.healthy().await;
        let leader = cluster.busiest().await;
        let survivor = (0..cluster.nodes.len()).find(|index| *index != leader).unwrap();
        let channel = cluster.channel(survivor);
        let stop = Arc::new(AtomicBool::new(false));
        // Customers enough that the killed node led the shards of some.
        let writers: Vec<_> = (0..24)
            .map(|writer| {
                let acknowledged = Arc::new(Acknowledged::none());
                let write =
                    write(channel.clone(), format!("f{kill}-{writer}"), acknowledged.clone(), stop.clone());
                (tokio::task::spawn(write), acknowledged)
            })
            .collect();
        for (_, acknowledged) in &writers {
            acknowledged.wait(BEFORE).await;
        }
        cluster.kill(leader);
        for (_, acknowledged) in &writers {
            acknowledged.forget();
        }
        for (_, acknowledged) in &writers {
            acknowledged.wait(AFTER).await;
        }
        stop.store(true, Relaxed);
        let mut gap = Duration::ZERO;
        for (writer, _) in writers {
            gap = gap.max(writer.await.unwrap());
        }
        gaps.push(gap);
        cluster.launch(leader);
    }
    gaps.sort_unstable();
    Gaps(gaps)
}

/// Writes events of one customer, one after the other, until told to stop; returns the longest time without an
/// acknowledgement.
async fn write(
    channel: Channel,
    name: String,
    acknowledged: Arc<Acknowledged>,
    stop: Arc<AtomicBool>,
) -> Duration {
    let mut client = IngestServiceClient::new(channel);
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    let mut number = 0;
    while !stop.load(Relaxed) {
        let json =
            format!(r#"{{"type":"track","event":"Step","userId":"{name}","messageId":"{name}-{number}"}}"#);
        let item = IngestItem { body: Some(Body::Json(json.into())), ..IngestItem::default() };
        let mut request = Request::new(IngestRequest { items: vec![item], ..IngestRequest::default() });
        request.set_timeout(Duration::from_secs(5));
        let answer = client.ingest(request).await;
        let outcome = answer.map(|answer| answer.into_inner().results[0].outcome());
        if matches!(outcome, Ok(ItemOutcome::Accepted | ItemOutcome::Duplicate)) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            number += 1;
            acknowledged.add(1);
        }
    }
    longest
}
