//! `CoordinatorService` for other nodes.
//!
//! Every call is of this cluster or refused, but for `Join`, whose caller knows no cluster yet. Calls that need the
//! metadata group's leader are passed on, at most twice.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use isthmus_proto::internal::v1::{
    JoinRequest, JoinResponse, ProposeRequest, ProposeResponse, PutNodeCommand, ReadViewRequest,
    ReadViewResponse, ReportRequest, ReportResponse, WatchRequest, WatchResponse,
    coordinator_service_server::CoordinatorService, meta_command::Command,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{
    error::{Error, Result},
    inner::Inner,
    refresh, reports,
    seal::seal,
    status::to_status,
};

/// How long a node is kept waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// How often a watch shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The server half. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Inner>);

impl Service {
    async fn welcome(&self, join: JoinRequest) -> Result<JoinResponse> {
        let inner = &self.0;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let node = join.node.ok_or_else(|| Error::malformed("request to join: the node is missing"))?;
        let sealed: Bytes = seal(&node.public_key, inner.identity_key.as_bytes())?.into();
        let id = node.node_id;
        let put = PutNodeCommand { node: Some(node), sealed_identity_key: sealed };
        let outcome = inner.propose(Command::PutNode(put), deadline).await?;
        let view = inner.wait_view(outcome.version, deadline).await?;
        tracing::info!(node = id, "a node has joined by this one");
        Ok(JoinResponse {
            cluster_id: Bytes::copy_from_slice(&inner.cluster_id),
            view: Some(view.wire().clone()),
            sealed_identity_key: outcome.sealed_identity_key,
        })
    }

    async fn current(&self, request: ReadViewRequest) -> Result<ReadViewResponse> {
        self.0.check_cluster(&request.cluster_id)?;
        let group = self.0.group.borrow().clone().ok_or(Error::NotMetadataPeer)?;
        let view = refresh::barrier(&self.0, &group, Instant::now() + ANSWER_TIMEOUT).await?;
        let newer = view.version > request.known_version;
        Ok(ReadViewResponse { version: view.version, view: newer.then(|| view.wire().clone()) })
    }

    async fn pass_on(&self, request: ProposeRequest) -> Result<ProposeResponse> {
        self.0.check_cluster(&request.cluster_id)?;
        let command = request.command.and_then(|command| command.command);
        let command = command.ok_or_else(|| Error::malformed("command: its kind is not known here"))?;
        if matches!(command, Command::Init(_)) {
            return Err(Error::malformed("command: a cluster is made by its founder"));
        }
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let outcome = self.0.propose_once(&command, request.hops, 0, deadline).await?;
        Ok(ProposeResponse { outcome: Some(outcome) })
    }

    async fn take_report(&self, request: ReportRequest) -> Result<ReportResponse> {
        self.0.check_cluster(&request.cluster_id)?;
        reports::report(&self.0, request, 0).await
    }
}

#[tonic::async_trait]
impl CoordinatorService for Service {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        answer(self.welcome(request.into_inner()).await)
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        self.0.check_cluster(&request.cluster_id).map_err(|error| to_status(&error))?;
        let start = (self.0.view.clone(), self.0.stop.clone(), request.known_version);
        let views = stream::unfold(start, |(mut views, stop, known)| async move {
            let newer =
                async { views.wait_for(|view| view.version > known).await.map(|view| Arc::clone(&view)) };
            let view = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                newer = newer => Some(newer.ok()?),
                () = tokio::time::sleep(KEEP_ALIVE) => None,
            };
            let known = view.as_ref().map_or(known, |view| view.version);
            let response = WatchResponse { view: view.map(|view| view.wire().clone()) };
            Some((Ok(response), (views, stop, known)))
        });
        Ok(Response::new(Box::pin(views)))
    }

    async fn read_view(
        &self,
        request: Request<ReadViewRequest>,
    ) -> Result<Response<ReadViewResponse>, Status> {
        answer(self.current(request.into_inner()).await)
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        // A refusal by the leader's own look at who answers is an answer like the group's.
        let refused = |error| match error {
            Error::Refused { code, message } => {
                let outcome =
                    isthmus_proto::internal::v1::MetaOutcome { refused: code, message, ..Default::default() };
                Ok(ProposeResponse { outcome: Some(outcome) })
            }
            other => Err(other),
        };
        answer(self.pass_on(request.into_inner()).await.or_else(refused))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        answer(self.take_report(request.into_inner()).await)
    }
}

fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| to_status(&error))
}
