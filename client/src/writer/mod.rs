//! Sending events as they come: a writer takes them one by one, and carries them to the hub in the background.
//!
//! # What it promises
//!
//! - [`IngestWriter::send`] returns when there is room. What a writer holds is bounded, in items and in bytes: a slow hub
//!   slows whoever sends.
//! - What was taken reaches the hub exactly once and in order, whichever connections break and nodes stop meanwhile: each
//!   event has its message id before it is sent for the first time, and keeps it. Events with the same primary identifier
//!   are applied in the order in which they were taken.
//! - [`IngestWriter::flush`] returns when everything before it is acknowledged. Each event's own result is told by the
//!   [`Receipt`] that `send` returns; one that isn't wanted may be dropped.
//! - When it goes on no longer (the write key was rotated away, no node has taken anything for long), it says so to
//!   everybody who waits, and [hands back](IngestWriter::unacknowledged) what was not acknowledged.
//!
//! # How it works
//!
//! One task holds the events ([`queue`], pure) and one `IngestStream` at a time ([`run`]). It sends within the hub's
//! credits, as soon as a message is full, an event has waited for [`linger`](IngestWriterBuilder::linger), or somebody
//! flushes. When a stream ends, the next one begins at another node from the first event that is not acknowledged.
//!
//! # What it leaves out
//!
//! What is not acknowledged when the process ends is gone from here: it may be stored or not. A writer that is dropped
//! without [`close`](IngestWriter::close) goes on in the background as long as its runtime lives; nobody then hears how it
//! ended, but for the receipts.

mod queue;
mod run;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use prost::Message as _;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    Client, Counts, Error,
    client::random_id,
    ingest::{IntoItem, give_message_id},
    proto::{IngestItem, ItemResult},
};

/// The largest event that a stream takes, in bytes.
pub const ITEM_BYTES_MAX: usize = 1 << 20;
/// The most events in a message.
const BATCH_ITEMS_MAX: usize = 2_500;
/// The most bytes of events in a message: with what stands around them it has at most 4 MiB.
const BATCH_BYTES_MAX: usize = 3 << 20;
/// The most bytes that a writer may hold.
const WINDOW_BYTES_MAX: usize = 1 << 30;
/// Results of events that were not stored that [`Flushed`] tells.
const PROBLEMS_MAX: usize = 100;

impl Client {
    /// Begins a writer, which sends events in the background, with this client's write key or source.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = isthmus_node::dev::Temporary::start().await?;
    /// # let (endpoint, write_key) = (hub.endpoint(), isthmus_node::dev::WRITE_KEY);
    /// use isthmus_client::{Client, proto::{Event, EventType}};
    ///
    /// let client = Client::builder().endpoints([endpoint]).write_key(write_key).connect_lazy()?;
    /// let writer = client.writer().start()?;
    /// for order in 1..=1_000 {
    ///     let event = Event {
    ///         r#type: EventType::Track.into(),
    ///         user_id: format!("customer-{}", order % 7),
    ///         name: "Order Completed".into(),
    ///         ..Event::default()
    ///     };
    ///     // Waits while the writer holds enough.
    ///     writer.send(event).await?;
    /// }
    /// let flushed = writer.close().await?;
    /// assert_eq!(flushed.counts.accepted, 1_000);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn writer(&self) -> IngestWriterBuilder {
        IngestWriterBuilder {
            client: self.clone(),
            linger: Duration::from_millis(5),
            batch_items: 500,
            batch_bytes: 512 << 10,
            window_items: 10_000,
            window_bytes: 16 << 20,
            patience: Duration::from_secs(120),
        }
    }
}

/// Collects how an [`IngestWriter`] is to be. See [`Client::writer`].
#[derive(Debug, Clone)]
pub struct IngestWriterBuilder {
    client: Client,
    linger: Duration,
    batch_items: usize,
    batch_bytes: usize,
    window_items: usize,
    window_bytes: usize,
    patience: Duration,
}

impl IngestWriterBuilder {
    /// How long an event may wait for others to be sent with it. Default: 5 ms; zero sends at once what there is.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// From how many waiting events on they are sent without delay, and how many a message has at most: 1 to 2,500.
    /// Default: 500.
    pub fn batch_items(mut self, items: usize) -> Self {
        self.batch_items = items;
        self
    }

    /// The same in bytes of events: 1 to 3 MiB. Default: 512 KiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// How many events the writer holds at most until they are acknowledged; then [`IngestWriter::send`] waits.
    /// Default: 10,000.
    pub fn window_items(mut self, items: usize) -> Self {
        self.window_items = items;
        self
    }

    /// The same in bytes of events: 1 MiB to 1 GiB. Default: 16 MiB.
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// How long the writer keeps trying while nothing is acknowledged and streams fail, before it gives up. Default: 2
    /// minutes.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts the writer. The first event opens its stream. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Usage`] when an option is out of its bounds.
    pub fn start(self) -> Result<IngestWriter, Error> {
        let bounds = [
            ("batch_items", self.batch_items, 1, BATCH_ITEMS_MAX),
            ("batch_bytes", self.batch_bytes, 1, BATCH_BYTES_MAX),
            ("window_items", self.window_items, 1, Semaphore::MAX_PERMITS),
            ("window_bytes", self.window_bytes, ITEM_BYTES_MAX, WINDOW_BYTES_MAX),
        ];
        if let Some((name, _, low, high)) =
            bounds.iter().find(|(_, value, low, high)| value < low || value > high)
        {
            return Err(Error::Usage(format!("{name} has to be {low} to {high}")));
        }
        let (mail, received) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            items: Semaphore::new(self.window_items),
            bytes: Semaphore::new(self.window_bytes),
            failure: OnceLock::new(),
            left: Mutex::new(Vec::new()),
        });
        run::spawn(self, shared.clone(), received);
        Ok(IngestWriter { shared, mail })
    }
}

