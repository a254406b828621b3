//! A cell of a table as a typed value.
//!
//! Without a type it is taken as it is: text of CSV, whatever JSON and Parquet hold.
//!
//! Numbers are taken exactly or not at all: an integer has 64 bits, a decimal stays text (sums are exact decimals, a
//! double would lose cents), a number is finite. Problems name the type that was expected, never what was found: a
//! cell may hold personal data.

use jiff::{
    Timestamp,
    civil::DateTime,
    fmt::strtime::{self, BrokenDownTime},
    tz::TimeZone,
};

use super::record::Cell;
use crate::proto::{self, value::Kind};

/// What a cell holds.
#[derive(Debug, Clone)]
pub(crate) enum CellType {
    AsIs,
    String,
    Integer,
    Number,
    Decimal,
    Boolean,
    Date(TimeFormat),
}

/// How a time is written.
#[derive(Debug, Clone)]
pub(crate) struct TimeFormat {
    /// As of `strptime`; RFC 3339 when absent.
    pub(crate) pattern: Option<String>,
    /// For times without an offset of their own.
    pub(crate) zone: TimeZone,
}

impl CellType {
    /// The value of a cell; nothing when it is empty.
    pub(crate) fn of(&self, cell: Cell<'_>) -> Result<Option<proto::Value>, &'static str> {
        match (self, cell) {
            (Self::AsIs, cell) => Ok(cell.into_value()),
            (_, Cell::Empty) => Ok(None),
            (_, cell) => self.value(&cell.into_text()?).map(Some),
        }
    }

    /// The value of a cell's text, which isn't empty.
    pub(crate) fn value(&self, text: &str) -> Result<proto::Value, &'static str> {
        let kind = match self {
            Self::AsIs | Self::String => Kind::StringValue(text.to_owned()),
            Self::Integer => integer(text).ok_or("isn't an integer of 64 bits")?,
            Self::Number => {
                let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
                Kind::DoubleValue(number.ok_or("isn't a finite number")?)
            }
            Self::Decimal => Kind::StringValue(decimal(text).ok_or("isn't a decimal such as -12.50")?),
            Self::Boolean => Kind::BoolValue(boolean(text).ok_or("is neither true nor false")?),
            Self::Date(format) => Kind::TimestampValue(format.read(text)?),
        };
        Ok(proto::Value { kind: Some(kind) })
    }
}

fn integer(text: &str) -> Option<Kind> {
    text.parse::<i64>().map(Kind::IntValue).or_else(|_| text.parse::<u64>().map(Kind::UintValue)).ok()
}

/// A decimal in plain notation: digits before the point, and behind it if there is one; no plus.
fn decimal(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

fn boolean(text: &str) -> Option<bool> {
    let is = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(["true", "t", "yes", "y", "1"]) {
        return Some(true);
    }
    is(["false", "f", "no", "n", "0"]).then_some(false)
}

impl TimeFormat {
    /// Whether a time written in this format can be read back; false for a pattern that isn't one, or has no date.
    pub(crate) fn is_sound(&self) -> bool {
        let Some(pattern) = &self.pattern else { return true };
        let sample = Timestamp::UNIX_EPOCH.to_zoned(self.zone.clone());
        strtime::format(pattern, &sample).is_ok_and(|text| self.read(&text).is_ok())
    }

    /// The time that a cell holds.
    pub(crate) fn read(&self, text: &str) -> Result<prost_types::Timestamp, &'static str> {
        let time = match &self.pattern {
            None => text
                .parse::<Timestamp>()
                .or_else(|_| text.parse::<DateTime>().and_then(|at| self.zone.to_timestamp(at))),
            Some(pattern) => BrokenDownTime::parse(pattern, text).and_then(|parts| {
                parts
                    .to_timestamp()
                    .or_else(|_| parts.to_datetime().and_then(|at| self.zone.to_timestamp(at)))
            }),
        };
        time.map(to_proto).map_err(|_| match self.pattern {
            None => "isn't a time of RFC 3339",
            Some(_) => "isn't a time in the format given",
        })
    }
}

