//! A watch on many profiles that change and come together, while the node that leads most is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use isthmus_client::{Client, WatchOptions};
use isthmus_proto::v1::{
    Change, IngestItem, TimelineEvent, TimelineRequest, WatchFrom, WatchRequest, change::What,
    ingest_item::Body,
};
use tokio::sync::watch;

use crate::cluster::{Cluster, PATIENCE};

/// Events in one call.
const BATCH: usize = 100;
/// One customer in so many shows a cookie, too.
const LINKED: u64 = 5;

/// What was seen.
#[derive(Clone, Debug)]
pub struct FeedReport {
    /// Customers that changed.
    pub profiles: u64,
    /// Events that were acknowledged.
    pub events: usize,
    /// Changes of who belongs to a profile.
    pub members: usize,
    /// Changes that came more than once.
    pub repeated: usize,
    /// Nodes that were killed meanwhile.
    pub kills: usize,
    /// Seconds from the first event to the last change.
    pub seconds: f64,
    /// Changes in a second that a second watch, from the beginning, was served afterwards.
    pub again_per_second: f64,
}

/// Watches `profiles` customers with `rounds` events each, while the busiest node is killed `kills` times.
///
/// # Panics
/// When a change is missing, made up, out of order or without its id, compared with the timelines.
pub async fn a_watch_over_kills(
    cluster: &mut Cluster,
    profiles: u64,
    rounds: u64,
    kills: usize,
) -> FeedReport {
    let client = Client::builder()
        .endpoints(cluster.nodes.iter().map(|node| node.grpc.to_string()))
        .deadline(PATIENCE)
        .connect_lazy()
        .unwrap();
    let expected: BTreeSet<String> =
        (0..rounds).flat_map(|round| (0..profiles).map(move |user| message_id(user, round))).collect();
    let now = WatchRequest { start: WatchFrom::Now.into(), ..WatchRequest::default() };
    // A hub that stays away fails the drill.
    let mut changes = client.watch_with(now, WatchOptions::new().patience(PATIENCE));
    let first = changes.try_next().await.unwrap().unwrap();
    assert!(first.changes.is_empty() && !first.cursor.is_empty());
    let (begin, linked) = (Instant::now(), profiles.div_ceil(LINKED));
    let (count, seen) = watch::channel(0);
    let wanted = expected.clone();
    let watching = tokio::task::spawn(async move {
        let (mut found, mut open, mut joins) = (Vec::new(), wanted, 0);
        while !open.is_empty() || joins < linked {
            let response = tokio::time::timeout(PATIENCE, changes.try_next()).await;
            let Ok(response) = response else {
                panic!("{} events and {} joins are missing", open.len(), linked - joins)
            };
            for change in response.unwrap().unwrap().changes {
                match &change.what {
                    Some(What::Event(event)) => _ = open.remove(&event.message_id),
                    Some(What::Members(members)) => joins += u64::from(members.came_count > 0),
                    Some(What::Segment(_)) => panic!("nobody has defined a segment"),
                    None => panic!("a change of nothing"),
                }
                found.push(change);
            }
            count.send_replace(found.len());
        }
        found
    });
    let (sent, mut progress) = watch::channel(0);
    let writer = tokio::task::spawn(write(client.clone(), profiles, rounds, sent));
    let total = (profiles * rounds) as usize;
    for kill in 1..=kills {
        progress.wait_for(|sent| *sent >= total * kill / (kills + 1)).await.unwrap();
        let victim = cluster.busiest().await;
        cluster.kill(victim);
        cluster.serving().await;
        cluster.launch(victim);
        cluster.healthy().await;
    }
    writer.await.unwrap();
    let found = watching.await.unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(*seen.borrow(), found.len());

    let again = Instant::now();
    let second = from_the_beginning(&client, found.len()).await;
    let again_per_second = second.len() as f64 / again.elapsed().as_secs_f64();
    let repeated = found.len() - ids(&found).len();
    assert_eq!(ids(&found), ids(&second), "another watch is served others");
    let members = compare(&client, &found, &expected, profiles).await;
    FeedReport { profiles, events: total, members, repeated, kills, seconds, again_per_second }
}

fn message_id(user: u64, round: u64) -> String {
    format!("f{user}-{round}")
}

