//! A schema with its references put in place, and with that what it may not have refused.
//!
//! In a schema without references every part stands where it is applied. So its size bounds the work that an event
//! makes, and two schemas can be compared part by part.

use jsonschema::Draft;
use serde_json::{Map, Value};

use crate::fault::{Fault, join};

/// The most parts of a schema, each reference counting as what it leads to.
pub const SUBSCHEMAS_MAX: usize = 2_000;
/// How deep parts may be nested: each level is a call of a function.
const DEPTH_MAX: usize = 64;

/// Keywords whose value is a schema.
const ONE: [&str; 12] = [
    "additionalProperties",
    "propertyNames",
    "unevaluatedProperties",
    "additionalItems",
    "contains",
    "unevaluatedItems",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
    "items",
];
/// Keywords whose value is a list of schemas; `items` may be one in draft-07.
const LISTS: [&str; 5] = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
/// Keywords whose value is an object of schemas; those of `dependencies` may be lists of names.
const OBJECTS: [&str; 4] = ["properties", "patternProperties", "dependentSchemas", "dependencies"];
/// Keywords that would let a reference lead anywhere.
const REFUSED: [&str; 6] =
    ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$anchor", "$vocabulary"];
/// Definitions are only looked at where a reference leads to them.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

pub(super) fn expand(schema: &Value, draft: Draft) -> Result<Value, Fault> {
    let mut expander = Expander { root: schema, draft, parts: 0, open: Vec::new(), depth: 0 };
    expander.part(schema, "")
}

struct Expander<'a> {
    root: &'a Value,
    draft: Draft,
    parts: usize,
    /// The references that lead to where we are.
    open: Vec<&'a str>,
    depth: usize,
}

impl<'a> Expander<'a> {
    fn part(&mut self, schema: &'a Value, at: &str) -> Result<Value, Fault> {
        self.parts += 1;
        if self.parts > SUBSCHEMAS_MAX {
            let what =
                format!("with what references lead to, the schema has more than {SUBSCHEMAS_MAX} parts");
            return Err(Fault::new(at, what));
        }
        if self.depth >= DEPTH_MAX {
            return Err(Fault::new(
                at,
                format!("with what references lead to, it is more than {DEPTH_MAX} deep"),
            ));
        }
        self.depth += 1;
        let expanded = match schema {
            Value::Object(map) => self.object(map, at),
            Value::Bool(_) => Ok(schema.clone()),
            _ => Err(Fault::new(at, "a schema is an object, true or false")),
        };
        self.depth -= 1;
        expanded
    }

    fn object(&mut self, map: &'a Map<String, Value>, at: &str) -> Result<Value, Fault> {
        if let Some(refused) = REFUSED.iter().find(|key| map.contains_key(**key)) {
            return Err(Fault::new(
                join(at, refused),
                "is not taken: use $ref with a place in this document",
            ));
        }
        if !at.is_empty() && map.contains_key("$id") {
            return Err(Fault::new(join(at, "$id"), "is not taken inside of a schema"));
        }
        let target = match map.get("$ref") {
            Some(reference) => Some(self.target(reference, &join(at, "$ref"))?),
            None => None,
        };
        // In draft-07 what stands beside a reference says nothing.
        if self.draft == Draft::Draft7
            && let Some(target) = target
        {
            return Ok(target);
        }
        let mut out = Map::new();
        for (key, value) in map {
            let (name, at) = (key.as_str(), join(at, key));
            if name == "$ref" || DEFINITIONS.contains(&name) {
                continue;
            }
            let expanded = match value {
                Value::Array(items) if LISTS.contains(&name) => {
                    let parts = items.iter().enumerate().map(|(i, item)| self.part(item, &join(&at, i)));
                    Value::Array(parts.collect::<Result<_, _>>()?)
                }
                Value::Object(parts) if OBJECTS.contains(&name) => {
                    let mut expanded = Map::new();
                    for (name, part) in parts {
                        let names = matches!(part, Value::Array(_));
                        let part = if names { part.clone() } else { self.part(part, &join(&at, name))? };
                        expanded.insert(name.clone(), part);
                    }
                    Value::Object(expanded)
                }
                value if ONE.contains(&name) => self.part(value, &at)?,
                value => value.clone(),
            };
            out.insert(key.clone(), expanded);
        }
        if let Some(target) = target {
            let all = out.entry("allOf").or_insert_with(|| Value::Array(Vec::new()));
            match all {
                Value::Array(all) => all.push(target),
                _ => return Err(Fault::new(join(at, "allOf"), "must be a list of schemas")),
            }
        }
        Ok(Value::Object(out))
    }

    /// What a reference leads to, expanded.
    fn target(&mut self, reference: &'a Value, at: &str) -> Result<Value, Fault> {
        let elsewhere = || {
            Fault::new(
                at,
                "leads elsewhere: a reference begins with # and names a place in this document, such as #/$defs/x",
            )
        };
        let reference = reference.as_str().ok_or_else(|| Fault::new(at, "must be a text"))?;
        let pointer = reference.strip_prefix('#').ok_or_else(elsewhere)?;
        if !(pointer.is_empty() || pointer.starts_with('/')) || pointer.contains('%') {
            return Err(elsewhere());
        }
        if self.open.contains(&reference) {
            return Err(Fault::new(at, "leads back to itself: schemas of events must not be recursive"));
        }
        let target = self.root.pointer(pointer).ok_or_else(|| Fault::new(at, "leads nowhere"))?;
        self.open.push(reference);
        // The place is named by the reference: that is where its text stands.
        let expanded = self.part(target, at);
        self.open.pop();
        expanded
    }
}
