//! Profiles and groups over HTTP, for programs and scripts on the node's own machine.
//!
//! **What it promises.** The same answers as gRPC's `ProfileService` and `GroupService`, which are asked for them, in the
//! fields of `isthmus profile … --output json` and `isthmus group … --output json`. A read is linearizable; with `min_version` it sees what that version token covers, which
//! may be quicker. Lists come as `{"cursor": {"has_more", "next", "limit"}, "data": […]}`; `next` is handed back as
//! `cursor`.
//!
//! **How.** A list of traits or identifiers is a part of the profile at the time of each page, in an exact order: what
//! is there all the time is shown once.

mod groups;
mod json;
mod page;
mod segments;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    response::{IntoResponse as _, Response},
    routing::get,
};
use isthmus_proto::v1::{
    Consistency, GetRequest, Identifier, Profile, ProfileKey, TimelineRequest, consistency::Level,
    profile_key::Key, profile_service_server::ProfileService as _,
};
use prost_types::FieldMask;
use serde::Deserialize;
use tonic::{Code, Request};
use utoipa::openapi::HttpMethod;

pub use self::{
    groups::{GroupBody, GroupPage, MemberPage, MembershipPage},
    json::{EventPage, IdentifierPage, ProfileBody, TraitPage},
    page::Page,
    segments::SegmentPage,
};
use super::{
    errors::Failure,
    routes::{Auth, Operation, Route},
};
use crate::{
    fault::Refusal,
    grpc::{
        hub::Hub,
        profile::{PROFILE_FIELDS, Profiles},
    },
};

const KEY: (&str, bool, &str) = (
    "key",
    true,
    "NAMESPACE:VALUE, such as user_id:42 or email:a@b.de, or a profile id of 32 hexadecimal digits.",
);
const MIN_VERSION: (&str, bool, &str) =
    ("min_version", false, "A version token: the answer covers it, and need not be newer.");
const SEGMENTS: (&str, bool, &str) =
    ("segments", false, "true: with the segments that the customer is in, and its computed traits.");
const LIMIT: (&str, bool, &str) = ("limit", false, "At most so many: 1 to 1000, 100 if it is left out.");
const CURSOR: (&str, bool, &str) = ("cursor", false, "The page behind this `next` of an earlier one.");

/// What may stand in the query.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    min_version: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
    /// Of a profile.
    #[serde(default)]
    segments: bool,
}

/// The reads.
pub fn routes(hub: &Arc<Hub>) -> Vec<Route> {
    let profiles = Arc::new(Profiles::new(hub.clone()));
    let operation = |summary, answer, parameters| Operation {
        method: HttpMethod::Get,
        summary,
        auth: Auth::None,
        parameters,
        body: None,
        answer: Some(answer),
        statuses: FAILURES,
    };
    macro_rules! route {
        ($path:literal, $handler:ident, $answer:literal, $parameters:expr, $summary:literal) => {
            Route {
                path: $path,
                handler: get(
                    |State(profiles): State<Arc<Profiles>>, path: Name, query: Options| async move {
                        let asked = async { $handler(&profiles, key(path)?, options(query)?).await };
                        asked.await.unwrap_or_else(|failure: Failure| failure.into_response())
                    },
                )
                .with_state(profiles.clone()),
                operation: operation($summary, $answer, $parameters),
            }
        };
    }
    const LIST: &[(&str, bool, &str)] = &[KEY, MIN_VERSION, LIMIT, CURSOR];
    let mut routes = vec![
        route!(
            "/v1/profiles/{key}",
            profile,
            "ProfileBody",
            &[KEY, MIN_VERSION, SEGMENTS],
            "A customer, under any identifier. Read on the node's own machine alone."
        ),
        route!("/v1/profiles/{key}/traits", traits, "TraitPage", LIST, "A customer's traits, by name."),
        route!(
            "/v1/profiles/{key}/identifiers",
            identifiers,
            "IdentifierPage",
            LIST,
            "A customer's identifiers, by namespace and value."
        ),
        route!("/v1/profiles/{key}/events", events, "EventPage", LIST, "A customer's events, newest first."),
    ];
    routes.extend(groups::routes(hub));
    routes.extend(segments::routes(hub));
    routes
}

type Name = Result<Path<String>, PathRejection>;
type Options = Result<Query<Asked>, QueryRejection>;

/// The statuses of reads that fail.
const FAILURES: &[u16] = &[400, 403, 404, 431, 503, 504];

fn options(query: Options) -> Result<Asked, Refusal> {
    let Query(asked) = query.map_err(|_| {
        let message =
            "the query can't be read: it may have min_version, limit, cursor and segments, each once";
        Refusal::new(Code::InvalidArgument, "INVALID_QUERY", message)
    })?;
    Ok(asked)
}

