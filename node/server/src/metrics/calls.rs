//! Clients' gRPC calls: rate, errors, durations, and how many are under way.
//!
//! The methods are those of the descriptors that reflection serves, so that none can be forgotten. All counters are
//! made at the start, and a call looks its own up once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use isthmus_raft::Histogram;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use super::family::Family;

/// Stands for all paths that are no methods.
const OTHER: &str = "(other)";
/// From 100 µs to 13 s, each twice the one before.
pub(super) const MICROS: [u64; 18] = [
    100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600, 819_200,
    1_638_400, 3_276_800, 6_553_600, 13_107_200,
];

/// The methods of Arrow Flight, whose descriptors its crate doesn't have, and whether they answer with a stream.
const FLIGHT: [(&str, bool); 10] = [
    ("Handshake", true),
    ("ListFlights", true),
    ("GetFlightInfo", false),
    ("PollFlightInfo", false),
    ("GetSchema", false),
    ("DoGet", true),
    ("DoPut", true),
    ("DoExchange", true),
    ("DoAction", true),
    ("ListActions", true),
];

/// All methods.
pub struct Calls {
    methods: BTreeMap<String, Arc<Method>>,
    other: Arc<Method>,
}

/// What is counted of a method.
struct Method {
    /// `/isthmus.v1.IngestService/Ingest`.
    path: String,
    /// Whether it answers with a stream: then its code comes at the end.
    streams: bool,
    in_flight: AtomicU64,
    codes: [AtomicU64; 17],
    micros: Histogram,
}

impl Method {
    fn new(path: String, streams: bool) -> Arc<Self> {
        let codes = Default::default();
        Arc::new(Self { path, streams, in_flight: AtomicU64::new(0), codes, micros: Histogram::new(&MICROS) })
    }
}

/// A call under way. One that is let go of before it has ended was cancelled.
pub struct InFlight {
    of: Arc<Method>,
    ended: bool,
}

impl InFlight {
    /// The method as it may be shown.
    pub fn method(&self) -> &str {
        &self.of.path
    }

    /// Whether the call is answered by a stream.
    pub fn streams(&self) -> bool {
        self.of.streams
    }

    /// Its answer has begun.
    pub fn timed(&self, took: Duration) {
        self.of.micros.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// It has ended.
    pub fn ended(mut self, code: Code) {
        self.count(code);
        self.ended = true;
    }

    fn count(&self, code: Code) {
        if let Some(count) = self.of.codes.get(code as usize) {
            count.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.ended {
            self.count(Code::Cancelled);
        }
        self.of.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Default for Calls {
    /// Of all methods that there are.
    fn default() -> Self {
        let sets = [
            isthmus_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let flight =
            FLIGHT.map(|(name, streams)| (format!("/arrow.flight.protocol.FlightService/{name}"), streams));
        let methods = sets.into_iter().flat_map(methods).chain(flight);
        let methods = methods.map(|(path, streams)| (path.clone(), Method::new(path, streams))).collect();
        Self { methods, other: Method::new(OTHER.to_owned(), false) }
    }
}

/// The paths of all methods of descriptors, and whether they answer with a stream.
fn methods(descriptors: &[u8]) -> Vec<(String, bool)> {
    // They are part of the program, and a test reads them.
    let files = FileDescriptorSet::decode(descriptors).unwrap_or_default().file;
    let services = files.iter().flat_map(|file| file.service.iter().map(move |service| (file, service)));
    let methods = services.flat_map(|(file, service)| {
        service.method.iter().map(move |method| {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            (path, method.server_streaming())
        })
    });
    methods.collect()
}

impl Calls {
    /// A call begins.
    pub fn begin(&self, path: &str) -> InFlight {
        let method = self.methods.get(path).unwrap_or(&self.other).clone();
        method.in_flight.fetch_add(1, Relaxed);
        InFlight { of: method, ended: false }
    }

    pub(super) fn families(&self) -> Vec<Family> {
        let mut calls =
            Family::counter("grpc_calls", "Clients' gRPC calls that were answered, by method and code");
        let mut seconds = Family::histogram(
            "grpc_call_seconds",
            "Time to the beginning of a gRPC call's answer, by method",
        );
        let mut in_flight = Family::gauge(
            "grpc_in_flight_calls",
            "Clients' gRPC calls under way, streams included, by method",
        );
        for method in self.methods.values().chain([&self.other]) {
            let label = || ("method", method.path.clone());
            for (number, count) in (0_i32..).zip(&method.codes) {
                let count = count.load(Relaxed);
                if count > 0 || number == Code::Ok as i32 {
                    calls.push(vec![label(), ("code", name(Code::from_i32(number)).to_owned())], count);
                }
            }
            in_flight.push(vec![label()], method.in_flight.load(Relaxed));
            let view = method.micros.read();
            if view.counts.iter().any(|count| *count > 0) {
                seconds.push_micros(vec![label()], view);
            }
        }
        vec![calls, seconds, in_flight]
    }
}

/// A code's name as gRPC spells it.
pub fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_every_served_package_is_known() {
        let calls = Calls::default();
        for path in [
            "/isthmus.v1.IngestService/Ingest",
            "/isthmus.v1.MatchingService/ListPairs",
            "/grpc.health.v1.Health/Watch",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            "/isthmus.v1.QueryService/Query",
            "/arrow.flight.protocol.FlightService/DoGet",
        ] {
            assert!(calls.methods.contains_key(path), "{path} of {:?}", calls.methods.keys());
        }
        let streams = |path: &str| calls.begin(path).streams();
        assert!(streams("/isthmus.v1.ProfileService/Watch") && !streams("/isthmus.v1.IngestService/Ingest"));
    }

    #[test]
    fn a_call_is_under_way_until_it_is_let_go_of() {
        let calls = Calls::default();
        let under_way = || calls.other.in_flight.load(Relaxed);
        let (one, two) = (calls.begin("/a/b"), calls.begin("/c/d"));
        assert_eq!((one.method(), under_way()), (OTHER, 2));
        drop(one);
        two.ended(Code::Internal);
        let counted = |code: Code| calls.other.codes[code as usize].load(Relaxed);
        assert_eq!((under_way(), counted(Code::Internal), counted(Code::Cancelled)), (0, 1, 1));
    }
}
