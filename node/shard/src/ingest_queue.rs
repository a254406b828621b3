//! The way of items into the log: what waits goes into one command, with no timer.
//!
//! A few commands are in flight at a time; while they are, callers' items gather, and the next command takes them
//! all, up to its size. So a single caller waits for no one, and many callers share the cost of a command.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use isthmus_proto::internal::v1::{
    CommandItem, IngestCommand, IngestReply, ItemReason, ShardCommand, shard_command::Command,
};
use isthmus_raft::GroupHandle;
use prost::Message as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, Span};

use crate::{
    Clock, Error,
    apply::{Ingested, Outcome},
    waits::Awaited,
};

/// Bytes of items in one command: large enough to pay for a round, small enough for rounds to stay short.
pub(crate) const COMMAND_BYTES: usize = 256 << 10;
/// Items in one command.
const COMMAND_ITEMS: usize = 2_500;
/// Commands in flight: one on its way to the disks, the next one behind it. More would only make commands smaller.
const IN_FLIGHT: usize = 2;
/// Bytes of items that may wait in front of a shard.
const WAITING_BYTES: usize = 16 << 20;
/// Callers that may wait in front of a shard.
const WAITING_CALLS: usize = 8_192;
/// When a caller that was refused should come back.
const RETRY_AFTER: Duration = Duration::from_millis(50);

struct Waiting {
    items: Vec<CommandItem>,
    bytes: usize,
    deadline: Instant,
    reply: oneshot::Sender<Result<Taken, Error>>,
    trail: Trail,
}

/// Where a caller's time goes, if its trace is recorded.
struct Trail {
    /// The caller's span; none where nothing is recorded.
    caller: Span,
    /// Lasts until it is proposed.
    _queue: Span,
}

impl Trail {
    fn begin() -> Self {
        let queue = tracing::debug_span!("shard.queue");
        let caller = if queue.is_disabled() { Span::none() } else { Span::current() };
        Self { caller, _queue: queue }
    }
}

/// What became of a caller's items.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Taken {
    /// The answer, once nothing is open.
    pub reply: IngestReply,
    /// What is not done yet, by the index of the item that waits for it.
    pub open: Vec<(u32, Awaited)>,
}

/// A handle to a shard's queue.
#[derive(Clone)]
pub(crate) struct IngestQueue {
    mail: mpsc::Sender<Waiting>,
    bytes: Arc<AtomicUsize>,
}

impl IngestQueue {
    /// Starts the queue in front of a group.
    pub fn start(
        group: GroupHandle<Outcome>,
        clock: Arc<dyn Clock>,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (mail, waiting) = mpsc::channel(WAITING_CALLS);
        let bytes = Arc::new(AtomicUsize::new(0));
        let send = move |batch: Vec<Waiting>| -> BoxFuture<'static, ()> {
            let stamp = clock.now_micros().max(0).cast_unsigned();
            Box::pin(propose(group.clone(), stamp, batch))
        };
        tracker.spawn(run(send, waiting, bytes.clone(), stop));
        Self { mail, bytes }
    }

    /// How many callers wait, and the bytes of their items.
    pub fn waiting(&self) -> (usize, usize) {
        (self.mail.max_capacity() - self.mail.capacity(), self.bytes.load(Relaxed))
    }

    /// Proposes items, at most [`COMMAND_BYTES`] unless it is one. Answered when they are applied.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when too much waits; else as a proposal.
    pub async fn propose(&self, items: Vec<CommandItem>, deadline: Instant) -> Result<Taken, Error> {
        let bytes: usize = items.iter().map(prost::Message::encoded_len).sum();
        if self.bytes.fetch_add(bytes, Relaxed) > WAITING_BYTES {
            self.bytes.fetch_sub(bytes, Relaxed);
            return Err(Error::Overloaded { retry_after: RETRY_AFTER });
        }
        let (reply, answer) = oneshot::channel();
        if let Err(refused) =
            self.mail.try_send(Waiting { items, bytes, deadline, reply, trail: Trail::begin() })
        {
            self.bytes.fetch_sub(bytes, Relaxed);
            return Err(match refused {
                mpsc::error::TrySendError::Full(_) => Error::Overloaded { retry_after: RETRY_AFTER },
                mpsc::error::TrySendError::Closed(_) => Error::Unavailable("the replica is stopping".into()),
            });
        }
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::OutcomeUnknown),
        }
    }
}

/// Gathers what waits into batches and has them proposed, a few at a time.
async fn run(
    send: impl Fn(Vec<Waiting>) -> BoxFuture<'static, ()>,
    mut mail: mpsc::Receiver<Waiting>,
    bytes: Arc<AtomicUsize>,
    stop: CancellationToken,
) {
    let mut in_flight: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    // A caller whose items did not fit the last batch: first in the next one.
    let mut held: Option<Waiting> = None;
    loop {
        let room = in_flight.len() < IN_FLIGHT;
        let first = match held.take_if(|_| room) {
            Some(first) => first,
            None => tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(()) = in_flight.next(), if !in_flight.is_empty() => continue,
                first = mail.recv(), if room => match first {
                    Some(first) => first,
                    None => break,
                },
            },
        };
        let (mut size, mut items) = (first.bytes, first.items.len());
        let mut batch = vec![first];
        while let Ok(next) = mail.try_recv() {
            if size + next.bytes > COMMAND_BYTES || items + next.items.len() > COMMAND_ITEMS {
                held = Some(next);
                break;
            }
            size += next.bytes;
            items += next.items.len();
            batch.push(next);
        }
        bytes.fetch_sub(size, Relaxed);
        in_flight.push(send(batch));
    }
    // What is in flight is answered by the group, which stops too; what waits was not proposed.
    while in_flight.next().await.is_some() {}
    mail.close();
    for waiting in held.into_iter().chain(std::iter::from_fn(|| mail.try_recv().ok())) {
        let _gone = waiting.reply.send(Err(Error::Unavailable("the replica is stopping".into())));
    }
}

