//! What a facet brings to its profile, in a form in which the parts of many facets are put together by plain aggregates.

use std::{collections::BTreeSet, sync::Arc};

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Decimal128Builder};
use datafusion::common::Result;
use isthmus_domain::{Amount, FacetSummary, Identifier, Summary, SummaryMap, facet::TraitState};

use crate::{
    error::broken,
    scan::Raw,
    tables::{DECIMAL, Part, decimal, facet_raw as raw},
};

/// Sums of money above this, in hundred-millionths, go another way: so many facets as there can be don't exceed a decimal.
const MONEY_MAX: u128 = 1 << 96;

/// A part of each facet.
pub(crate) fn parts(rows: &Raw<'_>, part: &Part) -> Result<ArrayRef> {
    if *part == Part::Identifier {
        let (namespaces, values) = (rows.texts(raw::NAMESPACE)?, rows.texts(raw::VALUE)?);
        let mut out = BinaryBuilder::with_capacity(rows.rows(), rows.rows() * 32);
        for row in 0..rows.rows() {
            if namespaces.is_null(row) || values.is_null(row) {
                out.append_null();
            } else {
                out.append_value(identifiers::write(std::iter::once((
                    namespaces.value(row),
                    values.value(row),
                )))?);
            }
        }
        return Ok(Arc::new(out.finish()));
    }
    let summaries = rows.get(raw::SUMMARY)?.as_binary_opt::<i32>();
    let summaries = summaries.ok_or_else(|| broken!("summaries of facets are no bytes"))?;
    if let Part::Money(currency) = part {
        let mut out = Decimal128Builder::with_capacity(rows.rows()).with_data_type(decimal());
        for bytes in summaries {
            out.append_option(Money::of(&super::read(bytes.unwrap_or_default())?, currency).exact());
        }
        return Ok(Arc::new(out.finish()));
    }
    let mut out = BinaryBuilder::with_capacity(rows.rows(), rows.rows() * 32);
    for bytes in summaries {
        let summary = super::read(bytes.unwrap_or_default())?;
        match part {
            Part::LargeMoney(currency) => match Money::of(&summary, currency) {
                Money::Large => out.append_value(summary.only(SummaryMap::Revenue).to_bytes()),
                Money::None | Money::Exact(_) => out.append_null(),
            },
            Part::Latest(column) => match summary.traits().get(column.name.as_str()) {
                Some(state) => out.append_value(latest::write(state)),
                None => out.append_null(),
            },
            Part::Summary(column) => match column.map() {
                // Most facets say nothing of most: then there is nothing to put together.
                Some(map) if summary.has_none(map) => out.append_null(),
                Some(map) => out.append_value(summary.only(map).to_bytes()),
                None => return Err(broken!("a column shows no map of a summary")),
            },
            Part::Identifier | Part::Money(_) => {}
        }
    }
    Ok(Arc::new(out.finish()))
}

/// What a summary has of a currency.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Money {
    None,
    /// In units of a decimal, which can tell it, and it isn't too large to be added to others.
    Exact(i128),
    /// It goes another way.
    Large,
}

impl Money {
    fn of(summary: &Summary<'_>, currency: &str) -> Self {
        let Some(amount) = summary.revenue().get(currency) else { return Self::None };
        let (digits, scale) = amount.to_decimal().into_bigint_and_exponent();
        let units = || {
            let shift = u32::try_from(i64::from(DECIMAL.1) - scale).ok()?;
            let units = i128::try_from(&digits).ok()?.checked_mul(10_i128.checked_pow(shift)?)?;
            (units.unsigned_abs() <= MONEY_MAX).then_some(units)
        };
        units().map_or(Self::Large, Self::Exact)
    }

    fn exact(self) -> Option<i128> {
        match self {
            Self::Exact(units) => Some(units),
            Self::None | Self::Large => None,
        }
    }
}

/// A sum of money of a profile: what was added up, and what summaries had.
pub(crate) fn money(units: i128, large: Option<&[u8]>, currency: &str) -> Result<Option<i128>> {
    let Some(large) = large else { return Ok(Some(units)) };
    let summary = super::read(large)?;
    let added = Amount::of_decimal(bigdecimal::BigDecimal::new(units.into(), DECIMAL.1.into()));
    let mut sum = added.ok_or_else(|| broken!("a sum of money is no amount"))?;
    if let Some(amount) = summary.revenue().get(currency) {
        sum += amount;
    }
    Ok(crate::values::to_decimal(&sum))
}

/// The newest that was said about a trait, as bytes whose order is the order in which newer is decided.
pub(crate) mod latest {
    use super::TraitState;

    /// Ends a text; a zero within it is followed by a one.
    const END: [u8; 2] = [0, 0];

