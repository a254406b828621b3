//! Ingest: a batch is split by shard, the parts are sent in parallel, and the results come back in the batch's order.
//!
//! Promises:
//! 1. Every item has exactly one result, at the index where it came in.
//! 2. An item goes out under the attempt id that it came with, however often; so a retry of what did commit gets the
//!    original outcome, and applying twice is left to nobody's luck.
//! 3. A part that is slow, or whose shard has no leader, holds up no other part; an item whose slot has moved is sent
//!    on as soon as a newer shard map is here, without waiting for the rest.
//! 4. The answer comes by the deadline. An item that may have been stored and isn't known to be is
//!    [`ItemResult::Unknown`], never "failed".
//! 5. The batch fails as a whole only if nothing of it can have been stored.
//!
//! A part is not cut to size: the shard's leader puts what waits into proposals of its own size, from all callers.

mod gather;
mod split;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use isthmus_domain::{Slot, Stamp};
use isthmus_proto::internal::v1::{
    CommandItem, IngestCall, IngestReply, command_item, shard_call, shard_reply,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument as _;

use self::gather::Gather;
use self::split::{Part, split};
use crate::error::Error;
use crate::pursuit::Want;
use crate::router::Router;

/// What an item weighs beside its bytes while it is on its way, about.
const ITEM_BYTES: usize = 256;

/// When to come back if this node has too many bytes on their way.
const ROOM_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);

/// An item on its way to the shard that owns its slot.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutedItem {
    /// Where it belongs: the slot of an event's primary identifier, or of a quarantine entry's id.
    pub slot: Slot,
    /// What to take in. Its attempt has to come from [`Router::next_attempt`], one for each item.
    pub item: CommandItem,
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemResult {
    /// Stored and applied.
    Accepted,
    /// The same event was there already; nothing was changed.
    Duplicate,
    /// Kept in quarantine and not applied.
    Quarantined {
        /// Why, as a stable code; empty for an item that was sent as a quarantine entry, which says so itself.
        reason: String,
    },
    /// Neither stored nor kept.
    Rejected {
        /// Why, as a stable code. `OVERLOADED` and `DISK_FULL` are worth another try.
        reason: String,
    },
    /// Not known by the deadline. To be sent again with the same message id.
    Unknown,
}

impl ItemResult {
    /// Whether sending the same item again can end otherwise.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unknown => true,
            Self::Rejected { reason } => RETRYABLE.contains(&reason.as_str()),
            Self::Accepted | Self::Duplicate | Self::Quarantined { .. } => false,
        }
    }
}

/// Reasons of items that were refused for now, in a batch of which others were not: too much was waiting, or the disk of
/// their shard's leader was nearly full.
const RETRYABLE: [&str; 2] = ["OVERLOADED", "DISK_FULL"];

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestSummary {
    /// One result for each item, in order.
    pub results: Vec<ItemResult>,
    /// The largest stamp of what was stored, or found to be; a read that waits for it sees all of it. `None` when
    /// nothing was.
    pub stamp: Option<Stamp>,
}

/// What came of a part.
struct Landed {
    part: Part,
    answer: Answer,
}

enum Answer {
    /// The shard answered.
    Reply(IngestReply),
    /// It did not, and won't.
    Failed(Error),
    /// The part has to be split anew, by tables that may be newer.
    Waited,
}

/// What to do with a part.
enum Task {
    Send(Part),
    /// Wait for newer tables than those of this revision.
    Wait(Part, u64),
}

impl Router {
    /// Takes a batch in.
    ///
    /// # Errors
    /// Only when nothing of the batch can have been stored: [`Error::Overloaded`], [`Error::DiskFull`], [`Error::NoLeader`],
    /// [`Error::Unavailable`], [`Error::StaleShardMap`], [`Error::Stopping`]; of several, the first that occurred.
    pub async fn ingest(&self, items: Vec<RoutedItem>, deadline: Instant) -> Result<IngestSummary, Error> {
        let span = tracing::debug_span!("router.ingest", items = items.len());
        self.bring(items, deadline).instrument(span).await
    }

    async fn bring(&self, items: Vec<RoutedItem>, deadline: Instant) -> Result<IngestSummary, Error> {
        if items.is_empty() {
            return Ok(IngestSummary { results: Vec::new(), stamp: None });
        }
        let _room = self.admit(&items)?;
        let mut gather = Gather::new(items.len());
        let routes = self.routes();
        let whole = Part::whole(items);
        let mut tasks = split(&routes, whole);
        if let [Task::Send(_)] = tasks.as_slice()
            && let Some(task) = tasks.pop()
        {
            // Nearly all small requests: one shard, no machinery.
            let landed = self.carry_out(task, deadline).await;
            let Some(again) = gather.take(landed) else { return gather.finish() };
            tasks.push(Task::Wait(again, routes.revision));
        }
        drop(routes);
        let mut running: FuturesUnordered<_> =
            tasks.into_iter().map(|task| self.carry_out(task, deadline)).collect();
        while let Some(landed) = running.next().await {
            if let Answer::Waited = landed.answer {
                let routes = self.routes();
                running.extend(
                    split(&routes, landed.part).into_iter().map(|task| self.carry_out(task, deadline)),
                );
                continue;
            }
            let revision = landed.part.revision;
            if let Some(again) = gather.take(landed) {
                running.push(self.carry_out(Task::Wait(again, revision), deadline));
            }
        }
        gather.finish()
    }

    async fn carry_out(&self, task: Task, deadline: Instant) -> Landed {
        match task {
            Task::Send(mut part) => {
                let items = part.items.iter().map(|routed| routed.item.clone()).collect();
                let body = shard_call::Body::Ingest(IngestCall { items });
                let mut pursuit = self.pursuit(Want::Leader);
                let reached = self.reach(part.shard, &mut pursuit, &body, deadline).await;
                part.maybe_done |= pursuit.maybe_done();
                let answer = match reached {
                    Ok(shard_reply::Body::Ingest(reply)) if reply.outcomes.len() == part.items.len() => {
                        Answer::Reply(reply)
                    }
                    Ok(_) => {
                        part.maybe_done = true;
                        Answer::Failed(Error::BadReply {
                            shard: part.shard,
                            what: "not an outcome for each item",
                        })
                    }
                    // The shard is gone from the map: its slots have another owner.
                    Err(Error::NoShard { .. }) => Answer::Waited,
                    Err(error) => Answer::Failed(error),
                };
                Landed { part, answer }
            }
            Task::Wait(part, revision) => {
                let answer = match self.await_newer(revision, part.stales, deadline).await {
                    Ok(()) => Answer::Waited,
                    Err(error) => Answer::Failed(error),
                };
                Landed { part, answer }
            }
        }
    }

    /// Room for the batch among all that are on their way, given back when the answer is there.
    fn admit(&self, items: &[RoutedItem]) -> Result<OwnedSemaphorePermit, Error> {
        let bytes: usize =
            items.iter().map(|routed| ITEM_BYTES + body_of(&routed.item).map_or(0, Bytes::len)).sum();
        let room = std::sync::Arc::clone(self.room());
        let kib = u32::try_from((bytes >> 10) + 1)
            .map_err(|_| Error::Invalid { message: "the batch is too large".to_owned() })?;
        room.try_acquire_many_owned(kib).map_err(|_| Error::Overloaded { retry_after: ROOM_AGAIN })
    }
}

fn body_of(item: &CommandItem) -> Option<&Bytes> {
    match item.body.as_ref()? {
        command_item::Body::Record(bytes) | command_item::Body::Quarantine(bytes) => Some(bytes),
    }
}
