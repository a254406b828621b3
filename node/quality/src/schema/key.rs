//! Which events a schema is of.

use std::{fmt, str::FromStr};

use isthmus_domain::EventType;

use crate::fault::Fault;

/// The longest name of an event that a schema can be of, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// A type of events, and a name where only those are meant: `identify`, `track:Order Completed`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaKey {
    /// The type.
    pub kind: EventType,
    /// The event's or page's name; empty: all events of the type that have no schema of their own.
    pub name: String,
}

impl SchemaKey {
    /// The schema of all events of a type.
    pub fn of_type(kind: EventType) -> Self {
        Self { kind, name: String::new() }
    }

    /// The part of an event that the schema is of.
    pub fn subject(&self) -> &'static str {
        subject(self.kind)
    }
}

/// The part of an event that schemas of its type are of.
pub(crate) fn subject(kind: EventType) -> &'static str {
    match kind {
        EventType::Identify | EventType::Group => "traits",
        _ => "properties",
    }
}

impl FromStr for SchemaKey {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let Some(kind) = EventType::parse(kind) else {
            let what = "name a type of events (identify, track, page, screen, group, alias), and behind a colon the \
                        event's or page's name if only that is meant: track:Order Completed";
            return Err(Fault::new("", what));
        };
        let name = name.trim();
        let named = matches!(kind, EventType::Track | EventType::Page | EventType::Screen);
        if !name.is_empty() && !named {
            return Err(Fault::new("", format!("{} events have no name: leave it out", kind.name())));
        }
        if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            let what = format!("a name has at most {NAME_BYTES_MAX} bytes and no control characters");
            return Err(Fault::new("", what));
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

impl fmt::Display for SchemaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if self.name.is_empty() { Ok(()) } else { write!(f, ":{}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        for text in
            ["identify", "track", "track:Order Completed", "page:a:b", "screen:Home", "group", "alias"]
        {
            assert_eq!(text.parse::<SchemaKey>().unwrap().to_string(), text);
        }
        assert_eq!("track: Seen ".parse::<SchemaKey>().unwrap().to_string(), "track:Seen");
        for bad in ["", "Order Completed", "identify:x", "track:a\nb", &format!("track:{}", "x".repeat(257))]
        {
            assert!(bad.parse::<SchemaKey>().is_err(), "{bad:?}");
        }
    }
}
