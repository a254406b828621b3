//! What every HTTP request passes through: a request id, a span, a bound on headers, and answers for paths and methods
//! that don't exist.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header::ALLOW},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::time::Instant;
use tonic::Code;
use tracing::field::Empty;

use super::errors::Failure;
use crate::{
    fault::Refusal,
    metrics::{Metrics, usual},
    request_id::{self, REQUEST_ID},
    traces::{ENTRY, Entry, Inbound},
};

/// The largest header list of a request with its target: names and values, with what HTTP/2 counts for each (RFC 9113,
/// 6.5.2).
const HEADER_BYTES_MAX: usize = 16 << 10;
/// What each header counts besides its name and value.
const HEADER_OVERHEAD_BYTES: usize = 32;

/// What names and counts requests.
pub struct Front {
    ids: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Front {
    /// Counts into `metrics`; request ids that are made begin at `seed`.
    pub fn new(metrics: Arc<Metrics>, seed: u64) -> Self {
        Self { ids: AtomicU64::new(seed), metrics }
    }
}

/// Names a request, counts it, and notes how it was answered: as a warning where the server failed.
pub async fn named(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let given = request_id::given(request.headers());
    let id = given.unwrap_or_else(|| request_id::made(front.ids.fetch_add(1, Relaxed)));
    // The pattern, never what was asked for: that may be a customer or a key.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let counted = front.metrics.requests.begin(route, request.method().as_str());
    let entry = entry(route, &request, &id);
    entry
        .clone()
        .run(async move {
            let mut response = next.run(request).await;
            let (status, took) = (response.status(), begun.elapsed());
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            match status.is_server_error() {
                true => tracing::warn!(status = status.as_u16(), micros, "failed"),
                false => tracing::debug!(status = status.as_u16(), micros, "answered"),
            }
            entry.answered(status.as_str(), status.is_server_error());
            counted.answered(status.as_u16(), took);
            response.headers_mut().insert(REQUEST_ID, id);
            response
        })
        .await
}

/// The spans of a request.
fn entry(route: Option<&str>, request: &Request, id: &HeaderValue) -> Entry {
    let inbound = Inbound::from_client(request.headers(), id);
    let method = usual(request.method().as_str());
    let log =
        tracing::error_span!("http.request", method, route, request = inbound.request_id(), trace = Empty);
    let span = inbound.span(|| {
        tracing::debug_span!(
            target: ENTRY,
            "http.request",
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = method,
            http.route = route,
            request = inbound.request_id(),
            answer = Empty
        )
    });
    Entry::new(inbound, log, span)
}

/// Refuses headers over the bound.
pub async fn bounded(request: Request, next: Next) -> Response {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if header_bytes(request.headers()) + target > HEADER_BYTES_MAX {
        let message = format!(
            "the request's headers and its target are larger than {HEADER_BYTES_MAX} bytes: send fewer"
        );
        let refusal = Refusal::new(Code::InvalidArgument, "HEADERS_TOO_LARGE", message);
        return Failure::with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &refusal).into_response();
    }
    next.run(request).await
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD_BYTES).sum()
}

/// The answer for a path that doesn't exist.
pub async fn no_such_path() -> Response {
    let message = "there is no such path: /v1/openapi.json says which there are";
    Failure::from(Refusal::new(Code::NotFound, "UNKNOWN_PATH", message)).into_response()
}

/// The answer for a method that a path doesn't have; the router says in `Allow` which it has.
pub async fn no_such_method(method: Method) -> Response {
    let message = format!("this path doesn't answer {method}: {ALLOW} says what it answers");
    let refusal = Refusal::new(Code::Unimplemented, "UNKNOWN_METHOD", message);
    Failure::with_status(StatusCode::METHOD_NOT_ALLOWED, &refusal).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_count_as_http2_counts_them() {
        let headers = [("a", "bc")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        assert_eq!(header_bytes(&HeaderMap::from_iter(headers)), 35);
    }
}
