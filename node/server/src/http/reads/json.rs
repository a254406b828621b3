//! Profiles as JSON, in the fields of `isthmus profile … --output json`: times as RFC 3339 in UTC, decimals as strings,
//! 64-bit integers exact, what is absent as null.

use std::collections::BTreeMap;

use isthmus_domain::value::rfc3339;
use isthmus_proto::v1::{self, EventType, value::Kind};
use prost_types::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Page;
use crate::grpc::value::micros;

/// A customer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProfileBody {
    /// 32 hexadecimal digits.
    profile_id: String,
    identifiers: Vec<IdentifierBody>,
    #[schema(value_type = Object)]
    traits: BTreeMap<String, Value>,
    /// How many `track` events, by name.
    event_counts: BTreeMap<String, u64>,
    /// A decimal, in the default currency.
    revenue: String,
    revenue_by_currency: BTreeMap<String, String>,
    /// RFC 3339 in UTC.
    first_seen: Option<String>,
    last_seen: Option<String>,
    sources: Vec<String>,
    /// A read with this as `min_version` is as new as this one.
    version: String,
    /// How many events, by type.
    type_counts: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules_version: Option<u64>,
    /// The segments that the customer is in, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    segments: Option<Vec<String>>,
    /// Segments of which it can't be said, since a bound was passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    overflows: Option<Vec<String>>,
    /// Computed traits by name; `overflow` where a bound was passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    computed_traits: Option<BTreeMap<String, Json>>,
    /// The version token that these are exact at.
    #[serde(skip_serializing_if = "Option::is_none")]
    segments_version: Option<String>,
}

/// A name for a customer.
#[derive(Debug, Serialize, ToSchema)]
pub struct IdentifierBody {
    namespace: String,
    value: String,
}

/// A trait.
#[derive(Debug, Serialize, ToSchema)]
pub struct TraitBody {
    name: String,
    #[schema(value_type = serde_json::Value)]
    value: Value,
}

/// An event of a customer.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBody {
    r#type: &'static str,
    message_id: String,
    source: String,
    /// The name of a `track` event, a page or a screen.
    event: Option<String>,
    timestamp: Option<String>,
    received_at: Option<String>,
    identifier: Option<IdentifierBody>,
    #[schema(value_type = Object)]
    properties: Json,
    #[schema(value_type = Object)]
    context: Json,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Some of a customer's traits.
#[derive(Debug, Serialize, ToSchema)]
pub struct TraitPage {
    cursor: Page,
    data: Vec<TraitBody>,
}

impl TraitPage {
    /// Of traits with their names.
    pub fn new(cursor: Page, data: Vec<(String, v1::Value)>) -> Self {
        let data = data.into_iter().map(|(name, value)| TraitBody { name, value: Value(value) });
        Self { cursor, data: data.collect() }
    }
}

/// Some of a customer's identifiers.
#[derive(Debug, Serialize, ToSchema)]
pub struct IdentifierPage {
    cursor: Page,
    data: Vec<IdentifierBody>,
}

impl IdentifierPage {
    /// Of identifiers.
    pub fn new(cursor: Page, data: Vec<v1::Identifier>) -> Self {
        Self { cursor, data: data.into_iter().map(IdentifierBody::from).collect() }
    }
}

/// Some of a customer's events.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventPage {
    cursor: Page,
    data: Vec<EventBody>,
}

impl EventPage {
    /// Of events of a timeline.
    pub fn new(cursor: Page, data: Vec<v1::TimelineEvent>) -> Self {
        Self { cursor, data: data.into_iter().map(EventBody::from).collect() }
    }
}

impl From<v1::Profile> for ProfileBody {
    fn from(profile: v1::Profile) -> Self {
        let known = profile.segments;
        let computed = known.as_ref().map(|known| {
            let json =
                |json: &String| if json == "overflow" { "\"overflow\"".to_owned() } else { json.clone() };
            let all = known.computed_traits_json.iter();
            all.map(|(name, value)| (name.clone(), Json::of(json(value)))).collect()
        });
        Self {
            segments: known.as_ref().map(|known| known.segments.clone()),
            overflows: known.as_ref().map(|known| known.overflows.clone()),
            computed_traits: computed,
            segments_version: known.map(|known| known.version),
            profile_id: profile.profile_id,
            identifiers: profile.identifiers.into_iter().map(IdentifierBody::from).collect(),
            traits: profile.traits.into_iter().map(|(name, value)| (name, Value(value))).collect(),
            event_counts: profile.event_counts,
            revenue: profile.revenue,
            revenue_by_currency: profile.revenue_by_currency,
            first_seen: time(profile.first_seen.as_ref()),
            last_seen: time(profile.last_seen.as_ref()),
            sources: profile.sources,
            version: profile.version,
            type_counts: profile.type_counts,
            rules_version: profile.rules_version,
        }
    }
}

