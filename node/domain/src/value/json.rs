//! Reading JSON without losing anything.
//!
//! The scanner is `jiter`, which is fast and strict (RFC 8259). On top of it this module refuses what other readers
//! let pass and what would change what a sender said: a key that appears twice (RFC 8259 leaves open which one
//! counts), an integer beyond 64 bits, a number beyond the range of a double, nesting deeper than
//! [`super::DEPTH_MAX`]. Numbers are converted by the standard library, correctly rounded.
//!
//! An error says what, and where: byte offset, line and column. It quotes no value; only the name of a duplicate key.

use std::collections::BTreeSet;

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};

use super::{DEPTH_MAX, Map, Value, shown};

/// Why bytes are not JSON that can be kept exactly, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{kind} at line {line}, column {column} (byte {offset})")]
pub struct JsonError {
    /// What is wrong.
    pub kind: JsonErrorKind,
    /// Bytes before the culprit, or a little into it.
    pub offset: usize,
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
}

/// The kinds of [`JsonError`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JsonErrorKind {
    /// Not JSON at all: the text says what was expected. `NaN` and `Infinity` are among these.
    #[error("malformed JSON: {0}")]
    Malformed(String),
    /// A string is not UTF-8, or has half of a surrogate pair.
    #[error("malformed JSON: text that is not Unicode")]
    NotUnicode,
    /// Lists and objects nested too deeply.
    #[error("lists and objects nested more than 32 deep")]
    TooDeep,
    /// The named key (at most its first 100 characters) appears twice in one object.
    #[error("duplicate key {0:?}")]
    DuplicateKey(String),
    /// An integer that fits neither a signed nor an unsigned 64-bit number.
    #[error("an integer beyond 64 bits; send it as a string")]
    IntegerTooLarge,
    /// `NaN`, `Infinity`, or a number beyond the range of a double, such as `1e400`.
    #[error("a number that is not finite")]
    NotFinite,
}

impl JsonError {
    /// What is wrong at a byte of a document.
    pub(super) fn at(kind: JsonErrorKind, bytes: &[u8], offset: usize) -> Self {
        let before = &bytes[..offset.min(bytes.len())];
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        Self { kind, offset, line, column: offset - line_start + 1 }
    }
}

/// Reads one JSON document; white space around it is fine, anything else is not.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut reader = Reader { jiter: Jiter::new(bytes), bytes };
    let peek = reader.jiter.peek().map_err(|e| reader.fault(&e))?;
    let value = reader.value(peek, 1)?;
    reader.jiter.finish().map_err(|e| reader.fault(&e))?;
    Ok(value)
}

