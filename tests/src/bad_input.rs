//! The table of bad input: what is refused, by each way in. The test targets `bad_input` and `http` go through it, each
//! through its columns.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;

use crate::tools;

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// The gRPC interface.
    Grpc,
    /// The HTTP gateway.
    Http,
    /// The command line of the program `isthmus`.
    Cli,
    /// The configuration of a node.
    Config,
}

use Surface::{Cli, Config, Grpc, Http};

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    /// In the table's words.
    pub id: &'static str,
    /// Where it is to be answered.
    pub surfaces: &'static [Surface],
    /// What the row is about, one by one.
    pub inputs: &'static [&'static str],
}

const fn row(id: &'static str, surfaces: &'static [Surface], inputs: &'static [&'static str]) -> Row {
    Row { id, surfaces, inputs }
}

/// How many rows the table has.
pub const ROWS: usize = 18;

/// The table, in its order and words.
pub const TABLE: [Row; ROWS] = [
    row("body or message over 4 MiB", &[Grpc, Http], &["a message over 4 MiB"]),
    row("batch over 2,500 items", &[Grpc, Http], &["2,501 items"]),
    row("decompression bomb", &[Grpc, Http], &["gzip", "zstd"]),
    row("unknown encoding or content type", &[Grpc, Http], &["unknown encoding", "unknown content type"]),
    row(
        "malformed JSON, NaN, 1e400, bad UTF-8, depth over 32, truncated protobuf",
        &[Grpc, Http],
        &["malformed JSON", "NaN", "1e400", "bad UTF-8", "depth over 32", "truncated protobuf"],
    ),
    row("headers over 16 KB", &[Grpc, Http], &["headers over 16 KB"]),
    row(
        "missing, expired, forged credentials",
        &[Grpc, Http],
        &["missing credentials", "expired credentials", "forged credentials"],
    ),
    row(
        "role lacks the verb or the field",
        &[Grpc, Http],
        &["a role that lacks the verb", "a role that lacks the field"],
    ),
    row(
        "wrong cluster, stale epoch, unknown shard, not leader",
        &[Grpc, Http],
        &["wrong cluster", "stale epoch", "unknown shard", "not leader"],
    ),
    row("compare-and-set on an old version", &[Grpc, Http], &["an old version"]),
    row("deadline passed", &[Grpc, Http], &["deadline passed"]),
    row("over a rate or a mailbox limit", &[Grpc, Http], &["over a rate", "over a mailbox limit"]),
    row("disk full, no quorum", &[Grpc, Http], &["disk full", "no quorum"]),
    row("query over its memory or scan limit", &[Grpc, Http], &["a query over its limit"]),
    row(
        "event for an erased person (write); read of one",
        &[Grpc, Http],
        &["write for an erased person", "read of one"],
    ),
    row(
        "items, kept in quarantine",
        &[Grpc, Http],
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
        &[Cli],
        &["unknown flag", "a removal that would break quorum", "erase without --confirm"],
    ),
    row(
        "configuration",
        &[Config],
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
#[derive(Debug)]
pub enum Checked {
    /// The case ran and holds.
    Held,
    /// What the row is about does not exist yet.
    LaterIssue(&'static str),
    /// It can't be brought about from outside; the named test proves it.
    ProvedBy(&'static str),
}

/// What was found out about the rows.
#[derive(Debug, Default)]
pub struct Report {
    cases: usize,
    failed: Vec<String>,
}

impl Report {
    /// Runs a case. One that fails is noted, so that one look shows all that fail.
    pub async fn note(&mut self, row: &str, input: &str, case: impl Future<Output = Checked>) {
        self.cases += 1;
        match AssertUnwindSafe(case).catch_unwind().await {
            Ok(Checked::Held) => {}
            Ok(Checked::LaterIssue(why)) => tools::say(&format!("{row} / {input}: later: {why}")),
            Ok(Checked::ProvedBy(test)) => tools::say(&format!("{row} / {input}: see {test}")),
            Err(_) => self.failed.push(format!("{row} / {input}")),
        }
    }

    /// Checks that there were cases, and that all of them hold.
    ///
    /// # Panics
    /// When one doesn't.
    pub fn all_hold(&self) {
        assert!(self.cases >= ROWS, "{} cases are too few to be all", self.cases);
        assert!(
            self.failed.is_empty(),
            "these rows don't hold (see the panics above):\n{}",
            self.failed.join("\n")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_way_in_and_inputs() {
        for row in &TABLE {
            assert!(!row.surfaces.is_empty() && !row.inputs.is_empty(), "{}", row.id);
        }
    }
}
