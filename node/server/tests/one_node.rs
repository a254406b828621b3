//! A node by itself, over its real ports: what goes in comes out, also after a restart, and what makes no sense is
//! answered in the words of the interface.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use isthmus_coordinator::FoundOptions;
use isthmus_node::{Node, NodeOptions, Origin};
use isthmus_proto::v1::{
    self, GetRequest, Identifier, IngestItem, IngestRequest, ItemOutcome, ProfileKey,
    QuarantineServiceListRequest, ShowRequest, TimelineRequest, cluster_service_client::ClusterServiceClient,
    ingest_item::Body, ingest_service_client::IngestServiceClient, profile_key::Key,
    profile_service_client::ProfileServiceClient, quarantine_service_client::QuarantineServiceClient,
    source_service_client::SourceServiceClient,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

const SOON: Duration = Duration::from_secs(60);

fn founding() -> Origin {
    Origin::Found(FoundOptions { shards: 4, replicas: 1, identity_key: None, dev_source: true })
}

async fn started(dir: &std::path::Path, origin: Origin) -> (Node, Channel) {
    let node = Node::start(NodeOptions::local(1, dir, origin), &CancellationToken::new()).await.unwrap();
    node.ready(Instant::now() + SOON).await.unwrap();
    node.healthy(Instant::now() + SOON).await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", node.addresses().grpc)).unwrap();
    let channel = endpoint.timeout(SOON).connect().await.unwrap();
    (node, channel)
}

fn json(text: &str) -> IngestItem {
    IngestItem { body: Some(Body::Json(text.to_owned().into())), origin: "test:1".to_owned() }
}

fn key(value: &str) -> Option<ProfileKey> {
    let identifier = Identifier { namespace: "userId".to_owned(), value: value.to_owned() };
    Some(ProfileKey { key: Some(Key::Identifier(identifier)) })
}

async fn ingest(channel: &Channel, items: Vec<IngestItem>) -> v1::IngestResponse {
    let request = IngestRequest { write_key: "dev-write-key".to_owned(), items, ..IngestRequest::default() };
    IngestServiceClient::new(channel.clone()).ingest(request).await.unwrap().into_inner()
}

async fn profile(channel: &Channel, value: &str) -> v1::Profile {
    let request = GetRequest { key: key(value), ..GetRequest::default() };
    let answer = ProfileServiceClient::new(channel.clone()).get(request).await.unwrap();
    answer.into_inner().profile.unwrap()
}

fn outcomes(response: &v1::IngestResponse) -> Vec<ItemOutcome> {
    response.results.iter().map(|result| result.outcome()).collect()
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

const ORDER: &str = r#"{"type":"track","event":"Order Completed","userId":"42","messageId":"m-1","timestamp":"2024-05-01T10:00:00Z","properties":{"revenue":"44.02"}}"#;
const TRAITS: &str = r#"{"type":"identify","userId":"42","messageId":"m-2","timestamp":"2024-05-02T10:00:00Z","traits":{"name":"Ann","visits":9007199254740993}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart_and_known_when_it_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let (node, channel) = started(dir.path(), founding()).await;
    let response = ingest(&channel, vec![json(ORDER), json(TRAITS), json("{\"type\":\"track\"}")]).await;
    assert_eq!(outcomes(&response), [ItemOutcome::Accepted, ItemOutcome::Accepted, ItemOutcome::Quarantined]);
    assert_eq!((response.results[0].message_id.as_str(), response.version.len()), ("m-1", 16));
    assert_eq!(response.results[2].reason, "EVENT_NAME_MISSING");
    let before = profile(&channel, "42").await;
    assert_eq!((before.revenue.as_str(), before.event_counts["Order Completed"]), ("44.02", 1));
    assert_eq!(before.traits["visits"].kind, Some(v1::value::Kind::IntValue(9_007_199_254_740_993)));
    assert_eq!(before.sources, ["dev"]);
    node.stop().await;

    // The same command restarts it: that it was founded is passed over.
    let (node, channel) = started(dir.path(), founding()).await;
    let after = profile(&channel, "42").await;
    assert_eq!(
        v1::Profile { version: String::new(), ..after },
        v1::Profile { version: String::new(), ..before }
    );
    let again = ingest(&channel, vec![json(ORDER), json(TRAITS)]).await;
    assert_eq!(outcomes(&again), [ItemOutcome::Duplicate; 2]);

    let mut profiles = ProfileServiceClient::new(channel.clone());
    let first = TimelineRequest { key: key("42"), limit: 1, ..TimelineRequest::default() };
    let page = profiles.timeline(first.clone()).await.unwrap().into_inner();
    assert_eq!((page.events[0].message_id.as_str(), page.next_cursor.is_empty()), ("m-2", false));
    let rest = TimelineRequest { cursor: page.next_cursor, ..first };
    let page = profiles.timeline(rest).await.unwrap().into_inner();
    assert_eq!(
        (page.events[0].properties_json.as_str(), page.next_cursor.as_str()),
        (r#"{"revenue":"44.02"}"#, "")
    );
    assert_eq!(page.events[0].primary.as_ref().map(|id| id.value.as_str()), Some("42"));

    let mut quarantine = QuarantineServiceClient::new(channel);
    let listed = quarantine.list(QuarantineServiceListRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.entries.len(), listed.entries[0].origin.as_str()), (1, "test:1"));
    let id = listed.entries[0].id.clone();
    let shown = quarantine.show(ShowRequest { id }).await.unwrap().into_inner().entry.unwrap();
    assert_eq!(shown.content.as_ref(), b"{\"type\":\"track\"}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (node, channel) = started(dir.path(), founding()).await;
    let mut client = IngestServiceClient::new(channel.clone()).max_encoding_message_size(16 << 20);
    let request =
        |write_key: &str, items| IngestRequest { write_key: write_key.into(), items, ..Default::default() };
    let large = IngestItem { origin: "x".repeat(5 << 20), ..json(ORDER) };
    for (request, code, why) in [
        (request("wrong", vec![]), Code::Unauthenticated, "WRITE_KEY_INVALID"),
        (request("", vec![json("{}"); 2_501]), Code::InvalidArgument, "BATCH_TOO_MANY"),
        (request("", vec![large]), Code::OutOfRange, "TOO_LARGE"),
        (
            IngestRequest { source: "nobody".into(), ..request("", vec![]) },
            Code::NotFound,
            "SOURCE_NOT_FOUND",
        ),
    ] {
        let status = client.ingest(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{status:?}");
    }
    let mut profiles = ProfileServiceClient::new(channel.clone());
    let get = |key| GetRequest { key, ..GetRequest::default() };
    let id = |text: &str| Some(ProfileKey { key: Some(Key::ProfileId(text.into())) });
    for (request, code, why) in [
        (get(key("nobody here")), Code::NotFound, "NOT_FOUND"),
        (get(key(" ")), Code::InvalidArgument, "INVALID_IDENTIFIER"),
        (get(id("42")), Code::InvalidArgument, "INVALID_PROFILE_ID"),
        (get(None), Code::InvalidArgument, "INVALID_KEY"),
    ] {
        let status = profiles.get(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{status:?}");
    }
    // A few kilobytes on the wire, five megabytes decompressed.
    let bomb = IngestItem { origin: "x".repeat(5 << 20), ..json(ORDER) };
    let mut gzipped = client.clone().send_compressed(CompressionEncoding::Gzip);
    gzipped.ingest(request("", vec![json(ORDER)])).await.unwrap();
    let status = gzipped.ingest(request("", vec![bomb])).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_LARGE"));
    let undecodable = raw_call(&channel, bytes::Bytes::from_static(&[0x0a, 0xff])).await.unwrap_err();
    assert_eq!((undecodable.code(), reason(&undecodable).as_str()), (Code::InvalidArgument, "MALFORMED"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_made_used_rotated_and_disabled() {
    let dir = tempfile::tempdir().unwrap();
    let (node, channel) = started(dir.path(), founding()).await;
    let mut sources = SourceServiceClient::new(channel.clone());
    let create = v1::CreateRequest { name: "shop".into(), ..v1::CreateRequest::default() };
    let made = sources.create(create.clone()).await.unwrap().into_inner();
    let taken = sources.create(create).await.unwrap_err();
    assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    let with =
        |write_key: String| IngestRequest { write_key, items: vec![json(ORDER)], ..Default::default() };
    let mut client = IngestServiceClient::new(channel);
    client.ingest(with(made.write_key.clone())).await.unwrap();
    let rotated = sources.rotate(v1::RotateRequest { name: "shop".into() }).await.unwrap().into_inner();
    assert_eq!(client.ingest(with(made.write_key)).await.unwrap_err().code(), Code::Unauthenticated);
    client.ingest(with(rotated.write_key.clone())).await.unwrap();
    sources.disable(v1::DisableRequest { name: "shop".into() }).await.unwrap();
    assert_eq!(client.ingest(with(rotated.write_key)).await.unwrap_err().code(), Code::Unauthenticated);
    let listed = sources.list(v1::SourceServiceListRequest {}).await.unwrap().into_inner().sources;
    assert_eq!(
        listed.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(),
        ["default", "dev", "shop"]
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_tells_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (node, channel) = started(dir.path(), founding()).await;
    let mut cluster = ClusterServiceClient::new(channel.clone());
    let status = cluster.status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert!(status.healthy, "{:?}", status.problems);
    assert_eq!(
        (status.shards, status.shards_with_leader, status.nodes_alive, status.metadata_leader),
        (4, 4, 1, 1)
    );
    let nodes = cluster.nodes(v1::NodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!((nodes.len(), nodes[0].replicas, nodes[0].leaders), (1, 4, 4));
    let replicas = cluster.shards(v1::ShardsRequest {}).await.unwrap().into_inner().replicas;
    assert!(
        replicas
            .iter()
            .all(|replica| replica.role() == v1::ReplicaRole::Leader && replica.state_hash.len() == 32)
    );
    let removed = cluster.remove(v1::RemoveRequest { node_id: 1 }).await.unwrap_err();
    assert_eq!((removed.code(), reason(&removed).as_str()), (Code::FailedPrecondition, "QUORUM_AT_RISK"));
    let nowhere = cluster.transfer(v1::TransferRequest { shard: 16, to_node: 9 }).await.unwrap_err();
    assert_eq!(nowhere.code(), Code::NotFound);

    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let checked = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(checked.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    node.stop().await;
}

/// Sends bytes as they are to `Ingest`.
async fn raw_call(channel: &Channel, message: bytes::Bytes) -> Result<(), Status> {
    use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

    #[derive(Default)]
    struct Raw;

    impl Encoder for Raw {
        type Item = bytes::Bytes;
        type Error = Status;
        fn encode(&mut self, item: bytes::Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
            bytes::BufMut::put(buffer, item);
            Ok(())
        }
        fn buffer_settings(&self) -> BufferSettings {
            BufferSettings::default()
        }
    }

    impl Decoder for Raw {
        type Item = bytes::Bytes;
        type Error = Status;
        fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<bytes::Bytes>, Status> {
            let length = bytes::Buf::remaining(buffer);
            Ok(Some(bytes::Buf::copy_to_bytes(buffer, length)))
        }
        fn buffer_settings(&self) -> BufferSettings {
            BufferSettings::default()
        }
    }

    impl Codec for Raw {
        type Encode = bytes::Bytes;
        type Decode = bytes::Bytes;
        type Encoder = Self;
        type Decoder = Self;
        fn encoder(&mut self) -> Self {
            Self
        }
        fn decoder(&mut self) -> Self {
            Self
        }
    }

    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/isthmus.v1.IngestService/Ingest");
    client.unary(tonic::Request::new(message), path, Raw).await.map(|_: tonic::Response<bytes::Bytes>| ())
}
