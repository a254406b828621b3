//! `IngestService`: events come in over gRPC. What becomes of them is [`crate::intake`]'s.

mod open;
mod stream;

use std::sync::Arc;

use isthmus_proto::v1::{
    IngestRequest, IngestResponse, IngestStreamRequest, ingest_service_server::IngestService,
};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};
use tracing::Instrument as _;

pub use self::open::OpenStreams;
use super::{
    hub::Hub,
    status::{Refusal, status},
    value::micros,
};
use crate::intake::{self, Batch, source};

/// The service.
pub struct Ingest {
    hub: Arc<Hub>,
}

impl Ingest {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    async fn take(&self, request: Request<IngestRequest>) -> Result<IngestResponse, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let (metadata, _, batch) = request.into_parts();
        let key = key(&metadata, &batch.write_key)?;
        let view = match &key {
            Some(key) => {
                self.hub.coordinator.view_for_key(key, deadline).await.map_err(|error| status(&error))?
            }
            None => self.hub.view(),
        };
        let source = source::of(&view, key.as_deref(), &batch.source)?;
        let sent_at = batch.sent_at.as_ref().map(micros);
        let batch = Batch { source, sent_at, items: batch.items };
        let taken =
            intake::take(&self.hub, &view, batch, deadline).await.map_err(|untaken| status(&untaken))?;
        Ok(IngestResponse {
            results: taken.results,
            version: taken.stamp.map(|stamp| stamp.to_string()).unwrap_or_default(),
        })
    }
}

/// The write key of a batch or stream, if it has one: its own, else the call's.
fn key(metadata: &MetadataMap, given: &str) -> Result<Option<String>, Refusal> {
    match given {
        "" => source::key_of_headers(|name| Some(metadata.get(name)?.as_bytes())),
        key => Ok(Some(key.to_owned())),
    }
}

#[tonic::async_trait]
impl IngestService for Ingest {
    async fn ingest(&self, request: Request<IngestRequest>) -> Result<Response<IngestResponse>, Status> {
        let span =
            tracing::debug_span!("ingest.batch", node = self.hub.node, items = request.get_ref().items.len());
        Ok(Response::new(self.take(request).instrument(span).await?))
    }

    type IngestStreamStream = stream::Responses;

    async fn ingest_stream(
        &self,
        request: Request<Streaming<IngestStreamRequest>>,
    ) -> Result<Response<Self::IngestStreamStream>, Status> {
        Ok(Response::new(stream::responses(self.hub.clone(), request)))
    }
}
