//! The hub's answers as JSON, in the shape that `isthmus --output json` prints: one object each, keys as in the
//! interface, times as RFC 3339 in UTC, decimals as strings, 64-bit integers as exact numbers, what is absent as null.
//!
//! Properties and context travel as JSON text and are handed through as they are, whatever their numbers' size.

mod admin;
mod change;
mod group;
mod identity;
mod quarantine;
mod rules;
mod schema;
mod segment;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};
use serde_json::value::RawValue;

pub use admin::{Node, Replica, Source, Status, role_name, state_name};
pub use change::Change;
pub use group::{Group, GroupMember, Membership};
pub use identity::{Explanation, Split};
pub use quarantine::{QuarantineEntry, QuarantineResult, resolution_name};
pub use rules::RulesStatus;
pub use schema::{Schema, SchemaCheck, SchemaText};
pub use segment::{ComputedTrait, Memberships, Segment, SegmentMember};

use crate::{
    Error,
    proto::{self, EventType, value::Kind},
};

/// A time as RFC 3339 in UTC; nothing for one that is absent or beyond the years -9999 to 9999.
pub fn time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok()).map(|time| time.to_string())
}

/// Text, or nothing when it is empty: how absence looks in protobuf.
fn text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// The name of an event's type, as in Segment's interface.
pub fn type_name(kind: EventType) -> &'static str {
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
#[derive(Debug, Clone, Copy)]
pub struct Value<'a>(pub &'a proto::Value);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            None | Some(Kind::NullValue(_)) => out.serialize_unit(),
            Some(Kind::BoolValue(value)) => out.serialize_bool(*value),
            Some(Kind::IntValue(value)) => out.serialize_i64(*value),
            Some(Kind::UintValue(value)) => out.serialize_u64(*value),
            Some(Kind::DoubleValue(value)) => out.serialize_f64(*value),
            Some(Kind::StringValue(value)) => out.serialize_str(value),
            Some(Kind::TimestampValue(value)) => time(Some(value)).serialize(out),
            Some(Kind::ListValue(list)) => {
                let mut items = out.serialize_seq(Some(list.values.len()))?;
                for value in &list.values {
                    items.serialize_element(&Value(value))?;
                }
                items.end()
            }
            Some(Kind::MapValue(map)) => Values(&map.fields).serialize(out),
        }
    }
}

/// Named values.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a>(pub &'a BTreeMap<String, proto::Value>);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut fields = out.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            fields.serialize_entry(name, &Value(value))?;
        }
        fields.end()
    }
}

/// An identifier.
#[derive(Debug, Clone, Serialize)]
pub struct Identifier<'a> {
    namespace: &'a str,
    value: &'a str,
}

impl<'a> From<&'a proto::Identifier> for Identifier<'a> {
    fn from(identifier: &'a proto::Identifier) -> Self {
        Self { namespace: &identifier.namespace, value: &identifier.value }
    }
}

/// A profile.
#[derive(Debug, Clone, Serialize)]
pub struct Profile<'a> {
    profile_id: &'a str,
    identifiers: Vec<Identifier<'a>>,
    traits: Values<'a>,
    event_counts: &'a BTreeMap<String, u64>,
    revenue: &'a str,
    revenue_by_currency: &'a BTreeMap<String, String>,
    first_seen: Option<String>,
    last_seen: Option<String>,
    sources: &'a [String],
    version: &'a str,
    type_counts: &'a BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules_version: Option<u64>,
    #[serde(flatten)]
    standing: Option<Standing<'a>>,
}

/// The segments of a profile, and its computed traits.
#[derive(Debug, Clone, Serialize)]
struct Standing<'a> {
    segments: &'a [String],
    overflows: &'a [String],
    computed_traits: BTreeMap<&'a str, Box<RawValue>>,
    segments_version: &'a str,
}

impl<'a> Profile<'a> {
    /// With its segments, if those were asked for.
    ///
    /// # Errors
    /// [`Error::BadAnswer`] when a computed trait isn't JSON.
    pub fn with_segments(profile: &'a proto::Profile) -> Result<Self, Error> {
        let standing = match &profile.segments {
            None => None,
            Some(known) => Some(Standing {
                segments: &known.segments,
                overflows: &known.overflows,
                computed_traits: segment::computed(&known.computed_traits_json)?,
                segments_version: &known.version,
            }),
        };
        Ok(Self { standing, ..Self::from(profile) })
    }
}

impl<'a> From<&'a proto::Profile> for Profile<'a> {
    fn from(profile: &'a proto::Profile) -> Self {
        Self {
            profile_id: &profile.profile_id,
            identifiers: profile.identifiers.iter().map(Identifier::from).collect(),
            traits: Values(&profile.traits),
            event_counts: &profile.event_counts,
            revenue: &profile.revenue,
            revenue_by_currency: &profile.revenue_by_currency,
            first_seen: time(profile.first_seen.as_ref()),
            last_seen: time(profile.last_seen.as_ref()),
            sources: &profile.sources,
            version: &profile.version,
            type_counts: &profile.type_counts,
            rules_version: profile.rules_version,
            standing: None,
        }
    }
}

