//! Where the parts of a JSON document lie, without reading them.
//!
//! **What it promises.** One pass checks a whole document, with the place of what is wrong, and tells where the members
//! of its outermost object lie and, of one of them that is a list, where its items do. Each part can then be handed on
//! as the bytes that it was sent as. What [`scan`] takes, [`super::json::parse`] takes too, but for two things that
//! concern one item alone and are left to it: a key that appears twice, and an integer beyond 64 bits.
//!
//! **How.** Text is checked to be Unicode as a whole; after that a scanner looks at bytes, copies none and allocates for
//! the parts alone. It is the grammar of RFC 8259, and nothing more. Recursion is bounded by the limit of nesting.

use std::ops::Range;

use super::{
    DEPTH_MAX,
    json::{JsonError, JsonErrorKind},
};

/// A member of the outermost object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its key between the quotes, as it was written: escapes are not resolved.
    pub key: Range<usize>,
    /// Its value.
    pub value: Range<usize>,
}

/// The parts of a document that is an object.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parts {
    /// Just behind the opening brace.
    pub inside: usize,
    /// Its members in the order in which they were sent; a key may be there twice.
    pub members: Vec<Member>,
    /// The items of the last member of the asked for key that is a list.
    pub items: Option<Vec<Range<usize>>>,
}

/// What a document is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scanned {
    /// An object.
    Object(Parts),
    /// Something else that is JSON.
    Other,
}

/// Scans a document. Of a member called `list` that is a list the items are told, too; each of them may be nested as
/// deeply as a document of its own.
///
/// # Errors
/// What is not JSON, not Unicode, nested more than [`DEPTH_MAX`] deep or not a finite number, with its place.
pub fn scan(bytes: &[u8], list: Option<&str>) -> Result<Scanned, JsonError> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(JsonError::at(JsonErrorKind::NotUnicode, bytes, error.valid_up_to()));
    }
    let mut scanner = Scanner { bytes, at: 0 };
    let scanned = scanner.document(list.map(str::as_bytes));
    scanned.map_err(|kind| JsonError::at(kind, bytes, scanner.at))
}

/// On an error, `at` is left at the culprit.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Checked<T = ()> = Result<T, JsonErrorKind>;

fn malformed(what: &str) -> JsonErrorKind {
    JsonErrorKind::Malformed(what.to_owned())
}

