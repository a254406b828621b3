//! What values of a trait must be.
//!
//! [`TraitRules`] is the seam: whoever knows more of traits (rules in the registry) answers first and asks
//! [`ReservedRules`] for the rest, which knows the reserved traits of the Segment spec by their names. They judge
//! syntax alone, with no region and no look-up; a trait that nobody knows is not judged.

use crate::value::Value;

/// What is known of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing is known of the trait.
    Unknown,
    /// It is what it must be.
    Valid,
    /// It is not.
    Invalid,
}

impl From<bool> for Verdict {
    fn from(valid: bool) -> Self {
        if valid { Self::Valid } else { Self::Invalid }
    }
}

/// Judges values of traits.
pub trait TraitRules: Send + Sync {
    /// What is known of a value that a source gave a trait.
    fn check(&self, source: &str, name: &str, value: &Value) -> Verdict;
}

/// The reserved traits by their names, in camelCase.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReservedRules;

/// The longest text of a name or the like, in characters.
const TEXT_CHARS_MAX: usize = 1_000;

impl TraitRules for ReservedRules {
    fn check(&self, _source: &str, name: &str, value: &Value) -> Verdict {
        let text = value.as_str();
        let valid = match name {
            "email" => text.is_some_and(is_email),
            "phone" => is_phone(value),
            "birthday" => text.is_some_and(is_date) || matches!(value, Value::Timestamp(_)),
            "createdAt" => {
                text.is_some_and(is_date) || matches!(value, Value::Timestamp(_) | Value::Int(0..))
            }
            "age" => match value {
                Value::Int(years) => (0..=150).contains(years),
                Value::Float(years) => (0.0..=150.0).contains(years),
                _ => false,
            },
            "avatar" | "website" => text.is_some_and(is_url),
            "description" | "firstName" | "gender" | "lastName" | "name" | "title" | "username" => {
                text.is_some_and(is_text)
            }
            "id" => text.is_some_and(is_text) || matches!(value, Value::Int(_) | Value::UInt(_)),
            "address" | "company" => match value {
                Value::Map(fields) => !fields.is_empty(),
                _ => text.is_some_and(is_text),
            },
            _ => return Verdict::Unknown,
        };
        valid.into()
    }
}

/// Text that says something: not blank, not endless, without control characters.
fn is_text(text: &str) -> bool {
    !text.trim().is_empty()
        && text.chars().count() <= TEXT_CHARS_MAX
        && !text.chars().any(|c| c.is_control() && c != '\n')
}

/// `local@domain.tld` in the part of RFC 5321 that mail systems take: no quotes, no comments, no address literals.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.trim().rsplit_once('@') else { return false };
    let atoms = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let local_fits = (1..=64).contains(&local.len())
        && local.chars().all(atoms)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    local_fits && is_domain(domain)
}

/// Labels of letters, digits and inner hyphens (RFC 1035, with letters of any script), the last not of digits alone.
fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let Some((_, last)) = domain.rsplit_once('.') else { return false };
    domain.len() <= 253 && domain.split('.').all(label) && !last.chars().all(|c| c.is_ascii_digit())
}

/// 7 to 15 digits (E.164), written with the usual separators, with or without a `+`.
fn is_phone(value: &Value) -> bool {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        _ => return false,
    };
    let bare = text.strip_prefix('+').unwrap_or(&text);
    let digits = bare.chars().filter(char::is_ascii_digit).count();
    (7..=15).contains(&digits) && bare.chars().all(|c| c.is_ascii_digit() || " -./()".contains(c))
}

/// A date or a time in ISO 8601's extended form.
fn is_date(text: &str) -> bool {
    let text = text.trim();
    text.parse::<jiff::Timestamp>().is_ok() || text.parse::<jiff::civil::DateTime>().is_ok()
}

/// An address on the web: scheme, host, nothing that a link can't hold.
fn is_url(text: &str) -> bool {
    let text = text.trim();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    is_domain(name) && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::json;

    fn judged(name: &str, text: &str) -> Verdict {
        ReservedRules.check("shop", name, &json::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn reserved_traits_are_judged_by_their_names() {
        for (name, valid, invalid) in [
            ("email", r#""a.b+c@ex-ample.co.uk""#, r#""a@b""#),
            ("email", r#""ä@bücher.de""#, r#""a b@c.de""#),
            ("phone", r#""+49 (30) 123-45""#, r#""12345""#),
            ("phone", "4930123456", r#""call me""#),
            ("birthday", r#""1990-02-28""#, r#""1990-02-30""#),
            ("createdAt", "1717178400", r#""soon""#),
            ("age", "41", "-1"),
            ("age", "0.5", r#""41""#),
            ("website", r#""https://example.org/a?b""#, r#""example""#),
            ("avatar", r#""http://a.example:8080/x.png""#, r#""https://a b.org""#),
            ("name", r#""Ann""#, r#""  ""#),
            ("address", r#"{"city":"Bonn"}"#, "{}"),
            ("id", "7", "true"),
        ] {
            assert_eq!(judged(name, valid), Verdict::Valid, "{name}: {valid}");
            assert_eq!(judged(name, invalid), Verdict::Invalid, "{name}: {invalid}");
        }
        assert_eq!(judged("favourite", "1"), Verdict::Unknown);
    }

    #[test]
    fn every_reserved_trait_is_judged() {
        for name in crate::event::RESERVED_TRAITS {
            assert_ne!(judged(name, "null"), Verdict::Unknown, "{name}");
        }
    }
}
