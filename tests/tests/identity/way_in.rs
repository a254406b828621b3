//! Clients that send until all is taken, and what the cluster shows afterwards.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream};
use isthmus_proto::v1::{
    CreateRequest, IngestItem, IngestRequest, ItemOutcome, ProfileKey, TimelineRequest, ingest_item::Body,
    ingest_service_client::IngestServiceClient, profile_key::Key,
    profile_service_client::ProfileServiceClient, source_service_client::SourceServiceClient,
};
use isthmus_tests::cluster::{Cluster, PATIENCE};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tonic::{Request, transport::Channel};

use crate::people::{SOURCES, Sent};
use crate::reference::{Customer, Seen};

/// Events in one call.
const BATCH: usize = 40;
/// How long a client waits for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Makes the sources.
pub async fn create_sources(channel: &Channel) {
    for (name, leading, _) in SOURCES {
        let request = CreateRequest {
            name: name.to_owned(),
            primary_order: leading.iter().map(|leading| (*leading).to_owned()).collect(),
            ..CreateRequest::default()
        };
        SourceServiceClient::new(channel.clone()).create(request).await.unwrap();
    }
}

/// Sends events in this order, from node to node, until each is known to be taken. What fails or is not known is sent
/// again.
pub async fn send_all(channels: Vec<Channel>, events: Vec<Sent>, taken: watch::Sender<usize>) {
    let mut node = 0;
    for batch in events.chunks(BATCH) {
        let mut waiting: Vec<&Sent> = batch.iter().collect();
        let until = Instant::now() + PATIENCE;
        while !waiting.is_empty() {
            node += 1;
            let sent = waiting.len();
            let mut left = Vec::new();
            for (source, ..) in SOURCES {
                let (mine, others): (Vec<&Sent>, _) =
                    waiting.into_iter().partition(|sent| sent.source == source);
                waiting = others;
                left.extend(send(&channels[node % channels.len()], source, mine).await);
            }
            taken.send_modify(|taken| *taken += sent - left.len());
            waiting = left;
            if !waiting.is_empty() {
                assert!(Instant::now() < until, "{} events are not taken", waiting.len());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Sends events of a source; those that have to be sent again.
async fn send<'a>(channel: &Channel, source: &str, events: Vec<&'a Sent>) -> Vec<&'a Sent> {
    if events.is_empty() {
        return events;
    }
    let item =
        |sent: &&Sent| IngestItem { body: Some(Body::Json(sent.json.clone().into())), origin: String::new() };
    let items = events.iter().map(item).collect();
    let mut request =
        Request::new(IngestRequest { items, source: source.to_owned(), ..IngestRequest::default() });
    request.set_timeout(ANSWER);
    let Ok(answer) = IngestServiceClient::new(channel.clone()).ingest(request).await else { return events };
    let results = answer.into_inner().results;
    assert_eq!(results.len(), events.len());
    let again = events.into_iter().zip(results).filter(|(sent, result)| match result.outcome() {
        ItemOutcome::Accepted | ItemOutcome::Duplicate => false,
        ItemOutcome::OutcomeUnknown => true,
        ItemOutcome::Rejected if result.retryable => true,
        other => panic!("{other:?} {}: {}\n{}", result.reason, result.message, sent.json),
    });
    again.map(|(sent, _)| sent).collect()
}

/// All customers by name, as the CLI lists them, with their timelines.
pub async fn customers(cluster: &Cluster) -> BTreeMap<String, Customer> {
    let listed = crate::cli().json(&cluster.endpoints(), &["profile", "list"]);
    assert_eq!(listed.code, 0, "{}", listed.err);
    let channels: Vec<Channel> = (0..cluster.nodes.len()).map(|node| cluster.channel(node)).collect();
    let channels = &channels;
    let complete = |(number, mut shown): (usize, Value)| async move {
        let object = shown.as_object_mut().unwrap();
        object.remove("version");
        object.remove("rules_version");
        let name = shown["profile_id"].as_str().unwrap().to_owned();
        let timeline = timeline(&channels[number % channels.len()], &name).await;
        (name, Customer { shown, timeline })
    };
    let all = listed.objects();
    let count = all.len();
    let customers: BTreeMap<String, Customer> =
        stream::iter(all.into_iter().enumerate()).map(complete).buffer_unordered(16).collect().await;
    assert_eq!(customers.len(), count, "a customer is listed twice");
    customers
}

/// A customer's events, page by page.
async fn timeline(channel: &Channel, profile_id: &str) -> Vec<Seen> {
    let mut client = ProfileServiceClient::new(channel.clone());
    let (mut cursor, mut events) = (String::new(), Vec::new());
    loop {
        let key = Some(ProfileKey { key: Some(Key::ProfileId(profile_id.to_owned())) });
        let request = TimelineRequest { key, limit: 100, cursor, ..TimelineRequest::default() };
        let page = client.timeline(request).await.unwrap().into_inner();
        events.extend(page.events.into_iter().map(|event| {
            let (time, primary) = (event.timestamp.unwrap(), event.primary.unwrap());
            Seen {
                timestamp: time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000,
                message_id: event.message_id,
                source: event.source,
                name: event.name,
                primary: (primary.namespace, primary.value),
            }
        }));
        if page.next_cursor.is_empty() {
            return events;
        }
        cursor = page.next_cursor;
    }
}

/// Compares what a cluster shows with what it has to.
///
/// # Panics
/// When they differ, with the first customers that do.
pub fn assert_same(when: &str, shown: &BTreeMap<String, Customer>, wanted: &BTreeMap<String, Customer>) {
    let names = shown.keys().chain(wanted.keys().filter(|name| !shown.contains_key(*name)));
    let differ: Vec<&String> = names.filter(|name| shown.get(*name) != wanted.get(*name)).collect();
    let told = differ.iter().take(3).map(|name| {
        let (shown, wanted) = (shown.get(*name), wanted.get(*name));
        let what = |customer: Option<&Customer>| match customer {
            Some(customer) => format!("{} and {} events", customer.shown, customer.timeline.len()),
            None => "nothing".to_owned(),
        };
        let mut told = format!("{name}:\n  shown  {}\n  wanted {}", what(shown), what(wanted));
        if let (Some(shown), Some(wanted)) = (shown, wanted) {
            let pair = shown.timeline.iter().zip(&wanted.timeline).find(|(a, b)| a != b);
            told.push_str(&pair.map(|pair| format!("\n  {pair:?}")).unwrap_or_default());
        }
        told
    });
    let told: Vec<String> = told.collect();
    assert!(
        differ.is_empty(),
        "{when}: {} of {} customers differ ({} shown)\n{}",
        differ.len(),
        wanted.len(),
        shown.len(),
        told.join("\n")
    );
}
