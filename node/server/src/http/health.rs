//! Whether the process lives, whether it can serve, and its metrics.
//!
//! | path | answers |
//! | --- | --- |
//! | `/healthz` | 200 while the process runs |
//! | `/readyz` | 200 once the node can serve; 503 with the reason until then, and while it stops |
//! | `/metrics` | what [`crate::metrics`] has, in Prometheus' text format, or as OpenMetrics for who asks for it |

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    metrics::{Format, Levels, Metrics},
    traces,
};

/// What the port tells of a node.
pub trait Probe: Send + Sync + 'static {
    /// Why the node can't serve; `None`: it can.
    fn unready(&self) -> Option<String>;
    /// What is measured now. Looks at the disk.
    fn levels(&self) -> Levels;
}

struct Shared {
    probe: Box<dyn Probe>,
    metrics: Arc<Metrics>,
    /// One look at a time: it walks through the data directory, and whoever reaches the port may ask.
    looking: tokio::sync::Mutex<()>,
}

/// The paths of orchestrators and scrapers. They are no part of the API, and not in its description.
pub fn router(probe: impl Probe, metrics: Arc<Metrics>) -> Router {
    let shared = Arc::new(Shared { probe: Box::new(probe), metrics, looking: tokio::sync::Mutex::default() });
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(shared)
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.probe.unready() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics_text(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::asked(accept);
    let asked = shared.clone();
    let _looking = asked.looking.lock().await;
    let measured = tokio::task::spawn_blocking(move || {
        shared.metrics.text(&shared.probe.levels(), traces::counts(), format)
    });
    match measured.await {
        Ok(Ok(text)) => ([(CONTENT_TYPE, format.content_type())], text).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
