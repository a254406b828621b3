//! A shop's history, sent to a hub.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use isthmus_proto::v1::{
    IngestItem, IngestRequest, ItemOutcome, ingest_item::Body, ingest_service_client::IngestServiceClient,
};
use tonic::transport::Channel;

use super::{
    Measured, measured,
    shop::{Item, SCHEMAS, SOURCES, Shop},
};
use crate::{cli::Cli, tools::say};

/// Customers that are made at a time.
const STEP: u64 = 64;
/// After so many events a line tells how far it is.
const TOLD_EVERY: u64 = 1_000_000;

/// Makes the sources of a shop, and registers what they send, by the command line. Their write keys, in the order of
/// [`SOURCES`].
///
/// # Panics
/// When the hub refuses, such as because it has them.
pub fn prepare(cli: &Cli, endpoints: &str) -> Vec<String> {
    let run = |arguments: &[&str]| {
        let ended = cli.json(endpoints, arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.err);
        ended
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, schema) in SCHEMAS {
        let file = folder.path().join("schema.json");
        std::fs::write(&file, schema).unwrap();
        run(&["schema", "put", &file.display().to_string(), "--name", name]);
    }
    let key = |name: &&str| run(&["source", "create", name]).last()["write_key"].as_str().unwrap().to_owned();
    SOURCES.iter().map(key).collect()
}

/// Sends the history of a shop by the sources of these write keys, `batch` items of a source in a call, `parallel` calls at
/// a time, and looks at what became of each item. What is late comes with the rest.
///
/// # Panics
/// When a call fails, or what became of an item is not what was to be.
pub async fn fill(
    channels: &[Channel],
    keys: Vec<String>,
    shop: Shop,
    batch: usize,
    parallel: usize,
) -> Measured {
    let keys = Arc::new(keys);
    let begin = Instant::now();
    let (next, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let senders = (0..parallel).map(|sender| {
        let channel = channels[sender % channels.len()].clone();
        let sender =
            Sender { client: IngestServiceClient::new(channel), keys: keys.clone(), latencies: vec![] };
        tokio::task::spawn(sender.work(shop, batch, next.clone(), done.clone()))
    });
    let latencies = join_all(senders.collect::<Vec<_>>()).await;
    assert_eq!(done.load(Relaxed), shop.events);
    measured(shop.events, begin, latencies.into_iter().map(Result::unwrap))
}

struct Sender {
    client: IngestServiceClient<Channel>,
    keys: Arc<Vec<String>>,
    latencies: Vec<Duration>,
}

impl Sender {
    async fn work(
        mut self,
        shop: Shop,
        batch: usize,
        next: Arc<AtomicU64>,
        done: Arc<AtomicU64>,
    ) -> Vec<Duration> {
        let begin = Instant::now();
        let mut waiting: Vec<Vec<Item>> = SOURCES.iter().map(|_| Vec::with_capacity(batch + 1)).collect();
        loop {
            let from = next.fetch_add(STEP, Relaxed);
            for item in
                (from..shop.customers.min(from + STEP)).flat_map(|customer| shop.of_customer(customer))
            {
                waiting[item.source].push(item);
            }
            let is_over = from + STEP >= shop.customers;
            for (source, items) in waiting.iter_mut().enumerate() {
                while items.len() >= batch || (is_over && !items.is_empty()) {
                    let part = items.split_off(items.len().saturating_sub(batch));
                    let sent = self.send(source, &part).await;
                    let before = done.fetch_add(sent, Relaxed);
                    if before / TOLD_EVERY < (before + sent) / TOLD_EVERY {
                        let seconds = begin.elapsed().as_secs_f64();
                        say(&format!("  {} events in {seconds:.0} s", before + sent));
                    }
                }
            }
            if is_over {
                return self.latencies;
            }
        }
    }

    /// Sends items of a source; how many were events.
    async fn send(&mut self, source: usize, items: &[Item]) -> u64 {
        let body = |item: &Item| Some(Body::Json(item.json.clone().into()));
        let request = IngestRequest {
            write_key: self.keys[source].clone(),
            items: items.iter().map(|item| IngestItem { body: body(item), origin: String::new() }).collect(),
            ..IngestRequest::default()
        };
        let begun = Instant::now();
        let response = self.client.ingest(request).await.unwrap().into_inner();
        self.latencies.push(begun.elapsed());
        for (item, result) in items.iter().zip(&response.results) {
            let expected = if item.is_odd { ItemOutcome::Quarantined } else { ItemOutcome::Accepted };
            assert_eq!(result.outcome(), expected, "{}: {}: {}", item.json, result.reason, result.message);
        }
        items.iter().filter(|item| !item.is_odd).count() as u64
    }
}
