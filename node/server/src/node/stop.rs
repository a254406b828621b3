//! Stopping a node, in order.

use std::time::Duration;

use futures::future::join_all;
use isthmus_proto::internal::v1::{TransferCall, shard_call};
use isthmus_shard::ShardHandle;
use tokio::time::{Instant, timeout};

use super::Node;

/// How long handing leadership over may take, for all groups together.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long the write-out of all shards may take. What is left a restart replays.
const WRITE_OUT: Duration = Duration::from_secs(15);
/// How long calls under way are waited for.
const CALLS: Duration = Duration::from_secs(5);

/// See [`Node::stop`] and [`Node::stop_with_the_cluster`].
pub(super) async fn stop(node: Node, hand_over: bool) {
    let Node { hub, raft, transport, shards, serving, host, tracker, stop_host, stop_rest, _dir, .. } = node;
    tracing::info!(node = hub.node, "stopping");
    hub.watchers.stop();
    hub.ingest_streams.stop();
    hub.queries.stop();
    serving.close_clients().await;
    if hand_over {
        let deadline = Instant::now() + HAND_OVER;
        let handles = shards.all();
        join_all(handles.iter().map(|shard| give_away(shard, deadline))).await;
        if let Err(error) = hub.coordinator.hand_over(deadline).await {
            tracing::warn!(%error, "the metadata group was not handed over");
        }
    }
    let serving = serving.drain_clients(CALLS).await;
    // Tasks of other nodes' queries hold snapshots of the shards.
    hub.queries.engine().stop().await;
    stop_host.cancel();
    // A broken host has said why.
    let _ended = host.await;
    let handles = shards.all();
    let written = timeout(WRITE_OUT, async {
        for shard in &handles {
            if let Err(error) = shard.write_out().await {
                tracing::warn!(shard = shard.shard(), %error, "a shard was not written out");
            }
        }
    });
    if written.await.is_err() {
        tracing::warn!("not all shards were written out in time; the rest is replayed at the next start");
    }
    for shard in &handles {
        hub.router.local().remove(shard.shard());
    }
    join_all(handles.iter().map(|shard| shard.stop())).await;
    hub.coordinator.stop().await;
    stop_rest.cancel();
    raft.stop().await;
    transport.stop().await;
    serving.close_peers().await;
    tracker.close();
    tracker.wait().await;
    tracing::info!(node = hub.node, "stopped");
}

/// Hands a shard over to the voter that is closest behind, if this node leads it and there is such a one.
async fn give_away(shard: &ShardHandle, deadline: Instant) {
    let view = shard.watch().borrow().clone();
    let heirs = view.progress.iter().filter(|peer| peer.recent_active && !peer.learner);
    let Some(heir) = heirs.max_by_key(|peer| (peer.matched, peer.peer)) else { return };
    let call = shard_call::Body::Transfer(TransferCall { to_peer: heir.peer.0 });
    match timeout(deadline.saturating_duration_since(Instant::now()), shard.call(call, deadline)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(shard = shard.shard(), why = error.message, "not handed over"),
        Err(_) => tracing::warn!(shard = shard.shard(), "not handed over in time"),
    }
}
