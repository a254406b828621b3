//! Identifiers: the names under which customers are known, and the one way to spell each.
//!
//! An identifier is a namespace and a value: `user_id:42`, `email:a@b.de`. Its spelling decides where its data lives,
//! so [`Identifier::normalise`] is a promise: **the same function serves ingest and every read, and it never changes
//! once data is in.** It does only what can be said without knowing a region, a source or a date:
//!
//! - surrounding white space is cut, and Unicode is brought to its composed form (NFC, UAX #15);
//! - an `email` is lower-cased;
//! - a `phone` loses its separators (space, `-`, `.`, `(`, `)`, `/`), and a leading `00` becomes `+`;
//! - everything else stays as it is: `user_id:A` and `user_id:a` are two customers.
//!
//! Normalising twice is normalising once. Values that stand for "nobody" are refused as [`IdentifierError::Blocked`].
//!
//! Left out on purpose: checking that an e-mail address or phone number is a plausible one, and turning national
//! phone numbers into E.164. Both depend on tables that change, and are the business of standardising, not routing.
//!
//! Errors name the rule, never the value.

mod blocked;
mod namespace;

use std::borrow::Cow;
use std::fmt;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

pub use blocked::{BlockedValues, is_blocked_everywhere};
#[cfg(test)]
pub(crate) use namespace::snake_case;
pub use namespace::{NAMESPACE_CHARS_MAX, Namespace};

/// The longest value of an identifier, in bytes of UTF-8 after normalisation.
pub const VALUE_BYTES_MAX: usize = 256;

/// A namespace and a normalised value. Ordered by priority: namespace first (see [`Namespace`]), then value.
///
/// `Display` gives `namespace:value`, which is personal data; `Debug` shows the namespace alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier {
    namespace: Namespace,
    value: Box<str>,
}

/// Why a text is not a usable identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentifierError {
    /// Nothing is left once white space and separators are gone.
    #[error("the identifier is blank")]
    Blank,
    /// The value stands for "nobody", such as `null` or `0`.
    #[error("the identifier is a placeholder that stands for nobody")]
    Blocked,
    /// More than [`VALUE_BYTES_MAX`] bytes after normalisation.
    #[error("the identifier is longer than 256 bytes")]
    TooLong,
    /// A control character (NUL included) or a bidirectional formatting character.
    #[error("the identifier holds a control or bidirectional formatting character")]
    ForbiddenCharacter,
    /// The namespace is not 1 to 64 characters of `a-z`, `0-9`, `_`.
    #[error("the identifier's namespace must be 1 to 64 characters of a-z, 0-9 and _")]
    BadNamespace,
    /// A text to parse has no colon between namespace and value.
    #[error("an identifier is written namespace:value")]
    NoNamespace,
}

impl Identifier {
    /// The identifier for a value as someone sent or typed it. The routing normalisation: see the module.
    pub fn normalise(namespace: Namespace, raw: &str) -> Result<Self, IdentifierError> {
        Self::normalise_unless(namespace, raw, &BlockedValues::default())
    }

    /// As [`Self::normalise`], with further blocked values. Blocking never changes the spelling of what is let
    /// through, so it may be configured and changed at any time.
    pub fn normalise_unless(
        namespace: Namespace,
        raw: &str,
        blocked: &BlockedValues,
    ) -> Result<Self, IdentifierError> {
        let trimmed = raw.trim();
        if trimmed.is_empty() {
            return Err(IdentifierError::Blank);
        }
        if is_blocked_everywhere(trimmed) {
            return Err(IdentifierError::Blocked);
        }
        if trimmed.chars().any(is_forbidden) {
            return Err(IdentifierError::ForbiddenCharacter);
        }
        // Separators go first: between a letter and its mark one would keep them from being composed.
        let bare = if namespace == Namespace::PHONE { dial(trimmed)? } else { Cow::Borrowed(trimmed) };
        let composed = compose(bare);
        let value = if namespace == Namespace::EMAIL { lower(composed) } else { composed };
        if value.len() > VALUE_BYTES_MAX {
            return Err(IdentifierError::TooLong);
        }
        if is_blocked_everywhere(&value) || blocked.blocks(&namespace, &value) {
            return Err(IdentifierError::Blocked);
        }
        Ok(Self { namespace, value: value.into_owned().into() })
    }

    /// Reads `namespace:value` as a person writes it, and normalises it. The value may hold further colons.
    pub fn parse(text: &str) -> Result<Self, IdentifierError> {
        let (namespace, value) = text.split_once(':').ok_or(IdentifierError::NoNamespace)?;
        Self::normalise(Namespace::parse(namespace.trim())?, value)
    }

    /// An identifier from stored parts that were normalised when they were written: only the namespace is checked.
    pub fn from_stored(namespace: &str, value: &str) -> Result<Self, IdentifierError> {
        Ok(Self { namespace: Namespace::stored(namespace)?, value: value.into() })
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The normalised value: 1 to 256 bytes.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.namespace, self.value)
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identifier({}:[{} bytes])", self.namespace, self.value.len())
    }
}

/// Whether a character may not stand in an id: controls (C0 with NUL, DEL, C1) and the bidirectional formatting
/// characters of UAX #9, which make two different ids look alike.
pub(crate) fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// NFC; as it was when the text is composed already, as nearly all are.
fn compose(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        text
    } else {
        Cow::Owned(text.nfc().collect())
    }
}

fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            text
        }
    } else {
        // Lower-casing can leave a letter and its mark apart, so compose again.
        compose(Cow::Owned(text.to_lowercase()))
    }
}

/// A phone number without separators. `000-000` is refused here, before its `00` would turn into a `+`.
fn dial(text: &str) -> Result<Cow<'_, str>, IdentifierError> {
    let is_separator = |c: char| c.is_whitespace() || matches!(c, '-' | '.' | '(' | ')' | '/');
    let digits: Cow<'_, str> = if text.contains(is_separator) {
        Cow::Owned(text.chars().filter(|c| !is_separator(*c)).collect())
    } else {
        Cow::Borrowed(text)
    };
    if digits.is_empty() {
        return Err(IdentifierError::Blank);
    }
    if is_blocked_everywhere(digits.strip_prefix('+').unwrap_or(&digits)) {
        return Err(IdentifierError::Blocked);
    }
    Ok(match digits.strip_prefix("00") {
        Some(rest) => Cow::Owned(format!("+{rest}")),
        None => digits,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> Result<String, IdentifierError> {
        Identifier::parse(text).map(|i| i.value().to_owned())
    }

    #[test]
    fn each_namespace_has_its_spelling() {
        for (sent, kept) in [
            ("email: A@B.de ", "a@b.de"),
            ("email:ÄRGER@B.DE", "ärger@b.de"),
            ("phone:+49 (0)171 / 123-45.6", "+490171123456"),
            ("phone:0049171", "+49171"),
            ("phone:0171", "0171"),
            ("user_id:A", "A"),
            ("user_id:a b", "a b"),
            ("user_id:ns:42", "ns:42"),
            ("user_id:e\u{301}", "\u{e9}"),
            ("userId: 42", "42"),
        ] {
            assert_eq!(value(sent).as_deref(), Ok(kept), "{sent}");
        }
    }

    #[test]
    fn what_is_no_identifier_is_refused_with_its_rule() {
        use IdentifierError::*;
        let long = format!("user_id:{}", "ä".repeat(129));
        let just = format!("user_id:{}", "ä".repeat(128));
        assert!(value(&just).is_ok());
        for (sent, rule) in [
            ("user_id:", Blank),
            ("user_id: \t\n", Blank),
            ("phone: -", Blocked),
            ("phone:()", Blank),
            ("user_id:NULL", Blocked),
            ("user_id:0", Blocked),
            ("user_id:00000-000", Blocked),
            ("phone:00 00", Blocked),
            ("phone:+00.00", Blocked),
            ("email:N/A", Blocked),
            ("user_id:a\0b", ForbiddenCharacter),
            ("user_id:a\u{7f}", ForbiddenCharacter),
            ("user_id:a\u{202e}b", ForbiddenCharacter),
            ("user_id:a\u{2066}b", ForbiddenCharacter),
            (&long, TooLong),
            ("42", NoNamespace),
            (":42", BadNamespace),
            ("crm!:42", BadNamespace),
        ] {
            assert_eq!(value(sent), Err(rule), "{sent:?}");
        }
    }

    #[test]
    fn a_blocked_value_of_one_namespace_is_fine_in_another() {
        let mut blocked = BlockedValues::default();
        blocked.insert(Namespace::EMAIL, "Shop@Example.com");
        let email = |raw| Identifier::normalise_unless(Namespace::EMAIL, raw, &blocked);
        assert_eq!(email("SHOP@example.com"), Err(IdentifierError::Blocked));
        assert!(email("other@example.com").is_ok());
        assert!(Identifier::normalise_unless(Namespace::USER_ID, "shop@example.com", &blocked).is_ok());
    }

    #[test]
    fn identifiers_sort_by_priority() {
        let sorted = ["user_id:z", "email:z", "phone:1z", "crm_id:z", "zip:a", "anonymous_id:a"];
        let mut ids: Vec<Identifier> = sorted.iter().rev().map(|t| Identifier::parse(t).unwrap()).collect();
        ids.sort();
        assert_eq!(ids.iter().map(Identifier::to_string).collect::<Vec<_>>(), sorted);
    }

    #[test]
    fn debug_does_not_show_the_value() {
        let id = Identifier::parse("email:secret@b.de").unwrap();
        assert_eq!(format!("{id:?}"), "Identifier(email:[11 bytes])");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn normalising_twice_is_normalising_once(ns in 0..4_usize, raw in "\\PC{0,12}|[ +0-9().-]{0,12}|[A-Za-zÄÅİΣ\u{301}\u{307}\u{2000}@.]{0,12}") {
            let ns = [Namespace::EMAIL, Namespace::PHONE, Namespace::USER_ID, Namespace::parse("crm_id").unwrap()][ns].clone();
            if let Ok(once) = Identifier::normalise(ns.clone(), &raw) {
                let twice = Identifier::normalise(ns, once.value());
                prop_assert_eq!(twice.as_ref().map(Identifier::value), Ok(once.value()));
                let parsed = Identifier::parse(&once.to_string());
                prop_assert_eq!(parsed, Ok(once));
            }
        }
    }
}
