//! What every HTTP request passes through: a request id, a span, a bound on headers, and answers for paths and methods
//! that don't exist.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header::ALLOW},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tonic::Code;
use tracing::Instrument as _;

use super::errors::Failure;
use crate::{
    fault::Refusal,
    request_id::{self, REQUEST_ID},
};

/// The largest header list of a request: names and values, with what HTTP/2 counts for each (RFC 9113, 6.5.2).
const HEADER_BYTES_MAX: usize = 16 << 10;
/// What each header counts besides its name and value.
const HEADER_OVERHEAD_BYTES: usize = 32;

/// Makes request ids.
#[derive(Debug)]
pub struct Ids(AtomicU64);

impl Ids {
    /// Ids that begin at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

/// Names a request and notes how it was answered.
pub async fn named(State(ids): State<std::sync::Arc<Ids>>, request: Request, next: Next) -> Response {
    let given = request_id::given(request.headers());
    let id = given.unwrap_or_else(|| request_id::made(ids.0.fetch_add(1, Relaxed)));
    let span = tracing::debug_span!(
        "http.request",
        method = %request.method(),
        path = route(request.uri()),
        request = id.to_str().unwrap_or_default()
    );
    async move {
        let mut response = next.run(request).await;
        tracing::debug!(status = response.status().as_u16(), "answered");
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
    .instrument(span)
    .await
}

/// A path without what could be a customer's or a key: for spans.
fn route(uri: &Uri) -> &str {
    let path = uri.path();
    match path.match_indices('/').nth(2) {
        Some((end, _)) => &path[..end],
        None => path,
    }
}

/// Refuses headers over the bound.
pub async fn bounded(request: Request, next: Next) -> Response {
    if header_bytes(request.headers()) + request.uri().path().len() > HEADER_BYTES_MAX {
        let message = format!("the request's headers are larger than {HEADER_BYTES_MAX} bytes: send fewer");
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
    fn a_span_names_no_customer() {
        for (path, shown) in [
            ("/v1/profiles/email:a@b.de/traits", "/v1/profiles"),
            ("/v1/projects/key/settings", "/v1/projects"),
            ("/v1/batch", "/v1/batch"),
            ("/healthz", "/healthz"),
            ("/", "/"),
        ] {
            assert_eq!(route(&path.parse().unwrap()), shown);
        }
    }

    #[test]
    fn headers_count_as_http2_counts_them() {
        let headers = [("a", "bc")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        assert_eq!(header_bytes(&HeaderMap::from_iter(headers)), 35);
    }
}
