//! The tables that are scans with no more to them.

use crate::tables::{Make, Out, PROFILE_ID};

/// The columns of `link_facts`.
pub(crate) fn link_facts() -> Vec<Out> {
    let names = [
        "namespace",
        "value",
        "counterpart_namespace",
        "counterpart_value",
        "source",
        "kind",
        "timestamp",
        "message_id",
        "followed",
    ];
    let mut outs = vec![Out::new(PROFILE_ID, Make::ProfileId(1))];
    outs.extend(names.iter().zip(2..).map(|(name, place)| Out::new(*name, Make::Raw(place))));
    outs
}

/// The columns of `quarantine`.
pub(crate) fn quarantine() -> Vec<Out> {
    let names = [
        "source",
        "reason",
        "detail",
        "field",
        "origin",
        "message_id",
        "received_at",
        "resolution",
        "resolved_at",
        "payload",
    ];
    let mut outs = vec![Out::new("id", Make::Hex(0))];
    outs.extend(names.iter().zip(1..).map(|(name, place)| Out::new(*name, Make::Raw(place))));
    outs
}

/// The columns of `segment_members`, and of `segment_overflows`.
pub(crate) fn segment_members() -> Vec<Out> {
    vec![
        Out::new(PROFILE_ID, Make::ProfileId(0)),
        Out::new("segment", Make::Raw(1)),
        Out::new("since", Make::Raw(2)),
    ]
}

/// Raw columns of members: a row has a value in one of the two.
pub(crate) mod member {
    pub(crate) const INSIDE: usize = 3;
    pub(crate) const OVERFLOW: usize = 4;
}
