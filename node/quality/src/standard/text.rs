//! Texts: trimming, case, e-mail addresses, words of a list, regular expressions.

use std::collections::BTreeMap;

use email_address::{EmailAddress, Options};
use isthmus_domain::{Identifier, Namespace, Value};
use regex::{Regex, RegexBuilder};
use unicode_normalization::UnicodeNormalization as _;

use crate::{
    fault::{Fault, join},
    reading,
};

/// The most words and synonyms of one enumeration.
const WORDS_MAX: usize = 10_000;
/// The longest regular expression and replacement, in bytes.
const REGEX_BYTES_MAX: usize = 1_000;
/// The largest compiled regular expression and the most memory of its automaton, in bytes.
const REGEX_SIZE_MAX: usize = 256 << 10;
/// The longest text that replacing may give, in bytes: an event's own limit.
const REPLACED_BYTES_MAX: usize = 32 << 10;

/// Which case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Upper,
}

impl Case {
    pub(super) fn applied(self, text: &str) -> String {
        match self {
            Self::Lower => text.to_lowercase().nfc().collect(),
            Self::Upper => text.to_uppercase().nfc().collect(),
        }
    }
}

pub(super) fn trimmed(text: &str) -> String {
    // Composing can't bring white space to an end of a text, or it would have stood there before.
    text.trim().nfc().collect()
}

/// How words of a list are compared: without case, and without white space around them.
pub(super) fn folded(text: &str) -> String {
    text.trim().to_lowercase().nfc().collect()
}

/// An e-mail address as identifiers spell it, if it is one (RFC 5322, with a domain that has a dot).
pub(super) fn email(text: &str) -> Option<String> {
    let spelled = Identifier::normalise(Namespace::EMAIL, text).ok()?;
    let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
    EmailAddress::parse_with_options(spelled.value(), options).ok()?;
    Some(spelled.value().to_owned())
}

/// `{"pro": ["professional", "PRO+"], "free": []}` as words by folded word and synonym.
pub(super) fn enumeration(values: Option<&Value>, at: &str) -> Result<BTreeMap<String, String>, Fault> {
    let missing = || Fault::new(at, "is missing: name the words, each with a list of its synonyms");
    let words = reading::any_object(values.ok_or_else(missing)?, at)?;
    let mut known = BTreeMap::new();
    for (word, synonyms) in words {
        let at = join(at, word);
        let synonyms = reading::texts(synonyms, &at)?;
        for (name, at) in [(word.as_str(), at.clone())].into_iter().chain(synonyms) {
            let folded = folded(name);
            if folded.is_empty() {
                return Err(Fault::new(at, "a word must not be blank"));
            }
            match known.insert(folded, word.clone()) {
                Some(other) if other != *word => {
                    return Err(Fault::new(at, format!("also stands for {other:?}: a word has one meaning")));
                }
                _ => {}
            }
            if known.len() > WORDS_MAX {
                return Err(Fault::new(at, format!("more than {WORDS_MAX} words and synonyms")));
            }
        }
    }
    if known.is_empty() { Err(missing()) } else { Ok(known) }
}

/// A regular expression, and what its matches become.
#[derive(Clone)]
pub(crate) struct Pattern {
    regex: Regex,
    replace: Option<String>,
}

impl Pattern {
    pub(super) fn read(regex: Option<&str>, replace: Option<&str>, at: &str) -> Result<Self, Fault> {
        let place = join(at, "regex");
        let regex = regex.ok_or_else(|| Fault::new(&place, "is missing: what must the text match?"))?;
        if regex.len().max(replace.map_or(0, str::len)) > REGEX_BYTES_MAX {
            return Err(Fault::new(place, format!("is longer than {REGEX_BYTES_MAX} bytes")));
        }
        let built =
            RegexBuilder::new(regex).size_limit(REGEX_SIZE_MAX).dfa_size_limit(REGEX_SIZE_MAX).build();
        let regex = built.map_err(|error| {
            let text = error.to_string();
            // The crate draws the expression with a mark below; its last line says what is wrong.
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Fault::new(place, format!("is no regular expression that can be used: {why}"))
        })?;
        Ok(Self { regex, replace: replace.map(str::to_owned) })
    }

    pub(super) fn applied(&self, text: &str) -> Option<String> {
        if !self.regex.is_match(text) {
            return None;
        }
        let made = match &self.replace {
            Some(replace) => self.regex.replace_all(text, replace.as_str()).into_owned(),
            None => text.to_owned(),
        };
        (made.len() <= REPLACED_BYTES_MAX).then_some(made)
    }
}
