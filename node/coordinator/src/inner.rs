//! What all parts of a node's coordinator share, and how a change finds its way to the metadata group's leader.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use isthmus_domain::{IdentityKey, NodeId};
use isthmus_proto::internal::v1::{MetaCommand, MetaOutcome, ProposeRequest, meta_command::Command};
use isthmus_raft::RaftNode;
use prost::Message as _;
use quick_cache::sync::Cache;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    channels::Channels,
    clock::Clock,
    control::ShardControl,
    error::{Error, Result},
    feed::ViewFeed,
    keys::KeyHash,
    metadata::{Group, leads},
    reconciler::actor::ReconcilerHandle,
    refresh::Refresher,
    view::View,
};

/// How often a request is passed on from node to node.
pub(crate) const HOPS_MAX: u32 = 2;
/// How long one node is waited for.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(20);
pub(crate) const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// What the metadata group's leader told last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// When; `None`: nothing yet.
    pub(crate) at: Option<Instant>,
    /// The node that leads the metadata group.
    pub(crate) leader: Option<NodeId>,
    /// Nodes that answer.
    pub(crate) alive: BTreeSet<NodeId>,
    /// The newest version of the view.
    pub(crate) view_version: u64,
}

pub(crate) struct Inner {
    pub(crate) me: NodeId,
    pub(crate) cluster_id: [u8; 16],
    pub(crate) identity_key: IdentityKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) raft: RaftNode,
    pub(crate) feed: ViewFeed,
    /// The view as shown: on disk already.
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) group: watch::Receiver<Option<Group>>,
    pub(crate) reconciler: ReconcilerHandle,
    pub(crate) shards: Arc<OnceLock<Arc<dyn ShardControl>>>,
    pub(crate) heard: watch::Sender<Heard>,
    pub(crate) channels: Channels,
    pub(crate) refresher: Refresher,
    /// Write keys that were found to be wrong. They stay so: keys are made of randomness, and none comes back.
    pub(crate) wrong_keys: Cache<KeyHash, ()>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Inner {
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// This node's metadata replica, if it leads.
    pub(crate) fn leading_group(&self) -> Option<Group> {
        self.group.borrow().clone().filter(leads)
    }

    /// Refuses what comes from another cluster.
    pub(crate) fn check_cluster(&self, cluster_id: &[u8]) -> Result<()> {
        if cluster_id == self.cluster_id { Ok(()) } else { Err(Error::WrongCluster) }
    }

    /// Other nodes' addresses, the likeliest to lead first: whom this node takes for the leader, members of the
    /// metadata group, all others.
    pub(crate) fn others(&self) -> Vec<String> {
        let view = self.view();
        let known = self.group.borrow().as_ref().and_then(|group| group.view().leader);
        let leader = known.map(|peer| NodeId(peer.node())).or(self.heard.borrow().leader);
        let members = view.metadata_peers.iter().map(|peer| peer.node());
        let nodes = leader.into_iter().chain(members).chain(view.nodes.keys().copied());
        let mut seen = BTreeSet::from([self.me]);
        let fresh = nodes.filter(|node| seen.insert(*node));
        fresh.filter_map(|node| view.peer_address(node).map(str::to_owned)).collect()
    }

    /// Proposes until it is answered or the deadline passes. Commands are safe to send again, so every failure but a
    /// refusal is tried again, elsewhere.
    pub(crate) async fn propose(&self, command: Command, deadline: Instant) -> Result<MetaOutcome> {
        let (mut unknown, mut backoff) = (false, BACKOFF_FIRST);
        for attempt in 0.. {
            let error = match self.propose_once(&command, 0, attempt, deadline).await {
                Ok(outcome) => return carried_out(outcome),
                Err(error @ (Error::Refused { .. } | Error::WrongCluster | Error::Malformed { .. })) => {
                    return Err(error);
                }
                Err(error) => error,
            };
            unknown |= matches!(error, Error::OutcomeUnknown);
            let pause = match &error {
                Error::Overloaded { retry_after } => backoff.max(*retry_after),
                _ => backoff,
            };
            if Instant::now() + pause >= deadline || self.stop.is_cancelled() {
                return Err(if unknown { Error::OutcomeUnknown } else { error });
            }
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        Err(Error::OutcomeUnknown)
    }

    /// Proposes here, if this node leads; else passes the command on to one other node.
    pub(crate) async fn propose_once(
        &self,
        command: &Command,
        hops: u32,
        attempt: usize,
        deadline: Instant,
    ) -> Result<MetaOutcome> {
        if let Some(group) = self.leading_group() {
            return self.propose_here(&group, command.clone(), deadline).await;
        }
        if hops >= HOPS_MAX {
            return Err(Error::NoLeader("passed on too often".into()));
        }
        let others = self.others();
        if others.is_empty() {
            return Err(Error::NoLeader("no other node is known".into()));
        }
        let address = &others[attempt % others.len()];
        let request = ProposeRequest {
            cluster_id: self.cluster_id.to_vec().into(),
            command: Some(MetaCommand { now_micros: 0, command: Some(command.clone()) }),
            hops: hops + 1,
        };
        let timeout = deadline.saturating_duration_since(Instant::now()).min(ATTEMPT_TIMEOUT);
        let response = self.channels.propose(address, request, timeout).await?;
        response.outcome.ok_or_else(|| Error::malformed("answer of another node"))
    }

    async fn propose_here(&self, group: &Group, command: Command, deadline: Instant) -> Result<MetaOutcome> {
        if let Command::LeaveNode(leave) = &command {
            self.reconciler.may_leave(NodeId(leave.node_id)).await?;
        }
        let command = MetaCommand { now_micros: self.clock.now_micros(), command: Some(command) };
        match group.propose(command.encode_to_vec().into(), deadline).await {
            Ok(proposed) => Ok(proposed.outcome),
            Err(isthmus_raft::Error::OutcomeUnknown) => Err(Error::OutcomeUnknown),
            Err(isthmus_raft::Error::Overloaded { retry_after }) => Err(Error::Overloaded { retry_after }),
            Err(isthmus_raft::Error::TooLarge { .. }) => Err(Error::malformed("command: it is too large")),
            Err(error) => Err(Error::NoLeader(error.to_string())),
        }
    }

    /// Waits until the shown view is at least of this version.
    pub(crate) async fn wait_view(&self, version: u64, deadline: Instant) -> Result<Arc<View>> {
        let mut view = self.view.clone();
        let waited = timeout_at(deadline, view.wait_for(|view| view.version >= version)).await;
        match waited {
            Ok(Ok(view)) => Ok(Arc::clone(&view)),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::OutcomeUnknown),
        }
    }
}

/// A refusal as an error.
pub(crate) fn carried_out(outcome: MetaOutcome) -> Result<MetaOutcome> {
    if outcome.refused.is_empty() {
        return Ok(outcome);
    }
    Err(Error::Refused { code: outcome.refused, message: outcome.message })
}
