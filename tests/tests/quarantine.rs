//! The quarantine from outside: counted, mended, replayed, dropped, expired; each event once, whatever breaks off.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use std::{fs, path::Path};

use isthmus_proto::v1::{
    CreateRequest, IngestRequest, ItemOutcome, MendRequest, QuarantineOutcome, QuarantineServiceListRequest,
    ingest_service_client::IngestServiceClient, mend_request::Change,
    quarantine_service_client::QuarantineServiceClient, source_service_client::SourceServiceClient,
};
use isthmus_tests::{
    ask,
    cli::{Cli, Ended},
    cluster::{Cluster, ClusterOptions, PATIENCE},
    look,
};
use serde_json::Value;

struct Hub {
    cluster: Cluster,
    cli: Cli,
}

impl Hub {
    async fn start(folder: &Path, nodes: u32, environment: &[(&str, &str)]) -> Self {
        let options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder, nodes);
        let cluster = Cluster::start(options.with_environment(environment)).await;
        Self { cluster, cli: Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]) }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let all: Vec<&str> = ["quarantine"].iter().chain(arguments).copied().collect();
        self.cli.json(&self.cluster.endpoints(), &all)
    }

    /// Sends items that all have to be kept; their ids, in the order of the list.
    async fn kept(&self, items: &[&str]) -> Vec<Value> {
        let items = items.iter().map(|text| ask::json(*text)).collect();
        let response = ask::send(&self.cluster.channel(0), items).await.unwrap();
        for result in &response.results {
            assert_eq!(result.outcome(), ItemOutcome::Quarantined, "{}", result.message);
        }
        self.run(&["list"]).objects()
    }

    async fn seen(&self, user: &str) -> u64 {
        match ask::profile(&self.cluster.channel(0), "user_id", user).await {
            Ok(profile) => profile.event_counts.get("Seen").copied().unwrap_or(0),
            Err(_) => 0,
        }
    }
}

fn of<'a>(entries: &'a [Value], key: &str, value: &str) -> &'a str {
    entries.iter().find(|entry| entry[key] == value).unwrap()["id"].as_str().unwrap()
}

