//! Sources and their write keys, managed through one node and used through the others.

use std::time::Duration;

use isthmus_proto::v1::{
    CreateRequest, DisableRequest, IngestRequest, IngestResponse, ItemOutcome, RotateRequest,
    SourceServiceListRequest, TimelineRequest, ingest_service_client::IngestServiceClient,
    profile_service_client::ProfileServiceClient, source_service_client::SourceServiceClient,
};
use isthmus_tests::{ask, cluster::PATIENCE};
use tokio::time::Instant;
use tonic::{Code, Status, transport::Channel};

use crate::{Hub, refused};

async fn send(node: &Channel, key: &str, source: &str, message: &str) -> Result<IngestResponse, Status> {
    let items = vec![ask::json(ask::seen("keys", message))];
    let request =
        IngestRequest { items, write_key: key.into(), source: source.into(), ..IngestRequest::default() };
    IngestServiceClient::new(node.clone()).ingest(request).await.map(tonic::Response::into_inner)
}

/// The same message id from two sources is two events; each is told apart by its source.
pub async fn a_write_key_says_which_source_sends(hub: &Hub) {
    let mut sources = SourceServiceClient::new(hub.nodes[0].clone());
    let mut keys = Vec::new();
    for name in ["keys-app", "keys-shop"] {
        let made =
            sources.create(CreateRequest { name: name.into(), ..CreateRequest::default() }).await.unwrap();
        keys.push((name, made.into_inner().write_key));
    }
    // Through other nodes than the one that made them.
    for ((name, key), node) in keys.iter().zip(&hub.nodes[1..]) {
        for (given, outcome) in [("", ItemOutcome::Accepted), (name, ItemOutcome::Duplicate)] {
            let result = send(node, key, given, "keys-1").await.unwrap().results.remove(0);
            assert_eq!(result.outcome(), outcome, "{result:?}");
        }
        refused(send(node, key, "default", "keys-2").await, Code::InvalidArgument, "SOURCE_MISMATCH");
    }
    refused(send(&hub.nodes[2], "", "keys-none", "keys-3").await, Code::NotFound, "SOURCE_NOT_FOUND");
    let profile = ask::profile(&hub.nodes[0], "user_id", "keys").await.unwrap();
    assert_eq!(
        (profile.event_counts["Seen"], profile.sources),
        (2, vec!["keys-app".into(), "keys-shop".into()])
    );
    let request = TimelineRequest { key: ask::key("user_id", "keys"), ..TimelineRequest::default() };
    let events =
        ProfileServiceClient::new(hub.nodes[1].clone()).timeline(request).await.unwrap().into_inner().events;
    assert!(events.iter().all(|event| event.message_id == "keys-1"), "{events:?}");
}

