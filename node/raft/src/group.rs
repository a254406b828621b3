//! A group's turns: feeds the pure core from the inbox and carries its effects out.
//!
//! Each turn takes all that waits, steps it, collects once, and hands over what is to be sent, written, applied and
//! answered. A turn never waits; its [driver](crate::driver) gives it one when something came. When asked to stop it
//! takes nothing more, answers all that wait, and ends once the log writer has synced what it was given and the state
//! machine's task has ended: then the log is quiescent. If the core or the state machine is broken the replica stops
//! likewise, shown as broken; a panic of raft-rs counts as that.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::future::BoxFuture;
use isthmus_storage::log::GroupWrite;
use raft::eraftpb::{Message, Snapshot};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Options,
    apply::{ApplyQueue, Work},
    codec,
    core::{Apply, Core, Effects},
    driver::{Ended, Outgoing, Turn, Waker},
    inbox::{Gate, Inbox, Mail, News, Replies, Taken},
    machine::{Broken, StagedSnapshot},
    measure::GroupCounts,
    proposer::Proposer,
    snapshot::{self, Frozen},
    transport::{GroupMessage, IncomingSnapshot, Transport},
    types::{GroupId, GroupView, PeerId, Position, ReplicaState},
    writer::{Job, LogWriter, Synced},
};

/// What a replica's tasks and handles share: queues and counters, no state that two would write.
pub(crate) struct Replica<O> {
    pub(crate) group: GroupId,
    pub(crate) peer: PeerId,
    pub(crate) inbox: Inbox<O>,
    pub(crate) apply: ApplyQueue<O>,
    pub(crate) gate: Gate,
    pub(crate) counts: GroupCounts,
    durable: AtomicU64,
    pub(crate) view: watch::Sender<GroupView>,
    /// Cancelled when all its tasks have ended.
    pub(crate) ended: CancellationToken,
}

impl<O> Replica<O> {
    pub(crate) fn new(group: GroupId, peer: PeerId, applied: u64, options: &Options, waker: Waker) -> Self {
        Self {
            group,
            peer,
            inbox: Inbox::new(options, waker),
            apply: ApplyQueue::new(),
            gate: Gate::new(applied),
            counts: GroupCounts::default(),
            durable: AtomicU64::new(0),
            view: watch::Sender::new(GroupView { group, peer, applied, ..GroupView::default() }),
            ended: CancellationToken::new(),
        }
    }

    /// The state machine got this far.
    pub(crate) fn publish(&self, applied: u64, durable: u64) {
        self.durable.store(durable, Ordering::Release);
        self.gate.publish(applied);
        if self.inbox.eager.load(Ordering::Acquire) {
            self.inbox.wake();
        }
    }
}

impl<O: Send> Synced for Replica<O> {
    fn synced(&self, number: u64) {
        self.inbox.synced(number);
    }
}

/// What the node's groups share.
pub(crate) struct Surroundings {
    pub(crate) options: Options,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) writer: Arc<LogWriter>,
    pub(crate) tasks: TaskTracker,
    pub(crate) snapshot_turns: Arc<Semaphore>,
    pub(crate) snapshot_ids: AtomicU64,
}

pub(crate) struct GroupTask<O> {
    pub(crate) core: Core<Replies<O>>,
    pub(crate) replica: Arc<Replica<O>>,
    pub(crate) around: Arc<Surroundings>,
    pub(crate) frozen: Option<Arc<Frozen>>,
    pub(crate) arrived: Option<IncomingSnapshot>,
    pub(crate) synced: u64,
    pub(crate) ticks: u64,
    /// Kept for its buffers.
    pub(crate) taken: Taken<O>,
    /// It was asked to stop and takes nothing more.
    pub(crate) stopping: bool,
    /// The state machine's task.
    pub(crate) applying: JoinHandle<()>,
}