/// How a path names a customer.
fn key(path: Name) -> Result<ProfileKey, Refusal> {
    let wrong =
        "a profile is named by NAMESPACE:VALUE, such as user_id:42, or by its id of 32 hexadecimal digits";
    let wrong = || Refusal::field("INVALID_KEY", "key", wrong);
    let Path(text) = path.map_err(|_| wrong())?;
    let key = match text.split_once(':') {
        Some((namespace, value)) if !namespace.trim().is_empty() && !value.trim().is_empty() => {
            Key::Identifier(Identifier { namespace: namespace.trim().to_owned(), value: value.to_owned() })
        }
        None if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Key::ProfileId(text.to_ascii_lowercase())
        }
        _ => return Err(wrong()),
    };
    Ok(ProfileKey { key: Some(key) })
}

impl Asked {
    fn consistency(&self) -> Option<Consistency> {
        let level = Level::MinVersion(self.min_version.clone()?);
        Some(Consistency { level: Some(level) })
    }

    fn limit(&self) -> Result<u32, Refusal> {
        let Some(text) = &self.limit else { return Ok(0) };
        let limit = text.parse().ok().filter(|limit| *limit > 0);
        limit.ok_or_else(|| Refusal::field("INVALID_LIMIT", "limit", "must be 1 to 1000"))
    }
}

/// A profile with some of its fields; none: with all.
async fn read(
    profiles: &Profiles,
    key: ProfileKey,
    asked: &Asked,
    fields: &[&str],
) -> Result<Profile, Failure> {
    let fields = fields.iter().map(|field| (*field).to_owned()).collect();
    let request = GetRequest {
        key: Some(key),
        consistency: asked.consistency(),
        fields: Some(FieldMask { paths: fields }),
    };
    let answered = profiles.get(Request::new(request)).await;
    let answered = answered.map_err(|status| Failure::from_status(&status))?;
    Ok(answered.into_inner().profile.unwrap_or_default())
}

async fn profile(profiles: &Profiles, key: ProfileKey, asked: Asked) -> Result<Response, Failure> {
    if asked.limit.is_some() || asked.cursor.is_some() {
        let message = "a profile is no list: limit and cursor are for its traits, identifiers and events";
        return Err(Refusal::new(Code::InvalidArgument, "INVALID_QUERY", message).into());
    }
    let fields: &[&str] = if asked.segments { &PROFILE_FIELDS } else { &[] };
    let profile = read(profiles, key, &asked, fields).await?;
    Ok(Json(ProfileBody::from(profile)).into_response())
}

async fn traits(profiles: &Profiles, key: ProfileKey, asked: Asked) -> Result<Response, Failure> {
    let cut = page::Cut::of(page::Kind::Traits, asked.limit()?, asked.cursor.as_deref())?;
    let profile = read(profiles, key, &asked, &["traits"]).await?;
    let all = profile.traits.into_iter().map(|(name, value)| (name.clone(), (name, value)));
    let (cursor, data) = cut.page(all);
    Ok(Json(TraitPage::new(cursor, data)).into_response())
}

async fn identifiers(profiles: &Profiles, key: ProfileKey, asked: Asked) -> Result<Response, Failure> {
    let cut = page::Cut::of(page::Kind::Identifiers, asked.limit()?, asked.cursor.as_deref())?;
    let profile = read(profiles, key, &asked, &["identifiers"]).await?;
    // A namespace has no colon.
    let named = |i: Identifier| (format!("{}:{}", i.namespace, i.value), i);
    let mut all: Vec<_> = profile.identifiers.into_iter().map(named).collect();
    all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let (cursor, data) = cut.page(all.into_iter());
    Ok(Json(IdentifierPage::new(cursor, data)).into_response())
}

async fn events(profiles: &Profiles, key: ProfileKey, asked: Asked) -> Result<Response, Failure> {
    let limit = asked.limit()?;
    let request = TimelineRequest {
        key: Some(key),
        limit,
        cursor: asked.cursor.clone().unwrap_or_default(),
        consistency: asked.consistency(),
    };
    let answered = profiles.timeline(Request::new(request)).await;
    let answered = answered.map_err(|status| Failure::from_status(&status))?.into_inner();
    let cursor = Page::new(answered.next_cursor, limit);
    Ok(Json(EventPage::new(cursor, answered.events)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_customer_by_identifier_or_id() {
        let named = |text: &str| key(Ok(Path(text.to_owned()))).map(|key| key.key.unwrap()).ok();
        let identifier = |namespace: &str, value: &str| {
            Some(Key::Identifier(Identifier { namespace: namespace.into(), value: value.into() }))
        };
        assert_eq!(named("user_id:42"), identifier("user_id", "42"));
        assert_eq!(named("url:http://a/b"), identifier("url", "http://a/b"));
        assert_eq!(named(&"A".repeat(32)), Some(Key::ProfileId("a".repeat(32))));
        for bad in ["", "42", ":42", "user_id:", "user_id: ", &"g".repeat(32)] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }
}
