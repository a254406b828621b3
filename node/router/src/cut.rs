//! One cut over all shards: every shard at the same stamp, for queries over all of them.
//!
//! All shards are pinned, each after its read barrier. The cut's stamp is the largest that one of them had; each is then
//! brought there and makes its snapshot. A message between shards is stamped above its cause, so whoever sees an effect
//! in the cut sees the cause as well; and each slot is in the cut once, which is checked against what the shards say that
//! they owned at that stamp. When slots have moved meanwhile, or a replica has gone, all is done again.
//!
//! Where segments are wanted, too, their evaluators are held at the cut's stamp (`segments`), and hand out what they have for the
//! cut's pins; these are of leaders then, whatever level was asked for.
//!
//! A cut that is dropped lets its pins go, in the background; what is lost on the way ends with the lease.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use isthmus_domain::slot::SLOT_COUNT;
use isthmus_domain::{SlotRanges, Stamp};
use isthmus_proto::internal::v1::{
    AdvanceCall, CallErrorCode, FixCall, FixReply, PinCall, PinReply, SegmentFreezeAsk, UnpinCall,
    segment_call::Ask, shard_call, shard_reply,
};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, call_error};
use crate::pages::owned;
use crate::read::ReadLevel;
use crate::router::Router;
use crate::segments::{By, SegmentsWanted};
use crate::topology::node_of;

/// How long a replica that is asked for its snapshot is waited for.
const FIX_TIMEOUT: Duration = Duration::from_secs(5);
/// The same of one that is to let a pin go.
const UNPIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A shard's part of a cut.
#[derive(Clone, Debug, PartialEq)]
pub struct CutShard {
    /// The shard.
    pub shard: u64,
    /// The node whose replica holds the snapshot.
    pub node: u32,
    /// The number that it is held under: see [`LocalShards::snapshot`](crate::LocalShards::snapshot).
    pub pin: u64,
    /// The slots that the shard owned at the cut.
    pub owned: SlotRanges,
    /// How many events it has, about.
    pub events: u64,
    /// How many facets it has, about.
    pub facets: u64,
    /// Names the state of its identifiers: as long as it is the same, so are homes and first events. 0: not known.
    pub identities: u64,
}

/// All shards at one stamp. Its snapshots are let go when it is dropped.
#[derive(Debug)]
pub struct Cut {
    /// The stamp.
    pub at: Stamp,
    /// The shards: together they hold each slot once.
    pub shards: Vec<CutShard>,
    /// The version of the definitions that segments are of, if those were wanted.
    pub definitions: Option<u64>,
    /// What is to be let go.
    _held: Held,
}

/// A pin of a shard's replica.
#[derive(Clone, Copy, Debug)]
struct PinOf {
    shard: u64,
    peer: u64,
    pin: u64,
    stamp: Stamp,
    leads: bool,
}

/// Pins that are let go in the end.
struct Held {
    router: Router,
    runtime: Handle,
    pins: Vec<PinOf>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.pins).finish()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (router, pins) = (self.router.clone(), std::mem::take(&mut self.pins));
        if pins.is_empty() {
            return;
        }
        // Whoever drops it may be no task of this runtime.
        self.router.tracker().spawn_on(async move { router.unpin_all(&pins).await }, &self.runtime);
    }
}

/// What became of an attempt.
enum Tried {
    Cut(Cut),
    /// Slots have moved, or a replica has gone: to be tried again.
    Again(Error),
}

impl Router {
    /// Opens a cut over all shards: at their leaders, or where the level allows it at whatever replica is near. Its
    /// snapshots stay for as long as the lease says, and with them who is in the segments that are wanted.
    ///
    /// # Errors
    /// When some shard has no snapshot by the deadline, or has too many.
    pub async fn open_cut(
        &self,
        level: ReadLevel,
        segments: Option<&SegmentsWanted>,
        lease: Duration,
        deadline: Instant,
    ) -> Result<Cut, Error> {
        let mut attempt = 0;
        loop {
            let revision = self.routes().revision;
            let why = match self.try_cut(level, segments, lease, deadline).await? {
                Tried::Cut(cut) => return Ok(cut),
                Tried::Again(why) => why,
            };
            tracing::debug!(%why, "a cut is tried again");
            match self.await_newer(revision, attempt, deadline).await {
                Ok(()) => attempt += 1,
                Err(Error::Stopping) => return Err(Error::Stopping),
                Err(_) => return Err(why),
            }
        }
    }

