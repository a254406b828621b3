//! What real senders send: paths, keys, types, encodings, and what surrounds an event.

use std::path::Path;

use isthmus_proto::v1::{
    DisableRequest, QuarantineServiceListRequest, TimelineEvent, TimelineRequest,
    profile_service_client::ProfileServiceClient, source_service_client::SourceServiceClient,
};
use isthmus_tests::{ask, cli::Cli};
use serde_json::{Value, json};

use crate::{
    Hub,
    client::{Answer, get, gzip, post, send},
    source,
};

/// The events of a user, newest first.
async fn events(hub: &Hub, user: &str) -> Vec<TimelineEvent> {
    let request = TimelineRequest { key: ask::key("user_id", user), ..TimelineRequest::default() };
    let mut client = ProfileServiceClient::new(hub.cluster.channel(0));
    client.timeline(request).await.unwrap().into_inner().events
}

/// Each path by its long and short name, with no type, with null and with its own; another one is refused.
pub async fn each_path_takes_its_type(hub: &Hub) {
    let kinds = [
        ("identify", "i", json!({"traits": {"plan": "free"}})),
        ("track", "t", json!({"event": "Seen"})),
        ("page", "p", json!({"name": "Home"})),
        ("screen", "s", json!({"name": "Home"})),
        ("group", "g", json!({"groupId": "g1"})),
        ("alias", "a", json!({"previousId": "path-old"})),
    ];
    for (kind, short, fields) in &kinds {
        let with = |more: Value| {
            let mut event = fields.clone();
            let all = event.as_object_mut().unwrap();
            all.insert("userId".into(), "path".into());
            all.extend(more.as_object().unwrap().clone());
            event.to_string()
        };
        let (long, short) = (format!("/v1/{kind}"), format!("/v1/{short}"));
        post(hub.http(), &hub.key, &long, with(json!({"messageId": format!("{kind}-1")}))).stored(1, 0);
        let typed = with(json!({"type": kind, "messageId": format!("{kind}-2")}));
        post(hub.http(), &hub.key, &short, &typed).stored(1, 0);
        post(hub.http(), &hub.key, &long, typed).stored(0, 1);
        let null = with(json!({"type": null, "messageId": format!("{kind}-1")}));
        post(hub.http(), &hub.key, &short, null).stored(0, 1);
        let other = if *kind == "track" { "page" } else { "track" };
        let refused = post(hub.http(), &hub.key, &long, with(json!({"type": other})));
        refused.refused(400, "TYPE_MISMATCH");
    }
    for (n, path) in ["/v1/batch", "/v1/b", "/v1/import"].into_iter().enumerate() {
        let batch = json!({"batch": [
            {"type": "track", "event": "Seen", "userId": "path", "messageId": format!("batch-{n}")},
            {"type": "page", "userId": "path", "messageId": format!("batched-page-{n}")},
        ]});
        post(hub.http(), &hub.key, path, batch.to_string()).stored(2, 0);
    }
    post(hub.http(), &hub.key, "/v1/batch", r#"{"batch":[]}"#).stored(0, 0);
    let profile = ask::profile(&hub.cluster.channel(1), "user_id", "path").await.unwrap();
    for (kind, ..) in kinds.iter().filter(|(kind, ..)| *kind != "track") {
        let further = if *kind == "page" { 3 } else { 0 };
        assert_eq!(profile.type_counts.get(*kind), Some(&(2 + further)), "{kind}: {:?}", profile.type_counts);
    }
    assert_eq!(profile.event_counts["Seen"], 5);
    assert_eq!(profile.sources, ["web"]);
    assert!(profile.identifiers.iter().any(|id| id.value == "path-old"), "the alias holds");
    // Browser SDKs count themselves, and need an answer.
    let counted = send(hub.http(), "POST", "/v1/m", &[("Content-Type", "text/plain")], r#"{"series":[]}"#);
    assert_eq!((counted.status, counted.body.len()), (204, 0));
    assert_eq!(get(hub.http(), "/v1/track").status, 405);
    get(hub.http(), "/v1/nothing").refused(404, "UNKNOWN_PATH");
}

pub async fn a_key_is_found_wherever_it_stands(hub: &Hub) {
    let to = |headers: &[(&str, &str)], in_body: Option<&str>| {
        let event = json!({"event": "Seen", "userId": "keyed", "messageId": "keyed", "writeKey": in_body});
        send(hub.http(), "POST", "/v1/track", headers, event.to_string())
    };
    let padded = base64(format!("{}:", hub.key).as_bytes());
    let basic = format!("Basic {padded}");
    let unpadded = format!("Basic {}", padded.trim_end_matches('='));
    let bearer = format!("Bearer {}", hub.key);
    to(&[("Authorization", &basic)], None).stored(1, 0);
    to(&[("Authorization", &unpadded)], None).stored(0, 1);
    to(&[("Authorization", &bearer)], None).stored(0, 1);
    to(&[("X-Write-Key", &hub.key)], None).stored(0, 1);
    to(&[], Some(&hub.key)).stored(0, 1);
    to(&[("Authorization", &basic)], Some(&hub.key)).stored(0, 1);
    to(&[("Authorization", &basic)], Some("another")).refused(400, "WRITE_KEY_MISMATCH");
    // The key is no part of the event.
    for event in events(hub, "keyed").await {
        assert!(!event.context_json.contains(&hub.key), "{}", event.context_json);
    }
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three.iter().chain([&0; 3]).take(3).fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let digit = |n: usize| match n <= three.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * n) & 63) as usize]),
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

