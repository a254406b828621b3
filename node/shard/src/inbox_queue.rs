//! The way of other shards' messages into the log: what waits goes into one command, whoever sent it.
//!
//! A few commands are in flight at a time; while they are, parcels gather, and the next command takes them all, up to its
//! size. With them goes what other shards have received of this one's messages, so that forgetting those costs no
//! command of its own as long as any come in; where none do, it has one after a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use isthmus_proto::internal::v1::{
    DeliverCommand, DeliverReply, ExchangeCommand, ShardCommand, TrimCommand, shard_command::Command,
};
use isthmus_raft::{GroupHandle, Role};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Clock, Error, apply::Outcome, ingest_queue::COMMAND_BYTES};

/// Commands in flight: one on its way to the disks, the next one behind it. More would only make commands smaller.
const IN_FLIGHT: usize = 2;
/// Parcels that may wait: each other shard has one under way at a time, and may have sent it again.
const WAITING_PARCELS: usize = 4_096;
/// How long what is to be forgotten waits for messages to go with.
const FORGET_AFTER: Duration = Duration::from_millis(100);
/// How long a command may be under way that only forgets.
const FORGET_TIMEOUT: Duration = Duration::from_secs(5);

struct Waiting {
    parcel: DeliverCommand,
    bytes: usize,
    deadline: Instant,
    reply: oneshot::Sender<Result<DeliverReply, Error>>,
}

/// How far other shards have received this one's streams, where it is not forgotten yet.
#[derive(Default)]
struct Received {
    /// By shard, and the largest stamp that came with any of it.
    through: Mutex<(BTreeMap<u64, u64>, u64)>,
    some: Notify,
}

/// A handle to a shard's queue.
#[derive(Clone)]
pub(crate) struct InboxQueue {
    mail: mpsc::Sender<Waiting>,
    received: Arc<Received>,
}

impl InboxQueue {
    /// Starts the queue in front of a group.
    pub fn start(
        group: GroupHandle<Outcome>,
        clock: Arc<dyn Clock>,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (mail, waiting) = mpsc::channel(WAITING_PARCELS);
        let queue = Self { mail, received: Arc::default() };
        let received = queue.received.clone();
        tracker.spawn(run(group, clock, waiting, received, stop));
        queue
    }

    /// Proposes a parcel; answered when it is applied.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when too many wait; else as a proposal.
    pub async fn propose(&self, parcel: DeliverCommand, deadline: Instant) -> Result<DeliverReply, Error> {
        let (reply, answer) = oneshot::channel();
        let bytes = parcel.encoded_len();
        self.mail.try_send(Waiting { parcel, bytes, deadline, reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded { retry_after: FORGET_AFTER },
            mpsc::error::TrySendError::Closed(_) => Error::Unavailable("the replica is stopping".into()),
        })?;
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::OutcomeUnknown),
        }
    }

    /// Has messages forgotten that another shard has received, with the next command or soon.
    pub fn forget(&self, to_shard: u64, reply: DeliverReply) {
        self.received.add([(to_shard, reply.through_sequence)], reply.stamp);
        self.received.some.notify_one();
    }
}

impl Received {
    fn add(&self, through: impl IntoIterator<Item = (u64, u64)>, stamp: u64) {
        let mut known = self.through.lock();
        for (shard, through) in through {
            let known = known.0.entry(shard).or_default();
            *known = through.max(*known);
        }
        known.1 = known.1.max(stamp);
    }

    fn take(&self) -> (BTreeMap<u64, u64>, u64) {
        std::mem::take(&mut *self.through.lock())
    }

    fn is_empty(&self) -> bool {
        self.through.lock().0.is_empty()
    }
}

async fn run(
    group: GroupHandle<Outcome>,
    clock: Arc<dyn Clock>,
    mut mail: mpsc::Receiver<Waiting>,
    received: Arc<Received>,
    stop: CancellationToken,
) {
    let mut in_flight: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    // Parcels that did not fit the last command: first in the next one.
    let mut held: VecDeque<Waiting> = VecDeque::new();
    // When to forget without messages to go with.
    let mut due: Option<Instant> = None;
    loop {
        let room = in_flight.len() < IN_FLIGHT;
        let mut parcels = Vec::new();
        match held.pop_front_if(|_| room) {
            Some(first) => parcels.push(first),
            None => tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(()) = in_flight.next(), if !in_flight.is_empty() => continue,
                first = mail.recv(), if room => match first {
                    Some(first) => parcels.push(first),
                    None => break,
                },
                () = received.some.notified(), if due.is_none() => {
                    due = Some(Instant::now() + FORGET_AFTER);
                    continue;
                }
                () = sleep_until(due), if room && due.is_some() => {}
            },
        }
        due = None;
        let mut size: usize = parcels.iter().map(|parcel| parcel.bytes).sum();
        while !parcels.is_empty()
            && let Some(next) = held.pop_front().or_else(|| mail.try_recv().ok())
        {
            if size + next.bytes > COMMAND_BYTES {
                held.push_front(next);
                break;
            }
            size += next.bytes;
            parcels.push(next);
        }
        if parcels.is_empty() && received.is_empty() {
            continue;
        }
        in_flight.push(Box::pin(propose(&group, &*clock, parcels, &received)));
    }
    // What is in flight is answered by the group, which stops too; what waits was not proposed.
    while in_flight.next().await.is_some() {}
    mail.close();
    for waiting in held.into_iter().chain(std::iter::from_fn(|| mail.try_recv().ok())) {
        let _gone = waiting.reply.send(Err(Error::Unavailable("the replica is stopping".into())));
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn propose(
    group: &GroupHandle<Outcome>,
    clock: &dyn Clock,
    waiting: Vec<Waiting>,
    received: &Received,
) {
    let deadline = waiting.iter().map(|waiting| waiting.deadline).max();
    let deadline = deadline.unwrap_or_else(|| Instant::now() + FORGET_TIMEOUT);
    let (parcels, replies): (Vec<_>, Vec<_>) =
        waiting.into_iter().map(|waiting| (waiting.parcel, waiting.reply)).unzip();
    let (through, brought) = received.take();
    let trims = through.iter();
    let trims = trims.map(|(shard, through)| TrimCommand { to_shard: *shard, through_sequence: *through });
    let exchange = ExchangeCommand { trims: trims.collect(), parcels };
    let stamp = clock.now_micros().max(0).cast_unsigned().max(brought);
    let command = ShardCommand { stamp, command: Some(Command::Exchange(exchange)) };
    let answer = match group.propose(Bytes::from(command.encode_to_vec()), deadline).await {
        Ok(proposed) => match proposed.outcome {
            Outcome::Exchanged(received, stamp) => Ok((received, stamp)),
            _ => Err(Error::Invalid("the log answered a delivery with something else")),
        },
        Err(error) => {
            // Whoever leads next sends the messages again, and hears how far they came.
            if group.leadership().1 == Role::Leader {
                received.add(through, brought);
                received.some.notify_one();
            }
            Err(Error::from(error))
        }
    };
    match answer {
        Ok((received, stamp)) => {
            for (through_sequence, reply) in received.into_iter().zip(replies) {
                let _gone = reply.send(Ok(DeliverReply { through_sequence, stamp: stamp.0 }));
            }
        }
        Err(error) => {
            for reply in replies {
                let _gone = reply.send(Err(error.clone()));
            }
        }
    }
}