async fn propose(group: GroupHandle<Outcome>, stamp: u64, batch: Vec<Waiting>) {
    let Some(deadline) = batch.iter().map(|waiting| waiting.deadline).max() else { return };
    let mut items = Vec::with_capacity(batch.iter().map(|waiting| waiting.items.len()).sum());
    let mut callers = Vec::with_capacity(batch.len());
    let span = command_span(&batch);
    for waiting in batch {
        callers.push((waiting.items.len(), waiting.reply));
        items.extend(waiting.items);
    }
    let command = ShardCommand { stamp, command: Some(Command::Ingest(IngestCommand { items })) };
    let data = Bytes::from(command.encode_to_vec());
    match group.propose(data, deadline).instrument(span).await.map(|proposed| proposed.outcome) {
        Ok(Outcome::Ingested(ingested)) => answer(&ingested, callers),
        Ok(_) => callers.into_iter().for_each(|(_, reply)| {
            let _gone =
                reply.send(Err(Error::Invalid("the log answered an ingest command with something else")));
        }),
        Err(error) => {
            let error = Error::from(error);
            for (_, reply) in callers {
                let _gone = reply.send(Err(error.clone()));
            }
        }
    }
}

/// The span of a command: of the trace of the first caller that has one. The others that share the command are linked.
fn command_span(batch: &[Waiting]) -> Span {
    let mut traced = batch.iter().map(|waiting| &waiting.trail.caller).filter(|caller| !caller.is_none());
    let Some(first) = traced.next() else { return Span::none() };
    let items: usize = batch.iter().map(|waiting| waiting.items.len()).sum();
    let span = first.in_scope(|| tracing::debug_span!("shard.command", callers = batch.len(), items));
    for other in traced {
        other.follows_from(&span);
    }
    span
}

/// Gives each caller the part of the outcome that is of its items.
fn answer(ingested: &Ingested, callers: Vec<(usize, oneshot::Sender<Result<Taken, Error>>)>) {
    let mut from = 0;
    let mut open = ingested.open.iter().peekable();
    let mut reasons = ingested.reasons.iter().peekable();
    for (count, reply) in callers {
        let to = from + count;
        let mut own = Vec::new();
        while let Some((index, reason)) = reasons.next_if(|(index, _)| (*index as usize) < to) {
            let index = u32::try_from(*index as usize - from).unwrap_or(u32::MAX);
            own.push(ItemReason { index, reason: reason.clone() });
        }
        let mut own_open = Vec::new();
        while let Some((index, row)) = open.next_if(|(index, _)| (*index as usize) < to) {
            own_open.push((u32::try_from(*index as usize - from).unwrap_or(u32::MAX), *row));
        }
        let outcomes = ingested.outcomes.get(from..to).unwrap_or_default();
        let answer = IngestReply {
            stamp: ingested.stamp.0,
            outcomes: Bytes::copy_from_slice(outcomes),
            reasons: own,
            shard_map_version: ingested.shard_map_version,
        };
        let _gone = reply.send(Ok(Taken { reply: answer, open: own_open }));
        from = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_caller_whose_items_do_not_fit_a_command_waits_for_the_next_one() {
        let (mail, waiting) = mpsc::channel(64);
        let bytes = Arc::new(AtomicUsize::new(0));
        let mut answers = Vec::new();
        for _ in 0..40 {
            let (reply, answer) = oneshot::channel();
            bytes.fetch_add(COMMAND_BYTES / 2 + 1, Relaxed);
            let (items, deadline) = (vec![CommandItem::default()], Instant::now() + Duration::from_secs(60));
            let trail = Trail::begin();
            mail.try_send(Waiting { items, bytes: COMMAND_BYTES / 2 + 1, deadline, reply, trail }).unwrap();
            answers.push(answer);
        }
        drop(mail);
        let send = |batch: Vec<Waiting>| -> BoxFuture<'static, ()> {
            assert_eq!(batch.len(), 1, "two of them are over the size of a command");
            Box::pin(async move {
                // Others become ready meanwhile, and find the flight full.
                tokio::task::yield_now().await;
                for waiting in batch {
                    let _gone = waiting.reply.send(Ok(Taken::default()));
                }
            })
        };
        run(send, waiting, bytes.clone(), CancellationToken::new()).await;
        for answer in answers {
            assert_eq!(answer.await, Ok(Ok(Taken::default())));
        }
        assert_eq!(bytes.load(Relaxed), 0);
    }

    #[test]
    fn each_caller_gets_the_outcomes_and_reasons_of_its_own_items() {
        let ingested = Ingested {
            outcomes: vec![1, 3, 2, 3, 1],
            reasons: vec![(1, "A".into()), (3, "B".into())],
            ..Ingested::default()
        };
        let (first, mut one) = oneshot::channel();
        let (second, mut two) = oneshot::channel();
        answer(&ingested, vec![(2, first), (3, second)]);
        let (one, two) = (one.try_recv().unwrap().unwrap().reply, two.try_recv().unwrap().unwrap().reply);
        assert_eq!((&one.outcomes[..], &two.outcomes[..]), (&[1, 3][..], &[2, 3, 1][..]));
        assert_eq!((one.reasons[0].index, one.reasons[0].reason.as_str()), (1, "A"));
        assert_eq!((two.reasons[0].index, two.reasons[0].reason.as_str()), (1, "B"));
    }
}
