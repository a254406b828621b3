//! The task of a writer: one stream at a time, from the first event until the last handle is gone.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::stream;
use prost_types::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::{Request, Status, Streaming};

use super::{
    Flushed, IngestWriterBuilder, Mail, PROBLEMS_MAX, Sent, Shared,
    queue::{BatchLimits, Queue, Told},
    stream_id,
};
use crate::{
    Error, Refusal,
    client::{ANSWER_BYTES_MAX, random_id},
    endpoint::Lease,
    proto::{
        IngestStreamItems, IngestStreamOpen, IngestStreamRequest, IngestStreamResponse, ItemOutcome,
        ingest_service_client::IngestServiceClient, ingest_stream_request::Message,
    },
    retry::{self, Ending, Kind, Verdict},
};

/// The hub says something every few seconds: a stream that is silent for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long a node that ended a stream is left alone.
const PAUSE: Duration = Duration::from_millis(500);
/// Messages between this task and the connection.
const MESSAGES: usize = 2;
/// Events that are taken at once before anything else is looked at.
const TAKE_MAX: usize = 1_024;

/// Why a stream ended.
struct Broken {
    ending: Ending,
    status: Status,
}

impl Broken {
    fn of(status: Status) -> Self {
        Self { ending: retry::ending_of(&status), status }
    }

    fn silent() -> Self {
        Self { ending: Ending::TimedOut, status: Status::deadline_exceeded("the node said nothing for long") }
    }
}

/// What ends a stream, or the writer.
enum Failed {
    /// The stream: it may go on elsewhere.
    Stream(Broken),
    /// The writer: nothing helps.
    Writer(Error),
}

/// What an open stream waits for.
enum News {
    Heard(Result<Option<IngestStreamResponse>, Status>),
    Silence,
    Mail(Option<Mail>),
}

/// A stream that is open.
struct Open {
    requests: mpsc::Sender<IngestStreamRequest>,
    responses: Box<Streaming<IngestStreamResponse>>,
    lease: Lease,
    /// When the node has to have said something.
    silent_at: Instant,
}

struct Run {
    options: IngestWriterBuilder,
    shared: Arc<Shared>,
    mail: mpsc::UnboundedReceiver<Mail>,
    /// No more mail will come.
    closing: bool,
    stream_id: String,
    request_id: String,
    queue: Queue<Sent>,
    open: Option<Open>,
    /// When what is not sent has to be: linger after the first of it came.
    due: Option<Instant>,
    /// The last sequence that was ever sent.
    sent_until: u64,
    received_until: Option<Timestamp>,
    flushed: Flushed,
    /// Who waits until the event of a sequence is acknowledged; rising.
    flushes: VecDeque<(u64, oneshot::Sender<Result<Flushed, Error>>)>,
    /// Since when streams have failed without anything being acknowledged.
    failing: Option<Instant>,
    tries: u32,
}

/// Starts the task.
#[expect(clippy::disallowed_methods, reason = "the task ends with the writer's handles, or its runtime")]
pub(super) fn spawn(options: IngestWriterBuilder, shared: Arc<Shared>, mail: mpsc::UnboundedReceiver<Mail>) {
    let run = Run {
        options,
        shared,
        mail,
        closing: false,
        stream_id: stream_id(),
        request_id: random_id(),
        queue: Queue::new(),
        open: None,
        due: None,
        sent_until: 0,
        received_until: None,
        flushed: Flushed::default(),
        flushes: VecDeque::new(),
        failing: None,
        tries: 0,
    };
    tokio::spawn(run.run());
}

impl Run {
    async fn run(mut self) {
        loop {
            self.answer_flushes();
            if self.closing && self.queue.is_empty() {
                break;
            }
            let went = match (&self.open, self.queue.is_empty()) {
                (None, true) => {
                    let mail = self.mail.recv().await;
                    self.take(mail);
                    continue;
                }
                (None, false) => self.open().await,
                (Some(_), _) => self.step().await,
            };
            let error = match went {
                Ok(()) => continue,
                Err(Failed::Writer(error)) => Some(error),
                Err(Failed::Stream(broken)) => self.pause(broken).await,
            };
            if let Some(error) = error {
                return self.give_up(&error);
            }
        }
        // Whoever still has a handle is told that it is closed.
        self.shared.items.close();
        self.shared.bytes.close();
    }

