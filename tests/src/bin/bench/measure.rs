//! The measurements: three node processes and the load generator on one machine, every write synced on a quorum. One
//! line is printed for each.
//!
//! The *unary call that does nothing*, a health check by as many callers as the single ingest has, is the floor: what
//! gRPC itself costs on this machine, on both sides. No call that does something can be faster.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use isthmus_proto::v1::{CreateRequest, source_service_client::SourceServiceClient};
use isthmus_tests::{
    cluster::Cluster,
    load::{self, Events, IngestLoad, Measured, MergeLoad},
};
use tonic::transport::Channel;

use crate::three_nodes;

/// Connections of clients that make one small call at a time.
const CONNECTIONS: usize = 64;

/// What is measured.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where the nodes keep their data: on a real file system. Emptied first.
    #[arg(long, default_value = "target/bench-data")]
    data: PathBuf,
    /// Shards.
    #[arg(long, default_value_t = 16)]
    shards: u32,
    /// Events sent in batches.
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Events in a batch.
    #[arg(long, default_value_t = 500)]
    batch: u64,
    /// Batches under way at a time: enough that the machine has work while some wait for disks.
    #[arg(long, default_value_t = 64)]
    parallel: usize,
    /// Customers that the events are of.
    #[arg(long, default_value_t = 100_000)]
    profiles: u64,
    /// Events sent over HTTP, 100 in a batch; 0 leaves it out.
    #[arg(long, default_value_t = 1_000_000)]
    http: u64,
    /// Events sent one by one.
    #[arg(long, default_value_t = 200_000)]
    single: u64,
    /// Events sent over ingest streams; 0 leaves them out.
    #[arg(long, default_value_t = 0)]
    stream_events: u64,
    /// Ingest streams, spread over the nodes.
    #[arg(long, default_value_t = 6)]
    streams: usize,
    /// Seconds of reading; half as many of calls that do nothing.
    #[arg(long, default_value_t = 10)]
    read_seconds: u64,
    /// Reads under way at a time.
    #[arg(long, default_value_t = 128)]
    readers: usize,
    /// Customers of the wide run.
    #[arg(long, default_value_t = 2_000_000)]
    wide_profiles: u64,
    /// Events of the wide run; 0 leaves it out.
    #[arg(long, default_value_t = 2_000_000)]
    wide_events: u64,
    /// Customers whose two profiles become one, as fast as they can; a quarter of them then at a steady rate.
    #[arg(long, default_value_t = 40_000)]
    merges: u64,
    /// Merges in a second at the steady rate.
    #[arg(long, default_value_t = 500)]
    merge_rate: u32,
    /// Keep the data.
    #[arg(long)]
    keep: bool,
}

