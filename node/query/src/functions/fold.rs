//! `isthmus_fold(part)` and `isthmus_fold_identifiers(part)`: what the parts of a profile's facets come to. For the engine
//! itself, see [`crate::tables::ProfilesTable`].

use std::{collections::BTreeSet, marker::PhantomData, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{
        Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};
use isthmus_domain::{FacetSummary, Identifier};

use crate::{error::broken, profiles::Whole};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    Summary,
    Identifiers,
}

/// One of the functions.
#[derive(PartialEq, Eq, Hash, Debug)]
pub(super) struct Fold {
    kind: Kind,
    signature: Signature,
}

impl Fold {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, signature: Signature::exact(vec![DataType::Binary], Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Fold {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Summary => "isthmus_fold",
            Kind::Identifiers => "isthmus_fold_identifiers",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[all]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(match self.kind {
            Kind::Summary => Box::new(One::<FacetSummary>::default()),
            Kind::Identifiers => Box::new(One::<BTreeSet<Identifier>>::default()),
        })
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(match self.kind {
            Kind::Summary => Box::new(Many::<FacetSummary>::default()),
            Kind::Identifiers => Box::new(Many::<BTreeSet<Identifier>>::default()),
        })
    }
}

pub(super) fn bytes(values: &[ArrayRef]) -> Result<&BinaryArray> {
    values.first().and_then(|it| it.as_binary_opt()).ok_or_else(|| broken!("a part of a profile is no bytes"))
}

/// Parts as the state that each of them comes to, of rows that pass a filter.
pub(super) fn only(parts: &BinaryArray, filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
    let Some(filter) = filter else { return Ok(vec![Arc::new(parts.clone())]) };
    let left_out: BooleanArray =
        (0..parts.len()).map(|row| Some(!(filter.is_valid(row) && filter.value(row)))).collect();
    Ok(vec![arrow::compute::nullif(parts, &left_out)?])
}

/// What a group's parts come to.
#[derive(Default)]
enum Sum<W> {
    #[default]
    None,
    /// One part: as it came.
    One(Box<[u8]>),
    Whole(Box<W>),
}

impl<W: Whole> Sum<W> {
    fn add(&mut self, part: &[u8]) -> Result<()> {
        let mut whole = match std::mem::take(self) {
            Self::None => {
                *self = Self::One(part.into());
                return Ok(());
            }
            Self::One(first) => {
                let mut whole = Box::<W>::default();
                whole.add(&first)?;
                whole
            }
            Self::Whole(whole) => whole,
        };
        whole.add(part)?;
        *self = Self::Whole(whole);
        Ok(())
    }

    fn weight_bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(part) => part.len(),
            Self::Whole(whole) => whole.weight_bytes(),
        }
    }

    fn write(self, out: &mut BinaryBuilder) -> Result<()> {
        match self {
            Self::None => out.append_null(),
            Self::One(part) => out.append_value(part),
            Self::Whole(whole) => out.append_value(whole.to_part()?),
        }
        Ok(())
    }
}

/// Of all rows.
struct One<W>(Sum<W>);

impl<W> Default for One<W> {
    fn default() -> Self {
        Self(Sum::None)
    }
}

impl<W> std::fmt::Debug for One<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("One")
    }
}

impl<W: Whole + Sync> Accumulator for One<W> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        bytes(values)?.iter().flatten().try_for_each(|part| self.0.add(part))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut out = BinaryBuilder::new();
        std::mem::take(&mut self.0).write(&mut out)?;
        ScalarValue::try_from_array(&out.finish(), 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.0.weight_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

/// Of the rows of each group.
struct Many<W> {
    sums: Vec<Sum<W>>,
    /// Bytes of the sums' own memory.
    bytes: usize,
    of: PhantomData<W>,
}

impl<W> Default for Many<W> {
    fn default() -> Self {
        Self { sums: Vec::new(), bytes: 0, of: PhantomData }
    }
}

impl<W: Whole + Sync> GroupsAccumulator for Many<W> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.sums.resize_with(total, || Sum::None);
        let parts = bytes(values)?;
        if parts.null_count() == parts.len() {
            return Ok(());
        }
        for (row, (part, group)) in parts.iter().zip(groups).enumerate() {
            let taken = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let (Some(part), Some(sum), true) = (part, self.sums.get_mut(*group), taken) {
                let before = sum.weight_bytes();
                sum.add(part)?;
                self.bytes += sum.weight_bytes().saturating_sub(before);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        let mut out = BinaryBuilder::with_capacity(sums.len(), sums.iter().map(Sum::weight_bytes).sum());
        for sum in sums {
            self.bytes = self.bytes.saturating_sub(sum.weight_bytes());
            sum.write(&mut out)?;
        }
        Ok(Arc::new(out.finish()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(states, groups, None, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        only(bytes(values)?, filter)
    }

    fn size(&self) -> usize {
        self.bytes + self.sums.capacity() * size_of::<Sum<W>>()
    }
}
