//! When an event happened.
//!
//! `timestamp = received - (sentAt - originalTimestamp)` when the client gave both: a client whose clock is wrong is
//! wrong by the same amount in both, so their difference is right. Otherwise the client's `timestamp` (or its
//! `originalTimestamp`), as it says; otherwise the time of receipt.
//!
//! A time is RFC 3339, a date alone (midnight UTC), a date and time without an offset (taken as UTC, and noted), or
//! an integer: milliseconds since the epoch. Fractions finer than a microsecond are cut.

use jiff::tz::TimeZone;

use super::{AcceptContext, Reason, Refused, item::Item};
use crate::value::Value;

pub(super) struct Times {
    /// Microseconds since the epoch, not negative.
    pub(super) timestamp: i64,
    /// The client's `sentAt`.
    pub(super) sent_at: Option<i64>,
}

pub(super) fn of_item(
    item: &Item,
    ctx: &AcceptContext<'_>,
    notes: &mut Vec<String>,
) -> Result<Times, Refused> {
    let sent_at = read(item, "sentAt", notes)?.or(ctx.sent_at);
    let original = read(item, "originalTimestamp", notes)?;
    let client = read(item, "timestamp", notes)?;
    let (timestamp, field) = match (sent_at, original, client) {
        (Some(sent), Some(original), _) => {
            (ctx.now_micros.saturating_sub(sent.saturating_sub(original)), "originalTimestamp")
        }
        (_, _, Some(client)) => (client, "timestamp"),
        (_, Some(original), None) => (original, "originalTimestamp"),
        (_, None, None) => (ctx.now_micros, "timestamp"),
    };
    if timestamp < 0 {
        let what = format!("{field} is before 1970: send a later one, or none");
        return Err(Refused::new(Reason::TimestampBefore1970, field, what));
    }
    if timestamp > ctx.now_micros.saturating_add(ctx.limits.future_micros_max) {
        let what = format!("{field} is more than 24 hours ahead of the server: check the client's clock");
        return Err(Refused::new(Reason::TimestampInFuture, field, what));
    }
    Ok(Times { timestamp, sent_at })
}

fn read(item: &Item, field: &str, notes: &mut Vec<String>) -> Result<Option<i64>, Refused> {
    let Some(value) = item.get(field).filter(|value| !value.is_null()) else { return Ok(None) };
    let micros = micros(value, || notes.push(format!("TIME_WITHOUT_OFFSET {field}")));
    micros.map(Some).ok_or_else(|| {
        let what = format!("{field} can't be read: send RFC 3339, such as 2024-05-31T18:00:00Z");
        Refused::new(Reason::TimestampInvalid, field, what)
    })
}

/// A time in one of the forms that events may have them in, as microseconds since the epoch; for those who read what
/// stands around events. `None`: it is no time.
pub fn time_of(value: &Value) -> Option<i64> {
    micros(value, || ())
}

fn micros(value: &Value, assumed_utc: impl FnOnce()) -> Option<i64> {
    match value {
        Value::Timestamp(micros) => Some(*micros),
        Value::Int(millis) => millis.checked_mul(1_000),
        Value::String(text) => parse(text.trim(), assumed_utc),
        _ => None,
    }
}

/// Microseconds since the epoch. `assumed_utc` is told when a time of day came without an offset.
fn parse(text: &str, assumed_utc: impl FnOnce()) -> Option<i64> {
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(timestamp.as_microsecond());
    }
    // A zone's name without an offset would be skipped by the next parser, and digits alone may be an epoch.
    let digits_alone = text.len() != 8 && text.bytes().all(|b| b.is_ascii_digit());
    if text.contains('[') || digits_alone {
        return None;
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    if text.len() > "2024-05-31".len() {
        assumed_utc();
    }
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_forms_that_clients_send() {
        for (text, millis) in [
            ("2024-05-31T18:00:00Z", Some(1_717_178_400_000)),
            ("2024-05-31T20:00:00.000+02:00", Some(1_717_178_400_000)),
            ("2024-05-31T18:00:00.0000009Z", Some(1_717_178_400_000)),
            ("2024-05-31 18:00:00", Some(1_717_178_400_000)),
            ("2024-05-31", Some(1_717_113_600_000)),
            ("20240531", Some(1_717_113_600_000)),
            ("2024-05-31T20:00:00+02:00[Europe/Berlin]", Some(1_717_178_400_000)),
            ("2024-05-31T20:00:00[Europe/Berlin]", None),
            ("1717178400000", None),
            ("2024-13-01", None),
            ("2024-02-30T00:00:00Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse(text, || ()).map(|m| m / 1_000), millis, "{text}");
        }
    }

    #[test]
    fn only_a_time_of_day_without_an_offset_is_noted() {
        for (text, noted) in
            [("2024-05-31T18:00:00", true), ("2024-05-31", false), ("2024-05-31T18:00:00Z", false)]
        {
            let mut seen = false;
            parse(text, || seen = true);
            assert_eq!(seen, noted, "{text}");
        }
    }
}
