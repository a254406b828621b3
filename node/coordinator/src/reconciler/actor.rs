//! The reconciler's actor: listens to the nodes, decides, and has the steps carried out.
//!
//! It runs on every node and does nothing unless its node leads the metadata group. It owns what was reported
//! ([`Observed`]); when leadership is lost that is dropped, and steps under way end by themselves: they are safe at any
//! time. Cancelled, it ends at once; whoever waits for an answer learns that the node is stopping.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use isthmus_domain::NodeId;
use isthmus_proto::internal::v1::{
    ChangeMembersCall, ForgetNodeCommand, MetaCommand, PlaceMetadataCommand, PlaceShardCommand,
    ReplicaReport, ReportResponse, meta_command::Command,
};
use isthmus_raft::{MembershipChange, PeerId};
use prost::Message as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Observed, Step, decide, risk};
use crate::{
    clock::Clock,
    control::ShardControl,
    error::{Error, Result},
    metadata::{Group, leads},
    state::METADATA_GROUP,
    view::View,
};

/// Requests that may wait. Reports come once a second from each node.
const MAIL_MAX: usize = 4_096;
/// How often leadership is looked at, and the shortest time between two decisions.
const TICK: Duration = Duration::from_millis(100);
/// The longest time between two decisions.
const DECIDE_EVERY_TICKS: u32 = 10;
/// The most steps of one decision.
const STEPS_MAX: usize = 64;
/// How long a step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

enum Mail {
    Report { node: NodeId, replicas: Vec<ReplicaReport>, reply: oneshot::Sender<Result<ReportResponse>> },
    Risk { node: NodeId, reply: oneshot::Sender<Result<()>> },
    Ended { group: u64 },
}

/// Asks the reconciler. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReconcilerHandle {
    mail: mpsc::Sender<Mail>,
}

impl ReconcilerHandle {
    /// Tells what a node's replicas do. Answered by the metadata group's leader alone: [`Error::NoLeader`] elsewhere.
    pub(crate) async fn report(&self, node: NodeId, replicas: Vec<ReplicaReport>) -> Result<ReportResponse> {
        self.ask(|reply| Mail::Report { node, replicas, reply }).await
    }

    /// Asks whether a node can be let go, as far as who answers is concerned.
    pub(crate) async fn may_leave(&self, node: NodeId) -> Result<()> {
        self.ask(|reply| Mail::Risk { node, reply }).await
    }

    async fn ask<T>(&self, mail: impl FnOnce(oneshot::Sender<Result<T>>) -> Mail) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.mail.try_send(mail(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded { retry_after: TICK },
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        answer.await.map_err(|_| Error::Stopped)?
    }
}

/// What the actor works with.
pub(crate) struct Parts {
    pub(crate) me: NodeId,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) group: watch::Receiver<Option<Group>>,
    /// Set once the node can reach shards; nothing is decided before.
    pub(crate) shards: Arc<OnceLock<Arc<dyn ShardControl>>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

struct Actor {
    parts: Parts,
    mail: mpsc::Sender<Mail>,
    leading: Option<Observed>,
    /// Something new was heard since the last decision.
    news: bool,
    ticks: u32,
    started: Instant,
}

/// Starts the actor.
pub(crate) fn start(parts: Parts) -> ReconcilerHandle {
    let (mail, inbox) = mpsc::channel(MAIL_MAX);
    let tracker = parts.tracker.clone();
    let actor =
        Actor { parts, mail: mail.clone(), leading: None, news: false, ticks: 0, started: Instant::now() };
    tracker.spawn(actor.run(inbox));
    ReconcilerHandle { mail }
}

impl Actor {
    async fn run(mut self, mut inbox: mpsc::Receiver<Mail>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.parts.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {
                    self.look_who_leads();
                    self.ticks += 1;
                    if self.news || self.ticks >= DECIDE_EVERY_TICKS {
                        self.decide();
                    }
                }
                Some(mail) = inbox.recv() => {
                    self.look_who_leads();
                    self.handle(mail);
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        // From 1: a report is always later than a step that was never taken.
        1 + u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn group(&self) -> Option<Group> {
        self.parts.group.borrow().clone().filter(leads)
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.parts.view.borrow())
    }

    fn look_who_leads(&mut self) {
        let leads = self.group().is_some();
        if leads != self.leading.is_some() {
            tracing::info!(leads, "leadership of the metadata group");
            self.leading = leads.then(|| Observed::new(self.now_ms()));
        }
    }

    fn handle(&mut self, mail: Mail) {
        let (now_ms, view, me) = (self.now_ms(), self.view(), self.parts.me);
        let elsewhere = || Error::NoLeader("this node does not lead".into());
        // Whoever doesn't wait for an answer any more needs none.
        match mail {
            Mail::Report { node, replicas, reply } => {
                let Some(observed) = &mut self.leading else {
                    let _ = reply.send(Err(elsewhere()));
                    return;
                };
                // A node that was removed is told the news, but doesn't count.
                if view.has_node(node) {
                    self.news |= observed.report(node, replicas, now_ms);
                }
                let alive_nodes = observed.alive(now_ms).into_iter().map(|node| node.0).collect();
                let _ =
                    reply.send(Ok(ReportResponse { view_version: view.version, alive_nodes, leader: me.0 }));
            }
            Mail::Risk { node, reply } => {
                let answer = match &self.leading {
                    Some(observed) if observed.is_ready(&view, now_ms) => {
                        risk::leaving(&view, observed, node, now_ms)
                            .map_err(|refusal| Error::refused(refusal.code, refusal.message))
                    }
                    Some(_) => Err(Error::NoLeader("the leader has not heard from all nodes yet".into())),
                    None => Err(elsewhere()),
                };
                let _ = reply.send(answer);
            }
            Mail::Ended { group } => {
                if let Some(observed) = &mut self.leading {
                    observed.acted(group, now_ms);
                }
            }
        }
    }

    fn decide(&mut self) {
        (self.ticks, self.news) = (0, false);
        let (now_ms, view, group) = (self.now_ms(), self.view(), self.group());
        let (Some(observed), Some(group), Some(shards)) = (&mut self.leading, group, self.parts.shards.get())
        else {
            return;
        };
        observed.retain(&view);
        let mut steps = decide(&view, observed, now_ms);
        steps.truncate(STEPS_MAX);
        for step in steps {
            if let Some(group) = step.group() {
                observed.acting(group);
            }
            let work =
                carry_out(step.clone(), group.clone(), Arc::clone(shards), Arc::clone(&self.parts.clock));
            let (mail, stop) = (self.mail.clone(), self.parts.stop.clone());
            self.parts.tracker.spawn(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    done = work => match done {
                        Ok(()) => tracing::info!(?step, "placement: step done"),
                        Err(why) => tracing::warn!(?step, why, "placement: step not done; it is decided on anew"),
                    }
                }
                if let Some(group) = step.group() {
                    // Closed: the node is stopping.
                    let _ = mail.send(Mail::Ended { group }).await;
                }
            });
        }
    }
}