const NOBODY: &str = r#"{"type":"track","event":"Seen","messageId":"q-1"}"#;
const NAMELESS: &str = r#"{"type":"track","userId":"ann","messageId":"q-2"}"#;
const BROKEN: &str = r#"{"type":"track","#;

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_counted_mended_replayed_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path(), 3, &[]).await;
    let entries = hub.kept(&[NOBODY, NAMELESS, BROKEN]).await;
    let [nobody, nameless, broken] =
        ["NO_IDENTIFIER", "EVENT_NAME_MISSING", "MALFORMED"].map(|reason| of(&entries, "reason", reason));
    let counts = |hub: &Hub| -> Vec<(String, u64, u64)> {
        let rows = hub.run(&["counts"]).objects();
        let row = |row: &Value| {
            assert_eq!(row["source"], "default");
            let number = |key: &str| row[key].as_u64().unwrap();
            (row["reason"].as_str().unwrap().to_owned(), number("open"), number("resolved"))
        };
        rows.iter().map(row).collect()
    };
    let expected = |nobody: [u64; 2], nameless: [u64; 2], broken: [u64; 2]| {
        vec![
            ("EVENT_NAME_MISSING".to_owned(), nameless[0], nameless[1]),
            ("MALFORMED".to_owned(), broken[0], broken[1]),
            ("NO_IDENTIFIER".to_owned(), nobody[0], nobody[1]),
        ]
    };
    assert_eq!(counts(&hub), expected([1, 0], [1, 0], [1, 0]));

    // What still violates is told with field and reason, and stays as it was.
    let refused = hub.run(&["mend", nameless, "--patch", r#"{"event":" "}"#]);
    let told = refused.last();
    assert_eq!((refused.code, &told["outcome"]), (1, &"still_quarantined".into()), "{}", refused.err);
    assert_eq!((&told["reason"], &told["field"]), (&"EVENT_NAME_MISSING".into(), &"event".into()));
    let unpatchable = hub.run(&["mend", broken, "--patch", "{}"]);
    assert!(unpatchable.code == 1 && unpatchable.last()["message"].as_str().unwrap().contains("replace it"));
    assert_eq!(counts(&hub), expected([1, 0], [1, 0], [1, 0]));

    // Wrong use asks nobody.
    for wrong in [&["mend", nobody, "--patch", "{"][..], &["mend", nobody], &["replay"], &["drop", nobody]] {
        assert_eq!(hub.run(wrong).code, 2, "{wrong:?}");
    }
    let nowhere = "0".repeat(32);
    assert_eq!(hub.run(&["mend", &nowhere, "--patch", "{}"]).code, 1);
    assert_eq!(hub.run(&["replay", &nowhere]).code, 1);

    // Mended, twice: the event is in once, under its own message id; another mend is refused.
    let patch = folder.path().join("patch.json");
    fs::write(&patch, r#"{"userId":"ann"}"#).unwrap();
    for outcome in ["resolved", "already_resolved"] {
        let mended = hub.run(&["mend", nobody, "--file", patch.to_str().unwrap(), "--by", "eve"]);
        assert_eq!((mended.code, &mended.last()["outcome"]), (0, &outcome.into()), "{}", mended.err);
        assert_eq!(mended.last()["resolution"]["message_id"], "q-1");
        assert_eq!(mended.last()["resolution"]["by"], "eve");
    }
    assert_eq!(hub.seen("ann").await, 1);
    let other = hub.run(&["mend", nobody, "--patch", r#"{"userId":"bob"}"#]);
    assert_eq!((other.code, &other.last()["reason"]), (1, &"RESOLVED_OTHERWISE".into()));
    assert_eq!(hub.seen("bob").await, 0);
    assert_eq!(hub.run(&["drop", nobody, "--reason", "x"]).code, 1);

    // Replaced as a whole: what was sent had no message id, so it has one of the entry's.
    let whole = folder.path().join("whole.json");
    fs::write(&whole, r#"{"type":"track","event":"Seen","userId":"ann"}"#).unwrap();
    let replaced = hub.run(&["mend", broken, "--replace", whole.to_str().unwrap()]);
    assert_eq!(replaced.code, 0, "{}", replaced.out);
    assert_eq!(replaced.last()["resolution"]["message_id"], format!("quarantine-{broken}"));
    assert_eq!(hub.seen("ann").await, 2);

    // Replayed as it is, nothing has changed: it stays.
    let replayed = hub.run(&["replay", "--all"]);
    assert_eq!((replayed.code, replayed.objects().len()), (3, 1), "{}", replayed.out);
    assert_eq!(hub.run(&["replay", "--source", "default", "--reason", "NO_IDENTIFIER"]).objects().len(), 0);
    assert_eq!(hub.run(&["replay", nobody]).last()["outcome"], "already_resolved");
    for outcome in ["resolved", "already_resolved"] {
        let dropped = hub.run(&["drop", nameless, "--reason", "a test of the till"]);
        assert_eq!((dropped.code, &dropped.last()["outcome"]), (0, &outcome.into()));
        assert_eq!(dropped.last()["resolution"]["note"], "a test of the till");
    }
    assert_eq!(counts(&hub), expected([0, 1], [0, 1], [0, 1]));
    assert_eq!(hub.run(&["list"]).objects().len(), 0);
    assert_eq!(hub.run(&["list", "--all"]).objects().len(), 3);
    assert_eq!(hub.run(&["show", nameless]).last()["resolution"]["kind"], "dropped");

    // The same items sent again are the same entries, and open nothing.
    assert!(hub.kept(&[NOBODY, NAMELESS, BROKEN]).await.is_empty());
    look::replicas_agree(hub.cluster.channel(0), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_gets_in_under_a_message_id_of_its_own_and_is_not_kept_twice() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path(), 1, &[]).await;
    ask::accepted(&hub.cluster.channel(0), vec![ask::json(ask::seen("ann", "m-1"))]).await;
    let other = r#"{"type":"track","event":"Seen","userId":"ann","messageId":"m-1","properties":{"n":1}}"#;
    let entries = hub.kept(&[other]).await;
    let id = of(&entries, "reason", "MESSAGE_ID_CONFLICT");
    let again = hub.run(&["replay", id]);
    assert_eq!((again.code, &again.last()["field"]), (3, &"messageId".into()));
    let third = hub.run(&["mend", id, "--patch", r#"{"properties":{"n":2}}"#]);
    assert_eq!((third.code, &third.last()["reason"]), (1, &"MESSAGE_ID_CONFLICT".into()));
    assert_eq!(hub.run(&["list", "--all"]).objects().len(), 1, "the mend that failed is not kept beside it");
    assert_eq!(hub.run(&["mend", id, "--patch", r#"{"messageId":"m-2"}"#]).code, 0);
    assert_eq!(hub.seen("ann").await, 2);
}

/// The event is in, its entry still open, and the node dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_event_and_verdict_counts_nothing_twice_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let crash = [("FAILPOINTS", "server::quarantine::before_verdict=return")];
    let mut hub = Hub::start(folder.path(), 1, &crash).await;
    let entries = hub.kept(&[NOBODY]).await;
    let id = of(&entries, "reason", "NO_IDENTIFIER").to_owned();
    let request = MendRequest {
        id: id.clone(),
        change: Some(Change::Patch(r#"{"userId":"ann"}"#.to_owned())),
        ..MendRequest::default()
    };
    let broken_off = QuarantineServiceClient::new(hub.cluster.channel(0)).mend(request.clone()).await;
    assert!(broken_off.is_err(), "the fail point is not there");
    assert_eq!(hub.seen("ann").await, 1);
    let open = ask::quarantined(&hub.cluster.channel(0), QuarantineServiceListRequest::default()).await;
    assert_eq!(open.len(), 1);
    hub.cluster.kill(0);
    hub.cluster.set_environment(&[]);
    hub.cluster.launch(0);
    hub.cluster.healthy().await;
    for outcome in [QuarantineOutcome::Resolved, QuarantineOutcome::AlreadyResolved] {
        let mut client = QuarantineServiceClient::new(hub.cluster.channel(0));
        let result = client.mend(request.clone()).await.unwrap().into_inner().result.unwrap();
        assert_eq!((result.outcome(), result.resolution.unwrap().message_id.as_str()), (outcome, "q-1"));
        assert_eq!(hub.seen("ann").await, 1);
    }
}

/// Retention is far shorter than anybody would have it; what goes is counted.
#[tokio::test(flavor = "multi_thread")]
async fn entries_go_at_the_end_of_their_retention_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path(), 1, &[("ISTHMUS_QUARANTINE__RETENTION", "1s")]).await;
    let items = [NOBODY, NAMELESS, BROKEN].iter().map(|text| ask::json(*text)).collect();
    ask::send(&hub.cluster.channel(0), items).await.unwrap();
    let gone = |metrics: &str| metrics.lines().any(|line| line == "isthmus_quarantine_expired_total 3");
    let go = async {
        while !gone(&ask::http(hub.cluster.nodes[0].http, "/metrics").1) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, go).await.expect("nothing goes");
    assert_eq!(hub.run(&["list", "--all"]).objects().len(), 0);
    assert_eq!(hub.run(&["counts"]).objects().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_replayed_page_by_page_with_its_own_rules() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path(), 1, &[]).await;
    let create = CreateRequest { name: "shop".into(), ..CreateRequest::default() };
    let made = SourceServiceClient::new(hub.cluster.channel(0)).create(create).await.unwrap().into_inner();
    let items = (0..250)
        .map(|n| ask::json(format!(r#"{{"type":"track","event":"Seen","messageId":"p-{n}"}}"#)))
        .chain([ask::json(NAMELESS)]);
    let request =
        IngestRequest { items: items.collect(), write_key: made.write_key, ..IngestRequest::default() };
    IngestServiceClient::new(hub.cluster.channel(0)).ingest(request).await.unwrap();
    hub.kept(&[NOBODY]).await;
    let replayed = hub.run(&["replay", "--source", "shop", "--reason", "NO_IDENTIFIER"]);
    assert_eq!((replayed.code, replayed.objects().len()), (3, 250), "{}", replayed.err);
    let ids: std::collections::BTreeSet<String> =
        replayed.objects().iter().map(|object| object["id"].to_string()).collect();
    assert_eq!(ids.len(), 250, "an entry came twice");
}
