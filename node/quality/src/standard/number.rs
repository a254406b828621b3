//! Numbers, written as people in different places write them.

use isthmus_domain::{Amount, Value};

/// The longest text that is looked at: 20 digits of an integer, 17 of a double, and what parts them.
const TEXT_BYTES_MAX: usize = 64;

/// A number, or the number that a text stands for. Never another one: what neither 64 bits nor a double hold exactly
/// is left as it is.
pub(super) fn standardised(value: &Value, decimal: char) -> Option<Value> {
    match value {
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => Some(value.clone()),
        Value::String(text) if text.len() <= TEXT_BYTES_MAX => number(&plain(text.trim(), decimal)?),
        _ => None,
    }
}

/// The text with a point and without what groups its digits; `None` when these stand where they can't.
fn plain(text: &str, decimal: char) -> Option<String> {
    let (sign, digits) = match text.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = match digits.split_once(decimal) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if fraction.is_some_and(|fraction| !all_digits(fraction)) {
        return None;
    }
    let point = if decimal == ',' { '.' } else { ',' };
    let separator = whole.chars().find(|c| !c.is_ascii_digit());
    let whole = match separator {
        None => whole.to_owned(),
        Some(c) if c == point || matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\'' | '\u{2019}' | '_') => {
            let groups: Vec<&str> = whole.split(c).collect();
            let (first, rest) = groups.split_first()?;
            let grouped = (1..=3).contains(&first.len()) && rest.iter().all(|group| group.len() == 3);
            if !grouped {
                return None;
            }
            groups.concat()
        }
        Some(_) => return None,
    };
    if !all_digits(&whole) {
        return None;
    }
    Some(match fraction {
        Some(fraction) => format!("{sign}{whole}.{fraction}"),
        None => format!("{sign}{whole}"),
    })
}

fn number(plain: &str) -> Option<Value> {
    let exact: Amount = plain.parse().ok()?;
    let whole = plain
        .split_once('.')
        .map_or(plain, |(whole, fraction)| if fraction.bytes().all(|b| b == b'0') { whole } else { plain });
    if let Ok(number) = whole.parse::<i64>() {
        return Some(Value::Int(number));
    }
    if let Ok(number) = whole.parse::<u64>() {
        return Some(Value::from_u64(number));
    }
    let float = Value::Float(plain.parse().ok()?);
    (Amount::of_value(&float) == Ok(Some(exact))).then_some(float)
}
