//! A restart of all nodes, one after the other, under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use isthmus_client::{Client, proto::ItemOutcome};
use isthmus_tests::{ask, look};

use crate::Hub;

const WRITERS: u64 = 4;

/// No request fails after retries, no acknowledged event is lost or counted twice, each node stops gracefully.
pub async fn a_rolling_restart_fails_no_request(hub: &mut Hub) {
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let endpoints: Vec<String> = hub.cluster.endpoints().split(',').map(str::to_owned).collect();
    let client =
        Client::builder().endpoints(endpoints).deadline(Duration::from_secs(30)).connect_lazy().unwrap();
    let load: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::task::spawn(work(client.clone(), writer, stop.clone(), written.clone())))
        .collect();
    for index in 0..hub.cluster.nodes.len() {
        progress(&written).await;
        let code = hub.cluster.stop(index);
        assert_eq!(code, Some(0), "node {} did not stop gracefully", index + 1);
        progress(&written).await;
        hub.cluster.launch(index);
        hub.cluster.healthy().await;
    }
    progress(&written).await;
    stop.store(true, Relaxed);
    for (writer, work) in load.into_iter().enumerate() {
        let sent = work.await.unwrap();
        let profile =
            ask::profile(&hub.nodes[writer % 3], "user_id", &format!("rolling-{writer}")).await.unwrap();
        assert_eq!(profile.event_counts["Seen"], sent, "writer {writer}: lost or counted twice");
    }
    look::replicas_agree(hub.nodes[0].clone(), 3).await;
}

/// Waits until some more events were taken, so that each step is under load.
async fn progress(written: &AtomicU64) {
    let before = written.load(Relaxed);
    while written.load(Relaxed) < before + 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Writes one event after the other, and reads what it wrote; how many it wrote.
async fn work(client: Client, writer: u64, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) -> u64 {
    let user = format!("rolling-{writer}");
    for number in 1.. {
        let item = ask::json(ask::seen(&user, &format!("{user}-{number}")));
        let result = client.ingest(vec![item]).await.unwrap().results.remove(0);
        let taken = matches!(result.outcome(), ItemOutcome::Accepted | ItemOutcome::Duplicate);
        assert!(taken, "an event failed after retries: {result:?}");
        let profile = client.profile(format!("user_id:{user}").parse().unwrap()).await.unwrap();
        assert_eq!(profile.event_counts["Seen"], number, "a read missed an acknowledged write");
        written.fetch_add(1, Relaxed);
        if stop.load(Relaxed) {
            return number;
        }
    }
    0
}
