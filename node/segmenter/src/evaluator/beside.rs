//! What is worked out beside the engine that answers: newer definitions, and those of previews.
//!
//! Newer definitions take the place of those in force when they are ready in every shard, at a stamp that whoever holds all
//! shards chooses above each one's (`isthmus_router`'s segments): until then the old ones answer, from there on the new ones.
//! Leaders see to it that somebody does, that of the first shard before the others. A shard alone does it by itself.

use std::{sync::Arc, time::Duration};

use isthmus_domain::Stamp;
use isthmus_segment::Plan;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Failure, Work, side::Side};
use crate::{
    Definitions, Engine,
    exchange::Exchange,
    gather::{complete, gather},
};

/// Previews that a shard works out at a time.
pub(super) const PREVIEWS_MAX: usize = 4;
/// The longest that a preview is kept.
const PREVIEW_LEASE_MAX: Duration = Duration::from_secs(600);
/// Numbers from here on are those of previews, not versions.
pub(super) const PREVIEWS_FROM: u64 = 1 << 63;
/// How long a change to newer definitions may take, once all are ready.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a change is waited for before somebody is asked to bring it about.
const SETTLE_AGAIN: Duration = Duration::from_millis(25);
/// What may wait for the log when newer definitions take over: it fits into a command.
const PENDING_MAX: usize = 500;

/// What is worked out beside.
pub(super) struct Beside {
    made: Made,
    /// Until when it is kept; `None`: until it takes over.
    pub(super) until: Option<Instant>,
}

enum Made {
    /// Waits for its turn on this node.
    Waiting(Arc<Plan>, AbortOnDropHandle<Result<OwnedSemaphorePermit, AcquireError>>),
    /// Being made.
    Making(AbortOnDropHandle<Result<Box<Engine>, Failure>>),
    /// At work, and whether it has been where its shard is.
    Side(Box<Side>, bool),
}

impl Beside {
    /// The side, once it is at work.
    pub(super) fn side(&mut self) -> Option<&mut Side> {
        match &mut self.made {
            Made::Waiting(..) | Made::Making(_) => None,
            Made::Side(side, _) => Some(side),
        }
    }

    /// Whether it can answer: it has been where its shard is, and all others have told it what they know.
    pub(super) fn is_ready(&self) -> bool {
        matches!(&self.made, Made::Side(side, true) if side.exchange.is_ready())
    }
}

