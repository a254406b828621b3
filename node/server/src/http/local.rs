//! Who may read: programs on this machine, as long as there is no access control.
//!
//! A loopback listener alone is no guard: any page that a browser on this machine shows can ask it, and a name that is
//! made to mean 127.0.0.1 ("DNS rebinding") makes such a page look like one of ours. So all of these have to hold:
//!
//! 1. the HTTP port listens on a loopback address;
//! 2. `Host` is a loopback name, whatever its port: a rebound name is not;
//! 3. `Origin`, where a browser sends one, is that host's;
//! 4. `Sec-Fetch-Site`, where a browser sends it, names no other site: pages of elsewhere don't get in even blindly, with
//!    an image's address, say, for which browsers send no origin. A link that a person follows may lead here.
//!
//! What is answered is kept by no cache, and by no browser taken for anything but what it says it is ([`PRIVATE`]).
//!
//! Source of the fourth: Fetch Metadata Request Headers, W3C, <https://www.w3.org/TR/fetch-metadata/>.

use std::net::Ipv6Addr;

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Uri,
        header::{CACHE_CONTROL, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tonic::Code;

use super::errors::Failure;
use crate::fault::Refusal;

/// Whether the port listens on a loopback address.
#[derive(Clone, Copy, Debug)]
pub struct Loopback(pub bool);

/// On all that is answered of customers.
pub const PRIVATE: [(HeaderName, &str); 2] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Puts the headers of [`PRIVATE`] on an answer, and lets no cache keep it that isn't told to.
pub fn keep_private(response: &mut Response) {
    let headers = response.headers_mut();
    for (name, value) in PRIVATE {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Lets through what comes from this machine and from no page of elsewhere.
pub async fn only(State(Loopback(listener)): State<Loopback>, request: Request, next: Next) -> Response {
    let mut response = match permitted(listener, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => Failure::from(refusal).into_response(),
    };
    keep_private(&mut response);
    response
}

/// Whether a request may be answered at all.
///
/// # Errors
/// PERMISSION_DENIED `NOT_LOCAL`.
pub fn permitted(listener: bool, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let denied = |message: &str| Err(Refusal::new(Code::PermissionDenied, "NOT_LOCAL", message));
    if !listener {
        return denied(
            "there is no access control yet, so profiles are read only through a node whose http_listen is a loopback \
             address: ask such a node on its own machine, or use gRPC",
        );
    }
    // HTTP/2 has the host in the target; HTTP/1.1 in the header. More than one is a trick.
    let mut hosts = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let host = uri.authority().map(|authority| authority.as_str()).or_else(|| hosts.next());
    let Some(host) = host.filter(|host| hosts.next().is_none() && is_loopback(host)) else {
        return denied(
            "profiles are read only under the name localhost, 127.0.0.1 or [::1]: ask by one of these",
        );
    };
    let mut origins = headers.get_all(ORIGIN).iter();
    let foreign = origins.any(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        origin.strip_prefix("http://").is_none_or(|origin| !origin.eq_ignore_ascii_case(host))
    });
    if foreign || is_from_elsewhere(headers) {
        return denied(
            "a page of another origin asks: profiles are read only by programs and pages of this node",
        );
    }
    Ok(())
}

/// Whether a browser says that another site's page asks, and not a person who followed its link.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let is = |name: &str, wanted: &[&str]| {
        headers.get(name).is_some_and(|value| wanted.iter().any(|w| value == w))
    };
    let followed = is("sec-fetch-mode", &["navigate"]) && is("sec-fetch-dest", &["document"]);
    is("sec-fetch-site", &["cross-site", "same-site"]) && !followed
}

/// Whether it is `localhost`, `127.0.0.1` or `[::1]`, with a port or without.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let loopback = address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback());
            return loopback && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    (name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1") && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(listener: bool, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        permitted(listener, &"/v1/profiles/user_id:1".parse().unwrap(), &HeaderMap::from_iter(headers))
            .is_ok()
    }

    #[test]
    fn loopback_hosts_are_known_by_name_and_address() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:65535", "[::1]", "[::1]:80"] {
            assert!(is_loopback(host) && asked(true, &[("host", host)]), "{host}");
        }
        for host in [
            "",
            "127.0.0.1.evil.example",
            "evil.example",
            "localhost.evil.example:80",
            "127.0.0.1:x",
            "127.0.0.1:+1",
            "[::2]",
            "[::1]x",
            "::1",
            "0.0.0.0",
            "localhost@evil.example",
        ] {
            assert!(!is_loopback(host) && !asked(true, &[("host", host)]), "{host}");
        }
    }

    #[test]
    fn pages_of_elsewhere_and_open_listeners_are_refused() {
        let host = ("host", "localhost:7480");
        assert!(!asked(false, &[host]), "the listener is no loopback one");
        assert!(!asked(true, &[]), "no host");
        assert!(!asked(true, &[host, ("host", "localhost:7480")]), "two hosts");
        assert!(asked(true, &[host, ("origin", "http://localhost:7480")]));
        for origin in ["http://localhost:7481", "https://localhost:7480", "http://evil.example", "null", ""] {
            assert!(!asked(true, &[host, ("origin", origin)]), "{origin}");
        }
    }

    #[test]
    fn a_page_of_elsewhere_gets_nothing_and_a_link_of_its_leads_here() {
        let host = ("host", "localhost:7480");
        for site in ["cross-site", "same-site"] {
            let site = ("sec-fetch-site", site);
            assert!(!asked(true, &[host, site]));
            assert!(!asked(true, &[host, site, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")]));
            let framed = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
            assert!(!asked(true, &[&[host, site], &framed[..]].concat()));
            let followed = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
            assert!(asked(true, &[&[host, site], &followed[..]].concat()));
        }
        for site in ["same-origin", "none"] {
            assert!(asked(true, &[host, ("sec-fetch-site", site)]), "{site}");
        }
    }
}
