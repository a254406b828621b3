//! Names of profiles inside the engine: numbers of 128 bits, and texts only where somebody reads them.
//!
//! To those who ask, `profile_id` is a text of 32 hexadecimal digits. To group, join, sort and send such texts costs several
//! times what it costs with the number that they write, so a plan is rewritten before it runs ([`to_numbers`]): tables give
//! numbers, and the digits are made where a name comes out of the plan or goes into a function that wants a text. Both orders
//! are the same.
//!
//! The engine has no whole numbers of 128 bits; it has decimals of that size without digits after the point, and compares,
//! hashes and sorts them as numbers, whatever their digits. They have signs, so the uppermost bit is turned round.

mod fit;
mod plan;

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, Decimal128Array, FixedSizeBinaryArray, StringViewArray, make_view},
    buffer::Buffer,
    datatypes::DataType,
};
use datafusion::common::{Result, ScalarValue};

pub(crate) use self::plan::to_numbers;
use crate::error::broken;

/// Digits of a decimal that any number of 128 bits is called one of.
const PRECISION: u8 = 38;
const SIGN: u128 = 1 << 127;

/// The type of a name inside.
pub(crate) fn number_type() -> DataType {
    DataType::Decimal128(PRECISION, 0)
}

/// The number of an id's 16 bytes.
pub(crate) fn number(id: &[u8]) -> i128 {
    let bytes = id.first_chunk::<16>().copied().unwrap_or_default();
    (u128::from_be_bytes(bytes) ^ SIGN).cast_signed()
}

/// Ids as numbers, each by the name that it has. Rows of one profile often follow each other.
pub(crate) fn numbers<'a>(
    ids: &'a FixedSizeBinaryArray,
    name: impl Fn(&'a [u8]) -> &'a [u8],
) -> Result<ArrayRef> {
    let mut made = Vec::with_capacity(ids.len());
    let (mut last, mut known): (&[u8], i128) = (&[], 0);
    for id in ids {
        // Where the row is NULL, its number is of nothing.
        let Some(id) = id else {
            made.push(0);
            continue;
        };
        if id != last {
            (last, known) = (id, number(name(id)));
        }
        made.push(known);
    }
    let numbers = Decimal128Array::new(made.into(), ids.nulls().cloned());
    Ok(Arc::new(numbers.with_precision_and_scale(PRECISION, 0)?))
}

/// The texts of numbers. Equal ones that follow each other share theirs.
pub(crate) fn texts(numbers: &Decimal128Array) -> Result<ArrayRef> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| DIGITS.get(usize::from(n & 15)).copied().unwrap_or_default();
    let mut texts: Vec<u8> = Vec::with_capacity(numbers.len() * 8);
    let mut views: Vec<u128> = Vec::with_capacity(numbers.len());
    let mut last: Option<(i128, u128)> = None;
    for number in numbers {
        let Some(number) = number else {
            views.push(0);
            continue;
        };
        let view = match last {
            Some((known, view)) if known == number => view,
            _ => {
                let at = u32::try_from(texts.len())
                    .map_err(|_| broken!("a batch of names is larger than a view can tell"))?;
                let bytes = (number.cast_unsigned() ^ SIGN).to_be_bytes();
                texts.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]));
                make_view(texts.get(at as usize..).unwrap_or_default(), 0, at)
            }
        };
        last = Some((number, view));
        views.push(view);
    }
    let nulls = numbers.nulls().cloned();
    Ok(Arc::new(StringViewArray::try_new(views.into(), vec![Buffer::from_vec(texts)], nulls)?))
}

/// The number of a text, if it is one of 32 digits as we write them.
fn number_of_text(text: &str) -> Option<i128> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    if text.len() != 32 || !text.as_bytes().iter().all(is_digit) {
        return None;
    }
    Some((u128::from_str_radix(text, 16).ok()? ^ SIGN).cast_signed())
}

/// A number as a constant.
fn constant(number: Option<i128>) -> ScalarValue {
    ScalarValue::Decimal128(number, PRECISION, 0)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_ids_are_and_ordered_alike(ids in prop::collection::vec(any::<[u8; 16]>(), 2..20)) {
            let array = FixedSizeBinaryArray::try_from_iter(ids.iter()).unwrap();
            let numbers = numbers(&array, |id| id).unwrap();
            let numbers = numbers.as_primitive::<arrow::datatypes::Decimal128Type>();
            let texts = texts(numbers).unwrap();
            for (row, text) in texts.as_string_view().iter().enumerate() {
                let text = text.unwrap();
                prop_assert_eq!(text, isthmus_domain::FacetId::from_bytes(ids[row]).to_string());
                prop_assert_eq!(number_of_text(text), Some(numbers.value(row)));
            }
            for pair in 0..ids.len() - 1 {
                prop_assert_eq!(ids[pair].cmp(&ids[pair + 1]), numbers.value(pair).cmp(&numbers.value(pair + 1)));
            }
        }
    }

    #[test]
    fn other_texts_are_no_numbers() {
        for text in [
            "",
            "00",
            "0000000000000000000000000000000g",
            "0000000000000000000000000000000A",
            "+000000000000000000000000000000a",
        ] {
            assert_eq!(number_of_text(text), None, "{text}");
        }
    }
}