/// A time as protobuf has it.
pub(super) fn to_proto(time: Timestamp) -> prost_types::Timestamp {
    // Protobuf counts nanoseconds forward from the second, before 1970 too.
    let nanos = time.as_nanosecond();
    let second = 1_000_000_000;
    prost_types::Timestamp {
        seconds: nanos.div_euclid(second) as i64,
        nanos: nanos.rem_euclid(second) as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(cell: &CellType, text: &str) -> Option<Kind> {
        cell.value(text).ok().and_then(|value| value.kind)
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(kind(&CellType::Integer, "-9223372036854775808"), Some(Kind::IntValue(i64::MIN)));
        assert_eq!(kind(&CellType::Integer, "18446744073709551615"), Some(Kind::UintValue(u64::MAX)));
        for wrong in ["18446744073709551616", "1.0", "", "x", "1e3"] {
            assert_eq!(kind(&CellType::Integer, wrong), None, "{wrong}");
        }
        assert_eq!(kind(&CellType::Number, "1e3"), Some(Kind::DoubleValue(1000.0)));
        for wrong in ["NaN", "inf", "1e400", "1,5"] {
            assert_eq!(kind(&CellType::Number, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn decimals_keep_their_digits() {
        let pairs = [("29.33", "29.33"), ("+1.50", "1.50"), ("-.5", "-0.5"), ("3.", "3"), ("0.00", "0.00")];
        for (text, expected) in pairs {
            assert_eq!(decimal(text).as_deref(), Some(expected));
        }
        for wrong in ["", ".", "-", "1e3", "1,000.00", "$5", "--1", "٣"] {
            assert_eq!(decimal(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn booleans_have_several_spellings() {
        assert_eq!(
            [boolean("TRUE"), boolean("y"), boolean("0"), boolean("No")],
            [Some(true), Some(true), Some(false), Some(false)]
        );
        assert_eq!(boolean("maybe"), None);
    }

    #[test]
    fn times_are_read_in_their_zone() {
        let zone = |name: &str| TimeZone::get(name).unwrap();
        let berlin = TimeFormat { pattern: Some("%d.%m.%Y %H:%M".into()), zone: zone("Europe/Berlin") };
        assert_eq!(berlin.read("01.07.2024 12:00").unwrap().seconds, 1_719_828_000);
        let date = TimeFormat { pattern: Some("%Y%m%d".into()), zone: TimeZone::UTC };
        assert_eq!(date.read("19970101").unwrap().seconds, 852_076_800);
        assert!(date.read("19971301").is_err());
        let plain = TimeFormat { pattern: None, zone: zone("Europe/Berlin") };
        assert_eq!(plain.read("2024-07-01T12:00:00+02:00").unwrap().seconds, 1_719_828_000);
        assert_eq!(plain.read("2024-07-01T12:00:00").unwrap().seconds, 1_719_828_000);
        assert_eq!(
            plain.read("1969-12-31T23:59:59.5Z").unwrap(),
            prost_types::Timestamp { seconds: -1, nanos: 500_000_000 }
        );
        assert!(plain.read("yesterday").is_err());
        let offset = TimeFormat { pattern: Some("%Y-%m-%d %H:%M:%S %z".into()), zone: TimeZone::UTC };
        assert_eq!(offset.read("2024-07-01 12:00:00 +0200").unwrap().seconds, 1_719_828_000);
    }

    #[test]
    fn a_pattern_without_a_date_is_not_sound() {
        for (pattern, sound) in
            [("%Y-%m-%d", true), ("%s", true), ("%H:%M", false), ("%Q!", false), ("date", false)]
        {
            let format = TimeFormat { pattern: Some(pattern.into()), zone: TimeZone::UTC };
            assert_eq!(format.is_sound(), sound, "{pattern}");
        }
    }
}
