//! What every client's call passes through: a request id, a span, metrics, and answers for what never reaches a
//! service because it can't be read.
//!
//! tonic answers an undecodable request with `INTERNAL`, as if the server had failed, and gives no `ErrorInfo` with any
//! of its own refusals. Its answers are told from ours by that: ours always have details. So an answer without details
//! is looked at here and put into the words of our table:
//!
//! | tonic says | we say |
//! | --- | --- |
//! | INTERNAL, on a message that can't be decoded, is cut short or badly compressed | INVALID_ARGUMENT `MALFORMED` |
//! | OUT_OF_RANGE, on a message over the limit | OUT_OF_RANGE `TOO_LARGE` |
//! | RESOURCE_EXHAUSTED, on one that decompresses to more | RESOURCE_EXHAUSTED `TOO_LARGE` |
//! | UNIMPLEMENTED, on an encoding or method | UNIMPLEMENTED `UNSUPPORTED_ENCODING`, `UNKNOWN_METHOD` |
//!
//! tonic doesn't look at a request's content type. What is not gRPC is answered here, in HTTP's terms too (415), as
//! "gRPC over HTTP/2" asks for: UNIMPLEMENTED `UNSUPPORTED_CONTENT_TYPE`.
//!
//! A stream has its code at its end ([`super::answer`]); what fails there its service says itself.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::field;

use super::{answer::StreamedBody, status::Refusal};
use crate::{
    metrics::{InFlight, Metrics, code_name},
    request_id::{self, REQUEST_ID},
    traces::{ENTRY, Entry, Inbound},
};

/// Wraps the services of the clients' port.
#[derive(Clone)]
pub struct FrontLayer {
    shared: Arc<Shared>,
}

struct Shared {
    metrics: Arc<Metrics>,
    /// The next request id's number.
    next: AtomicU64,
}

impl FrontLayer {
    /// A layer that counts into `metrics`; made request ids begin at `seed`.
    pub fn new(metrics: Arc<Metrics>, seed: u64) -> Self {
        Self { shared: Arc::new(Shared { metrics, next: AtomicU64::new(seed) }) }
    }
}

impl<S> Layer<S> for FrontLayer {
    type Service = Front<S>;

    fn layer(&self, inner: S) -> Front<S> {
        Front { inner, shared: self.shared.clone() }
    }
}

/// See the [module](self).
#[derive(Clone)]
pub struct Front<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = &self.shared;
        let id = request_id::given(request.headers());
        let id = id.unwrap_or_else(|| request_id::made(shared.next.fetch_add(1, Ordering::Relaxed)));
        let call = shared.metrics.calls.begin(request.uri().path());
        let entry = entry(&call, &request, &id);
        let begun = Instant::now();
        let answer = is_grpc(&request).then(|| self.inner.call(request));
        let ending = Ending { entry: entry.clone(), call, begun };
        Box::pin(entry.run(async move {
            let mut response = match answer {
                Some(answer) => in_our_words(answer.await?),
                None => not_grpc(),
            };
            response.headers_mut().insert(REQUEST_ID, id);
            ending.call.timed(begun.elapsed());
            let status = response.headers().get("grpc-status");
            match status.map(|status| Code::from_bytes(status.as_bytes())) {
                None if ending.call.streams() => {
                    Ok(response.map(|body| Body::new(StreamedBody::new(body, ending))))
                }
                code => {
                    ending.ended(code.unwrap_or(Code::Ok));
                    Ok(response)
                }
            }
        }))
    }
}

/// The spans of a call.
fn entry(call: &InFlight, request: &Request<Body>, id: &HeaderValue) -> Entry {
    let inbound = Inbound::from_client(request.headers(), id);
    let method = call.method();
    let log = tracing::error_span!("grpc.call", method, request = inbound.request_id(), trace = field::Empty);
    let span = inbound.span(|| {
        tracing::debug_span!(
            target: ENTRY,
            "grpc.call",
            otel.kind = "server",
            otel.status_code = field::Empty,
            rpc.method = method,
            request = inbound.request_id(),
            answer = field::Empty
        )
    });
    Entry::new(inbound, log, span)
}

/// What is noted when a call has ended.
pub struct Ending {
    /// What it runs in.
    pub entry: Entry,
    call: InFlight,
    begun: Instant,
}

impl Ending {
    /// It has ended: counts it, and logs it: as a warning where the server failed.
    pub fn ended(self, code: Code) {
        let Self { entry, call, begun } = self;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let failed = is_failure(code);
        let answer = code_name(code);
        entry.run_sync(|| match failed {
            true => tracing::warn!(code = answer, micros, "failed"),
            false => tracing::debug!(code = answer, micros, "answered"),
        });
        entry.answered(answer, failed);
        call.ended(code);
    }
}

/// Whether a code says that the server, not the client, has to mend something; over HTTP these are statuses from 500 on.
fn is_failure(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown | Code::Internal | Code::DataLoss | Code::Unavailable | Code::DeadlineExceeded
    )
}

/// Whether a request's content type is `application/grpc`, with `+proto` and parameters or without.
fn is_grpc(request: &Request<Body>) -> bool {
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/grpc") || kind.eq_ignore_ascii_case("application/grpc+proto")
}

