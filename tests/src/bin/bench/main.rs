//! Measurements and drills on real processes, in one program, so that a release build links once.
//!
//! `cargo run --release -p isthmus-tests --bin bench -- [options]` measures ([`measure`]); with `drill` in front it
//! runs the drills in full ([`drill`]); with `questions` it asks what analysts ask, and DuckDB the same
//! ([`questions`]); with `segments` it measures live segments ([`segments`]); with `runaway` what statements without an end cost
//! others ([`runaway`]). The nodes, and the CLI where a drill needs it, are this same program, started again with `node` or
//! `cli` as its first argument.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints, reads the clock, and may panic with the place"
)]

mod drill;
mod measure;
mod questions;
mod runaway;
mod segments;

use std::{fs, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};
use isthmus_tests::cluster::ClusterOptions;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a cluster of three nodes on this machine, or has it stand what it must stand.
#[derive(Parser, Debug)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    measure: measure::Options,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Runs drills: kills, joins, transfers of leadership, under load.
    Drill(drill::Options),
    /// Asks a hub full of events what analysts ask, and DuckDB the same over what it exports.
    Questions(questions::Options),
    /// Measures what taking events in takes beside statements that run into their limits.
    Runaway(runaway::Options),
    /// Measures live segments: their cost, how soon they change, counts.
    Segments(segments::Options),
}

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let role = arguments.get(1).and_then(|first| first.to_str()).unwrap_or_default();
    let part: Option<fn(Vec<_>) -> ExitCode> = match role {
        "node" => Some(isthmus_node::run),
        "cli" => Some(isthmus_client::cli::run),
        _ => None,
    };
    if let Some(part) = part {
        arguments.remove(1);
        return part(arguments);
    }
    let Arguments { task, measure } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match task {
        Some(Task::Drill(options)) => runtime.block_on(drill::run(options)),
        Some(Task::Questions(options)) => return runtime.block_on(questions::run(options)),
        Some(Task::Runaway(options)) => runtime.block_on(runaway::run(options)),
        Some(Task::Segments(options)) => runtime.block_on(segments::run(options)),
        None => runtime.block_on(measure::run(measure)),
    }
    ExitCode::SUCCESS
}

/// Three nodes of this program, with their data in a folder, which is emptied first.
fn three_nodes(folder: &Path, shards: u32) -> ClusterOptions {
    let _emptied = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    ClusterOptions {
        program: this_program("node"),
        data: folder.canonicalize().unwrap(),
        nodes: 3,
        shards,
        replicas: 3,
        arguments: vec![],
        environment: vec![("ISTHMUS_LOG".into(), "warn".into())],
        http_host: std::net::Ipv4Addr::LOCALHOST,
    }
}

/// The command that starts this program in another role.
fn this_program(role: &str) -> Vec<String> {
    vec![std::env::current_exe().unwrap().display().to_string(), role.to_owned()]
}
