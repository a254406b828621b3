//! Who may read: programs on this machine, as long as there is no access control.
//!
//! A loopback listener alone is no guard: any page that a browser on this machine shows can ask it, and a name that is
//! made to mean 127.0.0.1 ("DNS rebinding") makes such a page look like one of ours. So all of these have to hold:
//!
//! 1. the HTTP port listens on a loopback address;
//! 2. `Host` is a loopback name, whatever its port: a rebound name is not;
//! 3. `Origin`, where a browser sends one, is that host's: other pages don't get in even blindly.

use std::net::Ipv6Addr;

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, Uri,
        header::{HOST, ORIGIN},
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

/// Lets through what comes from this machine and from no page of elsewhere.
pub async fn only(State(Loopback(listener)): State<Loopback>, request: Request, next: Next) -> Response {
    match permitted(listener, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => Failure::from(refusal).into_response(),
    }
}

fn permitted(listener: bool, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
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
    if foreign {
        return denied(
            "a page of another origin asks: profiles are read only by programs and pages of this node",
        );
    }
    Ok(())
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
}
