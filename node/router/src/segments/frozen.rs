//! Who is in which segment at a cut, as a shard's evaluator has handed it out to a query.

use std::sync::Arc;

use isthmus_domain::{FacetId, Stamp};
use roaring::RoaringBitmap;

/// What a query wants to know of who is in which segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentsWanted {
    /// Of these segments; `None`: of all.
    pub names: Option<Vec<String>>,
    /// With since when.
    pub since: bool,
}

/// A segment at a cut: sets of the numbers of profiles.
#[derive(Clone, Debug, Default)]
pub struct FrozenSegment {
    /// Its name.
    pub name: String,
    /// Who is in it.
    pub inside: RoaringBitmap,
    /// Of whom it can't be said.
    pub overflows: RoaringBitmap,
    /// Since when, if that was wanted: of all that are in it by rising numbers, then of those of whom it can't be said.
    pub since: Vec<Stamp>,
}

/// A shard's segments at a cut.
#[derive(Clone, Debug, Default)]
pub struct FrozenMembers {
    /// The stamp.
    pub at: Stamp,
    /// The homes of profiles, by number.
    pub homes: Arc<Vec<FacetId>>,
    /// The segments.
    pub segments: Vec<FrozenSegment>,
}

impl FrozenMembers {
    /// The rows of a segment: the home, whether it can't be said, and since when; the cut's stamp where that wasn't wanted.
    pub fn rows<'a>(&'a self, of: &'a FrozenSegment) -> impl Iterator<Item = (FacetId, bool, Stamp)> + 'a {
        let inside = of.inside.iter().map(|number| (number, false));
        let all = inside.chain(of.overflows.iter().map(|number| (number, true)));
        let since = of.since.iter().copied().chain(std::iter::repeat(self.at));
        all.zip(since).filter_map(|((number, overflow), since)| {
            Some((*self.homes.get(number as usize)?, overflow, since))
        })
    }
}
