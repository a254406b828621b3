//! What the engine needs of its node: shards at a cut, the catalog, the other nodes.
//!
//! Raw tables have fixed columns, in this order; ids are `FixedSizeBinary(16)`, times `Timestamp(µs, UTC)`, texts `Utf8`,
//! those of few values `Dictionary(Int32, Utf8)`.
//! `home` is the facet id of the home of the profile that a facet belongs to at the cut.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::{
    array::ArrayRef,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
};
use async_trait::async_trait;
use isthmus_domain::{FacetId, Stamp};
use serde::{Deserialize, Serialize};

use crate::error::QueryError;

/// A raw table of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Table {
    /// A row an event.
    Events,
    /// A row a facet: what all its events come to.
    Facets,
    /// A row a statement that two identifiers are one customer.
    LinkFacts,
    /// A row an item that could not be taken.
    Quarantine,
    /// A row for each profile and segment that it is in, or of which that can't be said.
    SegmentMembers,
}

impl Table {
    /// The columns, in the order that [`Request::columns`] counts.
    pub fn schema(self) -> SchemaRef {
        let id = |name: &str| Field::new(name, DataType::FixedSizeBinary(16), false);
        let time = |name: &str| {
            Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false)
        };
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let few = |name: &str| {
            let ty = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            Field::new(name, ty, false)
        };
        let maybe = |field: Field| field.with_nullable(true);
        let fields = match self {
            Self::Events => vec![
                id("facet"),
                id("home"),
                time("timestamp"),
                id("event_key"),
                time("received_at"),
                Field::new("type", DataType::UInt8, false),
                few("source"),
                maybe(few("name")),
                text("message_id"),
                maybe(text("properties")),
                maybe(text("context")),
            ],
            Self::Facets => vec![
                id("facet"),
                id("home"),
                Field::new("members", DataType::UInt32, true),
                maybe(text("namespace")),
                maybe(text("value")),
                maybe(time("first_seen")),
                maybe(time("last_seen")),
                Field::new("events", DataType::UInt64, false),
                Field::new("summary", DataType::Binary, false),
            ],
            Self::LinkFacts => vec![
                id("facet"),
                id("home"),
                text("namespace"),
                text("value"),
                text("counterpart_namespace"),
                text("counterpart_value"),
                text("source"),
                text("kind"),
                time("timestamp"),
                text("message_id"),
                Field::new("followed", DataType::Boolean, true),
            ],
            Self::Quarantine => vec![
                id("id"),
                text("source"),
                text("reason"),
                maybe(text("detail")),
                maybe(text("field")),
                maybe(text("origin")),
                maybe(text("message_id")),
                time("received_at"),
                maybe(text("resolution")),
                maybe(time("resolved_at")),
                maybe(text("payload")),
            ],
            Self::SegmentMembers => vec![
                id("home"),
                text("segment"),
                time("since"),
                // There is a value where the profile is in the segment, and in the other where it can't be said.
                Field::new("inside", DataType::Boolean, true),
                Field::new("overflow", DataType::Boolean, true),
            ],
        };
        Arc::new(Schema::new(fields))
    }
}

/// What a scan need not give. `None` and empty restrict nothing. Exact for events; of other tables rows outside may still come
/// out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Filters {
    /// Least and largest `timestamp`, microseconds, both included.
    pub timestamp: (Option<i64>, Option<i64>),
    /// Least and largest `received_at`, microseconds, both included.
    pub received_at: (Option<i64>, Option<i64>),
    /// Names of events, or of segments.
    pub names: Option<Vec<String>>,
    /// Sources.
    pub sources: Option<Vec<String>>,
    /// Types of events, by number.
    pub types: Option<Vec<u8>>,
    /// Facets, sorted. Not told to other nodes.
    #[serde(skip)]
    pub facets: Option<Vec<FacetId>>,
    /// Of facets: only those that are known to be a profile by themselves, or only the others. Exact.
    pub alone: Option<bool>,
}

/// Makes a column of a batch of the raw columns that it needs.
pub type MakeColumn = Arc<dyn Fn(&RecordBatch) -> Result<ArrayRef, String> + Send + Sync>;

/// A column that is made of raw ones, row by row. A shard may keep it, and need not make it again.
#[derive(Clone)]
pub struct Derived {
    /// Names what it is: columns with the same key are the same.
    pub key: u64,
    /// The raw columns that it needs, rising.
    pub needs: Vec<usize>,
    /// Names the state that it is of, where it is made of where profiles are, and what they are called; 0: it is made of
    /// what never changes.
    pub of: u64,
    /// What it comes to.
    pub field: FieldRef,
    /// Makes it, as many rows, of the field's type.
    pub make: MakeColumn,
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Derived({} of {:?})", self.field.name(), self.needs)
    }
}

/// What to read of a shard.
#[derive(Clone, Debug)]
pub struct Request {
    /// Of which table.
    pub table: Table,
    /// Which columns, by their place in [`Table::schema`], rising. Batches have these, then the derived ones.
    pub columns: Vec<usize>,
    /// Columns that are made of others.
    pub derived: Vec<Derived>,
    /// What is not asked for.
    pub filters: Filters,
    /// About how many rows a batch should have.
    pub batch_rows: usize,
}

