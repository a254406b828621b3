//! The drills in full, on real processes: `cargo run --release -p isthmus-tests --bin drill`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a drill prints, and may panic with the place")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use isthmus_tests::{
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
    drills,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Which drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Drill {
    /// A million events while nodes are killed and restarted, ten times.
    Kills,
    /// All nodes killed in the middle of full load.
    Restart,
    /// A fourth node joins, an old one is removed.
    Members,
    /// Reads after writes through other nodes, during transfers of leadership.
    Linearizable,
    /// The gap in writes when a leader is killed, fifty times.
    Failover,
}

/// Runs drills on a cluster of three nodes on this machine.
#[derive(Parser, Debug)]
struct Options {
    /// Which ones; all of them by default.
    #[arg(value_enum)]
    drills: Vec<Drill>,
    /// Where the nodes keep their data. Emptied first.
    #[arg(long, default_value = "target/drill-data")]
    data: PathBuf,
    /// Events of the drill `kills`.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Kills of the drills `kills` (at most) and `failover`.
    #[arg(long)]
    kills: Option<usize>,
}

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let first = arguments.get(1).and_then(|first| first.to_str()).unwrap_or_default().to_owned();
    match first.as_str() {
        "node" => {
            arguments.remove(1);
            isthmus_node::run(arguments)
        }
        "cli" => {
            arguments.remove(1);
            isthmus_client::cli::run(arguments)
        }
        _ => {
            let options = Options::parse();
            tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run(options));
            ExitCode::SUCCESS
        }
    }
}

async fn run(options: Options) {
    let all = [Drill::Kills, Drill::Restart, Drill::Members, Drill::Linearizable, Drill::Failover];
    let drills = if options.drills.is_empty() { all.to_vec() } else { options.drills.clone() };
    let program = std::env::current_exe().unwrap().display().to_string();
    let cli = Cli(vec![program.clone(), "cli".into()]);
    for drill in drills {
        let _emptied = std::fs::remove_dir_all(&options.data);
        std::fs::create_dir_all(&options.data).unwrap();
        let data = options.data.canonicalize().unwrap();
        let mut cluster = Cluster::start(ClusterOptions {
            program: vec![program.clone(), "node".into()],
            data: data.clone(),
            nodes: 3,
            shards: 16,
            replicas: 3,
            arguments: vec![],
            environment: vec![("ISTHMUS_LOG".into(), "info".into())],
        })
        .await;
        match drill {
            Drill::Kills => {
                let kills = options.kills.unwrap_or(10);
                let report =
                    drills::kills_during_ingest(&mut cluster, &cli, &data, options.events, kills).await;
                println!("kills: {report:?}");
            }
            Drill::Restart => {
                let report = drills::all_killed_under_load(&mut cluster, Duration::from_secs(20), 16).await;
                println!("restart: {report:?}");
            }
            Drill::Members => {
                let report = drills::a_node_joins_and_another_leaves(&mut cluster, 0).await;
                println!("members: {report:?}");
            }
            Drill::Linearizable => {
                let report = drills::reads_after_writes(&cluster, 10_000, 8).await;
                println!("linearizable: {report:?}");
            }
            Drill::Failover => {
                let gaps = drills::leader_kills(&mut cluster, options.kills.unwrap_or(50)).await;
                println!(
                    "failover: {} kills, gap in writes p50 {:?}, p99 {:?}, longest {:?}",
                    gaps.0.len(),
                    gaps.percentile(0.5),
                    gaps.percentile(0.99),
                    gaps.percentile(1.0)
                );
            }
        }
    }
    let _emptied = std::fs::remove_dir_all(&options.data);
}
