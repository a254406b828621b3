//! A stored event as the JSON item that it was: for the quarantine, where people mend it and send it again.

use crate::event::{EventType, ID_FIELDS, comes_from_id_field};
use crate::identifier::Namespace;
use crate::record::EventRecord;
use crate::value::{Map, Value, json, rfc3339};

impl EventRecord {
    /// The event in Segment's shape, canonical JSON: what was sent, but for the time. `timestamp` is the corrected
    /// one and `sentAt` is gone, so that accepting the item again, whenever that is, gives the same time.
    pub fn to_json(&self) -> Vec<u8> {
        let mut item = object(&self.context);
        let text = |text: &str| Value::String(text.to_owned());
        item.insert("type".to_owned(), text(self.kind().name()));
        item.insert("messageId".to_owned(), text(&self.message_id));
        item.insert(
            "timestamp".to_owned(),
            rfc3339(self.timestamp).map_or(Value::Int(self.timestamp / 1_000), Value::String),
        );
        // A field that is not there because its identifier is; `null` and other spellings are there.
        for (field, namespace) in ID_FIELDS {
            let context = item.get("context").and_then(Value::as_map);
            if !item.contains_key(field)
                && comes_from_id_field(self.kind(), context, &namespace)
                && let Some(value) = self.only_value(&namespace)
            {
                item.insert(field.to_owned(), text(value));
            }
        }
        // A name that was trimmed is in the context as it was sent, and stays.
        let name_field = if self.kind() == EventType::Track { "event" } else { "name" };
        if !self.name.is_empty() {
            item.get_or_insert_with(name_field, || text(&self.name));
        }
        match self.kind() {
            _ if self.properties.is_empty() => {}
            EventType::Identify => _ = item.insert("traits".to_owned(), object(&self.properties).into()),
            EventType::Group => item.extend(object(&self.properties)),
            _ => _ = item.insert("properties".to_owned(), object(&self.properties).into()),
        }
        Value::Map(item).to_json()
    }

    fn only_value(&self, namespace: &Namespace) -> Option<&str> {
        let links = self.links.iter().map(|link| (&link.namespace, &link.value));
        let all = std::iter::once((&self.namespace, &self.value)).chain(links);
        all.into_iter().find(|(known, _)| *known == namespace.as_str()).map(|(_, value)| value.as_str())
    }
}

/// The object in a blob. One that can't be read, which accepting never makes, is kept as text, so nothing is lost.
fn object(blob: &[u8]) -> Map {
    if blob.is_empty() {
        return Map::new();
    }
    match json::parse(blob) {
        Ok(Value::Map(map)) => map,
        _ => {
            Map::from([("unreadable".to_owned(), Value::String(String::from_utf8_lossy(blob).into_owned()))])
        }
    }
}
