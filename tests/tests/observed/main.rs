//! What nodes tell of themselves: metrics, traces and log lines, of real processes under load.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]
#![allow(clippy::disallowed_methods, reason = "tests own a clock, and tasks end with them")]

mod canary;
mod collector;
mod load;
mod metrics;
mod traces;

use std::{net::SocketAddr, path::Path};

use isthmus_proto::v1::{CreateRequest, source_service_client::SourceServiceClient};
use isthmus_tests::cluster::{Cluster, ClusterOptions};

/// A cluster with a source and its write key.
struct Hub {
    cluster: Cluster,
    key: String,
}

impl Hub {
    async fn start(data: &Path, nodes: u32, environment: &[(&str, &str)]) -> Self {
        let options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), data, nodes);
        let cluster = Cluster::start(options.with_environment(environment)).await;
        let request = CreateRequest { name: "web".to_owned(), ..CreateRequest::default() };
        let created = SourceServiceClient::new(cluster.channel(0)).create(request).await.unwrap();
        Self { key: created.into_inner().write_key, cluster }
    }

    fn http(&self, index: usize) -> SocketAddr {
        self.cluster.nodes[index].http
    }

    /// Stops all nodes, which send what they have recorded.
    fn stop(&mut self) {
        for index in 0..self.cluster.nodes.len() {
            assert_eq!(self.cluster.stop(index), Some(0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_as_documented_and_as_prometheus_wants_them() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path(), 3, &[]).await;
    load::send(&hub).await;
    metrics::documented_and_exposed_are_the_same(&hub);
    metrics::both_formats_are_served(&hub);
    metrics::they_tell_what_happened(&hub);
    metrics::promtool_finds_nothing_to_complain_of(&hub);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_is_one_trace_wherever_its_shard_is_led() {
    let folder = tempfile::tempdir().unwrap();
    let collector = collector::Collector::start().await;
    let settings = [
        ("ISTHMUS_TRACES__ENDPOINT", collector.endpoint.as_str()),
        ("ISTHMUS_TRACES__SAMPLE", "0"),
        ("ISTHMUS_LOG", "info,isthmus_node=debug"),
    ];
    let mut hub = Hub::start(folder.path(), 3, &settings).await;
    traces::an_event_is_sent_through_every_node(&hub);
    traces::a_call_over_grpc_takes_its_trace_along(&hub).await;
    hub.stop();
    traces::each_is_a_tree_below_its_clients_span(&collector);
    traces::log_lines_name_request_and_trace(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_or_a_sampled_parent_nothing_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let collector = collector::Collector::start().await;
    // What programs with OpenTelemetry usually listen to doesn't switch it on.
    let off = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
    let mut hub = Hub::start(&folder.path().join("off"), 1, &off).await;
    traces::an_event_is_sent_through_every_node(&hub);
    hub.stop();
    assert_eq!(collector.spans(), []);
    let unsampled =
        [("ISTHMUS_TRACES__ENDPOINT", collector.endpoint.as_str()), ("ISTHMUS_TRACES__SAMPLE", "0")];
    let mut hub = Hub::start(&folder.path().join("unsampled"), 1, &unsampled).await;
    traces::events_that_are_not_sampled_are_sent(&hub);
    hub.stop();
    assert_eq!(collector.spans(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_disturbs_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let settings = [("ISTHMUS_TRACES__ENDPOINT", endpoint.as_str()), ("ISTHMUS_TRACES__SAMPLE", "1")];
    let mut hub = Hub::start(folder.path(), 1, &settings).await;
    traces::spans_that_go_nowhere_are_counted(&hub).await;
    hub.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_sent_is_in_metrics_spans_or_log_lines() {
    let folder = tempfile::tempdir().unwrap();
    let collector = collector::Collector::start().await;
    let settings = [
        ("ISTHMUS_TRACES__ENDPOINT", collector.endpoint.as_str()),
        ("ISTHMUS_TRACES__SAMPLE", "1"),
        ("ISTHMUS_LOG", canary::EVERYTHING),
    ];
    let mut hub = Hub::start(folder.path(), 3, &settings).await;
    canary::all_sorts_of_things_are_sent(&hub).await;
    let shown: Vec<String> = (0..3).map(|node| load::metrics(&hub, node)).collect();
    hub.stop();
    canary::nobody_tells_of_them(&hub, &shown, &collector, folder.path());
}
