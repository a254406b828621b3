//! Exact decimals: money is never a float.
//!
//! An amount is read from a decimal text, an integer, or a JSON number. A JSON number has passed through a double, so
//! it means the shortest decimal that reads back to that double: `44.02` is 44.02, and exact up to 15 digits; longer
//! amounts are sent as strings. Sums are exact and have no bound of their own; single amounts are bounded to 40
//! digits on each side of the point, which keeps every addition cheap.
//!
//! Addition is commutative and associative, so a sum does not depend on the order of its parts. Equal amounts have
//! one text: plain digits, at least two of them after the point, no zeros beyond that: `44.00`, `0.125`, `-3.50`.

use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::{BigInt, Sign};
use prost::DecodeError;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};

use crate::value::Value;

/// The most digits that one amount may have on either side of its point.
pub const DIGITS_MAX: usize = 40;

/// The longest text that is looked at: both sides, sign, point, an exponent, and some zeros.
const TEXT_BYTES_MAX: usize = 128;

/// An exact decimal, possibly negative. As a protobuf message: `string text = 1`, its canonical text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Amount(BigDecimal);

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
        Self::default()
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.0.sign() == Sign::NoSign
    }

    /// An amount from an integer, a number or a decimal text; `None` where there is none: null or blank text.
    pub fn of_value(value: &Value) -> Result<Option<Self>, AmountError> {
        match value {
            Value::Null => Ok(None),
            Value::Int(n) => Ok(Some(Self(BigDecimal::from(*n)))),
            Value::UInt(n) => Ok(Some(Self(BigDecimal::from(*n)))),
            // Scientific notation holds the shortest digits without the zeros of large and small numbers.
            Value::Float(f) if f.is_finite() => format!("{f:e}").parse().map(Some),
            Value::String(text) if text.trim().is_empty() => Ok(None),
            Value::String(text) => text.parse().map(Some),
            _ => Err(AmountError::NotDecimal),
        }
    }

    /// About how many bytes it takes in memory, for budgets.
    pub fn weight_bytes(&self) -> usize {
        size_of::<Self>() + (self.0.as_bigint_and_scale().0.bits() / 8) as usize
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    /// `[+-] digits [. digits] [e [+-] digits]`, surrounding white space ignored. No grouping, no currency sign.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        use AmountError::{NotDecimal, OutOfBounds};
        let text = text.trim();
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
        let magnitude = match kept.parse::<i64>() {
            Ok(small) => BigInt::from(small),
            Err(_) => BigInt::parse_bytes(kept.as_bytes(), 10).ok_or(NotDecimal)?,
        };
        let signed = if negative { -magnitude } else { magnitude };
        // Cents at least: sums of amounts of one scale need no rescaling.
        Ok(Self(BigDecimal::new(signed, scale).with_scale(scale.max(2))))
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
        self.0 += &other.0;
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (integer, scale) = self.0.as_bigint_and_scale();
        let mut digits = integer.magnitude().to_string();
        let mut scale = scale;
        while scale > 2 && digits.ends_with('0') {
            digits.pop();
            scale -= 1;
        }
        while scale < 2 {
            digits.push('0');
            scale += 1;
        }
        let scale = scale as usize;
        if integer.sign() == Sign::Minus {
            f.write_str("-")?;
        }
        if digits.len() <= scale {
            write!(f, "0.{digits:0>scale$}")
        } else {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            // Zero times a power of ten: one zero is enough before the point.
            let whole = if integer.sign() == Sign::NoSign { "0" } else { whole };
            write!(f, "{whole}.{fraction}")
        }
    }
}

