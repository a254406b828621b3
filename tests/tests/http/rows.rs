//! Bad input: HTTP's column of the table, row by row. What needs nodes of its own is a test by itself.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use isthmus_proto::v1::{
    DisableRequest, ReplicaRole, RotateRequest, ShardsRequest, TransferRequest,
    cluster_service_client::ClusterServiceClient, source_service_client::SourceServiceClient,
};
use isthmus_tests::{ask, bad_input::Checked, cluster::PATIENCE};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    CANARY, Hub,
    client::{Answer, get, gzip, post, read, send},
    items, source,
};

const MIB: usize = 1 << 20;

fn seen(user: &str, id: &str) -> String {
    json!({"type": "track", "event": "Seen", "userId": user, "messageId": id}).to_string()
}

/// Goes through a case of the table, on one node.
pub async fn check(hub: &Hub, row: &str, input: &str) -> Checked {
    let (to, key) = (hub.http(), hub.key.as_str());
    match (row, input) {
        (_, "a message over 4 MiB") => too_large(to, key),
        (_, "2,501 items") => {
            let items = |count: usize| format!(r#"{{"batch":[{}0]}}"#, "0,".repeat(count - 1));
            post(to, key, "/v1/batch", items(2_501)).refused(400, "BATCH_TOO_MANY");
        }
        ("decompression bomb", "gzip") => {
            let bomb = gzip(padded(64 * MIB).as_bytes());
            assert!(bomb.len() < MIB);
            encoded(to, key, "gzip", bomb).refused(413, "TOO_LARGE");
        }
        // It isn't decompressed at all.
        ("decompression bomb", "zstd") => {
            let bomb = zstd::encode_all(padded(64 * MIB).as_bytes(), 1).unwrap();
            assert!(bomb.len() < MIB);
            encoded(to, key, "zstd", bomb).refused(415, "UNSUPPORTED_ENCODING");
        }
        (_, "unknown encoding") => {
            for coding in ["br", "zstd", "deflate", "gzip, gzip"] {
                encoded(to, key, coding, "{}").refused(415, "UNSUPPORTED_ENCODING");
            }
            encoded(to, key, "gzip", "nothing").refused(400, "MALFORMED");
        }
        (_, "unknown content type") => protobuf(to, key),
        ("malformed JSON, NaN, 1e400, bad UTF-8, depth over 32, truncated protobuf", input) => {
            malformed(to, key, input);
        }
        (_, "headers over 16 KB") => headers_over_the_bound(hub),
        (_, "missing credentials") => keys_that_are_missing(to),
        (_, "forged credentials") => keys_that_are_forged(to),
        // Write keys don't expire by themselves: they are rotated away, and sources disabled.
        (_, "expired credentials") => keys_that_are_over(hub).await,
        ("role lacks the verb or the field", _) => {
            return Checked::LaterIssue("access control: until then reads are for this machine alone");
        }
        ("wrong cluster, stale epoch, unknown shard, not leader", _) => {
            return Checked::ProvedBy("clients: any_node_takes_any_request (the router hides all of it)");
        }
        ("compare-and-set on an old version", _) => return Checked::LaterIssue("compare-and-set of traits"),
        (_, "deadline passed" | "over a mailbox limit" | "no quorum") => {
            return Checked::ProvedBy("http: a_minority_refuses_what_it_can_not_store");
        }
        (_, "over a rate") => return Checked::LaterIssue("limits of rate per source"),
        (_, "disk full") => return Checked::ProvedBy("http: a_full_disk_refuses_what_it_can_not_store"),
        ("query over its memory or scan limit", _) => return Checked::LaterIssue("queries"),
        ("event for an erased person (write); read of one", _) => return Checked::LaterIssue("erasure"),
        ("items, kept in quarantine", input) => return items::check(hub, input),
        (row, input) => panic!("no case for {row} / {input}"),
    }
    Checked::Held
}

fn padded(bytes: usize) -> String {
    format!("{}{}", " ".repeat(bytes - 2), "{}")
}

fn encoded(to: SocketAddr, key: &str, coding: &str, body: impl AsRef<[u8]>) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Encoding", coding)];
    send(to, "POST", "/v1/batch", &headers, body)
}