/// Sends events in the background. Cheap to clone; clones share everything. See [`Client::writer`].
#[derive(Clone)]
pub struct IngestWriter {
    shared: Arc<Shared>,
    // Bounded by the room that whoever sends has to find first.
    mail: mpsc::UnboundedSender<Mail>,
}

/// What a writer's handles and its task share.
struct Shared {
    /// Room for events.
    items: Semaphore,
    /// Room for their bytes.
    bytes: Semaphore,
    /// Why it goes on no longer.
    failure: OnceLock<Error>,
    /// What was not acknowledged by then.
    left: Mutex<Vec<IngestItem>>,
}

/// What the task is told.
enum Mail {
    Send(Box<Sent>),
    Flush { last: bool, reply: oneshot::Sender<Result<Flushed, Error>> },
}

/// An event that was taken.
struct Sent {
    item: IngestItem,
    bytes: u32,
    receipt: oneshot::Sender<Result<ItemResult, Error>>,
}

/// What became of the events between two calls of [`IngestWriter::flush`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flushed {
    /// How many ended how. A duplicate may be one that the writer itself sent before a stream broke: it is there, once.
    pub counts: Counts,
    /// The results of those that were quarantined or rejected, the first hundred.
    pub problems: Vec<ItemResult>,
    /// The version token: a read with this as `min_version` sees all that this writer has stored. Absent while it
    /// has stored nothing.
    pub version: Option<String>,
}

impl Shared {
    fn failure(&self) -> Error {
        self.failure.get().cloned().unwrap_or_else(closed)
    }
}

fn closed() -> Error {
    Error::Usage("the writer is closed".into())
}

impl IngestWriter {
    /// Takes an event, as soon as there is room. It gets a message id if it has none. A future that is dropped before it
    /// is ready has taken nothing.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = isthmus_node::dev::Temporary::start().await?;
    /// # let (endpoint, write_key) = (hub.endpoint(), isthmus_node::dev::WRITE_KEY);
    /// use isthmus_client::{Client, proto::ItemOutcome};
    ///
    /// let client = Client::builder().endpoints([endpoint]).write_key(write_key).connect_lazy()?;
    /// let writer = client.writer().start()?;
    /// let event = serde_json::json!({"type": "identify", "userId": "42", "traits": {"plan": "pro"}});
    /// let receipt = writer.send(event).await?;
    /// // Its own result, once it is known; others may be sent meanwhile.
    /// assert_eq!(receipt.await?.outcome(), ItemOutcome::Accepted);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`] for an event of more than [`ITEM_BYTES_MAX`] bytes and after [`close`](Self::close); else why the
    /// writer goes on no longer. The event was not taken then.
    pub async fn send(&self, event: impl IntoItem) -> Result<Receipt, Error> {
        let mut item = event.into_item();
        give_message_id(&mut item);
        let size = item.encoded_len();
        let bytes = u32::try_from(size).ok().filter(|_| size <= ITEM_BYTES_MAX).ok_or_else(|| {
            Error::Usage(format!("an event of {size} bytes is too large: {ITEM_BYTES_MAX} is the most"))
        })?;
        let refused = |_| self.shared.failure();
        let one = self.shared.items.acquire().await.map_err(refused)?;
        let many = self.shared.bytes.acquire_many(bytes).await.map_err(refused)?;
        let (receipt, result) = oneshot::channel();
        let sent = Mail::Send(Box::new(Sent { item, bytes, receipt }));
        self.mail.send(sent).map_err(|_| self.shared.failure())?;
        // Given back by the task, when the event is acknowledged.
        one.forget();
        many.forget();
        Ok(Receipt { result })
    }

    /// Waits until every event that was taken before is acknowledged, and tells what became of those since the last time.
    ///
    /// # Errors
    /// Why the writer goes on no longer. [`unacknowledged`](Self::unacknowledged) then has the events that are not known to
    /// be stored.
    pub async fn flush(&self) -> Result<Flushed, Error> {
        self.ask(false).await
    }

    /// Flushes, and ends the writer: from then on nothing is taken, of its clones neither.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(self) -> Result<Flushed, Error> {
        self.ask(true).await
    }

    async fn ask(&self, last: bool) -> Result<Flushed, Error> {
        let (reply, answer) = oneshot::channel();
        self.mail.send(Mail::Flush { last, reply }).map_err(|_| self.shared.failure())?;
        answer.await.map_err(|_| self.shared.failure())?
    }

    /// When the writer has given up: the events that it had taken and that were not acknowledged, in order and with their
    /// message ids, so that another writer may send them and nothing counts twice. Each call gives what the earlier ones
    /// have not.
    pub fn unacknowledged(&self) -> Vec<IngestItem> {
        std::mem::take(&mut self.shared.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for IngestWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestWriter").field("failure", &self.shared.failure.get()).finish_non_exhaustive()
    }
}

/// An event's result to come: a future. See [`IngestWriter::send`].
///
/// It ends with [`Error::OutcomeUnknown`] when the writer gave up after the event had been sent.
#[derive(Debug)]
pub struct Receipt {
    result: oneshot::Receiver<Result<ItemResult, Error>>,
}

impl Future for Receipt {
    type Output = Result<ItemResult, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let lost = |_| Err(Error::OutcomeUnknown("the runtime of the writer ended".into()));
        Poll::Ready(ready!(Pin::new(&mut self.result).poll(context)).unwrap_or_else(lost))
    }
}

/// The id of a new stream.
fn stream_id() -> String {
    random_id()
}
