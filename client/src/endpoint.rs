//! The nodes a client may talk to, and which of them takes the next call.
//!
//! Any node takes any request, so the choice is only about reachability and load: among the endpoints that are not
//! known to be down, the one with the fewest calls under way, and in turn where several have equally few. An endpoint
//! that failed is left alone for a short while; when all have failed, the one whose time is up first is tried. So a
//! dead node costs one failed connection a second, not one a call.
//!
//! Each endpoint has one lazily opened HTTP/2 connection, kept alive by pings while calls are under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{error::Error, tls::Tls};

/// The port that nodes listen on for clients unless told otherwise.
pub const DEFAULT_PORT: u16 = 7400;

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection with calls under way is pinged this often, and given up when a ping isn't answered in time.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Reads `[http://|https://]HOST[:PORT]` into a full address; `http` when no scheme is given.
///
/// # Errors
/// [`Error::Usage`] for anything else, with what is wrong.
pub fn parse_endpoint(text: &str) -> Result<String, Error> {
    parse_with(text, "http")
}

/// The same, with another scheme where none is given.
fn parse_with(text: &str, default_scheme: &'static str) -> Result<String, Error> {
    let text = text.trim();
    let wrong = |problem: &str| Error::Usage(format!("endpoint `{text}`: {problem}"));
    let (scheme, rest) = match text.split_once("://") {
        Some(("http", rest)) => ("http", rest),
        Some(("https", rest)) => ("https", rest),
        Some(_) => return Err(wrong("the scheme has to be http or https")),
        None => (default_scheme, text),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let shape = "give HOST:PORT, http://HOST:PORT or https://HOST:PORT";
    if rest.is_empty() || rest.contains(['/', '@', '?', '#']) {
        return Err(wrong(shape));
    }
    let uri: Uri = format!("{scheme}://{rest}").parse().map_err(|_| wrong(shape))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong(shape))?;
    let port = match uri.port_u16() {
        Some(0) => return Err(wrong("0 isn't a port")),
        Some(port) => port,
        None if rest == host => DEFAULT_PORT,
        None => return Err(wrong("the port has to be a number up to 65535")),
    };
    Ok(format!("{scheme}://{host}:{port}"))
}

/// All endpoints of a client.
#[derive(Debug)]
pub(crate) struct Pool {
    slots: Vec<Arc<Slot>>,
    turn: AtomicU32,
    epoch: Instant,
}

#[derive(Debug)]
struct Slot {
    address: String,
    channel: Channel,
    in_flight: AtomicU32,
    /// Milliseconds since the pool's epoch; 0 when it isn't known to be down.
    down_until_ms: AtomicU64,
}

/// One call's hold on an endpoint; counted as under way until dropped.
pub(crate) struct Lease {
    slot: Arc<Slot>,
    epoch: Instant,
}

/// What the choice is made by.
#[derive(Debug, Clone, Copy)]
struct Load {
    in_flight: u32,
    down_until_ms: u64,
}

/// Chooses among endpoints: the least loaded that isn't down, from `turn` on; else the one that is up again first.
fn choose(loads: &[Load], now_ms: u64, turn: usize) -> usize {
    let order = || (0..loads.len()).map(|step| (turn + step) % loads.len());
    let up = order().filter(|&index| loads[index].down_until_ms <= now_ms);
    up.min_by_key(|&index| loads[index].in_flight)
        .or_else(|| order().min_by_key(|&index| loads[index].down_until_ms))
        .unwrap_or(0)
}

impl Pool {
    /// Opens nothing yet. Must be called within a tokio runtime.
    pub(crate) fn new(endpoints: &[String], tls: Option<&Tls>) -> Result<Self, Error> {
        let mut slots: Vec<Arc<Slot>> = Vec::new();
        for endpoint in endpoints {
            let address = parse_with(endpoint, if tls.is_some() { "https" } else { "http" })?;
            if slots.iter().any(|slot| slot.address == address) {
                continue;
            }
            let mut settings = Endpoint::from_shared(address.clone())
                .map_err(|_| Error::Usage(format!("endpoint `{address}`: not an address")))?;
            match (address.starts_with("https://"), tls) {
                (true, tls) => settings = tls.cloned().unwrap_or_default().applied_to(settings)?,
                (false, Some(_)) => {
                    // What was meant to be secret would go in the clear.
                    let problem = "TLS options are given: use https://";
                    return Err(Error::Usage(format!("endpoint `{address}`: {problem}")));
                }
                (false, None) => {}
            }
            let channel = settings
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .connect_lazy();
            slots.push(Arc::new(Slot {
                address,
                channel,
                in_flight: AtomicU32::new(0),
                down_until_ms: AtomicU64::new(0),
            }));
        }
        if slots.is_empty() {
            return Err(Error::Usage("no endpoint given".into()));
        }
        // Clients started together don't all begin with the first endpoint.
        let turn = AtomicU32::new(rand::random_range(0..1 << 16));
        Ok(Self { slots, turn, epoch: Instant::now() })
    }

