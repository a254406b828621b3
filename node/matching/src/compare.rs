//! How two records compare: one [`Level`] a trait, packed into a [`Pattern`].
//!
//! | level | names | addresses, places, text | postcodes, numbers, codes | phones | dates |
//! | --- | --- | --- | --- | --- | --- |
//! | exact | equal | equal | equal | equal | equal |
//! | close | one edit, or Jaro-Winkler from `close_at` | edits per character from `close_at`; the same words in another order | one edit | one edit, or the last eight digits equal | one edit, or day and month swapped |
//! | similar | from `similar_at`, or one is the other's initial | from `similar_at`, or most words in common | two edits of six characters or more | two edits | two edits, or two of year, month and day equal |
//! | swapped | each is the other's partner trait | the same | the same | the same | the same |
//! | different | else | else | else | else | else |
//!
//! Where either side is empty there is no level, and the trait says nothing. An edit puts in, takes out or replaces
//! a character, or swaps two neighbours (optimal string alignment).
//!
//! Two traits that swap are read together: when neither agrees straight but both agree crosswise (one of them
//! exactly), the first is `swapped` and the second says nothing, so that one observation counts once.
//!
//! The order is from cheap to dear: hashes, then masks of characters, which settle nearly all pairs of values that
//! have nothing to do with each other, then `strsim`.

use serde::{Deserialize, Serialize};

use crate::edits;
use crate::kind::Measure;
use crate::plan::{Plan, PlanTrait};
use crate::record::{Prepared, Value};

/// How many levels there are.
pub(crate) const LEVELS: usize = 5;

/// What a comparison of two values came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Equal, once folded.
    Exact = 0,
    /// Equal but for a slip.
    Close = 1,
    /// Something in common.
    Similar = 2,
    /// Equal or close to each other's partner trait.
    Swapped = 3,
    /// None of these.
    Different = 4,
}

/// The levels of all traits of a pair: four bits each, 15 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(u128);

const NONE: u128 = 15;

impl Level {
    /// All levels, best first.
    pub const ALL: [Self; LEVELS] = [Self::Exact, Self::Close, Self::Similar, Self::Swapped, Self::Different];
}

impl Pattern {
    const EMPTY: Self = Self(u128::MAX);

    fn set(&mut self, at: usize, level: Option<Level>) {
        let code = level.map_or(NONE, |level| level as u128);
        self.0 = self.0 & !(NONE << (4 * at)) | code << (4 * at);
    }

    /// The level of the plan's trait number `at`; none when a side was empty (or there is no such trait).
    pub fn level(self, at: usize) -> Option<Level> {
        let shift = u32::try_from(4 * at).ok().filter(|&shift| shift < u128::BITS)?;
        Level::ALL.get((self.0 >> shift & NONE) as usize).copied()
    }

    /// Compares two records that were prepared under this plan.
    pub fn of(plan: &Plan, a: &Prepared, b: &Prepared) -> Self {
        let mut pattern = Self::EMPTY;
        for (at, compared) in plan.traits.iter().enumerate() {
            if let (Some(a), Some(b)) = (value(a, at), value(b, at)) {
                pattern.set(at, Some(straight(compared, a, b)));
            }
        }
        for &(one, two) in &plan.swaps {
            let agrees = |at| matches!(pattern.level(at), Some(Level::Exact | Level::Close));
            if !agrees(one) && !agrees(two) && crosswise(plan, one, two, a, b) {
                pattern.set(one, Some(Level::Swapped));
                pattern.set(two, None);
            }
        }
        pattern
    }
}

fn value(record: &Prepared, at: usize) -> Option<&Value> {
    record.values.get(at).and_then(Option::as_ref)
}

fn crosswise(plan: &Plan, one: usize, two: usize, a: &Prepared, b: &Prepared) -> bool {
    let (Some(a1), Some(a2), Some(b1), Some(b2)) =
        (value(a, one), value(a, two), value(b, one), value(b, two))
    else {
        return false;
    };
    let close = |x, y| straight(&plan.traits[one], x, y) <= Level::Close;
    (a1.same(b2) && close(a2, b1)) || (a2.same(b1) && close(a1, b2))
}

/// The level of two values of one trait; never `Swapped`.
fn straight(compared: &PlanTrait, a: &Value, b: &Value) -> Level {
    if a.same(b) {
        return Level::Exact;
    }
    match compared.kind.measure() {
        Measure::Name => name(compared, a, b),
        Measure::Words => words(compared, a, b),
        Measure::Edits => counted(a, b),
        Measure::Phone => phone(a, b),
        Measure::Date => date(a, b),
    }
}

