//! A shard's engine at work: follows the feed, proposes what it finds, answers.

mod questions;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use isthmus_domain::{EventRecord, FacetId, RecordView, Stamp};
use isthmus_proto::internal::v1::{FeedChange, feed_change::Body};
use isthmus_shard::{
    Error, ShardHandle,
    feed::Place,
    read::FeedPart,
    segments::{Key, Row, Through},
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use crate::{
    Engine, InForce,
    engine::PROFILES_MAX,
    exchange::{Exchange, Inbox},
    gather::{blocking, damaged, gather},
    hosted::{Question, Segments, not_leading},
};

/// How long a command or a barrier may be under way.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before it begins anew after a failure.
const PAUSE: Duration = Duration::from_millis(100);
/// Changes without a transition after which the log is told how far it has come.
const UNSAID_MAX: usize = 50_000;

/// Why an evaluator begins anew.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The shard.
    #[error(transparent)]
    Shard(#[from] Error),
    /// The feed doesn't reach back to where it has to be followed from.
    #[error("the feed can't be followed: {0}")]
    Feed(&'static str),
    /// An event that can't be read.
    #[error("an event is damaged: {0}")]
    Damaged(String),
    /// Another leader has worked segments out, or an earlier proposal of this one was taken.
    #[error("segments were worked out up to elsewhere")]
    Elsewhere,
    /// This node's definitions are older than those that the log was told of.
    #[error("the definitions in force aren't known here yet")]
    Behind,
    /// The replica doesn't lead any more.
    #[error("another replica leads")]
    NotLeading,
}

impl Failure {
    pub(crate) fn feed(part: &FeedPart) -> Self {
        Self::Feed(match part {
            FeedPart::TooOld(_) => "it is not kept so long",
            FeedPart::NotOwned => "the shard has other slots now",
            FeedPart::NotBegun => "it has not begun yet",
            FeedPart::Changes { .. } => "it makes no sense",
        })
    }
}

/// Works for as long as the replica lives; rests while it doesn't lead.
pub(crate) async fn run(
    handle: ShardHandle,
    segments: Segments,
    inbox: Arc<Inbox>,
    mut asked: mpsc::Receiver<Question>,
) {
    let mut begun = 0;
    let mut view = handle.watch();
    let definitions = segments.definitions.clone();
    loop {
        let in_force = definitions.get().unwrap_or_default();
        let mut failed = false;
        match handle.leads() {
            true => {
                begun += 1;
                let work = Work::begin(&handle, &segments, in_force, (&inbox, begun), &mut asked);
                let ended = tokio::select! {
                    biased;
                    () = segments.stop.cancelled() => return,
                    () = handle.stopped() => return,
                    ended = work => ended,
                };
                if asked.is_closed() {
                    return;
                }
                if let Err(failure) = ended {
                    failed = handle.leads();
                    tracing::debug!(shard = handle.shard(), %failure, "segments begin anew");
                }
            }
            false => {
                // Nobody waits for what doesn't come.
                while let Ok(question) = asked.try_recv() {
                    _ = question.reply.send(Err(not_leading(&handle)));
                }
            }
        }
        let rests = !handle.leads();
        tokio::select! {
            biased;
            () = segments.stop.cancelled() => return,
            () = handle.stopped() => return,
            changed = view.changed(), if rests => if changed.is_err() { return },
            question = asked.recv(), if rests => match question {
                None => return,
                Some(question) => _ = question.reply.send(Err(not_leading(&handle))),
            },
            () = tokio::time::sleep(PAUSE), if failed => {}
            () = std::future::ready(()), if !rests && !failed => {}
        }
    }
}

/// An engine that is being made.
type Making = JoinHandle<Result<Box<Engine>, Failure>>;

/// An evaluator under one leadership.
struct Work<'a> {
    handle: &'a ShardHandle,
    segments: &'a Segments,
    asked: &'a mut mpsc::Receiver<Question>,
    /// Taken while something else works with it.
    engine: Option<Box<Engine>>,
    feed: Feed,
    exchange: Exchange,
    /// What the log keeps, until all others have told what they know.
    kept: Option<(Through, HashMap<Key, Row>)>,
    /// The engine of newer definitions.
    next: Option<Making>,
    waiting: VecDeque<Question>,
}

/// A place in the feed, and what was read behind it.
#[derive(Default)]
struct Feed {
    after: Place,
    read: VecDeque<FeedChange>,
    /// All changes up to this stamp were read.
    whole: Stamp,
}

impl<'a> Work<'a> {
    async fn begin(
        handle: &'a ShardHandle,
        segments: &'a Segments,
        in_force: Arc<InForce>,
        (inbox, begun): (&Arc<Inbox>, u64),
        asked: &'a mut mpsc::Receiver<Question>,
    ) -> Result<(), Failure> {
        let now = handle.settle(Instant::now() + TIMEOUT).await?;
        let through = handle.segments_through();
        if in_force.version < through.version {
            return Err(Failure::Behind);
        }
        let floor = handle.feed_floor().ok_or(Failure::Feed("it has not begun yet"))?;
        // Where the leader before was, if what came since is known: then nothing is missing in the feed of segments.
        // With other shards, what they know is of now.
        let incarnation = handle.view().term << 24 | begun & 0x00ff_ffff;
        let router = segments.router.clone();
        let exchange = Exchange::begin(handle.shard(), in_force.version, incarnation, router, inbox.clone());
        let goes_on = exchange.is_alone() && through.version > 0 && through.stamp >= floor;
        let at = if goes_on { through.stamp } else { now };
        let plan = in_force.plan.clone();
        let mut engine = gather(handle, plan, in_force.version, at, &segments.currency).await?;
        let stored = handle.segments_members().await?.into_iter().collect();
        if handle.segments_through() != through {
            return Err(Failure::Elsewhere);
        }
        let mut kept = Some((through, stored));
        if exchange.is_alone()
            && let Some((through, stored)) = kept.take()
        {
            engine.reconcile(through, stored);
        }
        let feed = Feed { after: Place::end_of(at), read: VecDeque::new(), whole: at };
        let mut work = Work {
            handle,
            segments,
            asked,
            engine: Some(engine),
            feed,
            exchange,
            kept,
            next: None,
            waiting: VecDeque::new(),
        };
        work.follow().await
    }

    fn engine(&mut self) -> Result<&mut Engine, Failure> {
        self.engine.as_deref_mut().ok_or(Failure::NotLeading)
    }

    /// Goes on until the leadership ends, or something fails.
    async fn follow(&mut self) -> Result<(), Failure> {
        let mut stamps = self.handle.stamps();
        let mut view = self.handle.watch();
        let mut definitions = self.segments.definitions.clone();
        loop {
            stamps.mark_unchanged();
            if self.exchange.is_alone() {
                self.renew(&definitions).await?;
            } else if definitions.get().is_some_and(|newer| Some(newer.version) > self.version()) {
                // What others have told is of these definitions: all begin anew together.
                return Ok(());
            }
            self.hear();
            let mut reached = self.advance(Stamp(u64::MAX)).await?;
            reached &= self.tell().await?;
            self.answer().await?;
            let proposed = self.propose().await?;
            if !reached || proposed {
                continue;
            }
            if !self.handle.leads() {
                return Err(Failure::NotLeading);
            }
            let due = self.engine()?.next_wake();
            let wait = due.map(|due| {
                Duration::from_micros(
                    due.saturating_sub(self.segments.clock.now_micros()).max(0).cast_unsigned(),
                )
            });
            let making = self.next.is_some();
            let again = self.exchange.again();
            tokio::select! {
                biased;
                question = self.asked.recv() => match question {
                    Some(question) => self.waiting.push_back(question),
                    None => return Ok(()),
                },
                _ = stamps.changed() => {}
                _ = view.changed() => {}
                () = self.exchange.come() => {}
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
                () = definitions.changed() => {}
                () = tokio::time::sleep(wait.unwrap_or_default().min(TIMEOUT)), if wait.is_some() => {
                    self.pass_time().await?;
                }
                () = tokio::time::sleep(PAUSE / 10), if making => {}
            }
        }
    }

    fn version(&self) -> Option<u64> {
        self.engine.as_deref().map(Engine::version)
    }

    /// Takes up what other shards have told.
    fn hear(&mut self) {
        let Some(engine) = self.engine.as_deref_mut() else { return };
        self.exchange.take(engine);
        if self.exchange.is_ready()
            && let Some((through, stored)) = self.kept.take()
        {
            engine.reconcile(through, stored);
        }
    }

    /// Tells other shards what has changed; `false` while there is more that can be told at once.
    async fn tell(&mut self) -> Result<bool, Failure> {
        let engine = self.engine.as_deref_mut().ok_or(Failure::NotLeading)?;
        Ok(self.exchange.tell(engine).await
            || self.exchange.again().is_some_and(|again| again > Instant::now()))
    }

    /// Takes up what the shard has made of itself, up to a stamp; whether all that there is by then is in.
    async fn advance(&mut self, to: Stamp) -> Result<bool, Failure> {
        let now = self.handle.stamp().min(to);
        let engine = self.engine()?;
        if engine.plan().definitions().is_empty() {
            // Nobody asks for anything: what happens needs no look.
            engine.reach(now, PROFILES_MAX);
            let at = engine.at();
            self.feed = Feed { after: Place::end_of(at), read: VecDeque::new(), whole: at };
            return Ok(true);
        }
        if self.feed.whole < self.handle.stamp()
            && self.feed.whole < to
            && self.feed.read.len() < PROFILES_MAX
        {
            match self.handle.segments_feed(self.feed.after).await? {
                FeedPart::Changes { changes, through, .. } => {
                    self.feed.read.extend(changes);
                    self.feed.after = through;
                    // Of a command that was read in part there is more to come.
                    self.feed.whole = match through == Place::end_of(through.stamp) {
                        true => through.stamp,
                        false => Stamp(through.stamp.0.saturating_sub(1)).max(self.feed.whole),
                    };
                }
                other => return Err(Failure::feed(&other)),
            }
        }
        let upto = self.feed.whole.min(to);
        let many = self.feed.read.iter().take_while(|change| change.stamp <= upto.0).count();
        let changes: Vec<FeedChange> = self.feed.read.drain(..many).collect();
        let engine = self.engine.take().ok_or(Failure::NotLeading)?;
        let is_new = engine.at() < upto;
        if changes.is_empty() && !is_new && engine.next_wake().is_none_or(|due| due > engine.at().as_micros())
        {
            self.engine = Some(engine);
            return Ok(self.feed.whole >= self.handle.stamp().min(to));
        }
        let currency = self.segments.currency.clone();
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
        Ok(done && self.feed.whole >= self.handle.stamp().min(to))
    }

    /// Puts what was found into the log; whether there was anything.
    async fn propose(&mut self) -> Result<bool, Failure> {
        if self.kept.is_some() {
            return Ok(false);
        }
        let engine = self.engine()?;
        if !engine.has_news(UNSAID_MAX) {
            return Ok(false);
        }
        let Some(proposed) = engine.propose() else {
            // The last command's own stamp is not in yet.
            return Ok(self.feed.whole < self.handle.stamp());
        };
        let deadline = Instant::now() + TIMEOUT;
        let stamp =
            match self.handle.propose_segments(proposed.command.clone(), Stamp::ZERO, deadline).await? {
                Ok(stamp) => stamp,
                Err(_) => return Err(Failure::Elsewhere),
            };
        self.engine()?.taken(&proposed, stamp);
        Ok(true)
    }

    /// A wake is due and nothing happens: a command whose stamp says what time it is.
    async fn pass_time(&mut self) -> Result<(), Failure> {
        if self.kept.is_some() {
            tokio::time::sleep(PAUSE / 10).await;
            return Ok(());
        }
        let now = self.segments.clock.now_micros();
        let engine = self.engine()?;
        if engine.next_wake().is_none_or(|due| due > now) || self.feed.whole < self.handle.stamp() {
            return Ok(());
        }
        let engine = self.engine()?;
        let Some(proposed) = engine.propose() else { return Ok(()) };
        let deadline = Instant::now() + TIMEOUT;
        match self.handle.propose_segments(proposed.command.clone(), Stamp::ZERO, deadline).await? {
            Ok(stamp) => self.engine()?.taken(&proposed, stamp),
            Err(_) => return Err(Failure::Elsewhere),
        }
        Ok(())
    }

    /// Has an engine made for newer definitions, and lets it take the place of this one.
    async fn renew(&mut self, definitions: &crate::Definitions) -> Result<(), Failure> {
        // What this one has found goes into the log with what brought it about.
        let is_told = !self.engine()?.has_pending();
        if let Some(making) = self.next.take_if(|making| is_told && making.is_finished()) {
            let made = making.await.map_err(|error| Error::Unavailable(error.to_string()))??;
            return self.replace(made).await;
        }
        let version = self.engine()?.version();
        if self.next.is_none()
            && let Some(newer) = definitions.get().filter(|newer| newer.version > version)
        {
            let (handle, at) = (self.handle.clone(), self.engine()?.at());
            let (making, currency) = (self.segments.making.clone(), self.segments.currency.clone());
            self.next = Some(self.segments.tracker.spawn(async move {
                let room = making.acquire_owned().await;
                let made = gather(&handle, newer.plan.clone(), newer.version, at, &currency).await;
                drop(room);
                made
            }));
        }
        Ok(())
    }

    /// Brings an engine to where this one is, and puts it in its place.
    async fn replace(&mut self, made: Box<Engine>) -> Result<(), Failure> {
        let Some(before) = self.engine.replace(made) else { return Err(Failure::NotLeading) };
        let (at, from) = (before.at(), self.engine()?.at());
        self.feed = Feed { after: Place::end_of(from), read: VecDeque::new(), whole: from };
        while !self.advance(at).await? {}
        let (through, stored) = before.into_stored();
        self.engine()?.reconcile(through, stored);
        Ok(())
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
