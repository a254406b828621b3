//! Following the view by another node's watch, on nodes that don't get it from a replica of their own.
//!
//! One stream at a time, from a member of the metadata group where one can be reached. The stream ends when nothing
//! comes for a while, though keep-alives should, or when the leader has told of a newer view than the stream has
//! brought: the other node is cut off then. The next node is tried.

use std::{sync::Arc, time::Duration};

use isthmus_proto::internal::v1::WatchRequest;
use tokio::time::timeout;

use crate::{
    error::{Error, Result},
    inner::{ATTEMPT_TIMEOUT, Inner},
    view::View,
};

/// Keep-alives come every second.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// So many keep-alives in a row while a newer view is known to exist: the other node has lost touch.
const STALE_KEEP_ALIVES_MAX: u32 = 2;
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Runs until cancelled.
pub(crate) async fn run(inner: Arc<Inner>) {
    let stop = inner.stop.clone();
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = follow_all(&inner) => {}
    }
}

async fn follow_all(inner: &Inner) {
    let mut pause = PAUSE_FIRST;
    for attempt in 0.. {
        if is_voter(inner) {
            tokio::time::sleep(PAUSE_MAX).await;
            continue;
        }
        let others = inner.others();
        if let Some(address) = others.get(attempt % others.len().max(1)) {
            let before = inner.view().version;
            if let Err(error) = follow(inner, address).await {
                tracing::debug!(address, %error, "the watch of the cluster's view ended");
            }
            if inner.view().version > before {
                pause = PAUSE_FIRST;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether this node's own replica tells it all there is.
fn is_voter(inner: &Inner) -> bool {
    inner.group.borrow().as_ref().is_some_and(|group| {
        let view = group.view();
        view.leader.is_some() && view.conf.voters.contains(&view.peer.0)
    })
}

async fn follow(inner: &Inner, address: &str) -> Result<()> {
    let mut newest = inner.view().version;
    let request = WatchRequest {
        cluster_id: inner.cluster_id.to_vec().into(),
        node_id: inner.me.0,
        known_version: newest,
    };
    let mut stream = inner.channels.watch(address, request, ATTEMPT_TIMEOUT).await?;
    let mut stale = 0;
    while !is_voter(inner) {
        let message = timeout(SILENCE_MAX, stream.message()).await;
        let message = message.map_err(|_| Error::NoLeader("the other node fell silent".into()))?;
        let Some(message) = message.map_err(|status| crate::status::from_status(&status))? else {
            return Ok(());
        };
        if let Some(wire) = message.view {
            let view = View::from_wire(wire)?;
            inner.check_cluster(&view.cluster_id)?;
            newest = newest.max(view.version);
            inner.feed.offer(view);
            stale = 0;
            continue;
        }
        stale = if inner.heard.borrow().view_version > newest { stale + 1 } else { 0 };
        if stale >= STALE_KEEP_ALIVES_MAX {
            return Err(Error::NoLeader("the other node has lost touch".into()));
        }
    }
    Ok(())
}
