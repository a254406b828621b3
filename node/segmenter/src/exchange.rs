//! States of facets on their way to the shards that put their profiles together.
//!
//! **What it promises.** Each shard's evaluator has, of every facet whose profile it puts together, the state that the
//! evaluator of the facet's shard had when it was last said to be flushed, or a later one. A state goes as a whole, with
//! the stamp that it is of: the larger counts, so states may come again and in any order.
//!
//! **How.** Who knows (an evaluator, by its *incarnation*) tells each other shard what it has for it, and then what changes.
//! An answer names the evaluator that has it; if that is another one than before, everything is told anew, so nobody has to
//! keep what was told. An evaluator that begins greets all others, by which they learn of it; it is *ready* when each of
//! them has told all it has. What only an earlier evaluator of a shard told goes when the later one has told all.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use isthmus_domain::{FacetId, Stamp};
use isthmus_proto::internal::v1::{SegmentFacet, SegmentShip};
use isthmus_router::Router;
use isthmus_segment::FacetState;
use isthmus_shard::feed::Place;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{Cause, Engine};

/// Facets of one message.
const FACETS_MAX: usize = 500;
/// Bytes of one message, about.
const BYTES_MAX: usize = 512 << 10;
/// Messages that wait to be taken up; the next one is refused.
const WAITING_MAX: usize = 256;
/// How long a message may be under way, and the pause after one that was not taken.
const TIMEOUT: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(50);

/// What others have told, until it is taken up; and who works here.
#[derive(Debug, Default)]
pub struct Inbox {
    /// By the number of the definitions: their version, or that of a preview.
    works: Mutex<BTreeMap<u64, Waiting>>,
    /// Rung when something has come.
    pub come: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    incarnation: u64,
    ships: VecDeque<SegmentShip>,
}

impl Inbox {
    /// Says who works by definitions from here on; what was told to others is let go.
    fn begin(&self, number: u64, incarnation: u64) {
        self.works.lock().insert(number, Waiting { incarnation, ships: VecDeque::new() });
    }

    /// An evaluator works by definitions no more.
    fn end(&self, number: u64, incarnation: u64) {
        let mut works = self.works.lock();
        if works.get(&number).is_some_and(|waiting| waiting.incarnation == incarnation) {
            works.remove(&number);
        }
    }

    /// Nobody works here any more.
    pub fn clear(&self) {
        self.works.lock().clear();
    }

    /// Takes a message; the incarnation that has it then, 0 when nobody works by these definitions. `None`: too much waits.
    pub fn put(&self, number: u64, ship: SegmentShip) -> Option<u64> {
        let mut works = self.works.lock();
        let Some(waiting) = works.get_mut(&number) else { return Some(0) };
        if waiting.ships.len() >= WAITING_MAX {
            return None;
        }
        waiting.ships.push_back(ship);
        let incarnation = waiting.incarnation;
        drop(works);
        self.come.notify_one();
        Some(incarnation)
    }

    /// What has come and is of stamps up to one; what of a shard is behind something later waits with it.
    fn take(&self, number: u64, limit: Stamp) -> VecDeque<SegmentShip> {
        let mut works = self.works.lock();
        let Some(waiting) = works.get_mut(&number) else { return VecDeque::new() };
        let mut later = BTreeSet::new();
        let all = std::mem::take(&mut waiting.ships);
        let (now, kept) = all.into_iter().partition(|ship: &SegmentShip| {
            if ship.facets.iter().any(|facet| facet.stamp > limit.0) {
                later.insert(ship.from_shard);
            }
            !later.contains(&ship.from_shard)
        });
        waiting.ships = kept;
        now
    }
}

/// What goes to one shard.
#[derive(Debug)]
struct Lane {
    /// Who has what was told.
    incarnation: u64,
    /// Whether all was told once.
    greeted: bool,
    /// Home and facet, and what changed it last.
    open: BTreeMap<(FacetId, FacetId), Cause>,
    again: Instant,
}

/// What an evaluator tells other shards, and what it has been told.
#[derive(Debug)]
pub struct Exchange {
    shard: u64,
    number: u64,
    incarnation: u64,
    router: Router,
    inbox: Arc<Inbox>,
    lanes: BTreeMap<u64, Lane>,
    /// Who has told all, by shard.
    complete: BTreeMap<u64, u64>,
}

impl Exchange {
    /// Of an evaluator that begins to work by definitions: `number` is their version, or names a preview.
    pub fn begin(shard: u64, number: u64, incarnation: u64, router: Router, inbox: Arc<Inbox>) -> Self {
        inbox.begin(number, incarnation);
        let now = Instant::now();
        let others = router.segment_shards().into_iter().filter(|other| *other != shard);
        let lane = Lane { incarnation: 0, greeted: false, open: BTreeMap::new(), again: now };
        let lanes = others.map(|other| (other, Lane { open: BTreeMap::new(), ..lane }));
        let lanes = lanes.collect();
        Self { shard, number, incarnation, router, inbox, lanes, complete: BTreeMap::new() }
    }

