//! A shard's engine at work: follows the feed, proposes what it finds, answers.

mod beside;
mod holds;
mod questions;
mod side;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use isthmus_domain::Stamp;
use isthmus_shard::{
    Error, ShardHandle,
    read::FeedPart,
    segments::{Key, Row, Through},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::{sync::ReusableBoxFuture, task::AbortOnDropHandle};

use self::{beside::Beside, holds::Holds, side::Side};
use crate::{
    engine::Proposed,
    exchange::{Exchange, Inbox},
    gather::gather,
    gauges::Gauge,
    hosted::{Question, Segments, not_leading},
    shelf::Shelf,
};

/// How long a command or a barrier may be under way.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before it begins anew after a failure.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it looks whether there are other shards, if nothing else happens.
const LOOK: Duration = Duration::from_secs(1);
/// How often it says how much it keeps in memory.
const WEIGH: Duration = Duration::from_secs(5);
/// How often it says aloud that it fails.
const WARN: Duration = Duration::from_secs(30);
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
    /// It was slower than changes expire.
    #[error("the feed isn't kept so long: it was too far behind")]
    Behindhand,
    /// An event that can't be read.
    #[error("an event is damaged: {0}")]
    Damaged(String),
    /// Another leader has worked segments out, or an earlier proposal of this one was taken.
    #[error("segments were worked out up to elsewhere")]
    Elsewhere,
    /// This node's definitions are older than those that the log was told of.
    #[error("the definitions in force aren't known here yet")]
    Behind,
    /// There are newer definitions than those that it has begun by, and it can't answer by those yet.
    #[error("there are newer definitions")]
    Newer,
    /// The replica doesn't lead any more.
    #[error("another replica leads")]
    NotLeading,
}

impl Failure {
    /// Whether something is wrong, where others follow a change of leaders, shards or definitions.
    fn is_fault(&self) -> bool {
        match self {
            Self::Shard(Error::NotLeader { .. } | Error::NoLeader) => false,
            Self::Shard(_) | Self::Damaged(_) | Self::Behindhand => true,
            Self::Feed(_) | Self::Elsewhere | Self::Behind | Self::Newer | Self::NotLeading => false,
        }
    }

