//! Ingest streams end to end, against real processes: the protocol as it stands in `ingest.proto`, and what the client
//! library's writer promises over it while nodes die.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]
#![allow(clippy::disallowed_methods, reason = "tests own a clock, and tasks end with them")]

mod ends;
mod exact;
mod pressure;
mod protocol;
mod raw;

use std::path::Path;

use isthmus_tests::cluster::{Cluster, ClusterOptions};

fn options(folder: &Path, nodes: u32) -> ClusterOptions {
    ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.join("data"), nodes)
}

/// One node, with variables in its environment.
async fn one_node(folder: &Path, environment: &[(&str, &str)]) -> Cluster {
    Cluster::start(options(folder, 1).with_environment(environment)).await
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}
