//! The way of other shards' messages into the log: what waits goes into one command, whoever sent it.
//!
//! A few commands are in flight at a time; while they are, parcels gather, and the next command takes them all, up to its
//! size. With them goes what other shards have received of this one's messages, so that forgetting those costs no
//! command of its own as long as any come in; where none do, it has one after a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Future, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
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

/// What the queue needs of a group.
trait Log: Send + Sync + 'static {
    /// Appends a command; answered when it is applied.
    fn append(
        &self,
        command: Bytes,
        deadline: Instant,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send;

    /// Whether the replica leads.
    fn leads(&self) -> bool;
}

impl Log for GroupHandle<Outcome> {
    async fn append(&self, command: Bytes, deadline: Instant) -> Result<Outcome, Error> {
        Ok(self.propose(command, deadline).await?.outcome)
    }

    fn leads(&self) -> bool {
        self.leadership().1 == Role::Leader
    }
}

/// A handle to a shard's queue.
#[derive(Clone)]
pub(crate) struct InboxQueue {
    mail: mpsc::Sender<Waiting>,
    received: Arc<Received>,
}

impl InboxQueue {
    /// How many parcels wait.
    pub fn waiting(&self) -> usize {
        self.mail.max_capacity() - self.mail.capacity()
    }

    /// Starts the queue in front of a group.
    pub fn start(
        group: GroupHandle<Outcome>,
        clock: Arc<dyn Clock>,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self::before(group, clock, tracker, stop)
    }