/// Carries one step out. An error says why it was not done, or is not known to be; either way the next decision sees
/// what is.
async fn carry_out(
    step: Step,
    metadata: Group,
    shards: Arc<dyn ShardControl>,
    clock: Arc<dyn Clock>,
) -> Result<(), String> {
    let deadline = Instant::now() + STEP_TIMEOUT;
    let peers_of =
        |peers: &[isthmus_domain::ReplicaId]| peers.iter().map(|peer| peer.0).collect::<Vec<u64>>();
    let raft_peers = |peers: &[isthmus_domain::ReplicaId]| {
        peers.iter().map(|peer| PeerId(peer.0)).collect::<Vec<PeerId>>()
    };
    let command = match &step {
        Step::Place { group: METADATA_GROUP, based_on_version, peers } => {
            Command::PlaceMetadata(PlaceMetadataCommand {
                peers: peers_of(peers),
                based_on_version: *based_on_version,
            })
        }
        Step::Place { group, based_on_version, peers } => Command::PlaceShard(PlaceShardCommand {
            shard: *group,
            based_on_version: *based_on_version,
            peers: peers_of(peers),
        }),
        Step::Forget { node } => Command::ForgetNode(ForgetNodeCommand { node_id: node.0 }),
        Step::Change { group: METADATA_GROUP, add_learners, promote, remove } => {
            let change = MembershipChange {
                add_learners: raft_peers(add_learners),
                promote: raft_peers(promote),
                remove: raft_peers(remove),
            };
            let changed = metadata.change_membership(change, deadline).await;
            return changed.map(|_| ()).map_err(|error| error.to_string());
        }
        Step::Change { group, add_learners, promote, remove } => {
            let change = ChangeMembersCall {
                add_learners: peers_of(add_learners),
                add_voters: peers_of(promote),
                remove: peers_of(remove),
            };
            return shards.change_members(*group, change, deadline).await;
        }
        Step::Transfer { group: METADATA_GROUP, to } => {
            return metadata.transfer_leader(PeerId(to.0), deadline).await.map_err(|error| error.to_string());
        }
        Step::Transfer { group, to } => return shards.transfer(*group, to.0, deadline).await,
    };
    let command = MetaCommand { now_micros: clock.now_micros(), command: Some(command) };
    let proposed = metadata.propose(command.encode_to_vec().into(), deadline).await;
    let outcome = proposed.map_err(|error| error.to_string())?.outcome;
    if outcome.refused.is_empty() { Ok(()) } else { Err(format!("{}: {}", outcome.refused, outcome.message)) }
}
