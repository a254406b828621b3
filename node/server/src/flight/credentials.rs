//! What clients show of themselves.
//!
//! Reads need no credentials until access control exists, over Flight SQL as over gRPC. Many clients send some all the same,
//! and begin with a handshake: what is sent is looked at for its form, so that a client that is set up wrongly hears of it,
//! and is let in whatever it says. The token that a handshake gives says just that.

use tonic::{Code, metadata::MetadataMap};

use crate::{grpc::status::Refusal, intake::source::base64};

/// The token that a handshake gives: nobody is told apart.
pub const NOBODY: &str = "nobody-is-told-apart";
/// The longest header.
const BYTES_MAX: usize = 8 << 10;

/// Looks at the form of what a call shows.
///
/// # Errors
/// UNAUTHENTICATED `CREDENTIALS_UNREADABLE`.
pub fn look(metadata: &MetadataMap) -> Result<(), Refusal> {
    let unreadable = || {
        let message = "the authorization header can't be read: send `Bearer TOKEN`, `Basic` with base64 of \
                       `USER:PASSWORD`, or none, as reads need no credentials";
        Refusal::new(Code::Unauthenticated, "CREDENTIALS_UNREADABLE", message)
    };
    let Some(value) = metadata.get("authorization") else { return Ok(()) };
    let text = value.to_str().ok().filter(|text| text.len() <= BYTES_MAX).ok_or_else(unreadable)?;
    let (scheme, rest) = text.split_once(' ').ok_or_else(unreadable)?;
    let rest = rest.trim();
    let fits = if scheme.eq_ignore_ascii_case("bearer") {
        !rest.is_empty() && !rest.contains(char::is_whitespace)
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = base64(rest).and_then(|bytes| String::from_utf8(bytes).ok());
        pair.is_some_and(|pair| pair.contains(':'))
    } else {
        false
    };
    if fits { Ok(()) } else { Err(unreadable()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_looked_at_with_and_without_padding() {
        let looked = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", value.parse().unwrap());
            look(&metadata)
        };
        assert!(look(&MetadataMap::new()).is_ok());
        for fits in
            ["Bearer abc", "bearer nobody-is-told-apart", "Basic dTpwcA==", "basic dTpwcA", "Basic dTo="]
        {
            assert!(looked(fits).is_ok(), "{fits}");
        }
        for wrong in ["", "Bearer", "Bearer ", "Bearer a b", "Basic dXA=", "Basic ä", "Digest x", "Basic !!!"]
        {
            let Ok(()) = wrong.parse::<tonic::metadata::AsciiMetadataValue>().map(|_| ()) else { continue };
            assert!(looked(wrong).is_err(), "{wrong}");
        }
    }
}
