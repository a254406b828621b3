//! What traces hold of calls, and which there are.

use std::{collections::BTreeSet, path::Path, time::Instant};

use isthmus_proto::v1::{IngestRequest, ingest_service_client::IngestServiceClient};
use isthmus_tests::{
    ask,
    cluster::{PATIENCE, log_lines},
};
use tonic::Request;

use crate::{
    Hub,
    collector::{Collector, Span},
    load,
};

/// The span that a client calls from.
const CLIENTS_SPAN: &str = "b7ad6b7169203331";
/// The number of the trace of the call over gRPC.
const GRPC: usize = 9;

fn trace_id(number: usize) -> String {
    format!("0af7651916cd43dd8448eb211c803{number:03x}")
}

fn traceparent(number: usize, flags: &str) -> String {
    format!("00-{}-{CLIENTS_SPAN}-{flags}", trace_id(number))
}

/// Events of one user, so of one shard: one of the nodes leads it, the others don't.
pub fn an_event_is_sent_through_every_node(hub: &Hub) {
    for node in 0..hub.cluster.nodes.len() {
        let (parent, request) = (traceparent(node, "01"), format!("request-{node}"));
        let headers = [
            ("traceparent", parent.as_str()),
            ("tracestate", "vendor=1"),
            ("x-request-id", request.as_str()),
        ];
        let (status, body) = load::post(hub, node, &headers, &ask::seen("traced", &format!("t-{node}")));
        assert_eq!(status, 200, "{body}");
    }
}

pub fn events_that_are_not_sampled_are_sent(hub: &Hub) {
    let parent = traceparent(0, "00");
    for headers in [&[("traceparent", parent.as_str())][..], &[("traceparent", "nonsense")], &[]] {
        let event = ask::seen("untraced", &format!("u-{}", headers.len()));
        assert_eq!(load::post(hub, 0, headers, &event).0, 200);
    }
    let metrics = load::metrics(hub, 0);
    assert!(metrics.contains("isthmus_trace_spans_total{result=\"exported\"} 0"), "{metrics}");
}

pub async fn a_call_over_grpc_takes_its_trace_along(hub: &Hub) {
    let items = vec![ask::json(ask::seen("traced", "t-grpc"))];
    let mut request = Request::new(IngestRequest { items, ..IngestRequest::default() });
    request.metadata_mut().insert("traceparent", traceparent(GRPC, "01").parse().unwrap());
    IngestServiceClient::new(hub.cluster.channel(0)).ingest(request).await.unwrap();
}

/// The only span of a name.
fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

/// The names from a span up to the one that the client called from.
fn way_up(spans: &[Span], from: &Span) -> Vec<String> {
    let (mut names, mut at) = (Vec::new(), from);
    loop {
        names.insert(0, at.name.clone());
        if at.parent == CLIENTS_SPAN {
            return names;
        }
        at = spans
            .iter()
            .find(|span| span.id == at.parent)
            .unwrap_or_else(|| panic!("the parent of {at:?} is not in {spans:#?}"));
    }
}

/// The only span of a name that is beside another one.
fn beside<'a>(spans: &'a [Span], other: &Span, name: &str) -> &'a Span {
    let found: Vec<&Span> =
        spans.iter().filter(|span| span.name == name && span.parent == other.parent).collect();
    assert_eq!(found.len(), 1, "{name} beside {other:?} in {spans:#?}");
    found[0]
}

/// A leadership may move meanwhile: then a trace tells of a try that was in vain, too.
pub fn each_is_a_tree_below_its_clients_span(collector: &Collector) {
    let mut through_others = 0;
    for (number, root) in [(0, "http.request"), (1, "http.request"), (2, "http.request"), (GRPC, "grpc.call")]
    {
        let spans = collector.trace(&trace_id(number));
        let at_root = one(&spans, root);
        assert_eq!(at_root.parent, CLIENTS_SPAN);
        assert_eq!(spans.iter().filter(|span| span.parent == CLIENTS_SPAN).count(), 1, "{spans:#?}");
        for span in &spans {
            assert_eq!(way_up(&spans, span)[0], root);
        }
        let applied = one(&spans, "raft.apply");
        let mut expected = vec![root, "ingest.batch", "router.ingest", "router.call"];
        if applied.node != at_root.node {
            expected.push("peer.call");
            through_others += 1;
        }
        expected.extend(["shard.command", "raft.apply"]);
        assert_eq!(way_up(&spans, applied), expected, "it is applied where its shard is led");
        beside(&spans, applied, "raft.propose");
        let command = spans.iter().find(|span| span.id == applied.parent).unwrap();
        beside(&spans, command, "shard.queue");
        if number != GRPC {
            assert!(spans.iter().all(|span| span.state == "vendor=1"), "{spans:#?}");
        }
    }
    assert!(through_others > 0, "of three nodes one leads the shard");
    let traces: BTreeSet<String> = collector.spans().into_iter().map(|span| span.trace).collect();
    assert_eq!(traces.len(), 4, "what no client asked to be recorded was recorded: {traces:?}");
}

pub fn log_lines_name_request_and_trace(data: &Path) {
    let mut elsewhere = 0;
    for number in 0..3 {
        let request = format!("\"request\":\"request-{number}\"");
        for node in 1..=3 {
            let lines = log_lines(data, node, &request);
            assert!(lines.iter().all(|line| line.contains(&trace_id(number))), "{lines:?}");
            let came_in = node == u32::try_from(number).unwrap() + 1;
            assert!(!came_in || lines.iter().any(|line| line.contains("http.request")), "{lines:?}");
            elsewhere += usize::from(!came_in && lines.iter().any(|line| line.contains("peer.call")));
        }
    }
    assert!(elsewhere > 0, "of three nodes one leads the shard");
}

pub async fn spans_that_go_nowhere_are_counted(hub: &Hub) {
    let until = Instant::now() + PATIENCE;
    for number in 0.. {
        assert_eq!(load::post(hub, 0, &[], &ask::seen("lost", &format!("l-{number}"))).0, 200);
        let metrics = load::metrics(hub, 0);
        let failed = metrics
            .lines()
            .find_map(|line| line.strip_prefix(r#"isthmus_trace_spans_total{result="failed"} "#));
        if failed.unwrap() != "0" {
            break;
        }
        assert!(Instant::now() < until, "no span was counted: {metrics}");
        tokio::task::yield_now().await;
    }
    // It is counted first, and then said.
    loop {
        let lines = log_lines(&hub.cluster.nodes[0].data.join(".."), 1, "can't be sent");
        if lines.len() == 1 {
            break;
        }
        assert!(lines.is_empty() && Instant::now() < until, "said once: {lines:?}");
        tokio::task::yield_now().await;
    }
}