/// Waits until a call is refused: a change of keys reaches the other nodes a moment after its answer.
async fn until_refused(node: &Channel, key: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        match send(node, key, "", "keys-again").await {
            Err(status) => break refused(Err::<(), _>(status), Code::Unauthenticated, "WRITE_KEY_INVALID"),
            Ok(_) => assert!(Instant::now() < until, "the key is taken for ever"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A key is taken by any node as soon as the one that made it has answered; one that nobody made is wrong to all.
pub async fn a_new_key_is_taken_at_once_by_every_node(hub: &Hub) {
    let takes = async |node: &Channel, key: &str| {
        let taken = send(node, key, "", "keys-new").await;
        let taken = taken.unwrap_or_else(|status| panic!("a key that was just made: {status}"));
        let outcome = taken.results[0].outcome();
        assert!(matches!(outcome, ItemOutcome::Accepted | ItemOutcome::Duplicate), "{taken:?}");
    };
    let count = hub.nodes.len();
    for round in 0..30 {
        let at = |offset: usize| &hub.nodes[(round + offset) % count];
        let name = format!("keys-new-{round}");
        let create = CreateRequest { name: name.clone(), ..CreateRequest::default() };
        let made = SourceServiceClient::new(at(0).clone()).create(create).await.unwrap().into_inner();
        tokio::join!(takes(at(1), &made.write_key), takes(at(2), &made.write_key));
        let rotate = RotateRequest { name };
        let newer = SourceServiceClient::new(at(1).clone()).rotate(rotate).await.unwrap().into_inner();
        tokio::join!(takes(at(2), &newer.write_key), takes(at(0), &newer.write_key));
    }
    // Of a key's form, and never made.
    let wrong = format!("iswk_{}", "5a".repeat(32));
    for node in hub.nodes.iter().cycle().take(2 * count) {
        refused(send(node, &wrong, "", "keys-new").await, Code::Unauthenticated, "WRITE_KEY_INVALID");
    }
}

pub async fn keys_are_managed_through_any_node(hub: &Hub) {
    let mut at = hub.nodes.iter().map(|node| SourceServiceClient::new(node.clone())).collect::<Vec<_>>();
    let create = CreateRequest { name: "keys-web".into(), ..CreateRequest::default() };
    let made = at[1].create(create.clone()).await.unwrap().into_inner();
    refused(at[2].create(create).await, Code::AlreadyExists, "ALREADY_EXISTS");
    let first = made.write_key;
    assert!(first.starts_with(&made.source.unwrap().key_prefix));

    let rotated =
        at[2].rotate(RotateRequest { name: "keys-web".into() }).await.unwrap().into_inner().write_key;
    assert_ne!(rotated, first);
    for node in &hub.nodes {
        until_refused(node, &first).await;
        send(node, &rotated, "", "keys-again").await.unwrap();
    }
    let disabled = at[0].disable(DisableRequest { name: "keys-web".into() }).await.unwrap().into_inner();
    assert!(disabled.source.unwrap().disabled);
    for node in &hub.nodes {
        until_refused(node, &rotated).await;
    }
    // What it sent stays.
    let profile = ask::profile(&hub.nodes[1], "user_id", "keys").await.unwrap();
    assert!(profile.sources.contains(&"keys-web".to_owned()), "{:?}", profile.sources);

    for (name, code, reason) in
        [("No Name", Code::InvalidArgument, "INVALID_ARGUMENT"), ("", Code::InvalidArgument, "INVALID_NAME")]
    {
        let request = CreateRequest { name: name.into(), ..CreateRequest::default() };
        refused(at[0].create(request).await, code, reason);
    }
    refused(at[0].rotate(RotateRequest { name: "keys-none".into() }).await, Code::NotFound, "NOT_FOUND");
    refused(
        at[1].disable(DisableRequest { name: "default".into() }).await,
        Code::FailedPrecondition,
        "BUILT_IN",
    );
    command_line(hub).await;
    let listed = at[2].list(SourceServiceListRequest {}).await.unwrap().into_inner().sources;
    let names: Vec<&str> = listed.iter().map(|source| source.name.as_str()).collect();
    assert!(names.is_sorted() && names.contains(&"default") && names.contains(&"keys-web"), "{names:?}");
}

async fn command_line(hub: &Hub) {
    let endpoint = format!("http://{}", hub.cluster.nodes[0].grpc);
    let made = hub.cli.json(&endpoint, &["source", "create", "keys-cli"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let object = made.last();
    assert_eq!(object.as_object().unwrap().keys().collect::<Vec<_>>(), ["name", "write_key"]);
    send(&hub.nodes[0], object["write_key"].as_str().unwrap(), "keys-cli", "keys-cli").await.unwrap();
    let again = hub.cli.json(&endpoint, &["source", "create", "keys-cli"]);
    assert_eq!((again.code, again.out.as_str()), (1, ""), "{}", again.err);
    let rotated = hub.cli.json(&endpoint, &["source", "rotate", "keys-cli"]).last();
    assert_ne!(rotated["write_key"], object["write_key"]);
    assert_eq!(hub.cli.json(&endpoint, &["source", "disable", "keys-cli"]).code, 0);
    let listed = hub.cli.json(&endpoint, &["source", "list"]).objects();
    let mine = listed.iter().find(|source| source["name"] == "keys-cli").unwrap();
    assert_eq!(mine["disabled"], true, "{mine}");
}
