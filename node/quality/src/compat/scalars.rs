//! Bounds of numbers, lengths and counts: exact, or not comparable.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::facts::Facts;

/// Whole numbers up to here are exact as doubles.
const EXACT_MAX: i128 = 1 << 53;

/// Which of two numbers is larger; `None` where a double can't tell.
fn compared(a: &Number, b: &Number) -> Option<Ordering> {
    let whole = |n: &Number| n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (a_whole, b_whole) => {
            let exact = |whole: Option<i128>| whole.is_none_or(|n| n.abs() <= EXACT_MAX);
            if !exact(a_whole) || !exact(b_whole) {
                return None;
            }
            a.as_f64()?.partial_cmp(&b.as_f64()?)
        }
    }
}

/// Whether a bound follows from the facts.
pub(super) fn bound(facts: &Facts<'_>, keyword: &str, value: &Value) -> bool {
    let Some(wanted) = value.as_number() else { return false };
    let stated = |keyword: &'static str| facts.all().filter_map(move |fact| fact.get(keyword)?.as_number());
    let any = |keyword: &'static str, good: &[Ordering]| {
        stated(keyword).any(|known| compared(known, wanted).is_some_and(|order| good.contains(&order)))
    };
    const AT_LEAST: &[Ordering] = &[Ordering::Equal, Ordering::Greater];
    const AT_MOST: &[Ordering] = &[Ordering::Equal, Ordering::Less];
    const MORE: &[Ordering] = &[Ordering::Greater];
    const LESS: &[Ordering] = &[Ordering::Less];
    let none_needed = compared(&Number::from(0), wanted) == Some(Ordering::Equal);
    match keyword {
        "minimum" => any("minimum", AT_LEAST) || any("exclusiveMinimum", AT_LEAST),
        "exclusiveMinimum" => any("minimum", MORE) || any("exclusiveMinimum", AT_LEAST),
        "maximum" => any("maximum", AT_MOST) || any("exclusiveMaximum", AT_MOST),
        "exclusiveMaximum" => any("maximum", LESS) || any("exclusiveMaximum", AT_MOST),
        "multipleOf" => stated("multipleOf").any(|known| divides(wanted, known)),
        "minLength" => none_needed || any("minLength", AT_LEAST),
        "minItems" => none_needed || any("minItems", AT_LEAST),
        "minProperties" => none_needed || any("minProperties", AT_LEAST),
        "maxLength" => any("maxLength", AT_MOST),
        "maxItems" => any("maxItems", AT_MOST),
        "maxProperties" => any("maxProperties", AT_MOST),
        _ => false,
    }
}

/// Whether multiples of `known` are multiples of `wanted`. Of fractions only equal ones: how validators divide them
/// is not exact.
fn divides(wanted: &Number, known: &Number) -> bool {
    match (wanted.as_u64(), known.as_u64()) {
        (Some(wanted), Some(known)) => wanted != 0 && known % wanted == 0,
        _ => wanted == known,
    }
}
