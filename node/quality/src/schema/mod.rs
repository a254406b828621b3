//! Schemas of events: JSON Schema for what an event says, and what becomes of events that break it.
//!
//! A schema is of `properties` (`track`, `page`, `screen`, `alias`) or of `traits` (`identify`, `group`), of all events of
//! a type or of those with one name: [`SchemaKey`]. Traits are checked as they are stored: standardised, reserved ones in
//! camelCase, removed ones left out.
//!
//! **What is taken** ([`Schema::read`]): JSON Schema of draft 2020-12 (the default) or draft-07, with formats asserted.
//! `$ref` leads to a place in the same document and never back to where it came from; there are no anchors, dynamic
//! references and inner `$id`s. Patterns are run by an engine that takes linear time, so they know no look-around and
//! no back-references. With all references put in place, a schema has at most [`SUBSCHEMAS_MAX`] parts. So what one event
//! costs is bounded, whoever wrote the schema.

mod expand;
mod key;
mod violation;

use std::fmt;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

pub use expand::SUBSCHEMAS_MAX;
pub use key::SchemaKey;
pub use violation::Violation;

use crate::{fault::Fault, reading};

/// The largest schema, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// The largest compiled pattern, and the most memory of its automaton, in bytes.
const PATTERN_SIZE_MAX: usize = 256 << 10;
/// The dialect of schemas that don't name theirs.
const DIALECT_DEFAULT: Draft = Draft::Draft202012;

/// What becomes of an event that breaks its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It is refused, and not kept.
    Reject,
    /// It is kept in quarantine, to be mended.
    Quarantine,
    /// It is accepted, with a note.
    Flag,
}

impl Policy {
    /// Its name in documents and interfaces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Quarantine => "quarantine",
            Self::Flag => "flag",
        }
    }

    /// The policy with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Reject, Self::Quarantine, Self::Flag].into_iter().find(|policy| policy.name() == name)
    }
}

/// What a new version of a schema owes to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// It accepts what the old one accepted: senders needn't change.
    Backward,
    /// The old one accepts what it accepts: readers needn't change.
    Forward,
    /// Both.
    Full,
    /// Nothing.
    None,
}

impl Compatibility {
    /// Its name in documents and interfaces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backward => "backward",
            Self::Forward => "forward",
            Self::Full => "full",
            Self::None => "none",
        }
    }

    /// The compatibility with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Backward, Self::Forward, Self::Full, Self::None].into_iter().find(|one| one.name() == name)
    }
}

/// A schema that can be used.
#[derive(Clone)]
pub struct Schema {
    source: Value,
    /// The same with all references put in place.
    expanded: Value,
    draft: Draft,
    validator: Validator,
}

impl Schema {
    /// Reads a schema: see the module for what is taken.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn read(text: &[u8]) -> Result<Self, Fault> {
        let source = plain(&reading::parse(text, SCHEMA_BYTES_MAX)?);
        let draft = match source.get("$schema") {
            None => DIALECT_DEFAULT,
            Some(uri) => dialect(uri)?,
        };
        if !(source.is_object() || source.is_boolean()) {
            return Err(Fault::new("", "a schema is an object, true or false"));
        }
        let expanded = expand::expand(&source, draft)?;
        let validator = compiled(&source, draft)?;
        Ok(Self { source, expanded, draft, validator })
    }

    /// Whether a value keeps to it.
    pub fn is_valid(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// What a value breaks, in the order of the schema; at most `max`. Empty: it keeps to the schema.
    pub fn violations(&self, value: &Value, max: usize) -> Vec<Violation> {
        self.validator.iter_errors(value).take(max).map(|error| Violation::of(&error)).collect()
    }

    /// The schema as canonical JSON: equal schemas are equal bytes.
    pub fn to_json(&self) -> Vec<u8> {
        // Keys of serde_json's objects are sorted, and there is no white space.
        self.source.to_string().into_bytes()
    }

    /// The names that an object may have, where the schema lets it have no others; `None`: it may have others.
    pub fn names(&self) -> Option<impl Iterator<Item = &str>> {
        let schema = self.expanded.as_object()?;
        let is_empty =
            |keyword: &str| schema.get(keyword).is_none_or(|it| it.as_object().is_some_and(Map::is_empty));
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) || !is_empty("patternProperties") {
            return None;
        }
        let named = schema.get("properties").and_then(Value::as_object);
        Some(named.into_iter().flat_map(Map::keys).map(String::as_str))
    }

    pub(crate) fn expanded(&self) -> &Value {
        &self.expanded
    }

    pub(crate) fn draft(&self) -> Draft {
        self.draft
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("draft", &self.draft).finish_non_exhaustive()
    }
}

fn dialect(uri: &Value) -> Result<Draft, Fault> {
    let uri = uri.as_str().unwrap_or_default();
    match uri.trim_end_matches('#').trim_start_matches("http://").trim_start_matches("https://") {
        "json-schema.org/draft/2020-12/schema" => Ok(Draft::Draft202012),
        "json-schema.org/draft-07/schema" => Ok(Draft::Draft7),
        _ => {
            let what = "must be https://json-schema.org/draft/2020-12/schema or http://json-schema.org/draft-07/schema#";
            Err(Fault::new("/$schema", what))
        }
    }
}

/// Compiles a schema, or a part of one that was expanded.
pub(crate) fn compiled(schema: &Value, draft: Draft) -> Result<Validator, Fault> {
    let patterns = PatternOptions::regex().size_limit(PATTERN_SIZE_MAX).dfa_size_limit(PATTERN_SIZE_MAX);
    let options = jsonschema::options().with_draft(draft).should_validate_formats(true);
    options
        .offline()
        .with_pattern_options(patterns)
        .build(schema)
        .map_err(|error| Fault::new(error.instance_path().to_string(), format!("this is no schema: {error}")))
}

/// A value of the domain as one of `serde_json`.
pub(crate) fn plain(value: &isthmus_domain::Value) -> Value {
    use isthmus_domain::Value as Ours;
    match value {
        Ours::Null => Value::Null,
        Ours::Bool(b) => Value::Bool(*b),
        Ours::Int(n) => Value::from(*n),
        Ours::UInt(n) => Value::from(*n),
        Ours::Float(f) => Value::from(*f),
        Ours::String(text) => Value::String(text.clone()),
        Ours::Timestamp(micros) => {
            isthmus_domain::value::rfc3339(*micros).map_or_else(|| Value::from(*micros), Value::String)
        }
        Ours::List(items) => items.iter().map(plain).collect(),
        Ours::Map(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), plain(value))).collect()),
    }
}
