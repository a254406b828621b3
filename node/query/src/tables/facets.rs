//! What is made of facets besides profiles: `identifiers`, and what tells who founded a profile.

use crate::tables::{Make, Out, PROFILE_ID};

/// Raw columns of facets.
pub(crate) mod raw {
    pub(crate) const FACET: usize = 0;
    pub(crate) const HOME: usize = 1;
    pub(crate) const NAMESPACE: usize = 3;
    pub(crate) const VALUE: usize = 4;
    pub(crate) const FIRST_SEEN: usize = 5;
    pub(crate) const LAST_SEEN: usize = 6;
    pub(crate) const EVENTS: usize = 7;
    pub(crate) const SUMMARY: usize = 8;
}

/// What tells a founder.
pub(super) const FOUNDER_NEEDS: [usize; 4] = [raw::FACET, raw::NAMESPACE, raw::VALUE, raw::FIRST_SEEN];

/// The columns of `identifiers`: those that the shards know by name.
pub(crate) fn identifiers() -> Vec<Out> {
    vec![
        Out::new(PROFILE_ID, Make::ProfileId(raw::HOME)),
        Out::new("namespace", Make::Raw(raw::NAMESPACE)),
        Out::new("value", Make::Raw(raw::VALUE)),
        Out::new("first_seen", Make::Raw(raw::FIRST_SEEN)),
        Out::new("last_seen", Make::Raw(raw::LAST_SEEN)),
        Out::new("events", Make::Raw(raw::EVENTS)),
    ]
}

/// Homes, and what tells who founded their profiles.
pub(crate) fn founders() -> Vec<Out> {
    vec![Out::new("home", Make::Raw(raw::HOME)), Out::new("founder", Make::Founder)]
}