/// An event of a timeline.
#[derive(Debug, Serialize)]
pub struct TimelineEvent<'a> {
    r#type: &'static str,
    message_id: &'a str,
    source: &'a str,
    event: Option<&'a str>,
    timestamp: Option<String>,
    received_at: Option<String>,
    identifier: Option<Identifier<'a>>,
    properties: Box<RawValue>,
    context: Box<RawValue>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
}

impl<'a> TryFrom<&'a proto::TimelineEvent> for TimelineEvent<'a> {
    type Error = Error;

    /// # Errors
    /// [`Error::BadAnswer`] when its properties or context aren't JSON.
    fn try_from(event: &'a proto::TimelineEvent) -> Result<Self, Error> {
        Ok(Self {
            r#type: type_name(event.r#type()),
            message_id: &event.message_id,
            source: &event.source,
            event: text(&event.name),
            timestamp: time(event.timestamp.as_ref()),
            received_at: time(event.received_at.as_ref()),
            identifier: event.primary.as_ref().map(Identifier::from),
            properties: raw(&event.properties_json)?,
            context: raw(&event.context_json)?,
            notes: &event.notes,
        })
    }
}

/// JSON text as it is, on one line: outside strings a line's end is a space, and inside strings there is none.
fn raw(text: &str) -> Result<Box<RawValue>, Error> {
    let text = if text.is_empty() { "{}".to_owned() } else { text.replace(['\n', '\r'], " ") };
    RawValue::from_string(text).map_err(|_| Error::BadAnswer("properties or context aren't JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: Kind) -> proto::Value {
        proto::Value { kind: Some(kind) }
    }

    fn printed(kind: Kind) -> String {
        serde_json::to_string(&Value(&value(kind))).unwrap()
    }

    #[test]
    fn values_keep_every_digit() {
        assert_eq!(printed(Kind::IntValue(i64::MIN)), "-9223372036854775808");
        assert_eq!(printed(Kind::IntValue(9_007_199_254_740_993)), "9007199254740993");
        assert_eq!(printed(Kind::UintValue(u64::MAX)), "18446744073709551615");
        assert_eq!(printed(Kind::DoubleValue(0.1)), "0.1");
        assert_eq!(printed(Kind::DoubleValue(f64::NAN)), "null");
        assert_eq!(printed(Kind::BoolValue(true)), "true");
        assert_eq!(printed(Kind::StringValue("a\n\"".into())), r#""a\n\"""#);
        assert_eq!(printed(Kind::NullValue(proto::Null {})), "null");
        assert_eq!(serde_json::to_string(&Value(&proto::Value { kind: None })).unwrap(), "null");
        let time = prost_types::Timestamp { seconds: 852_076_800, nanos: 123_456_000 };
        assert_eq!(printed(Kind::TimestampValue(time)), "\"1997-01-01T00:00:00.123456Z\"");
        let list = proto::ListValue { values: vec![value(Kind::IntValue(1)), proto::Value { kind: None }] };
        let fields = BTreeMap::from([("b".to_owned(), value(Kind::ListValue(list)))]);
        assert_eq!(printed(Kind::MapValue(proto::MapValue { fields })), r#"{"b":[1,null]}"#);
    }

    #[test]
    fn a_time_beyond_the_calendar_is_null() {
        let time_out = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(time(Some(&time_out)), None);
        assert_eq!(time(None), None);
    }

    #[test]
    fn properties_are_handed_through_on_one_line() {
        let event = proto::TimelineEvent {
            r#type: EventType::Track.into(),
            message_id: "m".into(),
            name: "Order Completed".into(),
            properties_json: "{\n\"revenue\":123456789012345678901234567890.10}".into(),
            ..Default::default()
        };
        let line = serde_json::to_string(&TimelineEvent::try_from(&event).unwrap()).unwrap();
        assert_eq!(
            line,
            r#"{"type":"track","message_id":"m","source":"","event":"Order Completed","timestamp":null,"received_at":null,"identifier":null,"properties":{ "revenue":123456789012345678901234567890.10},"context":{}}"#
        );
        let broken = proto::TimelineEvent { properties_json: "{".into(), ..Default::default() };
        assert!(TimelineEvent::try_from(&broken).is_err());
    }

    #[test]
    fn a_profile_has_the_keys_of_the_interface() {
        let profile = proto::Profile { revenue: "44.02".into(), ..Default::default() };
        let line = serde_json::to_string(&Profile::from(&profile)).unwrap();
        assert!(line.starts_with(
            r#"{"profile_id":"","identifiers":[],"traits":{},"event_counts":{},"revenue":"44.02","revenue_by_currency":{},"first_seen":null,"last_seen":null,"sources":[],"version":"""#
        ));
    }

    #[test]
    fn content_that_is_not_text_is_shown_in_hexadecimal() {
        let entry = proto::QuarantineEntry { content: vec![0xff, 0x0a].into(), ..Default::default() };
        let shown: serde_json::Value = serde_json::to_value(QuarantineEntry::from(&entry)).unwrap();
        assert_eq!(shown["content_hex"], "ff0a");
        assert!(shown.get("content").is_none());
    }
}
