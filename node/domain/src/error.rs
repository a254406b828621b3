//! The crate's error, for callers that do not care which part it came from.
//!
//! A refused event is not an error but an answer ([`crate::event::Refused`]): it is replicated and kept. What is
//! here says that bytes or a configuration cannot be what they claim to be. No message holds personal data.

use crate::amount::AmountError;
use crate::identifier::IdentifierError;
use crate::shard_map::ShardMapError;
use crate::value::JsonError;

/// Anything in this crate that can fail without being an answer to a client.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A text is not a usable identifier.
    #[error(transparent)]
    Identifier(#[from] IdentifierError),
    /// Bytes are not JSON that can be kept exactly.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A text or number is not a decimal within bounds.
    #[error(transparent)]
    Amount(#[from] AmountError),
    /// A shard map breaks one of its invariants.
    #[error(transparent)]
    ShardMap(#[from] ShardMapError),
    /// Stored or received bytes are not the message that they should be: damage, or a newer version.
    #[error("cannot decode a {what}: {cause}")]
    Decode {
        /// The type that was expected.
        what: &'static str,
        /// Where the decoder gave up.
        cause: prost::DecodeError,
    },
    /// A message or a text was understood, but holds something that it never should.
    #[error("not a valid {what}: {why}")]
    Invalid {
        /// The type that was expected.
        what: &'static str,
        /// The rule that is broken.
        why: &'static str,
    },
}

impl Error {
    pub(crate) fn decode(what: &'static str) -> impl FnOnce(prost::DecodeError) -> Self {
        move |cause| Self::Decode { what, cause }
    }
}
