//! Watching changes of profiles: a stream that goes on by itself where another node has to take over.
//!
//! The hub tells with each response where a stream goes on ([`proto::WatchResponse::cursor`]). When the connection
//! breaks, the node stops or a shard is without a leader for long, [`Watch`] begins anew at another node from the last
//! cursor that it has handed on: nothing is left out, and nothing comes twice as long as the stream lives. A consumer
//! that keeps the cursor beside what it has made of the changes, and passes over ids that it has seen, is exact over
//! its own restarts, too.
//!
//! A watch outlives the calls around it, so the client's deadline says nothing of it: it waits for a hub that is away for
//! as long as [`WatchOptions::patience`] says, for ever unless told otherwise.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    Client, Error, Refusal,
    client::{ANSWER_BYTES_MAX, random_id},
    endpoint::Lease,
    proto::{
        self, profile_service_client::ProfileServiceClient as Profiles,
        segment_service_client::SegmentServiceClient as Segments,
    },
    retry::{self, Ending, Kind, Verdict},
};

/// The hub says something every few seconds: a connection that is silent for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long a node that ended a stream is left alone.
const PAUSE: Duration = Duration::from_millis(500);
/// From the second failure in a row on a watch is said to wait: the first one is a node that hands its streams over.
const TRIES_UNSAID: u32 = 1;

/// What a watch tells beside its changes. See [`WatchOptions::on_news`].
#[derive(Debug)]
pub enum WatchNews<'a> {
    /// No node serves it for now; it goes on trying. The error is what the last try met.
    Waits(&'a Error),
    /// It is served again, from where it was.
    GoesOn,
}

/// Who is told what a watch tells.
type OnNews = dyn Fn(WatchNews<'_>) + Send + Sync;

/// How a watch bears with a hub that is away.
#[derive(Clone, Default)]
pub struct WatchOptions {
    patience: Option<Duration>,
    news: Option<Arc<OnNews>>,
}

impl WatchOptions {
    /// The default: waits for ever, and tells nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long no node may serve the watch before it ends with the last error. Default: for ever.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Is called when the watch begins to wait, and when it goes on after that. A stream that another node takes over at
    /// once is no news.
    pub fn on_news(mut self, news: impl Fn(WatchNews<'_>) + Send + Sync + 'static) -> Self {
        self.news = Some(Arc::new(news));
        self
    }

    fn tell(&self, news: WatchNews<'_>) {
        if let Some(told) = &self.news {
            told(news);
        }
    }
}

impl std::fmt::Debug for WatchOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchOptions").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Client {
    /// Changes of profiles, as they come about or from the request's cursor on. The first response comes at once, without
    /// changes: with [`WatchFrom::Now`](proto::WatchFrom::Now) its cursor is the one to take before listing all
    /// profiles.
    ///
    /// The stream ends with the first error that waiting doesn't help against, `CURSOR_TOO_OLD` for example. A hub that is
    /// away is waited for: [`watch_with`](Self::watch_with) says for how long.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = isthmus_node::dev::Temporary::start().await?;
    /// # let (endpoint, write_key) = (hub.endpoint(), isthmus_node::dev::WRITE_KEY);
    /// # let client = isthmus_client::Client::builder().endpoints([endpoint]).write_key(write_key).connect_lazy()?;
    /// # client.ingest_one(serde_json::json!({"type": "page", "userId": "42"})).await?;
    /// use futures::TryStreamExt as _;
    /// use isthmus_client::proto::{WatchFrom, WatchRequest};
    ///
    /// let from = WatchRequest { start: WatchFrom::Beginning.into(), ..WatchRequest::default() };
    /// let mut changes = client.watch(from);
    /// while let Some(response) = changes.try_next().await? {
    ///     for change in &response.changes {
    ///         println!("{} {}", change.id, change.profile_id);
    ///     }
    ///     // Here is the place to keep `response.cursor`.
    /// #   if !response.changes.is_empty() { break }
    /// }
    /// # drop(changes);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, request: proto::WatchRequest) -> Watch {
        self.watch_with(request, WatchOptions::new())
    }

    /// The same, told how long to wait for a hub that is away, and whom to tell of it.
    pub fn watch_with(&self, request: proto::WatchRequest, options: WatchOptions) -> Watch {
        self.watching(Asked::Profiles(request), options)
    }

    /// Who enters segments and leaves them: the same stream of those changes alone, with the same cursors. It ends at once
    /// with `INVALID_SEGMENT` when there is no segment of a name.
    pub fn watch_segments(&self, request: proto::SegmentServiceWatchRequest, options: WatchOptions) -> Watch {
        self.watching(Asked::Segments(request), options)
    }

    fn watching(&self, asked: Asked, options: WatchOptions) -> Watch {
        let state = State { client: self.clone(), options, asked, open: None, failing: None, tries: 0 };
        let next = |state: Option<State>| async move {
            let mut state = state?;
            match state.next().await {
                Ok(response) => Some((Ok(response), Some(state))),
                Err(error) => Some((Err(error), None)),
            }
        };
        Watch { responses: Box::pin(stream::unfold(Some(state), next)) }
    }
}

