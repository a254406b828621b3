//! `IngestStream`: the protocol that `ingest.proto` describes, at work.
//!
//! One task carries a stream: it is driven by whoever reads the responses, and ends with them. What may go out and what
//! may be told is decided by [`Window`]; this loop takes messages, has items made ready and chunks carried
//! ([`intake::stream`](crate::intake::stream)), and watches for what ends a stream: the node's stop, a newer stream of
//! the same id, a key that is no longer in force, a shard that takes nothing for long. Then nothing goes out any more;
//! what is out is waited for a little and acknowledged, so that it needn't come again, and the status comes last.
//!
//! Memory: the items within the credits, as they are sent to their shards, and the results behind the first item that
//! has none; nothing grows with the age of a stream.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    future::BoxFuture,
    stream::{self, FuturesUnordered, Stream},
};
use isthmus_coordinator::View;
use isthmus_domain::{SourceView, Stamp};
use isthmus_proto::v1::{
    IngestStreamItems, IngestStreamOpen, IngestStreamRequest, IngestStreamResponse, ItemResult,
    ingest_stream_request::Message,
};
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, Streaming, metadata::MetadataMap};

use super::{
    super::{
        front,
        hub::Hub,
        status::{Refusal, status},
        value::{micros, timestamp},
    },
    key,
    open::Place,
};
use crate::intake::{
    self, PIECE, source,
    stream::{Carried, Made, Ready, Sequenced, carry, rest},
    window::{LANES, News, Violation, Window},
};

/// How long a client may take to say which stream it opens.
const OPEN: Duration = Duration::from_secs(10);
/// There is a response this often where there is nothing to tell.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long items of a lane may find no shard that takes them, until the client is sent elsewhere.
const STALLED: Duration = Duration::from_secs(15);
/// How long what is out is waited for when a stream has to end.
const DRAIN: Duration = Duration::from_secs(2);
/// When a client of a node that stops should go on elsewhere.
const ELSEWHERE: Duration = Duration::from_millis(100);
/// The longest id of a stream.
const ID_BYTES_MAX: usize = 64;
/// The largest first sequence: one can't count that far.
const SEQUENCE_MAX: u64 = 1 << 62;

/// The stream that a call answers with.
pub type Responses = Pin<Box<dyn Stream<Item = Result<IngestStreamResponse, Status>> + Send>>;

/// Where a call is.
enum Stage {
    Opening(Arc<Hub>, MetadataMap, Box<Streaming<IngestStreamRequest>>),
    Open(Box<Session>),
    Over,
}

/// Carries a stream for as long as its responses are read. The call is answered at once: a client may wait for that before
/// it says anything.
pub fn responses(hub: Arc<Hub>, request: Request<Streaming<IngestStreamRequest>>) -> Responses {
    let (metadata, _, messages) = request.into_parts();
    let next = |stage: Stage| async move {
        match stage {
            Stage::Opening(hub, metadata, messages) => match Session::open(hub, metadata, messages).await {
                Ok(session) => {
                    let first = session.response(session.window.stand());
                    Some((Ok(first), Stage::Open(Box::new(session))))
                }
                Err(status) => Some((Err(status), Stage::Over)),
            },
            Stage::Open(mut session) => match session.next().await? {
                Ok(response) => Some((Ok(response), Stage::Open(session))),
                Err(status) => Some((Err(status), Stage::Over)),
            },
            Stage::Over => None,
        }
    };
    Box::pin(stream::unfold(Stage::Opening(hub, metadata, Box::new(messages)), next))
}

/// What a stream waits for beside its client.
enum Event {
    Carried(Carried),
    Rested(usize),
}

/// A stream that is open.
struct Session {
    hub: Arc<Hub>,
    messages: Box<Streaming<IngestStreamRequest>>,
    /// The client has said that no more items come.
    ended: bool,
    view: watch::Receiver<Arc<View>>,
    key: Option<String>,
    named: String,
    source: SourceView,
    sequenced: Sequenced,
    window: Window<Box<Ready>, ItemResult>,
    under_way: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Since when items of each lane have found no shard that takes them.
    failing: [Option<Instant>; LANES],
    stamp: Option<Stamp>,
    /// When the next response is due at the latest.
    due: Instant,
    /// What the stream ends with, and when at the latest.
    ending: Option<(Status, Instant)>,
    stopping: CancellationToken,
    place: Place,
}