fn item(user: u64, round: u64) -> IngestItem {
    let cookie = match user.is_multiple_of(LINKED) && round == 0 {
        true => format!(r#","anonymousId":"c{user}""#),
        false => String::new(),
    };
    let said = match round % 2 {
        0 => format!(r#""type":"identify","traits":{{"round":{round}}}"#),
        _ => r#""type":"track","event":"Seen""#.to_owned(),
    };
    let json = format!(r#"{{{said},"userId":"f{user}","messageId":"{}"{cookie}}}"#, message_id(user, round));
    IngestItem { body: Some(Body::Json(json.into())), ..IngestItem::default() }
}

/// Sends all events, each until it is stored.
async fn write(client: Client, profiles: u64, rounds: u64, sent: watch::Sender<usize>) {
    for round in 0..rounds {
        let users: Vec<u64> = (0..profiles).collect();
        for users in users.chunks(BATCH) {
            let until = Instant::now() + PATIENCE;
            loop {
                let items = users.iter().map(|user| item(*user, round)).collect();
                match client.ingest(items).await {
                    Ok(stored)
                        if stored.count().accepted + stored.count().duplicate == users.len() as u64 =>
                    {
                        break;
                    }
                    other => assert!(Instant::now() < until, "{other:?}"),
                }
            }
            sent.send_modify(|sent| *sent += users.len());
        }
    }
}

async fn from_the_beginning(client: &Client, count: usize) -> Vec<Change> {
    let from = WatchFrom::Beginning.into();
    let mut changes = client.watch(WatchRequest { start: from, ..WatchRequest::default() });
    let mut found = Vec::new();
    while ids(&found).len() < count {
        let response = tokio::time::timeout(Duration::from_secs(60), changes.try_next()).await;
        found.extend(response.unwrap().unwrap().unwrap().changes);
    }
    found
}

fn ids(changes: &[Change]) -> BTreeSet<&str> {
    changes.iter().map(|change| change.id.as_str()).collect()
}

/// An event's message id, and when it was received: seconds and nanoseconds.
type Stored = (String, Option<(i64, i32)>);

/// Compares changes with the timelines of the customers; how many are of members.
async fn compare(client: &Client, found: &[Change], expected: &BTreeSet<String>, profiles: u64) -> usize {
    let mut last: BTreeMap<String, &str> = BTreeMap::new();
    let mut events: BTreeMap<String, BTreeSet<Stored>> = BTreeMap::new();
    let mut joined: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut members, mut known) = (0, BTreeSet::new());
    for change in found.iter().filter(|change| known.insert(&change.id)) {
        let identifier = change.identifier.clone().unwrap();
        let name = format!("{}:{}", identifier.namespace, identifier.value);
        let before = last.insert(name.clone(), &change.id);
        assert!(before.is_none_or(|before| before < change.id.as_str()), "{name}: out of order");
        match change.what.as_ref().unwrap() {
            What::Event(event) => {
                let entry = (event.message_id.clone(), change.at.map(|at| (at.seconds, at.nanos)));
                assert!(events.entry(name).or_default().insert(entry), "an event has two ids");
            }
            What::Members(change) => {
                members += 1;
                let came = change.came.iter().map(|id| format!("{}:{}", id.namespace, id.value));
                joined.entry(name).or_default().extend(came);
            }
            What::Segment(_) => panic!("nobody has defined a segment"),
        }
    }
    let all: BTreeSet<&String> = events.values().flatten().map(|(message_id, _)| message_id).collect();
    assert!(all.iter().copied().eq(expected.iter()), "changes that nobody has sent");
    let timelines = stream::iter(0..profiles).map(|user| async move {
        let key = format!("user_id:f{user}").parse::<isthmus_client::key::ProfileKey>().unwrap();
        let request = TimelineRequest { key: Some(key.into()), ..TimelineRequest::default() };
        let mut pages = client.timeline_pages(request, None);
        let mut timeline = BTreeSet::new();
        while let Some(page) = pages.next().await.unwrap() {
            let received = |event: &TimelineEvent| event.received_at.map(|at| (at.seconds, at.nanos));
            timeline.extend(page.into_iter().map(|event| (event.message_id.clone(), received(&event))));
        }
        (user, timeline)
    });
    let mut timelines = timelines.buffer_unordered(16);
    while let Some((user, timeline)) = timelines.next().await {
        let name = format!("user_id:f{user}");
        assert_eq!(events.get(&name), Some(&timeline), "{name}: the timeline has others");
        if user.is_multiple_of(LINKED) {
            let both = BTreeSet::from([name.clone(), format!("anonymous_id:c{user}")]);
            assert_eq!(joined.get(&name), Some(&both), "{name}: who joined");
        }
    }
    members
}
