//! `/ingest`: what comes in.

use axum::response::Response;
use isthmus_console::ingest;

use super::{Asked, reply};

/// The page.
pub(super) async fn page(asked: Asked) -> Response {
    let told = asked.console.gather.all(&asked.console.hub).await;
    reply::page(ingest::page(&asked.shell(), &told))
}
