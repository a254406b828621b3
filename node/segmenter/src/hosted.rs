//! A shard with its part in segments.

use std::sync::Arc;

use futures::future::BoxFuture;
use isthmus_proto::internal::v1::{
    CallError, CallErrorCode, SegmentCall, SegmentReply, segment_call::Ask, shard_call, shard_reply,
};
use isthmus_router::{FrozenMembers, Leadership, Router, ShardCalls};
use isthmus_shard::{Clock, ShardHandle};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Definitions, evaluator, exchange::Inbox, gauges::Gauges, shelf::Shelf};

/// Questions that wait at a shard; the next one is refused.
const QUESTIONS_MAX: usize = 256;
/// When a refused one may come again, in milliseconds.
const AGAIN_MS: u32 = 100;

/// What segments need of their node.
#[derive(Clone)]
pub struct Segments {
    /// The way to other shards.
    pub router: Router,
    /// The definitions in force.
    pub definitions: Definitions,
    /// The currency of revenue that came without one.
    pub currency: String,
    /// Engines that are made at a time on this node beside those in use: each takes memory.
    pub making: Arc<Semaphore>,
    /// Where evaluators say how they are.
    pub gauges: Gauges,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where tasks run.
    pub tracker: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

/// A question on its way.
pub(crate) struct Question {
    pub(crate) call: SegmentCall,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Result<SegmentReply, CallError>>,
}

/// A replica on this node: its own calls, and those about segments.
pub struct Hosted<S> {
    inner: S,
    handle: ShardHandle,
    inbox: Arc<Inbox>,
    shelf: Arc<Shelf>,
    questions: mpsc::Sender<Question>,
}

impl<S: ShardCalls> Hosted<S> {
    /// Gives a replica its part in segments, which ends with the replica or the node. `inner` answers all other calls.
    pub fn start(inner: S, handle: ShardHandle, segments: Segments) -> Self {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let (inbox, shelf) = (Arc::new(Inbox::default()), Arc::new(Shelf::default()));
        let tracker = segments.tracker.clone();
        tracker.spawn(evaluator::run(handle.clone(), segments, (inbox.clone(), shelf.clone()), asked));
        Self { inner, handle, inbox, shelf, questions }
    }
}

pub(crate) fn error(code: CallErrorCode, message: impl Into<String>) -> CallError {
    CallError { code: code.into(), message: message.into(), ..CallError::default() }
}

/// What whoever asks a replica is told that doesn't lead.
pub(crate) fn not_leading(handle: &ShardHandle) -> CallError {
    let view = handle.view();
    let leader = view.leader.filter(|leader| *leader != view.peer);
    let code = if leader.is_some() { CallErrorCode::NotLeader } else { CallErrorCode::NoLeader };
    CallError { leader: leader.unwrap_or_default(), ..error(code, "") }
}

impl<S: ShardCalls> ShardCalls for Hosted<S> {
    fn shard(&self) -> u64 {
        self.inner.shard()
    }

    fn leadership(&self) -> Leadership {
        self.inner.leadership()
    }

    fn stamp(&self) -> isthmus_domain::Stamp {
        self.inner.stamp()
    }

    fn snapshot(&self, pin: u64) -> Option<Arc<isthmus_shard::scan::Snapshot>> {
        self.inner.snapshot(pin)
    }

    fn members(&self, pin: u64) -> Option<Arc<FrozenMembers>> {
        self.shelf.get(pin)
    }

    fn call(
        &self,
        body: shard_call::Body,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<shard_reply::Body, CallError>> {
        if let shard_call::Body::Unpin(unpin) = &body {
            self.shelf.remove(unpin.pin);
        }
        let shard_call::Body::Segment(call) = body else { return self.inner.call(body, deadline) };
        if !self.handle.leads() {
            return Box::pin(std::future::ready(Err(not_leading(&self.handle))));
        }
        if let Some(Ask::Ship(ship)) = call.ask {
            let taken = match self.inbox.put(call.document_version, ship) {
                Some(incarnation) => Ok(SegmentReply { incarnation, ..SegmentReply::default() }),
                None => Err(error(CallErrorCode::Overloaded, "too many states of facets wait")),
            };
            return Box::pin(std::future::ready(taken.map(shard_reply::Body::Segment)));
        }
        let (reply, answer) = oneshot::channel();
        let asked = self.questions.try_send(Question { call, deadline, reply });
        Box::pin(async move {
            match asked {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    let refused = error(CallErrorCode::Overloaded, "too much is asked about segments");
                    return Err(CallError { retry_after_ms: AGAIN_MS, ..refused });
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    return Err(error(CallErrorCode::Unavailable, "the replica is stopping"));
                }
            }
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(answer)) => answer.map(shard_reply::Body::Segment),
                Ok(Err(_)) => Err(error(CallErrorCode::Unavailable, "the replica leads no more")),
                Err(_) => Err(error(CallErrorCode::Unavailable, "segments are still being worked out")),
            }
        })
    }
}
