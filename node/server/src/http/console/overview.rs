//! `/`: how the cluster is.

use axum::response::Response;
use isthmus_console::overview;

use super::{Asked, reply};

/// The page.
pub(super) async fn page(asked: Asked) -> Response {
    let console = &asked.console;
    let (cluster, ingest) = tokio::join!(console.cluster.all(), console.gather.all(&console.hub));
    let (status, nodes, replicas) = cluster;
    let told = overview::Overview { status, nodes, replicas, events_a_second: ingest.rate() };
    reply::page(overview::page(&asked.shell(), &told))
}
