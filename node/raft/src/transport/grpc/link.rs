//! The sending end of a stream to one peer: a bounded queue, and a task that keeps a connection.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use isthmus_proto::internal::v1::{self as wire, RaftStreamRequest, raft_service_client::RaftServiceClient};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use super::{DECODE_BYTES_MAX, GroupMessage, Shared};

#[derive(Default)]
struct Queue {
    messages: VecDeque<GroupMessage>,
    bytes: usize,
    connected: bool,
}

pub(super) struct Link {
    node: u32,
    shared: Arc<Shared>,
    queue: Mutex<Queue>,
    wake: Notify,
    closed: CancellationToken,
}

impl Link {
    pub(super) fn new(node: u32, shared: Arc<Shared>) -> Arc<Self> {
        let closed = shared.stopping.child_token();
        Arc::new(Self { node, shared, queue: Mutex::default(), wake: Notify::new(), closed })
    }

    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn is_connected(&self) -> bool {
        self.queue.lock().connected
    }

    /// Queues all, or none if they don't fit or there is no connection.
    pub(super) fn push(&self, messages: Vec<GroupMessage>) -> bool {
        let bytes: usize = messages.iter().map(|message| message.message.len()).sum();
        {
            let mut queue = self.queue.lock();
            let fits = queue.messages.len() + messages.len() <= self.shared.options.queue_messages_max
                && queue.bytes + bytes <= self.shared.options.queue_bytes_max;
            if !queue.connected || !fits {
                return false;
            }
            queue.bytes += bytes;
            queue.messages.extend(messages);
        }
        self.wake.notify_one();
        true
    }

    /// Keeps a stream to the peer until closed.
    pub(super) async fn run(self: Arc<Self>, endpoint: Endpoint) {
        const BACKOFF_MIN: Duration = Duration::from_millis(20);
        let mut backoff = BACKOFF_MIN;
        loop {
            let closed = self.closed.clone();
            let connected = tokio::select! {
                biased;
                () = closed.cancelled() => {
                    self.disconnect();
                    return;
                }
                connected = self.connection(&endpoint) => connected,
            };
            if self.disconnect() {
                if let Some(inbound) = self.shared.inbound.get() {
                    inbound.unreachable(self.node);
                }
                backoff = BACKOFF_MIN;
            }
            if let Err(status) = connected {
                tracing::debug!(node = self.node, code = ?status.code(), reason = status.message(), "no stream to a peer");
            }
            tokio::select! {
                biased;
                () = closed.cancelled() => return,
                () = sleep(backoff) => backoff = (backoff * 2).min(self.shared.options.backoff_max),
            }
        }
    }

    /// One connection, from its beginning to its end.
    async fn connection(self: &Arc<Self>, endpoint: &Endpoint) -> Result<(), tonic::Status> {
        let channel =
            endpoint.connect().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let mut client = RaftServiceClient::new(channel).max_decoding_message_size(DECODE_BYTES_MAX);
        let mut answers = client.stream(self.clone().frames()).await?.into_inner();
        self.queue.lock().connected = true;
        tracing::debug!(node = self.node, "a stream to a peer is up");
        while answers.message().await?.is_some() {}
        Ok(())
    }

    /// Forgets what waits; whether there was a connection.
    fn disconnect(&self) -> bool {
        std::mem::take(&mut *self.queue.lock()).connected
    }

    /// Frames for one connection: who speaks, then whatever waits, as soon as the connection takes more.
    fn frames(self: Arc<Self>) -> impl Stream<Item = RaftStreamRequest> + Send + 'static {
        let hello = RaftStreamRequest { hello: Some(self.shared.hello(self.node)), messages: Vec::new() };
        let rest = stream::unfold(self, |link| async move {
            loop {
                let messages = link.frame();
                if !messages.is_empty() {
                    return Some((RaftStreamRequest { hello: None, messages }, link));
                }
                link.wake.notified().await;
            }
        });
        stream::once(async { hello }).chain(rest)
    }

    fn frame(&self) -> Vec<wire::GroupMessage> {
        let options = &self.shared.options;
        let mut queue = self.queue.lock();
        let (mut frame, mut bytes) = (Vec::new(), 0);
        while frame.len() < options.frame_messages_max && bytes < options.frame_bytes_max {
            let Some(message) = queue.messages.pop_front() else { break };
            bytes += message.message.len();
            frame.push(wire::GroupMessage {
                group: message.group,
                from_peer: message.from.0,
                to_peer: message.to.0,
                message: message.message,
            });
        }
        queue.bytes -= bytes;
        frame
    }
}