pub async fn json_is_taken_whatever_is_declared(hub: &Hub) {
    let event = r#"{"event":"Seen","userId":"declared","messageId":"declared"}"#;
    let bearer = format!("Bearer {}", hub.key);
    let with = |headers: &[(&str, &str)], body: &[u8]| {
        let headers = [headers, &[("Authorization", bearer.as_str())]].concat();
        send(hub.http(), "POST", "/v1/t", &headers, body)
    };
    with(&[], event.as_bytes()).stored(1, 0);
    for kind in [
        "application/json; charset=utf-8",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "nonsense",
        "",
    ] {
        with(&[("Content-Type", kind)], event.as_bytes()).stored(0, 1);
    }
    let packed = gzip(event.as_bytes());
    with(&[("Content-Encoding", "gzip")], &packed).stored(0, 1);
    with(&[("Content-Encoding", "identity"), ("Content-Type", "text/plain")], event.as_bytes()).stored(0, 1);
    // What it is shows, whatever the header says.
    with(&[], &packed).stored(0, 1);
    with(&[("Content-Encoding", "gzip")], event.as_bytes()).stored(0, 1);
    with(&[("Content-Type", "application/x-protobuf")], &[8, 1]).refused(415, "UNSUPPORTED_CONTENT_TYPE");
}

