//! The workers' service, run by the engine's own threads.
//!
//! The server that takes connections belongs to the node, and its threads also take events in. So a call goes to the
//! engine's runtime as it comes; what is left to the server is sending bytes.
//!
//! A worker keeps the plans of its tasks in a cache, which drops what a query has left behind only when it is used again.
//! Until then a plan goes on working for nobody: so [`sweep`] uses it, now and then.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use datafusion_distributed::{ExecuteTaskRequest, ProducerHead, TaskKey, Worker};
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

/// How long a plan may outlive its query.
const SWEEP_EVERY: Duration = Duration::from_millis(400);

/// Has a worker drop what nobody needs any more, until the future is dropped.
pub(crate) async fn sweep(worker: Worker) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        // A task that there never is. Looking it up makes the cache tidy up; waiting for it has no sense.
        let nobody = ExecuteTaskRequest {
            task_key: TaskKey { query_id: Default::default(), stage_id: usize::MAX, task_number: usize::MAX },
            target_partition_start: 0,
            target_partition_end: 0,
            producer_head: ProducerHead::None,
        };
        let _ = tokio::time::timeout(Duration::from_millis(1), worker.execute_task(nobody)).await;
    }
}

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
