//! `isthmus-node demo`: a cluster of three nodes takes a real purchase history in and shows what it makes of it.
//!
//! Everything goes through the public gRPC interface, as a client's would. What comes out is compared with totals that
//! were computed independently, and the command fails if they differ.

mod history;

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use isthmus_coordinator::{DEV_SOURCE, DEV_WRITE_KEY};
use isthmus_domain::Amount;
use isthmus_proto::v1::{
    GetRequest, Identifier, IngestRequest, ItemOutcome, Profile, ProfileKey, ProfileServiceListRequest,
    TimelineEvent, TimelineRequest, ingest_service_client::IngestServiceClient, profile_key::Key,
    profile_service_client::ProfileServiceClient,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use self::history::{CUSTOMERS, EVENT, REVENUE, TRANSACTIONS};
use crate::{
    Error, Result,
    dev::{DevCluster, DevOptions},
    signals,
};

/// The customer that is shown, by the sample's id.
const CUSTOMER: &str = "1901";
/// Events of that customer that are shown.
const EVENTS_SHOWN: u32 = 5;
/// Items of a batch, and batches on their way at a time.
const BATCH_ITEMS: usize = 500;
const BATCHES: usize = 4;
/// Profiles of a page.
const PAGE: u32 = 1_000;
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the subcommand; with `keep` it stays up until told to stop.
///
/// # Errors
/// [`Error::Demo`] when what comes out is not what is known to be true; others for what failed.
pub async fn run(keep: bool) -> Result<()> {
    let stop = signals::stop_token()?;
    let dir = tempfile::tempdir().map_err(Error::io("make a temporary directory"))?;
    println!("Starting three nodes in {} ...", dir.path().display());
    let options = DevOptions { nodes: 3, data_dir: dir.path().to_owned(), port: 0, shards: 16, replicas: 3 };
    let begun = Instant::now();
    let cluster = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        started = DevCluster::start(&options, &stop) => started?,
    };
    println!("  ready in {:.1} s: 16 shards, each on all three nodes\n", begun.elapsed().as_secs_f64());
    let shown = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        shown = show(&cluster) => shown,
    };
    if shown.is_ok() {
        go_on(&cluster, keep, &stop).await;
    }
    cluster.stop().await;
    shown
}

/// Takes the history in and shows what came of it.
async fn show(cluster: &DevCluster) -> Result<()> {
    // Any node takes any request: writes go to the first node, reads to the last.
    let (first, last) = match cluster.nodes() {
        [first, .., last] => (first, last),
        _ => return Err(Error::Demo("the cluster has too few nodes".to_owned())),
    };
    let connect = |address: &str| Endpoint::from_shared(format!("http://{address}"));
    let writer = connect(&first.addresses().grpc)?.timeout(CALL_TIMEOUT).connect().await?;
    let reader = connect(&last.addresses().grpc)?.timeout(CALL_TIMEOUT).connect().await?;
    ingest(writer).await?;
    let mut profiles = ProfileServiceClient::new(reader).max_decoding_message_size(64 << 20);
    check_totals(&mut profiles).await?;
    show_customer(&mut profiles).await
}

async fn ingest(channel: Channel) -> Result<()> {
    let items: Vec<_> = history::items()?;
    println!(
        "Taking in {} purchases at an online shop, 1997 and 1998 (CDNOW; a line each, any of which may look like \
              another) ...",
        items.len()
    );
    let begun = Instant::now();
    let batches = items.chunks(BATCH_ITEMS).map(|items| IngestRequest {
        write_key: DEV_WRITE_KEY.to_owned(),
        items: items.to_vec(),
        ..IngestRequest::default()
    });
    let sent = stream::iter(batches.map(|batch| {
        let mut client = IngestServiceClient::new(channel.clone());
        async move { Ok::<_, tonic::Status>(client.ingest(batch).await?.into_inner()) }
    }));
    let responses: Vec<_> = sent.buffer_unordered(BATCHES).try_collect().await?;
    let seconds = begun.elapsed().as_secs_f64();
    let results = || responses.iter().flat_map(|response| &response.results);
    let accepted = results().filter(|result| result.outcome() == ItemOutcome::Accepted).count();
    if let Some(refused) = results().find(|result| result.outcome() != ItemOutcome::Accepted) {
        let (outcome, reason) = (refused.outcome(), &refused.reason);
        return Err(Error::Demo(format!("a purchase was not accepted: {} {reason}", outcome.as_str_name())));
    }
    println!(
        "  {accepted} accepted in {seconds:.2} s: {:.0} a second, each on disk on two nodes of three at least\n",
        accepted as f64 / seconds
    );
    Ok(())
}

