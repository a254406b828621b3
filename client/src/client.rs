//! The client and the one loop that all its calls go through.
//!
//! A call has a deadline; a *try* is one attempt at one endpoint, with a shorter limit of its own, so that a node
//! that hangs doesn't use up the whole deadline. The limit travels as `grpc-timeout`, and all tries of a call carry
//! the same `x-request-id`. After a failed try `retry::verdict` decides; waits never pass the deadline: when the
//! hub asks to come back later than that, the caller gets its answer at once.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Request, Response, Status, metadata::MetadataValue, transport::Channel};

use crate::{
    endpoint::{Lease, Pool},
    error::{Error, Reason, Refusal},
    retry::{self, Ending, Kind, Verdict},
    tls::Tls,
};

/// How long a call may take unless told otherwise, retries included.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// How long one try may take unless told otherwise.
const TRY_DEFAULT: Duration = Duration::from_secs(5);
/// Answers larger than this are refused: a page of 1,000 events of 32 KB fits.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long an endpoint is left alone after no connection or no answer, and after a connection broke.
const PAUSE_UNREACHABLE: Duration = Duration::from_secs(1);
const PAUSE_BROKEN: Duration = Duration::from_millis(250);

/// A handle on a cluster. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    deadline: Duration,
    try_limit: Duration,
    pub(crate) write_key: Option<Arc<str>>,
    pub(crate) source: Option<Arc<str>>,
}

/// Collects what a [`Client`] needs.
#[derive(Clone, Default)]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    deadline: Option<Duration>,
    try_limit: Option<Duration>,
    write_key: Option<Arc<str>>,
    source: Option<Arc<str>>,
    tls: Option<Tls>,
}

impl ClientBuilder {
    /// Nodes of one cluster, each as `[http://|https://]HOST[:PORT]` (port 7400 unless said; `https` with [`tls`](Self::tls),
    /// else `http`). Adds to those given before.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// How long each call may take, retries included. Default: [`DEADLINE_DEFAULT`].
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// How long one try at one node may take before another is made. Default: 5 seconds.
    pub fn try_limit(mut self, limit: Duration) -> Self {
        self.try_limit = Some(limit);
        self
    }

    /// The write key that events are sent with.
    pub fn write_key(mut self, key: impl Into<String>) -> Self {
        self.write_key = Some(key.into().into());
        self
    }

    /// The name of the source that events are sent as, for callers without a write key.
    pub fn source(mut self, name: impl Into<String>) -> Self {
        self.source = Some(name.into().into());
        self
    }

    /// How connections are encrypted. Needed for authorities other than the system's, and for mutual TLS; all endpoints then
    /// have to be `https`.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Makes the client. Connections are opened by the first calls. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no endpoint, or one that isn't an address; when TLS options can't be used.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        Ok(Client {
            pool: Arc::new(Pool::new(&self.endpoints, self.tls.as_ref())?),
            deadline: self.deadline.unwrap_or(DEADLINE_DEFAULT),
            try_limit: self.try_limit.unwrap_or(TRY_DEFAULT),
            write_key: self.write_key,
            source: self.source,
        })
    }
}