pub async fn absent_ids_may_be_null_and_unknown_fields_are_kept(hub: &Hub) {
    let event = json!({
        "event": "Seen", "userId": "nulls", "anonymousId": null, "groupId": null, "messageId": null,
        "timestamp": null, "context": null, "integrations": null, "properties": {"a": null},
        "somethingNew": {"deep": [1, 18446744073709551615u64]},
    });
    post(hub.http(), &hub.key, "/v1/track", event.to_string()).stored(1, 0);
    let found = events(hub, "nulls").await.remove(0);
    assert!(found.context_json.contains(r#""somethingNew":{"deep":[1,18446744073709551615]}"#), "{found:?}");
    assert_eq!(found.properties_json, r#"{"a":null}"#);
    assert!(found.message_id.starts_with("made-"));
}

pub async fn the_top_of_a_batch_goes_into_its_events(hub: &Hub) {
    let batch = json!({
        "context": {"app": {"name": "shop", "build": 7}, "locale": "de"},
        "integrations": {"All": false},
        "sentAt": "2024-05-31T18:00:10Z",
        "batch": [{"type": "track", "event": "Seen", "userId": "top", "messageId": "top",
            "context": {"app": {"name": "other"}}, "originalTimestamp": "2024-05-31T18:00:00Z"}],
    });
    post(hub.http(), &hub.key, "/v1/batch", batch.to_string()).stored(1, 0);
    let found = events(hub, "top").await.remove(0);
    let context: Value = serde_json::from_str(&found.context_json).unwrap();
    assert_eq!(context["context"], json!({"app": {"name": "other", "build": 7}, "locale": "de"}));
    assert_eq!(context["integrations"], json!({"All": false}));
    // Ten seconds before it was received, by its own clock.
    let (at, received) = (found.timestamp.unwrap(), found.received_at.unwrap());
    assert_eq!(received.seconds - at.seconds, 10, "{at:?} {received:?}");
    // A sentAt that is no time is each event's own problem.
    let batch = json!({"sentAt": "soon", "batch": [{"type": "page", "userId": "top", "messageId": "soon"}]});
    let answer = post(hub.http(), &hub.key, "/v1/batch", batch.to_string()).stored(0, 0);
    assert_eq!(answer["quarantined"][0]["reason"], "TIMESTAMP_INVALID", "{answer}");
}

/// As SDKs do it: with another `sentAt`, and browser SDKs with a count of attempts.
pub async fn an_event_that_is_sent_again_counts_once(hub: &Hub) {
    let attempt = |n: u32| {
        json!({
            "event": "Seen", "userId": "again", "messageId": "again", "sentAt": format!("2024-05-31T18:00:0{n}Z"),
            "timestamp": "2024-05-31T18:00:00Z", "_metadata": {"bundled": ["Segment.io"], "retryCount": n},
        })
    };
    post(hub.http(), &hub.key, "/v1/t", attempt(1).to_string()).stored(1, 0);
    for n in 2..4 {
        let other_node = hub.cluster.nodes[n as usize - 1].http;
        post(other_node, &hub.key, "/v1/t", attempt(n).to_string()).stored(0, 1);
    }
    let found = events(hub, "again").await.remove(0);
    assert!(found.context_json.contains(r#""_metadata":{"bundled":["Segment.io"]}"#), "{found:?}");
}

pub async fn a_bad_event_in_a_good_batch_is_kept_alone(hub: &Hub) {
    let batch = json!({"batch": [
        {"type": "track", "event": "Seen", "userId": "good", "messageId": "good-1"},
        {"type": "track", "event": "Seen", "messageId": "bad"},
        "no event",
        {"type": "track", "event": "Seen", "userId": "good", "messageId": "good-2"},
    ]});
    let answer = post(hub.http(), &hub.key, "/v1/batch", batch.to_string()).stored(2, 0);
    let kept = answer["quarantined"].as_array().unwrap();
    assert_eq!((&kept[0]["index"], &kept[0]["reason"]), (&1.into(), &"NO_IDENTIFIER".into()));
    assert_eq!((&kept[0]["message_id"], &kept[0]["retryable"]), (&"bad".into(), &false.into()));
    assert_eq!((&kept[1]["index"], &kept[1]["reason"]), (&2.into(), &"MALFORMED".into()));
    assert_eq!((kept.len(), answer["rejected"].as_array().unwrap().len()), (2, 0));
    let list = QuarantineServiceListRequest { source: "web".into(), ..Default::default() };
    let entries = ask::quarantined(&hub.cluster.channel(1), list).await;
    assert!(entries.iter().any(|entry| entry.message_id == "bad"), "{entries:?}");
}

/// A schema that rejects: part of a batch is told in a 200, all of it in a 400.
pub async fn what_a_policy_rejects_is_never_called_stored(hub: &Hub, folder: &Path) {
    let cli = Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]);
    let file = folder.join("strict.json");
    std::fs::write(&file, r#"{"properties":{"quantity":{"type":"number"}}}"#).unwrap();
    let file = file.display().to_string();
    let put = ["schema", "put", &file, "--name", "track:Strict", "--policy", "reject"];
    let done = cli.json(&hub.cluster.endpoints(), &put);
    assert_eq!(done.code, 0, "{}", done.err);
    let order = |quantity: &str, id: &str| json!({"type": "track", "event": "Strict", "userId": "strict", "messageId": id, "properties": {"quantity": quantity}});
    let bad = json!({"batch": [order("ten", "s-1")]}).to_string();
    // Other nodes hear of it within moments; this one may be one of them.
    let refused = loop {
        let answer = post(hub.http(), &hub.key, "/v1/batch", &bad);
        if answer.status != 200 {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    let json = refused.refused(400, "SCHEMA_VIOLATION");
    assert_eq!(json["rejected"][0]["reason"], "SCHEMA_VIOLATION");
    let mut batch = json!({"batch": [order("ten", "s-2")]});
    let good = json!({"type": "track", "event": "Strict", "userId": "strict", "messageId": "s-3", "properties": {"quantity": 10}});
    batch["batch"].as_array_mut().unwrap().push(good);
    let json = post(hub.http(), &hub.key, "/v1/batch", batch.to_string()).stored(1, 0);
    assert_eq!(json["rejected"][0]["index"], 0, "{json}");
}

pub async fn browsers_may_send_from_any_page(hub: &Hub) {
    const PAGE: (&str, &str) = ("Origin", "https://shop.example");
    let open = |answer: &Answer| {
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://shop.example"));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
        assert!(answer.headers.iter().any(|(name, value)| name == "vary" && value == "Origin"));
    };
    let ask = |path: &str| {
        let asked = [
            PAGE,
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization,content-type,x-retry-count"),
        ];
        send(hub.http(), "OPTIONS", path, &asked, "")
    };
    for path in ["/v1/batch", "/v1/t", "/v1/m", "/v1/projects/any/settings"] {
        let answer = ask(path);
        assert_eq!(answer.status, 204, "{path}");
        open(&answer);
        let allowed = answer.header("access-control-allow-headers");
        assert_eq!(allowed, Some("authorization,content-type,x-retry-count"));
    }
    // The paths of reads are open to no page.
    for path in ["/v1/profiles/user_id:path", "/metrics", "/v1/openapi.json"] {
        assert_eq!(ask(path).header("access-control-allow-origin"), None, "{path}");
    }
    // Refusals can be read by the page too, or its SDK would not know what to do.
    let event = r#"{"event":"Seen","userId":"page","messageId":"page"}"#;
    let answer = send(hub.http(), "POST", "/v1/t", &[PAGE], event);
    answer.refused(401, "WRITE_KEY_MISSING");
    open(&answer);
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("retry-after") && exposed.contains("x-request-id"));
    let long = "x".repeat(17 << 10);
    let answer = send(hub.http(), "POST", "/v1/t", &[PAGE, ("Cookie", &long)], event);
    answer.refused(431, "HEADERS_TOO_LARGE");
    open(&answer);
}

pub async fn an_sdk_is_told_to_send_here(hub: &Hub) {
    let path = format!("/v1/projects/{}/settings", hub.key);
    let answer = send(hub.http(), "GET", &path, &[("Origin", "https://shop.example")], "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://shop.example"));
    let settings = answer.json();
    let integration = &settings["integrations"]["Segment.io"];
    assert_eq!(integration["apiHost"], format!("{}/v1", hub.http()));
    assert_eq!((&integration["apiKey"], &integration["protocol"]), (&json!(hub.key), &json!("http")));
    // By any name, and behind a proxy that ends TLS.
    let proxied = [("Host", "hub.example"), ("X-Forwarded-Proto", "https")];
    let settings = send(hub.http(), "GET", &path, &proxied, "").json();
    assert_eq!(settings["integrations"]["Segment.io"]["apiHost"], "hub.example/v1");
    assert_eq!(settings["integrations"]["Segment.io"]["protocol"], "https");
    get(hub.http(), "/v1/projects/no-such-key/settings").refused(404, "NOT_FOUND");
    let disabled = source(&hub.cluster, "settings-off").await;
    let off = DisableRequest { name: "settings-off".into() };
    SourceServiceClient::new(hub.cluster.channel(0)).disable(off).await.unwrap();
    let path = format!("/v1/projects/{disabled}/settings");
    while get(hub.http(), &path).status == 200 {
        tokio::task::yield_now().await;
    }
    get(hub.http(), &path).refused(404, "NOT_FOUND");
}

pub async fn requests_have_names(hub: &Hub) {
    let given = send(hub.http(), "GET", "/v1/nothing", &[("X-Request-Id", "mine-7")], "");
    assert_eq!(given.header("x-request-id"), Some("mine-7"));
    let made: Vec<_> =
        (0..2).map(|_| get(hub.http(), "/healthz").header("x-request-id").map(str::to_owned)).collect();
    assert!(made[0].is_some() && made[0] != made[1]);
}
