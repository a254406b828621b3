//! Definitions as documents: computed traits and segments.
//!
//! ```json
//! {
//!   "computed_traits": [
//!     {"name": "orders_90d", "aggregate": "count", "events": ["Order Completed"], "window": "90 days"},
//!     {"name": "favourite", "aggregate": "most_frequent", "of": "category", "events": ["Product Viewed"],
//!      "filter": "price > 10"}
//!   ],
//!   "segments": [
//!     {"name": "loyal", "version": 1, "expression": "orders_90d >= 3 AND plan = 'pro'"}
//!   ]
//! }
//! ```
//!
//! A document is read strictly: a key that isn't known is an error. Whether what it says makes sense together,
//! [`crate::Plan::compile`] finds out.

use serde::{Deserialize, Serialize};

use crate::{
    duration,
    fault::{Fault, suggestion},
    parse::{self, Computed, TYPES, default_type, type_named},
    scalar::Type,
    term::ENTRIES_MAX,
    tree::{Aggregate, Events, Function},
};

/// The largest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// The longest name of a definition, in bytes.
pub const NAME_BYTES_MAX: usize = 100;
/// The most names of events of a computed trait.
const EVENTS_MAX: usize = 32;
/// The longest name of an event, in bytes.
const EVENT_BYTES_MAX: usize = 256;
/// The longest list of a computed trait, and how long it is where nobody says.
const LIST_MAX: u32 = 1_000;
const LIST_DEFAULT: u32 = 100;

/// All definitions that are in force together.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// Computed traits.
    pub computed_traits: Vec<ComputedTrait>,
    /// Segments.
    pub segments: Vec<Segment>,
}

