//! Message ids for rows that have none.
//!
//! The id of a row is a hash of the data set's name, the line's number and its bytes ([`of_row`]). So a file can be
//! sent again, may have grown at its end, and may hold exact copies of a row that are real repeats: the same row is
//! the same event, and two rows never are.
//!
//! A JSON line is not parsed to be given its id: [`find_slot`] looks for a top-level `messageId` or `message_id` and
//! for the place where one goes, and [`splice`] copies the line with the id put in. Everything else stays byte for
//! byte as it was sent. A line that isn't an object, or is cut off, is left alone: the hub says what is wrong with it.

use std::{ops::Range, sync::LazyLock};

use bytes::BufMut;
use memchr::memmem::Finder;

/// By how many bytes [`splice`] can make a line longer, for ids of 32 characters.
pub const SPLICE_BYTES_MAX: usize = r#""messageId":"","#.len() + 32;

/// The id of a row: BLAKE3 over the data set's name, the line's number (from 1) and its bytes without the line's end,
/// cut to 128 bits, as 32 hexadecimal digits. The name's length goes in first, so that no two rows hash the same text.
pub fn of_row(dataset: &str, line: u64, bytes: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(dataset.len() as u64).to_le_bytes());
    hasher.update(dataset.as_bytes());
    hasher.update(&line.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Where a message id is, or would go, in a JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// It has one already, or none can be put in: not an object, or cut off.
    Closed,
    /// It has none. One goes in at `at`, followed by a comma unless the object is `empty`.
    Insert {
        /// Right behind the opening brace.
        at: usize,
        /// Whether the object has no keys.
        empty: bool,
    },
    /// Its value is `null` or `""`: the id takes its place.
    Replace(Range<usize>),
}

impl Slot {
    /// Whether [`splice`] would put an id in.
    pub fn is_open(&self) -> bool {
        *self != Self::Closed
    }
}

/// Looks for the message id of a JSON text in one pass, without allocating.
pub fn find_slot(text: &[u8]) -> Slot {
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"message"));
    static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\u"));
    let Some(open) = text.iter().position(|byte| !byte.is_ascii_whitespace()) else { return Slot::Closed };
    let close = text.iter().rposition(|byte| !byte.is_ascii_whitespace());
    if text[open] != b'{' || close.is_none_or(|close| close == open || text[close] != b'}') {
        return Slot::Closed;
    }
    let at = open + 1;
    let empty = text[skip_space(text, at)..].starts_with(b"}");
    // A key that means `messageId` is written so, or with \u escapes. Most lines have neither, and are done here.
    if KEY.find(text).is_none() && ESCAPE.find(text).is_none() {
        return Slot::Insert { at, empty };
    }
    match walk(text, at) {
        None | Some(Found::Id) => Slot::Closed,
        Some(Found::Blank(range)) => Slot::Replace(range),
        Some(Found::Nothing) => Slot::Insert { at, empty },
    }
}

/// What an object's top-level keys hold.
enum Found {
    Id,
    Blank(Range<usize>),
    Nothing,
}

/// Walks over the top-level keys from `at` on. `None` when the text ends before the object does.
fn walk(text: &[u8], at: usize) -> Option<Found> {
    let (mut here, mut depth, mut key_next) = (at, 1_u32, true);
    let mut blank = None;
    while depth > 0 {
        match *text.get(here)? {
            b'"' => {
                let end = string_end(text, here)?;
                if depth == 1 && key_next && is_message_id(&text[here..end]) {
                    let colon = skip_space(text, end);
                    if text.get(colon) != Some(&b':') {
                        return None;
                    }
                    let value = skip_space(text, colon + 1);
                    match &text[value..] {
                        rest if rest.starts_with(b"null") => blank = blank.or(Some(value..value + 4)),
                        rest if rest.starts_with(b"\"\"") => blank = blank.or(Some(value..value + 2)),
                        _ => return Some(Found::Id),
                    }
                }
                key_next = false;
                here = end;
                continue;
            }
            b'{' | b'[' => depth = depth.checked_add(1)?,
            b'}' | b']' => depth -= 1,
            b',' if depth == 1 => key_next = true,
            _ => {}
        }
        here += 1;
    }
    Some(blank.map_or(Found::Nothing, Found::Blank))
}

/// Behind the closing quote of the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut here = start + 1;
    loop {
        here += memchr::memchr2(b'"', b'\\', text.get(here..)?)?;
        if text[here] == b'"' {
            return Some(here + 1);
        }
        here += 2;
    }
}

/// Whether a quoted key means a message id.
fn is_message_id(quoted: &[u8]) -> bool {
    if quoted == br#""messageId""# || quoted == br#""message_id""# {
        return true;
    }
    memchr::memchr(b'\\', quoted).is_some()
        && serde_json::from_slice::<String>(quoted).is_ok_and(|key| key == "messageId" || key == "message_id")
}

fn skip_space(text: &[u8], from: usize) -> usize {
    let space = text[from..].iter().take_while(|byte| byte.is_ascii_whitespace());
    from + space.count()
}

