//! Sets of slots against a naive set.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

use std::collections::BTreeSet;

use isthmus_domain::slot::{SLOT_COUNT, Slot, SlotRange, SlotRanges};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(SlotRange),
    Remove(SlotRange),
}

/// Mostly within 40 slots, where ranges meet; sometimes the whole space.
fn range() -> impl Strategy<Value = SlotRange> {
    let bounds = prop_oneof![9 => (0_u16..40, 1_u16..12), 1 => (0..SLOT_COUNT, 1..SLOT_COUNT)];
    bounds.prop_map(|(start, len)| SlotRange::new(start, start.saturating_add(len).min(SLOT_COUNT)).unwrap())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![range().prop_map(Step::Insert), range().prop_map(Step::Remove)];
    prop::collection::vec(step, 0..24)
}

fn both(steps: &[Step]) -> (SlotRanges, BTreeSet<u16>) {
    let (mut set, mut naive) = (SlotRanges::new(), BTreeSet::new());
    for step in steps {
        match step {
            Step::Insert(r) => {
                set.insert(*r);
                naive.extend(r.start().number()..r.end_exclusive());
            }
            Step::Remove(r) => {
                set.remove(*r);
                naive.retain(|n| !r.contains(Slot::new(*n).unwrap()));
            }
        }
    }
    (set, naive)
}

fn numbers(set: &SlotRanges) -> BTreeSet<u16> {
    set.slots().map(Slot::number).collect()
}

/// The invariant: sorted, disjoint, not touching.
fn assert_canonical(set: &SlotRanges) {
    let ranges = set.as_slice();
    assert!(ranges.windows(2).all(|w| w[0].end_exclusive() < w[1].start().number()), "{set}");
}

proptest! {
    #[test]
    fn a_set_of_slots_is_a_set(steps in steps(), probe in 0..SLOT_COUNT) {
        let (set, naive) = both(&steps);
        assert_canonical(&set);
        prop_assert_eq!(numbers(&set), naive.clone());
        prop_assert_eq!(usize::from(set.len()), naive.len());
        prop_assert_eq!(set.is_empty(), naive.is_empty());
        for slot in [probe, probe % 50] {
            prop_assert_eq!(set.contains(Slot::new(slot).unwrap()), naive.contains(&slot));
        }
        prop_assert_eq!(SlotRanges::from_bounds(&set.to_bounds()).unwrap(), set);
    }

    #[test]
    fn union_difference_and_intersection_are_those_of_sets(a in steps(), b in steps()) {
        let ((x, naive_x), (y, naive_y)) = (both(&a), both(&b));
        let mut union = x.clone();
        union.union(&y);
        assert_canonical(&union);
        prop_assert_eq!(numbers(&union), naive_x.union(&naive_y).copied().collect());
        let mut rest = x.clone();
        rest.subtract(&y);
        assert_canonical(&rest);
        prop_assert_eq!(numbers(&rest), naive_x.difference(&naive_y).copied().collect());
        prop_assert_eq!(x.intersects(&y), naive_x.intersection(&naive_y).next().is_some());
    }

    #[test]
    fn bounds_that_are_no_set_are_refused(bounds in prop::collection::vec(0_u32..20_000, 0..6)) {
        if let Ok(set) = SlotRanges::from_bounds(&bounds) {
            assert_canonical(&set);
            prop_assert_eq!(set.to_bounds(), bounds);
        }
    }

    #[test]
    fn the_slots_hashes_stand_together(hash in any::<[u8; 16]>()) {
        let slot = Slot::of_hash(&hash);
        prop_assert!(slot.first_hash() <= hash);
        if let Some(next) = Slot::new(slot.number() + 1) {
            prop_assert!(hash < next.first_hash());
        }
    }
}

#[test]
fn the_ends_of_the_space_are_exact() {
    assert_eq!(Slot::new(SLOT_COUNT), None);
    assert_eq!(SlotRanges::all().len(), SLOT_COUNT);
    assert!(SlotRange::new(5, 5).is_err() && SlotRange::new(0, SLOT_COUNT + 1).is_err());
    assert_eq!(SlotRanges::all().to_string(), "0-16383");
    assert_eq!(SlotRanges::new().to_string(), "none");
}
