//! A data directory as this version's first release wrote it, which every later one has to open.
//!
//! `fixtures/data-v1.tar.zst` is the directory of a node that was stopped cleanly; `fixtures/data-v1.json` says what it
//! holds, as seen from outside. To write both anew, which only makes sense before a release ever wrote such data:
//!
//! ```text
//! ISTHMUS_TEST_WRITE_FIXTURE=1 cargo test -p isthmus-tests --test fixture
//! ```

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use isthmus_proto::v1::{
    CreateRequest, Event, EventType, Identifier, IngestItem, IngestRequest, ItemOutcome, UnreadableItem,
    Value as Typed, ingest_item::Body, ingest_service_client::IngestServiceClient,
    source_service_client::SourceServiceClient, value::Kind,
};
use isthmus_tests::{
    ask,
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
};
use serde_json::{Value, json};
use tonic::transport::Channel;

/// Makes this program write the fixture instead of reading it.
const WRITE: &str = "ISTHMUS_TEST_WRITE_FIXTURE";
/// How large the fixture may be: it is in every clone.
const BYTES_MAX: u64 = 300 << 10;

fn file(extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data-v1").with_extension(extension)
}

async fn start(data: &Path) -> Cluster {
    let small = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), data, 1);
    Cluster::start(ClusterOptions { shards: 2, ..small }).await
}

/// What is sent: every type of event, identifiers that belong together, traits of every kind, revenue in several
/// currencies, and what can't be taken.
fn items() -> Vec<IngestItem> {
    let mut items: Vec<IngestItem> = [
        r#"{"type":"identify","userId":"ann","anonymousId":"cookie-1","messageId":"m-01","timestamp":"2026-01-01T00:00:00Z","traits":{"email":"Ann@Example.org","name":"Ann","age":41,"ratio":0.25,"tags":["a",{"b":null}],"big":18446744073709551615,"vip":true}}"#,
        r#"{"type":"identify","userId":"ann","messageId":"m-02","timestamp":"2026-01-02T00:00:00Z","traits":{"name":"Ann B.","age":null}}"#,
        r#"{"type":"track","event":"Order Completed","userId":"ann","messageId":"m-03","timestamp":"2026-01-03T10:00:00.123456Z","properties":{"revenue":"10.10","order_id":"o-1"},"context":{"ip":"203.0.113.7"}}"#,
        r#"{"type":"track","event":"Order Completed","userId":"ann","messageId":"m-04","timestamp":"2026-01-04T10:00:00Z","properties":{"revenue":20.20,"currency":"EUR"}}"#,
        r#"{"type":"track","event":"Order Refunded","userId":"ann","messageId":"m-05","timestamp":"2026-01-05T10:00:00+02:00","properties":{"revenue":-0.30}}"#,
        r#"{"type":"page","name":"Home","category":"shop","anonymousId":"cookie-1","messageId":"m-06","timestamp":"2026-01-01T00:00:01Z","properties":{"path":"/"}}"#,
        r#"{"type":"screen","name":"Start","userId":"bob","messageId":"m-07","timestamp":"2026-01-06T00:00:00Z"}"#,
        r#"{"type":"group","groupId":"g-1","userId":"bob","messageId":"m-08","timestamp":"2026-01-07T00:00:00Z","traits":{"plan":"pro"}}"#,
        r#"{"type":"alias","previousId":"cookie-1","userId":"bob","messageId":"m-09","timestamp":"2026-01-08T00:00:00Z"}"#,
        r#"{"type":"track","event":"Called","messageId":"m-10","timestamp":"2026-01-09T00:00:00Z","context":{"externalIds":[{"type":"phone","id":"+49 30 12345","collection":"users","encoding":"none"},{"type":"crm_id","id":"K-1","collection":"users","encoding":"none"}]}}"#,
        // Kept: a known message id with another body, nobody, no JSON, no text.
        r#"{"type":"track","event":"Order Completed","userId":"ann","messageId":"m-03","timestamp":"2026-01-03T10:00:00.123456Z","properties":{"revenue":"99.99"}}"#,
        r#"{"type":"track","event":"Seen","messageId":"m-11"}"#,
        r#"{"type":"track","#,
    ]
    .iter()
    .enumerate()
    .map(|(index, text)| ask::from(*text, &format!("fixture.jsonl:{}", index + 1)))
    .collect();
    let unreadable = UnreadableItem {
        content: b"\xff\x00\xfe".to_vec().into(),
        content_type: "text/csv".into(),
        problem: "not UTF-8".into(),
    };
    items.push(IngestItem { body: Some(Body::Unreadable(unreadable)), origin: "fixture.csv:7".into() });
    let typed = Event {
        r#type: EventType::Track.into(),
        message_id: "m-12".into(),
        name: "Measured".into(),
        identifiers: vec![Identifier { namespace: "email".into(), value: " Eve@Example.org".into() }],
        properties: [("exact".to_owned(), Typed { kind: Some(Kind::IntValue(i64::MIN)) })].into(),
        timestamp: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 1_000 }),
        ..Event::default()
    };
    items.push(IngestItem { body: Some(Body::Event(typed)), origin: String::new() });
    items
}