impl Session {
    /// Waits for the first message, and checks it.
    async fn open(
        hub: Arc<Hub>,
        metadata: MetadataMap,
        mut messages: Box<Streaming<IngestStreamRequest>>,
    ) -> Result<Self, Status> {
        let stopping = hub.ingest_streams.stopping();
        let first = tokio::select! {
            biased;
            () = stopping.cancelled() => return Err(stops().into()),
            first = timeout(OPEN, messages.next()) => first,
        };
        let not_open = |what: &str| {
            let message = format!("{what}: the first message has to be `open`");
            Refusal::new(Code::InvalidArgument, "STREAM_NOT_OPEN", message)
        };
        let open = match first {
            Ok(Some(Ok(IngestStreamRequest { message: Some(Message::Open(open)) }))) => open,
            Ok(Some(Ok(_))) => return Err(not_open("something else came first").into()),
            Ok(Some(Err(unread))) => return Err(in_our_words(unread)),
            Ok(None) => return Err(not_open("the stream ended before it was opened").into()),
            Err(_) => return Err(not_open("nothing came for long").into()),
        };
        let IngestStreamOpen { write_key, source: named, stream_id, first_sequence, received_until } = open;
        if !(1..=SEQUENCE_MAX).contains(&first_sequence) {
            let what = "has to be 1 in a new stream, else that of the first item that is not acknowledged";
            return Err(Refusal::field("INVALID_SEQUENCE", "open.first_sequence", what).into());
        }
        if !is_id(&stream_id) {
            let what = format!("has to be 1 to {ID_BYTES_MAX} of the characters A-Z a-z 0-9 . _ -");
            return Err(Refusal::field("INVALID_STREAM_ID", "open.stream_id", what).into());
        }
        let key = key(&metadata, &write_key)?;
        let view = match &key {
            Some(key) => {
                let deadline = Instant::now() + hub.deadline;
                hub.coordinator.view_for_key(key, deadline).await.map_err(|error| status(&error))?
            }
            None => hub.view(),
        };
        let source = source::of(&view, key.as_deref(), &named)?;
        let place = hub.ingest_streams.enter(&source.name, &stream_id)?;
        tracing::debug!(source = source.name, first_sequence, "an ingest stream begins");
        Ok(Self {
            messages,
            ended: false,
            view: hub.view.clone(),
            key,
            named,
            source,
            sequenced: Sequenced::new(stream_id, received_until.as_ref().map_or(0, micros)),
            window: Window::new(first_sequence, hub.ingest_streams.limits()),
            under_way: FuturesUnordered::new(),
            failing: [None; LANES],
            stamp: None,
            due: Instant::now() + PROGRESS,
            ending: None,
            stopping,
            place,
            hub,
        })
    }

    /// The next response; an error ends the stream, and nothing does when the client is done.
    async fn next(&mut self) -> Option<Result<IngestStreamResponse, Status>> {
        loop {
            while let Some(chunk) = self.window.start() {
                let (hub, source) = (self.hub.clone(), self.source.name.clone());
                self.under_way
                    .push(Box::pin(async move { Event::Carried(carry(&hub, &source, chunk).await) }));
            }
            if let Some(news) = self.window.news() {
                self.due = Instant::now() + PROGRESS;
                return Some(Ok(self.response(news)));
            }
            let drained_by = match self.ending.take() {
                Some((status, by)) if !self.window.is_busy() || Instant::now() >= by => {
                    return Some(Err(status));
                }
                Some((status, by)) => {
                    self.ending = Some((status, by));
                    Some(by)
                }
                None if self.ended && self.window.is_empty() => return None,
                None => None,
            };
            let goes_on = drained_by.is_none();
            tokio::select! {
                biased;
                () = self.stopping.cancelled(), if goes_on => self.end(stops().into()),
                () = self.place.superseded.cancelled(), if goes_on => self.end(superseded().into()),
                Some(event) = self.under_way.next() => match event {
                    Event::Carried(carried) => self.landed(carried),
                    Event::Rested(lane) => self.window.wake(lane),
                },
                changed = self.view.changed(), if goes_on => match changed {
                    Ok(()) => self.look_at_the_source(),
                    Err(_) => self.end(stops().into()),
                },
                message = self.messages.next(), if goes_on && !self.ended => match message {
                    Some(Ok(message)) => self.take(message).await,
                    Some(Err(unread)) => self.end(in_our_words(unread)),
                    None => self.ended = true,
                },
                () = sleep_until(drained_by.unwrap_or(self.due)) => {
                    if goes_on {
                        self.due = Instant::now() + PROGRESS;
                        return Some(Ok(self.response(self.window.stand())));
                    }
                }
            }
        }
    }

    /// Lets nothing go out any more, and ends the stream when what is out is back.
    fn end(&mut self, status: Status) {
        tracing::debug!(code = ?status.code(), "an ingest stream has to end");
        self.window.close();
        self.ending.get_or_insert((status, Instant::now() + DRAIN));
    }

    /// A key may have been rotated away, a source disabled or changed.
    fn look_at_the_source(&mut self) {
        let view = self.view.borrow_and_update().clone();
        match source::of(&view, self.key.as_deref(), &self.named) {
            Ok(source) => self.source = source,
            Err(refusal) => self.end(refusal.into()),
        }
    }

