//! Typed values: what properties and traits hold.
//!
//! A value is what a sender said, exactly: 64-bit integers stay integers, times of the protobuf interface stay times,
//! and a number that can't be kept is refused, never rounded. JSON goes in by [`json::parse`] and out by
//! [`Value::to_json`], whose text is *canonical*: the same value is the same bytes, whoever writes it. That is what
//! body hashes, stored blobs and comparisons of replicas rest on.
//!
//! Canonical JSON here: UTF-8; keys sorted by their bytes; no white space; only the escapes that JSON requires;
//! integers in decimal; floats in the shortest form that reads back to the same number, always with a point or an
//! exponent (so that `1.0` does not turn into an integer); times as RFC 3339 in UTC. It differs from RFC 8785 (JCS)
//! in the order of keys beyond the basic plane and in keeping integers exact.

mod canonical;
pub mod json;
mod map;
mod merge_patch;
pub mod scan;

use std::fmt::{self, Write};

pub use json::{JsonError, JsonErrorKind};
pub use map::Map;
pub use merge_patch::merge_patch;

/// How deep lists and maps may be nested, the outermost counting as 1.
pub const DEPTH_MAX: usize = 32;

/// A typed value. `Debug` shows kinds and sizes, not content.
///
/// [`Value::check`] says whether a value that did not come from [`json::parse`] can be kept.
#[derive(Clone, PartialEq, Default)]
pub enum Value {
    /// No value; as a trait, it removes.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// An integer from -2^63 to 2^63-1.
    Int(i64),
    /// An integer from 2^63 to 2^64-1; smaller ones are [`Value::Int`] (see [`Value::from_u64`]).
    UInt(u64),
    /// A finite number with a fraction or an exponent.
    Float(f64),
    /// Text.
    String(String),
    /// A point in time, microseconds since 1970-01-01T00:00:00Z, between the years -9999 and 9999.
    Timestamp(i64),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Map(Map),
}

/// Why a typed value can't be kept, with the path to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValueFault {
    /// Which rule it breaks.
    pub kind: ValueFaultKind,
    /// Where: `properties.items[2].price`.
    pub path: String,
}

impl ValueFault {
    fn new(kind: ValueFaultKind, path: &str) -> Self {
        Self { kind, path: shown(path) }
    }
}

/// The rules of [`Value::check`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueFaultKind {
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// NaN or an infinity.
    NotFinite,
    /// A time outside of the years -9999 to 9999.
    TimestampOutOfRange,
}

impl Value {
    /// An integer in its only form: [`Value::Int`] when it fits.
    pub fn from_u64(n: u64) -> Self {
        i64::try_from(n).map_or(Self::UInt(n), Self::Int)
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(s) = self { Some(s) } else { None }
    }

    /// The object, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        if let Self::Map(m) = self { Some(m) } else { None }
    }

    /// What it is, in the words of JSON: for messages to people.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::UInt(_) => "an integer",
            Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Timestamp(_) => "a timestamp",
            Self::List(_) => "an array",
            Self::Map(_) => "an object",
        }
    }

    /// Checks a value that was built by hand or came from protobuf; what [`json::parse`] gives always passes.
    pub fn check(&self) -> Result<(), ValueFault> {
        let mut path = String::new();
        self.check_at(1, &mut path).map_err(|kind| ValueFault::new(kind, &path))
    }

    /// On an error, `path` is left at the culprit. Depth is checked before descending, so the stack is bounded.
    fn check_at(&self, depth: usize, path: &mut String) -> Result<(), ValueFaultKind> {
        match self {
            Self::Float(f) if !f.is_finite() => Err(ValueFaultKind::NotFinite),
            Self::Timestamp(t) if canonical::timestamp(*t).is_none() => {
                Err(ValueFaultKind::TimestampOutOfRange)
            }
            Self::List(_) | Self::Map(_) if depth > DEPTH_MAX => Err(ValueFaultKind::TooDeep),
            Self::List(items) => items.iter().enumerate().try_for_each(|(i, item)| {
                let here = path.len();
                // Writing into a String cannot fail.
                let _ = write!(path, "[{i}]");
                item.check_at(depth + 1, path)?;
                path.truncate(here);
                Ok(())
            }),
            Self::Map(map) => check_map_at(map, depth, path),
            _ => Ok(()),
        }
    }

    /// The canonical JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.write_json(&mut out);
        out
    }

    /// Appends the canonical JSON text.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        canonical::write(self, out);
    }
}

/// As [`Value::check`], for an object that is not wrapped in a value.
pub fn check_map(map: &Map) -> Result<(), ValueFault> {
    let mut path = String::new();
    check_map_at(map, 1, &mut path).map_err(|kind| ValueFault::new(kind, &path))
}

fn check_map_at(map: &Map, depth: usize, path: &mut String) -> Result<(), ValueFaultKind> {
    map.iter().try_for_each(|(key, item)| {
        let here = path.len();
        if here > 0 {
            path.push('.');
        }
        path.push_str(key);
        item.check_at(depth + 1, path)?;
        path.truncate(here);
        Ok(())
    })
}

/// The start of a name that a sender chose, for messages: as much as helps to find it.
pub(crate) fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 100;
    match name.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Appends the canonical JSON text of an object.
pub fn write_json_map(map: &Map, out: &mut Vec<u8>) {
    canonical::write_map(map, out);
}

/// Appends a text as a JSON string.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    canonical::write_string(text, out);
}

/// RFC 3339 in UTC for microseconds since the epoch; `None` outside of the years -9999 to 9999.
pub fn rfc3339(micros: i64) -> Option<String> {
    canonical::timestamp(micros).map(|t| t.to_string())
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(s) => write!(f, "a string of {} bytes", s.len()),
            Self::List(l) => write!(f, "an array of {}", l.len()),
            Self::Map(m) => write!(f, "an object of {}", m.len()),
            other => f.write_str(other.kind_name()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::List(items)
    }
}