impl Scanner<'_> {
    fn document(&mut self, list: Option<&[u8]>) -> Checked<Scanned> {
        self.space();
        let scanned = match self.peek() {
            Some(b'{') => Scanned::Object(self.outermost(list)?),
            _ => {
                self.value(1)?;
                Scanned::Other
            }
        };
        self.space();
        match self.peek() {
            None => Ok(scanned),
            Some(_) => Err(malformed("trailing characters")),
        }
    }

    fn outermost(&mut self, list: Option<&[u8]>) -> Checked<Parts> {
        let mut parts = Parts { inside: self.at + 1, ..Parts::default() };
        self.object(|scanner, key| {
            let start = scanner.at;
            if list.is_some_and(|list| scanner.bytes[key.clone()] == *list) && scanner.peek() == Some(b'[') {
                let mut items = Vec::new();
                scanner.array(|scanner| {
                    let start = scanner.at;
                    scanner.value(1)?;
                    items.push(start..scanner.at);
                    Ok(())
                })?;
                parts.items = Some(items);
            } else {
                scanner.value(2)?;
            }
            parts.members.push(Member { key, value: start..scanner.at });
            Ok(())
        })?;
        Ok(parts)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Checked {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{' | b'[') if depth > DEPTH_MAX => Err(JsonErrorKind::TooDeep),
            Some(b'{') => self.object(|scanner, _| scanner.value(depth + 1)),
            Some(b'[') => self.array(|scanner| scanner.value(depth + 1)),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'N' | b'I') => Err(JsonErrorKind::NotFinite),
            Some(_) => Err(malformed("expected value")),
            None => Err(malformed("the document ends in the middle of a value")),
        }
    }

    fn word(&mut self, word: &[u8]) -> Checked {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(malformed("expected value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// An object; `member` takes each value, with its key.
    fn object(&mut self, mut member: impl FnMut(&mut Self, Range<usize>) -> Checked) -> Checked {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(malformed("expected a key in quotes"));
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(malformed("expected `:`"));
            }
            self.at += 1;
            self.space();
            member(self, key)?;
            if !self.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    /// A list; `item` takes each of its values.
    fn array(&mut self, mut item: impl FnMut(&mut Self) -> Checked) -> Checked {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.goes_on(b']')? {
                return Ok(());
            }
        }
    }

    /// Whether a comma follows; if not, it is the end.
    fn goes_on(&mut self, end: u8) -> Checked<bool> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(false)
            }
            Some(_) if end == b'}' => Err(malformed("expected `,` or `}`")),
            Some(_) => Err(malformed("expected `,` or `]`")),
            None => Err(malformed("the document ends in the middle of a list or an object")),
        }
    }

    /// A text; what stands between its quotes.
    fn string(&mut self) -> Checked<Range<usize>> {
        let start = self.at + 1;
        self.at = start;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(plain) = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)) else {
                self.at = self.bytes.len();
                return Err(malformed("the document ends in the middle of a string"));
            };
            self.at += plain;
            match rest[plain] {
                b'"' => {
                    let text = start..self.at;
                    self.at += 1;
                    return Ok(text);
                }
                b'\\' => self.escape()?,
                _ => return Err(malformed("a control character in a string")),
            }
        }
    }

    fn escape(&mut self) -> Checked {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let first = self.unit()?;
                match first {
                    0xdc00..=0xdfff => Err(JsonErrorKind::NotUnicode),
                    // Half of a pair: the other half has to follow.
                    0xd800..=0xdbff if self.bytes[self.at..].starts_with(b"\\u") => match self.unit()? {
                        0xdc00..=0xdfff => Ok(()),
                        _ => Err(JsonErrorKind::NotUnicode),
                    },
                    0xd800..=0xdbff => Err(JsonErrorKind::NotUnicode),
                    _ => Ok(()),
                }
            }
            _ => Err(malformed("an escape that JSON doesn't have")),
        }
    }

    /// `\uXXXX`.
    fn unit(&mut self) -> Checked<u32> {
        let digits = self.bytes.get(self.at + 2..self.at + 6);
        let unit = digits.and_then(|digits| {
            digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
        });
        let unit = unit.ok_or_else(|| malformed("an escape that JSON doesn't have"))?;
        self.at += 6;
        Ok(unit)
    }

    fn number(&mut self) -> Checked {
        let start = self.at;
        let mut at = self.at + usize::from(self.bytes[self.at] == b'-');
        let digits = |at: usize| self.bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let whole = digits(at);
        if self.bytes[at..].starts_with(b"I") {
            return Err(JsonErrorKind::NotFinite);
        }
        if whole == 0 || (whole > 1 && self.bytes[at] == b'0') {
            return Err(malformed("invalid number"));
        }
        at += whole;
        let mut is_float = false;
        if self.bytes.get(at) == Some(&b'.') {
            let fraction = digits(at + 1);
            if fraction == 0 {
                return Err(malformed("invalid number"));
            }
            (at, is_float) = (at + 1 + fraction, true);
        }
        let mut large = whole > 300;
        if matches!(self.bytes.get(at), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(self.bytes.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(at + 1 + signed);
            if exponent == 0 {
                return Err(malformed("invalid number"));
            }
            (at, is_float, large) = (at + 1 + signed + exponent, true, true);
        }
        // Most numbers are small, by their looks.
        if is_float && large {
            let text = std::str::from_utf8(&self.bytes[start..at]).unwrap_or_default();
            if !text.parse::<f64>().is_ok_and(f64::is_finite) {
                return Err(JsonErrorKind::NotFinite);
            }
        }
        self.at = at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::json;

    fn parts(text: &str, list: Option<&str>) -> Parts {
        match scan(text.as_bytes(), list).unwrap() {
            Scanned::Object(parts) => parts,
            Scanned::Other => panic!("no object"),
        }
    }

    /// What both say of a document: whether it can be taken, what is left to the item counting as yes.
    fn agree(bytes: &[u8]) {
        let parsed = json::parse(bytes);
        let taken = match &parsed {
            Ok(_) => true,
            Err(error) => {
                matches!(error.kind, JsonErrorKind::DuplicateKey(_) | JsonErrorKind::IntegerTooLarge)
            }
        };
        let scanned = scan(bytes, None);
        // Behind what is left to the item, the parser has looked no further.
        if parsed.is_ok() || !taken {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(scanned.is_ok(), taken, "{text}: {scanned:?}, but {:?}", parsed.err());
        }
    }

    #[test]
    fn the_parts_are_the_bytes_that_were_sent() {
        let text = r#" {"batch" : [ {"a":1} , "x",[]], "sentAt": "now","batch\"s":{"b":[ ]} } "#;
        let parts = parts(text, Some("batch"));
        let at = |range: &Range<usize>| &text[range.clone()];
        let members: Vec<_> = parts.members.iter().map(|m| (at(&m.key), at(&m.value))).collect();
        assert_eq!(
            members,
            [("batch", r#"[ {"a":1} , "x",[]]"#), ("sentAt", r#""now""#), (r#"batch\"s"#, r#"{"b":[ ]}"#)]
        );
        assert_eq!(parts.items.unwrap().iter().map(at).collect::<Vec<_>>(), [r#"{"a":1}"#, r#""x""#, "[]"]);
        assert!(text[parts.inside..].starts_with("\"batch"));
        assert_eq!(scan(b"[1]", Some("batch")), Ok(Scanned::Other));
        assert_eq!(self::parts(r#"{"batch":{}}"#, Some("batch")).items, None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, offset, column) in [
            ("{\"batch\":[{\"a\":1},\n{\"b\":NaN}]}", 24, 6),
            ("{\"batch\":[\n{\"a\":1e400}]}", 16, 6),
            ("{\"batch\":[1,]}", 12, 13),
            ("{\"batch\":[1", 11, 12),
            ("{\"batch\":[\"\\ud800\"]}", 17, 18),
        ] {
            let error = scan(text.as_bytes(), Some("batch")).unwrap_err();
            assert_eq!((error.offset, error.column), (offset, column), "{text}: {error}");
        }
        let error = scan(b"{\"a\":\"\xff\"}", None).unwrap_err();
        assert_eq!((error.kind, error.offset), (JsonErrorKind::NotUnicode, 6));
    }

    #[test]
    fn each_item_may_be_nested_as_deeply_as_a_document() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        for (depth, fits) in [(32, true), (33, false)] {
            let batch = format!(r#"{{"batch":[{}]}}"#, nested(depth));
            assert_eq!(scan(batch.as_bytes(), Some("batch")).is_ok(), fits);
            assert_eq!(scan(nested(depth).as_bytes(), None).is_ok(), fits);
            let event = format!(r#"{{"properties":{}}}"#, nested(depth - 1));
            assert_eq!(scan(event.as_bytes(), None).is_ok(), fits);
        }
        let error = scan("[".repeat(1_000_000).as_bytes(), None).unwrap_err();
        assert_eq!(error.kind, JsonErrorKind::TooDeep);
    }

    #[test]
    fn what_concerns_one_item_alone_is_left_to_it() {
        let digits = "9".repeat(5_000);
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":18446744073709551616}"#, &digits] {
            assert!(scan(text.as_bytes(), None).is_ok() && json::parse(text.as_bytes()).is_err());
        }
        assert!(scan(format!("{digits}.0").as_bytes(), None).is_err());
    }

    proptest! {
        #[test]
        fn it_takes_what_the_parser_takes(
            text in "[\\[\\]{}\",:0-9eE.\\\\ua-fNIt -]{0,40}",
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"a\"", "\"b\"", "\"\\u00e9\"", "\"\\ud83d\\ude00\"", "\"\\udead\"", "1",
                    "-0.5e3", "01", "1e999", "true", "false", "null", " ", "NaN", "-Infinity", "\"\\x\"", "\"\t\"",
                ]),
                0..12,
            ),
        ) {
            agree(text.as_bytes());
            agree(parts.concat().as_bytes());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            agree(&bytes);
        }
    }
}
