//! A customer of many identifiers and very many events comes together while others are served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use isthmus_proto::v1::{
    GetRequest, IngestItem, IngestRequest, ItemOutcome, ingest_item::Body,
    ingest_service_client::IngestServiceClient, profile_service_client::ProfileServiceClient,
};
use tonic::transport::Channel;

use crate::{ask, cluster::Cluster};

/// Events in a call that makes the customer's parts.
const BATCH: u64 = 500;
/// Calls under way at a time.
const PARALLEL: u64 = 32;
/// Events of others in a second.
const OTHERS_RATE: f64 = 200.0;
/// How long others are measured alone.
const QUIET: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Clone, Debug)]
pub struct GiantReport {
    /// How long the parts took to become one profile, from the first link to the last answer.
    pub joined_in: Duration,
    /// The latency that 99% of the others' events stayed within before.
    pub others_before: Duration,
    /// The same meanwhile.
    pub others_meanwhile: Duration,
    /// The longest of them meanwhile.
    pub others_longest: Duration,
    /// How long a read of the whole profile took.
    pub read_in: Duration,
}

/// Gives a customer so many cookies with so many events, links them all, and looks at what others notice of it.
///
/// # Panics
/// When an event is not accepted, or the customer isn't one with all events in the end.
pub async fn a_giant_comes_together(cluster: &Cluster, identifiers: u64, events: u64) -> GiantReport {
    let channels: Vec<Channel> = (0..cluster.nodes.len()).map(|node| cluster.channel(node)).collect();
    parts(&channels, identifiers, events).await;
    let quiet = others(&channels, "quiet", Until::Over(QUIET)).await;
    let done = Arc::new(AtomicBool::new(false));
    let busy = tokio::task::spawn({
        let (channels, done) = (channels.clone(), done.clone());
        async move { others(&channels, "busy", Until::Done(done)).await }
    });
    let begin = Instant::now();
    link(&channels, identifiers).await;
    let joined_in = begin.elapsed();
    done.store(true, Relaxed);
    let busy = busy.await.unwrap();
    let begin = Instant::now();
    let get = GetRequest { key: ask::key("user_id", "giant"), ..GetRequest::default() };
    let mut client = ProfileServiceClient::new(channels[0].clone()).max_decoding_message_size(64 << 20);
    let profile = client.get(get).await.unwrap().into_inner().profile.unwrap();
    let read_in = begin.elapsed();
    assert_eq!(profile.identifiers.len() as u64, identifiers + 1);
    let counted: u64 = profile.event_counts.values().sum();
    assert_eq!(counted, events, "an event is missing or counted twice");
    let percentile =
        |latencies: &[Duration], share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    GiantReport {
        joined_in,
        others_before: percentile(&quiet, 0.99),
        others_meanwhile: percentile(&busy, 0.99),
        others_longest: percentile(&busy, 1.0),
        read_in,
    }
}

async fn send(channel: &Channel, events: Vec<String>) {
    let items = events
        .into_iter()
        .map(|json| IngestItem { body: Some(Body::Json(json.into())), origin: String::new() });
    let request = IngestRequest { items: items.collect(), ..IngestRequest::default() };
    let answer = IngestServiceClient::new(channel.clone()).ingest(request).await.unwrap().into_inner();
    for result in answer.results {
        assert_eq!(result.outcome(), ItemOutcome::Accepted, "{}: {}", result.reason, result.message);
    }
}

/// The events of each cookie, a while before anybody knows whose they are.
async fn parts(channels: &[Channel], identifiers: u64, events: u64) {
    let next = AtomicU64::new(0);
    let senders = (0..PARALLEL).map(|sender| {
        let (channel, next) = (&channels[sender as usize % channels.len()], &next);
        async move {
            loop {
                let from = next.fetch_add(BATCH, Relaxed);
                if from >= events {
                    return;
                }
                let event = |n: u64| {
                    let (cookie, second) = (n % identifiers, n / identifiers % 86_400);
                    let time = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
                    format!(
                        r#"{{"type":"track","event":"Seen","anonymousId":"giant-{cookie}","messageId":"g-{n}","timestamp":"2026-01-15T{time}Z"}}"#
                    )
                };
                send(channel, (from..(from + BATCH).min(events)).map(event).collect()).await;
            }
        }
    });
    join_all(senders).await;
}

/// One event after the other says that a cookie is the customer's.
async fn link(channels: &[Channel], identifiers: u64) {
    let next = AtomicU64::new(0);
    let senders = (0..PARALLEL).map(|sender| {
        let (channel, next) = (&channels[sender as usize % channels.len()], &next);
        async move {
            loop {
                let n = next.fetch_add(1, Relaxed);
                if n >= identifiers {
                    return;
                }
                let event = format!(
                    r#"{{"type":"identify","userId":"giant","anonymousId":"giant-{n}","messageId":"l-{n}","timestamp":"2026-01-16T00:00:00Z"}}"#
                );
                send(channel, vec![event]).await;
            }
        }
    });
    join_all(senders).await;
}

/// How long others are served.
enum Until {
    Over(Duration),
    Done(Arc<AtomicBool>),
}

/// Events of other customers at a steady rate; their latencies, counted from when each was due, sorted.
async fn others(channels: &[Channel], run: &str, until: Until) -> Vec<Duration> {
    let begin = Instant::now();
    let mut sent = Vec::new();
    for n in 0_u32.. {
        let due = begin + Duration::from_secs_f64(f64::from(n) / OTHERS_RATE);
        tokio::time::sleep_until(due.into()).await;
        let over = match &until {
            Until::Over(time) => begin.elapsed() >= *time,
            Until::Done(done) => done.load(Relaxed),
        };
        if over {
            break;
        }
        let event =
            format!(r#"{{"type":"track","event":"Seen","userId":"other-{n}","messageId":"{run}-{n}"}}"#);
        let channel = channels[n as usize % channels.len()].clone();
        sent.push(tokio::task::spawn(async move {
            send(&channel, vec![event]).await;
            due.elapsed()
        }));
    }
    let mut latencies: Vec<Duration> = join_all(sent).await.into_iter().map(Result::unwrap).collect();
    latencies.sort_unstable();
    latencies
}
