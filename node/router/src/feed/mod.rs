//! The change feed of all shards as one stream.
//!
//! A reader has one call under way for each shard; a call waits at the shard's leader for a change. What a shard has
//! answered is handed on, and only then is it asked again: a reader that is slow holds one bounded answer a shard, and
//! nobody waits for it. The [`FeedPosition`] after each answer is where another reader goes on, through any node.
//!
//! Promises:
//! 1. All changes of a slot come in order, each once in the life of a reader; those of different shards come in any
//!    order.
//! 2. A shard that loses its leader is followed to the next; the others go on meanwhile. Slots that move are followed to
//!    their next shard, from the place that they had.
//! 3. A position that a shard keeps no changes for any more is refused, never passed over.

mod position;

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, try_join_all};
use futures::stream::FuturesUnordered;
use isthmus_domain::{FacetId, Slot, SlotRange, Stamp};
use isthmus_proto::internal::v1::{
    FeedChange, FeedFilter, FeedRange, ReadFeedCall, ReadFeedReply, shard_call, shard_reply,
};
use isthmus_shard::feed::Place;
use tokio::time::{Instant, sleep};

pub use self::position::{FeedPosition, RANGES_MAX as FEED_RANGES_MAX};
use crate::error::Error;
use crate::pursuit::{Want, backoff};
use crate::router::Router;

/// The most changes that one answer may have.
pub const FEED_ANSWER_MAX: u32 = 256;
/// How long one call is pursued before its slots are looked up anew.
const CALL: Duration = Duration::from_secs(5);
/// How long a shard may answer nothing before the reader is told.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first wait and the longest before a shard that answered nothing is asked again.
const AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// Changes of a shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedAnswer {
    /// The changes, in order.
    pub changes: Vec<FeedChange>,
    /// Namespace and value of identifiers that were linked with no other when the changes were read. Not all such.
    pub alone: BTreeMap<FacetId, (String, String)>,
}

/// What is made of a part of the feed before it is handed on. Parts of several shards are made at a time, those of one are
/// one after the other.
type Finish<T> = Arc<dyn Fn(FeedAnswer) -> BoxFuture<'static, T> + Send + Sync>;

/// Reads the feed of all shards. Dropping it ends it.
pub struct FeedReader<T = Vec<FeedChange>> {
    router: Router,
    filter: FeedFilter,
    limit: u32,
    /// Whether shards are to say who is a profile alone.
    names: bool,
    finish: Finish<T>,
    position: FeedPosition,
    calls: FuturesUnordered<BoxFuture<'static, Answer<T>>>,
    /// Slots that nobody is being asked about.
    idle: Vec<SlotRange>,
    /// Shards that answer nothing, since when, and how often they were asked.
    silent: BTreeMap<u64, (Instant, u32)>,
    /// Shards whose leader has answered behind a read barrier: one that was deposed without knowing it would judge by what
    /// it knew of identities then.
    confirmed: BTreeSet<u64>,
}

/// What came of a call.
struct Answer<T> {
    shard: u64,
    slots: Vec<SlotRange>,
    /// `None`: the shard doesn't own the slots, or is no more; a newer map is there, or was waited for.
    reply: Result<Option<Finished<T>>, Error>,
}

/// A shard's answer.
struct Finished<T> {
    /// All that was asked for is known up to here.
    through: Place,
    /// `None`: changes behind the place that was asked for are not kept.
    part: Option<T>,
}

/// Where the feed begins and how far it has come: all that was acknowledged before is up to there.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedStand {
    /// Nothing older is kept.
    pub beginning: FeedPosition,
    /// Nothing newer was acknowledged when it was asked for.
    pub now: FeedPosition,
}

impl Router {
    /// Asks all shards where the feed stands.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline.
    pub async fn feed_stand(&self, deadline: Instant) -> Result<FeedStand, Error> {
        let nothing = FeedPosition::all(Place::default());
        let (mut stand, mut attempt) = (FeedStand { beginning: nothing.clone(), now: nothing.clone() }, 0);
        let mut open = vec![SlotRange::ALL];
        loop {
            let (groups, unowned, revision) = self.by_shard(&open);
            let nothing = &nothing;
            let asked = groups.into_iter().map(|(shard, slots)| async move {
                let ranges = slots.iter().flat_map(|slots| nothing.of(*slots));
                let body = read_feed(ranges, &FeedFilter::default(), 0, Duration::ZERO, [true, false]);
                Ok::<_, Error>((slots, self.read_feed(shard, &body, deadline).await?))
            });
            let answers = try_join_all(asked).await?;
            open = unowned;
            for (slots, reply) in answers {
                let Some(reply) = reply else {
                    open.extend(slots);
                    continue;
                };
                for slots in slots {
                    stand.beginning.advance(slots, Place::end_of(Stamp(reply.floor_stamp)));
                    stand.now.advance(slots, Place::end_of(Stamp(reply.through_stamp)));
                }
            }
            if open.is_empty() {
                return Ok(stand);
            }
            self.await_newer(revision, attempt, deadline).await?;
            attempt += 1;
        }
    }

