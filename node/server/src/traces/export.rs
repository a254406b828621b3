//! Sending recorded spans to a collector, by OTLP over gRPC.
//!
//! `opentelemetry_sdk` gathers spans and sends them in batches from a thread of its own. What waits there is bounded
//! here, in front of it ([`Bounded`]), so that what is dropped is known: its own queue is larger and never full.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter,
        SpanProcessor,
    },
};

use crate::{Error, Result, version::VERSION};

/// Spans that may wait to be sent, those that are on their way included.
const WAITING_MAX: usize = 4_096;
/// Spans in a request.
const BATCH: usize = 512;
/// How long spans wait for others to go with.
const GATHER: Duration = Duration::from_secs(1);
/// How long a request may take.
const SEND: Duration = Duration::from_secs(5);
/// How long what is left at the end may take.
pub(super) const FLUSH: Duration = Duration::from_secs(5);

static EXPORTED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// What became of the process's recorded spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// The collector has them.
    pub exported: u64,
    /// They could not be sent.
    pub failed: u64,
    /// Too many waited.
    pub dropped: u64,
}

/// What became of spans so far.
pub fn counts() -> SpanCounts {
    SpanCounts {
        exported: EXPORTED.load(Relaxed),
        failed: FAILED.load(Relaxed),
        dropped: DROPPED.load(Relaxed),
    }
}

/// What records spans and sends them.
pub(super) fn provider(endpoint: &str, node_id: Option<u32>) -> Result<SdkTracerProvider> {
    let otlp = Otlp::builder().with_tonic().with_endpoint(endpoint).with_timeout(SEND).build();
    let otlp = otlp.map_err(|error| Error::setting("traces.endpoint", format!("can't be used: {error}")))?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(2 * WAITING_MAX)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(GATHER)
        .build();
    let exporter = Counted { inner: otlp, waiting: waiting.clone() };
    let inner = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let attributes = [KeyValue::new("service.name", "isthmus"), KeyValue::new("service.version", VERSION)];
    let instance = node_id.map(|id| KeyValue::new("service.instance.id", id.to_string()));
    let resource = Resource::builder_empty().with_attributes(attributes.into_iter().chain(instance)).build();
    Ok(SdkTracerProvider::builder()
        // What is recorded was decided where the call came in.
        .with_sampler(Sampler::AlwaysOn)
        .with_resource(resource)
        .with_span_processor(Bounded { inner, waiting })
        .build())
}

/// Lets no more spans through than may wait.
#[derive(Debug)]
struct Bounded<P> {
    inner: P,
    waiting: Arc<AtomicUsize>,
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Relaxed);
            // One line for many: the counter tells the rest.
            if DROPPED.fetch_add(1, Relaxed) == 0 {
                tracing::warn!("spans are dropped: the collector of traces is too slow, or can't be reached");
            }
            return;
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts what was sent.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    waiting: Arc<AtomicUsize>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let sent = self.inner.export(batch).await;
        self.waiting.fetch_sub(count, Relaxed);
        let counter = match &sent {
            Ok(()) => &EXPORTED,
            Err(_) => &FAILED,
        };
        let before = counter.fetch_add(count as u64, Relaxed);
        if let Err(error) = &sent
            && before == 0
        {
            tracing::warn!(%error, "spans can't be sent to the collector of traces; counting goes on silently");
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
