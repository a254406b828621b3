//! Profiles over HTTP, and who may see them.

use isthmus_tests::cli::Cli;
use serde_json::{Value, json};

use crate::{
    Hub,
    client::{get, post, send},
};

fn cli() -> Cli {
    Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()])
}

/// Sends what the reads of this file show; the version token of it.
fn fill(hub: &Hub) -> String {
    let traits: serde_json::Map<String, Value> =
        (0..25).map(|n| (format!("trait{n:02}"), json!([n, 1.0, null]))).collect();
    let mut batch = vec![
        json!({"type": "identify", "userId": "read", "anonymousId": "read-a", "messageId": "i", "traits": traits,
            "timestamp": "2024-05-31T18:00:00Z"}),
        json!({"type": "identify", "userId": "read", "messageId": "e", "traits": {"email": "Read@Example.com"},
            "timestamp": "2024-05-31T18:00:01Z"}),
    ];
    for n in 0..12 {
        batch.push(json!({"type": "track", "event": "Bought", "userId": "read", "messageId": format!("b-{n}"),
            "timestamp": format!("2024-06-01T18:00:{n:02}Z"), "properties": {"revenue": "3.50", "big": u64::MAX}}));
    }
    let answer = post(hub.http(), &hub.key, "/v1/batch", json!({"batch": batch}).to_string()).json();
    let stored = answer["accepted"].as_u64().unwrap() + answer["duplicate"].as_u64().unwrap();
    assert_eq!(stored, 14, "{answer}");
    answer["version"].as_str().unwrap().to_owned()
}

/// The same object as the CLI prints, whichever of its identifiers, or its id, is asked for.
pub async fn profiles_are_as_the_cli_shows_them(hub: &Hub) {
    fill(hub);
    let shown = cli().json(&hub.cluster.endpoints(), &["profile", "get", "user_id:read"]);
    let shown = shown.last();
    let id = shown["profile_id"].as_str().unwrap();
    let paths =
        ["user_id:read", "anonymous_id:read-a", "email:read%40example.com", "email:%20READ@example.com", id];
    for path in paths {
        let mut found = get(hub.cluster.nodes[1].http, &format!("/v1/profiles/{path}")).json();
        // Each read is as new as its moment.
        found["version"] = shown["version"].clone();
        assert_eq!(found, shown, "{path}");
    }
    assert_eq!((&shown["event_counts"]["Bought"], &shown["revenue"]), (&json!(12), &json!("42.00")));
    let timeline = cli().json(&hub.cluster.endpoints(), &["profile", "timeline", "user_id:read"]).objects();
    let events = get(hub.http(), "/v1/profiles/user_id:read/events").json();
    assert_eq!(events["data"].as_array().unwrap(), &timeline);
    assert_eq!(events["data"][0]["properties"]["big"], json!(u64::MAX));
}

/// Every list, page by page: all of it, once, in order.
pub async fn lists_come_in_pages(hub: &Hub) {
    fill(hub);
    for (list, limit, count) in [("traits", 10, 26), ("identifiers", 2, 3), ("events", 5, 14)] {
        let whole = get(hub.http(), &format!("/v1/profiles/user_id:read/{list}")).json();
        assert_eq!(whole["cursor"], json!({"has_more": false, "next": null, "limit": 100}), "{list}");
        let whole = whole["data"].as_array().unwrap();
        assert_eq!(whole.len(), count, "{list}");
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            // Any node goes on where another one stopped.
            let node = hub.cluster.nodes[seen.len() % 3].http;
            let page =
                get(node, &format!("/v1/profiles/user_id:read/{list}?limit={limit}&cursor={next}")).json();
            let data = page["data"].as_array().unwrap();
            assert!(!data.is_empty() && data.len() <= limit && page["cursor"]["limit"] == limit, "{page}");
            seen.extend(data.clone());
            match page["cursor"]["next"].as_str() {
                Some(cursor) if page["cursor"]["has_more"] == true => next = cursor.to_owned(),
                _ => break,
            }
        }
        assert_eq!(&seen, whole, "{list}");
    }
    let traits = get(hub.http(), "/v1/profiles/user_id:read/traits?limit=1").json();
    assert_eq!(traits["data"][0], json!({"name": "email", "value": "Read@Example.com"}));
    let identifiers = get(hub.http(), "/v1/profiles/user_id:read/identifiers").json();
    assert_eq!(identifiers["data"][2], json!({"namespace": "user_id", "value": "read"}));
}

pub async fn a_version_token_is_covered_on_any_node(hub: &Hub) {
    for n in 0..20 {
        let event = json!({"event": "Seen", "userId": format!("token-{n}"), "messageId": "t"}).to_string();
        let version = post(hub.http(), &hub.key, "/v1/track", event).stored(1, 0)["version"].clone();
        for node in &hub.cluster.nodes {
            let path = format!("/v1/profiles/user_id:token-{n}?min_version={}", version.as_str().unwrap());
            assert_eq!(get(node.http, &path).json()["event_counts"]["Seen"], 1, "node {}", node.id);
        }
    }
}

