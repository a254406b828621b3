//! Profiles and events as clients get them.

use isthmus_domain::{EventRecord, EventType, Profile, Stamp, value::json};
use isthmus_proto::v1::{self, Identifier, TimelineEvent};

use super::Fields;
use crate::grpc::value::{timestamp, to_wire};

/// A profile, with the fields that are wanted.
///
/// # Errors
/// When a stored trait is no JSON.
pub(super) fn profile(
    profile: Profile,
    rules_version: Option<u64>,
    fields: Fields,
) -> Result<v1::Profile, isthmus_domain::value::JsonError> {
    let mut shown = v1::Profile::default();
    if fields.has("rules_version") {
        shown.rules_version = rules_version;
    }
    if fields.has("profile_id") {
        shown.profile_id = profile.profile_id.to_string();
    }
    if fields.has("identifiers") {
        let identifiers = profile.identifiers.iter().map(|identifier| Identifier {
            namespace: identifier.namespace().to_string(),
            value: identifier.value().to_owned(),
        });
        shown.identifiers = identifiers.collect();
    }
    if fields.has("traits") {
        for (name, state) in profile.traits {
            shown.traits.insert(name, to_wire(json::parse(&state.value)?));
        }
    }
    if fields.has("event_counts") {
        shown.event_counts = profile.event_counts;
    }
    if fields.has("type_counts") {
        let counts = profile.type_counts.into_iter();
        shown.type_counts = counts.map(|(kind, count)| (kind.name().to_owned(), count)).collect();
    }
    if fields.has("revenue") {
        shown.revenue = profile.revenue.to_string();
    }
    if fields.has("revenue_by_currency") {
        let sums = profile.revenue_by_currency.into_iter();
        shown.revenue_by_currency = sums.map(|(currency, sum)| (currency, sum.to_string())).collect();
    }
    if fields.has("first_seen") {
        shown.first_seen = profile.first_seen.map(timestamp);
    }
    if fields.has("last_seen") {
        shown.last_seen = profile.last_seen.map(timestamp);
    }
    if fields.has("sources") {
        shown.sources = profile.sources.into_iter().collect();
    }
    if fields.has("version") {
        shown.version = profile.version.to_string();
    }
    Ok(shown)
}

/// An event of a timeline. An event that was written out doesn't name its identifier: `known` is the timeline's.
pub(super) fn event(record: EventRecord, stamp: Stamp, known: &(String, String)) -> TimelineEvent {
    let kind = event_type(record.kind());
    let (namespace, value) = match known {
        (namespace, value) if record.value.is_empty() => (namespace.clone(), value.clone()),
        _ => (record.namespace, record.value),
    };
    TimelineEvent {
        r#type: kind.into(),
        message_id: record.message_id,
        source: record.source,
        name: record.name,
        timestamp: Some(timestamp(record.timestamp)),
        received_at: Some(timestamp(stamp.as_micros())),
        primary: Some(Identifier { namespace, value }),
        properties_json: object(&record.properties),
        context_json: object(&record.context),
        notes: record.notes,
    }
}

/// A type of event as clients get it.
pub(super) fn event_type(kind: EventType) -> v1::EventType {
    match kind {
        EventType::Unspecified => v1::EventType::Unspecified,
        EventType::Identify => v1::EventType::Identify,
        EventType::Track => v1::EventType::Track,
        EventType::Page => v1::EventType::Page,
        EventType::Screen => v1::EventType::Screen,
        EventType::Group => v1::EventType::Group,
        EventType::Alias => v1::EventType::Alias,
    }
}

/// Stored JSON as text; `{}` for what is not there.
pub(super) fn object(json: &[u8]) -> String {
    if json.is_empty() { "{}".to_owned() } else { String::from_utf8_lossy(json).into_owned() }
}
