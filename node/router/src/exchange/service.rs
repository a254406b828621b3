//! The answering side: other nodes' calls to the shards of this node.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, Stream, StreamExt as _};
use futures::{FutureExt as _, stream};
use isthmus_proto::internal::v1::shard_service_server::{ShardService, ShardServiceServer};
use isthmus_proto::internal::v1::{
    CallError, CallErrorCode, ExchangeRequest, ExchangeResponse, PeerHello, ShardCall, ShardReply,
    shard_call, shard_reply,
};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::ExchangeOptions;
use crate::error::{call_error, overloaded};
use crate::local::LocalShards;
use crate::topology::Topology;

/// The longest that a call may ask for.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// When to come back if one peer has too many calls under way.
const BUSY_AGAIN: Duration = Duration::from_millis(50);

/// Answers calls to this node's shards. To be served on the peer address, see [`peer_server`](super::peer_server).
#[derive(Clone)]
pub struct ExchangeService {
    topology: watch::Receiver<Arc<Topology>>,
    local: LocalShards,
    options: ExchangeOptions,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl ExchangeService {
    pub(crate) fn new(
        topology: watch::Receiver<Arc<Topology>>,
        local: LocalShards,
        options: ExchangeOptions,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self { topology, local, options, tracker, stop }
    }

    /// As a tonic service, with the message limits that fit the calling side's.
    pub fn into_server(self) -> ShardServiceServer<Self> {
        let bytes_max = self.options.decode_bytes_max();
        ShardServiceServer::new(self)
            .max_decoding_message_size(bytes_max)
            .max_encoding_message_size(bytes_max)
    }

    /// Whether a stream that begins like this is from a node of this cluster and meant for this node.
    fn check(&self, hello: Option<&PeerHello>) -> Result<(), Status> {
        let hello = hello.ok_or_else(|| Status::invalid_argument("a stream begins with a hello"))?;
        let topology = self.topology.borrow();
        if topology.cluster_id.is_empty() {
            return Err(Status::unavailable("this node doesn't know its cluster yet"));
        }
        if hello.cluster_id != topology.cluster_id {
            return Err(Status::failed_precondition("WRONG_CLUSTER: this node is of another cluster"));
        }
        if hello.to_node != topology.node {
            let message = format!("WRONG_NODE: node {} was meant, this is {}", hello.to_node, topology.node);
            return Err(Status::failed_precondition(message));
        }
        if hello.from_node == 0 || hello.from_node == topology.node {
            return Err(Status::failed_precondition("WRONG_NODE: the hello names no other node"));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl ShardService for ExchangeService {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<ExchangeResponse, Status>> + Send>>;

    /// Answers before the first frame is read: the caller waits for the headers.
    async fn exchange(
        &self,
        request: Request<Streaming<ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let session = Session {
            service: self.clone(),
            requests: request.into_inner(),
            running: FuturesUnordered::new(),
            greeted: false,
            open: true,
        };
        let frames = stream::try_unfold(Box::new(session), |mut session| async move {
            Ok(session.next_frame().await?.map(|frame| (frame, session)))
        });
        Ok(Response::new(Box::pin(frames)))
    }
}

/// One stream. It is driven by whoever sends its responses, so a peer that takes no replies has no calls served.
struct Session {
    service: ExchangeService,
    requests: Streaming<ExchangeRequest>,
    /// Calls under way.
    running: FuturesUnordered<BoxFuture<'static, ShardReply>>,
    greeted: bool,
    /// Whether more calls are taken.
    open: bool,
}

impl Session {
    /// The next frame of replies: all that are ready, up to the limits. `None` when all is answered and no more comes.
    async fn next_frame(&mut self) -> Result<Option<ExchangeResponse>, Status> {
        loop {
            if !self.open && self.running.is_empty() {
                return Ok(None);
            }
            tokio::select! {
                biased;
                Some(reply) = self.running.next(), if !self.running.is_empty() => {
                    return Ok(Some(self.gather(reply)));
                }
                // At a stop what is under way is still answered; deadlines bound that.
                () = self.service.stop.cancelled(), if self.open => self.open = false,
                frame = self.requests.message(), if self.open => match frame? {
                    Some(frame) => self.take(frame)?,
                    None => self.open = false,
                },
            }
        }
    }

    fn gather(&mut self, first: ShardReply) -> ExchangeResponse {
        let options = &self.service.options;
        let (first, mut bytes) = bounded(first, options.message_bytes_max);
        let mut replies = vec![first];
        while replies.len() < options.frame_calls_max
            && bytes < options.frame_bytes_max
            && let Some(Some(reply)) = self.running.next().now_or_never()
        {
            let (reply, more) = bounded(reply, options.message_bytes_max);
            bytes += more;
            replies.push(reply);
        }
        ExchangeResponse { replies }
    }

    fn take(&mut self, frame: ExchangeRequest) -> Result<(), Status> {
        if !self.greeted {
            self.service.check(frame.hello.as_ref())?;
            self.greeted = true;
        }
        for call in frame.calls {
            let number = call.call;
            let answer = if self.running.len() < self.service.options.running_calls_max {
                self.begin(call)
            } else {
                refused(number, overloaded(BUSY_AGAIN, "too many calls of this node are under way"))
            };
            self.running.push(answer);
        }
        Ok(())
    }

    /// Begins a call. The reply comes soon after the deadline at the latest.
    fn begin(&self, call: ShardCall) -> BoxFuture<'static, ShardReply> {
        let ShardCall { call: number, shard, timeout_ms, origin, body } = call;
        let Some(body) = body else {
            return refused(
                number,
                call_error(CallErrorCode::Invalid, "a call that this version doesn't know"),
            );
        };
        let Some(replica) = self.service.local.get(shard) else {
            return refused(
                number,
                call_error(CallErrorCode::NoReplica, "the shard is not open on this node"),
            );
        };
        let deadline = Instant::now() + Duration::from_millis(u64::from(timeout_ms)).min(TIMEOUT_MAX);
        let walks = matches!(
            body,
            shard_call::Body::ReadEvents(_)
                | shard_call::Body::ScanFacets(_)
                | shard_call::Body::ReadQuarantine(_)
                | shard_call::Body::CountQuarantine(_)
                | shard_call::Body::Quality(_)
        );
        let answer = async move {
            let answer = timeout_at(deadline, replica.call(body, deadline)).await;
            let late = || call_error(CallErrorCode::OutcomeUnknown, "not answered in time");
            reply_to(number, answer.unwrap_or_else(|_| Err(late())))
        };
        let answer: BoxFuture<'static, ShardReply> = match origin {
            Some(origin) => self.service.options.origins.run(origin, shard, Box::pin(answer)),
            None => Box::pin(answer),
        };
        if !walks {
            return answer;
        }
        // May keep a processor busy for a while: on a task of its own, others' calls go on meanwhile.
        let task = self.service.tracker.spawn(answer);
        Box::pin(async move {
            let broken =
                |_| reply_to(number, Err(call_error(CallErrorCode::Unavailable, "the read was broken off")));
            task.await.unwrap_or_else(broken)
        })
    }
}

fn reply_to(number: u64, answer: Result<shard_reply::Body, CallError>) -> ShardReply {
    ShardReply { call: number, body: Some(answer.unwrap_or_else(shard_reply::Body::Error)) }
}

fn refused(number: u64, error: CallError) -> BoxFuture<'static, ShardReply> {
    Box::pin(std::future::ready(reply_to(number, Err(error))))
}

/// The reply and its encoded length. One that would break the stream, and with it everybody's calls, is replaced by an
/// error.
fn bounded(reply: ShardReply, bytes_max: usize) -> (ShardReply, usize) {
    let bytes = reply.encoded_len();
    if bytes <= bytes_max {
        return (reply, bytes);
    }
    let error = call_error(CallErrorCode::Invalid, "the answer is too large for one message: ask for less");
    let reply = reply_to(reply.call, Err(error));
    let bytes = reply.encoded_len();
    (reply, bytes)
}
