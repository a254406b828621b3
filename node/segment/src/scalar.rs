//! Typed values: how what customers' data holds is read, compared and computed with.
//!
//! Data are JSON; expressions are typed. A reading has a type, and a value that can't be read as that type is NULL:
//!
//! | type | what is read as it |
//! | --- | --- |
//! | number | JSON numbers and decimal texts, exactly (see [`Amount`]) |
//! | text | strings; numbers and booleans as their JSON text |
//! | boolean | true and false |
//! | time | RFC 3339 and dates as texts, whole numbers as milliseconds since the epoch |
//!
//! Sums and differences are exact. Products and quotients are rounded, halves away from zero, to
//! [`FRACTION_DIGITS`] digits after the point.

use std::borrow::Cow;

use bigdecimal::{BigDecimal, RoundingMode};
use isthmus_domain::{
    Amount,
    event::time_of,
    value::{Value, json, rfc3339, scan, write_json_string},
};

/// Digits after the point of products and quotients.
pub const FRACTION_DIGITS: i64 = 20;

/// What a node of an expression is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Type {
    /// Not decided by what stands around it: whether there is a value at all.
    Any,
    /// True or false.
    Boolean,
    /// An exact decimal.
    Number,
    /// Text.
    Text,
    /// A point in time, microseconds since the epoch.
    Time,
    /// A length of time, in microseconds.
    Interval,
    /// A list of values.
    List,
}

impl Type {
    /// Its name in messages and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "value",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::Text => "text",
            Self::Time => "time",
            Self::Interval => "interval",
            Self::List => "list",
        }
    }
}

/// A typed value. Values of one type are ordered as that type is; texts by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar<'a> {
    /// True or false; what a reading of [`Type::Any`] gives is `true`.
    Boolean(bool),
    /// An exact decimal.
    Number(Amount),
    /// Microseconds since the epoch.
    Time(i64),
    /// Microseconds.
    Interval(i64),
    /// Text.
    Text(Cow<'a, str>),
}

impl Scalar<'_> {
    /// The same in memory of its own.
    pub fn into_owned(self) -> Scalar<'static> {
        match self {
            Self::Boolean(b) => Scalar::Boolean(b),
            Self::Number(n) => Scalar::Number(n),
            Self::Time(t) => Scalar::Time(t),
            Self::Interval(t) => Scalar::Interval(t),
            Self::Text(text) => Scalar::Text(Cow::Owned(text.into_owned())),
        }
    }

    /// The same, borrowed.
    pub fn share(&self) -> Scalar<'_> {
        match self {
            Self::Boolean(b) => Scalar::Boolean(*b),
            Self::Number(n) => Scalar::Number(n.clone()),
            Self::Time(t) => Scalar::Time(*t),
            Self::Interval(t) => Scalar::Interval(*t),
            Self::Text(text) => Scalar::Text(Cow::Borrowed(text)),
        }
    }

    /// What it is.
    pub fn type_of(&self) -> Type {
        match self {
            Self::Boolean(_) => Type::Boolean,
            Self::Number(_) => Type::Number,
            Self::Time(_) => Type::Time,
            Self::Interval(_) => Type::Interval,
            Self::Text(_) => Type::Text,
        }
    }

    /// Appends it as JSON: numbers as texts, so that no reader rounds them; times as RFC 3339; intervals in
    /// microseconds.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Boolean(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
            Self::Number(n) => write_json_string(&n.to_string(), out),
            Self::Time(t) => match rfc3339(*t) {
                Some(text) => write_json_string(&text, out),
                None => out.extend_from_slice(b"null"),
            },
            Self::Interval(t) => out.extend_from_slice(t.to_string().as_bytes()),
            Self::Text(text) => write_json_string(text, out),
        }
    }
}

/// Shows the kind, not the content.
impl std::fmt::Debug for Scalar<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.type_of().name())
    }
}

/// A number that counts something.
pub(crate) fn count(n: u64) -> Amount {
    Amount::of_value(&Value::from_u64(n)).ok().flatten().unwrap_or_default()
}

/// The product, rounded.
pub(crate) fn product(a: &Amount, b: &Amount) -> Option<Amount> {
    rounded(&(a.to_decimal() * b.to_decimal()))
}