impl From<v1::Identifier> for IdentifierBody {
    fn from(identifier: v1::Identifier) -> Self {
        Self { namespace: identifier.namespace, value: identifier.value }
    }
}

impl From<v1::TimelineEvent> for EventBody {
    fn from(event: v1::TimelineEvent) -> Self {
        Self {
            r#type: type_name(event.r#type()),
            message_id: event.message_id,
            source: event.source,
            event: Some(event.name).filter(|name| !name.is_empty()),
            timestamp: time(event.timestamp.as_ref()),
            received_at: time(event.received_at.as_ref()),
            identifier: event.primary.map(IdentifierBody::from),
            properties: Json::of(event.properties_json),
            context: Json::of(event.context_json),
            notes: event.notes,
        }
    }
}

pub(super) fn time(time: Option<&Timestamp>) -> Option<String> {
    time.and_then(|time| rfc3339(micros(time)))
}

fn type_name(kind: EventType) -> &'static str {
    match kind {
        EventType::Unspecified => "unknown",
        EventType::Identify => "identify",
        EventType::Track => "track",
        EventType::Page => "page",
        EventType::Screen => "screen",
        EventType::Group => "group",
        EventType::Alias => "alias",
    }
}

/// A free-form value.
#[derive(Debug)]
pub(super) struct Value(pub(super) v1::Value);

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        Borrowed(&self.0).serialize(out)
    }
}

struct Borrowed<'a>(&'a v1::Value);

impl Serialize for Borrowed<'_> {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            None | Some(Kind::NullValue(_)) => out.serialize_unit(),
            Some(Kind::BoolValue(value)) => out.serialize_bool(*value),
            Some(Kind::IntValue(value)) => out.serialize_i64(*value),
            Some(Kind::UintValue(value)) => out.serialize_u64(*value),
            Some(Kind::DoubleValue(value)) => out.serialize_f64(*value),
            Some(Kind::StringValue(value)) => out.serialize_str(value),
            Some(Kind::TimestampValue(value)) => time(Some(value)).serialize(out),
            Some(Kind::ListValue(list)) => out.collect_seq(list.values.iter().map(Borrowed)),
            Some(Kind::MapValue(map)) => {
                out.collect_map(map.fields.iter().map(|(name, v)| (name, Borrowed(v))))
            }
        }
    }
}

/// Stored JSON, handed through as it is, whatever its numbers' size. What is stored is canonical, so it is JSON; a null
/// would show that it isn't.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Json(Option<Box<RawValue>>);

impl Json {
    fn of(text: String) -> Self {
        Self(RawValue::from_string(text).ok())
    }
}

#[cfg(test)]
mod tests {
    use isthmus_proto::v1::{ListValue, TimelineEvent, value::Kind};

    use super::*;

    #[test]
    fn values_keep_their_types_and_all_their_digits() {
        let value = |kind| v1::Value { kind: Some(kind) };
        let list = ListValue {
            values: vec![
                value(Kind::UintValue(u64::MAX)),
                value(Kind::IntValue(i64::MIN)),
                value(Kind::DoubleValue(1.0)),
                value(Kind::TimestampValue(Timestamp { seconds: 1, nanos: 0 })),
                v1::Value::default(),
            ],
        };
        let shown = serde_json::to_string(&Value(value(Kind::ListValue(list)))).unwrap();
        assert_eq!(shown, r#"[18446744073709551615,-9223372036854775808,1.0,"1970-01-01T00:00:01Z",null]"#);
    }

    #[test]
    fn stored_json_is_handed_through() {
        let event = TimelineEvent {
            properties_json: r#"{"n":123456789012345678901}"#.into(),
            context_json: "{}".into(),
            ..TimelineEvent::default()
        };
        let shown = serde_json::to_string(&EventBody::from(event)).unwrap();
        assert!(shown.contains(r#""properties":{"n":123456789012345678901},"context":{}"#), "{shown}");
    }
}
