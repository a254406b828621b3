//! The clients' gRPC: one file a service, and what they share.
//!
//! The adapters do no more than translate: they check what a request says, call the router or the coordinator, and put
//! the answer into the words of `isthmus.v1`. [`status`] makes a status of any error; [`front`] is what every call
//! passes through.

mod answer;
pub mod cluster;
pub(crate) mod cursor;
pub(crate) mod deadline;
pub mod front;
pub mod group;
pub mod health;
pub mod hub;
pub mod ingest;
mod matching;
pub mod profile;
mod quality;
pub mod quarantine;
mod query;
pub mod registry;
mod rules;
mod schema;
pub mod segment;
mod source;
pub mod status;
pub mod value;

use std::{sync::Arc, time::Duration};

use isthmus_proto::v1::{
    cluster_service_server::ClusterServiceServer, group_service_server::GroupServiceServer,
    ingest_service_server::IngestServiceServer, matching_service_server::MatchingServiceServer,
    profile_service_server::ProfileServiceServer, quality_service_server::QualityServiceServer,
    quarantine_service_server::QuarantineServiceServer, query_service_server::QueryServiceServer,
    rules_service_server::RulesServiceServer, schema_service_server::SchemaServiceServer,
    segment_service_server::SegmentServiceServer, source_service_server::SourceServiceServer,
};
use tonic::{
    codec::CompressionEncoding,
    transport::{Server, server::Router},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::layer::util::{Identity, Stack};

use self::{front::FrontLayer, hub::Hub};
use crate::{config::GrpcOptions, flight};

/// The largest request, as sent and decompressed.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;
/// The largest header list of a call.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Streams that a client may open and reset before anything is taken of them, at a time.
const PENDING_RESETS_MAX: usize = 64;
/// Silent connections are probed so often, and closed when the probe isn't answered in as long.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Bytes that may be on their way in one call, and on one connection, before they are taken.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// What health checks may ask for: the server as a whole, and each service.
const HEALTH_NAMES: [&str; 14] = [
    "",
    "isthmus.v1.IngestService",
    "isthmus.v1.ProfileService",
    "isthmus.v1.GroupService",
    "isthmus.v1.SourceService",
    "isthmus.v1.SchemaService",
    "isthmus.v1.RulesService",
    "isthmus.v1.MatchingService",
    "isthmus.v1.SegmentService",
    "isthmus.v1.QuarantineService",
    "isthmus.v1.QualityService",
    "isthmus.v1.ClusterService",
    "isthmus.v1.QueryService",
    "arrow.flight.protocol.FlightService",
];

/// All services of the clients' port, and the handle on what health checks are told.
pub fn services(
    hub: &Arc<Hub>,
    options: &GrpcOptions,
) -> (HealthReporter, Router<Stack<FrontLayer, Identity>>) {
    // Requests may come compressed; the limit holds for both sizes.
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            $server::new($service)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(REQUEST_BYTES_MAX)
        };
    }
    let (reporter, health) = tonic_health::server::health_reporter();
    let seed = hub.started_micros.cast_unsigned();
    let router = Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(options.streams_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .layer(FrontLayer::new(hub.metrics.clone(), seed))
        .add_service(limited!(IngestServiceServer, ingest::Ingest::new(hub.clone())))
        .add_service(limited!(ProfileServiceServer, profile::Profiles::new(hub.clone())))
        .add_service(limited!(GroupServiceServer, group::Groups::new(hub.clone())))
        .add_service(limited!(SourceServiceServer, source::Sources::new(hub.clone())))
        .add_service(limited!(SchemaServiceServer, schema::Schemas::new(hub.clone())))
        .add_service(limited!(RulesServiceServer, rules::RuleBooks::new(hub.clone())))
        .add_service(limited!(MatchingServiceServer, matching::Pairs::new(hub.clone())))
        .add_service(limited!(SegmentServiceServer, segment::Segments::new(hub.clone())))
        .add_service(limited!(QuarantineServiceServer, quarantine::Quarantine::new(hub.clone())))
        .add_service(limited!(QualityServiceServer, quality::Quality::new(hub.clone())))
        .add_service(limited!(ClusterServiceServer, cluster::Cluster::new(hub.clone())))
        .add_service(limited!(QueryServiceServer, query::Query::new(hub.clone())))
        .add_service(health);
    // A test reads what Flight SQL tells of itself: an error is a defect, which leaves the rest alone.
    let flight = flight::service(hub.clone());
    let flight = flight.inspect_err(|error| tracing::error!(%error, "no Flight SQL")).ok();
    let router = router
        .add_optional_service(flight)
        .add_optional_service(noted(reflection().build_v1()))
        .add_optional_service(noted(reflection().build_v1alpha()));
    (reporter, router)
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(isthmus_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// The descriptors are part of the program and a test reads them: an error is a defect, which leaves the rest alone.
fn noted<S>(built: Result<S, tonic_reflection::server::Error>) -> Option<S> {
    built.inspect_err(|error| tracing::error!(%error, "no server reflection")).ok()
}

/// Tells health checks whether the node serves.
pub async fn set_serving(reporter: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in HEALTH_NAMES {
        reporter.set_service_status(name, status).await;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn reflection_knows_the_public_package() {
        assert!(super::reflection().build_v1().is_ok() && super::reflection().build_v1alpha().is_ok());
    }
}
