//! What each table is about: what a row is, what tells rows apart, what each column means.
//!
//! Clients that browse are told; it is no part of the schemas that plans are made of and that nodes agree on.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{FieldRef, Schema, SchemaRef};

use crate::{
    answer::DESCRIPTION,
    seam::{Catalog, Meanings},
};

/// A table.
pub(super) struct About {
    /// What a row is.
    row: &'static str,
    /// The columns that no two rows have all alike, none of them NULL.
    pub key: &'static [&'static str],
    /// Columns with what they mean. `{currency}` stands for the hub's own.
    columns: &'static [(&'static str, &'static str)],
    /// The columns that were registered, if it has any.
    registered: Option<Registered>,
}

/// Columns that were registered.
struct Registered {
    /// What one is of which nobody said more.
    plain: &'static str,
    /// What was said of each, by name.
    said: fn(&Meanings) -> &BTreeMap<String, String>,
}

impl About {
    /// A table's columns with all that is known of them.
    pub(super) fn tell(&self, columns: &SchemaRef, catalog: &Catalog) -> SchemaRef {
        let described = |field: &FieldRef| {
            let mut field = field.as_ref().clone();
            let meaning = self.meaning(field.name(), catalog);
            field.set_metadata([(DESCRIPTION.to_owned(), meaning)].into());
            field
        };
        let fields: Vec<_> = columns.fields().iter().map(described).collect();
        let row = [(DESCRIPTION.to_owned(), self.row.to_owned())].into();
        Arc::new(Schema::new_with_metadata(fields, row))
    }

    fn meaning(&self, column: &str, catalog: &Catalog) -> String {
        if let Some((_, meaning)) = self.columns.iter().find(|(name, _)| *name == column) {
            return meaning.replace("{currency}", &catalog.currency);
        }
        let Some(Registered { plain, said }) = &self.registered else { return String::new() };
        said(&catalog.meanings).get(column).cloned().unwrap_or_else(|| (*plain).to_owned())
    }
}

/// A table, by schema and name.
pub(super) fn about(schema: &str, table: &str) -> &'static About {
    match (schema, table) {
        ("public", "profiles") => &PROFILES,
        ("public", "events") => &EVENTS,
        ("public", "identifiers") => &IDENTIFIERS,
        ("public", "link_facts") => &LINK_FACTS,
        ("public", "segment_members") => &SEGMENT_MEMBERS,
        ("public", "segment_overflows") => &SEGMENT_OVERFLOWS,
        ("public", "quarantine") => &QUARANTINE,
        ("system", "nodes") => &NODES,
        ("system", "shards") => &SHARDS,
        ("system", "sources") => &SOURCES,
        _ => &UNKNOWN,
    }
}

const PROFILE: &str = "The customer's profile at the cut: 32 hexadecimal digits";

static PROFILES: About = About {
    row: "A customer",
    key: &["profile_id"],
    columns: &[
        ("profile_id", "32 hexadecimal digits, by the identifier that was there first"),
        ("identifiers", "JSON list of all identifiers: objects with namespace and value"),
        ("first_seen", "Time of the oldest event; NULL without events"),
        ("last_seen", "Time of the newest event; NULL without events"),
        ("events", "How many events, of all types"),
        ("event_counts", "JSON object: how many track events, by name"),
        ("type_counts", "JSON object: how many events of the other types, by type"),
        ("revenue", "Sum of the revenue in {currency}; NULL where it is too large for the type"),
        (
            "revenue_by_currency",
            "JSON object: sums of the revenue as exact decimal texts, by currency (ISO 4217)",
        ),
        ("sources", "JSON list of the sources that sent something, sorted"),
        ("traits", "JSON object: all traits by name, the newest value of each"),
    ],
    registered: Some(Registered {
        plain: "The newest value of the trait; NULL where there is none, or one of another type",
        said: |meanings| &meanings.traits,
    }),
};

static EVENTS: About = About {
    row: "An event, as it was taken in",
    // A message id tells apart what one source sends under one identifier, and no more.
    key: &["event_key"],
    columns: &[
        ("message_id", "The sender's message id, or one that was made; other senders may have used the same"),
        ("profile_id", PROFILE),
        ("type", "track, identify, page, screen, group or alias"),
        ("name", "The event's, page's or screen's name; NULL where it has none"),
        ("timestamp", "When it happened, corrected for the sender's clock; microseconds, UTC"),
        ("received_at", "When the hub took it in; microseconds, UTC"),
        ("source", "The source that sent it"),
        ("properties", "JSON object: its properties, of identify its traits; NULL without any"),
        ("context", "JSON object: all else that was sent; NULL where that is nothing"),
        ("event_key", "16 bytes: a hash of identifier, source and message_id"),
    ],
    registered: Some(Registered {
        plain: "The property of this name; NULL where there is none, or one of another type",
        said: |meanings| &meanings.properties,
    }),
};

