//! Groups: one, all, who belongs to one, and the groups of a customer.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse as _, Response},
    routing::get,
};
use isthmus_proto::v1::{
    self, GroupServiceGetRequest, GroupServiceListRequest, ListMembersRequest, ListMembershipsRequest,
    group_service_server::GroupService as _,
};
use serde::Serialize;
use tonic::{Code, Request};
use utoipa::{ToSchema, openapi::HttpMethod};

use super::{
    Asked, CURSOR, FAILURES, KEY, LIMIT, MIN_VERSION, Name, Options, Page,
    json::{IdentifierBody, Value, time},
    key, options,
};
use crate::{
    fault::Refusal,
    grpc::{group::Groups, hub::Hub},
    http::{
        errors::Failure,
        routes::{Auth, Operation, Route},
    },
};

const GROUP: (&str, bool, &str) = ("group", true, "The group, as events name it in `groupId`.");

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupBody {
    group_id: String,
    #[schema(value_type = Object)]
    traits: BTreeMap<String, Value>,
    /// How many identifiers belong to it: a customer may be known under several.
    member_identifiers: u64,
    /// How many events have named it.
    events: u64,
    /// RFC 3339 in UTC.
    first_seen: Option<String>,
    last_seen: Option<String>,
    sources: Vec<String>,
    /// A read with this as `min_version` is as new as this one.
    version: String,
}

/// Some of all groups.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupPage {
    cursor: Page,
    data: Vec<GroupBody>,
}

/// A customer who belongs to a group.
#[derive(Debug, Serialize, ToSchema)]
struct MemberBody {
    profile_id: String,
    /// Those under which events said so.
    identifiers: Vec<IdentifierBody>,
    /// RFC 3339 in UTC.
    first_seen: Option<String>,
    last_seen: Option<String>,
    events: u64,
}

/// Some of a group's members, each customer once.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberPage {
    cursor: Page,
    data: Vec<MemberBody>,
}

/// A group that a customer belongs to.
#[derive(Debug, Serialize, ToSchema)]
struct MembershipBody {
    group_id: String,
    /// RFC 3339 in UTC.
    first_seen: Option<String>,
    last_seen: Option<String>,
    events: u64,
}

/// Some of a customer's groups.
#[derive(Debug, Serialize, ToSchema)]
pub struct MembershipPage {
    cursor: Page,
    data: Vec<MembershipBody>,
}

impl From<v1::Group> for GroupBody {
    fn from(group: v1::Group) -> Self {
        Self {
            group_id: group.group_id,
            traits: group.traits.into_iter().map(|(name, value)| (name, Value(value))).collect(),
            member_identifiers: group.member_identifiers,
            events: group.events,
            first_seen: time(group.first_seen.as_ref()),
            last_seen: time(group.last_seen.as_ref()),
            sources: group.sources,
            version: group.version,
        }
    }
}

/// The reads of groups.
pub(super) fn routes(hub: &Arc<Hub>) -> Vec<Route> {
    let groups = Arc::new(Groups::new(hub.clone()));
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
                handler: get(|State(groups): State<Arc<Groups>>, path: Name, query: Options| async move {
                    let asked = async { $handler(&groups, path, options(query)?).await };
                    asked.await.unwrap_or_else(|failure: Failure| failure.into_response())
                })
                .with_state(groups.clone()),
                operation: operation($summary, $answer, $parameters),
            }
        };
    }
    let all = Route {
        path: "/v1/groups",
        handler: get(|State(groups): State<Arc<Groups>>, query: Options| async move {
            let asked = async { list(&groups, options(query)?).await };
            asked.await.unwrap_or_else(|failure: Failure| failure.into_response())
        })
        .with_state(groups.clone()),
        operation: operation(
            "All groups. Read on the node's own machine alone.",
            "GroupPage",
            &[MIN_VERSION, LIMIT, CURSOR],
        ),
    };
    vec![
        all,
        route!("/v1/groups/{group}", one, "GroupBody", &[GROUP, MIN_VERSION], "A group."),
        route!(
            "/v1/groups/{group}/members",
            members,
            "MemberPage",
            &[GROUP, MIN_VERSION, LIMIT, CURSOR],
            "The customers who belong to a group, each once. A page may have fewer than `limit`."
        ),
        route!(
            "/v1/profiles/{key}/groups",
            memberships,
            "MembershipPage",
            &[KEY, MIN_VERSION, LIMIT, CURSOR],
            "The groups that a customer belongs to."
        ),
    ]
}

