//! Whether the process lives, whether it can serve, and its metrics.
//!
//! | path | answers |
//! | --- | --- |
//! | `/healthz` | 200 while the process runs |
//! | `/readyz` | 200 once the node can serve; 503 with the reason until then, and while it stops |
//! | `/metrics` | OpenMetrics text |

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::metrics::{Levels, Metrics};

/// What the port tells of a node.
pub trait Probe: Send + Sync + 'static {
    /// Why the node can't serve; `None`: it can.
    fn unready(&self) -> Option<String>;
    /// What is measured now.
    fn levels(&self) -> Levels;
}

struct Shared {
    probe: Box<dyn Probe>,
    metrics: Arc<Metrics>,
}

/// The paths of orchestrators and scrapers. They are no part of the API, and not in its description.
pub fn router(probe: impl Probe, metrics: Arc<Metrics>) -> Router {
    let shared = Arc::new(Shared { probe: Box::new(probe), metrics });
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

async fn metrics_text(State(shared): State<Arc<Shared>>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match shared.metrics.text(shared.probe.levels()) {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