    /// Takes what came, and what else is there.
    fn take(&mut self, mut mail: Option<Mail>) {
        for left in (0..TAKE_MAX).rev() {
            match mail {
                Some(Mail::Send(sent)) => {
                    let bytes = u64::from(sent.bytes);
                    self.due.get_or_insert_with(|| Instant::now() + self.options.linger);
                    self.queue.push(*sent, bytes);
                }
                Some(Mail::Flush { last: false, reply }) => {
                    self.flushes.push_back((self.queue.last_sequence(), reply));
                }
                Some(Mail::Flush { last: true, reply }) => {
                    // What was taken before is still to come; nothing else is taken.
                    self.mail.close();
                    self.shared.items.close();
                    self.shared.bytes.close();
                    self.flushes.push_back((u64::MAX, reply));
                }
                None => {
                    self.closing = true;
                    return;
                }
            }
            // What isn't handled now stays in the mailbox: taken out of it, it would be lost.
            if left == 0 {
                return;
            }
            match self.mail.try_recv() {
                Ok(next) => mail = Some(next),
                Err(_) => return,
            }
        }
    }

    fn answer_flushes(&mut self) {
        let done = |until: u64| match until {
            u64::MAX => self.closing && self.queue.is_empty(),
            until => until < self.queue.first_sequence(),
        };
        let count = self.flushes.iter().take_while(|(until, _)| done(*until)).count();
        for (_, reply) in self.flushes.drain(..count) {
            let rest = Flushed { version: self.flushed.version.clone(), ..Flushed::default() };
            let _gone = reply.send(Ok(std::mem::replace(&mut self.flushed, rest)));
        }
    }

    /// Opens a stream at the least busy node, from the first event that is not acknowledged.
    async fn open(&mut self) -> Result<(), Failed> {
        let client = &self.options.client;
        let lease = client.lease();
        self.request_id = random_id();
        let (requests, mut messages) = mpsc::channel(MESSAGES);
        let open = IngestStreamOpen {
            write_key: client.write_key.as_deref().unwrap_or_default().to_owned(),
            source: client.source.as_deref().unwrap_or_default().to_owned(),
            stream_id: self.stream_id.clone(),
            first_sequence: self.queue.first_sequence(),
            received_until: self.received_until,
        };
        // There is room in a channel that was just made.
        let _sent = requests.try_send(IngestStreamRequest { message: Some(Message::Open(open)) });
        let mut call = Request::new(stream::poll_fn(move |context| messages.poll_recv(context)));
        if let Ok(value) = self.request_id.parse() {
            call.metadata_mut().insert("x-request-id", value);
        }
        let mut service =
            IngestServiceClient::new(lease.channel()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let begun = timeout(client.try_limit(), service.ingest_stream(call)).await;
        let broken = match begun {
            Ok(Ok(responses)) => {
                self.queue.opened();
                let silent_at = Instant::now() + client.try_limit();
                let responses = Box::new(responses.into_inner());
                self.open = Some(Open { requests, responses, lease, silent_at });
                if self.sent_until >= self.queue.first_sequence() {
                    // What comes again has waited long enough.
                    self.due = Some(Instant::now());
                }
                return Ok(());
            }
            Ok(Err(status)) => Broken::of(status),
            Err(_) => Broken::silent(),
        };
        lease.is_down(PAUSE);
        Err(Failed::Stream(broken))
    }

    /// Waits for what is next, and does it.
    async fn step(&mut self) -> Result<(), Failed> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let limits = BatchLimits { items: self.options.batch_items, bytes: self.options.batch_bytes as u64 };
        let sendable = self.queue.sendable(limits);
        let (items, bytes) = self.queue.unsent();
        let due = self.due.unwrap_or_else(Instant::now);
        let full = items >= limits.items || bytes >= limits.bytes;
        let now = full || self.closing || !self.flushes.is_empty() || due <= Instant::now();
        let news = tokio::select! {
            biased;
            response = open.responses.message() => News::Heard(response),
            () = sleep_until(open.silent_at) => News::Silence,
            room = open.requests.reserve(), if sendable > 0 && now => match room {
                Ok(room) => {
                    let (first_sequence, items) = self.queue.send(sendable);
                    let items = items.map(|sent| sent.item.clone()).collect();
                    self.sent_until = self.sent_until.max(first_sequence - 1 + sendable as u64);
                    let items = IngestStreamItems { first_sequence, items, sent_at: None };
                    room.send(IngestStreamRequest { message: Some(Message::Items(items)) });
                    if self.queue.unsent().0 == 0 {
                        self.due = None;
                    }
                    return Ok(());
                }
                // The connection takes nothing more: what it has to say comes as a response.
                Err(_) => News::Heard(open.responses.message().await),
            },
            mail = self.mail.recv(), if !self.closing => News::Mail(mail),
            () = sleep_until(due), if sendable > 0 && !now => return Ok(()),
        };
        let broken = match news {
            News::Mail(mail) => {
                self.take(mail);
                return Ok(());
            }
            News::Heard(Ok(Some(response))) => return self.told(response),
            News::Heard(Ok(None)) => Broken::of(Status::unavailable("the node ended the stream")),
            News::Heard(Err(status)) => Broken::of(status),
            News::Silence => Broken::silent(),
        };
        open.lease.is_down(PAUSE);
        Err(Failed::Stream(broken))
    }

