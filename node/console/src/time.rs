//! Moments: told relative to now, with the exact time to hover over or to copy.

use jiff::Timestamp;
use maud::{Markup, html};

/// Microseconds since 1970 of a protobuf time.
pub(crate) fn micros(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000)
}

/// A moment as people say it, seen from `now`; both in microseconds since 1970.
pub(crate) fn when(now: i64, at: i64) -> Markup {
    html! {
        @match exact(at) {
            Some((machine, exact)) => time datetime=(machine) title=(exact) { (relative(now, at)) },
            None => span.faint { "unknown" },
        }
    }
}

/// The same of a protobuf time, which may be missing.
pub(crate) fn when_given(now: i64, at: Option<&prost_types::Timestamp>) -> Markup {
    html! {
        @match at {
            Some(at) => (when(now, micros(at))),
            None => span.faint { "unknown" },
        }
    }
}

/// RFC 3339, and the same for people.
fn exact(at: i64) -> Option<(String, String)> {
    let machine = Timestamp::from_microsecond(at).ok()?.to_string();
    let people = machine.replacen('T', " ", 1).replacen('Z', " UTC", 1);
    Some((machine, people))
}

/// The day of a moment in UTC, such as `11 April 1997`.
pub(crate) fn day(at: i64) -> String {
    let date =
        |at| Timestamp::from_microsecond(at).ok().map(|at: Timestamp| at.to_zoned(jiff::tz::TimeZone::UTC));
    date(at).map_or_else(|| "unknown".to_owned(), |at| at.strftime("%-d %B %Y").to_string())
}

/// The same, shorter: `11 Apr 1997`.
fn short_day(at: i64) -> String {
    let date = Timestamp::from_microsecond(at).ok().map(|at| at.to_zoned(jiff::tz::TimeZone::UTC));
    date.map_or_else(|| "unknown".to_owned(), |at| at.strftime("%-d %b %Y").to_string())
}

/// The time of day in UTC, such as `17:03`.
pub(crate) fn time_of_day(at: i64) -> Markup {
    let clock =
        |at| Timestamp::from_microsecond(at).ok().map(|at: Timestamp| at.to_zoned(jiff::tz::TimeZone::UTC));
    let clock = clock(at).map(|at| at.strftime("%H:%M:%S").to_string());
    html! {
        @if let (Some(clock), Some((machine, exact))) = (clock, exact(at)) {
            time datetime=(machine) title=(exact) { (clock) }
        }
    }
}

fn relative(now: i64, at: i64) -> String {
    const DAY: u64 = 86_400;
    let seconds = now.abs_diff(at) / 1_000_000;
    let text = match seconds {
        0..2 => return "just now".to_owned(),
        2..100 => format!("{seconds} s"),
        100..6_000 => format!("{} min", seconds / 60),
        6_000..172_800 => format!("{} h", seconds / 3_600),
        172_800..2_592_000 => format!("{} days", seconds / DAY),
        _ => return short_day(at),
    };
    if at > now { format!("in {text}") } else { format!("{text} ago") }
}

/// A span of milliseconds as people say it: `340 ms`, `2.1 s`, `4 min`, `3 h`, `12 days`, `2 years`.
pub(crate) fn span(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..10_000 => format!("{:.1} s", milliseconds as f64 / 1e3),
        10_000..100_000 => format!("{} s", milliseconds / 1_000),
        100_000..6_000_000 => format!("{} min", milliseconds / 60_000),
        6_000_000..172_800_000 => format!("{} h", milliseconds / 3_600_000),
        172_800_000..63_072_000_000 => format!("{} days", milliseconds / 86_400_000),
        _ => format!("{} years", milliseconds / 31_557_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600_000_000;

    #[test]
    fn moments_are_told_as_people_say_them() {
        let ago = |seconds: i64| relative(NOW, NOW - seconds * 1_000_000);
        assert_eq!([ago(0), ago(1), ago(59), ago(100)], ["just now", "just now", "59 s ago", "1 min ago"]);
        assert_eq!([ago(7_200), ago(86_400 * 3)], ["2 h ago", "3 days ago"]);
        assert_eq!([ago(86_400 * 31), ago(-90)], ["1 Dec 2025", "in 90 s"]);
    }

    #[test]
    fn the_exact_time_is_there_too() {
        let shown = when(NOW, NOW - 90_000_001).into_string();
        assert!(shown.contains(r#"datetime="2025-12-31T23:58:29.999999Z""#), "{shown}");
        assert!(shown.contains(r#"title="2025-12-31 23:58:29.999999 UTC""#), "{shown}");
        assert!(when(NOW, i64::MAX).into_string().contains("unknown"));
    }

    #[test]
    fn spans_have_the_unit_that_fits() {
        let shown = [0, 999, 2_140, 61_000, 240_000, 7_200_000, 864_000_000, 1 << 40].map(span);
        assert_eq!(shown, ["0 ms", "999 ms", "2.1 s", "61 s", "4 min", "2 h", "10 days", "34 years"]);
    }
}