    /// The same in front of any log.
    fn before(log: impl Log, clock: Arc<dyn Clock>, tracker: &TaskTracker, stop: CancellationToken) -> Self {
        let (mail, waiting) = mpsc::channel(WAITING_PARCELS);
        let queue = Self { mail, received: Arc::default() };
        let received = queue.received.clone();
        tracker.spawn(run(log, clock, waiting, received, stop));
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
    log: impl Log,
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
        in_flight.push(Box::pin(propose(&log, &*clock, parcels, &received)));
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

async fn propose(log: &impl Log, clock: &dyn Clock, waiting: Vec<Waiting>, received: &Received) {
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
    let answer = match log.append(Bytes::from(command.encode_to_vec()), deadline).await {
        Ok(Outcome::Exchanged(received, stamp)) => Ok((received, stamp)),
        Ok(_) => Err(Error::Invalid("the log answered a delivery with something else")),
        Err(error) => {
            // Whoever leads next sends the messages again, and hears how far they came.
            if log.leads() {
                received.add(through, brought);
                received.some.notify_one();
            }
            Err(error)
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

#[cfg(test)]
mod tests {
    use isthmus_domain::Stamp;
    use isthmus_proto::internal::v1::CourierMessage;
    use tokio::task::{JoinHandle, yield_now};

    use super::*;

    /// A command that waits for the test to let it be applied, or to refuse it.
    struct Appended {
        exchange: ExchangeCommand,
        stamp: u64,
        answer: oneshot::Sender<Result<Outcome, Error>>,
    }

    impl Appended {
        /// Every parcel is received in full.
        fn apply(self) {
            let through = |parcel: &DeliverCommand| parcel.first_sequence + parcel.messages.len() as u64 - 1;
            let received = self.exchange.parcels.iter().map(through).collect();
            self.answer.send(Ok(Outcome::Exchanged(received, Stamp(self.stamp)))).unwrap();
        }

        fn senders(&self) -> Vec<u64> {
            self.exchange.parcels.iter().map(|parcel| parcel.from_shard).collect()
        }
    }

    struct Gate(mpsc::UnboundedSender<Appended>);

    impl Log for Gate {
        async fn append(&self, command: Bytes, _: Instant) -> Result<Outcome, Error> {
            let ShardCommand { stamp, command } = ShardCommand::decode(command).unwrap();
            let Some(Command::Exchange(exchange)) = command else { panic!("{command:?}") };
            let (answer, applied) = oneshot::channel();
            self.0.send(Appended { exchange, stamp, answer }).unwrap();
            applied.await.unwrap()
        }

        fn leads(&self) -> bool {
            true
        }
    }

    struct Still;

    impl Clock for Still {
        fn now_micros(&self) -> i64 {
            1_000
        }
    }

    type Reply = JoinHandle<Result<DeliverReply, Error>>;

    struct Stage {
        queue: InboxQueue,
        log: mpsc::UnboundedReceiver<Appended>,
        _stop: tokio_util::sync::DropGuard,
    }

    impl Stage {
        fn new() -> Self {
            let (appended, log) = mpsc::unbounded_channel();
            let stop = CancellationToken::new();
            let clock = Arc::new(Still);
            let queue = InboxQueue::before(Gate(appended), clock, &TaskTracker::new(), stop.clone());
            Self { queue, log, _stop: stop.drop_guard() }
        }

        /// Another shard delivers two messages of so many bytes each, and the queue has taken them.
        async fn deliver(&self, from_shard: u64, bytes: usize) -> Reply {
            let body = isthmus_proto::internal::v1::IdentityMessage { to: vec![0; bytes].into(), body: None };
            let body = isthmus_proto::internal::v1::courier_message::Body::Identity(body);
            let message = CourierMessage { body: Some(body), ..CourierMessage::default() };
            let messages = vec![message.clone(), message];
            let parcel = DeliverCommand { from_shard, first_sequence: 10 * from_shard, messages };
            let queue = self.queue.clone();
            let deadline = Instant::now() + Duration::from_secs(60);
            let reply = TaskTracker::new().spawn(async move { queue.propose(parcel, deadline).await });
            for _ in 0..10 {
                yield_now().await;
            }
            reply
        }
    }

    async fn through(reply: Reply) -> u64 {
        reply.await.unwrap().unwrap().through_sequence
    }

    #[tokio::test(start_paused = true)]
    async fn parcels_that_come_while_commands_are_in_flight_share_the_next_one() {
        let mut stage = Stage::new();
        let mut replies = Vec::new();
        for shard in 1..=IN_FLIGHT as u64 + 3 {
            replies.push(stage.deliver(shard, 10).await);
        }
        let in_flight: Vec<Appended> = std::iter::from_fn(|| stage.log.try_recv().ok()).collect();
        assert_eq!(in_flight.len(), IN_FLIGHT, "no more than may be in flight, each with what there was");
        assert!(in_flight.iter().all(|command| command.exchange.parcels.len() == 1));
        in_flight.into_iter().for_each(Appended::apply);
        let next = stage.log.recv().await.unwrap();
        let first = IN_FLIGHT as u64 + 1;
        assert_eq!(next.senders(), [first, first + 1, first + 2]);
        next.apply();
        for (reply, shard) in replies.into_iter().zip(1..) {
            assert_eq!(through(reply).await, 10 * shard + 1, "each sender hears of its own stream");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_a_command_is_first_in_the_next_one() {
        let mut stage = Stage::new();
        let mut replies = Vec::new();
        for shard in 1..=IN_FLIGHT as u64 {
            replies.push(stage.deliver(shard, 10).await);
        }
        for shard in 100..103 {
            replies.push(stage.deliver(shard, COMMAND_BYTES / 5).await);
        }
        let mut seen = Vec::new();
        while seen.len() < IN_FLIGHT + 2 {
            let command = stage.log.recv().await.unwrap();
            seen.push(command.senders());
            command.apply();
        }
        assert_eq!(seen[IN_FLIGHT..], [vec![100, 101], vec![102]]);
        for reply in replies {
            through(reply).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_received_is_forgotten_with_the_next_messages_or_alone_after_a_while() {
        let mut stage = Stage::new();
        let told = |through_sequence, stamp| DeliverReply { through_sequence, stamp };
        stage.queue.forget(7, told(4, 9_000));
        stage.queue.forget(7, told(3, 8_000));
        let begin = Instant::now();
        let alone = stage.log.recv().await.unwrap();
        assert!(begin.elapsed() >= FORGET_AFTER);
        let trim = |command: &Appended| {
            command.exchange.trims.iter().map(|t| (t.to_shard, t.through_sequence)).collect::<Vec<_>>()
        };
        assert_eq!((trim(&alone), alone.stamp), (vec![(7, 4)], 9_000), "the stamp is above what was brought");
        // Refused: it goes with the next messages.
        alone.answer.send(Err(Error::OutcomeUnknown)).unwrap();
        let reply = stage.deliver(1, 10).await;
        let both = stage.log.recv().await.unwrap();
        assert_eq!((both.senders(), trim(&both)), (vec![1], vec![(7, 4)]));
        both.apply();
        through(reply).await;
        // And then it is forgotten.
        let reply = stage.deliver(2, 10).await;
        let next = stage.log.recv().await.unwrap();
        assert_eq!(trim(&next), vec![]);
        next.answer.send(Err(Error::OutcomeUnknown)).unwrap();
        assert!(matches!(reply.await.unwrap(), Err(Error::OutcomeUnknown)), "whoever waits hears of it");
    }
}
