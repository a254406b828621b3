//! What waits for a group's next turn: requests of clients, messages of peers, news from the node's other actors.
//!
//! One lock, held for a few instructions, and one wake-up for however much came: a burst of a thousand messages
//! costs one entry in the driver's list. Every queue is bounded. A client's request that doesn't fit is refused; a peer's
//! message is dropped (Raft sends it again); news are few by construction (counters, flags, one per transfer).
//! Neither clients nor peers can starve the other: a turn takes all of both at once.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use raft::eraftpb::ConfState;
use tokio::sync::oneshot;

use crate::{
    Error, Options,
    core::Tokens,
    driver::Waker,
    machine::SnapshotSource,
    proposer::Proposer,
    transport::{GroupMessage, IncomingSnapshot},
    types::{MembershipChange, PeerId},
};

pub(crate) type Reply<A> = oneshot::Sender<Result<A, Error>>;

/// The core's tokens in production: answers on their way to whoever asked.
pub(crate) struct Replies<O>(std::marker::PhantomData<fn(O)>);

impl<O> Tokens for Replies<O> {
    type Proposal = Proposer<O>;
    type Read = Reply<u64>;
    type Change = Reply<ConfState>;
}

/// A client's request.
pub(crate) enum Mail<O> {
    Propose { data: Bytes, from: Proposer<O> },
    Read { reply: Reply<u64> },
    Change { change: MembershipChange, reply: Reply<ConfState> },
    Transfer { to: PeerId, reply: Reply<()> },
    Campaign,
}

/// News from the node.
pub(crate) enum News {
    SnapshotReported { to: PeerId, arrived: bool },
    SnapshotArrived(IncomingSnapshot),
    SnapshotMade(SnapshotSource),
    Installed,
    Broken(String),
}

/// All that waited, taken at once.
pub(crate) struct Taken<O> {
    pub(crate) mail: VecDeque<Mail<O>>,
    pub(crate) messages: VecDeque<GroupMessage>,
    pub(crate) news: VecDeque<News>,
    pub(crate) unreachable: BTreeSet<u32>,
}

impl<O> Default for Taken<O> {
    fn default() -> Self {
        Self {
            mail: VecDeque::new(),
            messages: VecDeque::new(),
            news: VecDeque::new(),
            unreachable: BTreeSet::new(),
        }
    }
}

struct Queues<O> {
    taken: Taken<O>,
    mail_bytes: usize,
    message_bytes: usize,
    closed: bool,
}

pub(crate) struct Inbox<O> {
    queues: Mutex<Queues<O>>,
    waker: Waker,
    ticked: AtomicBool,
    stop: AtomicBool,
    compact: AtomicBool,
    synced: AtomicU64,
    /// Whether the group wants a turn for each applied batch, not only at the next tick.
    pub(crate) eager: AtomicBool,
    mail_max: usize,
    mail_bytes_max: usize,
    messages_max: usize,
    message_bytes_max: usize,
}

impl<O> Inbox<O> {
    pub(crate) fn new(options: &Options, waker: Waker) -> Self {
        Self {
            queues: Mutex::new(Queues {
                taken: Taken::default(),
                mail_bytes: 0,
                message_bytes: 0,
                closed: false,
            }),
            waker,
            ticked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            compact: AtomicBool::new(false),
            synced: AtomicU64::new(0),
            eager: AtomicBool::new(true),
            mail_max: options.mail_max,
            mail_bytes_max: options.mail_bytes_max,
            messages_max: options.peer_messages_max,
            message_bytes_max: options.peer_bytes_max,
        }
    }

