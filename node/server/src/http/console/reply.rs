//! What a request brings to every page, and how pages and failures are sent.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, StatusCode, header::COOKIE, request::Parts},
    response::{Html, IntoResponse as _, Response},
};
use isthmus_console::{Shell, Theme, failure};
use tonic::{Code, Status};

use super::{Console, FormToken};
use crate::{fault::Refusal, http::errors::Failure, version::VERSION};

/// Light or dark.
pub(super) const THEME_COOKIE: &str = "isthmus_theme";

/// A request for a page.
pub(super) struct Asked {
    pub(super) console: Arc<Console>,
    headers: HeaderMap,
    here: String,
    now: i64,
}

impl FromRequestParts<Arc<Console>> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Infallible> {
        let here = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        // A form's path has no page of its own to come back to.
        let here = if parts.method == Method::GET { here } else { "/" };
        Ok(Self {
            console: console.clone(),
            headers: parts.headers.clone(),
            here: here.to_owned(),
            now: console.hub.clock.now_micros(),
        })
    }
}

impl Asked {
    /// What forms have to come with.
    pub(super) fn token(&self) -> &FormToken {
        &self.console.token
    }

    /// The request's headers.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The frame of a page.
    pub(super) fn shell(&self) -> Shell<'_> {
        Shell {
            theme: theme(&self.headers),
            query: "",
            node: self.console.hub.node,
            version: VERSION,
            form_token: self.console.token.text(),
            here: &self.here,
            now: self.now,
        }
    }

    /// The same on a page that is come back to elsewhere than where it was asked for.
    pub(super) fn shell_at<'a>(&'a self, here: &'a str) -> Shell<'a> {
        Shell { here, ..self.shell() }
    }

    /// An answer, or the page of its failure.
    pub(super) async fn answer(&self, answer: impl Future<Output = Result<Response, Failure>>) -> Response {
        answer.await.unwrap_or_else(|refused| failure(&self.shell(), &refused))
    }
}

/// The theme that the cookie names.
fn theme(headers: &HeaderMap) -> Theme {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| Theme::of_name(value).filter(|_| name == THEME_COOKIE)).unwrap_or_default()
}

/// A page.
pub(super) fn page(html: String) -> Response {
    Html(html).into_response()
}

/// The page of a failure.
pub(super) fn failure(shell: &Shell<'_>, refused: &Failure) -> Response {
    let status = refused.status();
    let again = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    let told = failure::Failure {
        message: &refused.body.message,
        reason: &refused.body.error.reason,
        status: status.as_u16(),
        again: again.contains(&status),
    };
    (status, Html(failure::page(shell, &told))).into_response()
}

/// What a service refused.
pub(super) fn refused(status: Status) -> Failure {
    Failure::from_status(&status)
}

/// A query that can't be read.
pub(super) fn bad_query() -> Failure {
    let message = "the address of the page can't be read: go back, or begin at the overview";
    Failure::from(Refusal::new(Code::InvalidArgument, "INVALID_QUERY", message))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_theme_is_found_among_other_cookies() {
        let of =
            |cookie: &'static str| theme(&HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(cookie))]));
        assert_eq!(of("a=b; isthmus_theme=dark; c=d"), Theme::Dark);
        assert_eq!(of("isthmus_theme=light"), Theme::Light);
        assert_eq!(
            [of("theme=dark"), of("isthmus_theme=purple"), theme(&HeaderMap::new())],
            [Theme::System; 3]
        );
    }
}