impl prost::Message for Amount {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encoding::string::encode(1, &self.to_string(), buf);
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
        // A sum may have more digits than one amount may, so this doesn't go through `from_str`.
        let parsed = BigDecimal::from_str(&text)
            .ok()
            .filter(|d| (0..=DIGITS_MAX as i64).contains(&d.fractional_digit_count()));
        #[expect(deprecated, reason = "prost offers no other way to make an error of one's own")]
        let bad = || DecodeError::new("not an amount");
        self.0 = parsed.ok_or_else(bad)?;
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        encoding::string::encoded_len(1, &self.to_string())
    }

    fn clear(&mut self) {
        *self = Self::zero();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    #[test]
    fn an_amount_has_one_text() {
        for (text, canonical) in [
            ("44.02", "44.02"),
            ("44", "44.00"),
            ("44.0200", "44.02"),
            (" +0044.1 ", "44.10"),
            ("-3.5", "-3.50"),
            ("-0", "0.00"),
            ("0.000", "0.00"),
            ("0e900", "0.00"),
            (".125", "0.125"),
            ("1e3", "1000.00"),
            ("1.25E-2", "0.0125"),
            ("100000000000000000000000000000.01", "100000000000000000000000000000.01"),
        ] {
            let amount: Amount = text.parse().unwrap();
            assert_eq!(amount.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse::<Amount>().unwrap(), amount);
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        use AmountError::*;
        let wide = |n: usize| "9".repeat(n);
        assert!(wide(40).parse::<Amount>().is_ok());
        assert!(format!("0.{}", wide(40)).parse::<Amount>().is_ok());
        for (text, error) in [
            ("", NotDecimal),
            ("-", NotDecimal),
            (".", NotDecimal),
            ("5.", NotDecimal),
            ("1,5", NotDecimal),
            ("1 000", NotDecimal),
            ("$5", NotDecimal),
            ("0x10", NotDecimal),
            ("1e", NotDecimal),
            ("1e+-5", NotDecimal),
            ("NaN", NotDecimal),
            ("1e400", OutOfBounds),
            ("1e99999999999999999999", OutOfBounds),
            ("1e-41", OutOfBounds),
            (&wide(41), OutOfBounds),
            (&wide(500), OutOfBounds),
            (&format!("0.{}", wide(41)), OutOfBounds),
        ] {
            assert_eq!(text.parse::<Amount>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_json_number_means_its_shortest_text() {
        let of = |v: Value| Amount::of_value(&v).unwrap().unwrap().to_string();
        assert_eq!(of(Value::Float(44.02)), "44.02");
        assert_eq!(of(Value::Float(0.1)), "0.10");
        assert_eq!(of(Value::Float(1e21)), "1000000000000000000000.00");
        assert_eq!(of(Value::Int(-7)), "-7.00");
        assert_eq!(of(Value::UInt(u64::MAX)), "18446744073709551615.00");
        assert_eq!(Amount::of_value(&Value::Null), Ok(None));
        assert_eq!(Amount::of_value(&"  ".into()), Ok(None));
        assert_eq!(Amount::of_value(&Value::Bool(true)), Err(AmountError::NotDecimal));
        assert_eq!(Amount::of_value(&Value::Float(1e300)), Err(AmountError::OutOfBounds));
    }

    fn amount() -> impl Strategy<Value = Amount> {
        "-?[0-9]{1,25}(\\.[0-9]{1,25})?".prop_map(|t| t.parse().unwrap())
    }

    fn sum(parts: &[&Amount]) -> Amount {
        let mut total = Amount::zero();
        parts.iter().for_each(|p| total += p);
        total
    }

    proptest! {
        #[test]
        fn a_sum_does_not_depend_on_order_or_grouping(a in amount(), b in amount(), c in amount()) {
            let left = sum(&[&sum(&[&a, &b]), &c]);
            let right = sum(&[&a, &sum(&[&c, &b])]);
            prop_assert_eq!(&left, &right);
            prop_assert_eq!(left.to_string(), right.to_string());
        }

        #[test]
        fn sums_are_exact(cents in prop::collection::vec(-1_000_000_000_i64..1_000_000_000, 0..50)) {
            let amounts: Vec<Amount> = cents.iter().map(|c| {
                let sign = if *c < 0 { "-" } else { "" };
                format!("{sign}{}.{:02}", c.abs() / 100, c.abs() % 100).parse().unwrap()
            }).collect();
            let total: i64 = cents.iter().sum();
            let sign = if total < 0 { "-" } else { "" };
            let expected = format!("{sign}{}.{:02}", total.abs() / 100, total.abs() % 100);
            prop_assert_eq!(sum(&amounts.iter().collect::<Vec<_>>()).to_string(), expected);
        }

        #[test]
        fn an_amount_is_encoded_and_read_back(a in amount()) {
            prop_assert_eq!(Amount::decode(a.encode_to_vec().as_slice()).unwrap(), a);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.eE ]{0,30}|\\PC{0,10}") {
            if let Ok(amount) = text.parse::<Amount>() {
                prop_assert_eq!(amount.to_string().parse::<Amount>().unwrap(), amount);
            }
        }
    }
}
