//! One stamp over all shards: what is answered while events come in is what the events up to that stamp say, wherever the
//! identifiers of a customer lie.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use isthmus_proto::v1::{SegmentServiceCountRequest, segment_service_client::SegmentServiceClient};
use isthmus_tests::{
    ask,
    cluster::{Cluster, ClusterOptions},
};
use serde_json::json;

use crate::{options, run};

const CUSTOMERS: usize = 24;
const ANSWERS: usize = 40;

/// Sends orders under both identifiers of all customers until it is told to stop.
async fn orders(channel: tonic::transport::Channel, stop: Arc<AtomicBool>) {
    let mut number = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        let items = (0..8)
            .map(|_| {
                number += 1;
                let customer = number * 7 % CUSTOMERS;
                let (field, value) = match number % 3 {
                    0 => ("userId", format!("u{customer}")),
                    _ => ("anonymousId", format!("c{customer}")),
                };
                ask::json(
                    json!({"type": "track", "event": "Order Completed", field: value, "messageId": format!("o{number}")})
                        .to_string(),
                )
            })
            .collect();
        ask::accepted(&channel, items).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_over_several_shards_is_what_the_events_up_to_its_stamp_say() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(ClusterOptions { shards: 4, ..options(folder.path(), 3) }).await;
    // The number of orders of a customer passes through these: each event counts for exactly one of them.
    for rest in 0..3 {
        let expression =
            (0..400).filter(|n| n % 3 == rest).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        let expression = format!("events('Order Completed') IN ({expression})");
        run(&cluster, &["segment", "put", &format!("rest{rest}"), &expression, "--wait"]);
    }
    let linked = (0..CUSTOMERS).map(|customer| {
        let event = json!({
            "type": "identify", "userId": format!("u{customer}"), "anonymousId": format!("c{customer}"),
            "messageId": format!("l{customer}"), "traits": {},
        });
        ask::json(event.to_string())
    });
    ask::accepted(&cluster.channel(0), linked.collect()).await;

    let stop = Arc::new(AtomicBool::new(false));
    let sending: Vec<_> =
        (1..3).map(|node| tokio::spawn(orders(cluster.channel(node), stop.clone()))).take(1).collect();
    let mut answers = Vec::new();
    let mut clients: Vec<_> = (0..3).map(|node| SegmentServiceClient::new(cluster.channel(node))).collect();
    for number in 0..ANSWERS {
        // Two ask at once, of different nodes.
        let expression = format!("rest{}", number % 3);
        let mut other = clients[(number + 1) % 3].clone();
        let ask = |expression: String| SegmentServiceCountRequest { expression };
        let (one, two) = tokio::join!(
            clients[number % 3].count(ask(expression.clone())),
            other.count(ask(format!("not {expression}")))
        );
        for (is_not, answer) in [(false, one), (true, two)] {
            let answer = answer.unwrap().into_inner();
            assert_eq!(answer.profiles, CUSTOMERS as u64);
            answers.push((
                number % 3,
                is_not,
                u64::from_str_radix(&answer.version, 16).unwrap(),
                answer.count,
            ));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for sent in sending {
        sent.await.unwrap();
    }

    // The events, as they were taken: `received_at` is the stamp of the command that took them.
    let sql = "SELECT profile_id, CAST(received_at AS BIGINT) AS stamp FROM events WHERE type = 'track'";
    let mut of: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in run(&cluster, &["sql", sql]) {
        let stamp = row["stamp"].as_u64().unwrap();
        of.entry(row["profile_id"].as_str().unwrap().to_owned()).or_default().push(stamp);
    }
    assert!(of.len() == CUSTOMERS, "all have ordered: {}", of.len());
    let mut moved = 0;
    for (rest, is_not, at, count) in &answers {
        let orders = |stamps: &Vec<u64>| stamps.iter().filter(|stamp| *stamp <= at).count();
        let inside = of.values().filter(|stamps| orders(stamps) < 400 && orders(stamps) % 3 == *rest).count();
        let wanted = if *is_not { CUSTOMERS - inside } else { inside };
        assert_eq!(*count, wanted as u64, "rest{rest}, not: {is_not}, at {at:016x}");
        moved += usize::from(inside != CUSTOMERS && inside != 0);
    }
    assert!(moved > ANSWERS / 2, "orders came in while it was asked: {moved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_definitions_are_worked_out_beside_those_that_answer_in_several_shards() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(ClusterOptions { shards: 4, ..options(folder.path(), 1) }).await;
    let mut items = Vec::new();
    for customer in 0..40 {
        for number in 0..=(customer % 4) {
            let id = if number % 2 == 0 { ("userId", 'u') } else { ("anonymousId", 'c') };
            let event = json!({
                "type": "track", "event": "Order Completed", id.0: format!("{}{customer}", id.1),
                "messageId": format!("{customer}-{number}"), "properties": {"revenue": 10},
            });
            items.push(ask::json(event.to_string()));
        }
        let event = json!({
            "type": "identify", "userId": format!("u{customer}"), "anonymousId": format!("c{customer}"),
            "messageId": format!("l{customer}"), "traits": {},
        });
        items.push(ask::json(event.to_string()));
    }
    ask::accepted(&cluster.channel(0), items).await;
    run(&cluster, &["segment", "put", "many", "events('Order Completed') >= 2", "--wait"]);
    assert_eq!(crate::count(&cluster, "many"), 30);
    // A preview knows what lies in all shards.
    let preview = &run(&cluster, &["segment", "preview", "sum(revenue, 'Order Completed') >= 30"])[0];
    assert_eq!((&preview["count"], &preview["profiles"]), (&json!(20), &json!(40)));
    // While it is edited, whoever asks is answered: by the old one or by the new one, and never by the old one again.
    for (bound, wanted) in [(3_u64, 20_u64), (4, 10), (1, 40), (2, 30)] {
        let before = crate::count(&cluster, "many");
        run(&cluster, &["segment", "put", "many", &format!("events('Order Completed') >= {bound}")]);
        let mut is_new = false;
        for _ in 0..500 {
            let answer = &run(&cluster, &["segment", "count", "many"])[0];
            let count = answer["count"].as_u64().unwrap();
            assert!(count == wanted || (count == before && !is_new), "{answer}: {before} or {wanted}");
            is_new |= count == wanted;
            if is_new {
                break;
            }
        }
        assert!(is_new);
    }
}
