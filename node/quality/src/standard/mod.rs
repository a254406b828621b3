//! One rule: what it asks for, and what it makes of a value.
//!
//! A rule takes a value or doesn't. What it doesn't take it has no opinion on: nothing is guessed. The documents'
//! spelling is a name, or an object with `rule` and what the rule needs to know:
//!
//! | rule | needs | takes | gives |
//! | --- | --- | --- | --- |
//! | `trim` | | text | text in NFC without white space around it |
//! | `case` | `to`: `lower` or `upper` | text | text |
//! | `email` | | text that is an e-mail address | it in lower case |
//! | `phone` | `region` (ISO 3166, may be left out) | a phone number, international or of that region | E.164 |
//! | `date` | `formats` (strftime, may be left out) | ISO 8601, a time, or a text of one of these formats | `YYYY-MM-DD`, or RFC 3339 in UTC where there is a time of day |
//! | `country` | `to`: `alpha2` (default) or `alpha3` | ISO 3166-1 codes and English short names | the code |
//! | `currency` | | ISO 4217 codes | the code in upper case |
//! | `number` | `decimal`: `.` (default) or `,` | numbers, and texts in this spelling, grouped or not | a number |
//! | `enumeration` | `values`: words with their synonyms | the words and synonyms, in any case | the word |
//! | `pattern` | `regex`, `replace` (may be left out) | text that it matches | the text, or with the matches replaced |

mod codes;
mod date;
mod number;
mod phone;
mod text;

use std::{borrow::Cow, collections::BTreeMap};

use isthmus_domain::Value;

use crate::{
    fault::{Fault, join},
    reading,
};

/// A rule, ready to be used.
#[derive(Clone)]
pub(crate) enum Rule {
    Trim,
    Case(text::Case),
    Email,
    Phone(phone::Phone),
    Date(date::Formats),
    Country(codes::CountryForm),
    Currency,
    Number {
        decimal: char,
    },
    /// By word or synonym, folded.
    Enumeration(BTreeMap<String, String>),
    Pattern(text::Pattern),
}

/// The rules' names.
const NAMES: [&str; 10] =
    ["trim", "case", "email", "phone", "date", "country", "currency", "number", "enumeration", "pattern"];

impl Rule {
    /// Reads a rule: see the module's table.
    pub(crate) fn read(spec: &Value, at: &str) -> Result<Self, Fault> {
        let empty = isthmus_domain::Map::new();
        let (name, options) = match spec {
            Value::String(name) => (name.as_str(), &empty),
            Value::Map(options) => match options.get("rule") {
                Some(name) => (reading::text(name, &join(at, "rule"))?, options),
                None => return Err(Fault::new(at, "rule is missing: it names the rule")),
            },
            other => return Err(reading::wrong(at, "a rule's name or an object with rule", other)),
        };
        let known: &[&str] = match name {
            "case" | "country" => &["rule", "to"],
            "phone" => &["rule", "region"],
            "date" => &["rule", "formats"],
            "number" => &["rule", "decimal"],
            "enumeration" => &["rule", "values"],
            "pattern" => &["rule", "regex", "replace"],
            _ => &["rule"],
        };
        if NAMES.contains(&name) {
            reading::known_keys(options, at, known)?;
        }
        let option = |name: &str| match options.get(name) {
            Some(value) => reading::text(value, &join(at, name)).map(Some),
            None => Ok(None),
        };
        Ok(match name {
            "trim" => Self::Trim,
            "case" => match option("to")? {
                Some("lower") => Self::Case(text::Case::Lower),
                Some("upper") => Self::Case(text::Case::Upper),
                _ => return Err(Fault::new(join(at, "to"), "must be lower or upper")),
            },
            "email" => Self::Email,
            "phone" => Self::Phone(phone::Phone::of_region(option("region")?, &join(at, "region"))?),
            "date" => Self::Date(date::Formats::read(options.get("formats"), &join(at, "formats"))?),
            "country" => match option("to")? {
                None | Some("alpha2") => Self::Country(codes::CountryForm::Alpha2),
                Some("alpha3") => Self::Country(codes::CountryForm::Alpha3),
                Some(_) => return Err(Fault::new(join(at, "to"), "must be alpha2 or alpha3")),
            },
            "currency" => Self::Currency,
            "number" => match option("decimal")? {
                None | Some(".") => Self::Number { decimal: '.' },
                Some(",") => Self::Number { decimal: ',' },
                Some(_) => return Err(Fault::new(join(at, "decimal"), "must be a point or a comma")),
            },
            "enumeration" => {
                Self::Enumeration(text::enumeration(options.get("values"), &join(at, "values"))?)
            }
            "pattern" => Self::Pattern(text::Pattern::read(option("regex")?, option("replace")?, at)?),
            other => {
                let what = format!("there is no rule {other:?}; known are {}", NAMES.join(", "));
                return Err(Fault::new(at, what));
            }
        })
    }

    /// Its name in documents.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Trim => "trim",
            Self::Case(_) => "case",
            Self::Email => "email",
            Self::Phone(_) => "phone",
            Self::Date(_) => "date",
            Self::Country(_) => "country",
            Self::Currency => "currency",
            Self::Number { .. } => "number",
            Self::Enumeration(_) => "enumeration",
            Self::Pattern(_) => "pattern",
        }
    }

    /// What it makes of a value; `None`: it can't take it.
    pub(crate) fn apply(&self, value: &Value) -> Option<Value> {
        match self {
            Self::Number { decimal } => return number::standardised(value, *decimal),
            Self::Date(formats) => return formats.standardised(value),
            _ => {}
        }
        let text = as_text(value)?;
        let made = match self {
            // What is no text has nothing to trim, and a number written as text would be another value.
            Self::Trim | Self::Case(_) if value.as_str().is_none() => return None,
            Self::Trim => text::trimmed(&text),
            Self::Case(case) => case.applied(&text),
            Self::Email => text::email(&text)?,
            Self::Phone(phone) => phone.standardised(&text)?,
            Self::Country(form) => codes::country(&text, *form)?,
            Self::Currency => codes::currency(&text)?,
            Self::Enumeration(words) => words.get(&text::folded(&text))?.clone(),
            Self::Pattern(pattern) => pattern.applied(&text)?,
            Self::Number { .. } | Self::Date(_) => return None,
        };
        Some(Value::String(made))
    }
}

/// Texts, and whole numbers as senders write them instead: phone numbers, postcodes.
fn as_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Int(number) => Some(Cow::Owned(number.to_string())),
        Value::UInt(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