impl<O: Send + 'static> Turn for GroupTask<O> {
    fn turn(&mut self, out: &mut Outgoing) -> ControlFlow<Ended> {
        self.replica.inbox.begin_turn();
        if self.stopping || self.replica.inbox.stop_requested() {
            return if self.stop() { ControlFlow::Break(Ended::Stopped) } else { ControlFlow::Continue(()) };
        }
        match self.work(out) {
            Ok(()) => ControlFlow::Continue(()),
            Err(broken) => ControlFlow::Break(Ended::Broken(broken)),
        }
    }

    fn unreachable(&mut self, node: u32) {
        self.core.unreachable(node);
    }

    fn see_out(self: Box<Self>, ended: Ended) -> BoxFuture<'static, ()> {
        Box::pin((*self).end(ended))
    }
}

impl<O: Send + 'static> GroupTask<O> {
    /// After the last turn: answers all that wait, waits for the state machine's task, and says so.
    async fn end(mut self, ended: Ended) {
        let (replica, group) = (self.replica.clone(), self.replica.group);
        let state = match ended {
            Ended::Stopped => ReplicaState::Stopped,
            Ended::Broken(broken) => {
                tracing::error!(group, peer = %replica.peer, reason = broken.reason, "the replica is broken and stops");
                ReplicaState::Broken
            }
            Ended::Panicked => {
                tracing::error!(group, peer = %replica.peer, "the replica's Raft state is broken, it stops");
                ReplicaState::Broken
            }
        };
        replica.inbox.close();
        self.answer_all();
        replica.apply.push([Work::Stop]);
        // An error would be a panic, which the task turns into `Broken` itself.
        let _ = (&mut self.applying).await;
        self.discard_queued();
        replica.view.send_modify(|view| {
            *view = GroupView { state, applied: replica.gate.applied(), ..std::mem::take(view) };
            (view.role, view.leader, view.serving) = Default::default();
            view.progress.clear();
        });
        // Replies held by the core go with it; whoever waits finds out by that.
        drop(self);
        replica.ended.cancel();
    }

    fn work(&mut self, out: &mut Outgoing) -> Result<(), Broken> {
        let mut taken = std::mem::take(&mut self.taken);
        self.replica.inbox.take(&mut taken);
        let fed = self.feed(&mut taken, out);
        self.taken = taken;
        fed?;
        let (effects, more) = self.core.collect()?;
        let changed = effects.changed;
        self.carry_out(effects, out)?;
        if more {
            self.replica.inbox.wake();
        }
        if changed {
            self.show();
        }
        let eager = self.core.awaits_applied();
        if self.replica.inbox.eager.swap(eager, Ordering::AcqRel) != eager && eager {
            // A batch may have been applied just before: look again.
            self.replica.inbox.wake();
        }
        Ok(())
    }

    fn feed(&mut self, taken: &mut Taken<O>, out: &mut Outgoing) -> Result<(), Broken> {
        let inbox = &self.replica.inbox;
        let synced = inbox.synced_number();
        if synced > self.synced {
            self.synced = synced;
            self.core.persisted(synced);
        }
        self.core.applied(self.replica.gate.applied(), self.replica.durable.load(Ordering::Acquire));
        if inbox.take_tick() {
            self.ticks += 1;
            self.core.tick();
            self.show();
            const POLL_TICKS: u64 = 20;
            if self.ticks.is_multiple_of(POLL_TICKS) {
                self.replica.apply.poll();
            }
        }
        if self.replica.inbox.take_compaction() {
            self.core.compact_now();
        }
        for message in taken.messages.drain(..) {
            self.step(message)?;
        }
        for node in std::mem::take(&mut taken.unreachable) {
            self.core.unreachable(node);
        }
        for news in taken.news.drain(..) {
            self.hear(news, out)?;
        }
        let mut proposals = Vec::new();
        for mail in taken.mail.drain(..) {
            match mail {
                // Whoever stopped waiting before it was proposed is spared it.
                Mail::Propose { from, .. } if from.is_gone() => {}
                Mail::Propose { data, from } => proposals.push((data, from)),
                Mail::Read { reply } if reply.is_closed() => {}
                Mail::Read { reply } => self.core.read(reply),
                Mail::Change { change, reply } => {
                    self.propose(std::mem::take(&mut proposals));
                    self.core.change_membership(&change, reply);
                }
                Mail::Transfer { to, reply } => {
                    self.propose(std::mem::take(&mut proposals));
                    let _ = reply.send(self.core.transfer_leader(to));
                }
                Mail::Campaign => self.core.campaign(),
            }
        }
        if !proposals.is_empty() {
            self.propose(proposals);
        }
        Ok(())
    }

    fn propose(&mut self, proposals: Vec<(Bytes, Proposer<O>)>) {
        self.replica.counts.proposals.fetch_add(proposals.len() as u64, Ordering::Relaxed);
        self.core.propose(proposals);
    }

    fn step(&mut self, envelope: GroupMessage) -> Result<(), Broken> {
        match codec::decode(&envelope.message) {
            Ok(message) if message.from == envelope.from.0 && message.to == envelope.to.0 => {
                self.core.step(message)
            }
            _ => {
                tracing::warn!(group = self.replica.group, from = %envelope.from, "a message was not understood");
                Ok(())
            }
        }
    }

    fn hear(&mut self, news: News, out: &mut Outgoing) -> Result<(), Broken> {
        match news {
            News::SnapshotReported { to, arrived } => self.core.snapshot_reported(to, arrived),
            News::SnapshotMade(source) => {
                let id = self.around.snapshot_ids.fetch_add(1, Ordering::Relaxed);
                let data = codec::snapshot_data(id, &source.manifest);
                self.core.snapshot_made(source.position.clone(), data);
                self.frozen = Some(Arc::new(Frozen { id, source }));
            }
            News::SnapshotArrived(arrived) => self.snapshot_arrived(arrived, out)?,
            News::Installed => self.core.installed(),
            News::Broken(reason) => return Err(Broken { reason }),
        }
        Ok(())
    }

    /// Steps the message that announced a snapshot, now that its files are here. If Raft has no use for it, it goes.
    fn snapshot_arrived(&mut self, arrived: IncomingSnapshot, out: &mut Outgoing) -> Result<(), Broken> {
        let fits = |message: &Message| message.from == arrived.from.0 && message.to == arrived.to.0;
        match codec::decode(&arrived.message) {
            Ok(message) if fits(&message) && !self.core.is_installing() => {
                self.core.snapshot_arrived(message);
                self.arrived = Some(arrived);
                let (effects, more) = self.core.collect()?;
                self.carry_out(effects, out)?;
                if more {
                    self.replica.inbox.wake();
                }
                if let Some(unused) = self.arrived.take() {
                    snapshot::remove(unused.dir);
                }
            }
            _ => snapshot::remove(arrived.dir),
        }
        Ok(())
    }

    fn carry_out(&mut self, effects: Effects<Replies<O>>, out: &mut Outgoing) -> Result<(), Broken> {
        for message in &effects.messages {
            let (from, to) = (PeerId(message.from), PeerId(message.to));
            out.send(GroupMessage { group: self.replica.group, from, to, message: encode(message)? });
        }
        for write in effects.writes {
            let number = write.number;
            let (reset, entries, hard_state) = (write.reset, write.entries, write.hard_state);
            let write = GroupWrite { group: self.replica.group, reset, entries, hard_state };
            out.log(Job::Write { write, number, to: self.replica.clone() });
        }
        for message in effects.snapshots {
            self.send_snapshot(message)?;
        }
        let installs = match effects.install {
            Some(snapshot) => Some(Work::Install(self.staged(&snapshot)?)),
            None => None,
        };
        let makes = effects.make_snapshot.then_some(Work::Snapshot);
        if !effects.apply.is_empty() || installs.is_some() || makes.is_some() {
            let entries = effects.apply.into_iter().map(|mut entry| {
                if let Apply::Entry(_, Some(from)) = &mut entry {
                    from.committed();
                }
                Work::Entry(entry)
            });
            self.replica.apply.push(entries.chain(installs).chain(makes));
        }
        if effects.drop_snapshot {
            self.frozen = None;
        }
        if let Some(base) = effects.compact {
            out.log(Job::Compact { group: self.replica.group, base });
        }
        for (index, reply) in effects.reads {
            self.replica.gate.wait(index, reply);
        }
        // Whoever asked may be gone; nothing is lost with the answer.
        for (from, error) in effects.failed {
            from.answer(Err(error));
        }
        for (reply, error) in effects.refused_reads {
            let _ = reply.send(Err(error));
        }
        for (reply, result) in effects.changes {
            let _ = reply.send(result);
        }
        Ok(())
    }

    fn send_snapshot(&mut self, message: Message) -> Result<(), Broken> {
        let to = PeerId(message.to);
        let id = codec::split_snapshot_data(&message.get_snapshot().data).map(|(id, _)| id);
        let frozen = self.frozen.clone().filter(|frozen| Some(frozen.id) == id);
        let sending = snapshot::send(
            self.replica.clone(),
            self.around.transport.clone(),
            self.around.snapshot_turns.clone(),
            frozen,
            to,
            encode(&message)?,
            self.around.options.snapshot_timeout,
        );
        self.around.tasks.spawn(sending);
        Ok(())
    }

    fn staged(&mut self, snapshot: &Snapshot) -> Result<StagedSnapshot, Broken> {
        let meta = snapshot.get_metadata();
        let position = Position { index: meta.index, term: meta.term, conf: meta.get_conf_state().clone() };
        let (Some(arrived), Some((_, manifest))) =
            (self.arrived.take(), codec::split_snapshot_data(&snapshot.data))
        else {
            return Err(Broken::new("a snapshot to install that never arrived"));
        };
        Ok(StagedSnapshot { from: arrived.from, position, manifest, dir: arrived.dir, files: arrived.files })
    }

    fn show(&mut self) {
        let view = self.core.view();
        self.replica.view.send_if_modified(|shown| {
            let differs = *shown != view;
            if differs {
                self.replica.counts.note(shown, &view);
                *shown = view;
            }
            differs
        });
    }

    /// Takes nothing more; whether the log writer has synced all it was given.
    fn stop(&mut self) -> bool {
        if !self.stopping {
            self.stopping = true;
            self.replica.inbox.close();
            self.answer_all();
        }
        self.core.persisted(self.replica.inbox.synced_number());
        self.core.is_quiescent() || self.core.is_installing()
    }

    fn answer_all(&mut self) {
        let effects = self.core.abort();
        let failed = effects.failed.into_iter();
        failed.for_each(|(from, error)| from.answer(Err(error)));
        effects.refused_reads.into_iter().for_each(|(reply, error)| drop(reply.send(Err(error))));
        effects.changes.into_iter().for_each(|(reply, result)| drop(reply.send(result)));
        let mut taken = Taken::default();
        self.replica.inbox.take(&mut taken);
        for mail in taken.mail {
            refuse(mail);
        }
        for news in taken.news {
            match news {
                News::SnapshotArrived(arrived) => snapshot::remove(arrived.dir),
                News::SnapshotMade(source) => drop(Frozen { id: 0, source }),
                _ => {}
            }
        }
        if let Some(arrived) = self.arrived.take() {
            snapshot::remove(arrived.dir);
        }
    }

    /// What the state machine's task left in its queue when it ended.
    fn discard_queued(&mut self) {
        for work in self.replica.apply.take_all() {
            if let Work::Install(staged) = work {
                snapshot::remove(staged.dir);
            }
        }
        self.answer_all();
    }
}

fn encode(message: &Message) -> Result<Bytes, Broken> {
    codec::encode(message).map_err(|error| Broken::new(format!("a message can't be encoded: {error}")))
}

/// Answers a request that was never begun.
fn refuse<O>(mail: Mail<O>) {
    use crate::Error::Stopped;
    match mail {
        Mail::Propose { from, .. } => from.answer(Err(Stopped)),
        Mail::Read { reply } => drop(reply.send(Err(Stopped))),
        Mail::Change { reply, .. } => drop(reply.send(Err(Stopped))),
        Mail::Transfer { reply, .. } => drop(reply.send(Err(Stopped))),
        Mail::Campaign => {}
    }
}