    pub(crate) fn feed(part: &FeedPart) -> Self {
        Self::Feed(match part {
            FeedPart::TooOld(_) => return Self::Behindhand,
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
    (inbox, shelf): (Arc<Inbox>, Arc<Shelf>),
    mut asked: mpsc::Receiver<Question>,
) {
    let (mut begun, mut leading, mut warned) = (0, None, None);
    let mut view = handle.watch();
    loop {
        let mut failed = false;
        match handle.leads() {
            true => {
                begun += 1;
                let now = || segments.clock.now_micros();
                let gauge = &leading.get_or_insert_with(|| segments.gauges.begin(&handle, now())).gauge;
                let work = Work::begin(&handle, &segments, (&inbox, &shelf, begun, gauge), &mut asked);
                let ended = tokio::select! {
                    biased;
                    () = segments.stop.cancelled() => return,
                    () = handle.stopped() => return,
                    ended = work => ended,
                };
                if asked.is_closed() {
                    return;
                }
                gauge.weigh((0, 0));
                if let Err(failure) = ended {
                    failed = handle.leads();
                    let is_fault = failed && failure.is_fault();
                    if is_fault {
                        segments.gauges.failed();
                    }
                    // What stays wrong fails ten times a second.
                    if is_fault && warned.is_none_or(|at: Instant| at.elapsed() > WARN) {
                        warned = Some(Instant::now());
                        tracing::warn!(shard = handle.shard(), %failure, "segments fail, and begin anew");
                    } else {
                        tracing::debug!(shard = handle.shard(), %failure, "segments begin anew");
                    }
                }
            }
            false => {
                leading = None;
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

/// An evaluator under one leadership.
struct Work<'a> {
    handle: &'a ShardHandle,
    segments: &'a Segments,
    asked: &'a mut mpsc::Receiver<Question>,
    inbox: Arc<Inbox>,
    /// What was handed out to queries.
    shelf: Arc<Shelf>,
    /// Where it says how it is.
    gauge: Arc<Gauge>,
    /// Names this leadership to other shards.
    incarnation: u64,
    /// What answers.
    now: Side,
    /// What the log keeps, until all others have told what they know.
    kept: Option<(Through, Vec<(Key, Row)>)>,
    /// Newer definitions by their version, and previews.
    beside: BTreeMap<u64, Beside>,
    /// Has newer definitions take over.
    settling: Option<AbortOnDropHandle<()>>,
    /// The command on its way into the log.
    proposing: Option<Proposing<'a>>,
    holds: Holds,
    waiting: VecDeque<Question>,
}

/// A command on its way into the log: meanwhile the feed is followed, and what is found waits for the next one.
struct Proposing<'a> {
    proposed: Proposed,
    answer: ReusableBoxFuture<'a, Answer>,
}

/// The stamp of a command that was taken, or how far others have come.
type Answer = Result<Result<Stamp, Through>, Error>;

impl<'a> Work<'a> {
    async fn begin(
        handle: &'a ShardHandle,
        segments: &'a Segments,
        (inbox, shelf, begun, gauge): (&Arc<Inbox>, &Arc<Shelf>, u64, &Arc<Gauge>),
        asked: &'a mut mpsc::Receiver<Question>,
    ) -> Result<(), Failure> {
        // Before all else, so that what is read then is not old when its turn comes.
        let room = segments.making.clone().acquire_owned().await;
        let in_force = segments.definitions.get().unwrap_or_default();
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
        inbox.clear();
        let exchange = Exchange::begin(handle.shard(), in_force.version, incarnation, router, inbox.clone());
        let goes_on = exchange.is_alone() && through.version > 0 && through.stamp >= floor;
        let at = if goes_on { through.stamp } else { now };
        let plan = in_force.plan.clone();
        let engine = gather(handle, plan, in_force.version, at, &segments.currency).await?;
        let stored = handle.segments_members().await?;
        drop(room);
        if handle.segments_through() != through {
            return Err(Failure::Elsewhere);
        }
        let (mut now, mut kept) = (Side::new(engine, exchange), Some((through, stored)));
        if now.exchange.is_alone()
            && let Some((through, stored)) = kept.take()
        {
            now.reconcile(through, stored).await?;
        }
        let mut work = Work {
            handle,
            segments,
            asked,
            inbox: inbox.clone(),
            shelf: shelf.clone(),
            gauge: gauge.clone(),
            incarnation,
            now,
            kept,
            beside: BTreeMap::new(),
            settling: None,
            proposing: None,
            holds: Holds::default(),
            waiting: VecDeque::new(),
        };
        work.follow().await
    }

    /// Goes on until the leadership ends, or something fails.
    async fn follow(&mut self) -> Result<(), Failure> {
        let mut stamps = self.handle.stamps();
        let mut view = self.handle.watch();
        let mut definitions = self.segments.definitions.clone();
        let mut weighed = None;
        loop {
            stamps.mark_unchanged();
            self.holds.expire(Instant::now());
            if self.now.exchange.is_stale() {
                return Err(Failure::Feed("there are other shards now"));
            }
            self.look_beside(&definitions).await?;
            if weighed.is_none_or(|at: Instant| at.elapsed() > WEIGH) {
                weighed = Some(Instant::now());
                self.weigh()?;
            }
            let limit = self.holds.limit().unwrap_or(Stamp(u64::MAX));
            self.hear(limit).await?;
            let mut reached = self.now.advance(self.handle, &self.segments.currency, limit).await?;
            // Where nothing happens, nothing is missing up to now.
            let now = if reached {
                Stamp::next(self.segments.clock.now_micros(), Stamp::ZERO)
            } else {
                Stamp::ZERO
            };
            self.gauge.come_to(self.now.whole().max(now));
            reached &= self.now.tell().await?;
            reached &= self.follow_beside(limit).await?;
            self.answer().await?;
            let proposed = self.propose().await?;
            self.settle_beside().await?;
            if !reached || proposed {
                continue;
            }
            if !self.handle.leads() {
                return Err(Failure::NotLeading);
            }
            let is_held = self.holds.limit().is_some();
            let due = self.now.engine()?.next_wake().filter(|_| !is_held);
            let wait = due.map(|due| {
                Duration::from_micros(
                    due.saturating_sub(self.segments.clock.now_micros()).max(0).cast_unsigned(),
                )
            });
            let again =
                self.beside.values_mut().filter_map(Beside::side).filter_map(|side| side.exchange.again());
            let again = again.chain(self.now.exchange.again()).chain(self.holds.next_end()).min();
            let is_beside = !self.beside.is_empty();
            tokio::select! {
                biased;
                question = self.asked.recv() => match question {
                    Some(question) => self.waiting.push_back(question),
                    None => return Ok(()),
                },
                _ = stamps.changed(), if !is_held => {}
                _ = view.changed() => {}
                () = self.inbox.come.notified() => {}
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
                () = definitions.changed() => {}
                answer = answered(&mut self.proposing), if self.proposing.is_some() => self.taken(answer)?,
                () = tokio::time::sleep(wait.unwrap_or_default().min(TIMEOUT)), if wait.is_some() => {
                    self.pass_time().await?;
                }
                () = tokio::time::sleep(if is_beside { PAUSE / 10 } else { LOOK }) => {}
            }
        }
    }

    /// Says how much is kept in memory.
    fn weigh(&mut self) -> Result<(), Failure> {
        let mut all = self.now.engine()?.weight();
        for side in self.beside.values_mut().filter_map(Beside::side) {
            let (facets, bytes) = side.engine()?.weight();
            all = (all.0 + facets, all.1 + bytes);
        }
        self.gauge.weigh(all);
        Ok(())
    }

    /// Takes up what other shards have told, of stamps up to one.
    async fn hear(&mut self, limit: Stamp) -> Result<(), Failure> {
        self.now.hear(limit);
        if self.now.exchange.is_ready()
            && let Some((through, stored)) = self.kept.take()
        {
            self.now.reconcile(through, stored).await?;
        }
        Ok(())
    }

    /// Has what was found go into the log, one command after the other; whether there is more to do at once.
    async fn propose(&mut self) -> Result<bool, Failure> {
        if let Some(proposing) = &mut self.proposing {
            let Poll::Ready(answer) = futures::poll!(proposing.answer.get_pin()) else { return Ok(false) };
            self.taken(answer)?;
        }
        if self.kept.is_some() {
            return Ok(false);
        }
        let engine = self.now.engine()?;
        if !engine.has_news(UNSAID_MAX) {
            return Ok(false);
        }
        let Some(proposed) = engine.propose() else {
            // The last command's own stamp is not in yet.
            return Ok(self.holds.limit().is_none() && self.now.whole() < self.handle.stamp());
        };
        self.begin_to_put(proposed).await?;
        Ok(false)
    }

    /// Sends a command off; none may be under way.
    async fn begin_to_put(&mut self, mut proposed: Proposed) -> Result<(), Failure> {
        let (handle, deadline) = (self.handle, Instant::now() + TIMEOUT);
        let command = std::mem::take(&mut proposed.command);
        let mut answer = ReusableBoxFuture::new(handle.propose_segments(command, deadline));
        // It is on its way once it was looked at.
        let first = futures::poll!(answer.get_pin());
        self.proposing = Some(Proposing { proposed, answer });
        match first {
            Poll::Ready(answer) => self.taken(answer),
            Poll::Pending => Ok(()),
        }
    }

    /// A command was answered.
    fn taken(&mut self, answer: Answer) -> Result<(), Failure> {
        let Some(Proposing { proposed, .. }) = self.proposing.take() else { return Ok(()) };
        match answer? {
            Ok(stamp) => self.now.engine()?.taken(&proposed, stamp),
            Err(_) => return Err(Failure::Elsewhere),
        }
        Ok(())
    }

    /// Waits until no command is under way.
    async fn put_all(&mut self) -> Result<(), Failure> {
        if self.proposing.is_some() {
            let answer = answered(&mut self.proposing).await;
            self.taken(answer)?;
        }
        Ok(())
    }

    /// Puts a command into the log, when none is under way.
    async fn put(&mut self, proposed: Proposed) -> Result<(), Failure> {
        self.begin_to_put(proposed).await?;
        self.put_all().await
    }

    /// A wake is due and nothing happens: a command whose stamp says what time it is.
    async fn pass_time(&mut self) -> Result<(), Failure> {
        if self.kept.is_some() {
            tokio::time::sleep(PAUSE / 10).await;
            return Ok(());
        }
        self.put_all().await?;
        let now = self.segments.clock.now_micros();
        let engine = self.now.engine()?;
        if engine.next_wake().is_none_or(|due| due > now) || self.now.whole() < self.handle.stamp() {
            return Ok(());
        }
        match self.now.engine()?.propose() {
            Some(proposed) => self.put(proposed).await,
            None => Ok(()),
        }
    }
}

/// The answer to the command that is under way; never, if there is none.
async fn answered(proposing: &mut Option<Proposing<'_>>) -> Answer {
    match proposing {
        Some(proposing) => proposing.answer.get_pin().await,
        None => std::future::pending().await,
    }
}
