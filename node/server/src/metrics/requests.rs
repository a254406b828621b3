//! HTTP requests: rate, errors, durations, and how many are under way, by route.
//!
//! A route is the pattern that matched (`/v1/profiles/{key}`), never what was asked for; of methods the usual ones are
//! told apart. So what is counted is bounded by the routes that there are. Each is made when it is first met.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use isthmus_raft::Histogram;
use parking_lot::RwLock;

use super::{calls::MICROS, family::Family};

/// Stands for requests that match no route, and for unusual methods.
const OTHER: &str = "(other)";
const METHODS: [&str; 7] = ["GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE", "PATCH"];
/// Statuses lie between these.
const STATUSES: std::ops::Range<u16> = 100..600;

/// Counts requests whose client has gone before the answer. nginx has made the number known.
const GIVEN_UP: u16 = 499;

/// Routes of one method, by path.
type Routes = BTreeMap<Box<str>, Arc<Route>>;

/// All routes that were met, by method.
#[derive(Default)]
pub struct Requests {
    routes: RwLock<BTreeMap<&'static str, Routes>>,
}

/// What is counted of a route and method.
struct Route {
    in_flight: AtomicU64,
    /// By status, from 100 on.
    statuses: Box<[AtomicU64]>,
    micros: Histogram,
}

impl Route {
    fn new() -> Arc<Self> {
        let statuses = STATUSES.map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { in_flight: AtomicU64::new(0), statuses, micros: Histogram::new(&MICROS) })
    }
}

/// A method as it may be shown: unusual ones are anybody's text.
pub fn usual(method: &str) -> &'static str {
    METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER)
}

/// A request under way. One that is let go of before it was answered was given up by its client.
pub struct UnderWay {
    of: Arc<Route>,
    answered: bool,
}

impl UnderWay {
    /// It was answered.
    pub fn answered(mut self, status: u16, took: Duration) {
        self.of.micros.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.count(status);
        self.answered = true;
    }

    fn count(&self, status: u16) {
        let place = status.checked_sub(STATUSES.start).map(usize::from);
        if let Some(count) = place.and_then(|place| self.of.statuses.get(place)) {
            count.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.answered {
            self.count(GIVEN_UP);
        }
        self.of.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Requests {
    /// A request begins. `route` is the pattern that it matches, if any.
    pub fn begin(&self, route: Option<&str>, method: &str) -> UnderWay {
        let method = usual(method);
        let path = route.unwrap_or(OTHER);
        let known = self.routes.read().get(method).and_then(|routes| routes.get(path)).cloned();
        let route = known.unwrap_or_else(|| {
            let mut routes = self.routes.write();
            routes.entry(method).or_default().entry(path.into()).or_insert_with(Route::new).clone()
        });
        route.in_flight.fetch_add(1, Relaxed);
        UnderWay { of: route, answered: false }
    }

    pub(super) fn families(&self) -> Vec<Family> {
        let mut requests =
            Family::counter("http_requests", "HTTP requests that were answered, by route, method and status");
        let mut seconds = Family::histogram(
            "http_request_seconds",
            "Time to an HTTP request's answer, by route and method",
        );
        let mut in_flight =
            Family::gauge("http_in_flight_requests", "HTTP requests under way, by route and method");
        let routes = self.routes.read();
        let all = routes.iter().flat_map(|(method, routes)| routes.iter().map(move |it| (method, it)));
        for (method, (path, route)) in all {
            let labels = || vec![("route", path.to_string()), ("method", (*method).to_owned())];
            for (status, count) in STATUSES.zip(&route.statuses) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let mut labels = labels();
                    labels.push(("status", status.to_string()));
                    requests.push(labels, count);
                }
            }
            in_flight.push(labels(), route.in_flight.load(Relaxed));
            seconds.push_micros(labels(), route.micros.read());
        }
        vec![requests, seconds, in_flight]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_makes_up_makes_no_route() {
        let requests = Requests::default();
        for method in ["GET", "BREW", "PROPFIND"] {
            requests.begin(None, method).answered(404, Duration::ZERO);
        }
        requests.begin(Some("/v1/{key}"), "GET").answered(999, Duration::ZERO);
        let routes = requests.routes.read();
        let of = |method: &str| routes[method].keys().map(|route| &**route).collect::<Vec<_>>();
        assert_eq!((of(OTHER), of("GET")), (vec![OTHER], vec![OTHER, "/v1/{key}"]));
        assert_eq!(routes.len(), 2);
    }
}
