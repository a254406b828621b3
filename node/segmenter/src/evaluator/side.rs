//! What is worked out by one document of definitions: an engine, how far it follows its shard, and what it tells others.

use std::{collections::VecDeque, sync::Arc};

use isthmus_domain::{EventRecord, FacetId, RecordView, Stamp};
use isthmus_proto::internal::v1::{FeedChange, feed_change::Body};
use isthmus_segment::Plan;
use isthmus_shard::{
    ShardHandle,
    feed::Place,
    read::FeedPart,
    segments::{Key, Row, Through},
};
use tokio::time::Instant;

use super::Failure;
use crate::{
    Engine,
    engine::{Missing, PROFILES_MAX},
    exchange::Exchange,
    gather::{blocking, damaged},
};

/// Parts of the feed that are taken up at once: about as many changes as a command may bring.
const PARTS_MAX: usize = 8;
/// Changes up to which a shard that was read to its end a moment ago is likely to have few more.
const NEAR_MAX: usize = 500;

/// An engine at work.
pub(super) struct Side {
    /// Taken while something else works with it.
    engine: Option<Box<Engine>>,
    /// The place in the feed behind which it is read on.
    after: Place,
    /// What was read and not taken up.
    read: VecDeque<FeedChange>,
    /// All changes up to this stamp were read.
    whole: Stamp,
    /// Few changes are likely to have come since it was where its shard is.
    is_near: bool,
    /// What others have to know, and have told.
    pub(super) exchange: Exchange,
}

impl Side {
    /// Of an engine that was made, which goes on from where it is.
    pub(super) fn new(engine: Box<Engine>, exchange: Exchange) -> Self {
        let whole = engine.at();
        let (after, read) = (Place::end_of(whole), VecDeque::new());
        Self { engine: Some(engine), after, read, whole, is_near: false, exchange }
    }

    /// The engine.
    pub(super) fn engine(&mut self) -> Result<&mut Engine, Failure> {
        self.engine.as_deref_mut().ok_or(Failure::NotLeading)
    }

    /// An engine for another plan, made of what this one knows; `None`: it knows nothing that could be begun with.
    pub(super) async fn successor(
        &mut self,
        plan: Arc<Plan>,
        number: u64,
    ) -> Result<Option<(Box<Engine>, Missing)>, Failure> {
        let engine = self.engine.take().ok_or(Failure::NotLeading)?;
        let (engine, made) = blocking(move || {
            let made = engine.successor(&plan, number).map(|(made, missing)| (Box::new(made), missing));
            Ok((engine, made))
        })
        .await?;
        self.engine = Some(engine);
        Ok(made)
    }

    /// Says what the log keeps.
    pub(super) async fn reconcile(
        &mut self,
        through: Through,
        stored: Vec<(Key, Row)>,
    ) -> Result<(), Failure> {
        let mut engine = self.engine.take().ok_or(Failure::NotLeading)?;
        let done = blocking(move || {
            engine.reconcile(through, stored);
            Ok(engine)
        });
        self.engine = Some(done.await?);
        Ok(())
    }

    /// Takes the place of another one, which is where this one is.
    pub(super) async fn succeed(&mut self, mut before: Self) -> Result<(), Failure> {
        let engines = self.engine.take().zip(before.engine.take());
        let (mut engine, before) = engines.ok_or(Failure::NotLeading)?;
        let done = blocking(move || {
            drop(engine.succeed(*before));
            Ok(engine)
        });
        self.engine = Some(done.await?);
        Ok(())
    }

    /// The stamp that it is at.
    pub(super) fn at(&self) -> Option<Stamp> {
        self.engine.as_deref().map(Engine::at)
    }

    /// All changes up to this stamp were read.
    pub(super) fn whole(&self) -> Stamp {
        self.whole
    }

    /// Takes up what other shards have told, of stamps up to one.
    pub(super) fn hear(&mut self, limit: Stamp) {
        if let Some(engine) = self.engine.as_deref_mut() {
            self.exchange.take(engine, limit);
        }
    }

    /// Tells other shards what has changed; `false` while there is more that can be told at once.
    pub(super) async fn tell(&mut self) -> Result<bool, Failure> {
        let engine = self.engine.as_deref_mut().ok_or(Failure::NotLeading)?;
        Ok(self.exchange.tell(engine).await
            || self.exchange.again().is_some_and(|again| again > Instant::now()))
    }

