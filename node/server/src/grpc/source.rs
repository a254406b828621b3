//! `SourceService`: the systems that send, and their write keys.

use std::sync::Arc;

use isthmus_coordinator::{Source, WriteKey, seal::fill_random};
use isthmus_proto::v1::{
    self, CreateRequest, CreateResponse, DisableRequest, DisableResponse, RotateRequest, RotateResponse,
    SourceServiceListRequest, SourceServiceListResponse, source_service_server::SourceService,
};
use tonic::{Request, Response, Status};

use super::{
    hub::Hub,
    status::{Refusal, status},
    value::timestamp,
};

/// The service.
pub struct Sources {
    hub: Arc<Hub>,
}

impl Sources {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }
}

/// A source as clients get it.
fn shown(source: &Source) -> v1::Source {
    v1::Source {
        name: source.name.clone(),
        disabled: source.disabled,
        created_at: Some(timestamp(i64::try_from(source.created_at_micros).unwrap_or(i64::MAX))),
        primary_order: source.primary_order.iter().map(ToString::to_string).collect(),
        default_currency: source.default_currency.clone(),
        key_prefix: if source.built_in { String::new() } else { source.key_prefix.clone() },
    }
}

/// What a new write key is made of.
fn random() -> Result<[u8; 32], Status> {
    let mut bytes = [0; 32];
    fill_random(&mut bytes).map_err(|error| status(&error))?;
    Ok(bytes)
}

fn named(name: &str) -> Result<(), Refusal> {
    match name {
        isthmus_matcher::link::SOURCE => {
            let what = "`matcher` is the source of links that matching makes: choose another name";
            Err(Refusal::field("INVALID_NAME", "name", what))
        }
        "" => Err(Refusal::field("INVALID_NAME", "name", "is missing: name a source")),
        _ => Ok(()),
    }
}

fn with_key((source, key): (Source, WriteKey)) -> (Option<v1::Source>, String) {
    (Some(shown(&source)), key.as_str().to_owned())
}

#[tonic::async_trait]
impl SourceService for Sources {
    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let CreateRequest { name, primary_order, default_currency } = request.into_inner();
        named(&name)?;
        let made =
            self.hub.coordinator.create_source(&name, primary_order, &default_currency, random()?, deadline);
        let (source, write_key) = with_key(made.await.map_err(|error| status(&error))?);
        Ok(Response::new(CreateResponse { source, write_key }))
    }

    async fn list(
        &self,
        _request: Request<SourceServiceListRequest>,
    ) -> Result<Response<SourceServiceListResponse>, Status> {
        let sources = self.hub.view().sources.values().map(|source| shown(source)).collect();
        Ok(Response::new(SourceServiceListResponse { sources }))
    }

    async fn disable(&self, request: Request<DisableRequest>) -> Result<Response<DisableResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let name = request.into_inner().name;
        named(&name)?;
        let disabled = self.hub.coordinator.disable_source(&name, deadline).await;
        let source = disabled.map_err(|error| status(&error))?;
        Ok(Response::new(DisableResponse { source: Some(shown(&source)) }))
    }

    async fn rotate(&self, request: Request<RotateRequest>) -> Result<Response<RotateResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let name = request.into_inner().name;
        named(&name)?;
        let rotated = self.hub.coordinator.rotate_source(&name, random()?, deadline).await;
        let (source, write_key) = with_key(rotated.map_err(|error| status(&error))?);
        Ok(Response::new(RotateResponse { source, write_key }))
    }
}
