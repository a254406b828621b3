//! What browsers ask before a page of another origin may send events here (the Fetch standard, "CORS protocol").
//!
//! Ingest paths alone pass through this. Any origin may send: a write key only writes, and stands in the page for
//! everybody to read. The answer names the origin itself and allows credentials, where `*` would do for `fetch`:
//! `navigator.sendBeacon` always sends in the mode "include", for which browsers refuse `*` and log an error on every
//! page, although the event has arrived. Allowing credentials gives nothing away: no answer here depends on a cookie or
//! on a login that a browser keeps, and none is ever asked for.

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
            ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
        },
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};

/// How long a browser may remember that it may send, in seconds; browsers cut it shorter by themselves.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");
/// The longest list of headers that a page may ask to send.
const ASKED_BYTES_MAX: usize = 1 << 10;

/// Answers preflights and marks answers as readable for pages of other origins.
pub async fn allowed(request: Request, next: Next) -> Response {
    let origin = request.headers().get(ORIGIN).cloned();
    let mut response = match is_preflight(request.method(), request.headers()) {
        true => preflight(request.headers()),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        // An SDK in a page has to see when it may come back.
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, x-request-id"));
    }
    response
}

fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    // SDKs let pages add headers of their own; with credentials `*` would mean a header of that name.
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|names| are_names(names)) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}

/// Whether it is a list of header names and nothing else.
fn are_names(list: &HeaderValue) -> bool {
    let name = |name: &str| HeaderName::from_bytes(name.trim().as_bytes()).is_ok();
    list.len() <= ASKED_BYTES_MAX && list.to_str().is_ok_and(|list| list.split(',').all(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_preflight_allows_what_was_asked_for_if_it_is_a_list_of_names() {
        let ask = |names: &'static str| {
            let asked = headers(&[
                (ORIGIN, "https://shop.example"),
                (ACCESS_CONTROL_REQUEST_METHOD, "POST"),
                (ACCESS_CONTROL_REQUEST_HEADERS, names),
            ]);
            assert!(is_preflight(&Method::OPTIONS, &asked) && !is_preflight(&Method::POST, &asked));
            preflight(&asked).headers().get(ACCESS_CONTROL_ALLOW_HEADERS).cloned()
        };
        let usual = "authorization, content-type,x-retry-count";
        assert_eq!(ask(usual).unwrap(), usual);
        assert_eq!(ask("a b"), None);
        assert!(!is_preflight(&Method::OPTIONS, &headers(&[(ORIGIN, "https://shop.example")])));
    }
}