    async fn try_cut(
        &self,
        asked: ReadLevel,
        segments: Option<&SegmentsWanted>,
        lease: Duration,
        deadline: Instant,
    ) -> Result<Tried, Error> {
        // Segments are worked out beside leaders.
        let level = if segments.is_some() { ReadLevel::Linearizable } else { asked };
        let stale = || Error::StaleShardMap { version: self.routes().map_version() };
        let shards = self.shards();
        let pinned = join_all(shards.iter().map(|shard| self.pin_one(*shard, level, lease, deadline))).await;
        let mut held = Held { router: self.clone(), runtime: Handle::current(), pins: Vec::new() };
        let mut failed = None;
        for pin in pinned {
            match pin {
                Ok(pin) => held.pins.push(pin),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(Error::NoShard { .. }) => return Ok(Tried::Again(stale())),
            Some(error) => return Err(error),
            None => {}
        }
        let at = held.pins.iter().map(|pin| pin.stamp).max().unwrap_or_default();
        let hold = match (segments, asked) {
            (None, _) => None,
            (Some(_), asked) => {
                let at = if let ReadLevel::AtLeast(stamp) = asked { at.max(stamp) } else { at };
                match self.hold_segments(By::InForce, &mut 0, at, deadline).await? {
                    Some(hold) => Some(hold),
                    None => return Ok(Tried::Again(stale())),
                }
            }
        };
        let at = hold.as_ref().map_or(at, |hold| hold.at);
        let fixed = join_all(held.pins.iter().map(|pin| self.fix_one(*pin, at, deadline))).await;
        let (mut whole, mut shards) = (SlotRanges::new(), Vec::new());
        for shard in fixed {
            match shard {
                Ok(shard) if !whole.intersects(&shard.owned) => {
                    whole.union(&shard.owned);
                    shards.push(shard);
                }
                Ok(_) => return Ok(Tried::Again(stale())),
                Err(error) => return Ok(Tried::Again(error)),
            }
        }
        if whole.len() != SLOT_COUNT {
            return Ok(Tried::Again(stale()));
        }
        let definitions = match (hold, segments) {
            (Some(hold), Some(wanted)) => {
                let lease_ms = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
                let freeze = |shard: u64| {
                    let pin = held.pins.iter().find(|pin| pin.shard == shard).map_or(0, |pin| pin.pin);
                    let segments = wanted.names.clone().unwrap_or_default();
                    let (all, since) = (wanted.names.is_none(), wanted.since);
                    Ask::Freeze(SegmentFreezeAsk { pin, segments, all, since, lease_ms })
                };
                match hold.ask(freeze, deadline).await? {
                    Some(answers) => Some(answers.version),
                    None => return Ok(Tried::Again(stale())),
                }
            }
            _ => None,
        };
        Ok(Tried::Cut(Cut { at, shards, definitions, _held: held }))
    }

    async fn pin_one(
        &self,
        shard: u64,
        level: ReadLevel,
        lease: Duration,
        deadline: Instant,
    ) -> Result<PinOf, Error> {
        let lease_ms = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
        let body = shard_call::Body::Pin(PinCall { level: level.to_wire(), lease_ms });
        match self.reach(shard, &mut self.pursuit(level.want()), &body, deadline).await? {
            shard_reply::Body::Pin(PinReply { pin, stamp, peer, leads }) => {
                Ok(PinOf { shard, peer, pin, stamp: Stamp(stamp), leads })
            }
            _ => Err(Error::BadReply { shard, what: "not a pin" }),
        }
    }

    /// Has a pinned replica make its snapshot. A leader brings its shard to the stamp; for another replica, the leader is
    /// asked to.
    async fn fix_one(&self, pin: PinOf, at: Stamp, deadline: Instant) -> Result<CutShard, Error> {
        let PinOf { shard, peer, pin: number, stamp, leads } = pin;
        if !leads && stamp < at {
            let body = shard_call::Body::Advance(AdvanceCall { stamp: at.0 });
            let give_up = deadline.min(Instant::now() + FIX_TIMEOUT);
            match self.reach(shard, &mut self.pursuit(crate::pursuit::Want::Leader), &body, give_up).await? {
                shard_reply::Body::Done(_) => {}
                _ => return Err(Error::BadReply { shard, what: "not that a shard was advanced" }),
            }
        }
        let body = shard_call::Body::Fix(FixCall { pin: number, stamp: at.0 });
        let give_up = deadline.min(Instant::now() + FIX_TIMEOUT);
        match self.ask_in_time(shard, peer, body, give_up).await {
            Ok(shard_reply::Body::Fix(reply)) => {
                let FixReply { owned_bounds, events, facets, identities } = reply;
                let owned = owned(shard, &owned_bounds)?;
                Ok(CutShard { shard, node: node_of(peer), pin: number, owned, events, facets, identities })
            }
            Ok(_) => Err(Error::BadReply { shard, what: "not a snapshot" }),
            Err(error) => Err(error),
        }
    }

    async fn ask_in_time(
        &self,
        shard: u64,
        peer: u64,
        body: shard_call::Body,
        give_up: Instant,
    ) -> Result<shard_reply::Body, Error> {
        let routes: Arc<_> = self.routes();
        let reply = match timeout_at(give_up, self.ask(&routes, shard, peer, body, give_up)).await {
            Ok(reply) => reply,
            Err(_) => Err(call_error(CallErrorCode::Unavailable, "not answered in time")),
        };
        reply.map_err(|error| Error::from_call(shard, &error))
    }

    /// Lets pins go, as far as their replicas can be reached.
    async fn unpin_all(&self, pins: &[PinOf]) {
        let give_up = Instant::now() + UNPIN_TIMEOUT;
        let unpins = pins.iter().map(|pin| {
            let body = shard_call::Body::Unpin(UnpinCall { pin: pin.pin });
            self.ask_in_time(pin.shard, pin.peer, body, give_up)
        });
        for (pin, unpinned) in pins.iter().zip(join_all(unpins).await) {
            if let Err(error) = unpinned {
                tracing::debug!(shard = pin.shard, %error, "a pin waits for its lease's end");
            }
        }
    }
}