/// Over 4 MiB, as sent and decompressed; just within, it is looked at.
fn too_large(to: SocketAddr, key: &str) {
    post(to, key, "/v1/batch", padded(4 * MIB)).refused(400, "INVALID_BATCH");
    post(to, key, "/v1/batch", padded(4 * MIB + 1)).refused(413, "TOO_LARGE");
    post(to, key, "/v1/batch", padded(12 * MIB)).refused(413, "TOO_LARGE");
}

/// HTTP takes JSON alone, so protobuf that is cut off is refused as all protobuf is.
fn protobuf(to: SocketAddr, key: &str) {
    let bearer = format!("Bearer {key}");
    let binary = [("Authorization", bearer.as_str()), ("Content-Type", "application/x-protobuf")];
    send(to, "POST", "/v1/track", &binary, [8, 1]).refused(415, "UNSUPPORTED_CONTENT_TYPE");
}

/// Refused as a whole, with the place; nothing of the batch is stored.
fn malformed(to: SocketAddr, key: &str, input: &str) {
    let good = seen("whole", &format!("whole-{input}"));
    let deep = format!("{}1{}", "[".repeat(32), "]".repeat(32));
    let cases = match input {
        "malformed JSON" => {
            vec![(format!(r#"{{"type":"track","event":"{CANARY}"#).into_bytes(), "MALFORMED")]
        }
        "NaN" => vec![
            (br#"{"properties":{"n":NaN}}"#.to_vec(), "NOT_FINITE"),
            (br#"{"properties":{"n":-Infinity}}"#.to_vec(), "NOT_FINITE"),
        ],
        "1e400" => vec![(br#"{"properties":{"n":1e400}}"#.to_vec(), "NOT_FINITE")],
        "bad UTF-8" => vec![(b"{\"event\":\"\xff\"}".to_vec(), "MALFORMED")],
        "depth over 32" => vec![(format!(r#"{{"a":{deep}}}"#).into_bytes(), "TOO_DEEP")],
        "truncated protobuf" => return protobuf(to, key),
        other => panic!("no case for {other}"),
    };
    for (bad, reason) in cases {
        let batch = [b"{\"batch\":[\n", good.as_bytes(), b",\n", &bad, b"]}"].concat();
        let json = post(to, key, "/v1/batch", &batch).refused(400, reason);
        assert!(json["message"].as_str().unwrap().contains("at line 3, column "), "{json}");
        assert_eq!(json["error"]["metadata"]["line"], "3", "{json}");
        let json = post(to, key, "/v1/track", &bad).refused(400, reason);
        assert!(json["message"].as_str().unwrap().contains("at line 1, column "), "{json}");
    }
    for (body, reason) in [("", "MALFORMED"), ("7", "INVALID_BODY"), ("[]", "INVALID_BODY")] {
        post(to, key, "/v1/batch", body).refused(400, reason);
    }
    assert_eq!(get(to, "/v1/profiles/user_id:whole").status, 404, "something of it was stored");
}

fn headers_over_the_bound(hub: &Hub) {
    let with = |bytes: usize| {
        let headers = [("X-Write-Key", hub.key.as_str()), ("X-Long", &"x".repeat(bytes))];
        send(hub.http(), "POST", "/v1/track", &headers, seen("headers", "headers"))
    };
    with(15 << 10).stored(1, 0);
    for bytes in [16 << 10, 20 << 10, 200 << 10] {
        with(bytes).refused(431, "HEADERS_TOO_LARGE");
    }
    // What stands behind the path counts, and so does each header.
    let long = format!("/v1/track?x={}", "x".repeat(16 << 10));
    send(hub.http(), "POST", &long, &[("X-Write-Key", &hub.key)], seen("headers", "headers"))
        .refused(431, "HEADERS_TOO_LARGE");
    let many: Vec<(String, &str)> = (0..450).map(|n| (format!("X-{n}"), "x")).collect();
    let of = |count: usize| {
        let many = many[..count].iter().map(|(name, value)| (name.as_str(), *value));
        let headers: Vec<(&str, &str)> = many.chain([("X-Write-Key", hub.key.as_str())]).collect();
        send(hub.http(), "POST", "/v1/track", &headers, seen("headers", "many"))
    };
    of(200).stored(1, 0);
    of(450).refused(431, "HEADERS_TOO_LARGE");
    // Far above that nobody looks any more.
    assert_eq!(with(2 << 20).status, 431);
}

fn keys_that_are_missing(to: SocketAddr) {
    let event = seen("keys", "keys");
    send(to, "POST", "/v1/track", &[], &event).refused(401, "WRITE_KEY_MISSING");
    send(to, "POST", "/v1/track", &[("Authorization", "Basic Og==")], &event)
        .refused(401, "WRITE_KEY_MISSING");
}

fn keys_that_are_forged(to: SocketAddr) {
    let event = seen("keys", "keys");
    for value in ["Bearer no-such-key", "Basic bm8ta2V5Og==", "Basic ?", "Digest x", "Bearer"] {
        send(to, "POST", "/v1/track", &[("Authorization", value)], &event).refused(401, "WRITE_KEY_INVALID");
    }
    post(to, &format!("iswk_{}", "5a".repeat(32)), "/v1/track", &event).refused(401, "WRITE_KEY_INVALID");
    post(to, &"k".repeat(10_000), "/v1/track", &event).refused(401, "WRITE_KEY_INVALID");
}

async fn keys_that_are_over(hub: &Hub) {
    let (to, event) = (hub.http(), seen("keys", "keys"));
    let first = source(&hub.cluster, "keys").await;
    let mut sources = SourceServiceClient::new(hub.cluster.channel(0));
    let rotated = sources.rotate(RotateRequest { name: "keys".into() }).await.unwrap().into_inner().write_key;
    post(to, &first, "/v1/track", &event).refused(401, "WRITE_KEY_INVALID");
    post(to, &rotated, "/v1/track", &event).stored(1, 0);
    sources.disable(DisableRequest { name: "keys".into() }).await.unwrap();
    post(to, &rotated, "/v1/track", &event).refused(404, "SOURCE_DISABLED");
}

/// A client that stops in the middle of its body holds nothing for ever: it hears of it by the deadline.
pub async fn a_body_that_never_ends(hub: &Hub) {
    let data = tempfile::tempdir().unwrap();
    let hasty = Hub::start(data.path(), 1, &[("ISTHMUS_GRPC__DEADLINE", "300ms")]).await;
    let mut stream = TcpStream::connect(hasty.http()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "POST /v1/track HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{{"
    )
    .unwrap();
    read(stream).refused(408, "BODY_TOO_SLOW");
    // One that is cut off is nobody's problem but its own.
    let mut stream = TcpStream::connect(hub.http()).unwrap();
    write!(stream, "POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{").unwrap();
    drop(stream);
    post(hub.http(), &hub.key, "/v1/track", seen("after", "after")).stored(1, 0);
}

/// A node that comes back to a disk with less room than it is to keep free refuses what it can't store.
pub async fn a_full_disk(data: &Path) {
    let mut hub = Hub::start(data, 1, &[]).await;
    post(hub.http(), &hub.key, "/v1/track", seen("full", "full-1")).stored(1, 0);
    assert_eq!(hub.cluster.stop(0), Some(0));
    // More than any disk has.
    hub.cluster.set_environment(&[("ISTHMUS_STORAGE__DISK_RESERVE", "1000000GiB")]);
    hub.cluster.launch(0);
    hub.cluster.healthy().await;
    let answer = post(hub.http(), &hub.key, "/v1/track", seen("full", "full-2"));
    answer.refused(503, "DISK_FULL");
    assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u32>().unwrap() >= 1));
    assert_eq!(get(hub.http(), "/v1/profiles/user_id:full").json()["event_counts"]["Seen"], 1);
    assert_eq!(hub.cluster.stop(0), Some(0));
    hub.cluster.set_environment(&[]);
    hub.cluster.launch(0);
    hub.cluster.healthy().await;
    post(hub.http(), &hub.key, "/v1/track", seen("full", "full-2")).stored(1, 0);
}

/// Three nodes, of which two are killed: deadlines that pass, too much that waits, no quorum.
pub async fn a_minority(data: &Path) {
    // A leader that hears of nobody gives up after this many ticks, and not before the cases have used it. What waits
    // has to wait long enough for the rest to come.
    let slow = [("ISTHMUS_RAFT__ELECTION_TICKS", "200"), ("ISTHMUS_GRPC__DEADLINE", "3s")];
    let mut hub = Hub::start(data, 3, &slow).await;
    lead_all(&hub).await;
    let (to, key) = (hub.http(), hub.key.clone());
    post(to, &key, "/v1/track", seen("minority", "minority-0")).stored(1, 0);
    for index in [1, 2] {
        hub.cluster.kill(index);
    }
    // It leads every shard until it notices: what it proposes is not known to be stored by the deadline.
    let batch = |name: &str| {
        let items: Vec<String> =
            (0..40).map(|n| seen(&format!("{name}-{n}"), &format!("{name}-{n}"))).collect();
        format!(r#"{{"batch":[{}]}}"#, items.join(","))
    };
    let json = post(to, &key, "/v1/batch", batch("late")).refused(504, "OUTCOME_UNKNOWN");
    let unknown = json["unknown"].as_array().unwrap();
    assert_eq!((unknown.len(), &unknown[39]["index"]), (40, &39.into()));
    assert!(unknown.iter().all(|problem| problem["retryable"] == true && problem["message_id"] != ""));
    too_much_waits(to, &key).await;
    // After that it has no leader to send anything to, nor one to read from.
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = post(to, &key, "/v1/batch", batch("refused"));
        assert!([429, 503, 504].contains(&answer.status), "{answer:?}");
        let reason = answer.json()["error"]["reason"].as_str().unwrap().to_owned();
        if answer.status == 503 && ["NO_LEADER", "UNAVAILABLE"].contains(&reason.as_str()) {
            answer.refused(503, &reason);
            assert!(answer.header("retry-after").is_some());
            break;
        }
        assert!(Instant::now() < until, "it never refuses a write");
    }
    while get(to, "/v1/profiles/user_id:minority").status != 503 {
        assert!(Instant::now() < until, "it never refuses a read");
    }
    // With its peers back, what was sent again is stored once.
    for index in [1, 2] {
        hub.cluster.launch(index);
    }
    hub.cluster.healthy().await;
    // As an SDK does: until it is told that all is well.
    let again = loop {
        let answer = post(to, &key, "/v1/batch", batch("late"));
        if answer.status == 200 {
            break answer.json();
        }
        assert!(Instant::now() < until + PATIENCE, "{answer:?}");
    };
    assert_eq!(again["accepted"].as_u64().unwrap() + again["duplicate"].as_u64().unwrap(), 40, "{again}");
    for n in [0, 39] {
        let profile = ask::profile(&hub.cluster.channel(0), "user_id", &format!("late-{n}")).await.unwrap();
        assert_eq!(profile.event_counts["Seen"], 1);
    }
}

/// More than may be on its way at a time is refused at once, with a time to come back.
async fn too_much_waits(to: SocketAddr, key: &str) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let senders: Vec<_> = (0..48)
        .map(|_| {
            let key = key.to_owned();
            tokio::task::spawn_blocking(move || {
                // Too large to be events, so that they cost nothing before they are kept.
                let text = "x".repeat(33 << 10);
                let item = |_| format!(r#""{text}{}""#, NUMBER.fetch_add(1, Relaxed));
                let items: Vec<String> = (0..120).map(item).collect();
                let answer = post(to, &key, "/v1/batch", format!(r#"{{"batch":[{}]}}"#, items.join(",")));
                if answer.status == 429 {
                    answer.refused(429, "OVERLOADED");
                    assert!(
                        answer.header("retry-after").is_some_and(|wait| wait.parse::<u32>().unwrap() >= 1)
                    );
                }
                answer.status
            })
        })
        .collect();
    let statuses: Vec<u16> =
        futures::future::join_all(senders).await.into_iter().map(Result::unwrap).collect();
    assert!(statuses.contains(&429), "however much is sent, nothing is refused: {statuses:?}");
}

/// Makes the first node the leader of all shards.
async fn lead_all(hub: &Hub) {
    let mut client = ClusterServiceClient::new(hub.cluster.channel(0));
    let node = hub.cluster.nodes[0].id;
    let replicas = client.shards(within(ShardsRequest {})).await.unwrap().into_inner().replicas;
    for replica in
        replicas.iter().filter(|replica| replica.node == node && replica.role() != ReplicaRole::Leader)
    {
        let request = TransferRequest { shard: replica.shard, to_node: node };
        client.transfer(within(request)).await.unwrap();
    }
}

fn within<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(PATIENCE);
    request
}
