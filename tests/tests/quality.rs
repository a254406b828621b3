//! The quality report of a cluster, its numbers counted independently here.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use std::collections::{BTreeMap, BTreeSet};

use isthmus_proto::v1::{
    CreateRequest, IngestRequest, ItemOutcome, ingest_service_client::IngestServiceClient,
    source_service_client::SourceServiceClient,
};
use isthmus_tests::{
    ask,
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
};
use serde_json::Value;

/// Source, customer, seconds since 2026, and for each trait a value or none (removed).
type Said = (&'static str, usize, u64, Vec<(&'static str, Option<String>)>);

/// What is sent.
fn said() -> Vec<Said> {
    let mut said = Vec::new();
    for user in 0..200 {
        let mail = Some(format!("u{}@example.org", user % 150));
        said.push(("crm", user, 1, vec![("email", mail.clone()), ("name", Some(format!("N{user}")))]));
        if user % 2 == 0 {
            let shown = if user % 8 == 0 { Some("no address".to_owned()) } else { mail };
            said.push(("shop", user, 2, vec![("email", shown), ("colour", Some("red".to_owned()))]));
        }
        if user % 5 == 0 {
            said.push(("shop", user, 100, vec![("colour", None)]));
            said.push(("shop", user, 0, vec![("colour", Some("green".to_owned()))]));
        }
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_of_a_cluster_has_the_numbers_that_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let cluster =
        Cluster::start(ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.path(), 3)).await;
    let cli = Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]);
    let mut keys = BTreeMap::new();
    for source in ["crm", "shop"] {
        let create = CreateRequest { name: source.into(), ..CreateRequest::default() };
        let made = SourceServiceClient::new(cluster.channel(0)).create(create).await.unwrap().into_inner();
        keys.insert(source, made.write_key);
    }
    for (source, key) in &keys {
        let items = said().into_iter().enumerate().filter(|(_, event)| event.0 == *source);
        let items = items.map(|(number, (_, user, second, traits))| {
            let traits: serde_json::Map<String, Value> =
                traits.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
            let minute = second / 60;
            ask::json(
                serde_json::json!({
                    "type": "identify", "userId": format!("u{user}"), "messageId": format!("m-{number}"),
                    "timestamp": format!("2026-01-01T00:{minute:02}:{:02}Z", second % 60), "traits": traits,
                })
                .to_string(),
            )
        });
        let request =
            IngestRequest { items: items.collect(), write_key: key.clone(), ..IngestRequest::default() };
        let answer = IngestServiceClient::new(cluster.channel(1)).ingest(request).await.unwrap().into_inner();
        assert!(answer.results.iter().all(|result| result.outcome() == ItemOutcome::Accepted));
    }

    // The same, counted here.
    let mut newest: BTreeMap<(&str, &str, usize), (u64, Option<String>)> = BTreeMap::new();
    let mut customers: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (source, user, second, traits) in said() {
        customers.entry(source).or_default().insert(user);
        for (name, value) in traits {
            let known = newest.entry((source, name, user)).or_insert((second, value.clone()));
            if second > known.0 {
                *known = (second, value);
            }
        }
    }
    let value = |source: &str, name: &str, user: usize| -> Option<String> {
        let known = newest.iter().find(|((s, n, u), _)| (*s, *n, *u) == (source, name, user));
        known.and_then(|(_, (_, value))| value.clone())
    };
    let ended = cli.json(&cluster.endpoints(), &["quality", "report", "--timeout", "60s"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let rows = ended.objects();
    let row = |source: &str, name: &str| {
        rows.iter()
            .find(|row| row["source"] == source && row["trait"] == name)
            .unwrap_or_else(|| panic!("{name}"))
    };
    for (source, name) in [("crm", "email"), ("crm", "name"), ("shop", "email"), ("shop", "colour")] {
        let other = if source == "crm" { "shop" } else { "crm" };
        let values: Vec<(usize, String)> =
            (0..200).filter_map(|user| Some((user, value(source, name, user)?))).collect();
        let shared: Vec<_> = values.iter().filter(|(user, _)| value(other, name, *user).is_some()).collect();
        let agreeing = shared.iter().filter(|(user, own)| value(other, name, *user).as_ref() == Some(own));
        let distinct: BTreeSet<_> = values.iter().map(|(_, value)| value).collect();
        let told = row(source, name);
        let number = |key: &str| told[key].as_u64().unwrap() as usize;
        assert_eq!(number("values"), values.len(), "{told}");
        assert_eq!(number("distinct"), distinct.len(), "{told}");
        assert_eq!((number("shared"), number("agreeing")), (shared.len(), agreeing.count()), "{told}");
        let share = values.len() as f64 / customers[source].len() as f64;
        assert!((told["completeness"].as_f64().unwrap() - share).abs() < 1e-9, "{told}");
        // Sent long after they happened.
        assert!(told["lag_p50_seconds"].as_f64().unwrap() > 0.0);
    }
    let mail = row("shop", "email");
    assert_eq!((&mail["checked"], &mail["valid"]), (&100.into(), &75.into()));
    assert_eq!(row("shop", "colour")["validity"], Value::Null);
    let only = cli.json(&cluster.endpoints(), &["quality", "report", "--source", "crm"]).objects();
    assert!(only.iter().all(|row| row["source"] != "shop") && only.contains(row("crm", "email")));
    let nobody = cli.json(&cluster.endpoints(), &["quality", "report", "--source", "nobody"]);
    assert!(nobody.code == 1 && nobody.err.contains("no such source"), "{}", nobody.err);
}
