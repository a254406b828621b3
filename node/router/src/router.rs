//! The router itself: what its parts share, how it starts, and the one way in which a call reaches a shard.

use std::sync::Arc;
use std::time::Duration;

use isthmus_proto::internal::v1::{CallError, CallErrorCode, shard_call, shard_reply};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::attempt::Attempts;
use crate::error::{Error, call_error};
use crate::exchange::{ExchangeService, Link, Peer};
use crate::local::LocalShards;
use crate::options::RouterOptions;
use crate::pursuit::{Candidates, Next, Pursuit, Want, backoff};
use crate::topology::{Routes, ShardRoute, Topology, keep_routes, node_of};

/// The way to any shard of the cluster, from this node. Clones are the same router.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    routes: watch::Receiver<Arc<Routes>>,
    topology: watch::Receiver<Arc<Topology>>,
    local: LocalShards,
    options: RouterOptions,
    attempts: Attempts,
    /// KiB of events that may still come in.
    room: Arc<Semaphore>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Router {
    /// Starts the router of this node: one task that follows the topology, and one for every other node, which
    /// connects when something is to be sent. All run in the tracker and end at the stop.
    ///
    /// # Errors
    /// [`Error::Invalid`] when an option is out of bounds.
    pub fn start(
        topology: watch::Receiver<Arc<Topology>>,
        local: LocalShards,
        options: RouterOptions,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        options.validate()?;
        let connect = {
            let (exchange, seed) = (options.exchange.clone(), options.seed);
            let (tracker, stop) = (tracker.clone(), stop.clone());
            move |topology: &Arc<Topology>, node: u32, address: &str| {
                let peer = Peer::new(topology, node, address);
                Link::start(peer, exchange.clone(), seed ^ u64::from(node), &tracker, stop.clone())
            }
        };
        // Marked as seen, so that the task acts on what comes after.
        let mut follow = topology.clone();
        let now = Arc::clone(&follow.borrow_and_update());
        let first = Routes::build(Arc::clone(&now), None, |node, address| connect(&now, node, address));
        let (publish, routes) = watch::channel(Arc::new(first));
        tracker.spawn(keep_routes(follow, publish, connect, stop.clone()));
        let room = Arc::new(Semaphore::new(options.ingest_bytes_max >> 10));
        let attempts = Attempts::new(options.seed);
        Ok(Self {
            shared: Arc::new(Shared { routes, topology, local, options, attempts, room, tracker, stop }),
        })
    }

    /// The half that answers other nodes' calls to this node's shards; to be served on the peer address.
    pub fn exchange_service(&self) -> ExchangeService {
        let shared = &self.shared;
        ExchangeService::new(
            shared.topology.clone(),
            shared.local.clone(),
            shared.options.exchange.clone(),
            shared.tracker.clone(),
            shared.stop.clone(),
        )
    }

    /// A new attempt id, never 0. Every item of an ingest needs one of its own, also within a batch.
    pub fn next_attempt(&self) -> u64 {
        self.shared.attempts.next()
    }

    /// The registry of this node's shards.
    pub fn local(&self) -> &LocalShards {
        &self.shared.local
    }

    /// The node that leads a shard, as far as this node knows: by its own replica, or by whom calls last reached.
    pub fn leader(&self, shard: u64) -> Option<u32> {
        let routes = self.routes();
        let known = self.candidates(routes.shard(shard)?);
        known.local_leader.or_else(|| Some(known.hint).filter(|peer| *peer != 0)).map(node_of)
    }

    /// Calls that wait to be sent to each other node, and bytes of those that wait or have no reply yet.
    pub fn waiting_calls(&self) -> Vec<(u32, usize, usize)> {
        self.routes().links().map(|(node, link)| (node, link.waiting().0, link.waiting().1)).collect()
    }

    /// Bytes of events that this node has taken and not answered yet.
    pub fn ingest_bytes(&self) -> usize {
        let free = self.shared.room.available_permits() << 10;
        self.shared.options.ingest_bytes_max.saturating_sub(free)
    }

    /// Where tasks run that outlive a call.
    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.shared.tracker
    }

    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.shared.routes.borrow())
    }

    pub(crate) fn room(&self) -> &Arc<Semaphore> {
        &self.shared.room
    }

    /// Brings a call to a replica of the shard that can answer it, over retries, until the deadline. Whether some try
    /// may have been carried out is for the pursuit to tell afterwards, whatever the result.
    pub(crate) async fn reach(
        &self,
        shard: u64,
        pursuit: &mut Pursuit,
        body: &shard_call::Body,
        deadline: Instant,
    ) -> Result<shard_reply::Body, Error> {
        let mut last: Option<CallError> = None;
        loop {
            // Looked up anew for every try: a call that waits for a leader has to notice that the replicas moved.
            let routes = self.routes();
            let route = routes.shard(shard).ok_or(Error::NoShard { shard })?;
            let now = Instant::now();
            if now >= deadline {
                return Err(at_the_end(shard, last.as_ref(), pursuit));
            }
            let peer = pursuit.pick(self.candidates(route)).ok_or(Error::Unavailable { shard })?;
            // What must not be repeated is waited for as long as the caller does.
            let patience = self.shared.options.attempt_timeout.saturating_mul(1 << pursuit.timeouts().min(8));
            let give_up = if pursuit.repeatable() { deadline.min(now + patience) } else { deadline };
            let span = tracing::debug_span!("router.call", shard, node = node_of(peer));
            let asked = self.ask(&routes, shard, peer, body.clone(), give_up).instrument(span);
            let attempt = timeout_at(give_up, asked).await;
            let jitter = self.shared.attempts.next();
            let (error, next) = match attempt {
                Ok(Ok(reply)) => {
                    if pursuit.want() == Want::Leader {
                        route.learn_leader(peer);
                    }
                    return Ok(reply);
                }
                Ok(Err(error)) => {
                    let next = pursuit.judge(peer, &error, jitter);
                    (error, next)
                }
                Err(_) => {
                    let error = call_error(CallErrorCode::OutcomeUnknown, "not answered in time");
                    let next = pursuit.judge_timeout(peer, &error, jitter);
                    (error, next)
                }
            };
            learn(route, peer, &error);
            let Next::After(wait) = next else {
                return Err(Error::from_call(shard, &error));
            };
            if Instant::now() + wait >= deadline {
                return Err(at_the_end(shard, Some(&error), pursuit));
            }
            last = Some(error);
            if !self.pause(wait).await {
                return Err(Error::Stopping);
            }
        }
    }

    /// A call that may be repeated, as most may.
    pub(crate) fn pursuit(&self, want: Want) -> Pursuit {
        Pursuit::new(want, true, self.shared.options.patience())
    }

    /// A call that must not be made again once it may have been carried out.
    pub(crate) fn pursuit_once(&self) -> Pursuit {
        Pursuit::new(Want::Leader, false, self.shared.options.patience())
    }

    /// How long a try of a call that may be repeated is waited for.
    pub(crate) fn patience_of_a_try(&self) -> Duration {
        self.shared.options.attempt_timeout
    }

    /// Asks one replica, once.
    pub(crate) async fn ask(
        &self,
        routes: &Routes,
        shard: u64,
        peer: u64,
        body: shard_call::Body,
        deadline: Instant,
    ) -> Result<shard_reply::Body, CallError> {
        let node = node_of(peer);
        let reply = if node == routes.topology.node {
            match self.shared.local.get(shard) {
                Some(replica) => replica.call(body, deadline).await,
                None => Err(call_error(CallErrorCode::NoReplica, "the shard is not open on this node")),
            }
        } else {
            match routes.link(node) {
                Some(link) => link.call(shard, body, deadline).await,
                None => Err(call_error(CallErrorCode::Unavailable, "the node's address is not known")),
            }
        };
        match reply {
            Ok(shard_reply::Body::Error(error)) => Err(error),
            other => other,
        }
    }

    fn candidates<'a>(&self, route: &'a ShardRoute) -> Candidates<'a> {
        let here = self.shared.local.get(route.id).map(|replica| replica.leadership());
        Candidates {
            replicas: &route.replicas,
            local: here.map(|leadership| leadership.peer),
            local_leader: here.and_then(|it| if it.is_leader { Some(it.peer) } else { it.leader }),
            hint: route.leader(),
        }
    }

    /// Waits for tables newer than `revision`, or for a while that grows with `attempt`: the shard map of this node may
    /// be behind the shard's, and the other way round. An error when the deadline comes first.
    pub(crate) async fn await_newer(
        &self,
        revision: u64,
        attempt: u32,
        deadline: Instant,
    ) -> Result<(), Error> {
        let options = &self.shared.options;
        let wait = backoff(options.wait_min, options.wait_max, attempt, self.shared.attempts.next());
        let stale = || Error::StaleShardMap { version: self.routes().map_version() };
        let mut routes = self.shared.routes.clone();
        let newer = async {
            if routes.wait_for(|routes| routes.revision > revision).await.is_err() {
                // Nobody publishes any more, which is so at the stop only.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Err(Error::Stopping),
            () = newer => Ok(()),
            () = tokio::time::sleep_until(deadline.min(Instant::now() + wait)) => {
                if Instant::now() >= deadline { Err(stale()) } else { Ok(()) }
            }
        }
    }

    /// Waits; false at the stop.
    async fn pause(&self, wait: Duration) -> bool {
        if wait.is_zero() {
            return !self.shared.stop.is_cancelled();
        }
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => false,
            () = sleep(wait) => true,
        }
    }
}

/// What a refusal tells of who leads.
fn learn(route: &ShardRoute, peer: u64, error: &CallError) {
    match error.code() {
        CallErrorCode::NotLeader if error.leader != 0 && error.leader != peer => {
            route.learn_leader(error.leader)
        }
        CallErrorCode::Overloaded
        | CallErrorCode::DiskFull
        | CallErrorCode::Invalid
        | CallErrorCode::Unspecified => {}
        _ => route.forget_leader(peer),
    }
}

/// What a call comes to when its deadline ends it.
fn at_the_end(shard: u64, last: Option<&CallError>, pursuit: &Pursuit) -> Error {
    match last {
        Some(error) if error.code() != CallErrorCode::OutcomeUnknown => Error::from_call(shard, error),
        Some(_) if !pursuit.repeatable() => Error::OutcomeUnknown { shard },
        _ => Error::DeadlineExceeded { shard },
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let routes = self.routes();
        f.debug_struct("Router")
            .field("node", &routes.topology.node)
            .field("topology", &routes.topology.version)
            .field("local", &self.shared.local)
            .finish()
    }
}
