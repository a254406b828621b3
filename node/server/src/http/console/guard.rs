//! Who may see the console, and what a browser may do with its pages.
//!
//! Access is that of the other reads ([`local`]); where those refuse with JSON, a person gets a page. That page holds no
//! form token: whoever is refused can do nothing with it.

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use isthmus_console::{CONTENT_SECURITY_POLICY, Shell, Theme};

use super::reply;
use crate::http::{
    errors::Failure,
    local::{self, Loopback},
};

/// On all answers, with those of [`local::keep_private`]. `same-origin` rather than no referrer at all, since browsers
/// would then send forms with `Origin: null`.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Lets through what comes from this machine and from no page of elsewhere.
pub(super) async fn only(
    State(Loopback(listener)): State<Loopback>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match local::permitted(listener, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let shell = Shell {
                theme: Theme::System,
                query: "",
                node: 0,
                version: "",
                form_token: "",
                here: "/",
                now: 0,
            };
            reply::failure(&shell, &Failure::from(refusal))
        }
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    local::keep_private(&mut response);
    response
}
