//! The calling side of a stream: the handle, and the actor that connects and carries calls.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use isthmus_proto::internal::v1::shard_service_client::ShardServiceClient;
use isthmus_proto::internal::v1::{
    CallError, CallErrorCode, ExchangeRequest, ExchangeResponse, ShardCall, shard_call, shard_reply,
};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::session::{End, Session};
use super::{
    CONNECTION_WINDOW_BYTES, ExchangeOptions, HTTP2_FRAME_BYTES, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT,
    Origins, Peer, STREAM_WINDOW_BYTES,
};
use crate::attempt::Attempts;
use crate::error::{call_error, overloaded};
use crate::pursuit::backoff;

/// When to come back to a link that is full.
const FULL_AGAIN: Duration = Duration::from_millis(20);

/// The way to one other node. Clones are the same link; when the last is dropped, it ends once all is answered.
#[derive(Clone)]
pub(crate) struct Link {
    calls: mpsc::Sender<Call>,
    /// KiB that calls may still take.
    room: Arc<Semaphore>,
    address: Arc<str>,
    message_bytes_max: usize,
    bytes_max: usize,
    origins: Arc<dyn Origins>,
}

/// A call that waits to be sent.
pub(super) struct Call {
    /// With everything but its number and the time that is left.
    pub(super) call: ShardCall,
    /// Encoded, about.
    pub(super) bytes: usize,
    pub(super) deadline: Instant,
    pub(super) reply: Reply,
}

/// Where a call's reply goes, with the room that the call takes until then.
pub(super) struct Reply {
    sender: oneshot::Sender<Result<shard_reply::Body, CallError>>,
    _room: OwnedSemaphorePermit,
}

impl Reply {
    pub(super) fn send(self, reply: Result<shard_reply::Body, CallError>) {
        // A caller that has given up meanwhile doesn't want it.
        let _gone = self.sender.send(reply);
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Link {
    /// Starts the link's task. It connects when there is something to send.
    pub(crate) fn start(
        peer: Peer,
        options: ExchangeOptions,
        seed: u64,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (sender, calls) = mpsc::channel(options.waiting_calls_max);
        let room = Arc::new(Semaphore::new(options.bytes_max >> 10));
        let link = Self {
            calls: sender,
            room,
            address: peer.address.as_str().into(),
            message_bytes_max: options.message_bytes_max,
            bytes_max: options.bytes_max,
            origins: options.origins.clone(),
        };
        let actor = Actor { peer, options, jitter: Attempts::new(seed), calls, stop };
        tracker.spawn(actor.run());
        link
    }

    /// The address that it connects to.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Calls that wait to be sent, and bytes of calls that wait or have no reply yet.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let free = self.room.available_permits() << 10;
        (self.calls.max_capacity() - self.calls.capacity(), self.bytes_max.saturating_sub(free))
    }

    /// Asks a shard of the other node.
    pub(crate) async fn call(
        &self,
        shard: u64,
        body: shard_call::Body,
        deadline: Instant,
    ) -> Result<shard_reply::Body, CallError> {
        let call =
            ShardCall { shard, origin: self.origins.current(), body: Some(body), ..ShardCall::default() };
        let bytes = call.encoded_len();
        if bytes > self.message_bytes_max {
            return Err(call_error(CallErrorCode::Invalid, "the call is too large for one message"));
        }
        let full = || overloaded(FULL_AGAIN, "too much waits for the node");
        let kib = u32::try_from((bytes >> 10) + 1).map_err(|_| full())?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib).map_err(|_| full())?;
        let (sender, reply) = oneshot::channel();
        let call = Call { call, bytes, deadline, reply: Reply { sender, _room: room } };
        self.calls.try_send(call).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => full(),
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })?;
        // The actor answers every call that it takes, but for the stop, at which it may be dropped with what waits.
        reply.await.unwrap_or_else(|_| Err(call_error(CallErrorCode::OutcomeUnknown, "the node is stopping")))
    }
}

