//! A node's ports: bound before anything else, so that a port in use is found while nothing has been touched.

use std::{io::ErrorKind, net::SocketAddr};

use tokio::{
    net::{TcpListener, lookup_host},
    time::{Instant, sleep},
};

use super::{LET_GO, NodeOptions};
use crate::{Error, Result};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The bound ports, with the addresses under which others reach them.
pub(super) struct Ports {
    pub(super) grpc: Port,
    pub(super) http: Port,
    pub(super) peer: Port,
}

/// A bound port.
pub(super) struct Port {
    pub(super) listener: TcpListener,
    /// `host:port` for others.
    pub(super) address: String,
}

impl Ports {
    /// Binds all three.
    ///
    /// # Errors
    /// [`Error::Setting`] with the key: an address that is none, plaintext off loopback, a port in use, an address
    /// that others can't reach.
    pub(super) async fn bind(options: &NodeOptions) -> Result<Self> {
        let bind = |key, listen| Port::bind(options, key, listen);
        Ok(Self {
            grpc: bind("grpc_listen", &options.grpc_listen).await?,
            http: bind("http_listen", &options.http_listen).await?,
            peer: bind("peer_listen", &options.peer_listen).await?,
        })
    }
}

impl Port {
    async fn bind(options: &NodeOptions, key: &'static str, listen: &str) -> Result<Self> {
        let wrong = |problem: String| Error::setting(key, problem);
        let Some((host, _)) = listen.rsplit_once(':').filter(|(host, _)| !host.is_empty()) else {
            return Err(wrong(format!("`{listen}` is not HOST:PORT")));
        };
        let resolved = lookup_host(listen).await.map_err(|error| wrong(format!("`{listen}`: {error}")))?;
        let addresses: Vec<SocketAddr> = resolved.collect();
        if !options.insecure_plaintext && addresses.iter().any(|address| !address.ip().is_loopback()) {
            let problem = format!(
                "`{listen}` is not a loopback address, and what is sent there is not encrypted: listen on loopback, \
                 or allow it with --insecure-plaintext"
            );
            return Err(wrong(problem));
        }
        let listening = patiently(&addresses).await;
        let listener = listening.map_err(|error| wrong(format!("can't listen on `{listen}`: {error}")))?;
        let bound = listener.local_addr().map_err(|error| wrong(format!("`{listen}`: {error}")))?;
        let host = match &options.advertise_host {
            Some(host) => bracketed(host),
            None if bound.ip().is_unspecified() => {
                let problem = format!(
                    "others can't reach a node at `{listen}`: say with advertise_host where they can"
                );
                return Err(Error::setting("advertise_host", problem));
            }
            None => host.to_owned(),
        };
        Ok(Self { listener, address: format!("{host}:{}", bound.port()) })
    }
}

/// Listens; a port in use is waited for a moment, since a process that was killed takes a moment to let go.
async fn patiently(addresses: &[SocketAddr]) -> std::io::Result<TcpListener> {
    let until = Instant::now() + LET_GO;
    loop {
        match listener(addresses) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                sleep(LET_GO / 20).await;
            }
            done => return done,
        }
    }
}

/// Listens on the first of the addresses that can be had.
fn listener(addresses: &[SocketAddr]) -> std::io::Result<TcpListener> {
    let mut failed = std::io::Error::from(ErrorKind::AddrNotAvailable);
    for address in addresses {
        match bind(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    use tokio::net::TcpSocket;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A port that a process has just left may be used at once; one that is in use may not.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A host as it stands before a colon and a port.
fn bracketed(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Origin;

    fn options() -> NodeOptions {
        NodeOptions::local(1, "unused", Origin::Resume)
    }

    async fn refused(options: NodeOptions) -> (String, String) {
        match Ports::bind(&options).await {
            Err(Error::Setting { key, problem }) => (key, problem),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("bound"),
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = Ports::bind(&options()).await.unwrap();
        let (key, problem) =
            refused(NodeOptions { http_listen: taken.peer.address.clone(), ..options() }).await;
        assert!(key == "http_listen" && problem.contains("in use"), "{problem}");
    }

    #[tokio::test]
    async fn plaintext_off_loopback_is_refused_unless_allowed() {
        let open = || NodeOptions { grpc_listen: "0.0.0.0:0".into(), ..options() };
        let (key, problem) = refused(open()).await;
        assert!(key == "grpc_listen" && problem.contains("--insecure-plaintext"), "{problem}");
        let (key, _) = refused(NodeOptions { insecure_plaintext: true, ..open() }).await;
        assert_eq!(key, "advertise_host");
        let advertised = Some("node-1.example".to_owned());
        let allowed = NodeOptions { insecure_plaintext: true, advertise_host: advertised, ..open() };
        let ports = Ports::bind(&allowed).await.unwrap();
        assert!(ports.grpc.address.starts_with("node-1.example:"));
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused() {
        for listen in ["7400", ":7400", "127.0.0.1", "127.0.0.1:99999"] {
            assert_eq!(
                refused(NodeOptions { peer_listen: listen.into(), ..options() }).await.0,
                "peer_listen"
            );
        }
    }
}
