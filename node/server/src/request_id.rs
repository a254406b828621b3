//! The id that names a call in logs and answers, given by the client or made here.

use http::{HeaderMap, HeaderValue};

/// The header that names a call.
pub const REQUEST_ID: &str = "x-request-id";
/// The longest request id that is taken from a client.
const BYTES_MAX: usize = 64;

/// The client's request id, if it is a plain one.
pub fn given(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    is_plain(id).then(|| id.clone())
}

/// Whether an id may stand in log lines and answers.
pub fn is_plain(id: &HeaderValue) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    (1..=BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(plain)
}

/// The id of a number.
pub fn made(number: u64) -> HeaderValue {
    // Hexadecimal digits are a header value.
    HeaderValue::from_str(&format!("{number:016x}")).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_request_id_is_taken_if_it_is_a_plain_one() {
        let with =
            |id: &str| given(&HeaderMap::from_iter([(REQUEST_ID.parse().unwrap(), id.parse().unwrap())]));
        assert_eq!(with("abc-1").unwrap(), "abc-1");
        assert!(with("a b").is_none() && with(&"a".repeat(65)).is_none());
        assert_eq!(made(255), "00000000000000ff");
    }
}