fn named(path: Result<Path<String>, PathRejection>) -> Result<String, Refusal> {
    let Path(group) =
        path.map_err(|_| Refusal::field("INVALID_GROUP_ID", "group", "a group's name is text in UTF-8"))?;
    Ok(group)
}

async fn one(groups: &Groups, path: Name, asked: Asked) -> Result<Response, Failure> {
    if asked.limit.is_some() || asked.cursor.is_some() {
        let message = "a group is no list: limit and cursor are for all groups, and for members";
        return Err(Refusal::new(Code::InvalidArgument, "INVALID_QUERY", message).into());
    }
    let request = GroupServiceGetRequest { group_id: named(path)?, consistency: asked.consistency() };
    let answered = groups.get(Request::new(request)).await;
    let answered = answered.map_err(|status| Failure::from_status(&status))?.into_inner();
    Ok(Json(GroupBody::from(answered.group.unwrap_or_default())).into_response())
}

async fn list(groups: &Groups, asked: Asked) -> Result<Response, Failure> {
    let limit = asked.limit()?;
    let consistency = asked.consistency();
    let request = GroupServiceListRequest { limit, cursor: asked.cursor.unwrap_or_default(), consistency };
    let answered = groups.list(Request::new(request)).await;
    let answered = answered.map_err(|status| Failure::from_status(&status))?.into_inner();
    let cursor = Page::new(answered.next_cursor, limit);
    let data = answered.groups.into_iter().map(GroupBody::from).collect();
    Ok(Json(GroupPage { cursor, data }).into_response())
}

async fn members(groups: &Groups, path: Name, asked: Asked) -> Result<Response, Failure> {
    let limit = asked.limit()?;
    let consistency = asked.consistency();
    let cursor = asked.cursor.unwrap_or_default();
    let request = ListMembersRequest { group_id: named(path)?, limit, cursor, consistency };
    let answered = groups.list_members(Request::new(request)).await;
    let answered = answered.map_err(|status| Failure::from_status(&status))?.into_inner();
    let cursor = Page::new(answered.next_cursor, limit);
    let data = answered.members.into_iter().map(|member| MemberBody {
        profile_id: member.profile_id,
        identifiers: member.identifiers.into_iter().map(IdentifierBody::from).collect(),
        first_seen: time(member.first_seen.as_ref()),
        last_seen: time(member.last_seen.as_ref()),
        events: member.events,
    });
    Ok(Json(MemberPage { cursor, data: data.collect() }).into_response())
}

async fn memberships(groups: &Groups, path: Name, asked: Asked) -> Result<Response, Failure> {
    let limit = asked.limit()?;
    let consistency = asked.consistency();
    let cursor = asked.cursor.unwrap_or_default();
    let request = ListMembershipsRequest { key: Some(key(path)?), limit, cursor, consistency };
    let answered = groups.list_memberships(Request::new(request)).await;
    let answered = answered.map_err(|status| Failure::from_status(&status))?.into_inner();
    let cursor = Page::new(answered.next_cursor, limit);
    let data = answered.memberships.into_iter().map(|membership| MembershipBody {
        group_id: membership.group_id,
        first_seen: time(membership.first_seen.as_ref()),
        last_seen: time(membership.last_seen.as_ref()),
        events: membership.events,
    });
    Ok(Json(MembershipPage { cursor, data: data.collect() }).into_response())
}
