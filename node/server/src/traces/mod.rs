//! What a call belongs to: its request id in every log line, and, where traces are recorded, its trace.
//!
//! **What it promises.** Every log line that is written within a call carries the call's request id, and its trace id if
//! it has one, also on the other nodes that take part ([`Named`]). Traces are off unless an endpoint is set; then a call
//! is recorded if its client's `traceparent` (W3C Trace Context) says so, within bounds, since anybody may say it
//! ([`asked_for`]), and without one by chance. A recorded call is
//! one tree over all nodes. No span holds what a customer or sender said. A collector that can't be reached disturbs
//! nobody: what waits for it is bounded, and what does not fit is dropped and counted.
//!
//! **How.** Whether a call is recorded is decided where it comes in ([`Inbound`]); only then has it a span that the
//! OpenTelemetry layer sees, and only below such a span does the layer see further ones ([`Traces::layer`]). So a call that is
//! not recorded costs a look at its headers; with traces off, spans are not even made. `opentelemetry-otlp` sends
//! ([`export`]).
//!
//! **What it leaves out.** TLS to the collector: let one run beside the node. Log lines and metrics over OTLP.

mod context;
mod entry;
mod export;

use std::{sync::OnceLock, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{RandomIdGenerator, SdkTracerProvider};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{Metadata, Subscriber, subscriber::Interest};
use tracing_subscriber::{
    Layer,
    filter::{DynFilterFn, LevelFilter},
    registry::LookupSpan,
};

pub use self::{
    context::Named,
    entry::{Entry, Inbound},
    export::{SpanCounts, counts},
};
use crate::{Result, config::TracesOptions};

/// The target of the spans in which recorded calls come in.
pub const ENTRY: &str = "isthmus::entry";
/// What the targets of our spans begin with.
const OURS: &str = "isthmus";

/// How often calls without a `traceparent` are recorded: of 2^64. Not set: traces are off.
static CHANCE: OnceLock<u64> = OnceLock::new();

/// Whether traces are recorded at all.
fn on() -> bool {
    CHANCE.get().is_some()
}

/// Whether a call that brings no `traceparent` is recorded.
fn by_chance() -> bool {
    use opentelemetry_sdk::trace::IdGenerator as _;
    let Some(chance) = CHANCE.get() else { return false };
    let drawn = RandomIdGenerator::default().new_trace_id().to_bytes();
    let drawn = drawn.last_chunk().copied().map_or(u64::MAX, u64::from_be_bytes);
    // All of them, also the last one.
    *chance == u64::MAX || drawn < *chance
}

/// The most calls a second that are recorded because their callers say so.
const ASKED_PER_SECOND_MAX: u32 = 200;

/// Whether a call is recorded whose caller asks for it. Callers who ask for all of theirs leave room for what is drawn by
/// chance.
fn asked_for() -> bool {
    static SECOND: Mutex<Option<(Instant, u32)>> = Mutex::new(None);
    in_second(&mut SECOND.lock(), Instant::now())
}

fn in_second(second: &mut Option<(Instant, u32)>, now: Instant) -> bool {
    let (begun, asked) = second.get_or_insert((now, 0));
    if now.duration_since(*begun) >= Duration::from_secs(1) {
        (*begun, *asked) = (now, 0);
    }
    *asked = asked.saturating_add(1);
    *asked <= ASKED_PER_SECOND_MAX
}

/// The traces of a process.
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Makes ready what sends traces, within a runtime; `None` when none are wanted. Connects when there is something to
    /// be sent.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] when the endpoint can't be used.
    pub fn start(options: &TracesOptions, node_id: Option<u32>) -> Result<Option<Self>> {
        let Some(endpoint) = &options.endpoint else { return Ok(None) };
        let provider = export::provider(endpoint, node_id)?;
        let chance = (options.sample * u64::MAX as f64) as u64;
        // A process records in one way.
        let _started_before = CHANCE.set(chance);
        Ok(Some(Self { provider }))
    }

    /// The layer that records.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let filter = DynFilterFn::new(|metadata, context| {
            is_ours(metadata) && (metadata.target() == ENTRY || context.lookup_current().is_some())
        });
        let filter = filter.with_max_level_hint(LevelFilter::DEBUG).with_callsite_filter(|metadata| {
            if is_ours(metadata) { Interest::sometimes() } else { Interest::never() }
        });
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("isthmus"))
            .with_location(false)
            .with_tracked_inactivity(false)
            .with_threads(false)
            .with_target(false)
            .with_context_activation(false)
            .with_filter(filter)
    }

    /// Sends what is left, for a while, and ends. Blocks.
    pub fn stop(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(export::FLUSH) {
            tracing::warn!(%error, "not all recorded spans were sent");
        }
    }
}

/// Spans alone: an event's text may be somebody else's.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with(OURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_all_calls_to_be_recorded_gets_so_many_a_second() {
        let (now, mut second) = (Instant::now(), None);
        let recorded = |second: &mut _, at| (0..1_000).filter(|_| in_second(second, at)).count();
        assert_eq!(recorded(&mut second, now), 200);
        assert_eq!(recorded(&mut second, now + Duration::from_millis(999)), 0);
        assert_eq!(recorded(&mut second, now + Duration::from_secs(1)), 200);
    }
}
