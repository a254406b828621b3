//! Why an event was refused: stable codes, and sentences for people.

use std::fmt;

use crate::identifier::IdentifierError;
use crate::value::{JsonError, JsonErrorKind, ValueFault, ValueFaultKind};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal,)*) => {
        /// Why an item is kept in quarantine instead of being applied. Codes are part of the interface and stay.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, in upper snake case.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }
        }
    };
}

reasons! {
    /// Larger than the limit for one event (32 KiB).
    EventTooLarge = "EVENT_TOO_LARGE",
    /// Not JSON, not an object, or not Unicode.
    Malformed = "MALFORMED",
    /// Nested more than 32 deep.
    TooDeep = "TOO_DEEP",
    /// NaN, an infinity, or a number too large for a double.
    NotFinite = "NOT_FINITE",
    /// An integer beyond 64 bits.
    IntegerTooLarge = "INTEGER_TOO_LARGE",
    /// A key twice in one object, also as camelCase and snake_case of one field.
    DuplicateKey = "DUPLICATE_KEY",
    /// A field of the spec has a type that it can't have.
    FieldInvalid = "FIELD_INVALID",
    /// A field that this type of event needs is not there.
    FieldMissing = "FIELD_MISSING",
    /// No `type`, or none that is known.
    TypeUnknown = "TYPE_UNKNOWN",
    /// A `track` event without a name.
    EventNameMissing = "EVENT_NAME_MISSING",
    /// No usable identifier: none was sent, or only nulls and placeholders such as `undefined`.
    NoIdentifier = "NO_IDENTIFIER",
    /// Every identifier that was sent is blank.
    IdentifierBlank = "IDENTIFIER_BLANK",
    /// An identifier of more than 256 bytes.
    IdentifierTooLong = "IDENTIFIER_TOO_LONG",
    /// A control, NUL or bidirectional character in an identifier or message id.
    IdentifierForbiddenCharacter = "IDENTIFIER_FORBIDDEN_CHARACTER",
    /// The `type` of an external id can't be a namespace.
    IdentifierNamespaceInvalid = "IDENTIFIER_NAMESPACE_INVALID",
    /// More identifiers than one event may carry.
    TooManyIdentifiers = "TOO_MANY_IDENTIFIERS",
    /// A time that can't be read.
    TimestampInvalid = "TIMESTAMP_INVALID",
    /// More than 24 hours ahead of the server.
    TimestampInFuture = "TIMESTAMP_IN_FUTURE",
    /// Before 1970.
    TimestampBefore1970 = "TIMESTAMP_BEFORE_1970",
    /// A message id of more than 100 characters.
    MessageIdTooLong = "MESSAGE_ID_TOO_LONG",
    /// The message id was used before for an event with another body; the first stands.
    MessageIdConflict = "MESSAGE_ID_CONFLICT",
    /// Revenue that is not a decimal number within bounds.
    InvalidRevenue = "INVALID_REVENUE",
    /// A currency that is not three letters.
    InvalidCurrency = "INVALID_CURRENCY",
    /// The event breaks its schema.
    SchemaViolation = "SCHEMA_VIOLATION",
    /// There is no schema for an event of this name, and the hub takes none without.
    EventUnknown = "EVENT_UNKNOWN",
}

impl Reason {
    /// The reason with this code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The answer for an item that can't be taken. Sending it again unchanged won't help.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// Which field, as a path: `context.externalIds[2].id`; empty for the item as a whole.
    pub field: String,
    /// What is wrong, where, and what to do. Quotes no value.
    pub message: String,
    /// The item's message id, if it has a usable one.
    pub message_id: Option<String>,
}

impl Refused {
    /// A refusal of a field; for those who check more than [`crate::accept`] does, too.
    pub fn new(reason: Reason, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason, field: field.into(), message: message.into(), message_id: None }
    }

    pub(super) fn with_message_id(mut self, message_id: Option<String>) -> Self {
        self.message_id = message_id;
        self
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        Self::new(
            Reason::EventTooLarge,
            "",
            format!("the event is larger than {bytes_max} bytes; send less with it"),
        )
    }

    pub(super) fn wrong_type(field: &str, wanted: &str, got: &crate::Value) -> Self {
        Self::new(Reason::FieldInvalid, field, format!("{field} must be {wanted}, not {}", got.kind_name()))
    }

    /// A refused identifier. Blank and blocked ones are left out instead, and don't come here.
    pub(super) fn identifier(field: &str, error: IdentifierError) -> Self {
        let (reason, what) = match error {
            IdentifierError::Blank => (Reason::IdentifierBlank, "is blank: leave it out"),
            IdentifierError::Blocked => (Reason::NoIdentifier, "is a placeholder: leave it out"),
            IdentifierError::TooLong => (Reason::IdentifierTooLong, "is longer than 256 bytes"),
            IdentifierError::ForbiddenCharacter => (
                Reason::IdentifierForbiddenCharacter,
                "holds a control or bidirectional formatting character: remove it",
            ),
            IdentifierError::BadNamespace | IdentifierError::NoNamespace => (
                Reason::IdentifierNamespaceInvalid,
                "must be 1 to 64 letters, digits and underscores to be a namespace",
            ),
        };
        Self::new(reason, field, format!("{field} {what}"))
    }
}

impl From<JsonError> for Refused {
    fn from(error: JsonError) -> Self {
        let reason = match &error.kind {
            JsonErrorKind::Malformed(_) | JsonErrorKind::NotUnicode => Reason::Malformed,
            JsonErrorKind::TooDeep => Reason::TooDeep,
            JsonErrorKind::DuplicateKey(_) => Reason::DuplicateKey,
            JsonErrorKind::IntegerTooLarge => Reason::IntegerTooLarge,
            JsonErrorKind::NotFinite => Reason::NotFinite,
        };
        Self::new(reason, "", error.to_string())
    }
}

impl From<ValueFault> for Refused {
    fn from(fault: ValueFault) -> Self {
        let (reason, what) = match fault.kind {
            ValueFaultKind::TooDeep => (Reason::TooDeep, "is nested more than 32 deep"),
            ValueFaultKind::NotFinite => (Reason::NotFinite, "is not a finite number"),
            ValueFaultKind::TimestampOutOfRange => {
                (Reason::TimestampInvalid, "is outside of the years -9999 to 9999")
            }
        };
        let message = format!("{} {what}", fault.path);
        Self::new(reason, fault.path, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.code()), Some(*reason));
            assert!(reason.code().bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'));
        }
        assert_eq!(Reason::parse("NO_SUCH_REASON"), None);
    }
}
