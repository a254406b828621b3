//! What is wrong with a definition, and where.

use std::fmt;

/// The longest text of a fault and the longest name of its part, in bytes: definitions may hold long names, and faults
/// travel in headers.
const WHAT_BYTES_MAX: usize = 400;
const AT_BYTES_MAX: usize = 200;

/// A place in a text: line and column, both from 1; columns count characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl Place {
    /// The beginning of a text.
    pub const START: Self = Self { line: 1, column: 1 };

    /// The place in front of a byte of a text.
    pub(crate) fn of_byte(text: &str, byte: usize) -> Self {
        let before = &text[..text.floor_char_boundary(byte.min(text.len()))];
        let line = before.rsplit('\n').next().unwrap_or(before);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: number(before.matches('\n').count() + 1), column: number(line.chars().count() + 1) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A definition that can't be taken. Quotes what the definition says, never what a customer said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which definition, and which part of it: `segment vip: expression`; empty where there is only one text.
    pub at: String,
    /// Where in that part, if it is an expression.
    pub place: Option<Place>,
    /// What is wrong there and what to do.
    pub what: String,
}

impl Fault {
    /// A fault in an expression.
    pub fn new(place: Place, what: impl Into<String>) -> Self {
        Self { at: String::new(), place: Some(place), what: cut(what.into(), WHAT_BYTES_MAX) }
    }

    /// A fault of a part of a document.
    pub fn of_part(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: cut(at.into(), AT_BYTES_MAX), place: None, what: cut(what.into(), WHAT_BYTES_MAX) }
    }

    /// The same, in a part of a document.
    pub(crate) fn within(mut self, at: impl Into<String>) -> Self {
        self.at = cut(at.into(), AT_BYTES_MAX);
        self
    }
}

/// The beginning of a text that is too long.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

/// `; did you mean …?`, if one of the names is close to what was written.
pub(crate) fn suggestion<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let distance = |name: &&str| strsim::osa_distance(&written.to_lowercase(), &name.to_lowercase());
    let (length, nearest) = (written.chars().count(), names.into_iter().min_by_key(distance));
    match nearest {
        Some(name) if distance(&name) <= 1 + length / 4 && distance(&name) < length => {
            format!("; did you mean {name}?")
        }
        _ => String::new(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.at.is_empty(), self.place) {
            (true, None) => f.write_str(&self.what),
            (true, Some(place)) => write!(f, "{place}: {}", self.what),
            (false, None) => write!(f, "{}: {}", self.at, self.what),
            (false, Some(place)) => write!(f, "{}, {place}: {}", self.at, self.what),
        }
    }
}

impl std::error::Error for Fault {}