fn not_grpc() -> Response<Body> {
    let message = "the content type has to be application/grpc, with Protobuf messages";
    let refusal = Refusal::new(Code::Unimplemented, "UNSUPPORTED_CONTENT_TYPE", message);
    let mut answer = Status::from(refusal).into_http();
    *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    answer
}

/// Puts tonic's own refusals into our words; other answers pass.
fn in_our_words(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bin") {
        return response;
    }
    let Some(status) = Status::from_header_map(headers) else { return response };
    let Some(refusal) = refusal(&status) else { return response };
    let accepted = headers.get("grpc-accept-encoding").cloned();
    let mut answer = Status::from(refusal).into_http();
    if let Some(accepted) = accepted {
        // Tells a client that used another encoding which ones it may use.
        answer.headers_mut().insert("grpc-accept-encoding", accepted);
    }
    answer
}

/// What we say for something that tonic refused; `None`: as tonic said it.
pub(super) fn refusal(status: &Status) -> Option<Refusal> {
    let text = status.message();
    match status.code() {
        Code::Internal if is_unreadable(text) => {
            let message = format!("the request can't be read: {text}");
            Some(Refusal::new(Code::InvalidArgument, "MALFORMED", message))
        }
        // Of Flight's messages within messages.
        Code::InvalidArgument => Some(Refusal::new(
            Code::InvalidArgument,
            "MALFORMED",
            format!("the request can't be read: {text}"),
        )),
        Code::Internal if text.starts_with("ParseError(") || text.starts_with("IpcError(") => Some(
            Refusal::new(Code::InvalidArgument, "MALFORMED", format!("the request can't be read: {text}")),
        ),
        // Of a call without a message: the stream ended before it.
        Code::Internal if text == "Missing request message." => {
            Some(Refusal::new(Code::InvalidArgument, "MALFORMED", "the request holds no message"))
        }
        Code::OutOfRange => {
            let message = format!("the request is too large, send smaller batches: {text}");
            Some(Refusal::new(Code::OutOfRange, "TOO_LARGE", message))
        }
        Code::ResourceExhausted => {
            let message = format!("the request is too large once decompressed: {text}");
            Some(Refusal::new(Code::ResourceExhausted, "TOO_LARGE", message))
        }
        Code::Unimplemented if text.contains("compressed with") => {
            Some(Refusal::new(Code::Unimplemented, "UNSUPPORTED_ENCODING", text))
        }
        Code::Unimplemented => {
            let message = "there is no such method in this version";
            Some(Refusal::new(Code::Unimplemented, "UNKNOWN_METHOD", message))
        }
        _ => None,
    }
}

/// Whether tonic or prost means by this text that a request is not what it should be.
fn is_unreadable(text: &str) -> bool {
    const BEGINNINGS: [&str; 5] = [
        "failed to decode Protobuf message",
        "Unexpected EOF decoding stream",
        "Error decompressing",
        "protocol error: received message",
        "error decoding",
    ];
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn answered(status: Status) -> (Code, String) {
        let response = in_our_words(status.into_http());
        let status = Status::from_header_map(response.headers()).unwrap();
        let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
        (status.code(), reason.unwrap_or_default())
    }

    #[test]
    fn what_tonic_refuses_gets_our_reasons() {
        use isthmus_proto::v1::IngestRequest;
        use prost::Message as _;
        let undecodable = IngestRequest::decode(&[0x0a, 0xff][..]).unwrap_err();
        for (status, code, reason) in [
            (Status::internal(undecodable.to_string()), Code::InvalidArgument, "MALFORMED"),
            (Status::internal("Unexpected EOF decoding stream."), Code::InvalidArgument, "MALFORMED"),
            (Status::out_of_range("Error, decoded message length too large"), Code::OutOfRange, "TOO_LARGE"),
            (
                Status::resource_exhausted("Error decompressing: size limit"),
                Code::ResourceExhausted,
                "TOO_LARGE",
            ),
            (
                Status::unimplemented("Content is compressed with `br` which isn't supported"),
                Code::Unimplemented,
                "UNSUPPORTED_ENCODING",
            ),
            (Status::unimplemented(""), Code::Unimplemented, "UNKNOWN_METHOD"),
            (Status::internal("anything else"), Code::Internal, ""),
        ] {
            assert_eq!(answered(status), (code, reason.to_owned()));
        }
    }

    #[test]
    fn our_own_answers_pass_unchanged() {
        let ours = Refusal::new(Code::Internal, "INTERNAL", "failed to decode Protobuf message in a shard");
        assert_eq!(answered(ours.into()), (Code::Internal, "INTERNAL".to_owned()));
    }

    #[test]
    fn what_is_not_grpc_is_told_so() {
        let with =
            |kind: &str| is_grpc(&Request::builder().header(CONTENT_TYPE, kind).body(Body::empty()).unwrap());
        assert!(with("application/grpc") && with("application/grpc+proto") && with("Application/gRPC; a=b"));
        assert!(!with("application/json") && !with("application/grpc-web") && !with("application/grpc+json"));
        assert!(!is_grpc(&Request::new(Body::empty())));
        let (answer, refused) = (not_grpc(), "UNSUPPORTED_CONTENT_TYPE".to_owned());
        assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::Unimplemented);
        assert_eq!(status.get_error_details().error_info().unwrap().reason, refused);
    }
}
