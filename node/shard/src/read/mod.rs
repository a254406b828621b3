//! Reads: what the active and the frozen memtable and the runs say together.
//!
//! A read takes a [`View`]: the parts of the active memtable that it asks for, copied, and a hold on what lies below,
//! both of one moment. The rest, which may wait for a disk, happens without any lock. The caller has waited for the
//! read barrier before.

mod all_events;
mod cache;
mod control_rows;
mod count;
mod events;
mod facets;
mod feed;
mod group;
mod identity;
mod matching;
mod names;
mod quality;
mod quarantine;
mod segments;

pub use cache::BaseCache;
pub(crate) use count::count_hash;
pub use events::{EventPosition, EventsPage, events};
pub use facets::{FacetsPage, facet, facets, is_resident, scan};
pub(crate) use feed::feed_is_near;
pub(crate) use feed::oldest;
pub use feed::{FeedPart, FeedQuery, feed};
pub use group::{GroupsPage, MembershipsPage, group, groups, is_unconfirmed, memberships, memberships_among};
pub use identity::{history, is_retracted, is_source_settled, is_unsettled, members, record, root};
pub use matching::{PairQuery, PairsPage, model_parts, pairs};
pub use names::names;
pub use quality::{QualityPart, quality};
pub use quarantine::{
    Expired, QuarantineCounted, QuarantinePage, QuarantineQuery, count, entry, expired, page,
};

pub use all_events::{EventsWanted, all_events};
pub use segments::{homes, segment_members};

use isthmus_domain::Stamp;

use crate::{machine::Shared, state::Lower};

/// A hold on a replica's state at one moment.
pub struct View<T> {
    /// What was taken from the active memtable.
    pub active: T,
    /// What lies below.
    pub lower: Lower,
    /// The stamp of the last command in it.
    pub stamp: Stamp,
}

impl Shared {
    /// Takes what `of` picks from the state, and a hold on what lies below, of the same moment.
    pub(crate) fn view<T>(&self, of: impl FnOnce(&crate::State) -> T) -> View<T> {
        let state = self.state.read();
        // Both locks are held to the end: a freeze changes both parts, a write-out the lower one and the cache.
        let lower = self.lower.read();
        View { active: of(&state), lower: lower.clone(), stamp: state.meta.stamp }
    }
}
