//! What is wrong with a document, and where.

use std::fmt;

/// The longest place and the longest text, in bytes: documents may hold long names, and faults travel in headers.
const AT_BYTES_MAX: usize = 200;
const WHAT_BYTES_MAX: usize = 400;

/// A document that can't be taken. Quotes what the document says, never what a customer said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Where in the document, as a JSON pointer (RFC 6901); empty: the document as a whole.
    pub at: String,
    /// What is wrong there and what to do.
    pub what: String,
}

impl Fault {
    /// A fault at a place.
    pub fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: cut(at.into(), AT_BYTES_MAX), what: cut(what.into(), WHAT_BYTES_MAX) }
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() { f.write_str(&self.what) } else { write!(f, "{}: {}", self.at, self.what) }
    }
}

impl std::error::Error for Fault {}

/// `pointer` with one more token, escaped as RFC 6901 says.
pub(crate) fn join(pointer: &str, token: impl fmt::Display) -> String {
    let token = token.to_string();
    match token.contains(['~', '/']) {
        true => format!("{pointer}/{}", token.replace('~', "~0").replace('/', "~1")),
        false => format!("{pointer}/{token}"),
    }
}
