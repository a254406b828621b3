//! What only shows when a majority is gone: deadlines that pass, too much that waits, no quorum.
//!
//! Three nodes, of which two are killed. The one that is left leads every shard until it notices: for some seconds it
//! proposes what can't be committed, after that it has no leader to send anything to.

use std::{path::PathBuf, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt as _};
use isthmus_proto::v1::{
    IngestRequest, IngestResponse, ItemOutcome, ReplicaRole, ShardsRequest, TransferRequest,
    cluster_service_client::ClusterServiceClient, ingest_service_client::IngestServiceClient,
};
use isthmus_tests::{
    ask,
    cluster::{Cluster, PATIENCE},
};
use tokio::time::Instant;
use tonic::{Code, Request, Status, transport::Channel};

use crate::{calls::unreadable, options};

/// The node that is left.
const LEFT: usize = 0;

pub struct Minority {
    cluster: Cluster,
    cut: bool,
}

impl Minority {
    pub async fn start(data: PathBuf) -> Self {
        // A leader that hears of nobody gives up after this many ticks, and not before a case has used it. The deadline
        // is the node's own: a client's timer would race with the answer.
        let slow = [("ISTHMUS_RAFT__ELECTION_TICKS", "80"), ("ISTHMUS_GRPC__DEADLINE", "600ms")];
        Self { cluster: Cluster::start(options(data, 3, &slow)).await, cut: false }
    }

    /// The node that is left, alone from the first time on.
    async fn left(&mut self) -> Channel {
        let channel = self.cluster.channel(LEFT);
        if !self.cut {
            self.lead_all(&channel).await;
            for index in [1, 2] {
                self.cluster.kill(index);
            }
            self.cut = true;
        }
        channel
    }

    /// Makes it the leader of all shards.
    async fn lead_all(&self, channel: &Channel) {
        let mut client = ClusterServiceClient::new(channel.clone());
        let node = self.cluster.nodes[LEFT].id;
        let replicas = client.shards(within(ShardsRequest {}, PATIENCE)).await.unwrap().into_inner().replicas;
        for replica in
            replicas.iter().filter(|replica| replica.node == node && replica.role() != ReplicaRole::Leader)
        {
            let request = TransferRequest { shard: replica.shard, to_node: node };
            client.transfer(within(request, PATIENCE)).await.unwrap();
        }
    }

    /// What was proposed and not committed by the deadline is unknown, never failed.
    pub async fn deadline_passed(&mut self) {
        let channel = self.left().await;
        let response = send(&channel, "late").await.unwrap();
        for result in &response.results {
            assert_eq!(result.outcome(), ItemOutcome::OutcomeUnknown, "{result:?}");
            assert_eq!(result.reason, "OUTCOME_UNKNOWN");
            assert!(result.retryable && result.message.contains("same message id"), "{result:?}");
        }
        assert!(response.version.is_empty(), "nothing is known to be stored");
    }

    /// What has no leader to go to is refused as unavailable, writes and linearizable reads.
    pub async fn no_quorum(&mut self) {
        let channel = self.left().await;
        let until = Instant::now() + PATIENCE;
        while !unavailable(send(&channel, "refused").await.map(|response| {
            // The leader hasn't noticed yet, or what is waiting has no room for it.
            for result in response.results {
                let open = matches!(result.outcome(), ItemOutcome::OutcomeUnknown | ItemOutcome::Rejected);
                assert!(open && result.retryable, "{result:?}");
            }
        })) {
            assert!(Instant::now() < until, "it never refuses a write");
        }
        while !unavailable(ask::profile(&channel, "user_id", "late-1").await.map(|found| panic!("{found:?}")))
        {
            assert!(Instant::now() < until, "it never refuses a read");
        }
    }

    /// More than may be on its way at a time is refused at once, with a time to come back.
    pub async fn too_much_waits(&mut self) {
        let channel = self.left().await;
        let mut calls: FuturesUnordered<_> = (0..48)
            .map(|_| {
                let request = IngestRequest { items: unreadable(120, 32 << 10), ..IngestRequest::default() };
                let mut client = IngestServiceClient::new(channel.clone());
                async move { client.ingest(within(request, PATIENCE)).await }
            })
            .collect();
        loop {
            let answer = calls.next().await.expect("however much is sent, nothing is refused");
            if let Err(status) = answer
                && status.code() == Code::ResourceExhausted
            {
                assert_eq!(ask::reason(&status), "OVERLOADED", "{status}");
                assert!(ask::says_when_to_come_back(&status), "{status}");
                return;
            }
        }
    }
}

/// Whether a call was refused as unavailable; else it has to have been too late.
fn unavailable(answer: Result<(), Status>) -> bool {
    let Err(status) = answer else { return false };
    if status.code() == Code::DeadlineExceeded {
        return false;
    }
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    // By whether the last one asked was the replica here, or one that is gone.
    assert!(["NO_LEADER", "UNAVAILABLE"].contains(&ask::reason(&status).as_str()), "{status}");
    assert!(ask::says_when_to_come_back(&status), "{status}");
    true
}

fn within<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// Sends events of many customers, so that every shard gets some; answered by the node's own deadline.
async fn send(channel: &Channel, name: &str) -> Result<IngestResponse, Status> {
    let items = (0..40).map(|number| {
        let user = format!("{name}-{number}");
        ask::json(ask::seen(&user, &user))
    });
    ask::send(channel, items.collect()).await
}
