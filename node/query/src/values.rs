//! JSON texts as typed values, read as segments read them, so that a segment and a query agree on what a number is.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, BooleanBuilder, Decimal128Builder, Int64Builder, StringArray, StringViewBuilder,
        TimestampMicrosecondBuilder,
    },
    datatypes::i256,
};
use bigdecimal::{BigDecimal, RoundingMode, num_bigint::BigInt};
use datafusion::common::Result;
use isthmus_domain::Amount;
use isthmus_segment::{Scalar, Type, sql::read};
use memchr::memmem;

use crate::{
    seam::ColumnType,
    tables::{DECIMAL, decimal},
};

/// A value of a registered trait or property, in memory of its own.
pub(crate) enum Typed {
    Text(StringViewBuilder),
    Number(Decimal128Builder),
    Integer(Int64Builder),
    Boolean(BooleanBuilder),
    Time(TimestampMicrosecondBuilder),
}

impl Typed {
    pub(crate) fn new(ty: ColumnType, rows: usize) -> Self {
        match ty {
            ColumnType::Text => Self::Text(StringViewBuilder::with_capacity(rows)),
            ColumnType::Number => {
                Self::Number(Decimal128Builder::with_capacity(rows).with_data_type(decimal()))
            }
            ColumnType::Integer => Self::Integer(Int64Builder::with_capacity(rows)),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            ColumnType::Time => {
                Self::Time(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"))
            }
        }
    }

    /// Appends what stands under the keys; NULL where that is of another type.
    pub(crate) fn append(&mut self, json: Option<&str>, keys: &[String]) {
        let value = |ty| json.and_then(|json| read(json, keys, ty));
        match self {
            Self::Text(out) => match value(Type::Text) {
                Some(Scalar::Text(text)) => out.append_value(text),
                // A list or an object as it is written.
                _ => out.append_option(json.filter(|json| keys.is_empty() && json.starts_with(['[', '{']))),
            },
            Self::Number(out) => out.append_option(number(value(Type::Number)).and_then(|n| to_decimal(&n))),
            Self::Integer(out) => {
                let whole = number(value(Type::Number)).and_then(|n| n.floor()).filter(|(_, rest)| !rest);
                out.append_option(whole.map(|(whole, _)| whole));
            }
            Self::Boolean(out) => out.append_option(match value(Type::Boolean) {
                Some(Scalar::Boolean(b)) => Some(b),
                _ => None,
            }),
            Self::Time(out) => out.append_option(match value(Type::Time) {
                Some(Scalar::Time(micros)) => Some(micros),
                _ => None,
            }),
        }
    }

    pub(crate) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(out) => Arc::new(out.finish()),
            Self::Number(out) => Arc::new(out.finish()),
            Self::Integer(out) => Arc::new(out.finish()),
            Self::Boolean(out) => Arc::new(out.finish()),
            Self::Time(out) => Arc::new(out.finish()),
        }
    }
}

fn number(value: Option<Scalar<'_>>) -> Option<Amount> {
    if let Some(Scalar::Number(number)) = value { Some(number) } else { None }
}

/// What stands under the keys of each text.
pub(crate) fn typed(texts: &StringArray, ty: ColumnType, keys: &[String]) -> Result<ArrayRef> {
    let mut out = Typed::new(ty, texts.len());
    // Most events don't have most properties: a look for the key spares reading the text. A key that is written with
    // escapes would be missed.
    let is_plain = |key: &&String| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let finder = match keys {
        [key] => {
            Some(key).filter(is_plain).map(|key| memmem::Finder::new(&format!("\"{key}\"")).into_owned())
        }
        _ => None,
    };
    for json in texts {
        let json = json.filter(|json| finder.as_ref().is_none_or(|it| it.find(json.as_bytes()).is_some()));
        out.append(json, keys);
    }
    Ok(out.finish())
}

/// An amount as money and registered numbers are shown, rounded half away from zero; `None` when it is too large.
pub(crate) fn to_decimal(amount: &Amount) -> Option<i128> {
    let (precision, scale) = DECIMAL;
    let rounded = amount.to_decimal().with_scale_round(scale.into(), RoundingMode::HalfUp);
    let (digits, _) = rounded.into_bigint_and_exponent();
    let digits = i128::try_from(&digits).ok()?;
    (digits.unsigned_abs() < 10_u128.checked_pow(precision.into())?).then_some(digits)
}

/// Digits of the numbers of `isthmus_number` and its like.
pub(crate) const WIDE: (u8, i8) = (76, 20);

/// An amount as `DECIMAL(76, 20)`; `None` when it doesn't fit.
pub(crate) fn to_wide(amount: &Amount) -> Option<i256> {
    let (digits, scale) = amount.to_decimal().into_bigint_and_exponent();
    let scaled = if scale <= WIDE.1.into() {
        let shift = u32::try_from(i64::from(WIDE.1) - scale).ok()?;
        digits * BigInt::from(10).pow(shift)
    } else {
        return None;
    };
    // 76 digits are just below 2^253.
    let limit = BigInt::from(10).pow(WIDE.0.into());
    if scaled >= limit || scaled <= -limit {
        return None;
    }
    let mut bytes = if scaled.sign() == bigdecimal::num_bigint::Sign::Minus { [0xff; 32] } else { [0; 32] };
    for (to, from) in bytes.iter_mut().zip(scaled.to_signed_bytes_le()) {
        *to = from;
    }
    Some(i256::from_le_bytes(bytes))
}

/// The other way round.
pub(crate) fn of_wide(wide: i256) -> Option<Amount> {
    Amount::of_decimal(BigDecimal::new(BigInt::from_signed_bytes_le(&wide.to_le_bytes()), WIDE.1.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_go_to_wide_decimals_and_back() {
        for text in [
            "0.00",
            "44.02",
            "-0.00000000000000000001",
            "99999999999999999999999999999.5",
            "-12345678901234567890.125",
        ] {
            let amount: Amount = text.parse().unwrap();
            let wide = to_wide(&amount).unwrap();
            assert_eq!(of_wide(wide).unwrap(), amount, "{text}");
        }
        assert_eq!(to_wide(&"1.000000000000000000001".parse().unwrap()), None, "21 digits after the point");
    }

    #[test]
    fn money_is_rounded_half_away_from_zero() {
        let of = |text: &str| to_decimal(&text.parse().unwrap());
        assert_eq!(of("1.5"), Some(150_000_000));
        assert_eq!(of("0.000000005"), Some(1));
        assert_eq!(of("-0.000000005"), Some(-1));
        assert_eq!(of("0.0000000049"), Some(0));
        assert_eq!(of("1000000000000000000000000000000"), None);
    }
}
