//! What any gRPC tool and any orchestrator expects: reflection, health.

use std::collections::BTreeSet;

use isthmus_tests::ask;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::Hub;

pub const SERVICES: [&str; 12] = [
    "isthmus.v1.ClusterService",
    "isthmus.v1.GroupService",
    "isthmus.v1.IngestService",
    "isthmus.v1.MatchingService",
    "isthmus.v1.ProfileService",
    "isthmus.v1.QualityService",
    "isthmus.v1.QuarantineService",
    "isthmus.v1.QueryService",
    "isthmus.v1.RulesService",
    "isthmus.v1.SchemaService",
    "isthmus.v1.SegmentService",
    "isthmus.v1.SourceService",
];

macro_rules! listed {
    ($version:ident, $channel:expr) => {{
        use $version::{
            server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
            server_reflection_response::MessageResponse,
        };
        let ask = async |what: MessageRequest| {
            let request = $version::ServerReflectionRequest { message_request: Some(what), ..Default::default() };
            let mut client = ServerReflectionClient::new($channel.clone());
            let stream = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
            stream.into_inner().message().await.unwrap().unwrap().message_response.unwrap()
        };
        let file = ask(MessageRequest::FileContainingSymbol("isthmus.v1.Profile".to_owned())).await;
        assert!(matches!(file, MessageResponse::FileDescriptorResponse(files) if !files.file_descriptor_proto.is_empty()));
        match ask(MessageRequest::ListServices(String::new())).await {
            MessageResponse::ListServicesResponse(list) => {
                list.service.into_iter().map(|service| service.name).collect::<BTreeSet<String>>()
            }
            other => panic!("{other:?}"),
        }
    }};
}

pub async fn reflection_lists_the_services_in_both_versions(hub: &Hub) {
    let channel: &Channel = &hub.nodes[1];
    for names in [listed!(v1, channel), listed!(v1alpha, channel)] {
        for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
            assert!(names.contains(service), "{service} is missing in {names:?}");
        }
        assert!(
            !names.iter().any(|name| name.contains("internal")),
            "nodes' own services are nobody's business"
        );
    }
}

pub async fn health_is_told_over_grpc_and_http(hub: &Hub) {
    for (node, channel) in hub.cluster.nodes.iter().zip(&hub.nodes) {
        let mut client = HealthClient::new(channel.clone());
        for service in SERVICES.into_iter().chain([""]) {
            let request = HealthCheckRequest { service: service.to_owned() };
            let status = client.check(request).await.unwrap().into_inner().status();
            assert_eq!(status, ServingStatus::Serving, "{service}");
        }
        let request = HealthCheckRequest { service: "isthmus.v1.NoService".to_owned() };
        assert_eq!(client.check(request).await.unwrap_err().code(), Code::NotFound);

        assert_eq!(ask::http(node.http, "/healthz").0, 200);
        ask::ready(node.http).await;
        assert_eq!(ask::http(node.http, "/no-such-path").0, 404);
        let (code, metrics) = ask::http(node.http, "/metrics");
        assert_eq!(code, 200);
        for name in ["isthmus_grpc_calls_total{", "isthmus_ingest_items_total{", "isthmus_shard_leaders "] {
            assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} is missing in:\n{metrics}");
        }
        assert!(!metrics.contains("keys-1") && !metrics.contains("a@b.de"), "metrics hold customers' data");
    }
}
