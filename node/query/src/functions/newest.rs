//! `isthmus_newest(part)`: the largest of bytes, which is what was said last ([`crate::profiles::latest`]). For the engine itself,
//! see [`crate::tables::ProfilesTable`].
//!
//! `max` would do, but copies what it has found for each group. Most profiles have one such part, so here a group only says
//! which row it is, and rows are held until they are given out.

use std::{mem::size_of, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{
        Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};

use super::fold::{bytes, only};

/// The function.
#[derive(PartialEq, Eq, Hash, Debug)]
pub(super) struct Newest {
    signature: Signature,
}

impl Newest {
    pub(super) fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Binary], Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Newest {
    fn name(&self) -> &'static str {
        "isthmus_newest"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[newest]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Many::default()))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Many::default()))
    }
}

/// Where a part is: the batch, from 1 on, and the row; 0: none has come.
type Place = (u32, u32);

/// Of the rows of each group.
#[derive(Debug, Default)]
struct Many {
    places: Vec<Place>,
    batches: Vec<BinaryArray>,
    /// Rows of the batches.
    rows: usize,
    /// Bytes of the batches.
    bytes: usize,
}

impl Many {
    fn at(&self, (batch, row): Place) -> Option<&[u8]> {
        let batch = self.batches.get((batch as usize).checked_sub(1)?)?;
        Some(batch.value(row as usize))
    }

    fn add(
        &mut self,
        parts: &BinaryArray,
        groups: impl Iterator<Item = usize>,
        filter: Option<&BooleanArray>,
    ) {
        if parts.null_count() == parts.len() {
            return;
        }
        self.hold(parts.clone());
        let batch = u32::try_from(self.batches.len()).unwrap_or(u32::MAX);
        for (row, group) in groups.enumerate() {
            let taken = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if !taken || parts.is_null(row) {
                continue;
            }
            let Some(known) = self.places.get(group).copied() else { continue };
            if self.at(known).is_none_or(|known| known < parts.value(row))
                && let Some(place) = self.places.get_mut(group)
            {
                *place = (batch, u32::try_from(row).unwrap_or(u32::MAX));
            }
        }
    }

    fn hold(&mut self, batch: BinaryArray) {
        let offsets = batch.value_offsets();
        // What is of this batch: many arrays may share one buffer.
        let values = offsets.last().zip(offsets.first()).map_or(0, |(last, first)| last - first);
        self.rows += batch.len();
        self.bytes += usize::try_from(values).unwrap_or(0) + size_of_val(offsets) + batch.len() / 8;
        self.batches.push(batch);
    }

    /// Lets go of rows that no group has any more: of groups that come in order, few are left at a time.
    fn let_go(&mut self) {
        if 2 * self.places.len() > self.rows {
            return;
        }
        let parts = BinaryArray::from_iter(self.places.iter().map(|place| self.at(*place)));
        (self.batches, self.rows, self.bytes) = (Vec::new(), 0, 0);
        for (place, row) in self.places.iter_mut().zip(0_u32..).filter(|(place, _)| place.0 > 0) {
            *place = (1, row);
        }
        if !parts.is_empty() {
            self.hold(parts);
        }
    }

    fn take(&mut self, emit_to: EmitTo) -> BinaryArray {
        let places = emit_to.take_needed(&mut self.places);
        let mut out = BinaryBuilder::with_capacity(places.len(), places.len() * 32);
        places.into_iter().for_each(|place| out.append_option(self.at(place)));
        self.let_go();
        out.finish()
    }
}

impl GroupsAccumulator for Many {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.places.resize(total, Place::default());
        self.add(bytes(values)?, groups.iter().copied(), filter);
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(self.take(emit_to)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![GroupsAccumulator::evaluate(self, emit_to)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        GroupsAccumulator::update_batch(self, states, groups, None, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        only(bytes(values)?, filter)
    }

    fn size(&self) -> usize {
        self.bytes + self.places.capacity() * size_of::<Place>()
    }
}

impl Accumulator for Many {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let parts = bytes(values)?;
        self.places.resize(1, Place::default());
        self.add(parts, std::iter::repeat_n(0, parts.len()), None);
        // Of one group there is no more to hold than what it has found.
        let found = self.take(EmitTo::All);
        self.places.resize(1, Place::default());
        self.add(&found, std::iter::once(0), None);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.places.resize(1, Place::default());
        ScalarValue::try_from_array(&self.take(EmitTo::All), 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + GroupsAccumulator::size(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![Accumulator::evaluate(self)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        Accumulator::update_batch(self, states)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Rows come in batches, some groups are given out before, and all of it is what a map of maxima has.
        #[test]
        fn each_group_has_its_largest(
            batches in prop::collection::vec(
                prop::collection::vec((0..6_usize, prop::option::of("[a-c]{0,3}")), 1..8), 1..6),
            first in 0..4_usize,
        ) {
            let (mut many, mut all) = (Many::default(), Many::default());
            let mut wanted: Vec<Option<Vec<u8>>> = Vec::new();
            for batch in &batches {
                let parts = BinaryArray::from_iter(batch.iter().map(|(_, part)| part.as_ref()));
                let groups: Vec<usize> = batch.iter().map(|(group, _)| *group).collect();
                let total = wanted.len().max(groups.iter().max().map_or(0, |group| group + 1));
                wanted.resize(total, None);
                for (group, part) in batch {
                    let part = part.as_ref().map(|part| part.as_bytes().to_vec());
                    wanted[*group] = wanted[*group].take().max(part);
                }
                let parts: ArrayRef = Arc::new(parts);
                GroupsAccumulator::update_batch(&mut many, std::slice::from_ref(&parts), &groups, None, total).unwrap();
                Accumulator::update_batch(&mut all, &[parts]).unwrap();
            }
            let first = first.min(wanted.len());
            let mut found = Vec::new();
            for part in [EmitTo::First(first), EmitTo::All] {
                let array = GroupsAccumulator::evaluate(&mut many, part).unwrap();
                found.extend(array.as_binary::<i32>().iter().map(|part| part.map(<[u8]>::to_vec)));
                prop_assert!(many.rows <= 2 * many.places.len(), "no more is held than twice what is left");
            }
            prop_assert_eq!(&found, &wanted);
            prop_assert_eq!(GroupsAccumulator::size(&many), many.places.capacity() * size_of::<Place>());
            let largest = wanted.into_iter().flatten().max();
            prop_assert_eq!(Accumulator::evaluate(&mut all).unwrap(), ScalarValue::Binary(largest));
        }
    }
}
