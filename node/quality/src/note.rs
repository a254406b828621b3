//! Notes on an event: what became of what was sent.
//!
//! A note is `CODE place`, as the domain writes them, and where there is something to tell, `CODE place JSON`. Places
//! may hold spaces; the JSON is canonical, so there is exactly one way to part the two.
//!
//! | note | meaning |
//! | --- | --- |
//! | `TRAIT_STANDARDISED traits.country "DE"` | the trait became this; what was sent is in the event's traits |
//! | `TRAIT_NOT_STANDARDISED traits.phone "phone"` | this rule could not take the value; it stays as it was sent |
//! | `SCHEMA_VIOLATED /properties/revenue {"expected":…,"schema":"track:Order Completed","version":3}` | flagged |
//! | `EVENT_UNKNOWN event` | there is no schema for it; flagged |

use std::borrow::Cow;

use isthmus_domain::value::{Map, Value, json};

use crate::schema::{SchemaKey, Violation};

/// A trait became another value.
pub const STANDARDISED: &str = "TRAIT_STANDARDISED";
/// A rule could not take a trait.
pub const NOT_STANDARDISED: &str = "TRAIT_NOT_STANDARDISED";
/// The event breaks its schema and was accepted.
pub const SCHEMA_VIOLATED: &str = "SCHEMA_VIOLATED";
/// The event has no schema and was accepted.
pub const EVENT_UNKNOWN: &str = "EVENT_UNKNOWN";

/// A note with what there is to tell.
pub fn with_detail(code: &str, place: &str, detail: &Value) -> String {
    // Notes are kept as lines: a name that breaks its line would come back as two.
    let place: Cow<'_, str> = match place.contains(char::is_control) {
        true => {
            let escaped =
                place.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() });
            Cow::Owned(escaped.collect())
        }
        false => Cow::Borrowed(place),
    };
    let mut note = format!("{code} {place} ").into_bytes();
    detail.write_json(&mut note);
    // Canonical JSON is UTF-8; nothing is lost here.
    String::from_utf8_lossy(&note).into_owned()
}

/// The note on an event that breaks its schema and was accepted.
pub(crate) fn violated(key: &SchemaKey, version: u64, violation: &Violation) -> String {
    let detail = Map::from([
        ("expected".to_owned(), Value::from(violation.expected.as_str())),
        ("schema".to_owned(), Value::from(key.to_string())),
        ("version".to_owned(), Value::from_u64(version)),
    ]);
    with_detail(SCHEMA_VIOLATED, &violation.pointer, &Value::Map(detail))
}

/// Code, place and detail of a note.
pub fn read(note: &str) -> (&str, &str, Option<Value>) {
    let Some((code, rest)) = note.split_once(' ') else { return (note, "", None) };
    let mut spaces = rest.match_indices(' ').map(|(at, _)| at);
    // The JSON begins right behind the space that parts them: other spaces before it are the place's.
    let detail = |at: usize| rest.get(at + 1..).filter(|text| !text.starts_with(' '));
    let parted = spaces.find_map(|at| Some((&rest[..at], json::parse(detail(at)?.as_bytes()).ok()?)));
    match parted {
        Some((place, detail)) => (code, place, Some(detail)),
        None => (code, rest, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn notes_of_the_domain_have_a_place_and_no_detail() {
        assert_eq!(read("IDENTIFIER_BLOCKED userId"), ("IDENTIFIER_BLOCKED", "userId", None));
        assert_eq!(read("X"), ("X", "", None));
    }

    #[test]
    fn a_note_is_one_line() {
        let note = with_detail(STANDARDISED, "traits.a\nb", &Value::from("x\ny"));
        assert_eq!(note, r#"TRAIT_STANDARDISED traits.a\nb "x\ny""#);
    }

    proptest! {
        #[test]
        fn a_note_reads_back_whatever_the_place_is_called(
            place in r#"[a "1.{}\[\]\\]{1,12}"#, text in r#"[a "1\\]{0,8}"#, list in any::<bool>(),
        ) {
            let text = Value::from(text);
            let detail = if list { Value::List(vec![text.clone(), text]) } else { text };
            let note = with_detail(STANDARDISED, &format!("traits.{place}"), &detail);
            prop_assert_eq!(read(&note), (STANDARDISED, &*format!("traits.{place}"), Some(detail)));
        }
    }
}
