//! What analysts ask, on a hub full of events and in DuckDB over what it exports: the same answers, and how long they took.
//!
//! Three node processes, a shop's history, and DuckDB with two threads share the machine; while one of the two answers, the
//! other rests. What is measured on either side is the statement alone, by a client in Python with an open connection.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use isthmus_tests::{
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
    load::{
        fill,
        shop::{SEGMENTS, Shop},
    },
    questions,
};
use tonic::transport::Channel;

use crate::{measure::print, this_program};

/// What is asked, and of how much.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Customers.
    #[arg(long, default_value_t = 1_000_000)]
    profiles: u64,
    /// Events of them.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Python with the packages of tests/sdks/requirements.txt [default: that of tests/sdks/install]
    #[arg(long, value_name = "PYTHON")]
    duckdb: Option<PathBuf>,
    /// Runs of each question on either side, after one that doesn't count.
    #[arg(long, default_value_t = 5)]
    times: u32,
    /// DuckDB's threads.
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// Only questions with this in their names.
    #[arg(long, default_value = "", hide_default_value = true)]
    only: String,
    /// Where the nodes keep their data, and what they export: on a real file system.
    #[arg(long, default_value = "target/bench-questions")]
    data: PathBuf,
    /// Shards.
    #[arg(long, default_value_t = 16)]
    shards: u32,
    /// Memory for queries in each node.
    #[arg(long, default_value = "2GiB")]
    memory: String,
    /// Memory for decoded columns in each node.
    #[arg(long, default_value = "2GiB")]
    columns: String,
    /// Keep the data.
    #[arg(long)]
    keep: bool,
    /// Ask what an earlier run kept, instead of loading it anew; what was exported then is taken as it is.
    #[arg(long)]
    again: bool,
}

/// Runs it; not well where an answer differs.
pub async fn run(options: Options) -> ExitCode {
    let Some(python) = options.duckdb.clone().or_else(questions::python) else { return ExitCode::FAILURE };
    if !options.again {
        let _emptied = fs::remove_dir_all(&options.data);
        fs::create_dir_all(options.data.join("exported")).unwrap();
    }
    let data = options.data.canonicalize().unwrap();
    let exported = data.join("exported");
    let mut cluster = start(&options, &data, &exported).await;
    if !options.again {
        load(&cluster, &options).await;
    }
    rests(&cluster).await;
    for index in 0..3 {
        let (peak, now) = cluster.memory(index);
        println!("memory of node {}: {} MiB now, {} MiB at most", index + 1, now >> 20, peak >> 20);
    }
    let mut compare = questions::compare(&python, &cluster.endpoints(), &exported);
    compare.args(["--times", &options.times.to_string(), "--threads", &options.threads.to_string()]);
    compare.args(["--only", &options.only]);
    let ended = tokio::task::spawn_blocking(move || compare.status().unwrap()).await.unwrap();
    for index in 0..3 {
        cluster.stop(index);
    }
    if !options.keep && !options.again {
        fs::remove_dir_all(&data).unwrap();
    }
    if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn start(options: &Options, data: &Path, exported: &Path) -> Cluster {
    let cluster = ClusterOptions {
        program: this_program("node"),
        data: data.to_owned(),
        nodes: 3,
        shards: options.shards,
        replicas: 3,
        arguments: vec![],
        environment: vec![
            ("ISTHMUS_LOG".into(), "warn".into()),
            (questions::EXPORT_DIR.into(), exported.display().to_string()),
            ("ISTHMUS_QUERY__MEMORY".into(), options.memory.clone()),
            ("ISTHMUS_QUERY__COLUMNS".into(), options.columns.clone()),
            ("ISTHMUS_QUERY__TIMEOUT".into(), "1h".into()),
        ],
        http_host: std::net::Ipv4Addr::LOCALHOST,
    };
    // Nodes are found again where they were.
    let kept = data.join("addresses.json");
    if options.again {
        let addresses: Vec<[SocketAddr; 3]> = serde_json::from_slice(&fs::read(kept).unwrap()).unwrap();
        return Cluster::start_again(cluster, &addresses).await;
    }
    let cluster = Cluster::start(cluster).await;
    let addresses: Vec<_> = cluster.nodes.iter().map(|node| [node.grpc, node.http, node.peer]).collect();
    fs::write(kept, serde_json::to_vec(&addresses).unwrap()).unwrap();
    cluster
}

async fn load(cluster: &Cluster, options: &Options) {
    let (cli, endpoints) = (Cli(this_program("cli")), cluster.endpoints());
    let keys = fill::prepare(&cli, &endpoints);
    let channels: Vec<Channel> = (0..64).map(|n| cluster.channel(n % 3)).collect();
    let shop = Shop { customers: options.profiles, events: options.events };
    let measured = fill::fill(&channels, keys, shop, 500, channels.len()).await;
    print("a shop's history", "events", &measured);
    for (name, expression) in SEGMENTS {
        let ended = cli.run(&endpoints, &["segment", "put", name, expression, "--wait"]);
        assert_eq!(ended.code, 0, "{name}: {}", ended.err);
    }
}

/// Waits until the nodes have little left to do of what came in: what is written out and merged in the background.
async fn rests(cluster: &Cluster) {
    const LOOK_EVERY: Duration = Duration::from_secs(5);
    let used = || (0..3).map(|index| cluster.processor_seconds(index)).sum::<f64>();
    for _ in 0..60 {
        let before = used();
        tokio::time::sleep(LOOK_EVERY).await;
        if used() - before < 0.3 * LOOK_EVERY.as_secs_f64() {
            return;
        }
    }
    println!("the nodes don't come to rest: what follows was measured beside what they do");
}