struct Reader<'a> {
    jiter: Jiter<'a>,
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn value(&mut self, peek: Peek, depth: usize) -> Result<Value, JsonError> {
        match peek {
            Peek::Null => self.jiter.known_null().map(|()| Value::Null).map_err(|e| self.fault(&e)),
            Peek::True | Peek::False => {
                self.jiter.known_bool(peek).map(Value::Bool).map_err(|e| self.fault(&e))
            }
            Peek::String => match self.jiter.known_str() {
                Ok(text) => Ok(Value::String(text.to_owned())),
                Err(e) => Err(self.fault(&e)),
            },
            Peek::Array | Peek::Object if depth > DEPTH_MAX => {
                Err(self.error_at(JsonErrorKind::TooDeep, self.jiter.current_index()))
            }
            Peek::Array => self.list(depth),
            Peek::Object => self.map(depth),
            Peek::NaN | Peek::Infinity => {
                Err(self.error_at(JsonErrorKind::NotFinite, self.jiter.current_index()))
            }
            _ => self.number(peek),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, JsonError> {
        let mut items = Vec::new();
        let mut next = self.jiter.known_array().map_err(|e| self.fault(&e))?;
        while let Some(peek) = next {
            items.push(self.value(peek, depth + 1)?);
            next = self.jiter.array_step().map_err(|e| self.fault(&e))?;
        }
        Ok(Value::List(items))
    }

    fn map(&mut self, depth: usize) -> Result<Value, JsonError> {
        let start = self.jiter.current_index();
        let mut next = match self.jiter.known_object() {
            Ok(key) => key.map(str::to_owned),
            Err(e) => return Err(self.fault(&e)),
        };
        // Most objects of events fit: no second allocation.
        let mut pairs = Vec::with_capacity(if next.is_some() { 8 } else { 0 });
        while let Some(key) = next {
            let peek = self.jiter.peek().map_err(|e| self.fault(&e))?;
            let value = self.value(peek, depth + 1)?;
            pairs.push((key, value));
            next = match self.jiter.next_key() {
                Ok(key) => key.map(str::to_owned),
                Err(e) => return Err(self.fault(&e)),
            };
        }
        match Map::from_pairs(pairs) {
            Some(map) => Ok(Value::Map(map)),
            None => Err(self.duplicate_key(start)),
        }
    }

    /// The error for an object that names a key twice, which is known to be well-formed: where is only looked for now.
    #[cold]
    fn duplicate_key(&self, start: usize) -> JsonError {
        let mut again = Jiter::new(&self.bytes[start..]);
        let mut seen = BTreeSet::new();
        let mut find = || -> Result<Option<JsonErrorKind>, JiterError> {
            let mut next = again.next_object()?.map(str::to_owned);
            while let Some(key) = next {
                if let Some(twice) = seen.replace(key.clone()) {
                    return Ok(Some(JsonErrorKind::DuplicateKey(shown(&twice))));
                }
                again.next_skip()?;
                next = again.next_key()?.map(str::to_owned);
            }
            Ok(None)
        };
        match find() {
            Ok(Some(kind)) => self.error_at(kind, start + again.current_index()),
            _ => self.error_at(JsonErrorKind::DuplicateKey(String::new()), start),
        }
    }

    fn number(&mut self, peek: Peek) -> Result<Value, JsonError> {
        let at = self.jiter.current_index();
        let kind = match self.jiter.known_number_bytes(peek) {
            Ok(digits) => match number(digits) {
                Ok(value) => return Ok(value),
                Err(kind) => kind,
            },
            // `-Infinity`: jiter takes the minus for the start of a number.
            Err(_) if self.bytes[at..].starts_with(b"-I") => JsonErrorKind::NotFinite,
            // jiter stops at 4,300 digits.
            Err(e) if e.error_type == JiterErrorType::JsonError(JsonErrorType::NumberOutOfRange) => {
                let rest = &self.bytes[at..];
                let end = rest.iter().skip(1).position(|b| !b.is_ascii_digit());
                let is_float = end.is_some_and(|end| matches!(rest[end + 1], b'.' | b'e' | b'E'));
                if is_float { JsonErrorKind::NotFinite } else { JsonErrorKind::IntegerTooLarge }
            }
            Err(e) => return Err(self.fault(&e)),
        };
        Err(self.error_at(kind, at))
    }

    fn error_at(&self, kind: JsonErrorKind, offset: usize) -> JsonError {
        JsonError::at(kind, self.bytes, offset)
    }

    #[cold]
    fn fault(&self, error: &JiterError) -> JsonError {
        let kind = match &error.error_type {
            JiterErrorType::JsonError(JsonErrorType::InvalidUnicodeCodePoint)
            | JiterErrorType::JsonError(JsonErrorType::LoneLeadingSurrogateInHexEscape) => {
                JsonErrorKind::NotUnicode
            }
            // The rest of jiter's messages are fixed texts; this one would quote a key, and never occurs here.
            JiterErrorType::JsonError(JsonErrorType::DuplicateKey(key)) => {
                JsonErrorKind::DuplicateKey(shown(key))
            }
            JiterErrorType::JsonError(other) => JsonErrorKind::Malformed(other.to_string()),
            JiterErrorType::WrongType { .. } => JsonErrorKind::Malformed("unexpected type".to_owned()),
        };
        self.error_at(kind, error.index)
    }
}

/// A number whose syntax jiter has checked.
fn number(digits: &[u8]) -> Result<Value, JsonErrorKind> {
    let text = std::str::from_utf8(digits).map_err(|_| JsonErrorKind::NotUnicode)?;
    if digits.iter().any(|b| matches!(b, b'.' | b'e' | b'E')) {
        let f: f64 = text.parse().map_err(|_| JsonErrorKind::Malformed("invalid number".to_owned()))?;
        return if f.is_finite() { Ok(Value::Float(f)) } else { Err(JsonErrorKind::NotFinite) };
    }
    match text.parse::<i64>() {
        Ok(n) => Ok(Value::Int(n)),
        Err(_) => text.parse::<u64>().map(Value::UInt).map_err(|_| JsonErrorKind::IntegerTooLarge),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(text: &[u8]) -> JsonErrorKind {
        parse(text).unwrap_err().kind
    }

    #[test]
    fn numbers_are_kept_exactly_or_refused() {
        for (text, value) in [
            ("0", Value::Int(0)),
            ("-9223372036854775808", Value::Int(i64::MIN)),
            ("18446744073709551615", Value::UInt(u64::MAX)),
            ("1.0", Value::Float(1.0)),
            ("44.02", Value::Float(44.02)),
            ("1e3", Value::Float(1000.0)),
        ] {
            assert!(parse(text.as_bytes()).unwrap() == value, "{text}");
        }
        for text in ["18446744073709551616", "-9223372036854775809", &"9".repeat(5_000)] {
            assert_eq!(kind(text.as_bytes()), JsonErrorKind::IntegerTooLarge);
        }
        for text in ["1e400", "-1e400", "NaN", "Infinity", "-Infinity", "[1,NaN]", "{\"a\":-Infinity}"] {
            assert_eq!(kind(text.as_bytes()), JsonErrorKind::NotFinite, "{text}");
        }
    }

    #[test]
    fn equal_numbers_are_equal_bytes() {
        assert_eq!(parse(b"-0.0").unwrap().to_json(), b"0.0");
        assert_eq!(parse(b"-0").unwrap().to_json(), b"0");
        assert_eq!(parse(b"1.50e1").unwrap().to_json(), b"15.0");
    }

    #[test]
    fn a_duplicate_key_is_named_and_placed() {
        let error = parse(b"{\"a\":1,\n \"b\":{\"x\":1,\"x\":2}}").unwrap_err();
        assert_eq!(error.kind, JsonErrorKind::DuplicateKey("x".to_owned()));
        assert_eq!(error.line, 2);
        assert_eq!(kind(br#"{"a":1,"\u0061":2}"#), JsonErrorKind::DuplicateKey("a".to_owned()));
    }

    #[test]
    fn nesting_is_limited_before_the_stack_is() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(32).as_bytes()).is_ok());
        assert_eq!(kind(nested(33).as_bytes()), JsonErrorKind::TooDeep);
        assert_eq!(kind("[".repeat(1_000_000).as_bytes()), JsonErrorKind::TooDeep);
        assert_eq!(kind("{\"a\":".repeat(100_000).as_bytes()), JsonErrorKind::TooDeep);
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_place() {
        for text in
            ["", " ", "{", "[1,]", "{\"a\":1,}", "{a:1}", "01", "+1", "1.", "tru", "'a'", "{} x", "\"\t\""]
        {
            assert!(
                matches!(kind(text.as_bytes()), JsonErrorKind::Malformed(_)),
                "{text}: {}",
                kind(text.as_bytes())
            );
        }
        for bytes in [&b"\"\xff\""[..], b"\"\xc3\"", br#""\ud800""#, br#""\udc00""#] {
            let got = kind(bytes);
            assert!(matches!(got, JsonErrorKind::NotUnicode | JsonErrorKind::Malformed(_)), "{got}");
        }
        let error = parse(b"{\n  \"a\": x\n}").unwrap_err();
        assert_eq!((error.line, error.column, error.offset), (2, 8, 9));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let float = any::<f64>().prop_filter("finite", |f| f.is_finite());
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::from_u64),
            float.prop_map(Value::Float),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Map(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_text_reads_back_to_the_same_value_and_text(value in any_value()) {
            let text = value.to_json();
            let back = parse(&text).unwrap();
            prop_assert!(back == value);
            prop_assert_eq!(back.to_json(), text);
            prop_assert!(value.check().is_ok());
        }

        #[test]
        fn canonical_text_is_what_serde_json_reads_and_writes(value in any_value()) {
            let ours = value.to_json();
            let theirs: serde_json::Value = serde_json::from_slice(&ours).unwrap();
            // Its reader rounds floats carelessly unless told otherwise.
            if !ours.contains(&b'.') {
                prop_assert_eq!(serde_json::to_vec(&theirs).unwrap(), ours);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[\\]{}\",:0-9eE.\\\\ua-fNI -]{0,40}") {
            let _ = parse(&bytes);
            let _ = parse(text.as_bytes());
        }
    }
}