    async fn take(&mut self, request: IngestStreamRequest) {
        let taken = match request.message {
            Some(Message::Items(items)) => self.take_items(items).await,
            Some(Message::Open(_)) => {
                let message = "the stream is open: `open` comes once, and first";
                Err(Refusal::new(Code::InvalidArgument, "STREAM_OPEN_ALREADY", message))
            }
            None => {
                let message = "a message says nothing: send `items`";
                Err(Refusal::new(Code::InvalidArgument, "MALFORMED", message))
            }
        };
        if let Err(refusal) = taken {
            self.end(refusal.into());
        }
    }

    async fn take_items(&mut self, given: IngestStreamItems) -> Result<(), Refusal> {
        let IngestStreamItems { first_sequence, items, sent_at } = given;
        intake::check_count(items.len())?;
        let sizes: Vec<u64> = items.iter().map(|item| item.encoded_len() as u64).collect();
        // By the view of this moment, whatever it says of the source: that is looked at when it changes.
        let registry = self.hub.registries.of(&self.hub.view())?;
        self.window.receive(first_sequence, &sizes).map_err(violation)?;
        let sent_at = sent_at.as_ref().map(micros);
        for (place, (sequence, item)) in (first_sequence..).zip(items).enumerate() {
            let (hub, source) = (&self.hub, &self.source);
            match self.sequenced.make(hub, source, &registry, sent_at, (sequence, item)) {
                Made::Ready { lane, bytes, item } => self.window.place(sequence, lane, bytes, item),
                Made::Refused(result) => self.window.answer(sequence, result),
            }
            if place % PIECE == PIECE - 1 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn landed(&mut self, carried: Carried) {
        let Carried { lane, landings, stamp, trouble } = carried;
        self.stamp = self.stamp.max(stamp);
        self.window.land(lane, landings);
        let Some(failing) = self.failing.get_mut(lane) else { return };
        let Some((why, wait)) = trouble else {
            *failing = None;
            return;
        };
        if failing.get_or_insert_with(Instant::now).elapsed() >= STALLED {
            self.end(status(&why));
        }
        self.under_way.push(Box::pin(async move { Event::Rested(rest(lane, wait).await) }));
    }

    fn response(&self, news: News<ItemResult>) -> IngestStreamResponse {
        let received_until = Some(self.sequenced.received_until()).filter(|until| *until > 0);
        IngestStreamResponse {
            acknowledged: news.acknowledged,
            results: news.results,
            sequence_max: news.sequence_max,
            bytes_max: news.bytes_max,
            item_bytes_max: self.hub.ingest_streams.limits().item_bytes,
            version: self.stamp.map(|stamp| stamp.to_string()).unwrap_or_default(),
            received_until: received_until.map(timestamp),
        }
    }
}

fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

fn stops() -> Refusal {
    let message = "this node is stopping: go on at another from the first item that is not acknowledged";
    Refusal::new(Code::Unavailable, "UNAVAILABLE", message).retry_after(ELSEWHERE)
}

fn superseded() -> Refusal {
    let message = "a newer stream was opened under the same id, and goes on in this one's place";
    Refusal::new(Code::Aborted, "STREAM_SUPERSEDED", message)
}

/// A message that can't be read, or a connection that broke.
fn in_our_words(unread: Status) -> Status {
    front::refusal(&unread).map_or(unread, Status::from)
}

fn violation(violation: Violation) -> Refusal {
    let invalid =
        |reason: &'static str, message: String| Refusal::new(Code::InvalidArgument, reason, message);
    match violation {
        Violation::Gap { expected, given } => {
            let message = format!("the next item has to have the sequence {expected}, not {given}");
            invalid("SEQUENCE_GAP", message).with("expected", expected).with("given", given)
        }
        Violation::Items { sequence_max, given } => {
            let message = format!("items up to the sequence {sequence_max} might be sent, not up to {given}");
            invalid("CREDITS_EXCEEDED", message).with("sequence_max", sequence_max).with("given", given)
        }
        Violation::Bytes { bytes_max, given } => {
            let message = format!("{bytes_max} bytes of items might be sent in all, not {given}");
            invalid("CREDITS_EXCEEDED", message).with("bytes_max", bytes_max).with("given", given)
        }
        Violation::TooLarge { sequence, bytes, bytes_max } => {
            let message = format!(
                "item {sequence} has {bytes} bytes, and {bytes_max} is the most: leave it out, or make it smaller"
            );
            Refusal::new(Code::OutOfRange, "TOO_LARGE", message)
                .with("sequence", sequence)
                .with("item_bytes_max", bytes_max)
        }
    }
}