// Written out, because a write key must not show up in logs.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("pool", &self.pool)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Client {
    /// Begins a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// The same client with another deadline for its calls.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The same client, giving each try as long as the call: for the few calls that take long.
    pub fn with_long_tries(&self) -> Self {
        Self { try_limit: self.deadline, ..self.clone() }
    }

    /// The same client, sending events with this write key.
    pub fn with_write_key(&self, key: impl Into<String>) -> Self {
        Self { write_key: Some(key.into().into()), ..self.clone() }
    }

    /// The same client, sending events as this source.
    pub fn with_source(&self, name: impl Into<String>) -> Self {
        Self { source: Some(name.into().into()), ..self.clone() }
    }

    /// How long one try may take.
    pub(crate) fn try_limit(&self) -> Duration {
        self.try_limit
    }

    /// A hold on the endpoint for a call that takes care of itself.
    pub(crate) fn lease(&self) -> Lease {
        self.pool.take(None)
    }

    /// When a call that begins now has to be over.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Carries a call out: tries until it is answered, refused for good, or the deadline has come.
    pub(crate) async fn call<Q, A, F, T>(
        &self,
        kind: Kind,
        deadline: Instant,
        request: &Q,
        send: F,
    ) -> Result<A, Error>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> T,
        T: Future<Output = Result<Response<A>, Status>>,
    {
        let request_id = random_id();
        let mut progress = Progress::default();
        loop {
            let lease = self.pool.take(progress.hint.take().as_deref());
            let until = deadline.min(Instant::now() + self.try_limit);
            let mut message = Request::new(request.clone());
            message.set_timeout(until.saturating_duration_since(Instant::now()));
            if let Ok(value) = MetadataValue::try_from(request_id.as_str()) {
                message.metadata_mut().insert("x-request-id", value);
            }
            let (ending, status) = match timeout_at(until, send(lease.channel(), message)).await {
                Ok(Ok(answer)) => {
                    lease.is_up();
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) => (retry::ending_of(&status), status),
                Err(_) => (Ending::TimedOut, Status::deadline_exceeded("no answer in time")),
            };
            let refusal = Refusal::of(&status, &request_id);
            match ending {
                Ending::NotSent | Ending::TimedOut => lease.is_down(PAUSE_UNREACHABLE),
                Ending::Broken => lease.is_down(PAUSE_BROKEN),
                Ending::Answered => lease.is_up(),
            }
            tracing::debug!(endpoint = lease.address(), request_id, ?ending, code = ?refusal.code, "a try failed");
            let verdict = retry::verdict(kind, ending, &refusal);
            progress.note(lease.address(), ending, &refusal);
            drop(lease);
            match progress.next(verdict, self.pool.len(), deadline) {
                Some(resume) => sleep_until(resume).await,
                None => return Err(progress.into_error(kind, ending, refusal)),
            }
        }
    }
}

/// What the tries of one call have shown so far.
#[derive(Default)]
struct Progress {
    /// Waits so far.
    waits: u32,
    /// Tries in a row that went elsewhere at once.
    hops: usize,
    /// Whether any try may have taken effect.
    doubt: bool,
    /// Whether any endpoint was reached at all.
    reached: bool,
    /// Where the leader is said to be.
    hint: Option<String>,
    /// The endpoint of the last try.
    last: String,
}

impl Progress {
    fn note(&mut self, address: &str, ending: Ending, refusal: &Refusal) {
        self.doubt |= retry::may_have_happened(ending, refusal);
        self.reached |= ending != Ending::NotSent;
        self.last = address.to_owned();
        if refusal.reason == Reason::NotLeader {
            self.hint = refusal.metadata.get("leader").cloned();
        }
    }

    /// When to try again; nothing when the call is over.
    fn next(&mut self, verdict: Verdict, endpoints: usize, deadline: Instant) -> Option<Instant> {
        let now = Instant::now();
        let asked = match verdict {
            Verdict::Stop => return None,
            Verdict::Elsewhere => {
                self.hops += 1;
                if self.hops < endpoints {
                    return (now < deadline).then_some(now);
                }
                None
            }
            Verdict::Later(asked) => asked,
        };
        self.hops = 0;
        self.waits = self.waits.saturating_add(1);
        let resume = now + retry::wait(self.waits, asked, rand::random());
        (resume < deadline).then_some(resume)
    }

    /// The error that the caller sees.
    fn into_error(self, kind: Kind, ending: Ending, refusal: Refusal) -> Error {
        let Self { last, doubt, reached, .. } = self;
        match ending {
            Ending::NotSent if !reached => {
                Error::Unreachable(format!("{last} ({})", first_words(&refusal.message)))
            }
            _ if kind == Kind::Read => match ending {
                Ending::Answered if refusal.code != Code::DeadlineExceeded => {
                    Error::Refused(Box::new(refusal))
                }
                _ => Error::Deadline(format!("{last}: {}", first_words(&refusal.message))),
            },
            // A later, clear refusal doesn't undo what an earlier try may have done.
            _ if doubt => Error::OutcomeUnknown(format!("{last}: {}", first_words(&refusal.message))),
            _ => Error::Refused(Box::new(refusal)),
        }
    }
}

/// The beginning of a message that may be long.
fn first_words(message: &str) -> String {
    message.chars().take(200).collect()
}

/// 32 random hexadecimal digits, for request ids and message ids.
pub(crate) fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