pub async fn what_makes_no_sense_is_refused(hub: &Hub) {
    for (path, status, reason) in [
        ("/v1/profiles/user_id:nobody", 404, "NOT_FOUND"),
        ("/v1/profiles/user_id:nobody/traits", 404, "NOT_FOUND"),
        ("/v1/profiles/user_id:nobody/events", 404, "NOT_FOUND"),
        ("/v1/profiles/00000000000000000000000000000000", 404, "NOT_FOUND"),
        ("/v1/profiles/nobody", 400, "INVALID_KEY"),
        ("/v1/profiles/user_id:%ff", 400, "INVALID_KEY"),
        ("/v1/profiles/user_id:%00", 400, "INVALID_IDENTIFIER"),
        ("/v1/profiles/no-namespace!:1", 400, "INVALID_IDENTIFIER"),
        ("/v1/profiles/user_id:read?min_version=7", 400, "INVALID_VERSION"),
        ("/v1/profiles/user_id:read/segments?min_version=7", 400, "INVALID_VERSION"),
        ("/v1/profiles/user_id:read/segments?limit=0", 400, "INVALID_LIMIT"),
        ("/v1/profiles/user_id:read?limit=7", 400, "INVALID_QUERY"),
        ("/v1/profiles/user_id:read?canary=7", 400, "INVALID_QUERY"),
        ("/v1/profiles/user_id:read/events?limit=0", 400, "INVALID_LIMIT"),
        ("/v1/profiles/user_id:read/events?limit=1001", 400, "INVALID_LIMIT"),
        ("/v1/profiles/user_id:read/traits?limit=x", 400, "INVALID_LIMIT"),
        ("/v1/profiles/user_id:read/traits?cursor=x", 400, "INVALID_CURSOR"),
        ("/v1/profiles/user_id:read/events?cursor=0101", 400, "INVALID_CURSOR"),
        ("/v1/profiles/user_id:read/nothing", 404, "UNKNOWN_PATH"),
    ] {
        get(hub.http(), path).refused(status, reason);
    }
    let posted = post(hub.http(), &hub.key, "/v1/profiles/user_id:read", "{}");
    posted.refused(405, "UNKNOWN_METHOD");
    assert_eq!(posted.header("allow"), Some("GET,HEAD"));
}

/// A page of elsewhere gets nothing, by whatever name it reaches the port; a write key doesn't help.
pub async fn nobody_reads_from_elsewhere(hub: &Hub) {
    let (port, own) = (hub.http().port(), hub.http().to_string());
    let bearer = format!("Bearer {}", hub.key);
    let ask = |headers: &[(&str, &str)]| send(hub.http(), "GET", "/v1/profiles/user_id:read", headers, "");
    for host in [format!("localhost:{port}"), own.clone(), "127.0.0.1".into(), format!("[::1]:{port}")] {
        assert_eq!(ask(&[("Host", &host)]).status, 200, "{host}");
        assert_eq!(ask(&[("Host", &host), ("Origin", &format!("http://{host}"))]).status, 200, "{host}");
    }
    for headers in [
        &[("Host", "rebound.example")][..],
        &[("Host", "rebound.example"), ("Authorization", &bearer)],
        &[("Host", "127.0.0.1.rebound.example")],
        &[("Host", &own), ("Origin", "http://evil.example")],
        &[("Host", &own), ("Origin", "null")],
        &[("Host", &own), ("Origin", &format!("http://127.0.0.1:{}", port - 1))],
    ] {
        let answer = ask(headers);
        answer.refused(403, "NOT_LOCAL");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    an_open_listener_shows_nothing().await;
}

/// A node whose port is open to others takes events, and shows nobody a profile, not even by the name of loopback.
async fn an_open_listener_shows_nothing() {
    use isthmus_tests::cluster::{Cluster, ClusterOptions};
    let folder = tempfile::tempdir().unwrap();
    let mut options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.path(), 1);
    options.http_host = std::net::Ipv4Addr::UNSPECIFIED;
    options.arguments = vec!["--insecure-plaintext".into(), "--advertise-host".into(), "127.0.0.1".into()];
    let cluster = Cluster::start(options).await;
    let key = crate::source(&cluster, "open").await;
    let to = std::net::SocketAddr::from(([127, 0, 0, 1], cluster.nodes[0].http.port()));
    let event = json!({"event": "Seen", "userId": "open", "messageId": "open"}).to_string();
    post(to, &key, "/v1/track", event).stored(1, 0);
    let json = get(to, "/v1/profiles/user_id:open").refused(403, "NOT_LOCAL");
    assert!(json["message"].as_str().unwrap().contains("http_listen"), "{json}");
}
