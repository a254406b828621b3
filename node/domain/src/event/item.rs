//! The shape of an item: one object with the fields of the Segment spec, whatever their spelling.
//!
//! Fields of the spec may come in camelCase or snake_case; they are kept in camelCase. Fields that the spec doesn't
//! know are kept as they are. `receivedAt` (the server's to say) and `writeKey` (a credential) are dropped.

use std::borrow::Cow;

use super::{EventType, Limits, RawItem, Reason, Refused};
use crate::value::{Map, Value, check_map, json};

/// snake_case and camelCase of the spec's fields; the rest have one spelling.
const SPELLINGS: [(&str, &str); 9] = [
    ("message_id", "messageId"),
    ("anonymous_id", "anonymousId"),
    ("user_id", "userId"),
    ("previous_id", "previousId"),
    ("group_id", "groupId"),
    ("sent_at", "sentAt"),
    ("original_timestamp", "originalTimestamp"),
    ("received_at", "receivedAt"),
    ("write_key", "writeKey"),
];

/// Fields that must be objects where they are sent.
const OBJECTS: [&str; 4] = ["properties", "traits", "context", "integrations"];

/// One item, its fields in camelCase.
pub(super) struct Item {
    pub(super) fields: Map,
    pub(super) notes: Vec<String>,
}

impl Item {
    pub(super) fn read(raw: RawItem<'_>, limits: &Limits) -> Result<Self, Refused> {
        let fields = match raw {
            RawItem::Json(bytes) if bytes.len() > limits.event_bytes_max => {
                return Err(Refused::too_large(limits.event_bytes_max));
            }
            RawItem::Json(bytes) => match json::parse(bytes)? {
                Value::Map(fields) => fields,
                other => {
                    let what = format!("an event must be an object, not {}", other.kind_name());
                    return Err(Refused::new(Reason::Malformed, "", what));
                }
            },
            RawItem::Typed(fields) => {
                check_map(&fields)?;
                fields
            }
        };
        let mut item = Self { fields, notes: Vec::new() };
        // Nearly all senders write camelCase: one look at the keys saves them nine look-ups.
        if item.fields.keys().any(|key| key.contains('_')) {
            item.spell_in_camel_case()?;
        }
        item.fields.remove("receivedAt");
        item.fields.remove("writeKey");
        Ok(item)
    }

    fn spell_in_camel_case(&mut self) -> Result<(), Refused> {
        for (snake, camel) in SPELLINGS {
            if let Some(value) = self.fields.remove(snake)
                && self.fields.insert(camel.to_owned(), value).is_some()
            {
                let what = format!("{camel} and {snake} are one field: send one of them");
                return Err(Refused::new(Reason::DuplicateKey, camel, what));
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    /// An object field; `None` when it is absent or null.
    pub(super) fn object(&self, field: &str) -> Option<&Map> {
        self.get(field).and_then(Value::as_map)
    }

    /// An id: text, or an integer in decimal; `None` when it is absent or null.
    pub(super) fn text(&self, field: &str) -> Result<Option<Cow<'_, str>>, Refused> {
        match self.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match id_text(value) {
                Some(text) => Ok(Some(text)),
                None => Err(Refused::wrong_type(field, "a string", value)),
            },
        }
    }

    pub(super) fn kind(&self) -> Result<EventType, Refused> {
        const KNOWN: &str = "send one of identify, track, page, screen, group, alias";
        let what = match self.get("type") {
            None | Some(Value::Null) => format!("type is missing: {KNOWN}"),
            Some(Value::String(name)) => match EventType::parse(name) {
                Some(kind) => return Ok(kind),
                None => format!("type is not known: {KNOWN}"),
            },
            Some(other) => format!("type is {}: {KNOWN}", other.kind_name()),
        };
        Err(Refused::new(Reason::TypeUnknown, "type", what))
    }

    pub(super) fn check_objects(&self) -> Result<(), Refused> {
        for field in OBJECTS {
            match self.get(field) {
                None | Some(Value::Null | Value::Map(_)) => {}
                Some(other) => return Err(Refused::wrong_type(field, "an object", other)),
            }
        }
        Ok(())
    }
}

/// The text of an id. Senders write numeric ids as numbers; a fraction is no id.
pub(super) fn id_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Int(n) => Some(Cow::Owned(n.to_string())),
        Value::UInt(n) => Some(Cow::Owned(n.to_string())),
        _ => None,
    }
}
