//! Calls that are refused as a whole: nothing of them is stored.

use bytes::{Buf as _, BufMut as _, Bytes};
use futures::stream;
use isthmus_proto::{
    internal::v1::{ExchangeRequest, PeerHello, shard_service_client::ShardServiceClient},
    v1::{
        CreateRequest, DisableRequest, IngestItem, IngestRequest, ItemOutcome, RotateRequest, StatusRequest,
        TransferRequest, UnreadableItem, cluster_service_client::ClusterServiceClient, ingest_item::Body,
        ingest_service_client::IngestServiceClient, source_service_client::SourceServiceClient,
    },
};
use isthmus_tests::{
    ask,
    cluster::{self, Cluster},
};
use tonic::{
    Code, Request, Status,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataValue,
    transport::Channel,
};
use tower::{Service as _, ServiceExt as _};

use isthmus_tests::bad_input::Checked;

use crate::{World, items};

const INGEST: &str = "/isthmus.v1.IngestService/Ingest";

pub async fn check(world: &mut World, row: &str, input: &'static str) -> Checked {
    let channel = world.one.channel(0);
    match (row, input) {
        (_, "a message over 4 MiB") => {
            let status = ingest(&channel, unreadable(130, 40 << 10)).await;
            refused(&status, Code::OutOfRange, "TOO_LARGE");
        }
        (_, "2,501 items") => {
            let status = ingest(&channel, unreadable(2_501, 0)).await;
            refused(&status, Code::InvalidArgument, "BATCH_TOO_MANY");
        }
        ("decompression bomb", encoding) => bomb(&channel, encoding).await,
        (_, "unknown encoding") => {
            let mut request = Request::new(IngestRequest::default());
            request.metadata_mut().insert("grpc-encoding", MetadataValue::from_static("br"));
            let status = IngestServiceClient::new(channel).ingest(request).await.unwrap_err();
            refused(&status, Code::Unimplemented, "UNSUPPORTED_ENCODING");
            let known = status.metadata().get("grpc-accept-encoding").and_then(|value| value.to_str().ok());
            let known = known.unwrap_or_default();
            assert!(
                known.contains("gzip") && known.contains("zstd"),
                "it doesn't say which are known: {known}"
            );
        }
        (_, "unknown content type") => {
            let status = posted(channel, "text/plain").await;
            refused(&status, Code::Unimplemented, "UNSUPPORTED_CONTENT_TYPE");
        }
        ("malformed JSON, NaN, 1e400, bad UTF-8, depth over 32, truncated protobuf", input) => {
            malformed(&channel, input).await;
        }
        (_, "headers over 16 KB") => {
            long_headers(channel).await;
        }
        (_, "forged credentials") => forged(&channel).await,
        ("missing, expired, forged credentials" | "role lacks the verb or the field", _) => {
            return Checked::LaterIssue(
                "access control: until then gRPC needs no credentials, and none expire",
            );
        }
        (_, "wrong cluster") => wrong_cluster(world).await,
        (_, "stale epoch") => {
            return Checked::LaterIssue("identity resolution: nothing has an epoch before it");
        }
        (_, "unknown shard") => {
            let request = TransferRequest { shard: 999_999, to_node: 1 };
            let status = ClusterServiceClient::new(channel).transfer(request).await.unwrap_err();
            refused(&status, Code::NotFound, "NOT_FOUND");
        }
        (_, "not leader") => {
            return Checked::ProvedBy("clients: any_node_takes_any_request (routers hide who leads)");
        }
        ("compare-and-set on an old version", _) => return Checked::LaterIssue("compare-and-set of traits"),
        (_, "deadline passed") => world.minority.deadline_passed().await,
        (_, "over a rate") => return Checked::LaterIssue("limits of rate per source"),
        (_, "over a mailbox limit") => world.minority.too_much_waits().await,
        (_, "disk full") => disk_full(world).await,
        (_, "no quorum") => world.minority.no_quorum().await,
        ("query over its memory or scan limit", _) => return Checked::LaterIssue("queries"),
        ("event for an erased person (write); read of one", _) => return Checked::LaterIssue("erasure"),
        (row, input) => panic!("no case for {row} / {input}"),
    }
    Checked::Held
}

/// Sends items that have to be refused as a whole.
async fn ingest(channel: &Channel, items: Vec<IngestItem>) -> Status {
    ask::send(channel, items).await.unwrap_err()
}

fn refused(status: &Status, code: Code, reason: &str) {
    assert_eq!((status.code(), ask::reason(status).as_str()), (code, reason), "{status}");
    assert!(status.message().len() > 10, "it says nothing for people: {status}");
}

