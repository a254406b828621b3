//! A typed event as the object of the Segment spec that it stands for, so that it means the same as its JSON.

use isthmus_domain::value::{Map, Value};
use isthmus_proto::v1::{Event, EventType};

use crate::grpc::value::{map_from_wire, micros};

/// The fields that were sent, by their names in the spec.
pub fn fields(event: &Event) -> Map {
    let mut fields = Map::new();
    let mut text = |name: &str, value: &str| {
        if !value.is_empty() {
            fields.insert(name.to_owned(), Value::from(value));
        }
    };
    let kind = match EventType::try_from(event.r#type) {
        Ok(EventType::Identify) => "identify",
        Ok(EventType::Track) => "track",
        Ok(EventType::Page) => "page",
        Ok(EventType::Screen) => "screen",
        Ok(EventType::Group) => "group",
        Ok(EventType::Alias) => "alias",
        // Left out, and refused for it.
        Ok(EventType::Unspecified) | Err(_) => "",
    };
    text("type", kind);
    text("messageId", &event.message_id);
    text("userId", &event.user_id);
    text("anonymousId", &event.anonymous_id);
    text("previousId", &event.previous_id);
    text("groupId", &event.group_id);
    text(if kind == "track" { "event" } else { "name" }, &event.name);
    text("category", &event.category);
    for (name, sent) in
        [("properties", &event.properties), ("traits", &event.traits), ("context", &event.context)]
    {
        if !sent.is_empty() {
            fields.insert(name.to_owned(), Value::Map(map_from_wire(sent)));
        }
    }
    for (name, time) in [
        ("timestamp", &event.timestamp),
        ("originalTimestamp", &event.original_timestamp),
        ("sentAt", &event.sent_at),
    ] {
        if let Some(time) = time {
            fields.insert(name.to_owned(), Value::Timestamp(micros(time)));
        }
    }
    external_ids(event, &mut fields);
    fields
}

/// Further identifiers are what JSON calls `context.externalIds`; those of the context come first.
fn external_ids(event: &Event, fields: &mut Map) {
    if event.identifiers.is_empty() {
        return;
    }
    let context = fields.get_or_insert_with("context", || Value::Map(Map::new()));
    let Value::Map(context) = context else { return };
    let ids = event.identifiers.iter().map(|identifier| {
        Value::Map(Map::from([
            ("id".to_owned(), Value::from(identifier.value.as_str())),
            ("type".to_owned(), Value::from(identifier.namespace.as_str())),
            ("collection".to_owned(), Value::from("users")),
            ("encoding".to_owned(), Value::from("none")),
        ]))
    });
    match context.get_or_insert_with("externalIds", || Value::List(Vec::new())) {
        Value::List(list) => list.extend(ids),
        // Not what the spec says: left as it was sent, and refused for it. Sent as null it counts as absent.
        slot @ Value::Null => *slot = Value::List(ids.collect()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use isthmus_proto::v1::Identifier;

    use super::*;

    fn json(event: &Event) -> String {
        String::from_utf8(Value::Map(fields(event)).to_json()).unwrap()
    }

    #[test]
    fn a_typed_event_is_its_json() {
        let event = Event {
            r#type: EventType::Track.into(),
            user_id: "42".into(),
            name: "Seen".into(),
            identifiers: vec![Identifier { namespace: "crm_id".into(), value: "7".into() }],
            timestamp: Some(crate::grpc::value::timestamp(1_000_000)),
            ..Event::default()
        };
        assert_eq!(
            json(&event),
            r#"{"context":{"externalIds":[{"collection":"users","encoding":"none","id":"7","type":"crm_id"}]},"event":"Seen","timestamp":"1970-01-01T00:00:01Z","type":"track","userId":"42"}"#
        );
    }

    #[test]
    fn nothing_that_was_not_sent_appears() {
        assert_eq!(json(&Event::default()), "{}");
        let page = Event { r#type: EventType::Page.into(), name: "Home".into(), ..Event::default() };
        assert_eq!(json(&page), r#"{"name":"Home","type":"page"}"#);
    }
}
