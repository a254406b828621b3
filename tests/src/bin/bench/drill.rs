//! The drills in full, on real processes. The tests run the same ones small.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use isthmus_tests::{
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
    drills::{self, matching::People},
    load::{self, Events, IngestLoad},
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
    /// People who share no identifier are found: in full, and as they come.
    Matching,
    /// A customer of a thousand identifiers and `--events` events comes together while others are served.
    Giant,
    /// A watch on 10,000 customers that change, with the busiest node killed three times.
    Feed,
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
    let drills = if options.drills.is_empty() { Drill::value_variants() } else { &options.drills };
    let cli = Cli(this_program("cli"));
    for &drill in drills {
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
            http_host: std::net::Ipv4Addr::LOCALHOST,
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
                    what: Events::Purchases,
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
            Drill::Matching => matching(&cluster, &cli, &data).await,
            Drill::Feed => {
                let kills = options.kills.unwrap_or(3);
                let report = drills::a_watch_over_kills(&mut cluster, 10_000, 10, kills).await;
                println!("feed: {report:?}");
            }
            Drill::Giant => {
                let report = drills::a_giant_comes_together(&cluster, 1_000, options.events).await;
                let memory: Vec<u64> = (0..3).map(|index| cluster.memory(index).0 >> 20).collect();
                println!("giant: {report:?}; memory of the nodes at most {memory:?} MiB");
            }
        }
    }
    let _emptied = std::fs::remove_dir_all(&options.data);
}

/// The sets of FEBRL: the second one first in part, with the rest coming live, then in full.
async fn matching(cluster: &Cluster, cli: &Cli, data: &Path) {
    let (first, second) = (People::of("febrl4a.csv"), People::of("febrl4b.csv"));
    let both = first.and(&second);
    drills::matching::send(cluster, cli, data, &first);
    let half = drills::matching::full_pass(cluster, cli, data, &both, &[]);
    println!("matching: febrl4a alone: {} links, {:.2?}", half.links.len(), half.took);
    let live = drills::matching::live(cluster, cli, &second).await;
    println!(
        "matching: febrl4b live after it: {}, the longest took {:.1} ms",
        both.accuracy(&live.links),
        live.longest_ms
    );
    for left_out in [&[][..], &["soc_sec_id"]] {
        let pass = drills::matching::full_pass(cluster, cli, data, &both, left_out);
        println!("matching: febrl4 without {left_out:?}: {}, {:.2?}", both.accuracy(&pass.links), pass.took);
        if left_out.is_empty() {
            let (only_live, only_full) =
                (live.links.difference(&pass.links).count(), pass.links.difference(&live.links).count());
            println!("matching: links found only live {only_live}, only in full {only_full}");
        }
    }
}