    fn told(&mut self, response: IngestStreamResponse) -> Result<(), Failed> {
        let IngestStreamResponse {
            acknowledged,
            results,
            sequence_max,
            bytes_max,
            version,
            received_until,
            ..
        } = response;
        let told = Told { acknowledged, results: results.len(), sequence_max, bytes_max };
        let acknowledged = self.queue.told(told).map_err(|what| Failed::Writer(Error::BadAnswer(what)))?;
        if let Some(open) = &mut self.open {
            open.lease.is_up();
            open.silent_at = Instant::now() + SILENCE_MAX;
        }
        let later = |time: &Timestamp| (time.seconds, time.nanos);
        self.received_until = self.received_until.into_iter().chain(received_until).max_by_key(later);
        // Tokens compare as text.
        self.flushed.version =
            self.flushed.version.take().max(Some(version).filter(|version| !version.is_empty()));
        if acknowledged.is_empty() {
            return Ok(());
        }
        (self.failing, self.tries) = (None, 0);
        let bytes: usize = acknowledged.iter().map(|sent| sent.bytes as usize).sum();
        self.shared.items.add_permits(acknowledged.len());
        self.shared.bytes.add_permits(bytes);
        for (sent, result) in acknowledged.into_iter().zip(results) {
            self.flushed.counts.note(&result);
            let stored = matches!(result.outcome(), ItemOutcome::Accepted | ItemOutcome::Duplicate);
            if !stored && self.flushed.problems.len() < PROBLEMS_MAX {
                self.flushed.problems.push(result.clone());
            }
            let _unwanted = sent.receipt.send(Ok(result));
        }
        Ok(())
    }

    /// After a stream has ended: waits, or says why it is of no use.
    async fn pause(&mut self, broken: Broken) -> Option<Error> {
        let Broken { ending, status } = broken;
        self.open = None;
        if self.queue.is_empty() {
            // Nothing is lost, and nothing presses: the next event opens a stream, and learns what there is to learn.
            return None;
        }
        let refusal = Refusal::of(&status, &self.request_id);
        tracing::debug!(request_id = self.request_id, ?ending, code = ?refusal.code, "an ingest stream broke off");
        let asked = match retry::verdict(Kind::RepeatableWrite, ending, &refusal) {
            Verdict::Stop => return Some(Error::Refused(Box::new(refusal))),
            Verdict::Elsewhere => None,
            Verdict::Later(asked) => asked,
        };
        let since = *self.failing.get_or_insert_with(Instant::now);
        self.tries = self.tries.saturating_add(1);
        let wait = retry::wait(self.tries, asked, rand::random());
        if since.elapsed() + wait > self.options.patience {
            return Some(match ending {
                Ending::NotSent => Error::Unreachable(refusal.message),
                Ending::Answered => Error::Refused(Box::new(refusal)),
                Ending::Broken | Ending::TimedOut => Error::OutcomeUnknown(refusal.message),
            });
        }
        sleep(wait).await;
        None
    }

    /// Goes on no longer: leaves what was not acknowledged behind, and tells everybody.
    fn give_up(mut self, error: &Error) {
        let unknown = Error::OutcomeUnknown(format!("the writer gave up before it was answered: {error}"));
        let (mut receipts, mut flushes) = (Vec::new(), self.flushes);
        {
            // Held until it is filled: whoever hears of the error may ask for what is left.
            let mut left = self.shared.left.lock().unwrap_or_else(PoisonError::into_inner);
            let _first = self.shared.failure.set(error.clone());
            self.shared.items.close();
            self.shared.bytes.close();
            self.mail.close();
            let first = self.queue.first_sequence();
            for (sequence, sent) in (first..).zip(self.queue.give_up()) {
                receipts.push((sent.receipt, if sequence <= self.sent_until { &unknown } else { error }));
                left.push(sent.item);
            }
            while let Ok(mail) = self.mail.try_recv() {
                match mail {
                    Mail::Send(sent) => {
                        receipts.push((sent.receipt, error));
                        left.push(sent.item);
                    }
                    Mail::Flush { reply, .. } => flushes.push_back((0, reply)),
                }
            }
        }
        for (receipt, why) in receipts {
            let _unwanted = receipt.send(Err(why.clone()));
        }
        for (_, reply) in flushes {
            let _gone = reply.send(Err(error.clone()));
        }
    }
}
