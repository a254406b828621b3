//! The workers' service, run by the engine's own threads.
//!
//! The server that takes connections belongs to the node, and its threads also take events in. So a call goes to the
//! engine's runtime as it comes; what is left to the server is sending bytes.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

/// A service whose calls run elsewhere.
#[derive(Clone)]
pub(crate) struct Elsewhere<S> {
    pub inner: S,
    pub runtime: Handle,
    pub tasks: TaskTracker,
    pub stopping: CancellationToken,
}

impl<S: NamedService> NamedService for Elsewhere<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Elsewhere<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The one that was polled is ready, its clone may not be.
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        let stopping = self.stopping.clone();
        let work = async move { stopping.run_until_cancelled(ready.call(request)).await };
        let call = self.tasks.spawn_on(work, &self.runtime);
        let call = AbortOnDropHandle::new(call);
        Box::pin(async move {
            match call.await {
                Ok(Some(response)) => response,
                _ => Ok(Status::unavailable("the query engine stops").into_http()),
            }
        })
    }
}