/// Items of so many bytes each.
pub fn unreadable(count: usize, bytes: usize) -> Vec<IngestItem> {
    let item = UnreadableItem { content: vec![0; bytes].into(), ..UnreadableItem::default() };
    vec![IngestItem { body: Some(Body::Unreadable(item)), origin: String::new() }; count]
}

/// Some kilobytes that come to 16 MiB.
async fn bomb(channel: &Channel, encoding: &str) {
    let encoding = match encoding {
        "gzip" => CompressionEncoding::Gzip,
        "zstd" => CompressionEncoding::Zstd,
        other => panic!("no case for {other}"),
    };
    let request = IngestRequest { items: unreadable(1, 16 << 20), ..IngestRequest::default() };
    let mut client = IngestServiceClient::new(channel.clone()).send_compressed(encoding);
    let status = client.ingest(request).await.unwrap_err();
    refused(&status, Code::ResourceExhausted, "TOO_LARGE");
    // What is compressed and within the bounds is taken.
    let request =
        IngestRequest { items: vec![ask::json(ask::seen("packed", "packed"))], ..IngestRequest::default() };
    let result = client.ingest(request).await.unwrap().into_inner().results.remove(0);
    assert!(matches!(result.outcome(), ItemOutcome::Accepted | ItemOutcome::Duplicate), "{result:?}");
}

/// A call whose HTTP request has another content type than gRPC's.
async fn posted(mut channel: Channel, content_type: &str) -> Status {
    let request = http::Request::post(INGEST).header("content-type", content_type).header("te", "trailers");
    let request = request.body(tonic::body::Body::empty()).unwrap();
    let answer = channel.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(answer.status(), 415, "an HTTP client should see it, too");
    Status::from_header_map(answer.headers()).expect("a status in the headers")
}

