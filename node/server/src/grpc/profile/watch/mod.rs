//! `Watch`: the change feed as a stream.
//!
//! The stream is pulled: as long as a client has not taken a response, no further one is made, and nothing waits but one
//! bounded answer of each shard. So whoever falls behind costs no memory and slows nobody; when even its cursor is
//! behind what is kept, the stream ends and says so. How many may watch through a node is bounded.

pub(crate) mod cursor;
mod lag;
mod names;
mod wire;

use std::collections::BTreeSet;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use futures::stream::{self, Stream};
use isthmus_domain::{FacetId, Slot, Stamp};
use isthmus_proto::internal::v1::{FeedChange, FeedFilter, feed_change};
use isthmus_proto::v1::{ProfileKey, WatchFilter, WatchFrom, WatchRequest, WatchResponse, profile_key::Key};
use isthmus_router::{FEED_ANSWER_MAX, FeedReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

use self::lag::{Lag, Lags};
use self::names::Names;
use super::Profiles;
use crate::grpc::status::{Refusal, status};

/// A stream tells its cursor this often where it has nothing else to tell.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long one look at whose changes are may take, and how long it is tried again. Together they stay below what a
/// client takes for silence (`client::watch`): it hears why the stream ends, and comes back to where it was.
const NAMES: Duration = Duration::from_secs(5);
const NAMES_PATIENCE: Duration = Duration::from_secs(10);
const NAMES_AGAIN: Duration = Duration::from_millis(100);
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
    .retry_after(NAMES_AGAIN)
    .into()
}

/// A stream under way.
struct Watch {
    profiles: Profiles,
    reader: FeedReader,
    /// The most changes that one shard answers with at a time.
    of_a_shard: u32,
    /// The most changes of a response.
    limit: u32,
    names: Names,
    defined: wire::Defined,
    /// The segments that are asked for; empty: none, or all where others are not asked for either.
    segments: BTreeSet<String>,
    /// Whose changes are wanted; empty: everybody's.
    wanted: BTreeSet<FacetId>,
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
        let watch = Watch {
            profiles: Self { hub: self.hub.clone() },
            reader: self.hub.router.feed(position, filter, of_a_shard),
            of_a_shard,
            limit,
            names: Names::default(),
            defined: wire::Defined::default(),
            segments,
            wanted,
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
        let mut newest = 0;
        self.lag.asked();
        let changes = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(stopping()),
                changes = self.reader.next(), if Instant::now() < self.due => {
                    let first = changes.map_err(|error| status(&error))?;
                    if first.is_empty() {
                        self.lag.caught_up();
                        continue;
                    }
                    // What other shards have answered meanwhile is named beside it.
                    let (mut count, mut found) = (first.len(), vec![first]);
                    while count + self.of_a_shard as usize <= self.limit as usize {
                        let Poll::Ready(more) = futures::poll!(pin!(self.reader.next())) else { break };
                        let more = more.map_err(|error| status(&error))?;
                        count += more.len();
                        found.push(more);
                    }
                    let named = tokio::select! {
                        biased;
                        () = stop.cancelled() => return Err(stopping()),
                        named = self.named(&found) => named?,
                    };
                    newest = found.iter().flatten().map(|change| change.stamp).max().unwrap_or_default();
                    if !named.is_empty() {
                        break named;
                    }
                }
                () = sleep_until(self.due) => {
                    self.lag.caught_up();
                    break Vec::new();
                }
            }
        };
        self.due = Instant::now() + PROGRESS;
        if !changes.is_empty() {
            let hub = &self.profiles.hub;
            hub.metrics.watched_changes.fetch_add(changes.len() as u64, Relaxed);
            self.lag.handed(newest, hub.clock.now_micros());
        }
        let cursor = cursor::encode(&self.profiles.hub.view().cluster_id, self.reader.position());
        Ok(WatchResponse { changes, cursor })
    }

    /// Changes in the words of the interface, without those of others than are asked for; given as shards have answered.
    async fn named(&mut self, found: &[Vec<FeedChange>]) -> Result<Vec<isthmus_proto::v1::Change>, Status> {
        let facet = |change: &FeedChange| FacetId::from_slice(&change.facet);
        let of = |kind: fn(&feed_change::Body) -> bool| {
            found.iter().flatten().any(|change| change.body.as_ref().is_some_and(kind))
        };
        if of(|body| matches!(body, feed_change::Body::Members(_))) {
            self.names.forget();
        }
        // Each as it was by its own shard's newest change: others may not have come as far.
        let asked = found.iter().map(|changes| {
            let stamp = changes.iter().map(|change| change.stamp).max().unwrap_or_default();
            (changes.iter().filter_map(facet).collect(), Stamp(stamp))
        });
        let asked: Vec<(BTreeSet<FacetId>, Stamp)> = asked.collect();
        let give_up = Instant::now() + NAMES_PATIENCE;
        let names = loop {
            let deadline = Instant::now() + NAMES;
            match self.names.of(&self.profiles, &asked, &self.wanted, deadline).await {
                Ok(names) => break names,
                Err(error) if may_pass(&error) && Instant::now() < give_up => sleep(NAMES_AGAIN).await,
                Err(error) => return Err(error),
            }
        };
        let mut shown = Vec::new();
        if of(|body| matches!(body, feed_change::Body::Segment(_))) {
            self.defined.learn(&self.profiles.hub.view());
        }
        for change in found.iter().flatten() {
            // Shards judge by hashes of names.
            if let Some(feed_change::Body::Segment(of)) = &change.body
                && let name = self.defined.name(of.segment)
                && !(name.is_empty() || self.segments.is_empty() || self.segments.contains(name))
            {
                continue;
            }
            let Some((facet, name)) = facet(change).and_then(|id| Some((id, names.get(&id)?))) else {
                continue;
            };
            if name.is_wanted {
                shown.extend(wire::change(change, facet.slot(), name, &self.defined)?);
            }
        }
        Ok(shown)
    }
}

/// Whether trying again may help.
fn may_pass(error: &Status) -> bool {
    matches!(
        error.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::FailedPrecondition
    )
}

/// The id of a change: slot, stamp and number, which no other change has.
fn id(slot: Slot, change: &FeedChange) -> String {
    id_of(slot.number().into(), change.stamp, change.number)
}

fn id_of(slot: u32, stamp: u64, number: u32) -> String {
    format!("{slot:04x}{stamp:016x}{number:08x}")
}
