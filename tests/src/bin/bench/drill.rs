//! The drills in full, on real processes. The tests run the same ones small.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use isthmus_tests::{
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
    drills,
    load::{self, IngestLoad},
};

use crate::this_program;

/// Which drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drill {
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

/// Which drills, and how large.
#[derive(Args, Debug)]
pub struct Options {
    /// Which ones; all of them by default.
    #[arg(value_enum)]
    drills: Vec<Drill>,
    /// Where the nodes keep their data. Emptied first.
    #[arg(long, default_value = "target/drill-data")]
    data: PathBuf,
    /// Events of the drill `kills`; `restart` kills once half as many are acknowledged, `members` begins with a quarter.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Kills of the drills `kills` (at most) and `failover`.
    #[arg(long)]
    kills: Option<usize>,
}

/// Runs drills, each on a cluster of its own.
pub async fn run(options: Options) {
    let all = [Drill::Kills, Drill::Restart, Drill::Members, Drill::Linearizable, Drill::Failover];
    let drills = if options.drills.is_empty() { all.to_vec() } else { options.drills.clone() };
    let cli = Cli(this_program("cli"));
    for drill in drills {
        let _emptied = std::fs::remove_dir_all(&options.data);
        std::fs::create_dir_all(&options.data).unwrap();
        let data = options.data.canonicalize().unwrap();
        let mut cluster = Cluster::start(ClusterOptions {
            program: this_program("node"),
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
                let report = drills::all_killed_under_load(&mut cluster, options.events / 2, 16).await;
                println!("restart: {report:?}");
            }
            Drill::Members => {
                // Something to move: the new node is sent snapshots.
                let before = IngestLoad {
                    run: "before".into(),
                    first: 0,
                    events: options.events / 4,
                    profiles: 100_000,
                    batch: 500,
                    parallel: 32,
                };
                let channels: Vec<_> = (0..before.parallel).map(|index| cluster.channel(index % 3)).collect();
                load::ingest(&channels, &before).await;
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
