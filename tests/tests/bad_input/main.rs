//! Bad input: every row of the table of what is refused, and how, against real processes.
//!
//! The table stands here as data. For each row, way in and named input there is a case, or a reason why there can't be
//! one yet; an input that nobody wrote a case for fails the test, so none can be forgotten. Afterwards the node that
//! all this was thrown at still serves.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

mod calls;
mod command_line;
mod configuration;
mod items;
mod minority;

use std::{
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
};

use futures::FutureExt as _;
use isthmus_tests::{
    ask,
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
};

use Surface::{Cli as CommandLine, Config, Grpc};

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Surface {
    Grpc,
    Cli,
    Config,
}

/// A row of the table as far as one way in is concerned.
struct Row {
    id: &'static str,
    surface: Surface,
    inputs: &'static [&'static str],
}

const fn row(id: &'static str, surface: Surface, inputs: &'static [&'static str]) -> Row {
    Row { id, surface, inputs }
}

/// How many rows the table has.
const ROWS: usize = 18;

/// The table, in its order and words. HTTP's column is gone through in the test target `http`.
const TABLE: [Row; ROWS] = [
    row("body or message over 4 MiB", Grpc, &["a message over 4 MiB"]),
    row("batch over 2,500 items", Grpc, &["2,501 items"]),
    row("decompression bomb", Grpc, &["gzip", "zstd"]),
    row("unknown encoding or content type", Grpc, &["unknown encoding", "unknown content type"]),
    row(
        "malformed JSON, NaN, 1e400, bad UTF-8, depth over 32, truncated protobuf",
        Grpc,
        &["malformed JSON", "NaN", "1e400", "bad UTF-8", "depth over 32", "truncated protobuf"],
    ),
    row("headers over 16 KB", Grpc, &["headers over 16 KB"]),
    row(
        "missing, expired, forged credentials",
        Grpc,
        &["missing credentials", "expired credentials", "forged credentials"],
    ),
    row(
        "role lacks the verb or the field",
        Grpc,
        &["a role that lacks the verb", "a role that lacks the field"],
    ),
    row(
        "wrong cluster, stale epoch, unknown shard, not leader",
        Grpc,
        &["wrong cluster", "stale epoch", "unknown shard", "not leader"],
    ),
    row("compare-and-set on an old version", Grpc, &["an old version"]),
    row("deadline passed", Grpc, &["deadline passed"]),
    row("over a rate or a mailbox limit", Grpc, &["over a rate", "over a mailbox limit"]),
    row("disk full, no quorum", Grpc, &["disk full", "no quorum"]),
    row("query over its memory or scan limit", Grpc, &["a query over its limit"]),
    row(
        "event for an erased person (write); read of one",
        Grpc,
        &["write for an erased person", "read of one"],
    ),
    row(
        "items, kept in quarantine",
        Grpc,
        &[
            "event over 32 KB",
            "no identifier",
            "blank id",
            "over-long id",
            "control characters in an id",
            "NUL in an id",
            "bidi characters in an id",
            "missing event name",
            "unknown type",
            "schema violation",
            "NaN",
            "infinity",
            "integer beyond 64 bits",
            "duplicate JSON key",
            "unparsable time",
            "more than 24 h in the future",
            "before 1970",
            "message id over 100 characters",
            "same message id with another body",
        ],
    ),
    row(
        "command line",
        CommandLine,
        &["unknown flag", "a removal that would break quorum", "erase without --confirm"],
    ),
    row(
        "configuration",
        Config,
        &[
            "unknown key",
            "duplicate node id",
            "even replicas",
            "zero replicas",
            "data of another cluster",
            "newer disk format",
            "secret file readable by others",
            "plaintext on a non-loopback address",
            "port in use",
            "directory locked",
        ],
    ),
];

/// What became of a case.
enum Checked {
    /// The case ran and holds.
    Held,
    /// What the row is about does not exist yet.
    LaterIssue(&'static str),
    /// It can't be brought about from outside; the named test proves it.
    ProvedBy(&'static str),
}

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

    async fn check(&mut self, row: &Row, input: &'static str) -> Checked {
        match (row.surface, row.id) {
            (Config, _) => configuration::check(self, input).await,
            (CommandLine, _) => command_line::check(self, input),
            (Grpc, "items, kept in quarantine") => items::check(&self.one.channel(0), input).await,
            (Grpc, id) => calls::check(self, id, input).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_table_is_answered_as_it_says() {
    let mut world = World::make().await;
    let mut failed = Vec::new();
    for row in &TABLE {
        assert!(!row.inputs.is_empty(), "{} names no input", row.id);
        for &input in row.inputs {
            // All rows are gone through, so that one look shows all that fail.
            match AssertUnwindSafe(world.check(row, input)).catch_unwind().await {
                Ok(Checked::Held) => {}
                Ok(Checked::LaterIssue(why)) => println!("{} / {input}: later: {why}", row.id),
                Ok(Checked::ProvedBy(test)) => println!("{} / {input}: see {test}", row.id),
                Err(_) => failed.push(format!("{} / {input}", row.id)),
            }
        }
    }
    assert!(failed.is_empty(), "these rows don't hold (see the panics above):\n{}", failed.join("\n"));
    assert!(world.one.runs(0), "the node died of it");
    ask::accepted(&world.one.channel(0), vec![ask::json(ask::seen("afterwards", "afterwards-1"))]).await;
    let profile = ask::profile(&world.one.channel(0), "user_id", "afterwards").await.unwrap();
    assert_eq!(profile.event_counts["Seen"], 1);
}
