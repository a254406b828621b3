//! `Watch`: the change feed as a stream.
//!
//! The stream is pulled: as long as a client has not taken a response, no further one is made, and nothing waits but one
//! bounded answer of each shard. So whoever falls behind costs no memory and slows nobody; when even its cursor is
//! behind what is kept, the stream ends and says so. How many may watch through a node is bounded.

pub(crate) mod cursor;
mod lag;
mod names;
mod naming;
mod wire;

use std::collections::BTreeSet;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use futures::stream::{self, Stream};
use isthmus_domain::{FacetId, Slot};
use isthmus_proto::internal::v1::{FeedChange, FeedFilter};
use isthmus_proto::v1::{ProfileKey, WatchFilter, WatchFrom, WatchRequest, WatchResponse, profile_key::Key};
use isthmus_router::{FEED_ANSWER_MAX, FeedReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

use self::lag::{Lag, Lags};
use self::naming::{Named, Naming};
use super::Profiles;
use crate::grpc::Hub;
use crate::grpc::status::{Refusal, status};

/// A stream tells its cursor this often where it has nothing else to tell.
const PROGRESS: Duration = Duration::from_secs(5);
/// When to come back to a node that has enough watchers.
const FULL_AGAIN: Duration = Duration::from_secs(5);
/// The most terms of each sort in a filter.
const TERMS_MAX: usize = 1_000;

/// The stream that a call answers with.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

/// Who watches through a node.
pub struct Watchers {
    room: Arc<Semaphore>,
    max: usize,
    lags: Lags,
    stop: CancellationToken,
}

impl Watchers {
    /// At most so many at a time.
    pub fn new(max: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new(max)),
            max,
            lags: Lags::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Ends all streams: the node stops.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// How many watch.
    pub fn open(&self) -> usize {
        self.max - self.room.available_permits().min(self.max)
    }

    /// How far the stream that is most behind is behind, in microseconds.
    pub fn lag_micros(&self, now_micros: i64) -> u64 {
        self.lags.longest_micros(now_micros)
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.room.clone().try_acquire_owned().map_err(|_| {
            let message = format!(
                "{} watch through this node, which is its limit: go to another node, or come back",
                self.max
            );
            Refusal::new(Code::ResourceExhausted, "TOO_MANY_WATCHERS", message).retry_after(FULL_AGAIN)
        })
    }
}

fn stopping() -> Status {
    Refusal::new(
        Code::Unavailable,
        "UNAVAILABLE",
        "this node is stopping: go on at another with the last cursor",
    )
    .retry_after(naming::AGAIN)
    .into()
}

/// A stream under way.
struct Watch {
    hub: Arc<Hub>,
    reader: FeedReader<Named>,
    naming: Arc<Naming>,
    /// The most changes that one shard answers with at a time.
    of_a_shard: usize,
    /// The most changes of a response.
    limit: usize,
    /// When the next response is due at the latest.
    due: Instant,
    lag: Arc<Lag>,
    stop: CancellationToken,
    _room: OwnedSemaphorePermit,
}

impl Profiles {
    pub(super) async fn watching(&self, request: Request<WatchRequest>) -> Result<WatchStream, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let watchers = &self.hub.watchers;
        let room = watchers.enter()?;
        let stop = watchers.stop.clone();
        if stop.is_cancelled() {
            return Err(stopping());
        }
        let request = request.into_inner();
        let from = WatchFrom::try_from(request.start)
            .map_err(|_| Refusal::field("INVALID_FROM", "from", "is not a place to begin that there is"))?;
        let limit = match request.response_changes_max {
            0 => FEED_ANSWER_MAX,
            limit @ 1..=FEED_ANSWER_MAX => limit,
            _ => {
                let what = format!("must be 1 to {FEED_ANSWER_MAX}, or 0 for {FEED_ANSWER_MAX}");
                return Err(Refusal::field("INVALID_LIMIT", "response_changes_max", what).into());
            }
        };
        let asked = request.filter.unwrap_or_default();
        let segments = asked.segments.iter().cloned().collect();
        let (filter, wanted) = self.filter(asked)?;
        let given = match request.cursor.as_str() {
            "" => None,
            cursor => Some(cursor::decode(&self.hub.view().cluster_id, cursor)?),
        };
        let stand = self.hub.router.feed_stand(deadline).await.map_err(|error| status(&error))?;
        let position = match (given, from) {
            (Some(position), _) => {
                if position.behind(&stand.beginning).is_some() {
                    return Err(status(&isthmus_router::Error::CursorTooOld));
                }
                if stand.now.behind(&position).is_some() {
                    let message = "the cursor is ahead of all that the cluster holds, which has lost what came before \
                                   it or was restored: take a new cursor (a watch from now), list all profiles, then \
                                   go on from that cursor";
                    return Err(Refusal::new(Code::FailedPrecondition, "CURSOR_AHEAD", message).into());
                }
                position
            }
            (None, WatchFrom::Beginning) => stand.beginning,
            (None, WatchFrom::Unspecified | WatchFrom::Now) => stand.now,
        };
        let of_a_shard = (limit / 2).max(1);
        let naming = Arc::new(Naming::new(Self { hub: self.hub.clone() }, segments, wanted));
        let (names, of_each) = (naming.takes_names(), naming.clone());
        let named = move |part| {
            let naming = of_each.clone();
            async move { naming.of(part).await }
        };
        let watch = Watch {
            hub: self.hub.clone(),
            reader: self.hub.router.feed_of(position, filter, (of_a_shard, names), named),
            naming,
            of_a_shard: of_a_shard as usize,
            limit: limit as usize,
            due: Instant::now(),
            lag: watchers.lags.enter(),
            stop,
            _room: room,
        };
        let next = |watch: Option<Watch>| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(response) => Some((Ok(response), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        };
        Ok(Box::pin(stream::unfold(Some(watch), next)))
    }

    /// The part of a filter that shards judge, and whose changes are wanted.
    fn filter(&self, filter: WatchFilter) -> Result<(FeedFilter, BTreeSet<FacetId>), Refusal> {
        let WatchFilter { events, types, traits, members, identifiers, profile_ids, segments } = filter;
        for (field, terms) in [
            ("filter.events", events.len()),
            ("filter.types", types.len()),
            ("filter.traits", traits.len()),
            ("filter.segments", segments.len()),
            ("filter.identifiers", identifiers.len() + profile_ids.len()),
        ] {
            if terms > TERMS_MAX {
                return Err(Refusal::field("INVALID_FILTER", field, format!("at most {TERMS_MAX}")));
            }
        }
        let known = |kind: &i32| u32::try_from(*kind).ok().filter(|kind| (1..=6).contains(kind));
        let types: Option<Vec<u32>> = types.iter().map(known).collect();
        let types = types.ok_or_else(|| {
            Refusal::field("INVALID_FILTER", "filter.types", "has a type of event that there isn't")
        })?;
        let keys = identifiers.into_iter().map(Key::Identifier);
        let keys = keys.chain(profile_ids.into_iter().map(Key::ProfileId));
        const FIELDS: [&str; 4] =
            ["filter", "filter.identifiers.namespace", "filter.identifiers.value", "filter.profile_ids"];
        let facets = keys.map(|key| self.hub.facet_named(Some(&ProfileKey { key: Some(key) }), FIELDS));
        let wanted: BTreeSet<FacetId> = facets.collect::<Result<_, _>>()?;
        let facets = wanted.iter().map(|id| bytes::Bytes::copy_from_slice(id.as_bytes())).collect();
        let segments = segments.iter().map(|name| isthmus_shard::feed::name_hash(name)).collect();
        let filter = FeedFilter { names: events, types, traits, members, facets, segments, homes: false };
        Ok((filter, wanted))
    }
}

impl Watch {
    /// The next response: changes, or the cursor alone when it is due.
    async fn next(&mut self) -> Result<WatchResponse, Status> {
        let stop = self.stop.clone();
        self.lag.asked();
        let mut told = Named::default();
        while told.changes.is_empty() {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(stopping()),
                part = self.reader.next(), if Instant::now() < self.due => {
                    told = some(part)?;
                    if told.seen == 0 {
                        self.caught_up();
                    }
                }
                () = sleep_until(self.due) => {
                    self.caught_up();
                    break;
                }
            }
        }
        // What other shards have answered by now comes with it.
        while !told.changes.is_empty() && told.seen + self.of_a_shard <= self.limit {
            let Poll::Ready(part) = futures::poll!(pin!(self.reader.next())) else { break };
            let Named { changes, seen, newest, .. } = some(part)?;
            told.changes.extend(changes);
            told.seen += seen.max(1);
            told.newest = told.newest.max(newest);
        }
        self.due = Instant::now() + PROGRESS;
        if !told.changes.is_empty() {
            self.hub.metrics.watched_changes.fetch_add(told.changes.len() as u64, Relaxed);
            self.lag.handed(told.newest, self.hub.clock.now_micros());
        }
        let cursor = cursor::encode(&self.hub.view().cluster_id, self.reader.position());
        Ok(WatchResponse { changes: told.changes, cursor })
    }

    fn caught_up(&self) {
        if !self.naming.is_under_way() {
            self.lag.caught_up();
        }
    }
}

/// What a reader hands on, unless it or the naming failed.
fn some(part: Result<Named, isthmus_router::Error>) -> Result<Named, Status> {
    let named = part.map_err(|error| status(&error))?;
    match named.failed {
        Some(error) => Err(error),
        None => Ok(named),
    }
}

/// The id of a change: slot, stamp and number, which no other change has.
fn id(slot: Slot, change: &FeedChange) -> String {
    id_of(slot.number().into(), change.stamp, change.number)
}

fn id_of(slot: u32, stamp: u64, number: u32) -> String {
    format!("{slot:04x}{stamp:016x}{number:08x}")
}
