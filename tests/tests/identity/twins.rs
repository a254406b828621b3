//! Two clusters with one identity key, which got the same events in different orders and have different numbers of
//! shards, export the same bytes.

use isthmus_tests::{
    cluster::{Cluster, ClusterOptions},
    load::Numbers,
};
use tokio::sync::watch;

use crate::people::{Crowd, Sent, events, shuffle};
use crate::way_in::{create_sources, send_all};
use crate::{chosen, cli, folder, options};

/// What `isthmus profile list` prints, but for the versions.
fn exported(cluster: &Cluster) -> String {
    let listed = cli().json(&cluster.endpoints(), &["profile", "list"]);
    assert_eq!(listed.code, 0, "{}", listed.err);
    let without_version = |line: &str| {
        const VERSION: &str = "\"version\":\"";
        let (before, behind) = line.split_once(VERSION).unwrap();
        let (version, after) = behind.split_once('"').unwrap();
        assert_eq!(version.len(), 16, "{line}");
        format!("{before}{after}\n")
    };
    listed.out.lines().map(without_version).collect()
}

async fn fed(folder: &tempfile::TempDir, shards: u32, mut all: Vec<Sent>, seed: u64) -> Cluster {
    shuffle(&mut all, &mut Numbers(seed));
    let options = options(folder.path().join(format!("of-{shards}")), 1);
    let cluster = Cluster::start(ClusterOptions { shards, ..options }).await;
    create_sources(&cluster.channel(0)).await;
    let taken = watch::Sender::new(0);
    let (first, second) = all.split_at(all.len() / 2);
    let send = |events: &[Sent]| send_all(vec![cluster.channel(0)], events.to_vec(), taken.clone());
    tokio::join!(send(first), send(second));
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_of_different_shards_export_the_same_bytes_in_whatever_order_events_come() {
    let seed = chosen("ISTHMUS_TEST_IDENTITY_SEED", 1);
    let all = events(Crowd { people: 60, events: 800, seed: seed + 7 });
    let folder = folder();
    let (one, other) = tokio::join!(
        fed(&folder, 3, all.clone(), seed),
        fed(&folder, 16, all.iter().rev().cloned().collect(), seed + 1)
    );
    let (one, other) = (exported(&one), exported(&other));
    assert!(one.lines().count() > 20, "{one}");
    let differ = one.lines().zip(other.lines()).find(|(a, b)| a != b);
    assert!(one == other, "{differ:?}");
}
