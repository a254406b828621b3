//! Exact decimals: money is never a float.
//!
//! An amount is read from a decimal text, an integer, or a JSON number. A JSON number has passed through a double, so
//! it means the shortest decimal that reads back to that double: `44.02` is 44.02, and exact up to 15 digits; longer
//! amounts are sent as strings. Sums are exact and have no bound of their own; single amounts are bounded to 40
//! digits on each side of the point, which keeps every addition cheap.
//!
//! Addition is commutative and associative, so a sum does not depend on the order of its parts. Equal amounts have
//! one text: plain digits, at least two of them after the point, no zeros beyond that: `44.00`, `0.125`, `-3.50`.
//!
//! **In memory** an amount is 16 bytes: its canonical digits as an `i64` and how many of them stand after the point.
//! Nearly all money is: it is read, added, compared and written without allocating. Only what has more digits is a
//! [`BigDecimal`], and only that: an amount that fits is never big, so equal amounts are equal in memory too.

use std::cmp::Ordering;
use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::{BigInt, Sign};
use prost::DecodeError;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};

use crate::value::Value;

mod sum;

pub use sum::Sum;

/// The most digits that one amount may have on either side of its point.
pub const DIGITS_MAX: usize = 40;

/// The longest text that is looked at: both sides, sign, point, an exponent, and some zeros.
const TEXT_BYTES_MAX: usize = 128;
/// Digits after the point of the usual amounts, and the least of any text.
const CENTS: u8 = 2;
/// So many digits always fit into an `i64`.
const SMALL_DIGITS: usize = 18;
/// The longest text of a small amount: a sign, zeros or 19 digits, a point.
const SMALL_TEXT_BYTES: usize = 3 + DIGITS_MAX + 20;

/// An exact decimal, possibly negative. As a protobuf message: `string text = 1`, its canonical text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Amount(Repr);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Repr {
    /// `mantissa * 10^-scale`; the scale is the least that is exact, but at least [`CENTS`] and at most
    /// [`DIGITS_MAX`].
    Small { mantissa: i64, scale: u8 },
    /// What doesn't fit. Its scale is anything from [`CENTS`] to [`DIGITS_MAX`].
    Big(Box<BigDecimal>),
}

/// Why something is not an amount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AmountError {
    /// Not a number written in decimal with a point.
    #[error("not a decimal number such as 44.02")]
    NotDecimal,
    /// More than [`DIGITS_MAX`] digits before or after the point.
    #[error("a decimal number with more than 40 digits before or after the point")]
    OutOfBounds,
}

impl Amount {
    /// Nothing.
    pub fn zero() -> Self {
        Self(Repr::Small { mantissa: 0, scale: CENTS })
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        matches!(self.0, Repr::Small { mantissa: 0, .. })
    }

    /// An amount from an integer, a number or a decimal text; `None` where there is none: null or blank text.
    pub fn of_value(value: &Value) -> Result<Option<Self>, AmountError> {
        match value {
            Value::Null => Ok(None),
            Value::Int(n) => Ok(Some(Self::of_wide(i128::from(*n) * 100, CENTS))),
            Value::UInt(n) => Ok(Some(Self::of_wide(i128::from(*n) * 100, CENTS))),
            // Scientific notation holds the shortest digits without the zeros of large and small numbers.
            Value::Float(f) if f.is_finite() => format!("{f:e}").parse().map(Some),
            Value::String(text) if text.trim().is_empty() => Ok(None),
            Value::String(text) => text.parse().map(Some),
            _ => Err(AmountError::NotDecimal),
        }
    }