async fn outcomes(channel: &Channel, key: &str) -> Vec<ItemOutcome> {
    let request = IngestRequest { items: items(), write_key: key.to_owned(), ..IngestRequest::default() };
    let answer = IngestServiceClient::new(channel.clone()).ingest(request).await.unwrap().into_inner();
    answer.results.iter().map(isthmus_proto::v1::ItemResult::outcome).collect()
}

/// What a hub holds, as it is seen from outside. Version tokens go on with time and are left out.
fn seen(cluster: &Cluster) -> Value {
    let cli = Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]);
    let run = |arguments: &[&str]| {
        let ended = cli.json(&cluster.endpoints(), arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.err);
        ended.objects()
    };
    let mut profiles = run(&["profile", "list"]);
    let mut timelines = BTreeMap::new();
    for profile in &mut profiles {
        profile.as_object_mut().unwrap().remove("version").unwrap();
        let id = profile["profile_id"].as_str().unwrap();
        timelines.insert(id.to_owned(), run(&["profile", "timeline", id]));
    }
    let entries = run(&["quarantine", "list"]);
    let shown =
        entries.iter().map(|entry| run(&["quarantine", "show", entry["id"].as_str().unwrap()]).remove(0));
    let quarantine: Vec<Value> = shown.collect();
    let status = run(&["cluster", "status"]).remove(0);
    json!({
        "cluster_id": status["cluster_id"],
        "shards": status["shards"],
        "sources": run(&["source", "list"]),
        "profiles": profiles,
        "timelines": timelines,
        "quarantine": quarantine,
        // Of everything that a shard holds, link facts and what tells repetitions included.
        "state_hashes": run(&["cluster", "shards"]).iter().map(|replica| replica["state_hash"].clone()).collect::<Vec<_>>(),
    })
}

/// Looks again and again until there is what is looked for.
async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), found).await.expect("it should be there by now")
}

/// Profiles without what depends on a cluster's own key, in an order that doesn't either.
fn without_ids(seen: &Value) -> Vec<String> {
    let bare = |profile: &Value| {
        let mut profile = profile.clone();
        profile.as_object_mut().unwrap().remove("profile_id");
        profile.as_object_mut().unwrap().remove("rules_version");
        profile.to_string()
    };
    let mut all: Vec<String> = seen["profiles"].as_array().unwrap().iter().map(bare).collect();
    all.sort();
    all
}

/// All events, whosever they are, without the time at which they came.
fn all_events(seen: &Value) -> Vec<String> {
    let timelines = seen["timelines"].as_object().unwrap().values();
    let events = timelines.flat_map(|events| events.as_array().unwrap()).map(|event| {
        let mut event = event.clone();
        event.as_object_mut().unwrap().remove("received_at");
        event.to_string()
    });
    let mut all: Vec<String> = events.collect();
    all.sort();
    all
}

/// What a cluster of today makes of the same items: profiles and events.
async fn resolved_today() -> (Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let cluster = start(folder.path()).await;
    let made = SourceServiceClient::new(cluster.channel(0)).create(shop()).await.unwrap().into_inner();
    for key in ["", made.write_key.as_str()] {
        outcomes(&cluster.channel(0), key).await;
    }
    let seen = seen(&cluster);
    (without_ids(&seen), all_events(&seen))
}

