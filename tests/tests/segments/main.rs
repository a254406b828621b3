//! Segments end to end, against real processes and a plain reference: who is in them is who the events say, whoever leads.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]
#![allow(clippy::disallowed_methods, reason = "tests own a clock, and tasks end with them")]

mod cut;
mod doors;
mod drawn;
mod reference;

use std::path::Path;

use isthmus_tests::{
    cli::{Cli, Ended},
    cluster::{Cluster, ClusterOptions},
};
use serde_json::Value;

/// A cluster of one shard.
fn options(folder: &Path, nodes: u32) -> ClusterOptions {
    let small = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.join("data"), nodes);
    ClusterOptions { shards: 1, ..small }
}

fn cli() -> Cli {
    Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()])
}

fn ended(cluster: &Cluster, arguments: &[&str]) -> Ended {
    cli().json(&cluster.endpoints(), arguments)
}

/// What a command that has to end well printed.
fn run(cluster: &Cluster, arguments: &[&str]) -> Vec<Value> {
    let ended = ended(cluster, arguments);
    assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.err);
    ended.objects()
}

fn count(cluster: &Cluster, expression: &str) -> u64 {
    run(cluster, &["segment", "count", expression])[0]["count"].as_u64().unwrap()
}

/// The identifiers by which the members of a set are kept.
fn members(cluster: &Cluster, expression: &str) -> Vec<String> {
    let all = run(cluster, &["segment", "members", expression]).into_iter();
    let mut all: Vec<String> = all
        .map(|it| {
            let id = &it["identifier"];
            format!("{}:{}", id["namespace"].as_str().unwrap(), id["value"].as_str().unwrap())
        })
        .collect();
    all.sort();
    all
}
