//! `events`: a row an event, with its profile as of the cut.

use crate::{
    seam::Catalog,
    tables::{Make, Out, registered},
};

/// The column that names a profile, in all tables.
pub(crate) const PROFILE_ID: &str = "profile_id";

/// Raw columns of events.
pub(crate) mod raw {
    pub(crate) const HOME: usize = 1;
    pub(crate) const TIMESTAMP: usize = 2;
    pub(crate) const EVENT_KEY: usize = 3;
    pub(crate) const RECEIVED_AT: usize = 4;
    pub(crate) const TYPE: usize = 5;
    pub(crate) const SOURCE: usize = 6;
    pub(crate) const NAME: usize = 7;
    pub(crate) const MESSAGE_ID: usize = 8;
    pub(crate) const PROPERTIES: usize = 9;
    pub(crate) const CONTEXT: usize = 10;
}

/// The columns, with those of registered properties.
pub(crate) fn events(catalog: &Catalog) -> Vec<Out> {
    let mut outs = vec![
        Out::new("message_id", Make::Raw(raw::MESSAGE_ID)),
        Out::new(PROFILE_ID, Make::ProfileId(raw::HOME)),
        Out::new("type", Make::EventType(raw::TYPE)),
        Out::new("name", Make::Raw(raw::NAME)),
        Out::new("timestamp", Make::Raw(raw::TIMESTAMP)),
        Out::new("received_at", Make::Raw(raw::RECEIVED_AT)),
        Out::new("source", Make::Raw(raw::SOURCE)),
        Out::new("properties", Make::Raw(raw::PROPERTIES)),
        Out::new("context", Make::Raw(raw::CONTEXT)),
        Out::new("event_key", Make::Raw(raw::EVENT_KEY)),
    ];
    let typed = registered(&outs, &catalog.properties, |column| Make::Property(raw::PROPERTIES, column));
    outs.extend(typed);
    outs
}
