//! Load: events of a given size over a given number of profiles, and reads.

pub mod fill;
pub mod http;
pub mod shop;
mod visits;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::join_all;
use isthmus_client::Client;
use isthmus_proto::v1::{
    GetRequest, Identifier, IngestItem, IngestRequest, ItemOutcome, ProfileKey, ingest_item::Body,
    ingest_service_client::IngestServiceClient, profile_key::Key,
    profile_service_client::ProfileServiceClient,
};
use jiff::Timestamp;
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
    let json = format!(
        r#"{{"type":"track","event":"Order Completed","messageId":"{run}-{number}","userId":"u{user}","timestamp":"{time}","properties":{{"revenue":"{}.{:02}","currency":"USD","order_id":"o-{number}","sku":"{sku:016x}","quantity":{},"category":"books","coupon":null,"pad":""#,
        amount / 100,
        amount % 100,
        1 + sku % 9,
    );
    padded(json)
}

/// An event of about 500 bytes whose last property, a text, has been begun.
fn padded(mut json: String) -> Bytes {
    let tail =
        r#""},"context":{"ip":"203.0.113.7","locale":"de-DE","library":{"name":"bench","version":"1"}}}"#;
    while json.len() + tail.len() < 500 {
        json.push((b'a' + (json.len() % 26) as u8) as char);
    }
    json.push_str(tail);
    json.into()
}

/// What events are of.
#[derive(Clone, Copy, Debug, Default)]
pub enum Events {
    /// Purchases of one day, each of which every definition may look at.
    #[default]
    Purchases,
    /// What a website sends, spread over some seconds before a time.
    Visits(Timestamp, u64),
}

impl Events {
    /// One of them, about 500 bytes of JSON of one of `profiles` customers.
    pub fn one(self, run: &str, number: u64, profiles: u64, numbers: &mut Numbers) -> Bytes {
        match self {
            Self::Purchases => event(run, number, profiles, numbers),
            Self::Visits(until, seconds) => visits::event(run, number, profiles, (until, seconds), numbers),
        }
    }
}

