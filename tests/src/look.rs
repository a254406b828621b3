//! Looking at a cluster from outside: what it holds, and whether its replicas agree.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use isthmus_proto::v1::{
    Profile, ProfileServiceListRequest, ShardsRequest, cluster_service_client::ClusterServiceClient,
    profile_service_client::ProfileServiceClient,
};
use tonic::transport::Channel;

use crate::cluster::PATIENCE;

/// All profiles, page by page.
///
/// # Panics
/// When a call fails.
pub async fn all_profiles(channel: Channel) -> Vec<Profile> {
    let mut client = ProfileServiceClient::new(channel);
    let (mut cursor, mut profiles) = (String::new(), Vec::new());
    loop {
        let request =
            ProfileServiceListRequest { limit: 1_000, cursor, ..ProfileServiceListRequest::default() };
        let page = client.list(request).await.unwrap().into_inner();
        profiles.extend(page.profiles);
        if page.next_cursor.is_empty() {
            return profiles;
        }
        cursor = page.next_cursor;
    }
}

/// How many `track` events all profiles count together.
pub async fn events_counted(channel: Channel) -> u64 {
    all_profiles(channel).await.iter().flat_map(|profile| profile.event_counts.values()).sum()
}

/// Waits until all replicas of each shard have applied the same index, and compares their hashes. Returns how many
/// replicas there are.
///
/// # Panics
/// When hashes differ at the same index, or the replicas don't come together.
pub async fn replicas_agree(channel: Channel, replicas: usize) -> usize {
    let mut client = ClusterServiceClient::new(channel);
    let until = Instant::now() + PATIENCE;
    loop {
        let answered = client.shards(ShardsRequest {}).await;
        let rows = answered.map(|rows| rows.into_inner().replicas).unwrap_or_default();
        let mut shards: BTreeMap<u64, Vec<(u64, String)>> = BTreeMap::new();
        for row in &rows {
            assert!(row.state_hash.is_empty() || row.state_hash_index == row.applied_index);
            shards.entry(row.shard).or_default().push((row.state_hash_index, row.state_hash.clone()));
        }
        let mut all = !shards.is_empty();
        for (shard, states) in &shards {
            for (a, b) in states.iter().zip(&states[1..]) {
                if a.0 == b.0 && !a.1.is_empty() && !b.1.is_empty() {
                    assert_eq!(a.1, b.1, "the replicas of shard {shard} differ at index {}", a.0);
                }
            }
            all &= states.len() == replicas
                && states.iter().all(|state| !state.1.is_empty() && state.0 == states[0].0);
        }
        if all {
            return rows.len();
        }
        assert!(Instant::now() < until, "the replicas don't come together: {rows:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
