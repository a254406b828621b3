//! A call as it comes in: its names, whether it is recorded, and the spans that it runs in.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt as _},
};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{
    asked_for, by_chance,
    context::{Origin, parent_of_headers, scope, scope_sync},
    on,
};

/// What is known of a call before it has spans.
pub struct Inbound {
    origin: Arc<Origin>,
    recorded: bool,
}

impl Inbound {
    /// A client's, by its headers.
    pub fn from_client(headers: &HeaderMap, request_id: &HeaderValue) -> Self {
        let parent = parent_of_headers(headers);
        let recorded = on()
            && match &parent {
                Some(parent) => parent.is_sampled() && asked_for(),
                None => by_chance(),
            };
        let request_id = request_id.to_str().unwrap_or_default().to_owned();
        Self { origin: Arc::new(Origin { request_id, parent }), recorded }
    }

    /// Another node's. Whether it is recorded was decided there.
    pub(super) fn from_node(request_id: String, parent: Option<SpanContext>) -> Self {
        let recorded = on() && parent.as_ref().is_some_and(SpanContext::is_sampled);
        Self { origin: Arc::new(Origin { request_id, parent }), recorded }
    }

    /// The id that names it; empty when it has none.
    pub fn request_id(&self) -> &str {
        &self.origin.request_id
    }

    /// The span that is recorded, as a child of what the caller named; none if the call isn't recorded. `make` makes it
    /// with the target [`ENTRY`](super::ENTRY).
    pub fn span(&self, make: impl FnOnce() -> Span) -> Span {
        if !self.recorded {
            return Span::none();
        }
        let span = make();
        if let Some(parent) = &self.origin.parent {
            let context = Context::new().with_remote_span_context(parent.clone());
            // Fails for a span that has begun, or that no layer records.
            let _as_a_root = span.set_parent(context);
        }
        span
    }
}

/// A call under way. Clones are the same call.
#[derive(Clone)]
pub struct Entry {
    origin: Arc<Origin>,
    log: Span,
    trace: Span,
}

impl Entry {
    /// With the span of its log lines, which has a field `trace`, and the one that is recorded.
    pub fn new(inbound: Inbound, log: Span, trace: Span) -> Self {
        let named = inbound.origin.parent.as_ref().map(SpanContext::trace_id);
        let trace_id = match inbound.recorded {
            true => Some(trace.context().span().span_context().trace_id()),
            false => named,
        };
        if let Some(id) = trace_id {
            log.record("trace", tracing::field::display(id));
        }
        Self { origin: inbound.origin, log, trace }
    }

    /// Runs the call.
    pub async fn run<F: Future>(self, call: F) -> F::Output {
        let Self { origin, log, trace } = self;
        scope(origin, call.instrument(trace)).instrument(log).await
    }

    /// Runs a part of it at once.
    pub fn run_sync<R>(&self, part: impl FnOnce() -> R) -> R {
        scope_sync(self.origin.clone(), || self.log.in_scope(|| self.trace.in_scope(part)))
    }

    /// Notes in the trace how it was answered.
    pub fn answered(&self, answer: &str, failed: bool) {
        if !self.trace.is_none() {
            self.trace.record("answer", answer);
            if failed {
                self.trace.record("otel.status_code", "ERROR");
            }
        }
    }
}