/// Owns the connection to one peer, over all its lives.
struct Actor {
    peer: Peer,
    options: ExchangeOptions,
    jitter: Attempts,
    calls: mpsc::Receiver<Call>,
    stop: CancellationToken,
}

impl Actor {
    async fn run(mut self) {
        let mut failures = 0;
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let first = tokio::select! {
                    biased;
                    () = self.stop.cancelled() => break,
                    first = self.calls.recv() => first,
                };
                let Some(first) = first else { break };
                waiting.push_back(first);
            }
            let connected = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                connected = self.connect() => connected,
            };
            let (worked, why) = match connected {
                Ok((frames, replies)) => {
                    let session = Session::new(&self.options, &mut waiting, frames, replies);
                    match session.run(&mut self.calls, &self.stop).await {
                        End::Stopped | End::Unused => break,
                        End::Broken { worked, why } => (worked, why),
                    }
                }
                Err(why) => (false, why),
            };
            failures = if worked { 0 } else { failures + 1 };
            tracing::debug!(node = self.peer.node, failures, %why, "no connection to the node");
            self.refuse(&mut waiting, "the node can't be reached");
            if failures > 0 && !self.rest(failures - 1).await {
                break;
            }
        }
        self.calls.close();
        self.refuse(&mut waiting, "the node is stopping");
    }

    /// Connects and greets. What goes wrong is told in words, without content.
    async fn connect(&self) -> Result<(mpsc::Sender<ExchangeRequest>, Streaming<ExchangeResponse>), String> {
        let channel = Endpoint::from_shared(format!("http://{}", self.peer.address))
            .map_err(|error| error.to_string())?
            .connect_timeout(self.options.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let greet = async {
            let channel = channel.connect().await.map_err(|error| error.to_string())?;
            let bytes_max = self.options.decode_bytes_max();
            let mut client = ShardServiceClient::new(channel)
                .max_decoding_message_size(bytes_max)
                .max_encoding_message_size(bytes_max);
            // One frame under way and one being filled: what waits longer gathers, and goes in one frame.
            let (frames, outgoing) = mpsc::channel(1);
            let hello = ExchangeRequest { hello: Some(self.peer.hello.clone()), calls: Vec::new() };
            frames.try_send(hello).map_err(|error| error.to_string())?;
            let replies = client
                .exchange(ReceiverStream::new(outgoing))
                .await
                .map_err(|status| format!("{}: {}", status.code(), status.message()))?;
            Ok((frames, replies.into_inner()))
        };
        // The name look-up and the greeting count too.
        timeout(self.options.connect_timeout * 2, greet).await.unwrap_or_else(|_| Err("timed out".to_owned()))
    }

    /// Waits before another try, refusing what comes meanwhile. False when it is over.
    async fn rest(&mut self, failures: u32) -> bool {
        let wait =
            backoff(self.options.reconnect_min, self.options.reconnect_max, failures, self.jitter.next());
        let until = Instant::now() + wait;
        loop {
            let call = tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                () = sleep_until(until) => return true,
                call = self.calls.recv() => call,
            };
            let Some(call) = call else { return false };
            call.reply.send(Err(unreachable_node()));
        }
    }

    /// Answers all calls that wait, none of which was sent, so that they go elsewhere.
    fn refuse(&mut self, waiting: &mut VecDeque<Call>, why: &'static str) {
        for call in waiting.drain(..) {
            call.reply.send(Err(call_error(CallErrorCode::Unavailable, why)));
        }
        while let Ok(call) = self.calls.try_recv() {
            call.reply.send(Err(call_error(CallErrorCode::Unavailable, why)));
        }
    }
}

fn unreachable_node() -> CallError {
    call_error(CallErrorCode::Unavailable, "the node can't be reached")
}

fn stopping() -> CallError {
    call_error(CallErrorCode::Unavailable, "this node is stopping")
}