/// Batches of a part of a shard. Reading blocks.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, QueryError>> + Send>;

/// A shard at a cut.
pub trait ShardSnapshot: Send + Sync {
    /// Parts of a table that can be read side by side; together they are all of it.
    fn parts(&self, request: &Request) -> Vec<Batches>;
}

/// A shard of a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutShard {
    /// Its id.
    pub shard: u64,
    /// The node that holds the snapshot.
    pub node: u32,
    /// The name of the snapshot on that node.
    pub pin: u64,
    /// How many events it has, about.
    pub events: u64,
    /// How many facets it has, about.
    pub facets: u64,
    /// Names the state of its identifiers: as long as it stays the same, so do homes and founders. 0: not known.
    pub identities: u64,
}

/// What a query wants to know of who is in which segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Of these segments; `None`: of all.
    pub segments: Option<Vec<String>>,
    /// With since when.
    pub since: bool,
}

/// A cut over all shards. Dropping it lets go of the snapshots everywhere.
pub trait OpenCut: Send + Sync {
    /// Its stamp.
    fn at(&self) -> Stamp;
    /// The shards, which together own every slot once.
    fn shards(&self) -> &[CutShard];

    /// The version of the definitions that segments are of; `None` when those were not wanted.
    fn definitions(&self) -> Option<u64> {
        None
    }
}

/// How fresh a cut must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Freshness {
    /// It has everything that was acknowledged before the query began.
    #[default]
    Linearizable,
    /// It has at least what this stamp covers.
    MinVersion(Stamp),
    /// It may miss what is younger than this.
    MaxStaleness(Duration),
}

/// What the engine needs of its node.
#[async_trait]
pub trait Shards: Send + Sync + 'static {
    /// This node.
    fn node(&self) -> u32;

    /// Opens a cut over all shards that may be read for `lease`; who is in which segment only if that is wanted.
    async fn open_cut(
        &self,
        freshness: Freshness,
        members: Option<Members>,
        lease: Duration,
        deadline: Instant,
    ) -> Result<Arc<dyn OpenCut>, QueryError>;

    /// The snapshot of a pin on this node; `None` when there is none, or none any more.
    fn snapshot(&self, shard: u64, pin: u64) -> Option<Arc<dyn ShardSnapshot>>;

    /// What is registered, and what the cluster looks like.
    fn catalog(&self) -> Catalog;

    /// All nodes with the URLs of their workers, such as `http://10.0.0.7:7402`; this one's included.
    fn peers(&self) -> Vec<(u32, String)>;

    /// Whether events have come in a moment ago: what takes long makes way for them.
    fn takes_events(&self) -> bool;
}

/// The type of a registered trait or property.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ColumnType {
    /// Text; anything else is written as JSON.
    Text,
    /// `DECIMAL(38, 8)`.
    Number,
    /// 64 bits.
    Integer,
    /// True or false.
    Boolean,
    /// A point in time, in RFC 3339 or as a date.
    Time,
}

/// A registered trait or property, which becomes a column.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Column {
    /// The name as it is sent; the column has the same.
    pub name: String,
    /// Its type. A value of another type is NULL.
    pub ty: ColumnType,
}

/// What registered traits and properties mean, by name; of those alone of which somebody said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meanings {
    /// Of traits.
    pub traits: BTreeMap<String, String>,
    /// Of properties.
    pub properties: BTreeMap<String, String>,
}

/// A row of `system.sources`.
#[derive(Clone, Debug)]
pub struct SourceInfo {
    /// Its name.
    pub name: String,
    /// Whether it may send.
    pub enabled: bool,
    /// Its default currency.
    pub currency: Option<String>,
}

/// A row of `system.nodes`.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its id.
    pub node: u32,
    /// Where its clients reach it.
    pub address: String,
    /// Whether it answers, as far as this node knows.
    pub alive: bool,
}

/// A row of `system.shards`.
#[derive(Clone, Debug)]
pub struct ShardInfo {
    /// Its id.
    pub shard: u64,
    /// How many slots it owns.
    pub slots: u32,
    /// Nodes with a replica.
    pub replicas: Vec<u32>,
    /// The leader's node, as far as this node knows.
    pub leader: Option<u32>,
}

/// What is registered, and what the cluster looks like.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Registered traits: typed columns of `profiles`.
    pub traits: Vec<Column>,
    /// Registered properties: typed columns of `events`.
    pub properties: Vec<Column>,
    /// What they mean.
    pub meanings: Arc<Meanings>,
    /// The currency of `profiles.revenue`.
    pub currency: String,
    /// Sources.
    pub sources: Vec<SourceInfo>,
    /// Nodes.
    pub nodes: Vec<NodeInfo>,
    /// Shards.
    pub shards: Vec<ShardInfo>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            traits: Vec::new(),
            properties: Vec::new(),
            meanings: Arc::default(),
            currency: "USD".to_owned(),
            sources: Vec::new(),
            nodes: Vec::new(),
            shards: Vec::new(),
        }
    }
}
