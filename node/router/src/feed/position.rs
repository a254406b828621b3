//! How far a reader of the change feed has come. Pure.

use isthmus_domain::SlotRange;
use isthmus_domain::slot::SLOT_COUNT;
use isthmus_shard::feed::Place;

/// The most ranges of a position: of a reader that has come over as many changes of the shard map.
pub const RANGES_MAX: usize = 4_096;

/// Each slot's place in the feed of whatever shard owns it: slots that move keep their place.
///
/// Invariant: ranges are sorted, hold every slot once, and neighbours have different places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPosition(Vec<(SlotRange, Place)>);

impl FeedPosition {
    /// All slots at one place.
    pub fn all(place: Place) -> Self {
        Self(vec![(SlotRange::ALL, place)])
    }

    /// From ranges in order; `None` unless they hold every slot once, and are at most [`RANGES_MAX`].
    pub fn new(ranges: Vec<(SlotRange, Place)>) -> Option<Self> {
        let mut next = 0;
        for (range, _) in &ranges {
            if range.start().number() != next {
                return None;
            }
            next = range.end_exclusive();
        }
        let whole = next == SLOT_COUNT && ranges.len() <= RANGES_MAX;
        whole.then(|| Self(melted(ranges.into_iter())))
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[(SlotRange, Place)] {
        &self.0
    }

    /// The places of some slots.
    pub(crate) fn of(&self, slots: SlotRange) -> impl Iterator<Item = (SlotRange, Place)> {
        self.0.iter().filter_map(move |(range, place)| Some((shared(*range, slots)?, *place)))
    }

    /// Takes note that some slots are known up to a place; a place further on stays.
    pub(crate) fn advance(&mut self, slots: SlotRange, through: Place) {
        let cut = |(range, place): &(SlotRange, Place)| {
            let part = |start: u16, end: u16| SlotRange::new(start, end).ok();
            let (start, end) = (range.start().number(), range.end_exclusive());
            let Some(inner) = shared(*range, slots) else { return vec![(*range, *place)] };
            let before = part(start, inner.start().number()).map(|range| (range, *place));
            let behind = part(inner.end_exclusive(), end).map(|range| (range, *place));
            before.into_iter().chain([(inner, through.max(*place))]).chain(behind).collect()
        };
        self.0 = melted(self.0.iter().flat_map(cut));
    }

    /// The first slots that are not yet as far as in another position.
    pub fn behind(&self, other: &Self) -> Option<SlotRange> {
        self.0.iter().find_map(|(range, place)| {
            other.of(*range).find(|(_, there)| place < there).map(|(range, _)| range)
        })
    }
}

/// The slots that are in both.
fn shared(a: SlotRange, b: SlotRange) -> Option<SlotRange> {
    let start = a.start().number().max(b.start().number());
    SlotRange::new(start, a.end_exclusive().min(b.end_exclusive())).ok()
}

/// Neighbours at one place become one.
fn melted(ranges: impl Iterator<Item = (SlotRange, Place)>) -> Vec<(SlotRange, Place)> {
    let mut whole: Vec<(SlotRange, Place)> = Vec::new();
    for (range, place) in ranges {
        match whole.last_mut() {
            Some((last, at)) if *at == place => {
                if let Ok(both) = SlotRange::new(last.start().number(), range.end_exclusive()) {
                    *last = both;
                }
            }
            _ => whole.push((range, place)),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use isthmus_domain::Stamp;
    use proptest::prelude::*;

    use super::*;

    fn place(stamp: u64) -> Place {
        Place::end_of(Stamp(stamp))
    }

    fn range() -> impl Strategy<Value = SlotRange> {
        (0..SLOT_COUNT, 1..=SLOT_COUNT).prop_map(|(a, b)| SlotRange::new(a.min(b - 1), b.max(a + 1)).unwrap())
    }

    proptest! {
        #[test]
        fn every_slot_has_the_furthest_place_that_it_was_given(
            steps in prop::collection::vec((range(), 1..9_u64), 1..20),
            slots in prop::collection::vec(0..SLOT_COUNT, 20),
        ) {
            let mut position = FeedPosition::all(place(0));
            for (slots, stamp) in &steps {
                position.advance(*slots, place(*stamp));
            }
            for slot in slots.into_iter().map(|number| SlotRange::new(number, number + 1).unwrap()) {
                let given = steps.iter().filter(|(range, _)| range.contains(slot.start()));
                let given = given.map(|(_, stamp)| *stamp).max().unwrap_or(0);
                prop_assert_eq!(position.of(slot).collect::<Vec<_>>(), [(slot, place(given))]);
            }
            prop_assert!(position.ranges().windows(2).all(|w| w[0].1 != w[1].1));
            prop_assert_eq!(FeedPosition::new(position.ranges().to_vec()), Some(position.clone()));
            let parts: Vec<_> = position.of(SlotRange::ALL).collect();
            prop_assert_eq!(&parts[..], position.ranges());
        }
    }

    #[test]
    fn a_position_holds_every_slot_once() {
        let range = |start, end| SlotRange::new(start, end).unwrap();
        let with = |ranges: &[(u16, u16)]| {
            FeedPosition::new(
                ranges.iter().map(|(start, end)| (range(*start, *end), place(*end as u64))).collect(),
            )
        };
        assert!(with(&[(0, 5), (5, SLOT_COUNT)]).is_some());
        for bad in
            [&[][..], &[(0, 5)], &[(0, 5), (6, SLOT_COUNT)], &[(0, 6), (5, SLOT_COUNT)], &[(1, SLOT_COUNT)]]
        {
            assert_eq!(with(bad), None);
        }
    }

    #[test]
    fn what_is_behind_is_named() {
        let mut here = FeedPosition::all(place(5));
        let there = FeedPosition::all(place(5));
        assert_eq!(here.behind(&there), None);
        here.advance(SlotRange::new(0, 100).unwrap(), place(9));
        assert_eq!(here.behind(&there), None);
        assert_eq!(there.behind(&here), SlotRange::new(0, 100).ok());
    }
}