    /// Whether there is any other shard.
    pub fn is_alone(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether there are other shards by now than those that it was begun with.
    pub fn is_stale(&self) -> bool {
        let others = self.router.segment_shards().into_iter().filter(|other| *other != self.shard);
        !others.eq(self.lanes.keys().copied())
    }

    /// Whether all others have told all they have.
    pub fn is_ready(&self) -> bool {
        self.lanes.keys().all(|shard| self.complete.contains_key(shard))
    }

    /// Whether all others have been told all there is.
    pub fn is_done(&self) -> bool {
        self.lanes.values().all(|lane| lane.greeted && lane.open.is_empty())
    }

    /// The number of the definitions.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether all other shards have larger ids.
    pub fn is_first(&self) -> bool {
        self.lanes.keys().all(|other| *other > self.shard)
    }

    /// When a message that was not taken is tried again.
    pub fn again(&self) -> Option<Instant> {
        let open = self.lanes.values().filter(|lane| !lane.greeted || !lane.open.is_empty());
        open.map(|lane| lane.again).min()
    }

    /// Takes up what others have told of stamps up to one: what an evaluator knows that is further on waits.
    pub fn take(&mut self, engine: &mut Engine, limit: Stamp) {
        for ship in self.inbox.take(self.number, limit) {
            let from = (ship.from_shard, ship.from_incarnation);
            for told in &ship.facets {
                let (Some(facet), Some(home)) =
                    (FacetId::from_slice(&told.facet), FacetId::from_slice(&told.home))
                else {
                    continue;
                };
                let state = match told.present.then(|| FacetState::from_bytes(&told.state)) {
                    None => None,
                    Some(Ok(state)) => Some(state),
                    Some(Err(error)) => {
                        tracing::error!(shard = self.shard, from = from.0, %error, "a facet's state can't be read");
                        continue;
                    }
                };
                let place = Place { stamp: Stamp(told.cause_stamp), number: told.cause_number };
                let cause = (place, u16::try_from(told.cause_slot).unwrap_or_default());
                engine.told(from, (facet, home), Stamp(told.stamp), state, cause);
            }
            let known = self.complete.get(&ship.from_shard).copied();
            if ship.complete && known != Some(ship.from_incarnation) {
                engine.forget_told(from);
                self.complete.insert(ship.from_shard, ship.from_incarnation);
            }
            // Somebody new knows nothing of what was told to the one before.
            if let Some(lane) = self.lanes.get_mut(&ship.from_shard)
                && lane.incarnation != ship.from_incarnation
            {
                (lane.incarnation, lane.greeted) = (ship.from_incarnation, false);
                lane.open = owed(engine, &self.router, ship.from_shard);
            }
        }
    }

    /// Tells others what has changed, a message to each; whether all is told.
    pub async fn tell(&mut self, engine: &mut Engine) -> bool {
        for (key, cause) in engine.take_abroad() {
            let owner = self.router.segment_owner(key.0.slot());
            if let Some(lane) = owner.and_then(|owner| self.lanes.get_mut(&owner)) {
                lane.open.insert(key, cause);
            }
        }
        let now = Instant::now();
        let due = self
            .lanes
            .iter()
            .filter(|(_, lane)| (!lane.greeted || !lane.open.is_empty()) && lane.again <= now);
        let messages: Vec<_> = due
            .map(|(shard, lane)| {
                let (facets, keys) = message(engine, lane);
                let complete = keys.len() == lane.open.len();
                let ship = SegmentShip {
                    from_shard: self.shard,
                    from_incarnation: self.incarnation,
                    facets,
                    complete,
                };
                (*shard, keys, ship)
            })
            .collect();
        let sent = messages.into_iter().map(|(shard, keys, ship)| {
            let (router, version, complete) = (self.router.clone(), self.number, ship.complete);
            async move {
                let told = router.ship_segments(shard, version, ship, now + TIMEOUT).await;
                (shard, keys, complete, told)
            }
        });
        for (shard, keys, complete, told) in join_all(sent).await {
            let Some(lane) = self.lanes.get_mut(&shard) else { continue };
            match told {
                Ok(incarnation) if incarnation > 0 && incarnation == lane.incarnation => {
                    keys.iter().for_each(|key| _ = lane.open.remove(key));
                    lane.greeted |= complete;
                }
                Ok(incarnation) if incarnation > 0 => {
                    (lane.incarnation, lane.greeted) = (incarnation, false);
                    lane.open = owed(engine, &self.router, shard);
                }
                Ok(_) => lane.again = Instant::now() + AGAIN,
                Err(error) => {
                    tracing::debug!(from = self.shard, shard, %error, "states of facets are not taken");
                    lane.again = Instant::now() + AGAIN;
                }
            }
        }
        self.is_done()
    }
}

/// All that a shard has to know.
fn owed(engine: &Engine, router: &Router, shard: u64) -> BTreeMap<(FacetId, FacetId), Cause> {
    let all = engine.abroad().filter(|(home, _)| router.segment_owner(home.slot()) == Some(shard));
    all.map(|key| (key, Cause::default())).collect()
}

/// The first of what is open.
fn message(engine: &Engine, lane: &Lane) -> (Vec<SegmentFacet>, Vec<(FacetId, FacetId)>) {
    let (mut facets, mut keys, mut bytes) = (Vec::new(), Vec::new(), 0);
    for ((home, facet), (place, slot)) in &lane.open {
        if facets.len() >= FACETS_MAX || bytes >= BYTES_MAX {
            break;
        }
        let state = engine.state_at(facet, home).map(FacetState::to_bytes);
        bytes += state.as_ref().map_or(0, Vec::len) + 64;
        facets.push(SegmentFacet {
            facet: Bytes::copy_from_slice(facet.as_bytes()),
            home: Bytes::copy_from_slice(home.as_bytes()),
            present: state.is_some(),
            stamp: engine.at().0,
            state: state.unwrap_or_default().into(),
            cause_stamp: place.stamp.0,
            cause_number: place.number,
            cause_slot: (*slot).into(),
        });
        keys.push((*home, *facet));
    }
    (facets, keys)
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // What is begun anew by the same definitions has registered itself in its place.
        self.inbox.end(self.number, self.incarnation);
    }
}
