//! The HTTP port.
//!
//! | part | what it answers | who may ask |
//! | --- | --- | --- |
//! | [`health`] | liveness, readiness, metrics | whoever reaches the port |
//! | [`ingest`] | events, as Segment's SDKs send them, with [`cors`] for browsers | who has a write key, from any page |
//! | [`console`] | pages for people | people on this machine ([`local`]) |
//! | [`reads`] | profiles and their parts | programs on this machine ([`local`]) |
//! | [`openapi`] | the description of `ingest` and `reads` | whoever reaches the port |
//!
//! **How.** A part is a list of [`routes`], of which router and description are made, or a router of its own; [`router`]
//! puts them together. Every request passes [`front`]; a failure is an answer by [`errors`].
//!
//! **What it leaves out.** TLS; compressed answers.

mod console;
mod cors;
mod errors;
mod front;
mod health;
mod ingest;
mod listen;
mod local;
mod openapi;
mod reads;
mod routes;

use std::sync::Arc;

use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::health::Probe;
pub(crate) use self::ingest::read as read_events;
use self::local::Loopback;
use crate::{Error, Result, grpc::hub::Hub};

/// Serves until the stop.
///
/// # Errors
/// When the listener has no address.
pub async fn serve(
    listener: TcpListener,
    probe: impl Probe,
    hub: Arc<Hub>,
    stop: CancellationToken,
) -> Result<()> {
    let address = listener.local_addr().map_err(Error::io("serve HTTP"))?;
    let app = router(probe, &hub, Loopback(address.ip().is_loopback()));
    listen::serve(listener, app, stop).await;
    Ok(())
}

/// All parts together.
fn router(probe: impl Probe, hub: &Arc<Hub>, loopback: Loopback) -> Router {
    let (ingest, reads) = (ingest::routes(hub), reads::routes(hub));
    let description = openapi::route(ingest.iter().chain(&reads));
    let bounded = || middleware::from_fn(front::bounded);
    // From outside in, the last layer first: so that even a refusal of headers can be read by a page.
    let ingest = routes::router(ingest)
        .method_not_allowed_fallback(front::no_such_method)
        .layer(bounded())
        .layer(middleware::from_fn(cors::allowed));
    let reads = routes::router(reads)
        .method_not_allowed_fallback(front::no_such_method)
        .layer(middleware::from_fn_with_state(loopback, local::only))
        .layer(bounded());
    let rest = health::router(probe, hub.metrics.clone())
        .merge(routes::router(vec![description]))
        .method_not_allowed_fallback(front::no_such_method)
        .layer(bounded());
    let console =
        console::router(hub, loopback).method_not_allowed_fallback(front::no_such_method).layer(bounded());
    let front = Arc::new(front::Front::new(hub.metrics.clone(), hub.started_micros.cast_unsigned()));
    ingest
        .merge(reads)
        .merge(rest)
        .merge(console)
        .fallback(front::no_such_path)
        .layer(middleware::from_fn_with_state(front, front::named))
}