/// How events are sent.
#[derive(Clone, Debug)]
pub struct IngestLoad {
    /// What is sent.
    pub what: Events,
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
                    body: Some(Body::Json(load.what.one(
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

/// Sends events over ingest streams by the client library's writer, one stream for each endpoint that is named, and waits
/// until all are acknowledged; panics unless every one of them is accepted. Latencies are of one event in a hundred: from
/// when the writer took it until its result was known.
///
/// # Panics
/// When a stream fails for good or an item isn't accepted.
pub async fn stream(endpoints: &[String], load: &IngestLoad) -> Measured {
    let begin = Instant::now();
    let streams = endpoints.len() as u64;
    let writers = (0..streams).zip(endpoints).map(|(writer, endpoint)| {
        let (endpoint, load) = (endpoint.clone(), load.clone());
        tokio::task::spawn(async move {
            let client = Client::builder().endpoints([endpoint]).connect_lazy().unwrap();
            let batch = usize::try_from(load.batch).unwrap();
            let sender = client.writer().batch_items(batch).start().unwrap();
            let mut numbers = Numbers(load.first + writer);
            let mut samples = Vec::new();
            for number in (writer..load.events).step_by(streams as usize) {
                let json = load.what.one(&load.run, load.first + number, load.profiles, &mut numbers);
                let item = IngestItem { body: Some(Body::Json(json)), origin: String::new() };
                let receipt = sender.send(item).await.unwrap();
                if number % 100 < streams {
                    let taken = Instant::now();
                    samples.push(tokio::task::spawn(async move {
                        receipt.await.unwrap();
                        taken.elapsed()
                    }));
                }
            }
            let flushed = sender.close().await.unwrap();
            let problem = flushed.problems.first();
            assert_eq!(problem.map(|result| format!("{}: {}", result.reason, result.message)), None);
            let latencies = join_all(samples).await.into_iter().map(Result::unwrap).collect();
            (flushed.counts.accepted, latencies)
        })
    });
    let done: Vec<(u64, Vec<Duration>)> =
        join_all(writers.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(done.iter().map(|(accepted, _)| accepted).sum::<u64>(), load.events);
    measured(load.events, begin, done.into_iter().map(|(_, latencies)| latencies))
}

/// How profiles are merged: each customer has been seen under a user id and under a cookie, and then under both.
#[derive(Clone, Debug)]
pub struct MergeLoad {
    /// Goes into identifiers and message ids: another name, other customers.
    pub run: String,
    /// How many customers.
    pub merges: u64,
    /// Events in a call.
    pub batch: u64,
    /// Calls at a time, spread over the connections.
    pub parallel: usize,
    /// Merges that are begun in a second; none: as many as are answered.
    pub rate: Option<f64>,
}

/// Sends what makes two profiles of each customer, then what joins them, and measures the latter: an event is answered
/// when whoever reads either identifier from then on sees one profile, which is looked at afterwards.
///
/// # Panics
/// When a call fails, an item isn't accepted or a profile isn't one.
pub async fn merges(channels: &[Channel], load: &MergeLoad) -> Measured {
    let run = &load.run;
    let apart = |n: u64| {
        let time = "2026-01-15T00:00:00Z";
        vec![
            format!(
                r#"{{"type":"page","userId":"{run}-u{n}","messageId":"{run}-a{n}","timestamp":"{time}"}}"#
            ),
            format!(
                r#"{{"type":"page","anonymousId":"{run}-c{n}","messageId":"{run}-b{n}","timestamp":"{time}"}}"#
            ),
        ]
    };
    let joined = |n: u64| {
        let time = "2026-01-16T00:00:00Z";
        vec![format!(
            r#"{{"type":"identify","userId":"{run}-u{n}","anonymousId":"{run}-c{n}","messageId":"{run}-m{n}","timestamp":"{time}"}}"#
        )]
    };
    send(channels, &MergeLoad { rate: None, batch: 250, ..load.clone() }, apart).await;
    let measured = send(channels, load, joined).await;
    let mut client = ProfileServiceClient::new(channels[0].clone());
    for n in (0..load.merges).step_by((load.merges as usize / 100).max(1)) {
        let identifier = Identifier { namespace: "anonymous_id".into(), value: format!("{run}-c{n}") };
        let key = Some(ProfileKey { key: Some(Key::Identifier(identifier)) });
        let answer = client.get(GetRequest { key, ..GetRequest::default() }).await.unwrap().into_inner();
        assert_eq!(answer.profile.unwrap().identifiers.len(), 2, "customer {n} of {run}");
    }
    measured
}

/// Sends the events of each customer, some customers in a call.
async fn send(channels: &[Channel], load: &MergeLoad, events: impl Fn(u64) -> Vec<String>) -> Measured {
    let begin = Instant::now();
    let (next, events) = (AtomicU64::new(0), &events);
    let senders = (0..load.parallel).map(|sender| {
        let (channel, next) = (channels[sender % channels.len()].clone(), &next);
        async move {
            let mut client = IngestServiceClient::new(channel);
            let mut latencies = Vec::new();
            loop {
                let from = next.fetch_add(load.batch, Relaxed);
                if from >= load.merges {
                    return latencies;
                }
                if let Some(rate) = load.rate {
                    let due = begin + Duration::from_secs_f64(from as f64 / rate);
                    tokio::time::sleep_until(due.into()).await;
                }
                let to = (from + load.batch).min(load.merges);
                let items = (from..to)
                    .flat_map(events)
                    .map(|json| IngestItem { body: Some(Body::Json(json.into())), origin: String::new() });
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
        }
    });
    let latencies = join_all(senders.collect::<Vec<_>>()).await;
    measured(load.merges, begin, latencies.into_iter())
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