/// Appends `text` to `out` with `id` put in at `slot`. The id has to be plain letters and digits.
pub fn splice(out: &mut impl BufMut, text: &[u8], slot: &Slot, id: &str) {
    let mut put = |bytes: &[u8]| out.put_slice(bytes);
    match slot {
        Slot::Closed => put(text),
        Slot::Insert { at, empty } => {
            put(&text[..*at]);
            put(b"\"messageId\":\"");
            put(id.as_bytes());
            put(if *empty { b"\"" } else { b"\"," });
            put(&text[*at..]);
        }
        Slot::Replace(range) => {
            put(&text[..range.start]);
            put(b"\"");
            put(id.as_bytes());
            put(b"\"");
            put(&text[range.end..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn spliced(text: &str) -> String {
        let mut out = Vec::new();
        splice(&mut out, text.as_bytes(), &find_slot(text.as_bytes()), "id0");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_id_goes_in_behind_the_brace() {
        assert_eq!(spliced(r#"{"type":"track"}"#), r#"{"messageId":"id0","type":"track"}"#);
        assert_eq!(spliced("  { \"a\":1} "), "  {\"messageId\":\"id0\", \"a\":1} ");
        assert_eq!(spliced("{}"), r#"{"messageId":"id0"}"#);
        assert_eq!(spliced("{ }"), "{\"messageId\":\"id0\" }");
        assert_eq!(
            spliced(r#"{"note":"the \"messageId\" is missing"}"#),
            r#"{"messageId":"id0","note":"the \"messageId\" is missing"}"#
        );
        assert_eq!(
            spliced(r#"{"properties":{"messageId":"inner"}}"#),
            r#"{"messageId":"id0","properties":{"messageId":"inner"}}"#
        );
        assert_eq!(spliced(r#"{"a":"messageId"}"#), r#"{"messageId":"id0","a":"messageId"}"#);
        assert_eq!(spliced(r#"{"a":["messageId"],"b":1}"#), r#"{"messageId":"id0","a":["messageId"],"b":1}"#);
    }

    #[test]
    fn an_id_that_is_there_stays() {
        for text in [
            r#"{"messageId":"m1"}"#,
            r#"{"a":{"b":[1,{}]},"message_id" : "m1"}"#,
            r#"{"a":"}","messageId":7}"#,
            r#"{"messag\u0065Id":"m1"}"#,
            r#"{"messageId":null,"message_id":"m1"}"#,
        ] {
            assert_eq!(spliced(text), text);
        }
    }

    #[test]
    fn a_blank_id_is_replaced() {
        assert_eq!(spliced(r#"{"messageId": null,"a":1}"#), r#"{"messageId": "id0","a":1}"#);
        assert_eq!(spliced(r#"{"a":1,"message_id":""}"#), r#"{"a":1,"message_id":"id0"}"#);
    }

    #[test]
    fn what_is_not_a_whole_object_is_left_alone() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[1]",
            "null",
            "\"x\"",
            r#"{"a":1"#,
            r#"{"message":"}"#,
            r#"{"messageId" }"#,
            "{\"message\\}",
        ] {
            assert_eq!(spliced(text), text);
        }
    }

    #[test]
    fn rows_that_are_copies_have_ids_of_their_own() {
        let ids = [of_row("a", 1, b"x"), of_row("a", 2, b"x"), of_row("b", 1, b"x"), of_row("a", 1, b"y")];
        for (position, id) in ids.iter().enumerate() {
            assert_eq!(id.len(), 32);
            assert!(!ids[..position].contains(id));
        }
        assert_eq!(of_row("a", 1, b"x"), ids[0]);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let key = prop_oneof![
            Just("messageId".to_owned()),
            Just("message_id".to_owned()),
            Just("message".to_owned()),
            ".{0,4}"
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
            Just(json!(""))
        ];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn splicing_equals_parsing_and_inserting(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let mut expected = value;
            if let Some(object) = expected.as_object_mut() {
                let blank = |value: &Value| value.is_null() || value == "";
                let keys = || ["messageId", "message_id"].into_iter();
                if !keys().any(|key| object.get(key).is_some_and(|value| !blank(value))) {
                    // Objects hold their keys sorted here, so the first blank one is `messageId`.
                    let key = keys().find(|key| object.contains_key(*key)).unwrap_or("messageId");
                    object.insert(key.to_owned(), json!("id0"));
                }
            }
            prop_assert_eq!(serde_json::from_str::<Value>(&spliced(&text)).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}')], 0..60)) {
            let slot = find_slot(&bytes);
            let mut out = Vec::new();
            splice(&mut out, &bytes, &slot, "id0");
            prop_assert_eq!(slot.is_open(), out != bytes);
            let mut wrapped = b"{\"message".to_vec();
            wrapped.extend(&bytes);
            wrapped.push(b'}');
            let _ = find_slot(&wrapped);
        }
    }
}
