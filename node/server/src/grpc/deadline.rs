//! Until when a call has to be answered.
//!
//! A client sends the time it gives in `grpc-timeout` (gRPC over HTTP/2, "Timeout"). The answer has to be on its way a
//! little earlier, so that what is known of each item reaches the client instead of a bare `DEADLINE_EXCEEDED`.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// The longest that a call may take, whatever the client says.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// The most that is kept for the way back.
const MARGIN_MAX: Duration = Duration::from_millis(50);

/// The deadline of a call that arrives now; `default` for one that brings none.
pub fn deadline(metadata: &MetadataMap, default: Duration) -> Instant {
    Instant::now() + given(metadata).unwrap_or(default).min(TIMEOUT_MAX)
}

/// The time that a client gives, less what is kept for the way back; `None`: it doesn't say.
pub fn given(metadata: &MetadataMap) -> Option<Duration> {
    let given = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
    given.map(|given| given - (given / 10).min(MARGIN_MAX))
}

/// At most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let unit_at =
        text.len().checked_sub(1).filter(|at| (1..=8).contains(at) && text.is_char_boundary(*at))?;
    let (digits, unit) = text.split_at(unit_at);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_writes_them() {
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "m", "1", "-1S", "123456789S", "1x", "1 S", "1ä"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
