//! The console: pages for people, made by `isthmus-console` of what the services of gRPC answer.
//!
//! | path | page |
//! | --- | --- |
//! | `/` | [`overview`]: nodes, shards, replicas |
//! | `/ingest` | [`ingest`]: what comes in, by source |
//! | `/customers`, `/customers/{id}` | [`customers`]: a search, and one customer |
//! | `/quarantine`, `/quarantine/{id}` | [`quarantine`]: what could not be taken; mend, replay, drop |
//! | `/sql` | [`sql`]: a statement and its rows |
//! | `/theme` | light or dark, kept in a cookie |
//! | `/assets/{hash}/{name}` | style sheets, scripts |
//!
//! **What it promises.** It answers on this machine alone ([`guard`]), changes something only for a form of its own, and
//! knows nothing that the public interface doesn't. A failure is a page in plain words. Names of customers stand in no
//! path: a search goes on to a profile's id.
//!
//! **What it leaves out.** Who may do what; the description in OpenAPI, which is of the interface for programs.

mod customers;
mod form;
mod guard;
mod ingest;
mod overview;
mod quarantine;
mod reply;
mod sql;

use std::sync::Arc;

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use isthmus_console::assets;

use self::{form::FormToken, reply::Asked};
use super::local::Loopback;
use crate::{
    activity::gather::Gather,
    grpc::{cluster::Cluster, hub::Hub, profile::Profiles, quarantine::Quarantine},
};

/// What the pages are made of.
struct Console {
    hub: Arc<Hub>,
    cluster: Cluster,
    profiles: Profiles,
    quarantine: Quarantine,
    gather: Gather,
    token: FormToken,
}

/// All paths of the console.
pub fn router(hub: &Arc<Hub>, loopback: Loopback) -> Router {
    let console = Arc::new(Console {
        hub: hub.clone(),
        cluster: Cluster::new(hub.clone()),
        profiles: Profiles::new(hub.clone()),
        quarantine: Quarantine::new(hub.clone()),
        gather: Gather::default(),
        token: FormToken::new(),
    });
    Router::new()
        .route("/", get(overview::page))
        .route("/ingest", get(ingest::page))
        .route("/customers", get(customers::search))
        .route("/customers/{id}", get(customers::page))
        .route("/quarantine", get(quarantine::listing))
        .route("/quarantine/replay", post(quarantine::replay_listed))
        .route("/quarantine/{id}", get(quarantine::page))
        .route("/quarantine/{id}/mend", post(quarantine::mend))
        .route("/quarantine/{id}/replay", post(quarantine::replay))
        .route("/quarantine/{id}/drop", post(quarantine::give_up))
        .route("/sql", get(sql::page).post(sql::run))
        .route("/theme", post(form::theme))
        .route("/assets/{hash}/{name}", get(asset))
        .with_state(console)
        .layer(middleware::from_fn_with_state(loopback, guard::only))
}

/// A file that pages refer to. Its path names its content, so it may be kept for ever.
async fn asset(Path((hash, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let Some(asset) = assets::find(&format!("/assets/{hash}/{name}")) else {
        return (StatusCode::NOT_FOUND, "there is no such file in this version\n").into_response();
    };
    let tag = format!("\"{}\"", asset.hash);
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|given| {
        given.to_str().is_ok_and(|given| given.split(',').any(|one| one.trim() == tag || one.trim() == "*"))
    });
    let kept = [
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::CONTENT_TYPE, asset.content_type),
    ];
    if known {
        (StatusCode::NOT_MODIFIED, kept).into_response()
    } else {
        (kept, asset.content).into_response()
    }
}
