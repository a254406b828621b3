//! Groups and memberships as JSON.

use serde::Serialize;

use super::{Identifier, Values, time};
use crate::proto;

/// A group.
#[derive(Debug, Clone, Serialize)]
pub struct Group<'a> {
    group_id: &'a str,
    traits: Values<'a>,
    member_identifiers: u64,
    events: u64,
    first_seen: Option<String>,
    last_seen: Option<String>,
    sources: &'a [String],
    version: &'a str,
}

impl<'a> From<&'a proto::Group> for Group<'a> {
    fn from(group: &'a proto::Group) -> Self {
        Self {
            group_id: &group.group_id,
            traits: Values(&group.traits),
            member_identifiers: group.member_identifiers,
            events: group.events,
            first_seen: time(group.first_seen.as_ref()),
            last_seen: time(group.last_seen.as_ref()),
            sources: &group.sources,
            version: &group.version,
        }
    }
}

/// A customer who belongs to a group.
#[derive(Debug, Clone, Serialize)]
pub struct GroupMember<'a> {
    profile_id: &'a str,
    identifiers: Vec<Identifier<'a>>,
    first_seen: Option<String>,
    last_seen: Option<String>,
    events: u64,
}

impl<'a> From<&'a proto::GroupMember> for GroupMember<'a> {
    fn from(member: &'a proto::GroupMember) -> Self {
        Self {
            profile_id: &member.profile_id,
            identifiers: member.identifiers.iter().map(Identifier::from).collect(),
            first_seen: time(member.first_seen.as_ref()),
            last_seen: time(member.last_seen.as_ref()),
            events: member.events,
        }
    }
}

/// A group that a customer belongs to.
#[derive(Debug, Clone, Serialize)]
pub struct Membership<'a> {
    group_id: &'a str,
    first_seen: Option<String>,
    last_seen: Option<String>,
    events: u64,
}

impl<'a> From<&'a proto::Membership> for Membership<'a> {
    fn from(membership: &'a proto::Membership) -> Self {
        Self {
            group_id: &membership.group_id,
            first_seen: time(membership.first_seen.as_ref()),
            last_seen: time(membership.last_seen.as_ref()),
            events: membership.events,
        }
    }
}
