//! Fuzz targets: everything that reads bytes from outside or from a disk, and what must hold of it.
//!
//! **What it promises.** A [`Target`] takes any bytes whatever and never panics, but when something doesn't hold that has
//! to: what was read and written again reads the same; what one reader takes another takes, too; what is refused has a
//! reason that is known; a state reached by any commands keeps its invariants and can be stored and loaded. Which of
//! these a target looks at, its module says.
//!
//! **How.** The targets are plain functions. `src/bin/fuzz.rs` gives one of them to libFuzzer, which finds inputs that
//! reach new code (`tests/fuzz/run` builds and runs them all); the ordinary tests run them over their seeds and over what
//! was found (`tests/fuzz/found`), so that a change that breaks them is seen at once.
//!
//! **What it leaves out.** Messages between Raft peers: raft-rs stops the process on messages that no peer sends, and
//! only nodes of the cluster reach it. What clients' programs read (the CLI's files).

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is how a target says what doesn't hold"
)]

mod cursors;
mod documents;
mod http;
mod intake;
mod json;
mod log;
mod metadata;
mod pieces;
mod segments;
mod snapshot;
mod stored;
mod typed;

/// Something that takes any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Takes bytes; panics when something doesn't hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with: small, each a way to something.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 10] = [
    Target { name: "http", run: http::run, seeds: http::seeds },
    Target { name: "json", run: json::run, seeds: json::seeds },
    Target { name: "typed", run: typed::run, seeds: typed::seeds },
    Target { name: "documents", run: documents::run, seeds: documents::seeds },
    Target { name: "cursors", run: cursors::run, seeds: cursors::seeds },
    Target { name: "segments", run: segments::run, seeds: segments::seeds },
    Target { name: "stored", run: stored::run, seeds: stored::seeds },
    Target { name: "log", run: log::run, seeds: log::seeds },
    Target { name: "metadata", run: metadata::run, seeds: metadata::seeds },
    Target { name: "snapshot", run: snapshot::run, seeds: snapshot::seeds },
];

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