static IDENTIFIERS: About = About {
    row: "An identifier of a customer",
    key: &["namespace", "value"],
    columns: &[
        ("profile_id", PROFILE),
        ("namespace", "What it is an identifier in: user_id, anonymous_id, email, …"),
        ("value", "Its value, normalised"),
        ("first_seen", "Time of the oldest event under it; NULL without events"),
        ("last_seen", "Time of the newest event under it; NULL without events"),
        ("events", "How many events are filed under it"),
    ],
    registered: None,
};

static LINK_FACTS: About = About {
    row: "Two identifiers that a source said are one customer, by the oldest event that says so",
    key: &["namespace", "value", "counterpart_namespace", "counterpart_value", "source", "kind"],
    columns: &[
        ("profile_id", "The profile of the first identifier at the cut: 32 hexadecimal digits"),
        ("namespace", "Namespace of the identifier that the event is filed under"),
        ("value", "Its value, normalised"),
        ("counterpart_namespace", "Namespace of the other identifier"),
        ("counterpart_value", "Its value, normalised"),
        ("source", "The source that sent the event"),
        ("kind", "plain: both stood on one event; alias: an alias event said so"),
        ("timestamp", "The event's time; microseconds, UTC"),
        ("message_id", "The event's message id"),
        (
            "followed",
            "false: the identity rules refuse it by itself; NULL: that follows from the whole profile",
        ),
    ],
    registered: None,
};

static SEGMENT_MEMBERS: About = About {
    row: "A customer in a segment",
    key: &["segment", "profile_id"],
    columns: &[
        ("profile_id", PROFILE),
        ("segment", "The segment's name"),
        ("since", "When it came in; microseconds, UTC"),
    ],
    registered: None,
};

static SEGMENT_OVERFLOWS: About = About {
    row: "A customer of whom can't be said whether it is in a segment, since a bound was passed",
    key: &["segment", "profile_id"],
    columns: &[
        ("profile_id", PROFILE),
        ("segment", "The segment's name"),
        ("since", "Since when it can't be said; microseconds, UTC"),
    ],
    registered: None,
};

static QUARANTINE: About = About {
    row: "An item that could not be taken and was kept",
    key: &["id"],
    columns: &[
        ("id", "32 hexadecimal digits"),
        ("source", "The source that sent it"),
        ("reason", "Why it could not be taken, as a stable code"),
        ("detail", "What is wrong with it, for people"),
        ("field", "The field that is wrong; NULL where it is the item as a whole"),
        ("origin", "Where it stood, as orders.csv:17; NULL where the sender didn't say"),
        ("message_id", "Its message id; NULL without one that can be read"),
        ("received_at", "When the hub took it in; microseconds, UTC"),
        ("resolution", "mended, replayed or dropped; NULL while it is open"),
        ("resolved_at", "When that was; microseconds, UTC; NULL while it is open"),
        ("payload", "What was sent; NULL where that is no UTF-8"),
    ],
    registered: None,
};

static NODES: About = About {
    row: "A node of the cluster",
    key: &["node"],
    columns: &[
        ("node", "Its number"),
        ("address", "Where its clients reach it: host:port"),
        ("alive", "Whether it answers, as far as the node that was asked knows"),
    ],
    registered: None,
};

static SHARDS: About = About {
    row: "A shard: slots, and the nodes with a copy of what lies there",
    key: &["shard"],
    columns: &[
        ("shard", "Its number"),
        ("slots", "How many of the 16,384 slots it owns"),
        ("leader", "The node that leads it; NULL where the node that was asked has not heard of one"),
        ("replicas", "The nodes with a copy, with commas between them"),
    ],
    registered: None,
};

static SOURCES: About = About {
    row: "A system that sends events",
    key: &["name"],
    columns: &[
        ("name", "Its name"),
        ("enabled", "Whether it may send"),
        ("currency", "The currency (ISO 4217) of its amounts that name none; NULL: the hub's"),
    ],
    registered: None,
};

static UNKNOWN: About = About { row: "", key: &[], columns: &[], registered: None };
