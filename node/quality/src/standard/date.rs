//! Dates and times.
//!
//! A date is `YYYY-MM-DD`, a point in time RFC 3339 in UTC. A time of day without an offset is taken for UTC, as the
//! timestamps of events are. Other spellings are only read where a format says how: `01/02/2003` is two dates.

use isthmus_domain::{Value, value::rfc3339};
use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    fmt::strtime,
    tz::TimeZone,
};

use crate::{fault::Fault, reading};

/// The most formats of a rule.
const FORMATS_MAX: usize = 32;
/// The longest format and the longest text that is looked at, in bytes.
const TEXT_BYTES_MAX: usize = 128;

/// Spellings besides ISO 8601, in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Formats(Vec<String>);

impl Formats {
    pub(super) fn read(formats: Option<&Value>, at: &str) -> Result<Self, Fault> {
        let Some(formats) = formats else { return Ok(Self::default()) };
        let formats = reading::texts(formats, at)?;
        if formats.len() > FORMATS_MAX {
            return Err(Fault::new(at, format!("more than {FORMATS_MAX} formats")));
        }
        let probe = DateTime::constant(2003, 1, 2, 3, 4, 5, 0).to_zoned(TimeZone::UTC);
        for (format, at) in &formats {
            // A format that can't write a date, or can't read what it wrote, never could read one.
            let written = probe.as_ref().ok().and_then(|probe| strtime::format(format, probe).ok());
            let read = written.and_then(|text| read_as(format, &text));
            if format.len() > TEXT_BYTES_MAX || read.is_none() {
                return Err(Fault::new(at, "is no format of a date, such as %d.%m.%Y (as in strftime)"));
            }
        }
        Ok(Self(formats.into_iter().map(|(format, _)| format.to_owned()).collect()))
    }

    pub(super) fn standardised(&self, value: &Value) -> Option<Value> {
        let text = match value {
            Value::Timestamp(micros) => return rfc3339(*micros).map(Value::String),
            Value::String(text) if text.len() <= TEXT_BYTES_MAX => text.trim(),
            _ => return None,
        };
        let read = iso(text).or_else(|| self.0.iter().find_map(|format| read_as(format, text)))?;
        Some(Value::String(read))
    }
}

/// ISO 8601: a date, or a time with or without an offset.
fn iso(text: &str) -> Option<String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return rfc3339(time.as_microsecond());
    }
    // Digits alone may be an epoch, and a zone's name without an offset would be skipped.
    if text.contains('[') || text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if text.len() > "2003-01-02".len() {
        return utc(text.parse().ok()?);
    }
    text.parse::<Date>().ok().map(|date| date.to_string())
}

fn read_as(format: &str, text: &str) -> Option<String> {
    let parts = strtime::parse(format, text).ok()?;
    if parts.hour().is_none() {
        return parts.to_date().ok().map(|date| date.to_string());
    }
    match parts.offset() {
        Some(_) => rfc3339(parts.to_timestamp().ok()?.as_microsecond()),
        None => utc(parts.to_datetime().ok()?),
    }
}

fn utc(civil: DateTime) -> Option<String> {
    rfc3339(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond())
}