    /// Asks for a turn.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// A turn begins.
    pub(crate) fn begin_turn(&self) {
        self.waker.begin();
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Puts a client's request in, or refuses it.
    pub(crate) fn mail(&self, mail: Mail<O>) -> Result<(), Error> {
        let bytes = if let Mail::Propose { data, .. } = &mail { data.len() } else { 0 };
        {
            let mut queues = self.queues.lock();
            if queues.closed {
                return Err(Error::Stopped);
            }
            if queues.taken.mail.len() >= self.mail_max || queues.mail_bytes + bytes > self.mail_bytes_max {
                return Err(crate::core::overloaded());
            }
            queues.mail_bytes += bytes;
            queues.taken.mail.push_back(mail);
        }
        self.wake();
        Ok(())
    }

    /// Puts peers' messages in; drops what doesn't fit.
    pub(crate) fn messages(&self, messages: impl Iterator<Item = GroupMessage>) {
        {
            let mut queues = self.queues.lock();
            if queues.closed {
                return;
            }
            for message in messages {
                let bytes = message.message.len();
                if queues.taken.messages.len() >= self.messages_max
                    || queues.message_bytes + bytes > self.message_bytes_max
                {
                    break;
                }
                queues.message_bytes += bytes;
                queues.taken.messages.push_back(message);
            }
        }
        self.wake();
    }

    /// Puts news in; gives them back if nobody will take them any more.
    pub(crate) fn news(&self, news: News) -> Result<(), Box<News>> {
        {
            let mut queues = self.queues.lock();
            if queues.closed {
                return Err(Box::new(news));
            }
            queues.taken.news.push_back(news);
        }
        self.wake();
        Ok(())
    }

    /// A snapshot arrived. One at a time: another one that waits already is the newer news.
    pub(crate) fn snapshot(&self, snapshot: IncomingSnapshot) -> Result<(), IncomingSnapshot> {
        {
            let mut queues = self.queues.lock();
            let waits = queues.taken.news.iter().any(|news| matches!(news, News::SnapshotArrived(_)));
            if queues.closed || waits {
                return Err(snapshot);
            }
            queues.taken.news.push_back(News::SnapshotArrived(snapshot));
        }
        self.wake();
        Ok(())
    }

    pub(crate) fn unreachable(&self, node: u32) {
        self.queues.lock().taken.unreachable.insert(node);
        self.wake();
    }

    pub(crate) fn ticked(&self) {
        self.ticked.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn request_compaction(&self) {
        self.compact.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn synced(&self, number: u64) {
        self.synced.fetch_max(number, Ordering::AcqRel);
        self.wake();
    }

    /// How many requests and messages wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let queues = self.queues.lock();
        (queues.taken.mail.len(), queues.taken.messages.len())
    }

    /// Takes all that waits.
    pub(crate) fn take(&self, into: &mut Taken<O>) {
        let mut queues = self.queues.lock();
        std::mem::swap(&mut queues.taken, into);
        queues.mail_bytes = 0;
        queues.message_bytes = 0;
    }

    /// Takes nothing any more.
    pub(crate) fn close(&self) {
        self.queues.lock().closed = true;
    }

    /// Whether a tick passed since this was last asked; several count as one.
    pub(crate) fn take_tick(&self) -> bool {
        self.ticked.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn take_compaction(&self) -> bool {
        self.compact.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(crate) fn synced_number(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }
}

/// Who waits until the state machine has applied an index.
pub(crate) struct Gate {
    applied: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    by_index: BTreeMap<u64, Vec<Reply<u64>>>,
    count: usize,
    closed: bool,
}

impl Gate {
    const WAITING_MAX: usize = 65_536;

    pub(crate) fn new(applied: u64) -> Self {
        Self { applied: AtomicU64::new(applied), waiting: Mutex::default() }
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Answers `reply` with `index` once that is applied.
    pub(crate) fn wait(&self, index: u64, reply: Reply<u64>) {
        if self.applied() >= index {
            let _ = reply.send(Ok(index));
            return;
        }
        let mut waiting = self.waiting.lock();
        // Again under the lock: `publish` stores before it takes the lock.
        let answer = if self.applied() >= index {
            Ok(index)
        } else if waiting.closed {
            Err(Error::Stopped)
        } else if waiting.count >= Self::WAITING_MAX {
            Err(crate::core::overloaded())
        } else {
            waiting.count += 1;
            waiting.by_index.entry(index).or_default().push(reply);
            return;
        };
        drop(waiting);
        let _ = reply.send(answer);
    }

    pub(crate) fn publish(&self, applied: u64) {
        self.applied.fetch_max(applied, Ordering::AcqRel);
        let passed = {
            let mut waiting = self.waiting.lock();
            if waiting.by_index.first_key_value().is_none_or(|(index, _)| *index > applied) {
                return;
            }
            let later = waiting.by_index.split_off(&(applied + 1));
            let passed = std::mem::replace(&mut waiting.by_index, later);
            waiting.count -= passed.values().map(Vec::len).sum::<usize>();
            passed
        };
        for (index, replies) in passed {
            for reply in replies {
                let _ = reply.send(Ok(index));
            }
        }
    }

    pub(crate) fn close(&self) {
        let left = {
            let mut waiting = self.waiting.lock();
            waiting.closed = true;
            waiting.count = 0;
            std::mem::take(&mut waiting.by_index)
        };
        for reply in left.into_values().flatten() {
            let _ = reply.send(Err(Error::Stopped));
        }
    }
}
