//! Live segments under load: what they cost ingest, how soon a change of one is on the feed, how fast counts and new
//! segments are.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use isthmus_proto::v1::{
    IngestItem, IngestRequest, SegmentServiceCountRequest, WatchFilter, WatchRequest, change::What,
    ingest_item::Body, ingest_service_client::IngestServiceClient,
    profile_service_client::ProfileServiceClient, segment_service_client::SegmentServiceClient,
};
use isthmus_tests::{
    cli::Cli,
    cluster::Cluster,
    load::{self, Events, IngestLoad, Measured},
};
use jiff::Timestamp;
use parking_lot::Mutex;
use tonic::transport::Channel;

use crate::{measure::print, this_program, three_nodes};

/// What is measured.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Customers.
    #[arg(long, default_value_t = 1_000_000)]
    profiles: u64,
    /// Events of them that are there before; each customer has some.
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Events of each full-speed run.
    #[arg(long, default_value_t = 500_000)]
    burst: u64,
    /// Segments.
    #[arg(long, default_value_t = 100)]
    segments: u32,
    /// Events a second of the steady run.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Seconds of the steady run.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Customers in it who enter a segment, a second: each is timed.
    #[arg(long, default_value_t = 200)]
    probes: u64,
    /// Counts of each expression.
    #[arg(long, default_value_t = 500)]
    counts: usize,
    /// What comes in, and which segments look at it.
    #[arg(long, value_enum, default_value_t = Kind::Visits)]
    load: Kind,
    /// Shards.
    #[arg(long, default_value_t = 16)]
    shards: u32,
    /// Where the nodes keep their data: on a real file system. Emptied first.
    #[arg(long, default_value = "target/bench-segments")]
    data: PathBuf,
}

/// What the events are, and the segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// What a website sends, most of it views, and segments such as a shop keeps.
    Visits,
    /// Purchases only, and segments all of which look at each: four memberships change with every event.
    Purchases,
}

impl Kind {
    /// The events of half a year, or of the last minute.
    fn events(self, are_new: bool) -> Events {
        match self {
            Self::Visits => Events::Visits(Timestamp::now(), if are_new { 60 } else { 180 * 86_400 }),
            Self::Purchases => Events::Purchases,
        }
    }

    /// Definitions of many kinds.
    fn expression(self, number: u32) -> String {
        match self {
            Self::Visits => of_visits(number),
            Self::Purchases => of_purchases(number),
        }
    }
}

fn of_visits(number: u32) -> String {
    let n = number / 10 + 1;
    match number % 10 {
        0 => format!("events('Order Completed') >= {n}"),
        1 => format!("sum(revenue, 'Order Completed', '{} days') > {}", 30 * n, 250 * n),
        2 => format!("did('Product Viewed', '{n} days') AND NOT did('Order Completed', '30 days')"),
        3 => format!("last_seen < now() - INTERVAL '{} days'", 10 * n),
        4 => format!("sequence('Product Added', 'Order Completed', within => '{n} hours')"),
        5 => format!(
            "sequence('Product Added', NOT 'Order Completed', within => '1 hour', window => '{n} days')"
        ),
        6 => format!("events('Product Viewed', '{} days', category = 'books') >= {}", 7 * n, 1 + n),
        7 => format!("events(type => 'page', window => '30 days') > {}", 3 * n),
        8 => format!("did('Support Ticket', '{} days') AND segment('s{}')", 7 * n, number - 8),
        _ => format!("avg(revenue, 'Order Completed', '90 days') > {}", 30 * n),
    }
}

fn of_purchases(number: u32) -> String {
    let n = number / 5 + 1;
    match number % 5 {
        0 => format!("events('Order Completed') >= {n}"),
        1 => format!("sum(revenue, 'Order Completed', '{} days') > {}", 365 - n, n * 100),
        2 => format!("did('Order Completed', '{n} days') AND NOT did('Refunded', '30 days')"),
        3 => format!("last_seen > now() - INTERVAL '{n} days'"),
        _ => format!("sequence('Product Added', 'Order Completed', within => '{n} days')"),
    }
}