/// Adds all profiles up and compares with what is known.
async fn check_totals(client: &mut ProfileServiceClient<Channel>) -> Result<()> {
    let (mut customers, mut transactions, mut revenue) = (0_u64, 0_u64, Amount::zero());
    let mut cursor = String::new();
    loop {
        let request =
            ProfileServiceListRequest { limit: PAGE, cursor, ..ProfileServiceListRequest::default() };
        let page = client.list(request).await?.into_inner();
        for profile in &page.profiles {
            customers += 1;
            transactions += profile.event_counts.get(EVENT).copied().unwrap_or_default();
            let sum: Amount = profile
                .revenue
                .parse()
                .map_err(|_| Error::Demo("a profile's revenue is no amount".to_owned()))?;
            revenue += &sum;
        }
        cursor = page.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    println!("What the hub found, and what is known to be true:");
    let rows = [
        ("customers", customers.to_string(), CUSTOMERS.to_string()),
        ("purchases", transactions.to_string(), TRANSACTIONS.to_string()),
        ("revenue in dollars", revenue.to_string(), REVENUE.to_owned()),
    ];
    let mut equal = true;
    for (name, found, known) in rows {
        let mark = if found == known { "equal" } else { "DIFFERENT" };
        equal &= found == known;
        println!("  {name:<20} {found:>10}   {known:>10}   {mark}");
    }
    println!();
    if equal { Ok(()) } else { Err(Error::Demo("the totals differ from what is known".to_owned())) }
}

async fn show_customer(client: &mut ProfileServiceClient<Channel>) -> Result<()> {
    let identifier = Identifier { namespace: "user_id".to_owned(), value: CUSTOMER.to_owned() };
    let key = Some(ProfileKey { key: Some(Key::Identifier(identifier)) });
    let request = GetRequest { key: key.clone(), ..GetRequest::default() };
    let profile = client.get(request).await?.into_inner().profile.unwrap_or_default();
    print_profile(&profile);
    let request = TimelineRequest { key, limit: EVENTS_SHOWN, ..TimelineRequest::default() };
    let timeline = client.timeline(request).await?.into_inner();
    println!("  the newest events");
    for event in &timeline.events {
        println!("    {}", line_of(event));
    }
    println!();
    Ok(())
}

fn print_profile(profile: &Profile) {
    let counts: &BTreeMap<String, u64> = &profile.event_counts;
    println!("Customer {CUSTOMER}:");
    println!("  profile   {}", profile.profile_id);
    for (event, count) in counts {
        println!("  events    {event}: {count}");
    }
    println!("  revenue   {} USD", profile.revenue);
    println!("  seen      {} to {}", day(profile.first_seen.as_ref()), day(profile.last_seen.as_ref()));
    println!("  sources   {}", profile.sources.join(", "));
}

fn line_of(event: &TimelineEvent) -> String {
    format!("{}  {}  {}", day(event.timestamp.as_ref()), event.name, event.properties_json)
}

/// The day of a time, in UTC.
fn day(time: Option<&prost_types::Timestamp>) -> String {
    let micros = time.map(|time| time.seconds.saturating_mul(1_000_000));
    let text = micros.and_then(isthmus_domain::value::rfc3339).unwrap_or_default();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// Says how to go on, and with `keep` waits to be told to stop.
async fn go_on(cluster: &DevCluster, keep: bool, stop: &CancellationToken) {
    if !keep {
        println!(
            "To look around yourself: `isthmus-node demo --keep` leaves this cluster running; `isthmus-node dev`"
        );
        println!("starts an empty one; `cargo install --path client` installs the CLI `isthmus` for both.");
        return;
    }
    let endpoint = cluster.endpoint();
    println!(
        "The cluster stays up until Ctrl-C. Clients connect to {endpoint}; source `{DEV_SOURCE}`, write key"
    );
    println!("`{DEV_WRITE_KEY}`. For example, after `cargo install --path client`:");
    println!("  export ISTHMUS_ENDPOINT={endpoint}");
    println!("  isthmus profile get user_id:{CUSTOMER}");
    println!("  isthmus profile timeline user_id:{CUSTOMER}");
    println!("  isthmus cluster shards");
    stop.cancelled().await;
}
