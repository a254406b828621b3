//! The real purchase history, through the command line into a cluster of three nodes, against totals that were found
//! without Isthmus (`tests/data/README.md`). Sums are exact: cents, never floats.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use std::{collections::BTreeMap, path::Path};

use futures::stream::{self, StreamExt as _};
use isthmus_proto::v1::{
    ProfileKey, TimelineRequest, profile_key::Key, profile_service_client::ProfileServiceClient,
};
use isthmus_tests::{
    cli::{Cli, Ended},
    cluster::{Cluster, ClusterOptions},
    look,
};
use serde_json::Value;
use tonic::transport::Channel;

const CUSTOMERS: usize = 2_357;
const PURCHASES: u64 = 6_919;
const CDS: u64 = 16_479;
const CENTS: u64 = 24_409_194;
const BOUGHT_ONCE: usize = 1_205;
const FREE: usize = 8;
const COPIES: usize = 21;

/// Cents of decimal text with at most two digits behind the point.
fn cents(text: &str) -> u64 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    assert!(part.len() <= 2, "{text} is finer than cents");
    whole.parse::<u64>().unwrap() * 100 + format!("{part:0<2}").parse::<u64>().unwrap()
}

fn count(profile: &Value) -> u64 {
    profile["event_counts"]["Order Completed"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_purchase_history_comes_to_the_known_totals() {
    let folder = tempfile::tempdir().unwrap();
    let options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.path(), 3);
    let cluster = Cluster::start(options).await;
    let cli = Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]);
    let endpoints = cluster.endpoints();
    let run = |arguments: &[&str]| -> Ended {
        let ended = cli.json(&endpoints, arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.err);
        ended
    };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let (file, mapping) = (data.join("cdnow_sample.txt"), data.join("cdnow.toml"));
    let ingest = ["ingest", file.to_str().unwrap(), "--mapping", mapping.to_str().unwrap()];
    let counts = |ended: &Ended| {
        let told = ended.last();
        ["accepted", "duplicate", "quarantined", "rejected"].map(|key| told[key].as_u64().unwrap())
    };
    assert_eq!(counts(&run(&ingest)), [PURCHASES, 0, 0, 0]);
    totals(&run(&["profile", "list"]).objects());
    customers(&run);

    // Sent again: everything is known, and nothing is counted twice.
    assert_eq!(counts(&run(&ingest)), [0, PURCHASES, 0, 0]);
    totals(&run(&["profile", "list"]).objects());
    assert_eq!(run(&["quarantine", "list"]).out, "");
    // Event by event, copies of rows included.
    assert_eq!(events(cluster.channel(1)).await, rows(&file));
    look::replicas_agree(cluster.channel(2), 3).await;
}

fn totals(profiles: &[Value]) {
    assert_eq!(profiles.len(), CUSTOMERS);
    assert_eq!(profiles.iter().map(count).sum::<u64>(), PURCHASES);
    let revenue = profiles.iter().map(|profile| cents(profile["revenue"].as_str().unwrap()));
    assert_eq!(revenue.sum::<u64>(), CENTS);
    assert_eq!(profiles.iter().filter(|profile| count(profile) == 1).count(), BOUGHT_ONCE);
    let ids: Vec<&str> = profiles.iter().map(|profile| profile["profile_id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "a list is in the order of ids, each once");
    for profile in profiles {
        assert_eq!(profile["revenue"], profile["revenue_by_currency"]["USD"], "{profile}");
        assert_eq!(profile["sources"], serde_json::json!(["default"]));
    }
}

fn customers(run: &impl Fn(&[&str]) -> Ended) {
    let best = run(&["profile", "get", "user_id:1901"]).last();
    assert_eq!((count(&best), &best["revenue"]), (56, &"6552.70".into()), "{best}");
    assert_eq!(best["identifiers"], serde_json::json!([{ "namespace": "user_id", "value": "1901" }]));
    // By its id it is the same one.
    assert_eq!(
        run(&["profile", "get", best["profile_id"].as_str().unwrap()]).last()["revenue"],
        best["revenue"]
    );
    assert_eq!(count(&run(&["profile", "get", "user_id:2149"]).last()), 49);
    let events = run(&["profile", "timeline", "user_id:1901"]).objects();
    let times: Vec<&str> = events.iter().map(|event| event["timestamp"].as_str().unwrap()).collect();
    assert!(times.len() == 56 && times.is_sorted_by(|a, b| a >= b), "newest first: {times:?}");
}

/// A purchase as a row says it: customer, day, CDs, cents.
type Purchase = (String, String, u64, u64);

/// What the file says, with how often; checks this test's constants on the way.
fn rows(file: &Path) -> BTreeMap<Purchase, usize> {
    let (mut rows, mut copies) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
    for row in std::fs::read_to_string(file).unwrap().lines() {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let (customer, day) = (columns[1].to_owned(), columns[2].to_owned());
        *rows.entry((customer, day, columns[3].parse().unwrap(), cents(columns[4]))).or_default() += 1;
        *copies.entry(row.to_owned()).or_default() += 1;
    }
    assert_eq!(copies.values().map(|count| count - 1).sum::<usize>(), COPIES);
    assert_eq!(rows.iter().map(|(row, count)| row.2 * *count as u64).sum::<u64>(), CDS);
    assert_eq!(rows.iter().filter(|(row, _)| row.3 == 0).map(|(_, count)| count).sum::<usize>(), FREE);
    rows
}

/// What the hub has: the events of all customers, one timeline after the other.
async fn events(channel: Channel) -> BTreeMap<Purchase, usize> {
    let timelines = look::all_profiles(channel.clone()).await.into_iter().map(|profile| {
        let mut client = ProfileServiceClient::new(channel.clone());
        let key = Some(ProfileKey { key: Some(Key::ProfileId(profile.profile_id)) });
        async move {
            let request = TimelineRequest { key, limit: 1_000, ..TimelineRequest::default() };
            let page = client.timeline(request).await.unwrap().into_inner();
            assert!(page.next_cursor.is_empty());
            page.events
        }
    });
    let timelines: Vec<_> = stream::iter(timelines).buffer_unordered(16).collect().await;
    let mut found = BTreeMap::new();
    for event in timelines.into_iter().flatten() {
        assert_eq!((event.name.as_str(), event.source.as_str()), ("Order Completed", "default"));
        let properties: Value = serde_json::from_str(&event.properties_json).unwrap();
        let (quantity, revenue) =
            (properties["quantity"].as_u64().unwrap(), properties["revenue"].as_str().unwrap());
        let day = day(event.timestamp.unwrap().seconds);
        *found.entry((event.primary.unwrap().value, day, quantity, cents(revenue))).or_default() += 1;
    }
    found
}

/// The date of a time in seconds since 1970, `yyyymmdd`.
fn day(seconds: i64) -> String {
    assert_eq!(seconds % 86_400, 0, "a date is midnight in UTC");
    let (mut days, mut year) = (seconds / 86_400, 1970);
    let length = |year: i64| if year % 4 == 0 { 366 } else { 365 };
    while days >= length(year) {
        days -= length(year);
        year += 1;
    }
    let months = [31, length(year) - 337, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    format!("{year}{:02}{:02}", month + 1, days + 1)
}