/// The quotient, rounded; nothing for a divisor of zero.
pub(crate) fn quotient(a: &Amount, b: &Amount) -> Option<Amount> {
    if b.is_zero() {
        return None;
    }
    rounded(&(a.to_decimal() / b.to_decimal()))
}

/// The sum, exact.
pub(crate) fn sum(a: &Amount, b: &Amount) -> Amount {
    let mut sum = a.clone();
    sum += b;
    sum
}

/// The negative, exact.
pub(crate) fn negative(a: &Amount) -> Amount {
    Amount::of_decimal(-a.to_decimal()).unwrap_or_default()
}

fn rounded(number: &BigDecimal) -> Option<Amount> {
    Amount::of_decimal(number.with_scale_round(FRACTION_DIGITS, RoundingMode::HalfUp))
}

/// The way to a value in an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Path {
    /// The keys, outermost first.
    keys: Vec<String>,
    /// The first one as canonical JSON writes it between quotes.
    first: Vec<u8>,
}

impl Path {
    /// A path of at least one key.
    pub fn new(keys: Vec<String>) -> Self {
        let mut first = Vec::new();
        if let Some(key) = keys.first() {
            write_json_string(key, &mut first);
            first.pop();
            first.remove(0);
        }
        Self { keys, first }
    }

    /// Its keys.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }
}

/// The members of an object in canonical JSON, found once and read one by one.
#[derive(Default)]
pub(crate) struct Members<'a> {
    json: &'a [u8],
    parts: Option<Vec<scan::Member>>,
}

impl<'a> Members<'a> {
    pub(crate) fn of(json: &'a [u8]) -> Self {
        Self { json, parts: None }
    }

    /// Finds the members; what is no object has none.
    pub(crate) fn find(&mut self) {
        if self.parts.is_none() {
            self.parts = Some(match scan::scan(self.json, None) {
                Ok(scan::Scanned::Object(parts)) => parts.members,
                _ => Vec::new(),
            });
        }
    }

    /// The value at a path, as JSON and what of the path is left; nothing before [`Self::find`].
    pub(crate) fn get(&self, path: &Path, ty: Type) -> Option<Scalar<'a>> {
        let members = self.parts.as_ref()?;
        let member = members.iter().find(|member| self.json[member.key.clone()] == path.first[..])?;
        scalar_at(&self.json[member.value.clone()], path.keys.get(1..).unwrap_or_default(), ty)
    }
}

/// Reads the value at `keys` of a canonical JSON text.
pub(crate) fn scalar_at<'a>(json: &'a [u8], keys: &[String], ty: Type) -> Option<Scalar<'a>> {
    if keys.is_empty() {
        return scalar_of_text(json, ty);
    }
    let value = json::parse(json).ok()?;
    let mut at = &value;
    for key in keys {
        at = at.as_map()?.get(key)?;
    }
    scalar_of(at, ty)
}

/// Reads a canonical JSON text; the common forms without parsing.
fn scalar_of_text<'a>(json: &'a [u8], ty: Type) -> Option<Scalar<'a>> {
    let plain = |json: &'a [u8]| std::str::from_utf8(json).ok();
    match (json.first()?, ty) {
        (b'n', _) => None,
        (_, Type::Any) => Some(Scalar::Boolean(true)),
        (b't', Type::Boolean) => Some(Scalar::Boolean(true)),
        (b'f', Type::Boolean) => Some(Scalar::Boolean(false)),
        (b't' | b'f' | b'-' | b'0'..=b'9', Type::Text) => plain(json).map(|text| Scalar::Text(text.into())),
        (b'-' | b'0'..=b'9', Type::Number) => plain(json)?.parse().ok().map(Scalar::Number),
        (b'"', Type::Text) if json.len() >= 2 && !json.contains(&b'\\') => {
            plain(&json[1..json.len() - 1]).map(|text| Scalar::Text(text.into()))
        }
        (b'"', Type::Number) if json.len() >= 2 && !json.contains(&b'\\') => {
            plain(&json[1..json.len() - 1])?.parse().ok().map(Scalar::Number)
        }
        (b'[' | b'{', _) => None,
        _ => scalar_of(&json::parse(json).ok()?, ty),
    }
}

