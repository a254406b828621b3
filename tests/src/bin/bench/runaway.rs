//! What a statement without an end costs those who send events meanwhile.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use isthmus_proto::v1::{
    IngestItem, IngestRequest, ingest_item::Body, ingest_service_client::IngestServiceClient,
};
use isthmus_tests::{
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
    load::{self, Events, IngestLoad, Measured, Numbers},
};
use tonic::transport::Channel;

use crate::{measure::print, this_program, three_nodes};

/// What is measured.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Customers.
    #[arg(long, default_value_t = 100_000)]
    profiles: u64,
    /// Events of them that are there before: statements run over pairs of these.
    #[arg(long, default_value_t = 500_000)]
    events: u64,
    /// Events a second.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Events in a call.
    #[arg(long, default_value_t = 50)]
    batch: u64,
    /// Seconds of each round.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Rounds of each kind, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// After how long a statement is stopped.
    #[arg(long, default_value = "5s")]
    timeout: String,
    /// Shards.
    #[arg(long, default_value_t = 16)]
    shards: u32,
    /// Where the nodes keep their data: on a real file system. Emptied first.
    #[arg(long, default_value = "target/bench-runaway")]
    data: PathBuf,
}

/// Joins without an end: one counts, the rows of the other are taken by a client.
const STATEMENTS: [(&str, &str); 2] = [
    ("a join that counts", "SELECT count(*) FROM events a, events b WHERE a.message_id < b.message_id"),
    ("a join whose rows are taken", "SELECT a.message_id, b.properties FROM events a CROSS JOIN events b"),
];

/// Measures it.
pub async fn run(options: Options) {
    let nodes = three_nodes(&options.data, options.shards);
    let data = nodes.data.clone();
    let limits = [("ISTHMUS_LOG", "error"), ("ISTHMUS_QUERY__TIMEOUT", &options.timeout)];
    let environment = limits.map(|(key, value)| (key.into(), value.into())).to_vec();
    let mut cluster = Cluster::start(ClusterOptions { environment, ..nodes }).await;
    let channels: Vec<Channel> = (0..24).map(|n| cluster.channel(n % 3)).collect();
    let before = IngestLoad {
        what: Events::Purchases,
        run: "before".into(),
        first: 0,
        events: options.events,
        profiles: options.profiles,
        batch: 500,
        parallel: channels.len(),
    };
    print("what is there before", "events", &load::ingest(&channels, &before).await);
    let mut all: [Vec<Duration>; 1 + STATEMENTS.len()] = Default::default();
    for round in 0..options.rounds {
        all[0].extend(steady(&channels, &options, &format!("quiet{round}")).await);
        for (number, (name, statement)) in STATEMENTS.into_iter().enumerate() {
            let over = Arc::new(AtomicBool::new(false));
            let asker = {
                let (over, endpoints) = (over.clone(), cluster.endpoints());
                tokio::task::spawn_blocking(move || asked(&endpoints, statement, &over))
            };
            all[1 + number].extend(steady(&channels, &options, &format!("beside{number}-{round}")).await);
            over.store(true, Relaxed);
            println!("  {name}: {} times, each stopped with QUERY_LIMIT", asker.await.unwrap());
        }
    }
    let seconds = (options.seconds * u64::from(options.rounds)) as f64;
    let mut measured = all.into_iter().map(|mut latencies| {
        latencies.sort_unstable();
        Measured { done: latencies.len() as u64, seconds, latencies }
    });
    println!("{} events/s, {} in a call:", options.rate, options.batch);
    let p99 = |measured: &Measured| measured.percentile(0.99).as_secs_f64();
    let quiet = measured.next().unwrap();
    print("  by themselves", "calls", &quiet);
    for ((name, _), beside) in STATEMENTS.iter().zip(measured) {
        print(&format!("  beside {name}"), "calls", &beside);
        println!("    p99 is {:.2} times what it was", p99(&beside) / p99(&quiet));
    }
    for index in 0..3 {
        cluster.stop(index);
    }
    fs::remove_dir_all(&data).unwrap();
}

/// Asks until it is over; how often. Every time it has to be stopped.
fn asked(endpoints: &str, statement: &str, over: &AtomicBool) -> u64 {
    // Whoever asks would be on another machine: here they take what the nodes leave, and the rows go nowhere.
    let shell = ["nice", "-n", "19", "sh", "-c", r#"exec "$@" > /dev/null"#, "sh"].map(str::to_owned);
    let (cli, mut times) = (Cli(shell.into_iter().chain(this_program("cli")).collect()), 0);
    while !over.load(Relaxed) {
        let ended = cli.run(endpoints, &["sql", statement, "--output", "csv"]);
        assert!(ended.code != 0 && ended.err.contains("QUERY_LIMIT"), "{statement}: {}", ended.err);
        times += 1;
    }
    times
}

/// Events at a steady rate; the latencies of their calls, from when each was due.
async fn steady(channels: &[Channel], options: &Options, run: &str) -> Vec<Duration> {
    let (begun, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let calls = options.rate * options.seconds / options.batch;
    let senders = channels.iter().cloned().map(|channel| {
        let (next, options, run) = (next.clone(), options.clone(), run.to_owned());
        tokio::spawn(async move {
            let (mut client, mut latencies) = (IngestServiceClient::new(channel), Vec::new());
            loop {
                let call = next.fetch_add(1, Relaxed);
                if call >= calls {
                    return latencies;
                }
                let due =
                    begun + Duration::from_secs_f64((call * options.batch) as f64 / options.rate as f64);
                let mut numbers = Numbers(call);
                let items = (0..options.batch).map(|n| {
                    let json: Bytes =
                        Events::Purchases.one(&run, call * options.batch + n, options.profiles, &mut numbers);
                    IngestItem { body: Some(Body::Json(json)), origin: String::new() }
                });
                let request = IngestRequest { items: items.collect(), ..IngestRequest::default() };
                tokio::time::sleep_until(due.into()).await;
                client.ingest(request).await.unwrap();
                latencies.push(due.elapsed());
            }
        })
    });
    let mut all = Vec::new();
    for sender in senders.collect::<Vec<_>>() {
        all.extend(sender.await.unwrap());
    }
    all
}
