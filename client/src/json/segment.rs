//! Segments, computed traits and who is in them, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Identifier, raw};
use crate::{Error, proto};

/// A segment.
#[derive(Debug, Clone, Serialize)]
pub struct Segment<'a> {
    name: &'a str,
    expression: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    version: u64,
}

impl<'a> From<&'a proto::Segment> for Segment<'a> {
    fn from(it: &'a proto::Segment) -> Self {
        let (name, expression, description) = (&it.name, &it.expression, &it.description);
        Self { name, expression, description, version: it.version }
    }
}

/// A computed trait, as documents have it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComputedTrait {
    name: String,
    aggregate: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    of: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    r#type: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    event_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    filter: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    window: String,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u32,
    #[serde(skip_serializing_if = "is_zero")]
    bound: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl From<&proto::ComputedTrait> for ComputedTrait {
    fn from(it: &proto::ComputedTrait) -> Self {
        let it = it.clone();
        Self {
            name: it.name,
            aggregate: it.aggregate,
            of: it.of,
            r#type: it.r#type,
            events: it.events,
            event_type: it.event_type,
            filter: it.filter,
            window: it.window,
            limit: it.limit,
            bound: it.bound,
            description: it.description,
        }
    }
}

impl From<ComputedTrait> for proto::ComputedTrait {
    fn from(it: ComputedTrait) -> Self {
        Self {
            name: it.name,
            aggregate: it.aggregate,
            of: it.of,
            r#type: it.r#type,
            events: it.events,
            event_type: it.event_type,
            filter: it.filter,
            window: it.window,
            limit: it.limit,
            bound: it.bound,
            description: it.description,
        }
    }
}

/// A customer in a segment.
#[derive(Debug, Clone, Serialize)]
pub struct SegmentMember<'a> {
    profile_id: &'a str,
    identifier: Option<Identifier<'a>>,
}

impl<'a> From<&'a proto::SegmentMember> for SegmentMember<'a> {
    fn from(it: &'a proto::SegmentMember) -> Self {
        Self { profile_id: &it.profile_id, identifier: it.identifier.as_ref().map(Identifier::from) }
    }
}

/// What a customer is in.
#[derive(Debug, Serialize)]
pub struct Memberships<'a> {
    segments: &'a [String],
    overflows: &'a [String],
    computed_traits: BTreeMap<&'a str, Box<RawValue>>,
    version: &'a str,
    definitions_version: u64,
}

impl<'a> Memberships<'a> {
    /// As the hub tells it; a computed trait that has passed its bound is the text `overflow`.
    ///
    /// # Errors
    /// [`Error::BadAnswer`] when a value isn't JSON.
    pub fn new(it: &'a proto::GetMembershipsResponse) -> Result<Self, Error> {
        let computed_traits = computed(&it.computed_traits_json)?;
        Ok(Self {
            segments: &it.segments,
            overflows: &it.overflows,
            computed_traits,
            version: &it.version,
            definitions_version: it.definitions_version,
        })
    }
}

/// Computed traits by name; one that has passed its bound is the text `overflow`.
pub(super) fn computed(json: &BTreeMap<String, String>) -> Result<BTreeMap<&str, Box<RawValue>>, Error> {
    let value = |json: &str| raw(if json == "overflow" { "\"overflow\"" } else { json });
    json.iter().map(|(name, json)| Ok((name.as_str(), value(json)?))).collect()
}