/// Measures all of it.
pub async fn run(options: Options) {
    let nodes = three_nodes(&options.data, options.shards);
    let data = nodes.data.clone();
    let mut cluster = Cluster::start(nodes).await;
    let channels: Vec<Channel> = (0..64).map(|n| cluster.channel(n % 3)).collect();
    let kind = options.load;
    let load = IngestLoad {
        what: kind.events(false),
        run: "before".into(),
        first: 0,
        events: options.events,
        profiles: options.profiles,
        batch: 500,
        parallel: channels.len(),
    };
    print("what is there before", "events", &load::ingest(&channels, &load).await);
    let burst = |run: &str| {
        let what = kind.events(true);
        IngestLoad { what, run: run.into(), events: options.burst, ..load.clone() }
    };
    let spent = processor_seconds(&cluster);
    let without = load::ingest(&channels, &burst("without")).await;
    print("ingest without segments", "events", &without);
    let spent_without = processor_seconds(&cluster) - spent;

    let (cli, endpoints) = (Cli(this_program("cli")), cluster.endpoints());
    let put = |name: &str, expression: &str, wait: bool| {
        let begun = Instant::now();
        let mut arguments = vec!["segment", "put", name, expression];
        arguments.extend(wait.then_some("--wait"));
        let ended = cli.run(&endpoints, &arguments);
        assert_eq!(ended.code, 0, "{name}: {}", ended.err);
        begun.elapsed()
    };
    let begun = Instant::now();
    for number in 0..options.segments {
        put(&format!("s{number}"), &kind.expression(number), number + 1 == options.segments);
    }
    println!("{} segments: live in {:.1} s", options.segments, begun.elapsed().as_secs_f64());
    put("probed", "did('Probed')", true);
    println!("  and all of it is told in {:.1} s", begun.elapsed().as_secs_f64());
    let begun_new = Instant::now();
    let took = put("new", "events('Order Completed') >= 2", true);
    println!("a new segment over {} profiles: live in {:.1} s", options.profiles, took.as_secs_f64());

    // Newer definitions take over when all that was found by those before is in the log.
    put("settled", "did('Never')", true);
    println!("  and all of it is told {:.1} s after", (begun_new.elapsed() - took).as_secs_f64());
    let spent = processor_seconds(&cluster);
    let with = load::ingest(&channels, &burst("with")).await;
    print(&format!("ingest with {} segments", options.segments), "events", &with);
    println!("  that is {:.0}% of what it was without", 100.0 * with.rate() / without.rate());
    let mut client = SegmentServiceClient::new(channels[0].clone());
    let behind = answered(&mut client, "s0", Duration::from_secs(300)).await;
    println!("  segments were {:.1} s behind", behind.as_secs_f64());
    let each = |seconds: f64| seconds * 1e6 / options.burst as f64;
    println!(
        "  processor time of all nodes: {:.1} us an event without, {:.1} us with",
        each(spent_without),
        each(processor_seconds(&cluster) - spent)
    );
    counts(&channels[0], options.counts).await;
    steady(&channels, &options).await;
    // Leaders of what the first one led make their engines anew.
    cluster.stop(0);
    let mut client = SegmentServiceClient::new(cluster.channel(1));
    let took = answered(&mut client, "s0", Duration::from_secs(300)).await;
    println!("a node stopped: answers again after {:.1} s", took.as_secs_f64());
    for index in 1..3 {
        let (peak, now) = cluster.memory(index);
        println!("memory of node {}: {} MiB now, {} MiB at most", index + 1, now >> 20, peak >> 20);
        cluster.stop(index);
    }
    fs::remove_dir_all(&data).unwrap();
}

/// What all nodes have taken of processors: other than speed, that is the same on a busy machine.
fn processor_seconds(cluster: &Cluster) -> f64 {
    (0..3).map(|index| cluster.processor_seconds(index)).sum()
}

