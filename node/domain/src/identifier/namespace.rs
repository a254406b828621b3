//! Namespaces: what kind of name an identifier is.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use super::IdentifierError;

/// The longest namespace, in characters.
pub const NAMESPACE_CHARS_MAX: usize = 64;

/// A kind of identifier: 1 to 64 characters of `a-z`, `0-9`, `_`.
///
/// Ordered by the default priority: `user_id`, `email`, `phone`, then others by name, `anonymous_id` last.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Namespace(Cow<'static, str>);

impl Namespace {
    /// A customer's id in the sender's own system.
    pub const USER_ID: Self = Self(Cow::Borrowed("user_id"));
    /// An e-mail address.
    pub const EMAIL: Self = Self(Cow::Borrowed("email"));
    /// A phone number.
    pub const PHONE: Self = Self(Cow::Borrowed("phone"));
    /// A browser's or device's cookie.
    pub const ANONYMOUS_ID: Self = Self(Cow::Borrowed("anonymous_id"));

    const WELL_KNOWN: [Self; 4] = [Self::USER_ID, Self::EMAIL, Self::PHONE, Self::ANONYMOUS_ID];

    /// A namespace as someone sent or typed it. `userId` becomes `user_id`; `.`, `-` and spaces become `_`
    /// (`ios.idfa` is `ios_idfa`), since that is how senders of `externalIds` write them.
    pub fn parse(raw: &str) -> Result<Self, IdentifierError> {
        if let Ok(plain) = Self::stored(raw) {
            return Ok(plain);
        }
        // Each character becomes at most two, so this bounds the work.
        if raw.len() > NAMESPACE_CHARS_MAX {
            return Err(IdentifierError::BadNamespace);
        }
        Self::stored(&snake_case(raw))
    }

    /// A namespace that is spelled as it is stored.
    pub(crate) fn stored(text: &str) -> Result<Self, IdentifierError> {
        if let Some(known) = Self::WELL_KNOWN.iter().find(|k| k.0 == text) {
            return Ok(known.clone());
        }
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if text.is_empty() || text.len() > NAMESPACE_CHARS_MAX || !text.bytes().all(good) {
            return Err(IdentifierError::BadNamespace);
        }
        Ok(Self(Cow::Owned(text.to_owned())))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// 0 for `user_id`, 1 `email`, 2 `phone`, 3 for all others, 4 `anonymous_id`.
    fn class(&self) -> u8 {
        match &*self.0 {
            "user_id" => 0,
            "email" => 1,
            "phone" => 2,
            "anonymous_id" => 4,
            _ => 3,
        }
    }
}

/// `userId` to `user_id`, `HTTPId` to `http_id`, `ios.idfa` to `ios_idfa`.
pub(crate) fn snake_case(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len() + 4);
    let chars: Vec<char> = raw.chars().collect();
    for (i, &c) in chars.iter().enumerate() {
        if c.is_ascii_uppercase() {
            let before = i.checked_sub(1).map(|p| chars[p]);
            let after_word = before.is_some_and(|p| p.is_ascii_lowercase() || p.is_ascii_digit());
            let before_word = before.is_some_and(|p| p.is_ascii_uppercase())
                && chars.get(i + 1).is_some_and(char::is_ascii_lowercase);
            if after_word || before_word {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else if matches!(c, '.' | '-' | ' ') {
            out.push('_');
        } else {
            out.push(c);
        }
    }
    out
}

impl Ord for Namespace {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.class(), &self.0).cmp(&(other.class(), &other.0))
    }
}

impl PartialOrd for Namespace {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_spellings_become_one() {
        for (sent, kept) in [
            ("userId", "user_id"),
            ("user_id", "user_id"),
            ("anonymousId", "anonymous_id"),
            ("ios.idfa", "ios_idfa"),
            ("GA4ClientID", "ga4_client_id"),
            ("crm-id", "crm_id"),
        ] {
            assert_eq!(Namespace::parse(sent).unwrap().as_str(), kept);
        }
        for bad in ["", "ä", "a:b", &"a".repeat(65), &"A".repeat(65)] {
            assert_eq!(Namespace::parse(bad), Err(IdentifierError::BadNamespace));
        }
    }
}