/// Metadata is taken up to 16 KiB as HTTP/2 counts it (RFC 9113, section 6.5.2). What is longer is refused for its
/// stream alone, in HTTP's terms (RFC 6585: 431), which gRPC's clients show as a failed call.
async fn long_headers(mut channel: Channel) {
    let with = |bytes: usize| {
        let mut request = Request::new(StatusRequest {});
        request.metadata_mut().insert("x-long", "x".repeat(bytes).parse().unwrap());
        request
    };
    let mut client = ClusterServiceClient::new(channel.clone());
    client.status(with(15 << 10)).await.unwrap();
    for bytes in [16 << 10, 20 << 10] {
        let status = client.status(with(bytes)).await.unwrap_err();
        assert!(status.message().contains("431"), "{status}");
        let request = http::Request::post(INGEST).header("content-type", "application/grpc");
        let request = request.header("x-long", "x".repeat(bytes)).body(tonic::body::Body::empty()).unwrap();
        let answer = channel.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(answer.status(), http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    // And the connection's other streams go on.
    client.status(StatusRequest {}).await.unwrap();
}

async fn malformed(channel: &Channel, input: &str) {
    let deep = format!(
        r#"{{"type":"track","event":"Deep","userId":"u","a":{}1{}}}"#,
        "[".repeat(32),
        "]".repeat(32)
    );
    let number = |n: &str| format!(r#"{{"type":"track","event":"N","userId":"u","properties":{{"n":{n}}}}}"#);
    let (text, reason, place) = match input {
        "malformed JSON" => (br#"{"type":"track","#.to_vec(), "MALFORMED", "line 1, column"),
        "NaN" => (number("NaN").into(), "NOT_FINITE", "line 1, column"),
        "1e400" => (number("1e400").into(), "NOT_FINITE", "line 1, column"),
        "bad UTF-8" => (
            b"{\"type\":\"track\",\"event\":\"\xff\",\"userId\":\"u\"}".to_vec(),
            "MALFORMED",
            "line 1, column",
        ),
        "depth over 32" => (deep.into(), "TOO_DEEP", "line 1, column"),
        "truncated protobuf" => {
            // A list of items that ends in the middle of the first one; text that is not UTF-8; a made-up wire type.
            for bytes in [&[0x1a, 0x7f, 0x12][..], &[0x0a, 0x01, 0xff], &[0x0f]] {
                let status = raw(channel, bytes).await.unwrap_err();
                refused(&status, Code::InvalidArgument, "MALFORMED");
            }
            return;
        }
        other => panic!("no case for {other}"),
    };
    // JSON is an item's: the call is not refused for it, the item is kept, and its message says where it goes wrong.
    items::quarantined(channel, &format!("call {input}"), ask::json(text.clone()), reason).await;
    let again = ask::send(channel, vec![ask::json(text)]).await.unwrap();
    assert!(again.results[0].message.contains(place), "{}", again.results[0].message);
}

/// Bytes as they are for messages.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn raw(channel: &Channel, message: &[u8]) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let request = Request::new(Bytes::copy_from_slice(message));
    client
        .unary(request, http::uri::PathAndQuery::from_static(INGEST), Raw)
        .await
        .map(tonic::Response::into_inner)
}

/// Keys that were never given out, were rotated away, or whose source is disabled, wherever a key may stand.
async fn forged(channel: &Channel) {
    let mut sources = SourceServiceClient::new(channel.clone());
    let request = CreateRequest { name: "forged".into(), ..CreateRequest::default() };
    let first = sources.create(request).await.unwrap().into_inner().write_key;
    let second =
        sources.rotate(RotateRequest { name: "forged".into() }).await.unwrap().into_inner().write_key;
    let with = async |key: &str| {
        let items = vec![ask::json(ask::seen("forged", "forged"))];
        let request = IngestRequest { items, write_key: key.to_owned(), ..IngestRequest::default() };
        IngestServiceClient::new(channel.clone()).ingest(request).await
    };
    with(&second).await.unwrap();
    for key in ["no-such-key", &first, &"k".repeat(10_000)] {
        refused(&with(key).await.unwrap_err(), Code::Unauthenticated, "WRITE_KEY_INVALID");
    }
    sources.disable(DisableRequest { name: "forged".into() }).await.unwrap();
    refused(&with(&second).await.unwrap_err(), Code::Unauthenticated, "WRITE_KEY_INVALID");
    for (name, value) in [
        ("authorization", "Bearer no-such-key"),
        ("authorization", "Basic bm8ta2V5Og=="),
        ("authorization", "Basic ?"),
        ("x-write-key", "no"),
    ] {
        let mut request = Request::new(IngestRequest::default());
        request.metadata_mut().insert(name, MetadataValue::from_static(value));
        let status = IngestServiceClient::new(channel.clone()).ingest(request).await.unwrap_err();
        refused(&status, Code::Unauthenticated, "WRITE_KEY_INVALID");
    }
}

/// A node that has taken events and comes back to a disk with less room than it is to keep free.
async fn disk_full(world: &World) {
    let data = world.path().join("full");
    let mut cluster = Cluster::start(crate::options(data.clone(), 1, &[])).await;
    ask::accepted(&cluster.channel(0), vec![ask::json(ask::seen("full", "full-1"))]).await;
    assert_eq!(cluster.stop(0), Some(0));
    drop(cluster);
    // More than any disk has.
    let reserve = [("ISTHMUS_STORAGE__DISK_RESERVE", "1000000GiB")];
    let cluster = Cluster::start(crate::options(data.clone(), 1, &reserve)).await;
    let channel = cluster.channel(0);
    let items = vec![ask::json(ask::seen("full", "full-2")), ask::json(ask::seen("another", "full-3"))];
    let status = ingest(&channel, items).await;
    refused(&status, Code::Unavailable, "DISK_FULL");
    assert!(ask::says_when_to_come_back(&status), "{status}");
    // What is there can be read.
    assert_eq!(ask::profile(&channel, "user_id", "full").await.unwrap().event_counts["Seen"], 1);
    drop(cluster);
    // With room it goes on.
    let cluster = Cluster::start(crate::options(data, 1, &[])).await;
    ask::accepted(&cluster.channel(0), vec![ask::json(ask::seen("full", "full-2"))]).await;
    assert_eq!(ask::profile(&cluster.channel(0), "user_id", "full").await.unwrap().event_counts["Seen"], 2);
}

/// A stream between nodes that begins with another cluster's id, or means another node.
async fn wrong_cluster(world: &World) {
    let mut client = ClusterServiceClient::new(world.one.channel(0));
    let id = client.status(StatusRequest {}).await.unwrap().into_inner().cluster_id;
    let id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap()).collect();
    for (cluster_id, to_node, reason) in [(vec![7; 16], 1, "WRONG_CLUSTER"), (id, 9, "WRONG_NODE")] {
        let hello =
            PeerHello { cluster_id: cluster_id.into(), from_node: 2, to_node, ..PeerHello::default() };
        let frame = ExchangeRequest { hello: Some(hello), ..ExchangeRequest::default() };
        let mut peer = ShardServiceClient::new(cluster::channel(world.one.nodes[0].peer));
        let mut answers = peer.exchange(stream::iter([frame])).await.unwrap().into_inner();
        let status = answers.message().await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().starts_with(reason), "{status}");
    }
}