    pub(super) fn write(state: &TraitState<'_>) -> Vec<u8> {
        let room = 12 + state.source.len() + state.message_id.len() + state.value.len();
        let mut out = Vec::with_capacity(room);
        // Times before 1970 are negative: the sign turned round makes their bytes come first.
        out.extend_from_slice(&(state.timestamp.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        for text in [&state.source, &state.message_id] {
            for byte in text.bytes() {
                out.push(byte);
                if byte == 0 {
                    out.push(1);
                }
            }
            out.extend_from_slice(&END);
        }
        out.extend_from_slice(&state.value);
        out
    }

    /// The value, as JSON; `None` of a trait that was removed.
    pub(crate) fn value(bytes: &[u8]) -> Option<&str> {
        let mut rest = bytes.get(8..)?;
        for _ in 0..2 {
            let end = rest.windows(2).position(|pair| pair == END)?;
            rest = rest.get(end + END.len()..)?;
        }
        std::str::from_utf8(rest).ok().filter(|value| !value.is_empty())
    }
}

/// Sets of identifiers as bytes.
pub(crate) mod identifiers {
    use super::{BTreeSet, Identifier, Result, broken};

    pub(crate) fn write<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Vec<u8>> {
        let all: Vec<(&str, &str)> = all.collect();
        postcard::to_allocvec(&all).map_err(|error| broken!("identifiers can't be written: {error}"))
    }

    pub(crate) fn read(bytes: &[u8], into: &mut BTreeSet<Identifier>) -> Result<()> {
        let all: Vec<(&str, &str)> =
            postcard::from_bytes(bytes).map_err(|error| broken!("identifiers can't be read: {error}"))?;
        into.extend(
            all.into_iter().filter_map(|(namespace, value)| Identifier::from_stored(namespace, value).ok()),
        );
        Ok(())
    }
}

/// Something that parts are put together to.
pub(crate) trait Whole: Default + Send + 'static {
    /// Adds a part.
    fn add(&mut self, part: &[u8]) -> Result<()>;
    /// As a part of something larger.
    fn to_part(&self) -> Result<Vec<u8>>;
    /// Bytes that it takes in memory, about.
    fn weight_bytes(&self) -> usize;
}

impl Whole for FacetSummary {
    fn add(&mut self, part: &[u8]) -> Result<()> {
        self.merge(&super::read(part)?);
        Ok(())
    }

    fn to_part(&self) -> Result<Vec<u8>> {
        Ok(self.to_bytes())
    }

    fn weight_bytes(&self) -> usize {
        Self::weight_bytes(self)
    }
}

impl Whole for BTreeSet<Identifier> {
    fn add(&mut self, part: &[u8]) -> Result<()> {
        identifiers::read(part, self)
    }

    fn to_part(&self) -> Result<Vec<u8>> {
        identifiers::write(self.iter().map(|it| (it.namespace().as_str(), it.value())))
    }

    fn weight_bytes(&self) -> usize {
        self.iter().map(|it| 64 + it.value().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> impl Strategy<Value = TraitState<'static>> {
        let text = || prop_oneof!["[ab\u{0}\u{1}]{0,3}", "[a-z]{0,8}"];
        let time = prop_oneof![Just(0), -5..5_i64, any::<i64>()];
        (time, text(), text(), "(|1|\"x\"|\"\\\\u0000\")").prop_map(
            |(timestamp, source, message_id, value)| TraitState {
                timestamp,
                source: source.into(),
                message_id: message_id.into(),
                value: value.into_bytes().into(),
            },
        )
    }

    proptest! {
        #[test]
        fn the_largest_is_the_newest(one in state(), other in state()) {
            prop_assert_eq!(latest::write(&one).cmp(&latest::write(&other)), one.cmp(&other));
            let value = std::str::from_utf8(&one.value).unwrap().to_owned();
            let written = latest::write(&one);
            prop_assert_eq!(latest::value(&written).unwrap_or_default(), value);
        }
    }

    #[test]
    fn money_that_no_decimal_tells_is_added_exactly() {
        let of = |text: &str| {
            let mut summary = FacetSummary::default();
            let record = isthmus_domain::EventRecord {
                namespace: "user_id".into(),
                value: "u".into(),
                revenue: Some(text.parse().unwrap()),
                currency: "EUR".into(),
                ..Default::default()
            };
            summary.absorb(&record);
            summary
        };
        let parts = ["0.000000005", "0.000000005", "1.5"].map(of);
        let found = parts.each_ref().map(|part| Money::of(part, "EUR"));
        assert_eq!(found, [Money::Large, Money::Large, Money::Exact(150_000_000)]);
        let mut large = FacetSummary::default();
        for part in &parts[..2] {
            large.add(&part.clone().only(SummaryMap::Revenue).to_bytes()).unwrap();
        }
        assert_eq!(money(150_000_000, Some(&large.to_bytes()), "EUR").unwrap(), Some(150_000_001));
        assert_eq!(Money::of(&parts[2], "USD"), Money::None);
    }
}