/// Reads a value.
fn scalar_of(value: &Value, ty: Type) -> Option<Scalar<'static>> {
    match (value, ty) {
        (Value::Null, _) | (_, Type::Interval | Type::List) => None,
        (_, Type::Any) => Some(Scalar::Boolean(true)),
        (Value::Bool(b), Type::Boolean) => Some(Scalar::Boolean(*b)),
        (Value::Bool(_) | Value::List(_) | Value::Map(_), Type::Number) => None,
        (value, Type::Number) => Amount::of_value(value).ok().flatten().map(Scalar::Number),
        (Value::String(text), Type::Text) => Some(Scalar::Text(Cow::Owned(text.clone()))),
        (Value::List(_) | Value::Map(_), Type::Text) => None,
        (value, Type::Text) => String::from_utf8(value.to_json()).ok().map(|text| Scalar::Text(text.into())),
        (value @ (Value::Int(_) | Value::String(_) | Value::Timestamp(_)), Type::Time) => {
            time_of(value).map(Scalar::Time)
        }
        (_, Type::Boolean | Type::Time) => None,
    }
}

/// The texts of a list, read as [`Type::Text`]; nothing where it is no list.
pub(crate) fn texts_at(json: &[u8], keys: &[String]) -> Option<Vec<Scalar<'static>>> {
    let value = json::parse(json).ok()?;
    let mut at = &value;
    for key in keys {
        at = at.as_map()?.get(key)?;
    }
    match at {
        Value::List(items) => Some(items.iter().filter_map(|item| scalar_of(item, Type::Text)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, ty: Type) -> String {
        let mut out = Vec::new();
        match scalar_at(json.as_bytes(), &[], ty) {
            Some(scalar) => scalar.write_json(&mut out),
            None => out.extend_from_slice(b"null"),
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_can_not_be_read_as_the_type_is_null() {
        assert_eq!(read("12.5", Type::Number), "\"12.50\"");
        assert_eq!(read("\"12.5\"", Type::Number), "\"12.50\"");
        assert_eq!(read("\"much\"", Type::Number), "null");
        assert_eq!(read("true", Type::Number), "null");
        assert_eq!(read("12.5", Type::Text), "\"12.5\"");
        assert_eq!(read("true", Type::Text), "\"true\"");
        assert_eq!(read("\"a\\nb\"", Type::Text), "\"a\\nb\"");
        assert_eq!(read("[1]", Type::Text), "null");
        assert_eq!(read("{}", Type::Any), "true");
        assert_eq!(read("null", Type::Any), "null");
        assert_eq!(read("\"true\"", Type::Boolean), "null");
        assert_eq!(read("\"2024-05-31\"", Type::Time), "\"2024-05-31T00:00:00Z\"");
        assert_eq!(read("\"soon\"", Type::Time), "null");
    }

    #[test]
    fn members_are_found_by_escaped_keys_and_paths_lead_into_objects() {
        let json = br#"{"a\nb":1,"c":{"d":{"e":"x"}},"n":null}"#;
        let mut members = Members::of(json);
        members.find();
        let get =
            |keys: &[&str], ty| members.get(&Path::new(keys.iter().map(|k| (*k).to_owned()).collect()), ty);
        assert_eq!(get(&["a\nb"], Type::Number), Some(Scalar::Number(count(1))));
        assert_eq!(get(&["c", "d", "e"], Type::Text), Some(Scalar::Text("x".into())));
        assert!(get(&["c", "d"], Type::Any).is_some() && get(&["c", "x"], Type::Any).is_none());
        assert!(get(&["n"], Type::Any).is_none() && get(&["z"], Type::Any).is_none());
    }

    #[test]
    fn quotients_are_rounded_and_nothing_is_divided_by_zero() {
        let n = |text: &str| text.parse::<Amount>().unwrap();
        assert_eq!(quotient(&n("1"), &n("3")), Some(n("0.33333333333333333333")));
        assert_eq!(quotient(&n("2"), &n("3")), Some(n("0.66666666666666666667")));
        assert_eq!(quotient(&n("1"), &n("0")), None);
        assert_eq!(product(&n("1.5"), &n("-2")), Some(n("-3")));
        assert_eq!(negative(&n("1.25")), n("-1.25"));
    }
}
