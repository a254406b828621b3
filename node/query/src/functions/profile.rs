//! `isthmus_money(…)`, `isthmus_latest_…(…)`, `isthmus_shown_…(…)`: columns of profiles, of what their facets' parts came to. For
//! the engine itself, see [`crate::tables::ProfilesTable`].

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, Decimal128Builder, StringBuilder},
    datatypes::{DataType, Decimal128Type},
};
use datafusion::{
    common::{Result, exec_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};
use isthmus_domain::Summary;

use crate::{
    error::broken,
    profiles::{self, Person, identifiers, latest},
    seam::ColumnType,
    tables::{ProfileColumn, decimal, type_of},
    values::Typed,
};

/// One of the functions.
#[derive(PartialEq, Eq, Hash, Debug)]
pub(super) struct OfProfile {
    kind: Kind,
    signature: Signature,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    /// Of a sum of decimals, a summary of what no decimal tells, and a currency.
    Money,
    /// Of the newest that was said about a trait.
    Latest(ColumnType),
    /// Of a summary, or a set of identifiers, as JSON.
    Shown(ProfileColumn),
}

impl OfProfile {
    pub(super) fn new(kind: Kind) -> Self {
        let types = match kind {
            Kind::Money => vec![decimal(), DataType::Binary, DataType::Utf8],
            _ => vec![DataType::Binary],
        };
        Self { kind, signature: Signature::exact(types, Volatility::Immutable) }
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        let types = [
            ColumnType::Text,
            ColumnType::Number,
            ColumnType::Integer,
            ColumnType::Boolean,
            ColumnType::Time,
        ];
        let shown = [
            ProfileColumn::Identifiers,
            ProfileColumn::EventCounts,
            ProfileColumn::TypeCounts,
            ProfileColumn::RevenueByCurrency,
            ProfileColumn::Sources,
            ProfileColumn::Traits,
        ];
        let kinds = types.into_iter().map(Kind::Latest).chain(shown.into_iter().map(Kind::Shown));
        kinds.chain([Kind::Money]).map(Self::new)
    }
}

impl ScalarUDFImpl for OfProfile {
    fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Money => "isthmus_money",
            Kind::Latest(ColumnType::Text) => "isthmus_latest_text",
            Kind::Latest(ColumnType::Number) => "isthmus_latest_number",
            Kind::Latest(ColumnType::Integer) => "isthmus_latest_integer",
            Kind::Latest(ColumnType::Boolean) => "isthmus_latest_boolean",
            Kind::Latest(ColumnType::Time) => "isthmus_latest_time",
            Kind::Shown(ProfileColumn::Identifiers) => "isthmus_shown_identifiers",
            Kind::Shown(ProfileColumn::EventCounts) => "isthmus_shown_event_counts",
            Kind::Shown(ProfileColumn::TypeCounts) => "isthmus_shown_type_counts",
            Kind::Shown(ProfileColumn::RevenueByCurrency) => "isthmus_shown_revenue",
            Kind::Shown(ProfileColumn::Sources) => "isthmus_shown_sources",
            Kind::Shown(_) => "isthmus_shown_traits",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match &self.kind {
            Kind::Money => decimal(),
            Kind::Latest(ty) => type_of(*ty),
            Kind::Shown(_) => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args.iter().map(|it| it.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let made = match (&self.kind, arrays.as_slice()) {
            (Kind::Money, [units, large, currency]) => money(units, large, currency)?,
            (Kind::Latest(ty), [all]) => newest(bytes(all)?, *ty),
            (Kind::Shown(column), [all]) => shown(bytes(all)?, column)?,
            _ => return exec_err!("{} has other arguments", self.name()),
        };
        Ok(ColumnarValue::Array(made))
    }
}

fn bytes(array: &ArrayRef) -> Result<&BinaryArray> {
    array.as_binary_opt().ok_or_else(|| broken!("a part of a profile is no bytes"))
}

fn money(units: &ArrayRef, large: &ArrayRef, currency: &ArrayRef) -> Result<ArrayRef> {
    let (Some(units), Some(currency)) =
        (units.as_primitive_opt::<Decimal128Type>(), currency.as_string_opt::<i32>())
    else {
        return exec_err!("isthmus_money has other arguments");
    };
    let large = bytes(large)?;
    let mut out = Decimal128Builder::with_capacity(units.len()).with_data_type(decimal());
    for row in 0..units.len() {
        let sum = if units.is_valid(row) { units.value(row) } else { 0 };
        let large = large.is_valid(row).then(|| large.value(row));
        out.append_option(profiles::money(sum, large, currency.value(row))?);
    }
    Ok(Arc::new(out.finish()))
}

fn newest(all: &BinaryArray, ty: ColumnType) -> ArrayRef {
    let mut out = Typed::new(ty, all.len());
    for bytes in all {
        out.append(bytes.and_then(latest::value), &[]);
    }
    out.finish()
}

fn shown(all: &BinaryArray, column: &ProfileColumn) -> Result<ArrayRef> {
    let mut out = StringBuilder::with_capacity(all.len(), all.len() * 64);
    for bytes in all {
        let (mut known, mut summary) = (BTreeSet::new(), Summary::default());
        match (column, bytes) {
            (ProfileColumn::Identifiers, Some(bytes)) => identifiers::read(bytes, &mut known)?,
            (_, Some(bytes)) => summary = profiles::read(bytes)?,
            (_, None) => {}
        }
        out.append_value(profiles::text(column, &Person::of(&summary, &known)));
    }
    Ok(Arc::new(out.finish()))
}
