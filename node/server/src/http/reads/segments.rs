//! The segments of a customer.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use isthmus_proto::v1::{
    GetMembershipsRequest, profile_key::Key, segment_service_server::SegmentService as _,
};
use serde::Serialize;
use tonic::Request;
use utoipa::{ToSchema, openapi::HttpMethod};

use super::{Asked, CURSOR, FAILURES, KEY, LIMIT, MIN_VERSION, Name, Options, Page, key, options, page};
use crate::{
    grpc::{
        hub::{Hub, read_level},
        segment::Segments,
    },
    http::{
        errors::Failure,
        routes::{Auth, Operation, Route},
    },
};

/// A segment that a customer is in.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentBody {
    segment: String,
    /// `in`; `overflow` where it can't be said, since a bound was passed.
    state: &'static str,
}

/// Some of a customer's segments.
#[derive(Debug, Serialize, ToSchema)]
pub struct SegmentPage {
    cursor: Page,
    data: Vec<SegmentBody>,
}

/// The read of segments.
pub(super) fn routes(hub: &Arc<Hub>) -> Vec<Route> {
    let segments = Arc::new(Segments::new(hub.clone()));
    let handler = |State(segments): State<Arc<Segments>>, path: Name, query: Options| async move {
        let asked = async { memberships(&segments, path, options(query)?).await };
        asked.await.unwrap_or_else(|failure: Failure| failure.into_response())
    };
    let operation = Operation {
        method: HttpMethod::Get,
        summary: "The segments that a customer is in, by name.",
        auth: Auth::None,
        parameters: &[KEY, MIN_VERSION, LIMIT, CURSOR],
        body: None,
        answer: Some("SegmentPage"),
        statuses: FAILURES,
    };
    let handler = get(handler).with_state(segments);
    vec![Route { path: "/v1/profiles/{key}/segments", handler, operation }]
}

async fn memberships(segments: &Segments, path: Name, asked: Asked) -> Result<Response, Failure> {
    let cut = page::Cut::of(page::Kind::Segments, asked.limit()?, asked.cursor.as_deref())?;
    // Linearizable: it covers whatever version token is asked for, if it is one.
    read_level(asked.consistency().as_ref())?;
    let request = match key(path)?.key {
        Some(Key::Identifier(identifier)) => {
            GetMembershipsRequest { identifier: Some(identifier), profile_id: String::new() }
        }
        Some(Key::ProfileId(profile_id)) => GetMembershipsRequest { identifier: None, profile_id },
        None => GetMembershipsRequest::default(),
    };
    let answered = segments.get_memberships(Request::new(request)).await;
    let answered = answered.map_err(|status| Failure::from_status(&status))?.into_inner();
    let is_in = answered.segments.into_iter().map(|segment| (segment, "in"));
    let mut all: Vec<(String, &'static str)> =
        is_in.chain(answered.overflows.into_iter().map(|segment| (segment, "overflow"))).collect();
    all.sort_unstable();
    let named = all.into_iter().map(|(segment, state)| (segment.clone(), SegmentBody { segment, state }));
    let (cursor, data) = cut.page(named);
    Ok(Json(SegmentPage { cursor, data }).into_response())
}
