//! The change feed end to end, against real processes: nothing is missing, nothing is made up, whoever dies meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]
#![allow(clippy::disallowed_methods, reason = "tests own a clock, and tasks end with them")]

mod cursors;
mod streams;

use std::path::Path;

use isthmus_tests::{
    cli::{Cli, Ended},
    cluster::{Cluster, ClusterOptions, PATIENCE},
    drills,
};
use serde_json::Value;

/// How many customers the watch over kills is on; the drill in full has 10,000.
const PROFILES: &str = "ISTHMUS_TEST_FEED_PROFILES";

fn options(folder: &Path, nodes: u32) -> ClusterOptions {
    ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.join("data"), nodes)
}

fn cli() -> Cli {
    Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()])
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A watch that ends by itself, through one node.
fn watch(cluster: &Cluster, node: usize, arguments: &[&str]) -> Ended {
    let arguments: Vec<&str> = ["watch"].iter().chain(arguments).copied().collect();
    // One that waits for what never comes fails the test.
    let patient = ["timeout".to_owned(), PATIENCE.as_secs().to_string()].into_iter().chain(cli().0);
    Cli(patient.collect()).json(&cluster.nodes[node].grpc.to_string(), &arguments)
}

/// One that has to end well: what it printed.
fn watched(cluster: &Cluster, node: usize, arguments: &[&str]) -> Vec<Value> {
    let ended = watch(cluster, node, arguments);
    assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.err);
    ended.objects()
}

fn field<'a>(change: &'a Value, name: &str) -> &'a str {
    change[name].as_str().unwrap_or_else(|| panic!("no {name}: {change}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_over_three_kills_delivers_every_change_of_the_timelines_once_and_in_order() {
    let folder = folder();
    let mut cluster = Cluster::start(options(folder.path(), 3)).await;
    let profiles = std::env::var(PROFILES).map_or(500, |profiles| profiles.parse().unwrap());
    let report = drills::a_watch_over_kills(&mut cluster, profiles, 6, 3).await;
    assert_eq!((report.kills, report.repeated), (3, 0), "{report:?}");
}
