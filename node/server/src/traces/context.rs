//! W3C Trace Context, and how a call's names travel with it: to the tasks that serve it, and to other nodes.

use std::sync::{Arc, LazyLock};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use isthmus_proto::internal::v1::{CallOrigin, ShardReply};
use isthmus_router::Origins;
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{ENTRY, Entry, Inbound, on};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

static PROPAGATOR: LazyLock<TraceContextPropagator> = LazyLock::new(TraceContextPropagator::new);

tokio::task_local! {
    /// What the present task serves.
    static ORIGIN: Arc<Origin>;
}

/// What a call is part of.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) request_id: String,
    /// The trace that its client or node named, recorded or not.
    pub(super) parent: Option<SpanContext>,
}

/// Runs a future as part of something.
pub(super) async fn scope<F: Future>(origin: Arc<Origin>, future: F) -> F::Output {
    ORIGIN.scope(origin, future).await
}

/// Runs something at once as part of something.
pub(super) fn scope_sync<R>(origin: Arc<Origin>, run: impl FnOnce() -> R) -> R {
    ORIGIN.sync_scope(origin, run)
}

/// The trace that headers name, if they name one as they should.
pub(super) fn parent_of_headers(headers: &HeaderMap) -> Option<SpanContext> {
    // Most have none.
    headers.contains_key(TRACEPARENT).then(|| extract(&Headers(headers))).flatten()
}

fn extract(from: &dyn Extractor) -> Option<SpanContext> {
    let context = PROPAGATOR.extract_with_context(&Context::new(), from);
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// As it travels between nodes.
struct Carried(CallOrigin);

impl Extractor for Carried {
    fn get(&self, key: &str) -> Option<&str> {
        let value = match key {
            TRACEPARENT => &self.0.traceparent,
            TRACESTATE => &self.0.tracestate,
            _ => return None,
        };
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

impl Injector for Carried {
    fn set(&mut self, key: &str, value: String) {
        match key {
            TRACEPARENT => self.0.traceparent = value,
            TRACESTATE => self.0.tracestate = value,
            _ => {}
        }
    }
}

/// Calls to other nodes are named as the call that they are part of.
#[derive(Clone, Copy, Debug)]
pub struct Named;

impl Origins for Named {
    fn current(&self) -> Option<CallOrigin> {
        let (request_id, parent) =
            ORIGIN.try_with(|origin| (origin.request_id.clone(), origin.parent.clone())).unwrap_or_default();
        let recorded = on().then(|| Span::current().context().span().span_context().clone());
        let trace = recorded.filter(SpanContext::is_valid).or(parent);
        if request_id.is_empty() && trace.is_none() {
            return None;
        }
        let mut carried = Carried(CallOrigin { request_id, ..CallOrigin::default() });
        if let Some(trace) = trace {
            PROPAGATOR.inject_context(&Context::new().with_remote_span_context(trace), &mut carried);
        }
        Some(carried.0)
    }

    fn run(
        &self,
        origin: CallOrigin,
        shard: u64,
        call: BoxFuture<'static, ShardReply>,
    ) -> BoxFuture<'static, ShardReply> {
        let carried = Carried(origin);
        let parent = extract(&carried);
        // Checked here, too: it comes from a node, which has it from anybody.
        let id = HeaderValue::try_from(carried.0.request_id).ok();
        let request_id =
            id.filter(crate::request_id::is_plain).and_then(|id| Some(id.to_str().ok()?.to_owned()));
        let inbound = Inbound::from_node(request_id.unwrap_or_default(), parent);
        let log = tracing::error_span!(
            "peer.call",
            shard,
            request = inbound.request_id(),
            trace = tracing::field::Empty
        );
        let span =
            inbound.span(|| tracing::debug_span!(target: ENTRY, "peer.call", otel.kind = "server", shard));
        Box::pin(Entry::new(inbound, log, span).run(async move {
            let reply = call.await;
            tracing::debug!("answered");
            reply
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_taken_as_the_standard_has_it() {
        let with = |parent: &str| {
            let headers = [(TRACEPARENT, parent), (TRACESTATE, "a=1,b=2")];
            parent_of_headers(
                &headers.map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).into_iter().collect(),
            )
        };
        let parent = with(PARENT).unwrap();
        assert_eq!(parent.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!(parent.is_sampled() && parent.is_remote() && parent.trace_state().get("b") == Some("2"));
        assert!(!with(&PARENT.replace("-01", "-00")).unwrap().is_sampled());
        for bad in ["", "canary", "00-00000000000000000000000000000000-b7ad6b7169203331-01", &PARENT[..50]] {
            assert!(with(bad).is_none(), "{bad}");
        }
        assert!(parent_of_headers(&HeaderMap::new()).is_none());
    }

    #[tokio::test]
    async fn what_a_client_named_goes_along_to_other_nodes() {
        assert_eq!(Named.current(), None);
        let headers = [(TRACEPARENT, PARENT)].map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
        let parent = parent_of_headers(&headers.into_iter().collect());
        let origin = Arc::new(Origin { request_id: "r-1".to_owned(), parent });
        let carried = scope(origin, async { Named.current() }).await.unwrap();
        assert_eq!((carried.request_id.as_str(), carried.traceparent.as_str()), ("r-1", PARENT));
        assert_eq!(extract(&Carried(carried)).unwrap().trace_id().to_string(), PARENT[3..35]);
    }
}
