//! The canonical body of an event: its hash, and the blobs that are stored.
//!
//! Every field is written as canonical JSON once, into one buffer. The hash goes over the buffer; the blobs are put
//! together from pieces of it. `messageId` and `sentAt` are not in it: a client that sends an event again may say
//! another `sentAt`, and the message id is what the hash is compared under.

use std::ops::Range;

use bytes::Bytes;

use super::EventType;
use super::identifiers::Star;
use super::item::Item;
use crate::hash::body_hash;
use crate::value::{Value, rfc3339, write_json_string};

pub(super) struct Body {
    pub(super) hash: [u8; 16],
    pub(super) properties: Bytes,
    pub(super) context: Bytes,
    /// The size of the canonical event.
    pub(super) bytes: usize,
}

pub(super) fn of_item(item: &Item, kind: EventType, name: &str, timestamp: i64, star: &Star) -> Body {
    let mut buffer = Vec::with_capacity(512);
    // Where `"key":value` and its value stand, sorted by key.
    let mut pieces: Vec<(&str, Range<usize>, usize)> = Vec::with_capacity(item.fields.len());
    for (key, value) in &item.fields {
        if matches!(key.as_str(), "messageId" | "sentAt") {
            continue;
        }
        let start = buffer.len();
        write_json_string(key, &mut buffer);
        buffer.push(b':');
        let value_start = buffer.len();
        value.write_json(&mut buffer);
        pieces.push((key, start..buffer.len(), value_start));
        // Keys can't hold a bare line break, so pieces don't run into each other.
        buffer.push(b'\n');
    }

    let properties = match kind {
        EventType::Identify => value_of(&buffer, &pieces, item, "traits"),
        EventType::Group => {
            join(&buffer, pieces.iter().filter(|(key, ..)| matches!(*key, "groupId" | "traits")))
        }
        _ => value_of(&buffer, &pieces, item, "properties"),
    };
    let elsewhere = |key: &str| match key {
        "type" => true,
        "traits" => matches!(kind, EventType::Identify | EventType::Group),
        "groupId" => kind == EventType::Group,
        "properties" => !matches!(kind, EventType::Identify | EventType::Group),
        "event" => kind == EventType::Track && item.get(key).and_then(Value::as_str) == Some(name),
        "name" => {
            matches!(kind, EventType::Page | EventType::Screen)
                && item.get(key).and_then(Value::as_str) == Some(name)
        }
        "timestamp" => is_written_as(item.get(key), timestamp),
        id => star.elided.contains(&id),
    };
    let context = join(&buffer, pieces.iter().filter(|(key, ..)| !elsewhere(key)));
    Body { hash: body_hash(&buffer), properties, context, bytes: buffer.len() }
}

/// Whether a time as sent is the text that the stored time would be shown as.
fn is_written_as(sent: Option<&Value>, micros: i64) -> bool {
    match sent {
        Some(Value::Timestamp(t)) => *t == micros,
        Some(Value::String(text)) => rfc3339(micros).is_some_and(|canonical| canonical == *text),
        _ => false,
    }
}

type Piece<'a> = (&'a str, Range<usize>, usize);

/// The blob of one object field; empty when it is absent or null.
fn value_of(buffer: &[u8], pieces: &[Piece<'_>], item: &Item, field: &str) -> Bytes {
    if item.object(field).is_none() {
        return Bytes::new();
    }
    let piece = pieces.iter().find(|(key, ..)| *key == field);
    piece.map_or_else(Bytes::new, |(_, range, value)| Bytes::copy_from_slice(&buffer[*value..range.end]))
}

/// An object of some pieces; empty when there are none.
fn join<'a>(buffer: &[u8], pieces: impl Iterator<Item = &'a Piece<'a>>) -> Bytes {
    let mut out = Vec::new();
    for (_, range, _) in pieces {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.extend_from_slice(&buffer[range.clone()]);
    }
    if !out.is_empty() {
        out.push(b'}');
    }
    out.into()
}
