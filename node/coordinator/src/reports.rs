//! Telling the metadata group's leader what this node's replicas do: at once when something changed, and every second.

use std::{sync::Arc, time::Duration};

use isthmus_domain::NodeId;
use isthmus_proto::internal::v1::{ReplicaReport, ReportRequest, ReportResponse};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    control::{ShardControl, replica_report},
    error::{Error, Result},
    inner::{HOPS_MAX, Heard, Inner},
};

/// How often the replicas are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often is reported when nothing changes.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long one node is waited for: a report that comes later is worth nothing.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs until cancelled.
pub(crate) async fn run(inner: Arc<Inner>, shards: Arc<dyn ShardControl>) {
    let stop = inner.stop.clone();
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = report_all(&inner, &*shards) => {}
    }
}

async fn report_all(inner: &Inner, shards: &dyn ShardControl) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut told_at): (Option<Vec<ReplicaReport>>, _) = (None, Instant::now());
    let mut attempt = 0;
    loop {
        looks.tick().await;
        let mut replicas = shards.reports();
        replicas.extend(inner.group.borrow().as_ref().map(|group| replica_report(&group.view())));
        let news = told.as_ref().is_none_or(|told| !same(told, &replicas));
        if !news && told_at.elapsed() < REPORT_EVERY {
            continue;
        }
        let request = ReportRequest {
            cluster_id: inner.cluster_id.to_vec().into(),
            node_id: inner.me.0,
            replicas: replicas.clone(),
            view_version: inner.view().version,
            clock_micros: inner.clock.now_micros(),
            hops: 0,
        };
        match report(inner, request, attempt).await {
            Ok(answer) => {
                let heard = Heard {
                    at: Some(Instant::now()),
                    leader: Some(NodeId(answer.leader)),
                    alive: answer.alive_nodes.into_iter().map(NodeId).collect(),
                    view_version: answer.view_version,
                };
                inner.heard.send_replace(heard);
                (told, told_at, attempt) = (Some(replicas), Instant::now(), 0);
            }
            Err(error) => {
                tracing::debug!(%error, "could not report");
                inner.heard.send_modify(|heard| heard.leader = None);
                attempt += 1;
            }
        }
    }
}

/// Hands a report to the leader: to this node, or by another one.
pub(crate) async fn report(
    inner: &Inner,
    mut request: ReportRequest,
    attempt: usize,
) -> Result<ReportResponse> {
    if inner.leading_group().is_some() {
        return inner.reconciler.report(NodeId(request.node_id), request.replicas).await;
    }
    if request.hops >= HOPS_MAX {
        return Err(Error::NoLeader("passed on too often".into()));
    }
    request.hops += 1;
    let others = inner.others();
    let Some(address) = others.get(attempt % others.len().max(1)) else {
        return Err(Error::NoLeader("no other node is known".into()));
    };
    inner.channels.report(address, request, REPORT_TIMEOUT).await
}

/// Whether two reports differ in nothing but how far replicas have come.
fn same(one: &[ReplicaReport], other: &[ReplicaReport]) -> bool {
    let still = |replica: &ReplicaReport| ReplicaReport { applied_index: 0, ..replica.clone() };
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| still(one) == still(other))
}
