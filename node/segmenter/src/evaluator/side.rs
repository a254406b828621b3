//! What is worked out by one document of definitions: an engine, how far it follows its shard, and what it tells others.

use std::collections::VecDeque;

use isthmus_domain::{EventRecord, FacetId, RecordView, Stamp};
use isthmus_proto::internal::v1::{FeedChange, feed_change::Body};
use isthmus_shard::{ShardHandle, feed::Place, read::FeedPart};
use tokio::time::Instant;

use super::Failure;
use crate::{
    Engine,
    engine::PROFILES_MAX,
    exchange::Exchange,
    gather::{blocking, damaged},
};

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
    /// What others have to know, and have told.
    pub(super) exchange: Exchange,
}

impl Side {
    /// Of an engine that was made, which goes on from where it is.
    pub(super) fn new(engine: Box<Engine>, exchange: Exchange) -> Self {
        let whole = engine.at();
        let (after, read) = (Place::end_of(whole), VecDeque::new());
        Self { engine: Some(engine), after, read, whole, exchange }
    }

    /// The engine.
    pub(super) fn engine(&mut self) -> Result<&mut Engine, Failure> {
        self.engine.as_deref_mut().ok_or(Failure::NotLeading)
    }

    /// Gives the engine up.
    pub(super) fn into_engine(self) -> Result<Box<Engine>, Failure> {
        self.engine.ok_or(Failure::NotLeading)
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
        if self.whole < handle.stamp() && self.whole < to && self.read.len() < PROFILES_MAX {
            match handle.segments_feed(self.after).await? {
                FeedPart::Changes { changes, through, .. } => {
                    self.read.extend(changes);
                    self.after = through;
                    // Of a command that was read in part there is more to come.
                    self.whole = match through == Place::end_of(through.stamp) {
                        true => through.stamp,
                        false => Stamp(through.stamp.0.saturating_sub(1)).max(self.whole),
                    };
                }
                other => return Err(Failure::feed(&other)),
            }
        }
        let upto = self.whole.min(to);
        let many = self.read.iter().take_while(|change| change.stamp <= upto.0).count();
        let changes: Vec<FeedChange> = self.read.drain(..many).collect();
        let engine = self.engine.take().ok_or(Failure::NotLeading)?;
        let is_new = engine.at() < upto;
        if changes.is_empty() && !is_new && engine.next_wake().is_none_or(|due| due > engine.at().as_micros())
        {
            self.engine = Some(engine);
            return Ok(self.whole >= handle.stamp().min(to));
        }
        let currency = currency.to_owned();
        let (engine, done) = blocking(move || {
            let mut engine = engine;
            for change in &changes {
                take(&mut engine, change, &currency)?;
            }
            let done = engine.reach(upto, PROFILES_MAX);
            Ok((engine, done))
        })
        .await?;
        self.engine = Some(engine);
        Ok(done && self.whole >= handle.stamp().min(to))
    }
}

/// Takes a change of the feed up.
fn take(engine: &mut Engine, change: &FeedChange, currency: &str) -> Result<(), Failure> {
    let facet = FacetId::from_slice(&change.facet).ok_or(Failure::Feed("a facet's id is not 16 bytes"))?;
    let place = Place { stamp: Stamp(change.stamp), number: change.number };
    let cause = (place, facet.slot().number());
    match &change.body {
        Some(Body::Event(event)) => {
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