    /// Takes up what the shard has made of itself, up to a stamp; whether all that there is by then is in.
    pub(super) async fn advance(
        &mut self,
        handle: &ShardHandle,
        currency: &str,
        to: Stamp,
    ) -> Result<bool, Failure> {
        let now = handle.stamp().min(to);
        let engine = self.engine()?;
        if engine.plan().definitions().is_empty() {
            // Nobody asks for anything: what happens needs no look.
            engine.reach(now, PROFILES_MAX);
            let at = engine.at();
            (self.after, self.read, self.whole) = (Place::end_of(at), VecDeque::new(), at);
            return Ok(true);
        }
        let due = engine.next_wake().is_some_and(|due| due <= engine.at().as_micros());
        if engine.at() >= now && self.whole >= now && !due {
            return Ok(true);
        }
        let mut engine = self.engine.take().ok_or(Failure::NotLeading)?;
        let mut reading =
            Reading { after: self.after, read: std::mem::take(&mut self.read), whole: self.whole };
        let (taken, done);
        if self.is_near {
            // A little, out of memory: that takes less than to have another thread do it.
            match go_on(&mut engine, &mut reading, (handle, to), currency, 1) {
                Ok(went) => (taken, done) = went,
                Err(failure) => {
                    self.engine = Some(engine);
                    return Err(failure);
                }
            }
        } else {
            let (handle, currency) = (handle.clone(), currency.to_owned());
            (engine, reading, taken, done) = blocking(move || {
                let (taken, done) = go_on(&mut engine, &mut reading, (&handle, to), &currency, PARTS_MAX)?;
                Ok((engine, reading, taken, done))
            })
            .await?;
        }
        self.is_near = done && taken <= NEAR_MAX;
        self.engine = Some(engine);
        Reading { after: self.after, read: self.read, whole: self.whole } = reading;
        Ok(done)
    }
}

/// Reads so many parts of the feed and takes them up; how many changes that were, and whether all that there is by then is in.
fn go_on(
    engine: &mut Engine,
    reading: &mut Reading,
    (handle, to): (&ShardHandle, Stamp),
    currency: &str,
    parts: usize,
) -> Result<(usize, bool), Failure> {
    let (mut taken, mut done) = (0, false);
    for _ in 0..parts {
        reading.on(handle, to)?;
        let upto = reading.whole.min(to);
        let many = reading.read.iter().take_while(|change| change.stamp <= upto.0).count();
        for change in reading.read.drain(..many) {
            take(engine, &change, currency)?;
        }
        taken += many;
        done = engine.reach(upto, PROFILES_MAX);
        if !done || reading.whole >= handle.stamp().min(to) {
            break;
        }
    }
    Ok((taken, done && reading.whole >= handle.stamp().min(to)))
}

impl Drop for Side {
    fn drop(&mut self) {
        // All that is known of a shard takes a while to be given back: where nobody waits for it.
        if let (Some(engine), Ok(runtime)) = (self.engine.take(), tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn_blocking(move || drop(engine)));
        }
    }
}

/// How far the feed was read, while that goes on.
struct Reading {
    after: Place,
    read: VecDeque<FeedChange>,
    whole: Stamp,
}

impl Reading {
    /// Reads a part, if there is anything to be read.
    fn on(&mut self, handle: &ShardHandle, to: Stamp) -> Result<(), Failure> {
        if self.whole >= handle.stamp() || self.whole >= to || self.read.len() >= PROFILES_MAX {
            return Ok(());
        }
        match handle.segments_feed_part(self.after)? {
            FeedPart::Changes { changes, through, .. } => {
                self.read.extend(changes);
                self.after = through;
                // Of a command that was read in part there is more to come.
                self.whole = match through == Place::end_of(through.stamp) {
                    true => through.stamp,
                    false => Stamp(through.stamp.0.saturating_sub(1)).max(self.whole),
                };
                Ok(())
            }
            other => Err(Failure::feed(&other)),
        }
    }
}

/// Takes a change of the feed up.
fn take(engine: &mut Engine, change: &FeedChange, currency: &str) -> Result<(), Failure> {
    let facet = FacetId::from_slice(&change.facet).ok_or(Failure::Feed("a facet's id is not 16 bytes"))?;
    let place = Place { stamp: Stamp(change.stamp), number: change.number };
    let cause = (place, facet.slot().number());
    match &change.body {
        Some(Body::Event(event)) => {
            // As it was taken in, but for what was written out meanwhile.
            if let Ok(mut view) = RecordView::read(event) {
                view.dedup_key = isthmus_shard::keys::in_slot(view.dedup_key, facet.slot());
                engine.event(facet, &view, cause);
                return Ok(());
            }
            let record = <EventRecord as prost::Message>::decode(event.clone());
            let record = record.map_err(|error| Failure::Damaged(error.to_string()))?;
            let key = <[u8; 16]>::try_from(&record.dedup_key[..])
                .map_err(|_| Failure::Damaged("its key is not 16 bytes".to_owned()))?;
            let key = isthmus_shard::keys::in_slot(key, facet.slot());
            let record = record.restored(key, currency).map_err(damaged)?.to_bytes();
            engine.event(facet, &RecordView::read(&record).map_err(damaged)?, cause);
        }
        Some(Body::Home(home)) => {
            let home = FacetId::from_slice(home).ok_or(Failure::Feed("a home is not 16 bytes"))?;
            engine.moves(facet, home, cause);
        }
        _ => {}
    }
    Ok(())
}
