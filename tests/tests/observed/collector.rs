//! A collector of traces in this process: takes OTLP over gRPC and keeps what comes.

use std::sync::Arc;

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
};
use std::sync::Mutex;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A span with the node that it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub node: String,
    pub name: String,
    /// Hexadecimal, as the next ones.
    pub trace: String,
    pub id: String,
    /// Empty: it has none.
    pub parent: String,
    pub state: String,
    /// All that it holds, for who looks for something.
    pub whole: String,
}

/// See the module.
pub struct Collector {
    pub endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

struct Keeping(Arc<Mutex<Vec<Span>>>);

impl Collector {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::new(Mutex::new(Vec::new()));
        let server = Server::builder().add_service(TraceServiceServer::new(Keeping(spans.clone())));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { endpoint, spans }
    }

    /// All that came so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    /// Those of a trace.
    pub fn trace(&self, id: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace == id).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tonic::async_trait]
impl TraceService for Keeping {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap();
        for of_node in request.into_inner().resource_spans {
            let resource = of_node.resource.unwrap_or_default();
            let instance = resource.attributes.iter().find(|a| a.key == "service.instance.id");
            let node = match instance.and_then(|attribute| attribute.value.clone()?.value) {
                Some(Value::StringValue(node)) => node,
                other => panic!("a node without its id: {other:?}"),
            };
            for span in of_node.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                kept.push(Span {
                    node: node.clone(),
                    whole: format!("{resource:?} {span:?}"),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    state: span.trace_state,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