    /// About how many bytes it takes in memory, for budgets.
    pub fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.heap_bytes()
    }

    /// The part of it that lies elsewhere.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Small { .. } => 0,
            Repr::Big(big) => size_of::<BigDecimal>() + (big.as_bigint_and_scale().0.bits() / 8) as usize + 8,
        }
    }

    /// `mantissa * 10^-scale`, scale within its bounds.
    fn of_wide(mut mantissa: i128, mut scale: u8) -> Self {
        loop {
            // Divisions of an i64 are much cheaper, and nearly all amounts fit into one.
            if let Ok(mut small) = i64::try_from(mantissa) {
                while scale > CENTS && small % 10 == 0 {
                    small /= 10;
                    scale -= 1;
                }
                return Self(Repr::Small { mantissa: small, scale });
            }
            if scale <= CENTS || mantissa % 10 != 0 {
                return Self(Repr::Big(Box::new(BigDecimal::new(BigInt::from(mantissa), scale.into()))));
            }
            mantissa /= 10;
            scale -= 1;
        }
    }

    /// The number for arithmetic that amounts don't have.
    pub fn to_decimal(&self) -> BigDecimal {
        self.to_big()
    }

    /// The largest whole number that is not larger, and whether something is left; `None` where it has too many digits to
    /// be told without arithmetic.
    pub fn floor(&self) -> Option<(i64, bool)> {
        let Repr::Small { mantissa, scale } = &self.0 else { return None };
        match 10_i64.checked_pow((*scale).into()) {
            Some(unit) => Some((mantissa.div_euclid(unit), mantissa.rem_euclid(unit) != 0)),
            // Below one, as there are more digits behind the point than the mantissa has.
            None => Some((if *mantissa < 0 { -1 } else { 0 }, *mantissa != 0)),
        }
    }

    /// An amount from what such arithmetic came to; `None` with more than [`DIGITS_MAX`] digits after the point. As a
    /// sum, it has no bound before the point.
    pub fn of_decimal(number: BigDecimal) -> Option<Self> {
        let number = number.normalized();
        (number.fractional_digit_count() <= DIGITS_MAX as i64).then(|| Self::of_big(number))
    }

    /// Takes a number of at most [`DIGITS_MAX`] digits after the point.
    fn of_big(number: BigDecimal) -> Self {
        let number = number.normalized();
        let number = if number.fractional_digit_count() < i64::from(CENTS) {
            number.with_scale(CENTS.into())
        } else {
            number
        };
        let (integer, scale) = number.as_bigint_and_scale();
        match (i64::try_from(&*integer), u8::try_from(scale)) {
            (Ok(mantissa), Ok(scale)) => Self(Repr::Small { mantissa, scale }),
            _ => Self(Repr::Big(Box::new(number))),
        }
    }

    fn to_big(&self) -> BigDecimal {
        match &self.0 {
            Repr::Small { mantissa, scale } => BigDecimal::new(BigInt::from(*mantissa), i64::from(*scale)),
            Repr::Big(big) => (**big).clone(),
        }
    }

    /// An amount from what [`Display`](fmt::Display) wrote, or of any other text of a decimal with at most
    /// [`DIGITS_MAX`] digits after the point. A sum may have more digits than one amount may, so this is not
    /// [`FromStr`].
    pub(crate) fn of_stored(text: &str) -> Option<Self> {
        plain(text).or_else(|| {
            let number = BigDecimal::from_str(text).ok()?;
            (0..=DIGITS_MAX as i64).contains(&number.fractional_digit_count()).then(|| Self::of_big(number))
        })
    }

    /// Length of the canonical text.
    pub(crate) fn text_bytes(&self) -> usize {
        match &self.0 {
            Repr::Small { mantissa, scale } => {
                let digits = mantissa.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
                usize::from(*mantissa < 0) + digits.max(usize::from(*scale) + 1) + 1
            }
            Repr::Big(big) => big_text(big).len(),
        }
    }

    /// Hands the canonical text to `f`.
    pub(crate) fn with_text<T>(&self, f: impl FnOnce(&str) -> T) -> T {
        match &self.0 {
            Repr::Small { mantissa, scale } => {
                let mut buffer = [b'0'; SMALL_TEXT_BYTES];
                f(small_text(*mantissa, *scale, &mut buffer))
            }
            Repr::Big(big) => f(&big_text(big)),
        }
    }
}

impl Default for Amount {
    fn default() -> Self {
        Self::zero()
    }
}

/// Writes from the end; `buffer` is full of zeros.
fn small_text(mantissa: i64, scale: u8, buffer: &mut [u8; SMALL_TEXT_BYTES]) -> &str {
    let (mut rest, scale) = (mantissa.unsigned_abs(), usize::from(scale).min(DIGITS_MAX));
    let point = SMALL_TEXT_BYTES - scale - 1;
    let mut at = SMALL_TEXT_BYTES;
    while rest > 0 {
        at -= 1;
        if at == point {
            at -= 1;
        }
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    buffer[point] = b'.';
    // At least one digit before the point.
    at = at.min(point - 1);
    if mantissa < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    std::str::from_utf8(&buffer[at..]).unwrap_or_default()
}

fn big_text(number: &BigDecimal) -> String {
    let (integer, mut scale) = number.as_bigint_and_scale();
    let mut digits = integer.magnitude().to_string();
    while scale > i64::from(CENTS) && digits.ends_with('0') {
        digits.pop();
        scale -= 1;
    }
    let scale = scale as usize;
    let sign = if integer.sign() == Sign::Minus { "-" } else { "" };
    if digits.len() <= scale {
        format!("{sign}0.{digits:0>scale$}")
    } else {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        format!("{sign}{whole}.{fraction}")
    }
}

/// Reads `[-] digits [. digits]` of at most [`SMALL_DIGITS`] digits; `None` for any other text.
fn plain(text: &str) -> Option<Amount> {
    let bytes = text.as_bytes();
    let (negative, bytes) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    if bytes.len() > SMALL_DIGITS + 1 {
        return None;
    }
    let (mut mantissa, mut digits, mut point) = (0_i64, 0, None);
    for byte in bytes {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(i64::from(byte - b'0'));
                digits += 1;
            }
            b'.' if point.is_none() && digits > 0 => point = Some(digits),
            _ => return None,
        }
    }
    let scale = digits - point.unwrap_or(digits);
    if digits == 0 || digits > SMALL_DIGITS || (point.is_some() && scale == 0) {
        return None;
    }
    let mantissa = i128::from(if negative { -mantissa } else { mantissa });
    let scale = u8::try_from(scale).ok()?;
    Some(if scale < CENTS {
        Amount::of_wide(mantissa * 10_i128.pow(u32::from(CENTS - scale)), CENTS)
    } else {
        Amount::of_wide(mantissa, scale)
    })
}

