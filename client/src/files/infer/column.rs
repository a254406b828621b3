//! What the values of a column look like.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::{
    super::cell::{CellType, TimeFormat},
    sample::Values,
};

/// So many values decide which ways to write a time are tried on all.
const TIME_PROBES: usize = 50;

/// Ways to write a time, the surest first; none is RFC 3339, with or without a time of day and an offset.
const TIMES: [Option<&str>; 17] = [
    None,
    Some("%Y%m%d"),
    Some("%d.%m.%Y"),
    Some("%d.%m.%Y %H:%M"),
    Some("%d.%m.%Y %H:%M:%S"),
    Some("%m/%d/%Y"),
    Some("%d/%m/%Y"),
    Some("%m/%d/%Y %H:%M"),
    Some("%d/%m/%Y %H:%M"),
    Some("%m/%d/%Y %H:%M:%S"),
    Some("%d/%m/%Y %H:%M:%S"),
    Some("%Y/%m/%d"),
    Some("%Y/%m/%d %H:%M:%S"),
    Some("%d-%m-%Y"),
    Some("%d %b %Y"),
    Some("%a, %d %b %Y %H:%M:%S %z"),
    Some("%s"),
];

/// A way to write a time, and how many values are written so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) pattern: Option<&'static str>,
    pub(super) fitting: usize,
    /// Whether day and month could as well be the other way round.
    pub(super) ambiguous: bool,
}

/// What a column's values look like: how many fit what.
#[derive(Debug, Clone)]
pub(super) struct Looks {
    /// Rows, and values that aren't empty.
    pub(super) rows: usize,
    pub(super) present: usize,
    pub(super) distinct: usize,
    pub(super) longest: usize,
    pub(super) integers: usize,
    /// Integers that would lose zeros in front.
    pub(super) zero_led: usize,
    pub(super) decimals: usize,
    /// Decimals with two digits behind the point.
    pub(super) cents: usize,
    pub(super) booleans: usize,
    pub(super) emails: usize,
    pub(super) phones: usize,
    pub(super) currencies: usize,
    pub(super) event_types: usize,
    pub(super) times: Option<Times>,
}

impl Looks {
    pub(super) fn of(column: &Values) -> Self {
        let present: Vec<&str> =
            column.values.iter().map(String::as_str).filter(|value| !value.is_empty()).collect();
        let count = |fits: fn(&str) -> bool| present.iter().filter(|value| fits(value)).count();
        Self {
            rows: column.values.len(),
            present: present.len(),
            distinct: present.iter().collect::<BTreeSet<_>>().len(),
            longest: present.iter().map(|value| value.len()).max().unwrap_or_default(),
            integers: count(|value| CellType::Integer.value(value).is_ok()),
            zero_led: count(is_zero_led),
            decimals: count(|value| CellType::Decimal.value(value).is_ok()),
            cents: count(|value| {
                CellType::Decimal.value(value).is_ok()
                    && value.split_once('.').is_some_and(|(_, fraction)| fraction.len() == 2)
            }),
            booleans: count(|value| {
                ["true", "false", "yes", "no"].iter().any(|word| value.eq_ignore_ascii_case(word))
            }),
            emails: count(is_email),
            phones: count(is_phone),
            currencies: count(|value| {
                value.len() == 3 && value.bytes().all(|byte| byte.is_ascii_uppercase())
            }),
            event_types: count(|value| {
                ["identify", "track", "page", "screen", "group", "alias"].contains(&value)
            }),
            times: times(&present),
        }
    }

    /// Whether all values that are there fit.
    pub(super) fn all(&self, fitting: usize) -> bool {
        self.present > 0 && fitting == self.present
    }

    /// Whether this many in a hundred of the values that are there fit, at least.
    pub(super) fn share(&self, fitting: usize, percent: usize) -> bool {
        self.present > 0 && fitting * 100 >= self.present * percent
    }

    /// Whether no row is without it.
    pub(super) fn complete(&self) -> bool {
        self.rows > 0 && self.present == self.rows
    }

    /// Whether no value comes twice.
    pub(super) fn unique(&self) -> bool {
        self.present > 0 && self.distinct == self.present
    }