/// Counts until there is an answer; how long that took.
async fn answered(
    client: &mut SegmentServiceClient<Channel>,
    expression: &str,
    within: Duration,
) -> Duration {
    let begun = Instant::now();
    loop {
        let request = SegmentServiceCountRequest { expression: expression.to_owned() };
        match client.count(request).await {
            Ok(_) => return begun.elapsed(),
            Err(status) => assert!(begun.elapsed() < within, "no answer to {expression}: {status}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn counts(channel: &Channel, times: usize) {
    for expression in ["s0", "s0 and s5 not s10"] {
        let mut client = SegmentServiceClient::new(channel.clone());
        // What came before is worked out first: how long that takes is not what is asked here.
        answered(&mut client, expression, Duration::from_secs(120)).await;
        let (begun, mut latencies, mut count) = (Instant::now(), Vec::new(), 0);
        for _ in 0..times {
            let sent = Instant::now();
            let request = SegmentServiceCountRequest { expression: expression.to_owned() };
            count = client.count(request).await.unwrap().into_inner().count;
            latencies.push(sent.elapsed());
        }
        let seconds = begun.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let measured = Measured { done: times as u64, seconds, latencies };
        print(&format!("count of `{expression}`, {count}"), "counts", &measured);
    }
}

/// Events at a steady rate, and beside them customers who enter a segment each by an event of their own.
async fn steady(channels: &[Channel], options: &Options) {
    let acknowledged: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let (entered, latencies): (Arc<AtomicU64>, Arc<Mutex<Vec<Duration>>>) = Default::default();
    let mut watch = ProfileServiceClient::new(channels[0].clone());
    let filter = WatchFilter { segments: vec!["probed".into()], ..WatchFilter::default() };
    let request = WatchRequest { filter: Some(filter), ..WatchRequest::default() };
    let mut feed = watch.watch(request).await.unwrap().into_inner();
    feed.message().await.unwrap();
    let reader = {
        let (acknowledged, entered, latencies) = (acknowledged.clone(), entered.clone(), latencies.clone());
        tokio::spawn(async move {
            let mut early: HashMap<String, Instant> = HashMap::new();
            while let Ok(Some(response)) = feed.message().await {
                let now = Instant::now();
                let mut known = acknowledged.lock();
                for change in response.changes {
                    let (Some(What::Segment(_)), Some(identifier)) = (change.what, change.identifier) else {
                        continue;
                    };
                    entered.fetch_add(1, Relaxed);
                    match known.remove(&identifier.value) {
                        Some(at) => latencies.lock().push(now - at),
                        // On the feed before its acknowledgement was here.
                        None => _ = early.insert(identifier.value, now),
                    }
                }
                early.retain(|user, _| match known.remove(user) {
                    Some(_) => {
                        latencies.lock().push(Duration::ZERO);
                        false
                    }
                    None => true,
                });
            }
        })
    };
    let over = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let background: Vec<_> = (0..8)
        .map(|sender| {
            let (channel, over, options) = (channels[sender].clone(), over.clone(), options.clone());
            tokio::spawn(async move {
                let mut client = IngestServiceClient::new(channel);
                let (mut sent, mut numbers) = (0_u64, load::Numbers(sender as u64));
                let run = format!("steady{sender}");
                while !over.load(Relaxed) {
                    // Steady: one sender after the other, not all of them at a time.
                    let before = sent * 8 + sender as u64 * 250;
                    let due = begun + Duration::from_secs_f64(before as f64 / options.rate as f64);
                    tokio::time::sleep_until(due.into()).await;
                    let what = options.load.events(true);
                    let items = (0..250).map(|n| {
                        let json = what.one(&run, sent + n, options.profiles, &mut numbers);
                        IngestItem { body: Some(Body::Json(json)), origin: String::new() }
                    });
                    let request = IngestRequest { items: items.collect(), ..IngestRequest::default() };
                    client.ingest(request).await.unwrap();
                    sent += 250;
                }
                sent
            })
        })
        .collect();
    let probes = options.seconds * options.probes;
    let taken: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let mut calls = Vec::new();
    for probe in 0..probes {
        let due = begun + Duration::from_secs_f64(probe as f64 / options.probes as f64);
        tokio::time::sleep_until(due.into()).await;
        let (channel, acknowledged) = (channels[8 + probe as usize % 32].clone(), acknowledged.clone());
        let taken = taken.clone();
        calls.push(tokio::spawn(async move {
            let user = format!("probe-{probe}");
            let json =
                format!(r#"{{"type":"track","event":"Probed","userId":"{user}","messageId":"{user}"}}"#);
            let item = IngestItem { body: Some(Body::Json(json.into())), origin: String::new() };
            let request = IngestRequest { items: vec![item], ..IngestRequest::default() };
            let sent = Instant::now();
            IngestServiceClient::new(channel).ingest(request).await.unwrap();
            taken.lock().push(sent.elapsed());
            acknowledged.lock().insert(user, Instant::now());
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
    let waited = Instant::now();
    while entered.load(Relaxed) < probes && waited.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    over.store(true, Relaxed);
    let mut sent = 0;
    for sender in background {
        sent += sender.await.unwrap();
    }
    let seconds = begun.elapsed().as_secs_f64();
    // What came before its acknowledgement waits for the next response: none comes any more.
    let known = entered.load(Relaxed);
    reader.abort();
    let mut latencies = std::mem::take(&mut *latencies.lock());
    latencies.resize(latencies.len().max(known as usize), Duration::ZERO);
    latencies.sort_unstable();
    println!("beside {:.0} events/s, {known} of {probes} probes came:", sent as f64 / seconds);
    let mut taken = std::mem::take(&mut *taken.lock());
    taken.sort_unstable();
    let measured = Measured { done: taken.len() as u64, seconds, latencies: taken };
    print("  from sending an event to its acknowledgement", "events", &measured);
    let measured = Measured { done: known, seconds, latencies };
    print("  from an event's acknowledgement to the change of a segment on the feed", "changes", &measured);
}
