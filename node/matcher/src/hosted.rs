//! A shard with its part in matching.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use isthmus_domain::{FacetId, IdentityKey};
use isthmus_proto::internal::v1::{
    CallError, CallErrorCode, CompareCall, CompareReply, MatchingStatusReply, TouchCall, TouchReply,
    shard_call, shard_reply,
};
use isthmus_router::{Leadership, Router, ShardCalls};
use isthmus_shard::{Clock, ShardHandle};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    blocks::Held,
    holders::Holders,
    model::Models,
    owner::{self, Progress},
};

/// When to come back to a node that has not loaded a model yet.
const AGAIN: Duration = Duration::from_millis(20);

/// What matching needs of its node.
#[derive(Clone)]
pub struct Matching {
    /// The way to all shards.
    pub router: Router,
    /// The key that identifiers are hashed with.
    pub key: IdentityKey,
    /// The currency of revenue that came without one; profiles are folded by it.
    pub currency: String,
    /// The model in force.
    pub models: Models,
    /// How far all shards are.
    pub holders: Holders,
    /// How many comparisons may run at a time on this node: so that reads and writes find a processor.
    pub comparing: Arc<Semaphore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where tasks run.
    pub tracker: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

/// A replica on this node: its own calls, and those of matching.
pub struct Hosted {
    handle: ShardHandle,
    models: Models,
    comparing: Arc<Semaphore>,
    held: Arc<Held>,
    progress: Arc<Progress>,
}

impl Hosted {
    /// Gives a replica its part in matching, which ends with the replica or the node.
    pub fn start(handle: ShardHandle, matching: Matching) -> Self {
        let (held, progress) = (Arc::new(Held::default()), Arc::new(Progress::default()));
        let (models, comparing) = (matching.models.clone(), matching.comparing.clone());
        let tracker = matching.tracker.clone();
        tracker.spawn(owner::run(handle.clone(), matching, held.clone(), progress.clone()));
        Self { handle, models, comparing, held, progress }
    }
}

fn error(code: CallErrorCode, message: &str) -> CallError {
    CallError { code: code.into(), message: message.to_owned(), ..CallError::default() }
}

/// The term in which the replica leads.
fn leads(handle: &ShardHandle) -> Result<u64, CallError> {
    let view = handle.view();
    match view.is_leader && view.works {
        true => Ok(view.term),
        false => Err(CallError {
            leader: view.leader.filter(|leader| *leader != view.peer).unwrap_or_default(),
            ..error(
                if view.leader.is_some() { CallErrorCode::NotLeader } else { CallErrorCode::NoLeader },
                "",
            )
        }),
    }
}

impl Hosted {
    fn compare(
        &self,
        call: CompareCall,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<CompareReply, CallError>> {
        let (handle, held, mut models) = (self.handle.clone(), self.held.clone(), self.models.clone());
        let comparing = self.comparing.clone();
        Box::pin(async move {
            // Nodes load a model one after the other; a moment's wait is cheaper than to be asked again.
            while models.get().is_none_or(|model| model.version < call.model_version) {
                if Instant::now() + AGAIN >= deadline {
                    return Err(error(CallErrorCode::Unavailable, "the model isn't loaded here yet"));
                }
                _ = tokio::time::timeout(AGAIN, models.changed()).await;
            }
            let Some(model) = models.get() else {
                return Err(error(CallErrorCode::Unavailable, "the model isn't loaded here yet"));
            };
            let room = tokio::time::timeout_at(deadline, comparing.acquire_owned()).await;
            let Ok(Ok(room)) = room else {
                return Err(error(CallErrorCode::Overloaded, "too much is being compared"));
            };
            let term = leads(&handle)?;
            let owned = handle.owned();
            let compared = tokio::task::spawn_blocking(move || {
                let reply = held.compare(&model, term, |slot| owned.contains(slot), call);
                drop(room);
                if !handle.leads() {
                    held.clear();
                }
                reply
            });
            compared.await.map_err(|_| error(CallErrorCode::Unavailable, "comparing was broken off"))
        })
    }

    fn touch(&self, call: &TouchCall) -> Result<TouchReply, CallError> {
        leads(&self.handle)?;
        self.handle.touch(call.facets.iter().filter_map(|facet| FacetId::from_slice(facet)));
        Ok(TouchReply {})
    }

    fn status(&self) -> Result<MatchingStatusReply, CallError> {
        let term = leads(&self.handle)?;
        let Some(model) = self.models.get() else { return Ok(MatchingStatusReply::default()) };
        let held = self.held.status(&model, term);
        let mut status = self.progress.status(model.version);
        status.incarnation = held.incarnation;
        status.records = held.records as u64;
        status.filled_up = held.filled_up;
        status.pending += self.handle.touched() as u64;
        Ok(status)
    }
}

impl ShardCalls for Hosted {
    fn shard(&self) -> u64 {
        self.handle.shard()
    }

    fn leadership(&self) -> Leadership {
        self.handle.leadership()
    }

    fn stamp(&self) -> isthmus_domain::Stamp {
        self.handle.stamp()
    }

    fn snapshot(&self, pin: u64) -> Option<Arc<isthmus_shard::scan::Snapshot>> {
        self.handle.snapshot(pin)
    }

    fn call(
        &self,
        body: shard_call::Body,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<shard_reply::Body, CallError>> {
        use shard_reply::Body as Reply;
        match body {
            shard_call::Body::Compare(call) => {
                let compared = self.compare(call, deadline);
                Box::pin(async move { compared.await.map(Reply::Compare) })
            }
            shard_call::Body::Touch(call) => {
                let touched = self.touch(&call).map(Reply::Touch);
                Box::pin(std::future::ready(touched))
            }
            shard_call::Body::MatchingStatus(_) => {
                let status = self.status().map(Reply::MatchingStatus);
                Box::pin(std::future::ready(status))
            }
            other => {
                let handle = self.handle.clone();
                Box::pin(async move { handle.call(other, deadline).await })
            }
        }
    }
}