    /// How many endpoints there are: one at least.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The endpoint for the next try; `hint` (`host:port`) wins when it is one of ours.
    pub(crate) fn take(&self, hint: Option<&str>) -> Lease {
        let named = hint.and_then(|hint| self.slots.iter().position(|slot| slot.authority() == hint));
        let index = named.unwrap_or_else(|| {
            let loads: Vec<Load> = self.slots.iter().map(|slot| slot.load()).collect();
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
            choose(&loads, millis_since(self.epoch), turn)
        });
        let slot = self.slots[index].clone();
        slot.in_flight.fetch_add(1, Ordering::Relaxed);
        Lease { slot, epoch: self.epoch }
    }
}

impl Slot {
    /// `host:port`.
    fn authority(&self) -> &str {
        self.address.split_once("://").map_or("", |(_, authority)| authority)
    }

    fn load(&self) -> Load {
        Load {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            down_until_ms: self.down_until_ms.load(Ordering::Relaxed),
        }
    }
}

impl Lease {
    pub(crate) fn channel(&self) -> Channel {
        self.slot.channel.clone()
    }

    pub(crate) fn address(&self) -> &str {
        &self.slot.address
    }

    /// It answered.
    pub(crate) fn is_up(&self) {
        self.slot.down_until_ms.store(0, Ordering::Relaxed);
    }

    /// It failed: leave it alone for so long.
    pub(crate) fn is_down(&self, pause: Duration) {
        let until = millis_since(self.epoch) + u64::try_from(pause.as_millis()).unwrap_or(u64::MAX / 2);
        self.slot.down_until_ms.store(until, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slot.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn millis_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(in_flight: u32, down_until_ms: u64) -> Load {
        Load { in_flight, down_until_ms }
    }

    #[test]
    fn the_least_loaded_is_chosen_and_equals_take_turns() {
        assert_eq!(choose(&[load(3, 0), load(1, 0), load(2, 0)], 5, 0), 1);
        let equal = [load(1, 0), load(1, 0), load(1, 0)];
        assert_eq!((0..4).map(|turn| choose(&equal, 5, turn)).collect::<Vec<_>>(), [0, 1, 2, 0]);
    }

    #[test]
    fn an_endpoint_that_is_down_is_skipped_until_its_time_is_up() {
        let loads = [load(0, 100), load(9, 0)];
        assert_eq!(choose(&loads, 99, 0), 1);
        assert_eq!(choose(&loads, 100, 0), 0);
    }

    #[test]
    fn when_all_are_down_the_first_to_be_up_again_is_tried() {
        assert_eq!(choose(&[load(0, 300), load(0, 200), load(0, 400)], 100, 0), 1);
    }

    #[test]
    fn addresses_are_completed_and_wrong_ones_refused() {
        let good = [
            ("127.0.0.1:7400", "http://127.0.0.1:7400"),
            (" http://hub:1234/ ", "http://hub:1234"),
            ("hub", "http://hub:7400"),
            ("[::1]:9", "http://[::1]:9"),
            ("[::1]", "http://[::1]:7400"),
            ("https://hub", "https://hub:7400"),
            ("https://hub:1", "https://hub:1"),
        ];
        for (text, full) in good {
            assert_eq!(parse_endpoint(text).unwrap(), full);
        }
        for text in ["", "http://", "ftp://hub", "hub:99999", "hub:x", "hub:0", "a/b", "u:p@hub:1", "a b"] {
            assert!(parse_endpoint(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn with_tls_options_nothing_goes_in_the_clear() {
        let authority = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem();
        let tls = Tls::new().ca_pem(authority);
        let pool = Pool::new(&["a:1".into(), "https://b:2".into()], Some(&tls)).unwrap();
        assert_eq!(pool.take(Some("a:1")).address(), "https://a:1");
        assert_eq!(pool.take(Some("b:2")).address(), "https://b:2");
        assert!(Pool::new(&["http://a:1".into()], Some(&tls)).is_err());
    }

    #[tokio::test]
    async fn a_lease_counts_until_it_is_dropped() {
        let pool = Pool::new(&["a:1".into(), "b:1".into(), "a:1".into()], None).unwrap();
        assert_eq!(pool.len(), 2);
        let first = pool.take(Some("a:1"));
        let second = pool.take(None);
        assert_eq!((first.address(), second.address()), ("http://a:1", "http://b:1"));
        drop(second);
        assert_eq!(pool.take(None).address(), "http://b:1");
    }
}