fn shop() -> CreateRequest {
    CreateRequest {
        name: "shop".into(),
        primary_order: vec!["crm_id".into()],
        default_currency: "EUR".into(),
    }
}

async fn write() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path()).await;
    let made = SourceServiceClient::new(cluster.channel(0)).create(shop()).await.unwrap().into_inner();
    let taken = outcomes(&cluster.channel(0), "").await;
    assert_eq!(taken.iter().filter(|outcome| **outcome == ItemOutcome::Accepted).count(), 11);
    assert_eq!(taken.iter().filter(|outcome| **outcome == ItemOutcome::Quarantined).count(), 4);
    outcomes(&cluster.channel(0), &made.write_key).await;
    // Once through the files and back, so that the fixture has been read as well as written.
    assert_eq!(cluster.stop(0), Some(0));
    cluster.launch(0);
    cluster.healthy().await;
    let mut holds = seen(&cluster);
    holds["write_key"] = made.write_key.into();
    assert_eq!(cluster.stop(0), Some(0));

    fs::create_dir_all(file("json").parent().unwrap()).unwrap();
    fs::write(file("json"), serde_json::to_string_pretty(&holds).unwrap() + "\n").unwrap();
    let packed = zstd::Encoder::new(fs::File::create(file("tar.zst")).unwrap(), 19).unwrap();
    let mut archive = tar::Builder::new(packed.auto_finish());
    archive.sparse(false);
    archive.append_dir_all("node-1", folder.path().join("node-1")).unwrap();
    archive.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_the_first_version_is_read_as_it_was_written() {
    if std::env::var_os(WRITE).is_some() {
        write().await;
    }
    let size = fs::metadata(file("tar.zst")).unwrap().len();
    assert!(size <= BYTES_MAX, "the fixture has {size} bytes: it is in every clone");
    let folder = tempfile::tempdir().unwrap();
    let unpacked = zstd::Decoder::new(fs::File::open(file("tar.zst")).unwrap()).unwrap();
    let mut archive = tar::Archive::new(unpacked);
    // A secret that others may read is refused.
    archive.set_preserve_permissions(true);
    archive.unpack(folder.path()).unwrap();

    let mut expected: Value = serde_json::from_str(&fs::read_to_string(file("json")).unwrap()).unwrap();
    let key = expected.as_object_mut().unwrap().remove("write_key").unwrap();
    let mut cluster = start(folder.path()).await;
    // That version recorded links and resolved none. What they come to is what a cluster of today makes of the same.
    let (profiles, events) = resolved_today().await;
    let now = until(|| Some(seen(&cluster)).filter(|now| without_ids(now) == profiles)).await;
    assert_eq!(all_events(&now), events);
    for kept in ["cluster_id", "shards", "sources", "quarantine"] {
        assert_eq!(now[kept], expected[kept], "{kept}");
    }
    assert_eq!(all_events(&now), all_events(&expected));

    // It knows what it has: sent again, all is a repetition, for each source.
    for key in ["", key.as_str().unwrap()] {
        for outcome in outcomes(&cluster.channel(0), key).await {
            assert!(matches!(outcome, ItemOutcome::Duplicate | ItemOutcome::Quarantined), "{outcome:?}");
        }
    }
    assert_eq!(seen(&cluster), now);
    // And it goes on, also over another restart.
    let next = r#"{"type":"track","event":"Order Completed","userId":"ann","messageId":"m-99","properties":{"revenue":"0.01"}}"#;
    ask::accepted(&cluster.channel(0), vec![ask::json(next)]).await;
    assert_eq!(cluster.stop(0), Some(0));
    cluster.launch(0);
    cluster.healthy().await;
    let profile = ask::profile(&cluster.channel(0), "user_id", "ann").await.unwrap();
    let known = now["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .find(|known| known["profile_id"] == profile.profile_id.as_str());
    let before = known.unwrap()["event_counts"]["Order Completed"].as_u64().unwrap();
    assert_eq!(profile.event_counts["Order Completed"], before + 1);
}
