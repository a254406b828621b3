//! Load: events of a given size over a given number of profiles, and reads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::join_all;
use isthmus_proto::v1::{
    GetRequest, Identifier, IngestItem, IngestRequest, ItemOutcome, ProfileKey, ingest_item::Body,
    ingest_service_client::IngestServiceClient, profile_key::Key,
    profile_service_client::ProfileServiceClient,
};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Events or reads that succeeded.
    pub done: u64,
    /// How long it took.
    pub seconds: f64,
    /// Latencies of calls, sorted.
    pub latencies: Vec<Duration>,
}

impl Measured {
    /// Per second.
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.seconds
    }

    /// The latency that a share of the calls stayed within.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }
}

/// A reproducible sequence of numbers (SplitMix64: Steele, Lea, Flood, *Fast Splittable PRNGs*, 2014).
#[derive(Clone, Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A purchase of about 500 bytes as JSON, by one of `profiles` customers.
pub fn event(run: &str, number: u64, profiles: u64, numbers: &mut Numbers) -> Bytes {
    let (user, amount) = (numbers.draw() % profiles, numbers.draw() % 100_000);
    let (second, sku) = (number % 86_400, numbers.draw());
    let time = format!("2026-01-15T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60);
    let mut json = format!(
        r#"{{"type":"track","event":"Order Completed","messageId":"{run}-{number}","userId":"u{user}","timestamp":"{time}","properties":{{"revenue":"{}.{:02}","currency":"USD","order_id":"o-{number}","sku":"{sku:016x}","quantity":{},"category":"books","coupon":null,"pad":""#,
        amount / 100,
        amount % 100,
        1 + sku % 9,
    );
    let tail =
        r#""},"context":{"ip":"203.0.113.7","locale":"de-DE","library":{"name":"bench","version":"1"}}}"#;
    while json.len() + tail.len() < 500 {
        json.push((b'a' + (json.len() % 26) as u8) as char);
    }
    json.push_str(tail);
    json.into()
}

/// How events are sent.
#[derive(Clone, Debug)]
pub struct IngestLoad {
    /// Goes into message ids: another name, other events.
    pub run: String,
    /// Number of the first event.
    pub first: u64,
    /// How many events.
    pub events: u64,
    /// Over how many customers.
    pub profiles: u64,
    /// Events in a call.
    pub batch: u64,
    /// Calls at a time, spread over the connections.
    pub parallel: usize,
}

/// Sends events; panics unless every one of them is accepted.
///
/// # Panics
/// When a call fails or an item isn't accepted.
pub async fn ingest(channels: &[Channel], load: &IngestLoad) -> Measured {
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let senders = (0..load.parallel).map(|sender| {
        let (channel, load, next) = (channels[sender % channels.len()].clone(), load.clone(), next.clone());
        tokio::task::spawn(async move {
            let mut client = IngestServiceClient::new(channel);
            let mut latencies = Vec::new();
            loop {
                let from = next.fetch_add(load.batch, Relaxed);
                if from >= load.events {
                    return latencies;
                }
                let to = (from + load.batch).min(load.events);
                let mut numbers = Numbers(load.first + from);
                let items = (from..to).map(|number| IngestItem {
                    body: Some(Body::Json(event(
                        &load.run,
                        load.first + number,
                        load.profiles,
                        &mut numbers,
                    ))),
                    origin: String::new(),
                });
                let request = IngestRequest { items: items.collect(), ..IngestRequest::default() };
                let sent = Instant::now();
                let response = client.ingest(request).await.unwrap().into_inner();
                latencies.push(sent.elapsed());
                for result in response.results {
                    assert_eq!(
                        result.outcome(),
                        ItemOutcome::Accepted,
                        "{}: {}",
                        result.reason,
                        result.message
                    );
                }
            }
        })
    });
    let latencies = join_all(senders.collect::<Vec<_>>()).await;
    measured(load.events, begin, latencies.into_iter().map(Result::unwrap))
}

/// Reads profiles, linearizably, one in a call.
///
/// # Panics
/// When a read fails.
pub async fn reads(channels: &[Channel], profiles: u64, parallel: usize, duration: Duration) -> Measured {
    let caller = |reader: usize, channel: Channel| {
        let (client, mut numbers) = (ProfileServiceClient::new(channel), Numbers(reader as u64));
        move || {
            let mut client = client.clone();
            let value = format!("u{}", numbers.draw() % profiles);
            async move {
                let identifier = Identifier { namespace: "user_id".into(), value };
                let key = Some(ProfileKey { key: Some(Key::Identifier(identifier)) });
                if let Err(error) = client.get(GetRequest { key, ..GetRequest::default() }).await {
                    assert_eq!(error.code(), tonic::Code::NotFound, "{error}");
                }
            }
        }
    };
    calls(channels, parallel, duration, caller).await
}

/// Asks nodes over gRPC whether they serve. A node does nothing for the answer, so no unary call can be cheaper.
///
/// # Panics
/// When a node doesn't serve.
pub async fn checks(channels: &[Channel], parallel: usize, duration: Duration) -> Measured {
    let caller = |_, channel| {
        let client = HealthClient::new(channel);
        move || {
            let mut client = client.clone();
            async move {
                let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap();
                assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
            }
        }
    };
    calls(channels, parallel, duration, caller).await
}

/// Has `parallel` callers, spread over the connections, make one call after the other for a while.
async fn calls<C, F>(
    channels: &[Channel],
    parallel: usize,
    duration: Duration,
    caller: impl Fn(usize, Channel) -> C,
) -> Measured
where
    C: FnMut() -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let begin = Instant::now();
    let callers = (0..parallel).map(|number| {
        let mut call = caller(number, channels[number % channels.len()].clone());
        tokio::task::spawn(async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < duration {
                let sent = Instant::now();
                call().await;
                latencies.push(sent.elapsed());
            }
            latencies
        })
    });
    let latencies = join_all(callers.collect::<Vec<_>>()).await;
    let latencies: Vec<_> = latencies.into_iter().map(Result::unwrap).collect();
    measured(latencies.iter().map(|part| part.len() as u64).sum(), begin, latencies.into_iter())
}

fn measured(done: u64, begin: Instant, latencies: impl Iterator<Item = Vec<Duration>>) -> Measured {
    let seconds = begin.elapsed().as_secs_f64();
    let mut latencies: Vec<Duration> = latencies.flatten().collect();
    latencies.sort_unstable();
    Measured { done, seconds, latencies }
}