impl Work<'_> {
    /// Begins to work a plan out beside.
    pub(super) fn begin_beside(&mut self, number: u64, plan: Arc<Plan>, lease: Option<Duration>) {
        let room = self.segments.tracker.spawn(self.segments.making.clone().acquire_owned());
        let made = Made::Waiting(plan, AbortOnDropHandle::new(room));
        let until = lease.map(|lease| Instant::now() + lease.min(PREVIEW_LEASE_MAX));
        self.beside.insert(number, Beside { made, until });
    }

    /// Begins to make those whose turn has come: of the engine that answers, as far as that knows what they ask.
    async fn make_beside(&mut self) -> Result<(), Failure> {
        for (number, beside) in &mut self.beside {
            let Made::Waiting(plan, room) = &mut beside.made else { continue };
            if !room.is_finished() {
                continue;
            }
            let Ok(Ok(room)) = room.await else { continue };
            let (plan, number, at) = (plan.clone(), *number, self.now.engine()?.at());
            let successor = self.now.successor(plan.clone(), number).await?;
            let (handle, currency) = (self.handle.clone(), self.segments.currency.clone());
            let making = self.segments.tracker.spawn(async move {
                let _room = room;
                match successor {
                    Some((engine, missing)) => complete(&handle, engine, missing, &currency).await,
                    None => gather(&handle, plan, number, at, &currency).await,
                }
            });
            beside.made = Made::Making(AbortOnDropHandle::new(making));
        }
        Ok(())
    }

    /// Sees to it that newer definitions are worked out, and that previews end.
    pub(super) async fn look_beside(&mut self, definitions: &Definitions) -> Result<(), Failure> {
        let now = Instant::now();
        self.beside.retain(|_, beside| beside.until.is_none_or(|until| until > now));
        let version = self.now.engine()?.version();
        // While somebody holds this shard, what is offered stays as it is.
        if let Some(newer) = definitions.get().filter(|newer| newer.version > version)
            && !self.beside.contains_key(&newer.version)
            && self.holds.limit().is_none()
        {
            if self.kept.is_some() {
                // Others may work by these alone, and never tell what they know by those before.
                return Err(Failure::Newer);
            }
            self.beside.retain(|number, _| *number >= PREVIEWS_FROM);
            self.begin_beside(newer.version, newer.plan.clone(), None);
        }
        self.make_beside().await?;
        let made: Vec<u64> = self
            .beside
            .iter()
            .filter(|(_, beside)| matches!(&beside.made, Made::Making(making) if making.is_finished()))
            .map(|(number, _)| *number)
            .collect();
        for number in made {
            let Some(beside) = self.beside.get_mut(&number) else { continue };
            let Made::Making(making) = &mut beside.made else { continue };
            let engine = match making.await {
                Ok(Ok(engine)) => engine,
                Ok(Err(failure)) if number < PREVIEWS_FROM => return Err(failure),
                failed => {
                    let failure = failed.err().map(|error| error.to_string());
                    tracing::debug!(shard = self.handle.shard(), ?failure, "a preview can't be made");
                    self.beside.remove(&number);
                    continue;
                }
            };
            let router = self.segments.router.clone();
            let shard = self.handle.shard();
            let exchange = Exchange::begin(shard, number, self.incarnation, router, self.inbox.clone());
            beside.made = Made::Side(Box::new(Side::new(engine, exchange)), false);
        }
        Ok(())
    }

    /// Lets all that is worked out beside follow; whether it is where it may be.
    pub(super) async fn follow_beside(&mut self, limit: Stamp) -> Result<bool, Failure> {
        let mut reached = true;
        for beside in self.beside.values_mut() {
            let Made::Side(side, has_caught_up) = &mut beside.made else { continue };
            side.hear(limit);
            let is_there = side.advance(self.handle, &self.segments.currency, limit).await?;
            *has_caught_up |= is_there;
            reached &= is_there;
            reached &= side.tell().await?;
        }
        Ok(reached)
    }

    /// The version of newer definitions that can take over.
    pub(super) fn ready_version(&mut self) -> Result<u64, Failure> {
        let has_room = self.now.engine()?.pending() <= PENDING_MAX;
        let next = self.beside.iter().find(|(number, _)| **number < PREVIEWS_FROM);
        Ok(next.filter(|(_, beside)| has_room && beside.is_ready()).map_or(0, |(number, _)| *number))
    }

    /// Newer definitions take over, where these are: at one stamp.
    pub(super) async fn take_over(&mut self, version: u64) -> Result<bool, Failure> {
        self.put_all().await?;
        let at = self.now.engine()?.at();
        let is_there = match self.beside.get_mut(&version).and_then(Beside::side) {
            Some(side) => side.engine()?.at() == at,
            None => false,
        };
        if !is_there || self.kept.is_some() {
            return Ok(false);
        }
        let Some(Beside { made: Made::Side(side, _), .. }) = self.beside.remove(&version) else {
            return Ok(false);
        };
        let before = std::mem::replace(&mut self.now, *side);
        self.now.succeed(before).await?;
        tracing::debug!(shard = self.handle.shard(), version, %at, "newer definitions of segments answer");
        Ok(true)
    }

    /// Where newer definitions are ready, and nobody asks: has them take over.
    pub(super) async fn settle_beside(&mut self) -> Result<(), Failure> {
        let version = self.ready_version()?;
        if version == 0 || self.holds.limit().is_some() {
            return Ok(());
        }
        if self.now.exchange.is_alone() {
            // What this one has found goes into the log with what brought it about.
            let at = self.now.engine()?.at();
            if self.proposing.is_none()
                && !self.now.engine()?.has_pending()
                && let Some(side) = self.beside.get_mut(&version).and_then(Beside::side)
            {
                while side.engine()?.at() < at
                    && !side.advance(self.handle, &self.segments.currency, at).await?
                {}
                self.take_over(version).await?;
            }
            return Ok(());
        }
        if self.settling.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let router = self.segments.router.clone();
            // One is enough; but the first shard may have begun by the newer ones, and not know that others haven't.
            let wait = if self.now.exchange.is_first() { SETTLE_AGAIN } else { SETTLE_AGAIN * 10 };
            let settling = self.segments.tracker.spawn(async move {
                tokio::time::sleep(wait).await;
                if let Err(error) = router.settle_segments(Instant::now() + SETTLE_TIMEOUT).await {
                    tracing::debug!(%error, "newer definitions of segments don't take over yet");
                }
            });
            self.settling = Some(AbortOnDropHandle::new(settling));
        }
        Ok(())
    }
}
