//! JSON objects as rows: a column is a key, or a path of keys with dots between.
//!
//! Numbers keep their digits: what a mapping calls a decimal is read from the text that was written, not from a double.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::value::RawValue;

use super::record::{Cell, Record, value};
use crate::proto::{self, value::Kind};

type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// A line's object, and the paths that stand for columns.
pub(crate) struct Object<'a> {
    fields: Fields<'a>,
    paths: &'a [String],
}

impl<'a> Object<'a> {
    /// Reads a line. What is wrong with it is said with its place.
    pub(crate) fn read(line: &'a [u8], paths: &'a [String]) -> Result<Self, String> {
        match serde_json::from_slice::<Keys<'a>>(line) {
            Ok(Keys(fields)) => Ok(Self { fields, paths }),
            Err(error) if error.is_data() => Err("the line isn't a JSON object".to_owned()),
            Err(error) => Err(format!("the line isn't JSON: {error}")),
        }
    }
}

impl Record for Object<'_> {
    fn problem(&self, _: usize) -> Option<String> {
        None
    }

    fn cell(&self, column: usize) -> Result<Cell<'_>, &'static str> {
        let Some(path) = self.paths.get(column) else { return Ok(Cell::Empty) };
        // A key that has dots itself goes first.
        match self.fields.get(path.as_str()) {
            Some(found) => cell(found),
            None => descend(&self.fields, path),
        }
    }
}

/// Keys with their values as they were written.
struct Keys<'a>(Fields<'a>);

impl<'de> serde::Deserialize<'de> for Keys<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Keys<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some(key) = map.next_key::<Key<'de>>()? {
                    fields.insert(key.0, map.next_value()?);
                }
                Ok(Keys(fields))
            }
        }
        from.deserialize_map(Visitor)
    }
}

/// A key, borrowed unless it has escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Follows a path into the objects of an object.
fn descend<'a>(fields: &Fields<'a>, path: &str) -> Result<Cell<'a>, &'static str> {
    for (at, _) in path.match_indices('.') {
        let Some(inner) = fields.get(&path[..at]).filter(|inner| inner.get().starts_with('{')) else {
            continue;
        };
        let Keys(inner) = serde_json::from_str(inner.get()).map_err(|_| "isn't JSON")?;
        let rest = &path[at + 1..];
        return match inner.get(rest) {
            Some(found) => cell(found),
            None => descend(&inner, rest),
        };
    }
    Ok(Cell::Empty)
}

fn cell(raw: &RawValue) -> Result<Cell<'_>, &'static str> {
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'"') => {
            let Key(text) = serde_json::from_str(text).map_err(|_| "isn't JSON")?;
            Cell::text(text)
        }
        Some(b't' | b'f') => Cell::Typed(value(Kind::BoolValue(text == "true")), Some(Cow::Borrowed(text))),
        Some(b'{' | b'[') => {
            let tree: serde_json::Value = serde_json::from_str(text).map_err(|_| "isn't JSON")?;
            Cell::Typed(of_json(tree)?, None)
        }
        Some(b'n') | None => Cell::Empty,
        Some(_) => Cell::Typed(number(text)?, Some(Cow::Borrowed(text))),
    })
}

fn number(text: &str) -> Result<proto::Value, &'static str> {
    let kind = text.parse().map(Kind::IntValue).or_else(|_| text.parse().map(Kind::UintValue));
    let kind = kind.or_else(|_| text.parse().map(Kind::DoubleValue)).map_err(|_| "isn't a number")?;
    match kind {
        Kind::DoubleValue(number) if !number.is_finite() => Err("is a number too large for a double"),
        kind => Ok(value(kind)),
    }
}

/// A JSON value as a value of ours.
fn of_json(tree: serde_json::Value) -> Result<proto::Value, &'static str> {
    use serde_json::Value as Json;
    Ok(value(match tree {
        Json::Null => Kind::NullValue(proto::Null {}),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => return self::number(&number.to_string()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(items) => {
            let values = items.into_iter().map(of_json).collect::<Result<_, _>>()?;
            Kind::ListValue(proto::ListValue { values })
        }
        Json::Object(fields) => {
            let fields = fields.into_iter().map(|(key, tree)| Ok((key, of_json(tree)?)));
            Kind::MapValue(proto::MapValue { fields: fields.collect::<Result<_, &'static str>>()? })
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_paths_are_columns_and_numbers_keep_their_digits() {
        let line =
            br#"{"a":"x","b":29.330,"c":{"d":{"e":true},"f.g":[1,null]},"h.i":7,"j":null,"k\u0061":""}"#;
        let paths = ["a", "b", "c.d.e", "c.f.g", "h.i", "j", "ka", "none", "a.b"].map(str::to_owned);
        let object = Object::read(line, &paths).unwrap();
        let text = |column| object.cell(column).unwrap().into_text();
        assert_eq!([text(0), text(1), text(2), text(4)].map(Result::unwrap), ["x", "29.330", "true", "7"]);
        assert!(text(3).is_err(), "a list is not text");
        let list = object.cell(3).unwrap().into_value().unwrap();
        assert_eq!(serde_json::to_string(&crate::json::Value(&list)).unwrap(), "[1,null]");
        for empty in 5..9 {
            assert_eq!(object.cell(empty), Ok(Cell::Empty));
        }
    }

    #[test]
    fn what_is_no_object_is_told() {
        for (line, part) in
            [("[1]", "isn't a JSON object"), ("{\"a\":", "isn't JSON"), ("{} x", "isn't JSON")]
        {
            let Err(problem) = Object::read(line.as_bytes(), &[]) else { panic!("{line}") };
            assert!(problem.contains(part), "{problem}");
        }
    }
}
