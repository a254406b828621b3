//! Bad input: HTTP's column of the table, row by row.

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
use isthmus_tests::{ask, cluster::PATIENCE};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    CANARY, Hub,
    client::{get, gzip, post, read, send},
    source,
};

const MIB: usize = 1 << 20;

fn seen(user: &str, id: &str) -> String {
    json!({"type": "track", "event": "Seen", "userId": user, "messageId": id}).to_string()
}

pub async fn bodies_that_are_too_large_or_make_no_sense(hub: &Hub) {
    let (to, key) = (hub.http(), hub.key.as_str());
    // Over 4 MiB, as sent and decompressed; just within, it is looked at.
    let padded = |bytes: usize| format!("{}{}", " ".repeat(bytes - 2), "{}");
    post(to, key, "/v1/batch", padded(4 * MIB)).refused(400, "INVALID_BATCH");
    post(to, key, "/v1/batch", padded(4 * MIB + 1)).refused(413, "TOO_LARGE");
    post(to, key, "/v1/batch", padded(12 * MIB)).refused(413, "TOO_LARGE");
    let bearer = format!("Bearer {key}");
    let bomb = gzip(padded(64 * MIB).as_bytes());
    assert!(bomb.len() < MIB);
    let packed = [("Authorization", bearer.as_str()), ("Content-Encoding", "gzip")];
    send(to, "POST", "/v1/batch", &packed, bomb).refused(413, "TOO_LARGE");
    // Over 2,500 items.
    let items = |count: usize| format!(r#"{{"batch":[{}0]}}"#, "0,".repeat(count - 1));
    post(to, key, "/v1/batch", items(2_501)).refused(400, "BATCH_TOO_MANY");
    // Encodings.
    for coding in ["br", "zstd", "deflate", "gzip, gzip"] {
        let headers = [("Authorization", bearer.as_str()), ("Content-Encoding", coding)];
        send(to, "POST", "/v1/track", &headers, "{}").refused(415, "UNSUPPORTED_ENCODING");
    }
    let binary = [("Authorization", bearer.as_str()), ("Content-Type", "application/x-protobuf")];
    send(to, "POST", "/v1/track", &binary, [8, 1]).refused(415, "UNSUPPORTED_CONTENT_TYPE");
    let headers = [("Authorization", bearer.as_str()), ("Content-Encoding", "gzip")];
    send(to, "POST", "/v1/track", &headers, "nothing").refused(400, "MALFORMED");
    malformed(to, key);
}

/// Refused as a whole, with the place; nothing of the batch is stored.
fn malformed(to: SocketAddr, key: &str) {
    let good = seen("whole", "whole-1");
    let deep = format!("{}1{}", "[".repeat(32), "]".repeat(32));
    for (bad, reason) in [
        (format!(r#"{{"type":"track","event":"{CANARY}"#).into_bytes(), "MALFORMED"),
        (br#"{"properties":{"n":NaN}}"#.to_vec(), "NOT_FINITE"),
        (br#"{"properties":{"n":-Infinity}}"#.to_vec(), "NOT_FINITE"),
        (br#"{"properties":{"n":1e400}}"#.to_vec(), "NOT_FINITE"),
        (b"{\"event\":\"\xff\"}".to_vec(), "MALFORMED"),
        (format!(r#"{{"a":{deep}}}"#).into_bytes(), "TOO_DEEP"),
    ] {
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

pub async fn headers_over_the_bound(hub: &Hub) {
    let with = |bytes: usize| {
        let headers = [("X-Write-Key", hub.key.as_str()), ("X-Long", &"x".repeat(bytes))];
        send(hub.http(), "POST", "/v1/track", &headers, seen("headers", "headers"))
    };
    with(15 << 10).stored(1, 0);
    for bytes in [16 << 10, 20 << 10, 200 << 10] {
        with(bytes).refused(431, "HEADERS_TOO_LARGE");
    }
    // Far above that nobody looks any more.
    assert_eq!(with(2 << 20).status, 431);
}

pub async fn keys_that_are_none(hub: &Hub) {
    let (to, event) = (hub.http(), seen("keys", "keys"));
    send(to, "POST", "/v1/track", &[], &event).refused(401, "WRITE_KEY_MISSING");
    send(to, "POST", "/v1/track", &[("Authorization", "Basic Og==")], &event)
        .refused(401, "WRITE_KEY_MISSING");
    for value in ["Bearer no-such-key", "Basic bm8ta2V5Og==", "Basic ?", "Digest x", "Bearer"] {
        send(to, "POST", "/v1/track", &[("Authorization", value)], &event).refused(401, "WRITE_KEY_INVALID");
    }
    post(to, &format!("iswk_{}", "5a".repeat(32)), "/v1/track", &event).refused(401, "WRITE_KEY_INVALID");
    post(to, &"k".repeat(10_000), "/v1/track", &event).refused(401, "WRITE_KEY_INVALID");
    let first = source(&hub.cluster, "keys").await;
    let mut sources = SourceServiceClient::new(hub.cluster.channel(0));
    let rotated = sources.rotate(RotateRequest { name: "keys".into() }).await.unwrap().into_inner().write_key;
    post(to, &first, "/v1/track", &event).refused(401, "WRITE_KEY_INVALID");
    post(to, &rotated, "/v1/track", &event).stored(1, 0);
    sources.disable(DisableRequest { name: "keys".into() }).await.unwrap();
    post(to, &rotated, "/v1/track", &event).refused(404, "SOURCE_DISABLED");
}

/// Items that are kept, each in the middle of a good batch: 200, with its result.
pub async fn items_that_are_kept(hub: &Hub) {
    let track = |fields: &str| format!(r#"{{"type":"track","event":"Seen",{fields}}}"#);
    let of_user = |fields: &str| track(&format!(r#""userId":"{CANARY}",{fields}"#));
    let first = of_user(r#""messageId":"same","properties":{"n":1}"#);
    post(hub.http(), &hub.key, "/v1/track", first).stored(1, 0);
    for (n, (item, reason)) in [
        (of_user(&format!(r#""x":"{}""#, "x".repeat(33 << 10))), "EVENT_TOO_LARGE"),
        (track(r#""x":1"#), "NO_IDENTIFIER"),
        (track(r#""userId":" ""#), "IDENTIFIER_BLANK"),
        (track(&format!(r#""userId":"{}""#, CANARY.repeat(60))), "IDENTIFIER_TOO_LONG"),
        (track(r#""userId":"a\u0007""#), "IDENTIFIER_FORBIDDEN_CHARACTER"),
        (track(r#""userId":"a\u0000b""#), "IDENTIFIER_FORBIDDEN_CHARACTER"),
        (track(r#""userId":"a\u202eb""#), "IDENTIFIER_FORBIDDEN_CHARACTER"),
        (format!(r#"{{"type":"track","userId":"{CANARY}"}}"#), "EVENT_NAME_MISSING"),
        (format!(r#"{{"type":"jump","userId":"{CANARY}"}}"#), "TYPE_UNKNOWN"),
        (of_user(r#""properties":{"n":18446744073709551616}"#), "INTEGER_TOO_LARGE"),
        (of_user(r#""properties":{"n":1,"n":2}"#), "DUPLICATE_KEY"),
        (of_user(r#""timestamp":"yesterday""#), "TIMESTAMP_INVALID"),
        (of_user(r#""timestamp":"2924-05-31T18:00:00Z""#), "TIMESTAMP_IN_FUTURE"),
        (of_user(r#""timestamp":"1924-05-31T18:00:00Z""#), "TIMESTAMP_BEFORE_1970"),
        (of_user(&format!(r#""messageId":"{}""#, "m".repeat(101))), "MESSAGE_ID_TOO_LONG"),
        (of_user(r#""messageId":"same","properties":{"n":2}"#), "MESSAGE_ID_CONFLICT"),
    ]
    .into_iter()
    .enumerate()
    {
        let good = |side: &str| seen("items", &format!("items-{n}-{side}"));
        let batch = format!(r#"{{"batch":[{},{item},{}]}}"#, good("before"), good("behind"));
        let answer = post(hub.http(), &hub.key, "/v1/batch", batch).stored(2, 0);
        let kept = &answer["quarantined"][0];
        assert_eq!((&kept["index"], &kept["reason"]), (&1.into(), &reason.into()), "{answer}");
        assert!(
            !answer.to_string().contains(CANARY) && kept["message"].as_str().unwrap().len() > 10,
            "{answer}"
        );
    }
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