/// The edits between two texts when they are at most `most`.
fn distance(a: &Value, b: &Value, most: u32) -> Option<u32> {
    let least = a.lacking(b).max(b.lacking(a)).max(a.chars.abs_diff(b.chars));
    if least > most {
        return None;
    }
    let distance = edits::edits(&a.text, &b.text);
    (distance <= most).then_some(distance)
}

fn name(compared: &PlanTrait, a: &Value, b: &Value) -> Level {
    let (short, long) = if a.chars <= b.chars { (a, b) } else { (b, a) };
    if short.chars == 1 {
        return if long.text.starts_with(&*short.text) { Level::Similar } else { Level::Different };
    }
    // What Jaro-Winkler can come to at most: all characters match but those that have no counterpart, in order.
    let matching = f64::from((short.chars - short.lacking(long)).min(long.chars - long.lacking(short)));
    let jaro = (matching / f64::from(short.chars) + matching / f64::from(long.chars) + 1.0) / 3.0;
    let prefix = a.text.bytes().zip(b.text.bytes()).take(4).take_while(|(a, b)| a == b).count();
    if jaro + 0.1 * prefix as f64 * (1.0 - jaro) < compared.similar_at {
        return Level::Different;
    }
    if short.chars >= 3 && distance(a, b, 1).is_some() {
        return Level::Close;
    }
    graded(compared, strsim::jaro_winkler(&a.text, &b.text))
}

fn words(compared: &PlanTrait, a: &Value, b: &Value) -> Level {
    if !a.words.is_empty() && a.words == b.words {
        return Level::Close;
    }
    let length = f64::from(a.chars.max(b.chars));
    let most = ((1.0 - compared.similar_at) * length + 1e-9) as u32;
    if let Some(distance) = distance(a, b, most) {
        return graded(compared, 1.0 - f64::from(distance) / length);
    }
    let common = in_common(&a.words, &b.words);
    let all = a.words.len() + b.words.len() - common;
    if common >= 2 && common * 5 >= all * 3 { Level::Similar } else { Level::Different }
}

fn graded(compared: &PlanTrait, similarity: f64) -> Level {
    if similarity >= compared.close_at {
        Level::Close
    } else if similarity >= compared.similar_at {
        Level::Similar
    } else {
        Level::Different
    }
}

/// How many elements two sorted slices have in common.
fn in_common(a: &[u32], b: &[u32]) -> usize {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        common += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    common
}

fn counted(a: &Value, b: &Value) -> Level {
    match distance(a, b, 2) {
        Some(1) => Level::Close,
        Some(2) if a.chars.min(b.chars) >= 6 => Level::Similar,
        _ => Level::Different,
    }
}

fn phone(a: &Value, b: &Value) -> Level {
    // Folding left letters and digits; eight digits are more than any country's subscribers share at random.
    let tail = |value: &Value| {
        value.text.len().checked_sub(8).and_then(|at| value.text.get(at..).map(str::to_owned))
    };
    if tail(a).is_some_and(|end| tail(b).as_ref() == Some(&end)) { Level::Close } else { counted(a, b) }
}

fn date(a: &Value, b: &Value) -> Level {
    let parts = |value: &Value| {
        let text = value.text.as_bytes();
        <[u8; 8]>::try_from(text).ok().filter(|text| text.iter().all(u8::is_ascii_digit))
    };
    if let (Some(a), Some(b)) = (parts(a), parts(b)) {
        if a[..4] == b[..4] && a[4..6] == b[6..] && a[6..] == b[4..6] {
            return Level::Close;
        }
        let equal = [a[..4] == b[..4], a[4..6] == b[4..6], a[6..] == b[6..]];
        if equal.into_iter().filter(|&equal| equal).count() == 2 {
            // A slip within one part; of two characters at most, so never more than two edits.
            let differing = a.iter().zip(&b).filter(|(a, b)| a != b).count();
            let (y, z) = (&a[4..], &b[4..]);
            let neighbours = equal[0] && (y[0] == z[1] && y[1] == z[0] || y[2] == z[3] && y[3] == z[2]);
            let in_year = !equal[0]
                && differing == 2
                && (0..3).any(|i| a[i] == b[i + 1] && a[i + 1] == b[i] && a[i] != b[i]);
            return if differing == 1 || neighbours || in_year { Level::Close } else { Level::Similar };
        }
    }
    match distance(a, b, 2) {
        Some(1) => Level::Close,
        Some(2) => Level::Similar,
        _ => Level::Different,
    }
}