impl FromStr for Amount {
    type Err = AmountError;

    /// `[+-] digits [. digits] [e [+-] digits]`, surrounding white space ignored. No grouping, no currency sign.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        use AmountError::{NotDecimal, OutOfBounds};
        let text = text.trim();
        if let Some(amount) = plain(text) {
            return Ok(amount);
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
                OutOfBounds
            } else {
                NotDecimal
            });
        }
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], exponent(&unsigned[at + 1..])?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return Err(NotDecimal),
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return Err(NotDecimal);
        }
        // digits * 10^-scale, with no zeros at either end: only digits that mean something count against the bound.
        let digits = [whole, fraction].concat();
        let kept = digits.trim_end_matches('0');
        let scale = fraction.len() as i64 - exponent - (digits.len() - kept.len()) as i64;
        let kept = kept.trim_start_matches('0');
        if kept.is_empty() {
            return Ok(Self::zero());
        }
        let bound = DIGITS_MAX as i64;
        if kept.len() as i64 - scale > bound || scale > bound {
            return Err(OutOfBounds);
        }
        let magnitude = BigInt::parse_bytes(kept.as_bytes(), 10).ok_or(NotDecimal)?;
        Ok(Self::of_big(BigDecimal::new(if negative { -magnitude } else { magnitude }, scale)))
    }
}

/// An exponent, bounded so that arithmetic on scales can't overflow.
fn exponent(text: &str) -> Result<i64, AmountError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AmountError::NotDecimal);
    }
    text.parse().ok().filter(|e: &i64| e.abs() < 1_000).ok_or(AmountError::OutOfBounds)
}

impl AddAssign<&Amount> for Amount {
    fn add_assign(&mut self, other: &Amount) {
        *self = match (&self.0, &other.0) {
            (Repr::Small { mantissa: a, scale: x }, Repr::Small { mantissa: b, scale: y }) => {
                match (widened(*a, *x, *y), widened(*b, *y, *x)) {
                    (Some(a), Some(b)) => Self::of_wide(a + b, *x.max(y)),
                    _ => Self::of_big(self.to_big() + other.to_big()),
                }
            }
            _ => Self::of_big(self.to_big() + other.to_big()),
        };
    }
}

/// A mantissa of scale `from` as one of scale `to`, if that is larger; `None` when it might not fit.
fn widened(mantissa: i64, from: u8, to: u8) -> Option<i128> {
    // 10^18 times any i64, twice, is within an i128.
    match to.saturating_sub(from) {
        0 => Some(mantissa.into()),
        more @ 1..=18 => Some(i128::from(mantissa) * 10_i128.pow(more.into())),
        _ => None,
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Repr::Small { mantissa: a, scale: x }, Repr::Small { mantissa: b, scale: y }) =
            (&self.0, &other.0)
            && let (Some(a), Some(b)) = (widened(*a, *x, *y), widened(*b, *y, *x))
        {
            return a.cmp(&b);
        }
        self.to_big().cmp(&other.to_big())
    }
}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl prost::Message for Amount {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.with_text(|text| {
            encoding::encode_key(1, WireType::LengthDelimited, buf);
            encoding::encode_varint(text.len() as u64, buf);
            buf.put_slice(text.as_bytes());
        });
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != 1 {
            return encoding::skip_field(wire_type, tag, buf, ctx);
        }
        let mut text = String::new();
        encoding::string::merge(wire_type, &mut text, buf, ctx)?;
        #[expect(deprecated, reason = "prost offers no other way to make an error of one's own")]
        let bad = || DecodeError::new("not an amount");
        *self = Self::of_stored(&text).ok_or_else(bad)?;
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        let text = self.text_bytes();
        encoding::key_len(1) + encoding::encoded_len_varint(text as u64) + text
    }

    fn clear(&mut self) {
        *self = Self::zero();
    }
}

#[cfg(test)]
mod tests;
