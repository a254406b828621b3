//! Durations as people write them: `30 days`, `1 day 12 hours`, `90 minutes`.
//!
//! Only units of a fixed length: a month is 28 to 31 days, and a window that ends "a month after an event" would depend
//! on the calendar.

/// Microseconds of a second.
pub const SECOND_MICROS: i64 = 1_000_000;
/// Microseconds of a day.
pub const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;
/// The longest window, in days.
pub const WINDOW_DAYS_MAX: i64 = 400;

/// Reads numbers and units, each number at most once a unit; a leading minus is of the whole.
///
/// # Errors
/// What is wrong and what to write.
pub(crate) fn micros(text: &str) -> Result<i64, String> {
    let trimmed = text.trim();
    let (sign, rest) = match trimmed.strip_prefix('-') {
        Some(rest) => (-1, rest.trim_start()),
        None => (1, trimmed),
    };
    let mut rest = rest;
    let mut total: i64 = 0;
    if rest.is_empty() {
        return Err("a duration is a number and a unit, such as '30 days'".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: i64 = rest[..digits].parse().map_err(|_| {
            format!("'{text}' is no duration: write a whole number and a unit, such as '30 days'")
        })?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = unit_micros(&rest[..letters])?;
        rest = rest[letters..].trim_start_matches([' ', ',']);
        total = number
            .checked_mul(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| format!("'{text}' is too long a duration"))?;
    }
    Ok(sign * total)
}

/// The length of a unit.
pub(crate) fn unit_micros(unit: &str) -> Result<i64, String> {
    match unit.to_ascii_lowercase().as_str() {
        "microsecond" | "microseconds" | "us" => Ok(1),
        "millisecond" | "milliseconds" | "ms" => Ok(1_000),
        "second" | "seconds" | "sec" | "secs" | "s" => Ok(SECOND_MICROS),
        "minute" | "minutes" | "min" | "mins" | "m" => Ok(60 * SECOND_MICROS),
        "hour" | "hours" | "h" => Ok(3_600 * SECOND_MICROS),
        "day" | "days" | "d" => Ok(DAY_MICROS),
        "week" | "weeks" | "w" => Ok(7 * DAY_MICROS),
        "month" | "months" | "year" | "years" | "quarter" | "quarters" => {
            Err(format!("a {} has no fixed length: write days", unit.trim_end_matches('s')))
        }
        "" => Err("a duration needs a unit, such as '30 days'".to_owned()),
        other => Err(format!("'{other}' is no unit: write seconds, minutes, hours, days or weeks")),
    }
}

/// A window: positive, and at most [`WINDOW_DAYS_MAX`] days.
pub(crate) fn window(micros: i64) -> Result<i64, String> {
    if micros <= 0 {
        return Err("a window has a positive length: write a duration such as '30 days'".to_owned());
    }
    if micros > WINDOW_DAYS_MAX * DAY_MICROS {
        return Err(format!(
            "a window has at most {WINDOW_DAYS_MAX} days: write a shorter one, or none for all time"
        ));
    }
    Ok(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_units_add_up() {
        assert_eq!(micros("30 days"), Ok(30 * DAY_MICROS));
        assert_eq!(micros(" 1 day 12 hours "), Ok(DAY_MICROS * 3 / 2));
        assert_eq!(micros("1h30m"), Ok(90 * 60 * SECOND_MICROS));
        assert_eq!(micros("-7 days"), Ok(-7 * DAY_MICROS));
        assert_eq!(micros("2 WEEKS, 1 day"), Ok(15 * DAY_MICROS));
    }

    #[test]
    fn what_has_no_fixed_length_or_no_meaning_is_refused() {
        for bad in [
            "",
            "-",
            "days",
            "7",
            "7 moons",
            "1 month",
            "2 years",
            "99999999999 weeks",
            "1.5 days",
            "7 days ago",
        ] {
            assert!(micros(bad).is_err(), "{bad}");
        }
        assert!(micros("1 month").unwrap_err().contains("write days"));
        assert!(window(0).is_err() && window(-1).is_err() && window(401 * DAY_MICROS).is_err());
        assert_eq!(window(400 * DAY_MICROS), Ok(400 * DAY_MICROS));
    }
}
