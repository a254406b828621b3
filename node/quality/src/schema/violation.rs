//! What an event breaks: where, and what was expected there.

use jsonschema::{ValidationError, error::ValidationErrorKind};

/// How much of what was expected is told, in bytes: a list of allowed values may be long.
const EXPECTED_BYTES_MAX: usize = 400;

/// A place of an event that is not what its schema says. Quotes the schema and names of fields, never a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The place as a JSON pointer (RFC 6901), in the schema's subject or, once [`Violation::within`] has put it there,
    /// in the event.
    pub pointer: String,
    /// What was expected there.
    pub expected: String,
}

impl Violation {
    pub(super) fn of(error: &ValidationError<'_>) -> Self {
        let mut expected = match error.kind() {
            // The crate's words for these would be about the schema, not about what to send.
            ValidationErrorKind::Required { property } => format!("{property} is required"),
            ValidationErrorKind::FalseSchema => "nothing is allowed here".to_owned(),
            ValidationErrorKind::PropertyNames { error } => {
                format!("a name of a field: {}", error.masked_with("it"))
            }
            _ => error.masked_with("the value").to_string(),
        };
        if expected.len() > EXPECTED_BYTES_MAX {
            expected.truncate(expected.floor_char_boundary(EXPECTED_BYTES_MAX));
            expected.push('…');
        }
        Self { pointer: error.instance_path().to_string(), expected }
    }

    /// The same with its pointer into the event.
    #[must_use]
    pub fn within(mut self, subject: &str) -> Self {
        self.pointer = format!("/{subject}{}", self.pointer);
        self
    }
}
