//! The drills, small: the same code that `--bin bench -- drill` runs in full.

use isthmus_tests::{
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
    drills,
};

fn options(folder: &tempfile::TempDir) -> ClusterOptions {
    ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.path(), 3)
        .with_environment(&[("ISTHMUS_LOG", "info")])
}

fn cli() -> Cli {
    Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()])
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for a test's data")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_event_is_there_once_on_all_replicas_whoever_is_killed() {
    let folder = folder();
    let mut cluster = Cluster::start(options(&folder)).await;
    let report = drills::kills_during_ingest(&mut cluster, &cli(), folder.path(), 20_000, 3).await;
    assert!(report.kills > 0, "the ingest was over before a node was killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_nodes_were_all_killed_under_load_serves_the_same_again() {
    let folder = folder();
    let mut cluster = Cluster::start(options(&folder)).await;
    drills::all_killed_under_load(&mut cluster, 10_000, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_and_the_first_one_is_removed_while_reads_and_writes_go_on() {
    let folder = folder();
    let mut cluster = Cluster::start(options(&folder)).await;
    let report = drills::a_node_joins_and_another_leaves(&mut cluster, 0).await;
    assert!(report.acknowledged > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_through_any_node_sees_what_was_acknowledged_through_another_during_transfers() {
    let folder = folder();
    let cluster = Cluster::start(options(&folder)).await;
    let report = drills::reads_after_writes(&cluster, 2_000, 8).await;
    assert!(report.transfers > 0, "no leadership was handed over");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_after_the_leader_is_killed() {
    let folder = folder();
    let mut cluster = Cluster::start(options(&folder)).await;
    assert_eq!(drills::leader_kills(&mut cluster, 2).await.0.len(), 2);
}