    /// The time format that every row has.
    pub(super) fn time(&self) -> Option<&Times> {
        self.times.as_ref().filter(|times| self.complete() && times.fitting == self.present)
    }
}

fn is_zero_led(value: &str) -> bool {
    let digits = value.trim_start_matches(['-', '+']);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_email(value: &str) -> bool {
    let Some((local, domain)) = value.split_once('@') else { return false };
    let plain = |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c == '@');
    plain(local)
        && plain(domain)
        && domain.split('.').count() > 1
        && domain.split('.').all(|label| !label.is_empty())
}

/// Seven to fifteen digits as E.164 has them at most, set apart as people do, and not just a number.
fn is_phone(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let marks = value.bytes().filter(|byte| !byte.is_ascii_digit());
    let plain = marks.clone().all(|byte| b" +-()./".contains(&byte));
    let led = value.starts_with(['+', '0', '(']) || marks.clone().any(|byte| b" -/".contains(&byte));
    (7..=15).contains(&digits) && plain && led && value.rfind('+').is_none_or(|at| at == 0)
}

/// The way of writing times that most values fit.
fn times(present: &[&str]) -> Option<Times> {
    let fits = |pattern: Option<&'static str>, format: &TimeFormat, value: &str| {
        let shape = match pattern {
            // Digits alone are a date or a count of seconds only where they say a time of our days.
            Some("%Y%m%d") => value.len() == 8 && (value.starts_with("19") || value.starts_with("20")),
            Some("%s") => value.len() == 10 && value.starts_with('1'),
            None => value.len() >= 10 && value.contains('-'),
            Some(_) => true,
        };
        shape && format.read(value).is_ok()
    };
    let probes = &present[..present.len().min(TIME_PROBES)];
    let mut found: Vec<Times> = Vec::new();
    for pattern in TIMES {
        let format = TimeFormat { pattern: pattern.map(str::to_owned), zone: TimeZone::UTC };
        let probed = probes.iter().filter(|value| fits(pattern, &format, value)).count();
        if probed * 2 > probes.len() {
            let fitting = present.iter().filter(|value| fits(pattern, &format, value)).count();
            found.push(Times { pattern, fitting, ambiguous: false });
        }
    }
    // The first of those that fit most.
    let most = found.iter().map(|times| times.fitting).max()?;
    let best: Vec<&Times> = found.iter().filter(|times| times.fitting == most).collect();
    best.first().map(|times| Times { ambiguous: best.len() > 1, ..**times })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(values: &[&str]) -> Looks {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        Looks::of(&Values {
            name: "x".into(),
            values,
            typed: false,
            inner: false,
            nested: false,
            refused: None,
        })
    }

    #[test]
    fn values_show_what_a_column_is() {
        let mails = looks(&["a@b.de", "", "c@d.example.org", "x@y", "a b@c.de"]);
        assert_eq!((mails.present, mails.emails), (4, 2));
        assert_eq!(looks(&["+49 171 123", "0171/1234567", "(030) 12345-6", "1234567", "12.50"]).phones, 3);
        let codes = looks(&["0800", "12", "7"]);
        assert_eq!((codes.integers, codes.zero_led), (3, 1));
        assert_eq!(looks(&["1.50", "2.5", "3"]).cents, 1);
    }

    #[test]
    fn times_are_told_by_most_values_and_doubt_about_days_is_told() {
        let time = |values: &[&str]| {
            looks(values).times.map(|times| (times.pattern, times.fitting, times.ambiguous))
        };
        assert_eq!(time(&["19970101", "19970118"]), Some((Some("%Y%m%d"), 2, false)));
        assert_eq!(time(&["2024-01-01", "2024-01-01 12:00:00", "soon"]), Some((None, 2, false)));
        assert_eq!(time(&["24.12.2023", "01.02.2024"]), Some((Some("%d.%m.%Y"), 2, false)));
        assert_eq!(time(&["01/02/2024", "03/04/2024"]), Some((Some("%m/%d/%Y"), 2, true)));
        assert_eq!(time(&["01/02/2024", "31/04/2024", "30/04/2024"]).map(|it| it.0), Some(Some("%d/%m/%Y")));
        assert_eq!(time(&["1700000000", "1712345678"]), Some((Some("%s"), 2, false)));
        assert_eq!(time(&["12", "a"]), None);
    }
}