/// Something that is worked out of a profile's events.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputedTrait {
    /// Its name: a letter, then letters, digits, `_` and `-`.
    pub name: String,
    /// `count`, `sum`, `average`, `min`, `max`, `first`, `last`, `most_frequent`, `distinct_count` or `distinct_list`.
    pub aggregate: String,
    /// The property, unless events are counted: `amount`, `product.category`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// As what the property is read: `number`, `text`, `boolean` or `time`. Needed for `min`, `max`, `first`, `last` and
    /// `most_frequent`; `text` for what is distinct where nobody says.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub of_type: Option<String>,
    /// Names of events. None: all of a type, which has to be said then.
    #[serde(default)]
    pub events: Vec<String>,
    /// The type of the events: `track` where nobody says; `any`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Which of these events: an expression over their properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How far back, such as `30 days`; at most 400 days. Where nobody says: all time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// How many values `distinct_list` has at most: 1 to 1,000, 100 where nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// From how many distinct values, or events of a window, on the trait says `overflow`: 1 to 10,000, 10,000 where
    /// nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<u32>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A set of customers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Its name: a letter, then letters, digits, `_` and `-`.
    pub name: String,
    /// Who is in it; see [`crate::parse`].
    pub expression: String,
    /// Which edit of it this is.
    #[serde(default)]
    pub version: u64,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl Document {
    /// Reads a document in JSON.
    ///
    /// # Errors
    /// It is too large, no JSON, or has keys or values that a document doesn't have, with line and column.
    pub fn from_json(text: &[u8]) -> Result<Self, Fault> {
        if text.len() > DOCUMENT_BYTES_MAX {
            let what = format!("the document has {} bytes; {DOCUMENT_BYTES_MAX} are the most", text.len());
            return Err(Fault::of_part("", what));
        }
        serde_json::from_slice(text).map_err(|error| Fault::of_part("", error.to_string()))
    }

    /// The document in its canonical form: equal documents are equal bytes.
    pub fn to_json(&self) -> Vec<u8> {
        // Structures of texts and numbers are always JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Checks the name of a definition.
pub(crate) fn check_name(name: &str, reserved: &[&str]) -> Result<(), String> {
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic())
        || !name.chars().all(rest)
        || name.len() > NAME_BYTES_MAX
    {
        return Err(format!(
            "a name is a letter, then letters, digits, _ and -, at most {NAME_BYTES_MAX} in all"
        ));
    }
    if reserved.iter().any(|word| word.eq_ignore_ascii_case(name)) {
        return Err(format!("{name} has a meaning of its own: choose another name"));
    }
    Ok(())
}

impl ComputedTrait {
    /// What it means.
    ///
    /// # Errors
    /// What is wrong with it by itself, and where.
    pub fn read(&self) -> Result<Computed, Fault> {
        let part = |key: &str| format!("computed trait {}: {key}", self.name);
        check_name(&self.name, &["first_seen", "last_seen", "revenue"])
            .map_err(|what| Fault::of_part(part("name"), what))?;
        let function = Function::parse(&self.aggregate).ok_or_else(|| {
            let hint = suggestion(&self.aggregate, Function::names());
            let all = Function::names().collect::<Vec<_>>().join(", ");
            Fault::of_part(part("aggregate"), format!("{} is none of {all}{hint}", self.aggregate))
        })?;
        let (of, of_type) = self.property(function, &part)?;
        let filter = match &self.filter {
            None => None,
            Some(text) => Some(Box::new(parse::filter(text).map_err(|fault| fault.within(part("filter")))?)),
        };
        let kind = match &self.event_type {
            None => Some(isthmus_domain::EventType::Track),
            Some(name) => type_named(name)
                .ok_or_else(|| Fault::of_part(part("event_type"), format!("a type is {TYPES}")))?,
        };
        let mut names = self.events.clone();
        names.sort();
        names.dedup();
        if names.len() > EVENTS_MAX || names.iter().any(|n| n.is_empty() || n.len() > EVENT_BYTES_MAX) {
            let what = format!("at most {EVENTS_MAX} names, each of 1 to {EVENT_BYTES_MAX} bytes");
            return Err(Fault::of_part(part("events"), what));
        }
        if names.is_empty() && self.event_type.is_none() {
            let what = "name the events, or say of which type they are with event_type";
            return Err(Fault::of_part(part("events"), what));
        }
        let window = match self.window.as_deref() {
            None | Some("all") => None,
            Some(text) => Some(
                duration::micros(text)
                    .and_then(duration::window)
                    .map_err(|what| Fault::of_part(part("window"), what))?,
            ),
        };
        let bound = self.bound(function, &part)?;
        let events = Events { kind, names, filter };
        let aggregate = Aggregate { function, events, of, of_type, window, bound };
        Ok(Computed { ty: function.gives(of_type), aggregate })
    }

    fn property(
        &self,
        function: Function,
        part: &impl Fn(&str) -> String,
    ) -> Result<(Option<crate::scalar::Path>, Type), Fault> {
        let default = default_type(function);
        let text = match (&self.of, function) {
            (None, Function::Count) if self.of_type.is_none() => return Ok((None, default)),
            (None, Function::Count) => {
                return Err(Fault::of_part(part("type"), "events are counted, not a property: leave it out"));
            }
            (Some(_), Function::Count) => {
                let what = "count counts events; to count values, write distinct_count";
                return Err(Fault::of_part(part("of"), what));
            }
            (None, _) => return Err(Fault::of_part(part("of"), "name the property, such as amount")),
            (Some(text), _) => text,
        };
        let (path, cast) = parse::property(text).map_err(|fault| fault.within(part("of")))?;
        let of_type = match self.of_type.as_deref() {
            None => cast.unwrap_or(default),
            Some("number") => Type::Number,
            Some("text") => Type::Text,
            Some("boolean") => Type::Boolean,
            Some("time") => Type::Time,
            Some(_) => return Err(Fault::of_part(part("type"), "a type is number, text, boolean or time")),
        };
        if of_type == Type::Any {
            let what = format!("{} needs to know: number, text, boolean or time", function.name());
            return Err(Fault::of_part(part("type"), what));
        }
        if default == Type::Number && of_type != Type::Number {
            return Err(Fault::of_part(part("type"), "only numbers can be added up"));
        }
        Ok((Some(path), of_type))
    }

    fn bound(&self, function: Function, part: &impl Fn(&str) -> String) -> Result<u32, Fault> {
        let within = |key: &str, given: Option<u32>, default: u32, max: u32| match given.unwrap_or(default) {
            n if (1..=max).contains(&n) => Ok(n),
            n => Err(Fault::of_part(part(key), format!("{n} is not from 1 to {max}"))),
        };
        match function {
            Function::DistinctList if self.bound.is_some() => {
                Err(Fault::of_part(part("bound"), "a list has a limit: write limit"))
            }
            Function::DistinctList => within("limit", self.limit, LIST_DEFAULT, LIST_MAX),
            _ if self.limit.is_some() => Err(Fault::of_part(part("limit"), "only distinct_list has a limit")),
            _ => within("bound", self.bound, ENTRIES_MAX, ENTRIES_MAX),
        }
    }
}