/// Measures all of it.
pub async fn run(options: Options) {
    let nodes = three_nodes(&options.data, options.shards);
    let data = nodes.data.clone();
    println!("file system: {}", file_system(&data));
    let mut cluster = Cluster::start(nodes).await;
    let connections = |count: usize| -> Vec<Channel> { (0..count).map(|i| cluster.channel(i % 3)).collect() };
    let base = IngestLoad {
        what: Events::Purchases,
        run: "bench".into(),
        first: 0,
        events: options.events,
        profiles: options.profiles,
        batch: options.batch,
        parallel: options.parallel,
    };
    if options.events > 0 {
        let before = processor(&cluster);
        let measured = load::ingest(&connections(options.parallel), &base).await;
        print("batched ingest", "events", &measured);
        print_processor(&before, &cluster, measured.done);
    }
    if options.stream_events > 0 {
        let endpoint = |stream: usize| cluster.nodes[stream % 3].grpc.to_string();
        let endpoints: Vec<String> = (0..options.streams).map(endpoint).collect();
        let load = IngestLoad { run: "stream".into(), events: options.stream_events, ..base.clone() };
        let before = processor(&cluster);
        let measured = load::stream(&endpoints, &load).await;
        print(&format!("ingest over {} streams", options.streams), "events", &measured);
        print_processor(&before, &cluster, measured.done);
    }
    if options.http > 0 {
        let source = CreateRequest { name: "http".into(), ..CreateRequest::default() };
        let made = SourceServiceClient::new(cluster.channel(0)).create(source).await.unwrap().into_inner();
        let nodes: Vec<_> = cluster.nodes.iter().map(|node| node.http).collect();
        let http = IngestLoad { run: "http".into(), events: options.http, batch: 100, ..base.clone() };
        let before = processor(&cluster);
        let measured = load::http::ingest(&nodes, &made.write_key, &http).await;
        print("ingest over HTTP, 100 in a batch", "events", &measured);
        print_processor(&before, &cluster, measured.done);
    }
    if options.single > 0 {
        let single = IngestLoad {
            run: "single".into(),
            events: options.single,
            batch: 1,
            parallel: CONNECTIONS,
            ..base.clone()
        };
        let before = processor(&cluster);
        let measured = load::ingest(&connections(CONNECTIONS), &single).await;
        print(&format!("single ingest, {CONNECTIONS} connections"), "events", &measured);
        print_processor(&before, &cluster, measured.done);
    }
    if options.read_seconds > 0 {
        let duration = Duration::from_secs(options.read_seconds) / 2;
        let measured = load::checks(&connections(CONNECTIONS), CONNECTIONS, duration).await;
        print("unary call that does nothing", "calls", &measured);
        let duration = Duration::from_secs(options.read_seconds);
        let measured = load::reads(
            &connections(options.readers.min(CONNECTIONS)),
            options.profiles,
            options.readers,
            duration,
        )
        .await;
        print("linearizable reads", "reads", &measured);
    }
    if options.merges > 0 {
        merges(&cluster, &connections(options.parallel), &options).await;
    }
    if options.wide_events > 0 {
        let wide = IngestLoad {
            run: "wide".into(),
            events: options.wide_events,
            profiles: options.wide_profiles,
            ..base.clone()
        };
        let name = format!("batched ingest over {} profiles", options.wide_profiles);
        let before = processor(&cluster);
        let measured = load::ingest(&connections(options.parallel), &wide).await;
        print(&name, "events", &measured);
        print_processor(&before, &cluster, measured.done);
    }
    for index in 0..3 {
        let (peak, now) = cluster.memory(index);
        println!("memory of node {}: {} MiB now, {} MiB at most", index + 1, now >> 20, peak >> 20);
    }
    for index in 0..3 {
        println!("disk use of node {}: {} MiB", index + 1, cluster.disk_bytes(index) >> 20);
    }
    for index in 0..3 {
        cluster.stop(index);
    }
    if !options.keep {
        std::fs::remove_dir_all(&data).unwrap();
    }
}

/// Two profiles become one: many at once, then one by one at a steady rate.
async fn merges(cluster: &Cluster, connections: &[Channel], options: &Options) {
    let fast = MergeLoad {
        run: "fast".into(),
        merges: options.merges,
        batch: 50,
        parallel: options.parallel,
        rate: None,
    };
    let before = processor(cluster);
    let measured = load::merges(connections, &fast).await;
    print("merges of two profiles, 50 in a call", "merges", &measured);
    print_processor(&before, cluster, measured.done);
    let rate = f64::from(options.merge_rate);
    let steady =
        MergeLoad { run: "steady".into(), merges: options.merges / 4, batch: 1, rate: Some(rate), ..fast };
    let measured = load::merges(connections, &steady).await;
    print(&format!("merges at {rate} a second, one in a call"), "merges", &measured);
}

fn processor(cluster: &Cluster) -> Vec<f64> {
    (0..3).map(|index| cluster.processor_seconds(index)).collect()
}

fn print_processor(before: &[f64], cluster: &Cluster, done: u64) {
    let used: Vec<f64> = processor(cluster).iter().zip(before).map(|(now, before)| now - before).collect();
    let each: Vec<String> = used.iter().map(|seconds| format!("{seconds:.1}")).collect();
    let micros = used.iter().sum::<f64>() * 1e6 / done as f64;
    println!("  processor seconds of the nodes: {}; {micros:.1} µs of theirs for each", each.join(", "));
}

/// Prints what a run came to.
pub fn print(name: &str, unit: &str, measured: &Measured) {
    println!(
        "{name}: {:.0} {unit}/s ({} in {:.1} s; p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms)",
        measured.rate(),
        measured.done,
        measured.seconds,
        measured.percentile(0.5).as_secs_f64() * 1e3,
        measured.percentile(0.99).as_secs_f64() * 1e3,
        measured.percentile(1.0).as_secs_f64() * 1e3,
    );
}

/// The file system that a folder lies on, from the longest mount point in its path.
fn file_system(path: &std::path::Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?, fields.next()?, fields.next()?))
    });
    fields
        .filter(|(_, point, _)| path.starts_with(point))
        .max_by_key(|(_, point, _)| point.len())
        .map(|(device, point, kind)| format!("{kind} on {point} ({device})"))
        .unwrap_or_else(|| "unknown".into())
}
