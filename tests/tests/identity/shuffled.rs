//! Events of people in any order, repeated, from four clients at once, with leaders killed on the way, against a model
//! in one place; then all that one source linked is taken back.
//!
//! `ISTHMUS_TEST_IDENTITY_EVENTS`, `_PEOPLE`, `_KILLS` and `_SEED` choose another size than that of every build.

use isthmus_proto::v1::{
    SplitRequest, SplitScope, profile_service_client::ProfileServiceClient, split_scope::Scope,
};
use isthmus_tests::{cluster::Cluster, load::Numbers, look};
use tokio::sync::watch;
use tonic::{Request, transport::Channel};

use crate::people::{Crowd, Sent, events, shuffle};
use crate::reference::Reference;
use crate::way_in::{assert_same, create_sources, customers, send_all};
use crate::{chosen, folder, options};

/// The source whose links are taken back.
const RETRACTED: &str = "app";
/// Clients at a time.
const CLIENTS: usize = 4;

/// Each event, every third of them again, in an order of its own, dealt out to clients.
fn dealt(all: &[Sent], numbers: &mut Numbers) -> [Vec<Sent>; CLIENTS] {
    let mut queue = all.to_vec();
    queue.extend(all.iter().filter(|_| numbers.draw().is_multiple_of(3)).cloned());
    shuffle(&mut queue, numbers);
    let mut dealt: [Vec<Sent>; CLIENTS] = Default::default();
    for (number, sent) in queue.into_iter().enumerate() {
        dealt[number % CLIENTS].push(sent);
    }
    dealt
}

/// Kills the node that leads most shards, as often as wanted, each time when some more events were taken.
async fn kill_leaders(cluster: &mut Cluster, mut taken: watch::Receiver<usize>, all: usize, kills: usize) {
    for kill in 1..=kills {
        taken.wait_for(|taken| *taken >= all * kill / (kills + 1)).await.unwrap();
        let leader = cluster.busiest().await;
        cluster.kill(leader);
        cluster.serving().await;
        cluster.launch(leader);
        cluster.healthy().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_comes_to_what_the_model_says_and_a_source_can_be_taken_back() {
    let seed = chosen("ISTHMUS_TEST_IDENTITY_SEED", 1);
    let crowd = Crowd {
        people: chosen("ISTHMUS_TEST_IDENTITY_PEOPLE", 120),
        events: chosen("ISTHMUS_TEST_IDENTITY_EVENTS", 2_000),
        seed,
    };
    let kills = chosen("ISTHMUS_TEST_IDENTITY_KILLS", 2) as usize;
    let all = events(crowd);
    let wanted = Reference::of(&all);
    let (folder, mut numbers) = (folder(), Numbers(seed + 1));
    let mut cluster = Cluster::start(options(folder.path().join("nodes"), 3)).await;
    create_sources(&cluster.channel(0)).await;

    let channels: Vec<Channel> = (0..3).map(|node| cluster.channel(node)).collect();
    let (taken, seen) = watch::channel(0);
    let dealt = dealt(&all, &mut numbers);
    let sent = dealt.iter().map(Vec::len).sum();
    let begin = std::time::Instant::now();
    let clients: Vec<_> = dealt
        .into_iter()
        .map(|events| tokio::task::spawn(send_all(channels.clone(), events, taken.clone())))
        .collect();
    // So that a client that gives up ends the waiting for others.
    drop(taken);
    kill_leaders(&mut cluster, seen, sent, kills).await;
    for client in clients {
        client.await.unwrap();
    }
    println!("{sent} events sent in {:?}", begin.elapsed());
    let expected = wanted.customers(None);
    assert_same("after all was sent", &customers(&cluster).await, &expected);
    println!("{} customers compared at {:?}", expected.len(), begin.elapsed());

    let scope = Some(SplitScope { scope: Some(Scope::Source(RETRACTED.to_owned())) });
    let split = SplitRequest { scope, by: "tests".to_owned(), ..SplitRequest::default() };
    let mut split = Request::new(split);
    split.set_timeout(std::time::Duration::from_secs(600));
    ProfileServiceClient::new(cluster.channel(1)).split(split).await.unwrap();
    println!("taken back at {:?}", begin.elapsed());
    let (facts, of_source) = wanted.facts(RETRACTED);
    assert!(of_source > facts / 10, "{of_source} of {facts} link facts are of the source");
    let without = wanted.customers(Some(RETRACTED));
    assert_ne!(expected.len(), without.len(), "the source made no difference");
    assert_same("after a source was taken back", &customers(&cluster).await, &without);
    look::replicas_agree(cluster.channel(2), 3).await;
    println!("done at {:?}", begin.elapsed());
}
