//! What is made of facets: `profiles`, `identifiers`, and the pieces that profiles of several facets are folded of.

use crate::{
    seam::Catalog,
    tables::{Make, Out, PROFILE_ID, ProfileColumn, registered},
};

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

/// What a column of a profile of one facet needs.
pub(super) fn needs(column: &ProfileColumn) -> Vec<usize> {
    match column {
        ProfileColumn::Id => vec![raw::FACET],
        ProfileColumn::Identifiers => vec![raw::NAMESPACE, raw::VALUE],
        ProfileColumn::FirstSeen => vec![raw::FIRST_SEEN],
        ProfileColumn::LastSeen => vec![raw::LAST_SEEN],
        ProfileColumn::Events => vec![raw::EVENTS],
        _ => vec![raw::SUMMARY],
    }
}

/// The columns of `profiles`, with those of registered traits.
pub(crate) fn profiles(catalog: &Catalog) -> Vec<(String, ProfileColumn)> {
    let fixed = [
        (PROFILE_ID, ProfileColumn::Id),
        ("identifiers", ProfileColumn::Identifiers),
        ("first_seen", ProfileColumn::FirstSeen),
        ("last_seen", ProfileColumn::LastSeen),
        ("events", ProfileColumn::Events),
        ("event_counts", ProfileColumn::EventCounts),
        ("type_counts", ProfileColumn::TypeCounts),
        ("revenue", ProfileColumn::Revenue(catalog.currency.clone())),
        ("revenue_by_currency", ProfileColumn::RevenueByCurrency),
        ("sources", ProfileColumn::Sources),
        ("traits", ProfileColumn::Traits),
    ];
    let fixed = fixed.map(|(name, column)| Out::new(name, Make::Profile(column)));
    let typed = registered(&fixed, &catalog.traits, |column| Make::Profile(ProfileColumn::Trait(column)));
    let all = fixed.into_iter().chain(typed);
    all.filter_map(|out| if let Make::Profile(column) = out.make { Some((out.name, column)) } else { None })
        .collect()
}

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

/// What a fold reads of a facet, in this order; the summary last, and only if it is asked for.
pub(crate) fn piece(with_summary: bool) -> Vec<Out> {
    let mut outs = vec![
        Out::new("home", Make::Raw(raw::HOME)),
        Out::new("facet", Make::Raw(raw::FACET)),
        Out::new("namespace", Make::Raw(raw::NAMESPACE)),
        Out::new("value", Make::Raw(raw::VALUE)),
        Out::new("first_seen", Make::Raw(raw::FIRST_SEEN)),
        Out::new("last_seen", Make::Raw(raw::LAST_SEEN)),
        Out::new("events", Make::Raw(raw::EVENTS)),
    ];
    if with_summary {
        outs.push(Out::new("summary", Make::Raw(raw::SUMMARY)));
    }
    outs
}

/// Homes, and what tells who founded their profiles.
pub(crate) fn founders() -> Vec<Out> {
    vec![Out::new("home", Make::Raw(raw::HOME)), Out::new("founder", Make::Founder)]
}