    /// Reads on from a position, at most `limit` changes an answer (up to [`FEED_ANSWER_MAX`]). What is not kept any more
    /// shows with the first answers.
    pub fn feed(&self, position: FeedPosition, filter: FeedFilter, limit: u32) -> FeedReader {
        let finish: Finish<_> = Arc::new(|part| Box::pin(ready(part.changes)));
        self.reader(position, filter, limit, (false, finish))
    }

    /// The same, with what `finish` makes of each part: the reader's position is behind a part when that is handed on.
    /// `finish` goes on only while the reader is asked for more. With `names`, shards say who is a profile alone.
    pub fn feed_of<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        position: FeedPosition,
        filter: FeedFilter,
        (limit, names): (u32, bool),
        finish: impl Fn(FeedAnswer) -> F + Send + Sync + 'static,
    ) -> FeedReader<T> {
        let finish: Finish<T> = Arc::new(move |part| Box::pin(finish(part)));
        self.reader(position, filter, limit, (names, finish))
    }

    fn reader<T>(
        &self,
        position: FeedPosition,
        filter: FeedFilter,
        limit: u32,
        (names, finish): (bool, Finish<T>),
    ) -> FeedReader<T> {
        FeedReader {
            router: self.clone(),
            filter,
            limit: limit.clamp(1, FEED_ANSWER_MAX),
            names,
            finish,
            position,
            calls: FuturesUnordered::new(),
            idle: vec![SlotRange::ALL],
            silent: BTreeMap::new(),
            confirmed: BTreeSet::new(),
        }
    }

    /// Slots by the shards that own them, slots that nobody owns, and the revision of the map that says so.
    fn by_shard(&self, slots: &[SlotRange]) -> (BTreeMap<u64, Vec<SlotRange>>, Vec<SlotRange>, u64) {
        let routes = self.routes();
        let (mut groups, mut unowned): (BTreeMap<u64, Vec<SlotRange>>, _) = (BTreeMap::new(), Vec::new());
        for slots in slots {
            let (mut start, end) = (slots.start(), slots.end_exclusive());
            loop {
                let segment = routes.segments_from(start).and_then(|rest| rest.first());
                let Some(segment) = segment else {
                    unowned.extend(SlotRange::new(start.number(), end));
                    break;
                };
                let last = segment.slots.end_exclusive().min(end);
                groups.entry(segment.shard).or_default().extend(SlotRange::new(start.number(), last));
                match Slot::new(last).filter(|_| last < end) {
                    Some(next) => start = next,
                    None => break,
                }
            }
        }
        (groups, unowned, routes.revision)
    }

    /// Asks a shard; `None` when it doesn't own the slots, or is no more.
    async fn read_feed(
        &self,
        shard: u64,
        body: &shard_call::Body,
        deadline: Instant,
    ) -> Result<Option<ReadFeedReply>, Error> {
        match self.reach(shard, &mut self.pursuit(Want::Leader), body, deadline).await {
            Ok(shard_reply::Body::ReadFeed(reply)) => Ok((!reply.not_owned).then_some(reply)),
            Ok(_) => Err(Error::BadReply { shard, what: "not changes of the feed" }),
            Err(Error::NoShard { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl<T: Default + Send + 'static> FeedReader<T> {
    /// How far it has come: with everything that was handed on.
    pub fn position(&self) -> &FeedPosition {
        &self.position
    }

    /// The next changes of a shard; none (and [`Default`]) when the shard has had none for a while, or none that were asked for.
    ///
    /// # Errors
    /// [`Error::CursorTooOld`]; the last error of a shard that has answered nothing for half a minute; what no waiting
    /// helps against. The reader is over then, and its position is where another one goes on. Waiting may be broken off
    /// at any time.
    pub async fn next(&mut self) -> Result<T, Error> {
        loop {
            self.ask();
            let Some(answer) = self.calls.next().await else {
                return Err(Error::StaleShardMap { version: self.router.routes().map_version() });
            };
            let Answer { shard, slots, reply } = answer;
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) => {
                    self.idle.extend(slots);
                    let (since, attempts) = self.silent.entry(shard).or_insert((Instant::now(), 0));
                    *attempts += 1;
                    if !passes(&error) || since.elapsed() > PATIENCE {
                        return Err(error);
                    }
                    continue;
                }
            };
            self.idle.extend(&slots);
            let Some(reply) = reply else { continue };
            self.silent.remove(&shard);
            self.confirmed.insert(shard);
            let part = reply.part.ok_or(Error::CursorTooOld)?;
            for slots in slots {
                self.position.advance(slots, reply.through);
            }
            return Ok(part);
        }
    }

    /// Has everybody asked whom nobody is asking.
    fn ask(&mut self) {
        if self.idle.is_empty() {
            return;
        }
        let idle = std::mem::take(&mut self.idle);
        let (groups, unowned, revision) = self.router.by_shard(&idle);
        for (shard, slots) in groups {
            let ranges = slots.iter().flat_map(|slots| self.position.of(*slots));
            let fresh = !self.confirmed.contains(&shard);
            let wait = self.router.patience_of_a_try() / 2;
            let body = read_feed(ranges, &self.filter, self.limit, wait, [fresh, self.names]);
            let attempts = self.silent.get(&shard).map_or(0, |(_, attempts)| *attempts);
            let (router, finish) = (self.router.clone(), self.finish.clone());
            self.calls.push(Box::pin(async move {
                if attempts > 0 {
                    sleep(backoff(AGAIN[0], AGAIN[1], attempts - 1, router.next_attempt())).await;
                }
                let (begun, deadline) = (Instant::now(), Instant::now() + CALL);
                let mut reply = router.read_feed(shard, &body, deadline).await;
                if let Ok(None) = reply
                    && let Err(error) = router.await_newer(revision, 0, deadline).await
                {
                    reply = Err(error);
                }
                let reply = match reply {
                    Ok(Some(mut reply)) => {
                        // The answer has waited for a reader who rests: others may have been linked meanwhile.
                        if begun.elapsed() > CALL {
                            reply.names.clear();
                        }
                        Ok(Some(finished(reply, &*finish).await))
                    }
                    Ok(None) => Ok(None),
                    Err(error) => Err(error),
                };
                Answer { shard, slots, reply }
            }));
        }
        if !unowned.is_empty() {
            let router = self.router.clone();
            self.calls.push(Box::pin(async move {
                let waited = router.await_newer(revision, u32::MAX, Instant::now() + CALL).await;
                Answer { shard: 0, slots: unowned, reply: waited.map(|()| None) }
            }));
        }
    }
}

async fn finished<T: Default>(
    reply: ReadFeedReply,
    finish: &(dyn Fn(FeedAnswer) -> BoxFuture<'static, T> + Send + Sync),
) -> Finished<T> {
    let through = Place { stamp: Stamp(reply.through_stamp), number: reply.through_number };
    if reply.too_old {
        return Finished { through, part: None };
    }
    if reply.changes.is_empty() {
        return Finished { through, part: Some(T::default()) };
    }
    let alone = reply.names.into_iter();
    let alone =
        alone.filter_map(|name| Some((FacetId::from_slice(&name.facet)?, (name.namespace, name.value))));
    let part = FeedAnswer { changes: reply.changes, alone: alone.collect() };
    Finished { through, part: Some(finish(part).await) }
}

/// Whether waiting may help.
fn passes(error: &Error) -> bool {
    matches!(
        error,
        Error::NoLeader { .. }
            | Error::Unavailable { .. }
            | Error::StaleShardMap { .. }
            | Error::Overloaded { .. }
            | Error::OutcomeUnknown { .. }
            | Error::DeadlineExceeded { .. }
    )
}

fn read_feed(
    ranges: impl Iterator<Item = (SlotRange, Place)>,
    filter: &FeedFilter,
    limit: u32,
    wait: Duration,
    [fresh, names]: [bool; 2],
) -> shard_call::Body {
    let ranges = ranges.map(|(slots, place)| FeedRange {
        start_slot: slots.start().number().into(),
        end_slot: slots.end_exclusive().into(),
        stamp: place.stamp.0,
        number: place.number,
    });
    shard_call::Body::ReadFeed(ReadFeedCall {
        ranges: ranges.collect(),
        filter: Some(filter.clone()),
        limit,
        wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        fresh,
        names,
    })
}
