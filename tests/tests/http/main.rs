//! The HTTP gateway against real processes: what SDKs and browsers send, what bad input gets, what may be read.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]
#![allow(clippy::disallowed_methods, reason = "tests own a clock, and tasks end with them")]

mod browser;
mod client;
mod described;
mod items;
mod reads;
mod relay;
mod rows;
mod sdks;
mod shapes;
mod versions;

use std::{net::SocketAddr, path::Path};

use isthmus_proto::v1::{CreateRequest, source_service_client::SourceServiceClient};
use isthmus_tests::{
    bad_input::{Report, Surface, TABLE},
    cluster::{Cluster, ClusterOptions},
};

/// Stands in what could be personal, and must not stand in any error.
const CANARY: &str = "canary";

/// A cluster with a source and its write key.
struct Hub {
    cluster: Cluster,
    key: String,
}

impl Hub {
    async fn start(data: &Path, nodes: u32, environment: &[(&str, &str)]) -> Self {
        let options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), data, nodes);
        let cluster = Cluster::start(options.with_environment(environment)).await;
        let key = source(&cluster, "web").await;
        Self { cluster, key }
    }

    fn http(&self) -> SocketAddr {
        self.cluster.nodes[0].http
    }
}

/// Makes a source; its write key.
async fn source(cluster: &Cluster, name: &str) -> String {
    let request = CreateRequest { name: name.to_owned(), ..CreateRequest::default() };
    SourceServiceClient::new(cluster.channel(0)).create(request).await.unwrap().into_inner().write_key
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sdks_send_is_taken_and_what_may_be_read_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path(), 3, &[]).await;
    shapes::each_path_takes_its_type(&hub).await;
    shapes::a_key_is_found_wherever_it_stands(&hub).await;
    shapes::json_is_taken_whatever_is_declared(&hub).await;
    shapes::absent_ids_may_be_null_and_unknown_fields_are_kept(&hub).await;
    shapes::the_top_of_a_batch_goes_into_its_events(&hub).await;
    shapes::an_event_that_is_sent_again_counts_once(&hub).await;
    shapes::a_bad_event_in_a_good_batch_is_kept_alone(&hub).await;
    shapes::what_a_policy_rejects_is_never_called_stored(&hub, folder.path()).await;
    shapes::browsers_may_send_from_any_page(&hub).await;
    shapes::an_sdk_is_told_to_send_here(&hub).await;
    shapes::requests_have_names(&hub).await;
    reads::profiles_are_as_the_cli_shows_them(&hub).await;
    reads::lists_come_in_pages(&hub).await;
    reads::a_version_token_is_covered_on_any_node(&hub).await;
    reads::what_makes_no_sense_is_refused(&hub).await;
    reads::nobody_reads_from_elsewhere(&hub).await;
    described::every_path_is_in_the_description(&hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_table_is_answered_over_http_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path(), 1, &[]).await;
    let mut report = Report::default();
    for row in TABLE.iter().filter(|row| row.surfaces.contains(&Surface::Http)) {
        for &input in row.inputs {
            report.note(row.id, input, rows::check(&hub, row.id, input)).await;
        }
    }
    report.all_hold();
    rows::a_body_that_never_ends(&hub).await;
    versions::what_is_refused_is_refused_over_http_2_too(&hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_it_can_not_store() {
    let folder = tempfile::tempdir().unwrap();
    rows::a_full_disk(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_refuses_what_it_can_not_store() {
    let folder = tempfile::tempdir().unwrap();
    rows::a_minority(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sdks_as_they_are_lose_nothing_and_double_nothing() {
    let Some(sdks) = sdks::installed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path(), 1, &[]).await;
    sdks::they_send_everything(&hub, &sdks).await;
    sdks::they_get_over_a_server_that_fails(&hub, &sdks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_in_a_browser_send_across_origins() {
    let Some(chromium) = browser::installed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path(), 1, &[]).await;
    browser::fetch_and_beacon_arrive(&hub, &chromium, folder.path()).await;
    browser::analytics_js_sends_by_itself(&hub, &chromium, folder.path()).await;
}
