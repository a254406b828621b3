//! What customers and senders say must not be told by metrics, spans or log lines, however much is logged.

use std::path::Path;

use futures::StreamExt as _;
use isthmus_proto::v1::{
    Consistency, ExplainRequest, GetRequest, GroupServiceGetRequest, IngestItem, IngestRequest,
    IngestStreamItems, IngestStreamOpen, IngestStreamRequest, ListMembersRequest,
    QuarantineServiceListRequest, SplitRequest, SplitScope, UnreadableItem, WatchRequest, consistency::Level,
    group_service_client::GroupServiceClient, ingest_item::Body, ingest_service_client::IngestServiceClient,
    ingest_stream_request::Message, profile_service_client::ProfileServiceClient, split_scope,
};
use isthmus_tests::ask;
use tonic::{Request, transport::Channel};

use crate::{Hub, collector::Collector, load};

/// Stands in all that is sent.
const CANARY: &str = "canary";
/// All that our own crates can log.
pub const EVERYTHING: &str = "info,isthmus_node=trace,isthmus_router=trace,isthmus_shard=trace,isthmus_raft=trace,\
                              isthmus_storage=trace,isthmus_coordinator=trace,isthmus_matcher=trace,isthmus::entry=trace";

/// Events with a canary in each place that there is.
fn events() -> Vec<String> {
    let event = |kind: &str, rest: &str| {
        format!(
            r#"{{"type":"{kind}","userId":"canary-{kind}","anonymousId":"canary-anonymous","messageId":"canary-{kind}",
                "context":{{"traits":{{"email":"canary@example.org"}},"canary":"canary"}},{rest}}}"#
        )
    };
    vec![
        event("identify", r#""traits":{"canary":"canary","email":"canary@example.org"}"#),
        event("track", r#""event":"canary","properties":{"canary":"canary","revenue":"canary"}"#),
        event("page", r#""name":"canary","timestamp":"canary""#),
        event("group", r#""groupId":"canary""#),
        event("alias", r#""previousId":"canary""#),
        r#"{"type":"canary"}"#.to_owned(),
        "canary".to_owned(),
        r#"{"type":"track","userId":"canary","messageId":"canary-quarantined"}"#.to_owned(),
    ]
}

pub async fn all_sorts_of_things_are_sent(hub: &Hub) {
    for node in 0..3 {
        let bearer =
            [("Authorization", "Bearer canary"), ("traceparent", "canary"), ("User-Agent", "canary")];
        assert_eq!(load::request(hub.http(node), "POST /v1/canary?canary=canary", &bearer, "canary").0, 404);
        assert_eq!(load::request(hub.http(node), "CANARY /v1/track", &bearer, "{}").0, 405);
        assert_eq!(load::request(hub.http(node), "POST /v1/track", &bearer, &events()[1]).0, 401);
        let named = [("x-request-id", "not plain: canary"), ("tracestate", "canary=canary")];
        for event in events() {
            load::post(hub, node, &named, &event);
        }
        for path in [
            "/v1/profiles/email:canary@example.org",
            "/v1/projects/canary/settings",
            "/v1/profiles/canary",
            "/v1/groups/canary",
            "/v1/groups/canary/members",
            "/v1/profiles/user_id:canary-group/groups",
            "/customers/user_id:canary-track",
            "/quarantine/canary",
        ] {
            load::request(hub.http(node), &format!("GET {path}?cursor=canary"), &[], "");
        }
        // The console, by the page and by its forms, with a token that is none.
        let (status, _) = load::request(hub.http(node), "GET /customers?q=email:canary@example.org", &[], "");
        assert!(status < 400, "{status}");
        for path in ["/quarantine/canary/mend", "/quarantine/replay", "/theme"] {
            let form = [("Content-Type", "application/x-www-form-urlencoded"), ("Origin", "http://canary")];
            load::request(hub.http(node), &format!("POST {path}"), &form, "token=canary&event=canary");
        }
        let channel = hub.cluster.channel(node);
        let mut items: Vec<IngestItem> =
            events().into_iter().map(|event| ask::from(event, "canary.csv:1")).collect();
        let (content_type, problem) = (CANARY.to_owned(), CANARY.to_owned());
        let unreadable = UnreadableItem { content: CANARY.into(), content_type, problem };
        items.push(IngestItem { body: Some(Body::Unreadable(unreadable)), origin: CANARY.to_owned() });
        ask::send(&channel, items).await.unwrap();
        let mut client = IngestServiceClient::new(channel.clone());
        let wrong = IngestRequest {
            write_key: CANARY.to_owned(),
            source: CANARY.to_owned(),
            ..IngestRequest::default()
        };
        let mut wrong = Request::new(wrong);
        wrong.metadata_mut().insert("canary", "canary".parse().unwrap());
        client.ingest(wrong).await.unwrap_err();
        streamed(&mut client, node).await;
        let mut groups = GroupServiceClient::new(channel.clone());
        let group = GroupServiceGetRequest { group_id: CANARY.to_owned(), ..Default::default() };
        assert_eq!(groups.get(group).await.unwrap().into_inner().group.unwrap().group_id, CANARY);
        let members = ListMembersRequest { group_id: CANARY.to_owned(), ..Default::default() };
        assert!(!groups.list_members(members).await.unwrap().into_inner().members.is_empty());
        let mut profiles = ProfileServiceClient::new(channel.clone());
        let explain = ExplainRequest {
            key: ask::key("user_id", "canary-identify"),
            other: ask::key("email", "canary@example.org"),
        };
        assert!(!profiles.explain(explain).await.unwrap().into_inner().facts.is_empty());
        let scope = split_scope::Scope::Source(CANARY.to_owned());
        let split = SplitRequest {
            scope: Some(SplitScope { scope: Some(scope) }),
            reason: CANARY.to_owned(),
            by: CANARY.to_owned(),
            id: CANARY.to_owned(),
            ..SplitRequest::default()
        };
        profiles.split(split).await.unwrap();
        let email = GetRequest { key: ask::key("email", "canary@example.org"), ..GetRequest::default() };
        assert!(!profiles.get(email).await.unwrap().into_inner().profile.unwrap().identifiers.is_empty());
        let consistency = Some(Consistency { level: Some(Level::MinVersion(CANARY.to_owned())) });
        let nobody = GetRequest { key: ask::key(CANARY, CANARY), consistency, ..GetRequest::default() };
        profiles.get(nobody).await.unwrap_err();
        let cursor = WatchRequest { cursor: CANARY.to_owned(), ..WatchRequest::default() };
        profiles.watch(cursor).await.unwrap_err();
        let watch = WatchRequest { start: 2, ..WatchRequest::default() };
        let mut changes = profiles.watch(watch).await.unwrap().into_inner();
        while changes.message().await.unwrap().unwrap().changes.is_empty() {}
        assert!(!ask::quarantined(&channel, QuarantineServiceListRequest::default()).await.is_empty());
    }
}

/// What comes by a stream, under a name that the client chose.
async fn streamed(client: &mut IngestServiceClient<Channel>, node: usize) {
    let events = events().into_iter().map(|event| ask::from(event, "canary.csv:2"));
    let items = IngestStreamItems { first_sequence: 1, items: events.collect(), sent_at: None };
    let last = items.items.len() as u64;
    let open = IngestStreamOpen {
        stream_id: format!("canary-{node}"),
        first_sequence: 1,
        ..IngestStreamOpen::default()
    };
    let messages = [Message::Open(open), Message::Items(items)];
    let requests = messages.map(|message| IngestStreamRequest { message: Some(message) });
    // It stays open until all is acknowledged.
    let requests = futures::stream::iter(requests).chain(futures::stream::pending());
    let mut answers = client.ingest_stream(requests).await.unwrap().into_inner();
    while answers.message().await.unwrap().unwrap().acknowledged < last {}
}

pub fn nobody_tells_of_them(hub: &Hub, metrics: &[String], collector: &Collector, data: &Path) {
    let told_by = |what: &str, line: &str| {
        let lower = line.to_ascii_lowercase();
        assert!(!lower.contains(CANARY), "{what} tells of what was sent: {line}");
        assert!(!line.contains(&hub.key), "{what} tells a write key: {line}");
    };
    metrics.iter().flat_map(|text| text.lines()).for_each(|line| told_by("a metric", line));
    let spans = collector.spans();
    assert!(spans.len() > 100, "only {} spans were recorded", spans.len());
    spans.iter().for_each(|span| told_by("a span", &span.whole));
    for id in 1..=3 {
        let log = std::fs::read_to_string(data.join(format!("node-{id}.log"))).unwrap();
        assert!(log.lines().count() > 20, "little is logged: {log}");
        log.lines().for_each(|line| told_by("a log line", line));
    }
}
