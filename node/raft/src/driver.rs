//! Drivers: the few tasks that give all groups of a node their turns.
//!
//! Groups are dealt out to the drivers. A driver gives a turn to every group of its for which something came, and only
//! then sends what they have to send, one call a peer, and hands what they have to write to the log writer, all at
//! once. So under load one frame, one sync and one wake-up serve many groups, as if they were one; a lone group waits
//! for nobody, there is no timer.
//!
//! A group is owned by its driver from [`Driver::add`] until its last turn; then a task of its own sees it out. A turn
//! that panics is the group's last one, and touches no other group.
//!
//! The list of ready groups needs no bound of its own: each group is in it at most once.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::{
    machine::Broken,
    transport::{GroupMessage, Transport},
    writer::{Job, LogWriter},
};

/// Turns between two rounds of sending: with many groups, the first ones' messages shall not wait for the last.
const SWEEP_TURNS: usize = 64;
/// A parcel of messages for one peer is closed at this size: a peer's queue takes all of a parcel or nothing.
const PARCEL_BYTES: usize = 1 << 20;

/// How a group's last turn ended.
pub(crate) enum Ended {
    /// It was asked to stop, and its log is quiescent.
    Stopped,
    /// Its state machine or log contradicts itself.
    Broken(Broken),
    /// raft-rs panicked.
    Panicked,
}

/// A group, as its driver sees it.
pub(crate) trait Turn: Send {
    /// Takes all that waits for it and acts on it; `Break` ends it.
    fn turn(&mut self, out: &mut Outgoing) -> ControlFlow<Ended>;

    /// Messages to a node were not sent.
    fn unreachable(&mut self, node: u32);

    /// What is left to do when it has ended.
    fn see_out(self: Box<Self>, ended: Ended) -> BoxFuture<'static, ()>;
}

/// What the groups of one round want sent and written.
#[derive(Default)]
pub(crate) struct Outgoing {
    parcels: Vec<Parcel>,
    jobs: Vec<Job>,
    /// Whose turn it is.
    turn: u64,
}

/// Messages for one node, with the groups that they come from.
struct Parcel {
    node: u32,
    bytes: usize,
    messages: Vec<GroupMessage>,
    groups: Vec<u64>,
}

impl Outgoing {
    /// Queues a message for a node, behind the group's earlier ones.
    pub(crate) fn send(&mut self, message: GroupMessage) {
        let (node, bytes) = (message.to.node(), message.message.len());
        // The last parcel for the node: earlier ones are closed.
        let open = self.parcels.iter_mut().rfind(|parcel| parcel.node == node);
        let parcel = match open {
            Some(parcel) if parcel.bytes < PARCEL_BYTES => parcel,
            _ => self.parcels.push_mut(Parcel { node, bytes: 0, messages: Vec::new(), groups: Vec::new() }),
        };
        parcel.bytes += bytes;
        parcel.messages.push(message);
        if parcel.groups.last() != Some(&self.turn) {
            parcel.groups.push(self.turn);
        }
    }

    /// Queues something for the log writer.
    pub(crate) fn log(&mut self, job: Job) {
        self.jobs.push(job);
    }
}

/// What wakes a group: it is put on its driver's list, once.
pub(crate) struct Waker {
    driver: Arc<Driver>,
    number: u64,
    waiting: AtomicBool,
}

impl Waker {
    /// Sees to it that the group gets a turn that begins after this call.
    pub(crate) fn wake(&self) {
        if !self.waiting.swap(true, Ordering::AcqRel) {
            self.driver.ready(self.number);
        }
    }

    /// A turn begins: it sees whatever came before a wake that this call ends, and what comes from now on needs
    /// another one.
    pub(crate) fn begin(&self) {
        // Not a plain store: that could take effect after the turn has looked, and a wake in between would be lost.
        self.waiting.swap(false, Ordering::AcqRel);
    }
}

#[derive(Default)]
struct Queue {
    ready: Vec<u64>,
    added: Vec<(u64, Box<dyn Turn>)>,
    last_number: u64,
    stop: bool,
}

/// One driver's door.
#[derive(Default)]
pub(crate) struct Driver {
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Driver {
    /// Makes the waker of a group that will be added.
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        let mut queue = self.queue.lock();
        queue.last_number += 1;
        Waker { driver: self.clone(), number: queue.last_number, waiting: AtomicBool::new(false) }
    }

    /// Takes a group over and gives it a first turn.
    pub(crate) fn add(&self, waker: &Waker, group: Box<dyn Turn>) {
        let mut queue = self.queue.lock();
        queue.added.push((waker.number, group));
        // Whoever woke it before had its entry dropped, since it was not here.
        queue.ready.push(waker.number);
        drop(queue);
        self.wake.notify_one();
    }

    /// Ends the driver, once all its groups have ended.
    pub(crate) fn stop(&self) {
        self.queue.lock().stop = true;
        self.wake.notify_one();
    }

    fn ready(&self, number: u64) {
        let mut queue = self.queue.lock();
        queue.ready.push(number);
        let first = queue.ready.len() == 1;
        drop(queue);
        if first {
            self.wake.notify_one();
        }
    }

    /// Gives turns until stopped.
    pub(crate) async fn run(
        self: Arc<Self>,
        transport: Arc<dyn Transport>,
        writer: Arc<LogWriter>,
        tasks: TaskTracker,
    ) {
        let mut groups: BTreeMap<u64, Box<dyn Turn>> = BTreeMap::new();
        let (mut ready, mut out) = (Vec::new(), Outgoing::default());
        loop {
            self.wake.notified().await;
            {
                let mut queue = self.queue.lock();
                std::mem::swap(&mut queue.ready, &mut ready);
                groups.extend(queue.added.drain(..));
                // What may still be on the list is of groups that have ended.
                if queue.stop && groups.is_empty() {
                    return;
                }
            }
            for sweep in ready.chunks(SWEEP_TURNS) {
                for number in sweep {
                    give_turn(&mut groups, *number, &mut out, &tasks);
                }
                flush(&mut groups, &mut out, &*transport, &writer);
                // Others want their turn too, and what comes meanwhile gathers.
                tokio::task::yield_now().await;
            }
            ready.clear();
        }
    }
}

fn give_turn(
    groups: &mut BTreeMap<u64, Box<dyn Turn>>,
    number: u64,
    out: &mut Outgoing,
    tasks: &TaskTracker,
) {
    let Some(group) = groups.get_mut(&number) else { return };
    out.turn = number;
    let turned = catch_unwind(AssertUnwindSafe(|| group.turn(out)));
    let ended = match turned {
        Ok(ControlFlow::Continue(())) => return,
        Ok(ControlFlow::Break(ended)) => ended,
        Err(_) => Ended::Panicked,
    };
    if let Some(group) = groups.remove(&number) {
        tasks.spawn(group.see_out(ended));
    }
}

fn flush(
    groups: &mut BTreeMap<u64, Box<dyn Turn>>,
    out: &mut Outgoing,
    transport: &dyn Transport,
    writer: &LogWriter,
) {
    if !out.jobs.is_empty() {
        writer.submit(&mut out.jobs);
    }
    for parcel in out.parcels.drain(..) {
        if !transport.send(parcel.node, parcel.messages) {
            for number in parcel.groups {
                if let Some(group) = groups.get_mut(&number) {
                    group.unreachable(parcel.node);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