/// A stream of changes. See [`Client::watch`] and [`Client::watch_segments`].
pub struct Watch {
    responses: BoxStream<'static, Result<proto::WatchResponse, Error>>,
}

impl Stream for Watch {
    type Item = Result<proto::WatchResponse, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.responses.as_mut().poll_next(context)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// What a watch asks for: of all changes, or of those of segments.
enum Asked {
    Profiles(proto::WatchRequest),
    Segments(proto::SegmentServiceWatchRequest),
}

/// A stream under way.
type Responses = BoxStream<'static, Result<proto::WatchResponse, Status>>;

impl Asked {
    fn go_on_from(&mut self, cursor: String) {
        match self {
            Self::Profiles(request) => request.cursor = cursor,
            Self::Segments(request) => request.cursor = cursor,
        }
    }

    async fn begin(&self, channel: Channel, request_id: &str) -> Result<Responses, Status> {
        match self {
            Self::Profiles(request) => {
                let mut service = Profiles::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
                Ok(service.watch(named(request, request_id)).await?.into_inner().boxed())
            }
            Self::Segments(request) => {
                let mut service = Segments::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
                let stream = service.watch(named(request, request_id)).await?.into_inner();
                let told = |proto::SegmentServiceWatchResponse { changes, cursor }| proto::WatchResponse {
                    changes,
                    cursor,
                };
                Ok(stream.map(move |response| response.map(told)).boxed())
            }
        }
    }
}

/// A request that is found in the nodes' logs.
fn named<T: Clone>(request: &T, request_id: &str) -> Request<T> {
    let mut message = Request::new(request.clone());
    if let Ok(value) = request_id.parse() {
        message.metadata_mut().insert("x-request-id", value);
    }
    message
}

struct State {
    client: Client,
    options: WatchOptions,
    /// What the next try asks for: from the last cursor on.
    asked: Asked,
    open: Option<(Responses, Lease)>,
    /// Since when no try has brought anything.
    failing: Option<Instant>,
    tries: u32,
}

impl State {
    async fn next(&mut self) -> Result<proto::WatchResponse, Error> {
        loop {
            let request_id = random_id();
            let (ending, status) = match self.once(&request_id).await {
                Ok(response) => {
                    if self.tries > TRIES_UNSAID {
                        self.options.tell(WatchNews::GoesOn);
                    }
                    (self.failing, self.tries) = (None, 0);
                    self.asked.go_on_from(response.cursor.clone());
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            let refusal = Refusal::of(&status, &request_id);
            tracing::debug!(request_id, ?ending, code = ?refusal.code, "a watch broke off");
            let asked = match retry::verdict(Kind::Read, ending, &refusal) {
                Verdict::Stop => return Err(Error::Refused(Box::new(refusal))),
                Verdict::Elsewhere => None,
                Verdict::Later(asked) => asked,
            };
            let since = *self.failing.get_or_insert_with(Instant::now);
            self.tries = self.tries.saturating_add(1);
            let wait = retry::wait(self.tries, asked, rand::random());
            let error = match ending {
                Ending::NotSent => Error::Unreachable(refusal.message),
                Ending::Answered => Error::Refused(Box::new(refusal)),
                Ending::Broken | Ending::TimedOut => Error::Deadline(refusal.message),
            };
            if self.options.patience.is_some_and(|patience| since.elapsed() + wait > patience) {
                return Err(error);
            }
            if self.tries == TRIES_UNSAID + 1 {
                self.options.tell(WatchNews::Waits(&error));
            }
            sleep(wait).await;
        }
    }

    /// The next response of the stream under way, or of a new one.
    async fn once(&mut self, request_id: &str) -> Result<proto::WatchResponse, (Ending, Status)> {
        let silent = |_| (Ending::TimedOut, Status::deadline_exceeded("the node said nothing for long"));
        let failed = |status: Status| (retry::ending_of(&status), status);
        if self.open.is_none() {
            let lease = self.client.lease();
            let begun = timeout(SILENCE_MAX, self.asked.begin(lease.channel(), request_id)).await;
            match begun.map_err(silent).and_then(|begun| begun.map_err(failed)) {
                Ok(stream) => self.open = Some((stream, lease)),
                Err((ending, status)) => {
                    lease.is_down(PAUSE);
                    return Err((ending, status));
                }
            }
        }
        let Some((stream, lease)) = &mut self.open else {
            return Err((Ending::Broken, Status::unavailable("no stream")));
        };
        let ended = || (Ending::Broken, Status::new(Code::Unavailable, "the node ended the stream"));
        let next = timeout(SILENCE_MAX, stream.next()).await.map_err(silent);
        match next.and_then(|next| next.ok_or_else(ended)).and_then(|next| next.map_err(failed)) {
            Ok(response) => {
                lease.is_up();
                Ok(response)
            }
            Err(broken) => {
                lease.is_down(PAUSE);
                self.open = None;
                Err(broken)
            }
        }
    }
}
