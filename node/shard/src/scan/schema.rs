//! The tables that a scan gives, as Arrow schemas. Public: queries name these columns, in this order.
//!
//! Ids are `FixedSizeBinary(16)`, times are microseconds in UTC, texts are UTF-8, those of few values as dictionaries. A *home* is the facet of the home of
//! the profile that a row belongs to, by the facet's identity record at the snapshot's stamp: itself when it has none.
//! So a merge rewrites no file.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// What can be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row for each event.
    Events,
    /// One row for each identifier that something was said under, or that was linked with another.
    Facets,
    /// One row for each pair of identifiers, source and kind of link that a fact counts for.
    LinkFacts,
    /// One row for each item in quarantine, the resolved ones included.
    Quarantine,
}

/// Columns of [`Table::Events`].
pub mod event {
    /// The facet.
    pub const FACET: usize = 0;
    /// Its home.
    pub const HOME: usize = 1;
    /// When it happened.
    pub const TIMESTAMP: usize = 2;
    /// Its deduplication key, which also orders events of one time.
    pub const EVENT_KEY: usize = 3;
    /// The stamp that it was taken in with, as a time.
    pub const RECEIVED_AT: usize = 4;
    /// The number of the domain's `EventType`.
    pub const TYPE: usize = 5;
    /// The source that sent it.
    pub const SOURCE: usize = 6;
    /// The event's, page's or screen's name.
    pub const NAME: usize = 7;
    /// The message id.
    pub const MESSAGE_ID: usize = 8;
    /// Canonical JSON.
    pub const PROPERTIES: usize = 9;
    /// Canonical JSON.
    pub const CONTEXT: usize = 10;
}

/// Columns of [`Table::Facets`].
pub mod facet {
    /// The facet.
    pub const FACET: usize = 0;
    /// Its home.
    pub const HOME: usize = 1;
    /// 1: the facet is the whole profile. Null: it may belong to a profile of several.
    pub const MEMBERS: usize = 2;
    /// The namespace of its identifier.
    pub const NAMESPACE: usize = 3;
    /// The value of its identifier.
    pub const VALUE: usize = 4;
    /// The time of its earliest event; null without events.
    pub const FIRST_SEEN: usize = 5;
    /// The time of its latest event; null without events.
    pub const LAST_SEEN: usize = 6;
    /// How many events it has.
    pub const EVENTS: usize = 7;
    /// `FacetSummary`'s encoding. Summaries of one home add up in any order.
    pub const SUMMARY: usize = 8;
}

/// Columns of [`Table::LinkFacts`].
pub mod link_fact {
    /// The facet of the primary identifier.
    pub const FACET: usize = 0;
    /// Its home.
    pub const HOME: usize = 1;
    /// The primary's namespace.
    pub const NAMESPACE: usize = 2;
    /// The primary's value.
    pub const VALUE: usize = 3;
    /// The counterpart's namespace.
    pub const COUNTERPART_NAMESPACE: usize = 4;
    /// The counterpart's value.
    pub const COUNTERPART_VALUE: usize = 5;
    /// The source that sent the event.
    pub const SOURCE: usize = 6;
    /// `plain` or `alias`.
    pub const KIND: usize = 7;
    /// The event's time.
    pub const TIMESTAMP: usize = 8;
    /// The event's message id.
    pub const MESSAGE_ID: usize = 9;
    /// False: the rules refuse it by itself. Null: only the root of its bundle knows.
    pub const FOLLOWED: usize = 10;
}

/// Columns of [`Table::Quarantine`].
pub mod quarantine {
    /// The entry's id.
    pub const ID: usize = 0;
    /// The source that sent the item.
    pub const SOURCE: usize = 1;
    /// The code of the reason.
    pub const REASON: usize = 2;
    /// What is wrong, for people.
    pub const DETAIL: usize = 3;
    /// Which field is.
    pub const FIELD: usize = 4;
    /// Where the item stood, as the sender said.
    pub const ORIGIN: usize = 5;
    /// The item's message id, when it had a usable one.
    pub const MESSAGE_ID: usize = 6;
    /// The stamp of the command that stored it, as a time.
    pub const RECEIVED_AT: usize = 7;
    /// `mended`, `replayed` or `dropped`; null while it is open.
    pub const RESOLUTION: usize = 8;
    /// The stamp of the command that resolved it, as a time.
    pub const RESOLVED_AT: usize = 9;
    /// What was sent; null where that is no UTF-8.
    pub const PAYLOAD: usize = 10;
}

fn id(name: &str) -> Field {
    Field::new(name, DataType::FixedSizeBinary(16), false)
}

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

/// The type of texts of which there are few: each once, and a number for every row.
pub(super) fn few_values() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn time(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), nullable)
}

static EVENTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        id("facet"),
        id("home"),
        time("timestamp", false),
        id("event_key"),
        time("received_at", false),
        Field::new("type", DataType::UInt8, false),
        Field::new("source", few_values(), false),
        Field::new("name", few_values(), true),
        text("message_id", false),
        text("properties", true),
        text("context", true),
    ]))
});

static FACETS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        id("facet"),
        id("home"),
        Field::new("members", DataType::UInt32, true),
        text("namespace", true),
        text("value", true),
        time("first_seen", true),
        time("last_seen", true),
        Field::new("events", DataType::UInt64, false),
        Field::new("summary", DataType::Binary, false),
    ]))
});

static LINK_FACTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        id("facet"),
        id("home"),
        text("namespace", false),
        text("value", false),
        text("counterpart_namespace", false),
        text("counterpart_value", false),
        text("source", false),
        text("kind", false),
        time("timestamp", false),
        text("message_id", false),
        Field::new("followed", DataType::Boolean, true),
    ]))
});

static QUARANTINE: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        id("id"),
        text("source", false),
        text("reason", false),
        text("detail", true),
        text("field", true),
        text("origin", true),
        text("message_id", true),
        time("received_at", false),
        text("resolution", true),
        time("resolved_at", true),
        text("payload", true),
    ]))
});

/// The columns of a table.
pub fn schema(table: Table) -> SchemaRef {
    let schema = match table {
        Table::Events => &EVENTS,
        Table::Facets => &FACETS,
        Table::LinkFacts => &LINK_FACTS,
        Table::Quarantine => &QUARANTINE,
    };
    Arc::clone(schema)
}
