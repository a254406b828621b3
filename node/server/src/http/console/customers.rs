//! `/customers`: a search by any identifier, all customers page by page, and one customer.

use std::collections::BTreeSet;

use axum::{
    extract::{Path, Query, rejection::PathRejection, rejection::QueryRejection},
    response::{IntoResponse as _, Redirect, Response},
};
use isthmus_console::{
    Shell,
    customer::{self, Customer, Trait},
    customers::{self, Found, Listing},
};
use isthmus_domain::{Identifier, Namespace};
use isthmus_proto::v1::{
    self, BatchGetRequest, ExplainRequest, ProfileKey, ProfileServiceListRequest, TimelineRequest,
    profile_key::Key, profile_service_server::ProfileService as _,
};
use serde::Deserialize;
use tonic::Request;

use super::{
    Asked, Console,
    reply::{self, bad_query, refused},
};
use crate::{fault::Refusal, http::errors::Failure};

/// Customers of a page.
const PEOPLE: u32 = 25;
/// Events of a page.
const EVENTS: u32 = 50;
/// The longest text that is searched for.
const QUERY_BYTES_MAX: usize = 1_024;
/// Digits that a phone number has at least; anything shorter would be tried in vain.
const PHONE_DIGITS_MIN: usize = 6;

/// What may stand in the query.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    q: String,
    #[serde(default)]
    cursor: String,
}

/// A search, or all customers.
pub(super) async fn search(asked: Asked, wanted: Result<Query<Wanted>, QueryRejection>) -> Response {
    asked
        .answer(async {
            let Query(wanted) = wanted.map_err(|_| bad_query())?;
            match wanted.q.trim() {
                "" => list(&asked, wanted.cursor).await,
                text => find(&asked, text).await,
            }
        })
        .await
}

async fn list(asked: &Asked, cursor: String) -> Result<Response, Failure> {
    let further = !cursor.is_empty();
    let request = ProfileServiceListRequest { limit: PEOPLE, cursor, ..ProfileServiceListRequest::default() };
    let page = asked.console.profiles.list(Request::new(request)).await.map_err(refused)?.into_inner();
    let told = Listing { profiles: page.profiles, next_cursor: page.next_cursor, further };
    Ok(reply::page(customers::listing(&asked.shell(), &told)))
}

async fn find(asked: &Asked, text: &str) -> Result<Response, Failure> {
    if text.len() > QUERY_BYTES_MAX {
        let what = format!("must have at most {QUERY_BYTES_MAX} bytes");
        return Err(Refusal::field("INVALID_QUERY", "q", what).into());
    }
    let (mut found, keys) = candidates(&asked.console, text);
    let named: Vec<v1::Identifier> = keys.iter().map(|(named, _)| named.clone()).collect();
    let request = BatchGetRequest {
        keys: keys.into_iter().map(|(_, key)| ProfileKey { key: Some(key) }).collect(),
        ..BatchGetRequest::default()
    };
    let answer = asked.console.profiles.batch_get(Request::new(request)).await.map_err(refused)?.into_inner();
    let mut seen = BTreeSet::new();
    for (by, entry) in named.into_iter().zip(answer.entries) {
        match entry.profile {
            Some(profile) if seen.insert(profile.profile_id.clone()) => found.profiles.push((by, profile)),
            Some(_) => {}
            None => found.tried.push(by),
        }
    }
    if let [(_, only)] = &found.profiles[..] {
        return Ok(Redirect::to(&customers::path(&only.profile_id)).into_response());
    }
    let shell = Shell { query: text, ..asked.shell() };
    Ok(reply::page(customers::found(&shell, &found)))
}

/// What a text may mean, as it is filed: what it says itself, then a profile's id, then each usual namespace.
fn candidates(console: &Console, text: &str) -> (Found, Vec<(v1::Identifier, Key)>) {
    let mut found = Found::default();
    let mut keys = Vec::new();
    let shown =
        |namespace: &str, value: &str| v1::Identifier { namespace: namespace.into(), value: value.into() };
    if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let id = text.to_ascii_lowercase();
        keys.push((shown("profile id", &id), Key::ProfileId(id)));
    }
    let mut add = |namespace: Namespace, value: &str| {
        let identifier = Identifier::normalise(namespace, value).map_err(|error| error.to_string())?;
        let named = shown(identifier.namespace().as_str(), identifier.value());
        if !keys.iter().any(|(known, _)| *known == named) {
            keys.push((named.clone(), Key::Identifier(named)));
        }
        Ok(())
    };
    let said = text
        .split_once(':')
        .and_then(|(namespace, value)| Some((Namespace::parse(namespace.trim()).ok()?, value)));
    if let Some((namespace, value)) = said {
        found.problem = add(namespace, value).err().unwrap_or_default();
    }
    // Those that sources prefer are usual, too.
    let view = console.hub.view();
    let preferred = view.sources.values().flat_map(|source| source.primary_order.iter());
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let usual = [Namespace::USER_ID, Namespace::EMAIL, Namespace::PHONE, Namespace::ANONYMOUS_ID];
    for namespace in usual.into_iter().chain(preferred.cloned()) {
        let fits = match namespace.as_str() {
            "email" => text.contains('@'),
            "phone" => digits >= PHONE_DIGITS_MIN,
            _ => true,
        };
        if fits {
            // What is no value of a namespace can't be filed there.
            let _not_one: Result<(), String> = add(namespace, text);
        }
    }
    (found, keys)
}

/// One customer.
pub(super) async fn page(
    asked: Asked,
    id: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    asked
        .answer(async {
            let (Ok(Path(id)), Ok(Query(wanted))) = (id, wanted) else { return Err(bad_query()) };
            let key = ProfileKey { key: Some(Key::ProfileId(id)) };
            let told = Box::pin(customer(&asked.console, key, wanted.cursor)).await?;
            Ok(reply::page(customer::page(&asked.shell(), &told)))
        })
        .await
}

async fn customer(console: &Console, key: ProfileKey, cursor: String) -> Result<Customer, Failure> {
    let further = !cursor.is_empty();
    let timeline =
        TimelineRequest { key: Some(key.clone()), limit: EVENTS, cursor, ..TimelineRequest::default() };
    let explain = ExplainRequest { key: Some(key.clone()), other: None };
    let (known, timeline, why) = tokio::join!(
        console.profiles.known(&key),
        console.profiles.timeline(Request::new(timeline)),
        console.profiles.explain(Request::new(explain)),
    );
    let (profile, traits) = known.map_err(refused)?;
    let traits = traits.into_iter().map(|(name, state)| Trait {
        name,
        json: String::from_utf8_lossy(&state.value).into_owned(),
        source: state.source.into_owned(),
        message_id: state.message_id.into_owned(),
        said_at: state.timestamp,
    });
    Ok(Customer {
        profile,
        traits: traits.collect(),
        timeline: timeline.map_err(refused)?.into_inner(),
        further,
        why: why.map(|why| why.into_inner()).map_err(|status| status.message().to_owned()),
    })
}
