//! Events come in over HTTP, as Segment's SDKs send them. What becomes of them is [`crate::intake`]'s.
//!
//! **What it promises.** A path takes what its real senders send, whatever they declare ([`body`]), and says of each
//! event what became of it ([`answer`]); 200 means that nothing is to be sent again. A key only writes, and every
//! request needs one: these paths are open to pages of any origin.
//!
//! **How.** The body is brought into memory, decompressed, and taken apart in one pass ([`envelope`]); its events are
//! handed to the intake as the slices that they were sent as, the same way as gRPC's JSON items.
//!
//! Source: <https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/>; the short paths are what
//! `@segment/analytics-next` 1.84 calls.

mod answer;
mod body;
mod envelope;
mod merge;
mod settings;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use isthmus_coordinator::View;
use isthmus_domain::{EventType, SourceView};
use isthmus_proto::v1::IngestItem;
use tokio::time::Instant;
use tonic::Code;
use tracing::Instrument as _;
use utoipa::openapi::HttpMethod;

pub use self::{
    answer::{EventProblem, IngestAnswer},
    settings::Settings,
};
use self::{
    body::Room,
    envelope::{Call, Envelope},
};
use super::{
    errors::Failure,
    routes::{Auth, Operation, Route},
};
use crate::{
    fault::Refusal,
    grpc::hub::Hub,
    intake::{self, Batch, source},
};

/// Paths that take events, what they take, and what they are for.
const PATHS: [(&str, Call, &str); 15] = [
    ("/v1/batch", Call::Batch, "Events of any types, at most 2,500 and 4 MiB."),
    ("/v1/import", Call::Batch, "As /v1/batch; for events of the past."),
    ("/v1/b", Call::Batch, "As /v1/batch; what browser SDKs call."),
    ("/v1/identify", Call::Event(EventType::Identify), "Says who someone is: sets and removes traits."),
    ("/v1/i", Call::Event(EventType::Identify), "As /v1/identify; what browser SDKs call."),
    ("/v1/track", Call::Event(EventType::Track), "Something happened; it has a name, in `event`."),
    ("/v1/t", Call::Event(EventType::Track), "As /v1/track; what browser SDKs call."),
    ("/v1/page", Call::Event(EventType::Page), "A web page was seen."),
    ("/v1/p", Call::Event(EventType::Page), "As /v1/page; what browser SDKs call."),
    ("/v1/screen", Call::Event(EventType::Screen), "A screen of an app was seen."),
    ("/v1/s", Call::Event(EventType::Screen), "As /v1/screen; what browser SDKs call."),
    ("/v1/group", Call::Event(EventType::Group), "Someone belongs to a group."),
    ("/v1/g", Call::Event(EventType::Group), "As /v1/group; what browser SDKs call."),
    ("/v1/alias", Call::Event(EventType::Alias), "One id replaces another: `previousId` and `userId`."),
    ("/v1/a", Call::Event(EventType::Alias), "As /v1/alias; what browser SDKs call."),
];

/// What ingest needs.
#[derive(Clone)]
struct Door {
    hub: Arc<Hub>,
    room: Room,
    strangers: Room,
}

/// The paths that send events, and what senders ask besides.
pub fn routes(hub: &Arc<Hub>) -> Vec<Route> {
    let door = Door { hub: hub.clone(), room: Room::new(), strangers: Room::of_strangers() };
    let mut routes: Vec<Route> = PATHS
        .into_iter()
        .map(|(path, call, summary)| {
            let answer = move |State(door): State<Door>, request: Request| async move {
                let span = tracing::debug_span!("ingest.batch", node = door.hub.node);
                take(&door, call, request)
                    .instrument(span)
                    .await
                    .unwrap_or_else(|failure| failure.into_response())
            };
            let operation = Operation {
                method: HttpMethod::Post,
                summary,
                auth: Auth::WriteKey,
                parameters: &[],
                body: Some(if call == Call::Batch { "Batch" } else { "Event" }),
                answer: Some("IngestAnswer"),
                statuses: &[400, 401, 404, 408, 413, 415, 429, 431, 503, 504],
            };
            Route { path, handler: post(answer).with_state(door.clone()), operation }
        })
        .collect();
    routes.push(Route {
        path: "/v1/m",
        handler: post(metrics),
        operation: Operation {
            method: HttpMethod::Post,
            summary: "What browser SDKs count of themselves. It is taken and not kept.",
            auth: Auth::None,
            parameters: &[],
            body: None,
            answer: None,
            statuses: &[413, 431],
        },
    });
    routes.push(Route {
        path: "/v1/projects/{key}/settings",
        handler: get(settings::settings).with_state(hub.clone()),
        operation: Operation {
            method: HttpMethod::Get,
            summary: "What browser and mobile SDKs ask before they send: with it they send here.",
            auth: Auth::None,
            parameters: &[("key", true, "The write key.")],
            body: None,
            answer: Some("Settings"),
            statuses: &[404, 431, 503, 504],
        },
    });
    routes
}

