//! The task that owns a replica's state machine.
//!
//! It takes what the group hands it, in order: entries in batches, snapshots to install or to make. After a batch
//! it lets the state machine publish, passes the read barriers that waited for it, and answers the proposals that
//! were made here, without a detour through the group. If the state machine says that it is broken, or panics, the
//! task ends and the group stops with it; what it had not answered is unknown to whoever waits.
//!
//! The queue needs no bound of its own: the core stops handing out entries when too many bytes wait here.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::Span;

use crate::{
    core::Apply,
    group::Replica,
    inbox::{News, Replies},
    machine::{Broken, StagedSnapshot, StateMachine},
    proposer::Proposer,
    types::{Committed, Position, Proposed},
};

/// Something for the state machine.
pub(crate) enum Work<O> {
    Entry(Apply<Replies<O>>),
    Install(StagedSnapshot),
    Snapshot,
    /// Look whether more became durable.
    Poll,
    Stop,
}

pub(crate) struct ApplyQueue<O> {
    work: Mutex<VecDeque<Work<O>>>,
    wake: Notify,
}

impl<O> ApplyQueue<O> {
    pub(crate) fn new() -> Self {
        Self { work: Mutex::new(VecDeque::new()), wake: Notify::new() }
    }

    pub(crate) fn push(&self, work: impl IntoIterator<Item = Work<O>>) {
        self.work.lock().extend(work);
        self.wake.notify_one();
    }

    /// Asks for the durable index, unless the task has work and will tell it anyway.
    pub(crate) fn poll(&self) {
        let mut work = self.work.lock();
        if work.is_empty() {
            work.push_back(Work::Poll);
            drop(work);
            self.wake.notify_one();
        }
    }

    /// How much waits.
    pub(crate) fn waiting(&self) -> usize {
        self.work.lock().len()
    }

    /// What nobody will work on any more.
    pub(crate) fn take_all(&self) -> VecDeque<Work<O>> {
        std::mem::take(&mut self.work.lock())
    }

    /// The next batch of entries, or the next other thing.
    async fn next(&self, entries_max: usize) -> Next<O> {
        loop {
            {
                let mut work = self.work.lock();
                let mut entries = Vec::new();
                while entries.len() < entries_max
                    && let Some(front) = work.pop_front_if(|front| matches!(front, Work::Entry(_)))
                {
                    if let Work::Entry(entry) = front {
                        entries.push(entry);
                    }
                }
                if !entries.is_empty() {
                    return Next::Entries(entries);
                }
                if let Some(other) = work.pop_front() {
                    return Next::Other(other);
                }
            }
            self.wake.notified().await;
        }
    }
}

enum Next<O> {
    Entries(Vec<Apply<Replies<O>>>),
    Other(Work<O>),
}

/// After so many bytes of entries others get their turn: with many groups catching up after a restart, heartbeats and
/// elections must not wait for whole batches.
const PIECE_BYTES: usize = 64 << 10;

/// Runs until told to stop, or until the state machine is broken.
pub(crate) async fn run<S: StateMachine>(machine: S, replica: Arc<Replica<S::Outcome>>, entries_max: usize) {
    let group = replica.group;
    let ended =
        AssertUnwindSafe(Applier { machine, replica: replica.clone() }.run(entries_max)).catch_unwind().await;
    let reason = match ended {
        Ok(Ok(())) => None,
        Ok(Err(broken)) => Some(broken.reason),
        Err(_) => Some("the state machine panicked".to_owned()),
    };
    replica.gate.close();
    if let Some(reason) = reason {
        tracing::error!(group, peer = %replica.peer, %reason, "the replica is broken and stops");
        let _ = replica.inbox.news(News::Broken(reason));
    }
}

struct Applier<S: StateMachine> {
    machine: S,
    replica: Arc<Replica<S::Outcome>>,
}

/// What to call for an entry; proposals' payloads are kept apart, in the same order, for `prepare`.
enum Step<O> {
    Entry(Option<Proposer<O>>),
    Empty { index: u64, term: u64 },
    Conf { index: u64, term: u64, conf: raft::eraftpb::ConfState },
}

impl<S: StateMachine> Applier<S> {
    async fn run(mut self, entries_max: usize) -> Result<(), Broken> {
        self.publish(self.replica.gate.applied());
        loop {
            match self.replica.apply.next(entries_max).await {
                Next::Entries(entries) => self.entries(entries).await?,
                Next::Other(Work::Install(staged)) => self.install(staged).await?,
                Next::Other(Work::Snapshot) => {
                    let source = self.machine.snapshot().await?;
                    if source.position.index != self.replica.gate.applied() {
                        return Err(Broken::new("a snapshot of another index than the one applied"));
                    }
                    if let Err(unheard) = self.replica.inbox.news(News::SnapshotMade(source))
                        && let News::SnapshotMade(unused) = *unheard
                    {
                        crate::snapshot::remove(unused.dir);
                    }
                }
                Next::Other(Work::Stop) => return Ok(()),
                Next::Other(_) => self.publish(self.replica.gate.applied()),
            }
        }
    }

    async fn entries(&mut self, batch: Vec<Apply<Replies<S::Outcome>>>) -> Result<(), Broken> {
        let mut entries: Vec<Committed> = Vec::with_capacity(batch.len());
        let mut steps: Vec<Step<S::Outcome>> = Vec::with_capacity(batch.len());
        for item in batch {
            steps.push(match item {
                Apply::Entry(entry, from) => {
                    entries.push(entry);
                    Step::Entry(from)
                }
                Apply::Empty { index, term } => Step::Empty { index, term },
                Apply::Conf { index, term, conf } => Step::Conf { index, term, conf },
            });
        }
        self.machine.prepare(&entries).await?;
        let mut entries = entries.into_iter();
        let mut answers = Vec::new();
        let mut applied = self.replica.gate.applied();
        let mut bytes = 0;
        for step in steps {
            if bytes >= PIECE_BYTES {
                bytes = 0;
                tokio::task::yield_now().await;
            }
            let index = match step {
                Step::Entry(from) => {
                    let entry = entries.next().ok_or_else(|| Broken::new("an entry without a payload"))?;
                    let (index, term) = (entry.index, entry.term);
                    bytes += entry.data.len();
                    let span = from.as_ref().map_or_else(Span::none, |from| from.applying(index));
                    let outcome = span.in_scope(|| self.machine.apply(entry))?;
                    if let Some(from) = from {
                        answers.push((from, Proposed { index, term, outcome }));
                    }
                    index
                }
                Step::Empty { index, term } => {
                    self.machine.empty(index, term);
                    index
                }
                Step::Conf { index, term, conf } => {
                    self.machine.reconfigured(index, term, conf);
                    index
                }
            };
            if index != applied + 1 {
                return Err(Broken::new(format!("entry {index} comes after entry {applied}")));
            }
            applied = index;
        }
        self.machine.batch_end();
        self.publish(applied);
        for (from, proposed) in answers {
            from.answer(Ok(proposed));
        }
        Ok(())
    }

    async fn install(&mut self, staged: StagedSnapshot) -> Result<(), Broken> {
        let (expected, dir) = ((staged.position.index, staged.position.term), staged.dir.clone());
        let position: Position = self.machine.install(staged).await?;
        crate::snapshot::remove(dir);
        if (position.index, position.term) != expected {
            return Err(Broken::new("a snapshot installed at another position than its own"));
        }
        self.machine.batch_end();
        self.publish(position.index);
        let _ = self.replica.inbox.news(News::Installed);
        Ok(())
    }

    fn publish(&mut self, applied: u64) {
        self.replica.publish(applied, self.machine.durable_index());
    }
}
