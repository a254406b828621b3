//! Bad input: every row of the table of what is refused, and how, against real processes.
//!
//! The table stands in [`isthmus_tests::bad_input`] as data. For each row, way in and named input there is a case, or a
//! reason why there can't be one yet; an input that nobody wrote a case for fails the test, so none can be forgotten.
//! HTTP's column is gone through in the test target `http`. Afterwards the node that all this was thrown at still serves.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

mod calls;
mod command_line;
mod configuration;
mod items;
mod minority;

use std::path::{Path, PathBuf};

use isthmus_tests::{
    ask,
    bad_input::{Checked, Report, Surface, TABLE},
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
};

/// What all cases share.
struct World {
    folder: tempfile::TempDir,
    node: &'static str,
    cli: Cli,
    /// One node, which is to survive all of it.
    one: Cluster,
    /// Three nodes, two of which get killed.
    minority: minority::Minority,
}

fn options(data: PathBuf, nodes: u32, environment: &[(&str, &str)]) -> ClusterOptions {
    ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), data, nodes).with_environment(environment)
}

impl World {
    async fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| folder.path().join(name);
        let (one, minority) =
            tokio::join!(Cluster::start(options(of("one"), 1, &[])), minority::Minority::start(of("three")));
        let cli = Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]);
        Self { node: env!("CARGO_BIN_EXE_node-under-test"), cli, one, minority, folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn check(&mut self, surface: Surface, row: &'static str, input: &'static str) -> Checked {
        match (surface, row) {
            (Surface::Config, _) => configuration::check(self, input).await,
            (Surface::Cli, _) => command_line::check(self, input),
            (_, "items, kept in quarantine") => items::check(&self.one.channel(0), input).await,
            (_, row) => calls::check(self, row, input).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_table_is_answered_as_it_says() {
    let mut world = World::make().await;
    let mut report = Report::default();
    for row in &TABLE {
        for &surface in row.surfaces.iter().filter(|surface| **surface != Surface::Http) {
            for &input in row.inputs {
                report.note(row.id, input, world.check(surface, row.id, input)).await;
            }
        }
    }
    report.all_hold();
    assert!(world.one.runs(0), "the node died of it");
    ask::accepted(&world.one.channel(0), vec![ask::json(ask::seen("afterwards", "afterwards-1"))]).await;
    let profile = ask::profile(&world.one.channel(0), "user_id", "afterwards").await.unwrap();
    assert_eq!(profile.event_counts["Seen"], 1);
}