/// `analytics.js` counts its own errors, and logs one more when nobody takes them.
async fn metrics() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn take(door: &Door, call: Call, request: Request) -> Result<Response, Failure> {
    let hub = &*door.hub;
    let (parts, body) = request.into_parts();
    let deadline = Instant::now() + hub.deadline;
    // A key that is no good is refused before the body takes any room.
    let room = match known_by_headers(hub, &parts.headers, deadline).await {
        Ok(true) => &door.room,
        Ok(false) => &door.strangers,
        Err(failure) => {
            body::pass_over(body).await;
            return Err(failure);
        }
    };
    let held = body::read(&parts.headers, body, room, deadline).await?;
    // What is on its way in counts from when it is there.
    let deadline = Instant::now() + hub.deadline;
    let envelope = Envelope::read(call, held.bytes.clone())?;
    let key = write_key(&parts.headers, envelope.write_key.as_deref())?;
    let view = hub.coordinator.view_for_key(&key, deadline).await;
    let view = view.map_err(|error| Failure::from_fault(&error))?;
    let source = source_of(&view, &key)?;
    let sent_at = envelope.sent_at;
    let batch = Batch { source, sent_at, items: envelope.items().await };
    let taken = intake::take(hub, &view, batch, deadline).await;
    Ok(answer::of(taken.map_err(|untaken| Failure::from_fault(&untaken))?))
}

/// Whether the headers hold a key, which then is one that is in force.
async fn known_by_headers(hub: &Hub, headers: &HeaderMap, deadline: Instant) -> Result<bool, Failure> {
    let key = source::key_of_headers(|name| Some(headers.get(name)?.as_bytes()))?;
    let Some(key) = key.filter(|key| !key.is_empty()) else { return Ok(false) };
    let view = hub.coordinator.view_for_key(&key, deadline).await;
    let view = view.map_err(|error| Failure::from_fault(&error))?;
    source_of(&view, &key)?;
    Ok(true)
}

/// The events of a body that came to a path, and when it says that it was sent: what [`take`] finds before it knows
/// whose they are. `None` for a path that takes no events.
///
/// # Errors
/// What a sender is told.
pub(crate) async fn read(
    path: &str,
    headers: &HeaderMap,
    body: Body,
    deadline: Instant,
) -> Option<Result<(Option<i64>, Vec<IngestItem>), Failure>> {
    let (_, call, _) = PATHS.into_iter().find(|(known, ..)| *known == path)?;
    let read = async {
        let held = body::read(headers, body, &Room::new(), deadline).await?;
        let envelope = Envelope::read(call, held.bytes.clone())?;
        write_key(headers, envelope.write_key.as_deref())?;
        Ok((envelope.sent_at, envelope.items().await))
    };
    Some(read.await)
}

/// The write key, from the headers or the body.
fn write_key(headers: &HeaderMap, in_body: Option<&str>) -> Result<String, Refusal> {
    let in_headers = source::key_of_headers(|name| Some(headers.get(name)?.as_bytes()))?;
    match (in_headers.filter(|key| !key.is_empty()), in_body) {
        (Some(one), Some(other)) if one != other => {
            let what = "is not the write key of the headers: send one of them";
            Err(Refusal::field("WRITE_KEY_MISMATCH", "writeKey", what))
        }
        (Some(key), _) => Ok(key),
        (None, Some(key)) => Ok(key.to_owned()),
        (None, None) => {
            let message = "there is no write key: send it as `Authorization: Basic` with base64 of `KEY:`, as \
                           `Authorization: Bearer KEY`, or as writeKey in the body";
            Err(Refusal::new(Code::Unauthenticated, "WRITE_KEY_MISSING", message))
        }
    }
}

/// The source of a key that is in force.
fn source_of(view: &View, key: &str) -> Result<SourceView, Refusal> {
    match source::of_key(view, key) {
        Some(source) if source.disabled => {
            let message = "the source of this write key is disabled";
            Err(Refusal::new(Code::FailedPrecondition, "SOURCE_DISABLED", message))
        }
        Some(source) => Ok(source::viewed(source)),
        None => {
            let message = "the write key is unknown or was rotated away";
            Err(Refusal::new(Code::Unauthenticated, "WRITE_KEY_INVALID", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault as _;

    #[test]
    fn the_key_is_found_wherever_it_stands() {
        let found = |authorization: Option<&str>, body: Option<&str>| {
            let header =
                authorization.map(|value| ("authorization".parse().unwrap(), value.parse().unwrap()));
            let found = write_key(&HeaderMap::from_iter(header), body);
            found.map_err(|refusal| refusal.reason().to_owned())
        };
        for basic in ["Basic azE6", "Basic azE=", "Basic azE", "bearer k1"] {
            assert_eq!(found(Some(basic), None).as_deref(), Ok("k1"), "{basic}");
            assert_eq!(found(Some(basic), Some("k1")).as_deref(), Ok("k1"), "{basic}");
            assert_eq!(found(Some(basic), Some("k2")), Err("WRITE_KEY_MISMATCH".into()), "{basic}");
        }
        assert_eq!(found(None, Some("k2")).as_deref(), Ok("k2"));
        assert_eq!(found(Some("Basic Og=="), Some("k2")).as_deref(), Ok("k2"), "an empty key is none");
        assert_eq!(found(None, None), Err("WRITE_KEY_MISSING".into()));
        assert_eq!(found(Some("Digest x"), Some("k2")), Err("WRITE_KEY_INVALID".into()));
    }
}
