//! Shards in memory: snapshots that can be counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray,
        RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray, UInt8Array, UInt32Array,
        UInt64Array,
    },
    compute::{cast, concat_batches, filter_record_batch},
    datatypes::{DataType, Int32Type, Schema, TimestampMicrosecondType, UInt8Type},
};
use async_trait::async_trait;
use isthmus_domain::{FacetId, Stamp};
use isthmus_query::{
    Batches, Catalog, Column, ColumnType, CutShard, Freshness, Meanings, Members, NodeInfo, OpenCut,
    QueryError, Request, ShardInfo, ShardSnapshot, Shards, SourceInfo, Table,
};

use crate::world::{World, facet_of};

pub const SHARDS: u64 = 7;
pub const AT: Stamp = Stamp(1_800_000_000_000_000);
/// Rows of a part.
const PART: usize = 40;

/// What all nodes share.
#[derive(Default)]
pub struct Counts {
    /// Parts that are being read.
    pub reading: AtomicUsize,
    /// Parts that were begun.
    pub parts: AtomicUsize,
    /// Cuts that were opened, and not let go of.
    pub cuts: AtomicUsize,
    /// Columns that were asked for, of events.
    pub columns: Mutex<Vec<Vec<usize>>>,
    /// What was asked of segments when cuts were opened.
    pub members: Mutex<Vec<Members>>,
    /// Filters of events.
    pub filters: Mutex<Vec<isthmus_query::Filters>>,
    /// Events never end.
    pub endless: AtomicBool,
    /// Snapshots are gone.
    pub gone: AtomicBool,
}

/// The data by shard.
pub struct Store {
    tables: BTreeMap<(u64, &'static str), RecordBatch>,
    pub counts: Counts,
}

fn key(table: Table) -> &'static str {
    match table {
        Table::Events => "events",
        Table::Facets => "facets",
        Table::LinkFacts => "link_facts",
        Table::Quarantine => "quarantine",
        Table::SegmentMembers => "segment_members",
    }
}

pub fn shard_of(facet: FacetId) -> u64 {
    u64::from(facet.as_bytes()[0]) % SHARDS
}

fn ids<'a>(ids: impl Iterator<Item = &'a [u8]>) -> ArrayRef {
    let ids: Vec<&[u8]> = ids.collect();
    let ids = ids.into_iter().map(Some);
    Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 16).unwrap())
}

fn times(times: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

impl Store {
    pub fn of(world: &World) -> Arc<Self> {
        let mut tables = BTreeMap::new();
        for shard in 0..SHARDS {
            tables.insert((shard, "events"), Self::events(world, shard));
            tables.insert((shard, "facets"), Self::facets(world, shard));
            tables.insert((shard, "link_facts"), Self::links(world, shard));
            tables.insert((shard, "segment_members"), Self::members(world, shard));
            tables.insert((shard, "quarantine"), Self::quarantine(shard));
        }
        Arc::new(Self { tables, counts: Counts::default() })
    }

    /// The same in one shard.
    pub fn in_one(&self) -> Arc<Self> {
        let mut tables = BTreeMap::new();
        for table in ["events", "facets", "link_facts", "segment_members", "quarantine"] {
            let all: Vec<&RecordBatch> = (0..SHARDS).map(|shard| &self.tables[&(shard, table)]).collect();
            tables.insert((0, table), concat_batches(&all[0].schema(), all).unwrap());
        }
        Arc::new(Self { tables, counts: Counts::default() })
    }

    fn events(world: &World, shard: u64) -> RecordBatch {
        let mine: Vec<_> = world.events.iter().filter(|event| shard_of(facet_of(event)) == shard).collect();
        let text = |of: &dyn Fn(usize) -> Option<String>| -> ArrayRef {
            Arc::new((0..mine.len()).map(of).collect::<StringArray>())
        };
        let few = |of: &dyn Fn(usize) -> Option<String>| -> ArrayRef {
            let texts: Vec<Option<String>> = (0..mine.len()).map(of).collect();
            Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>())
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let json = |bytes: &[u8]| (!bytes.is_empty()).then(|| String::from_utf8(bytes.to_vec()).unwrap());
        let homes: Vec<FacetId> = mine.iter().map(|event| world.homes[&facet_of(event)]).collect();
        let columns: Vec<ArrayRef> = vec![
            ids(mine.iter().map(|event| &event.record.facet[..])),
            ids(homes.iter().map(|home| &home.as_bytes()[..])),
            times(mine.iter().map(|event| Some(event.record.timestamp))),
            ids(mine.iter().map(|event| &event.record.dedup_key[..])),
            times(mine.iter().map(|event| Some(event.received_at))),
            Arc::new(mine.iter().map(|event| event.record.kind as u8).collect::<UInt8Array>()),
            few(&|at| Some(mine[at].record.source.clone())),
            few(&|at| some(&mine[at].record.name)),
            text(&|at| Some(mine[at].record.message_id.clone())),
            text(&|at| json(&mine[at].record.properties)),
            text(&|at| json(&mine[at].record.context)),
        ];
        RecordBatch::try_new(Table::Events.schema(), columns).unwrap()
    }

    fn facets(world: &World, shard: u64) -> RecordBatch {
        let mut members: BTreeMap<FacetId, u32> = BTreeMap::new();
        for home in world.homes.values() {
            *members.entry(*home).or_default() += 1;
        }
        let summaries = world.summaries();
        let mine: Vec<FacetId> =
            world.homes.keys().copied().filter(|facet| shard_of(*facet) == shard).collect();
        let none = isthmus_domain::FacetSummary::default();
        let summary = |facet: &FacetId| summaries.get(facet).unwrap_or(&none);
        let bytes: Vec<Vec<u8>> = mine.iter().map(|facet| summary(facet).to_bytes()).collect();
        let columns: Vec<ArrayRef> = vec![
            ids(mine.iter().map(|facet| &facet.as_bytes()[..])),
            ids(mine.iter().map(|facet| &world.homes[facet].as_bytes()[..])),
            Arc::new(
                mine.iter()
                    .map(|facet| Some(members[&world.homes[facet]]).filter(|n| *n == 1))
                    .collect::<UInt32Array>(),
            ),
            Arc::new(
                mine.iter()
                    .map(|facet| Some(world.identifiers[facet].namespace().as_str()))
                    .collect::<StringArray>(),
            ),
            Arc::new(
                mine.iter().map(|facet| Some(world.identifiers[facet].value())).collect::<StringArray>(),
            ),
            times(mine.iter().map(|facet| summary(facet).first_seen())),
            times(mine.iter().map(|facet| summary(facet).last_seen())),
            Arc::new(mine.iter().map(|facet| summary(facet).events()).collect::<UInt64Array>()),
            Arc::new(BinaryArray::from_iter_values(&bytes)),
        ];
        RecordBatch::try_new(Table::Facets.schema(), columns).unwrap()
    }

    /// Each facet that isn't the home, linked to the home.
    fn links(world: &World, shard: u64) -> RecordBatch {
        let mine: Vec<(&FacetId, &FacetId)> =
            world.homes.iter().filter(|(facet, home)| facet != home && shard_of(**facet) == shard).collect();
        let text = |of: &dyn Fn(&FacetId, &FacetId) -> String| -> ArrayRef {
            Arc::new(mine.iter().map(|(facet, home)| Some(of(facet, home))).collect::<StringArray>())
        };
        let id = |facet: &FacetId| world.identifiers[facet].clone();
        let columns: Vec<ArrayRef> = vec![
            ids(mine.iter().map(|(facet, _)| &facet.as_bytes()[..])),
            ids(mine.iter().map(|(_, home)| &home.as_bytes()[..])),
            text(&|facet, _| id(facet).namespace().to_string()),
            text(&|facet, _| id(facet).value().to_owned()),
            text(&|_, home| id(home).namespace().to_string()),
            text(&|_, home| id(home).value().to_owned()),
            text(&|_, _| "web".to_owned()),
            text(&|_, _| "identify".to_owned()),
            times(mine.iter().map(|_| Some(crate::world::START))),
            text(&|facet, _| format!("l-{facet}")),
            Arc::new(mine.iter().map(|_| None).collect::<BooleanArray>()),
        ];
        RecordBatch::try_new(Table::LinkFacts.schema(), columns).unwrap()
    }

    /// Homes whose first byte is even are in the segment `even`.
    fn members(world: &World, shard: u64) -> RecordBatch {
        let homes: std::collections::BTreeSet<FacetId> = world.homes.values().copied().collect();
        let mine: Vec<FacetId> = homes
            .into_iter()
            .filter(|home| shard_of(*home) == shard && home.as_bytes()[0] % 2 == 0)
            .collect();
        let columns: Vec<ArrayRef> = vec![
            ids(mine.iter().map(|home| &home.as_bytes()[..])),
            Arc::new(mine.iter().map(|_| Some("even")).collect::<StringArray>()),
            times(mine.iter().map(|_| Some(crate::world::START))),
            Arc::new(mine.iter().map(|_| Some(true)).collect::<BooleanArray>()),
            Arc::new(mine.iter().map(|_| None).collect::<BooleanArray>()),
        ];
        RecordBatch::try_new(Table::SegmentMembers.schema(), columns).unwrap()
    }

    fn quarantine(shard: u64) -> RecordBatch {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let none = || -> ArrayRef { Arc::new(StringArray::from(vec![None::<&str>])) };
        let columns: Vec<ArrayRef> = vec![
            ids([&[shard as u8; 16][..]].into_iter()),
            text("web"),
            text("MALFORMED"),
            text("no type"),
            text("type"),
            none(),
            none(),
            times([Some(crate::world::START)].into_iter()),
            none(),
            times([None].into_iter()),
            text("{}"),
        ];
        RecordBatch::try_new(Table::Quarantine.schema(), columns).unwrap()
    }
}

/// A node of the fake.
pub struct Node {
    pub id: u32,
    pub store: Arc<Store>,
    /// Which node holds which shard.
    pub layout: Vec<(u64, u32)>,
    pub peers: Mutex<Vec<(u32, String)>>,
}

struct Cut {
    shards: Vec<CutShard>,
    store: Arc<Store>,
}

impl OpenCut for Cut {
    fn at(&self) -> Stamp {
        AT
    }

    fn shards(&self) -> &[CutShard] {
        &self.shards
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.store.counts.cuts.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Snapshot {
    shard: u64,
    store: Arc<Store>,
}

/// A part that is being read.
struct Part {
    store: Arc<Store>,
    left: Vec<RecordBatch>,
    endless: bool,
}

impl Iterator for Part {
    type Item = Result<RecordBatch, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.endless {
            return self.left.last().cloned().map(Ok);
        }
        self.left.pop().map(Ok)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.store.counts.reading.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The events that filters let through.
fn passing(events: &RecordBatch, filters: &isthmus_query::Filters) -> BooleanArray {
    let texts = |column: usize| cast(events.column(column), &DataType::Utf8).unwrap();
    let (sources, names) = (texts(6), texts(7));
    let time = |column: usize, row: usize| {
        events.column(column).as_primitive::<TimestampMicrosecondType>().value(row)
    };
    let within = |range: (Option<i64>, Option<i64>), time: i64| {
        range.0.is_none_or(|low| low <= time) && range.1.is_none_or(|high| time <= high)
    };
    let among = |list: &Option<Vec<String>>, texts: &ArrayRef, row: usize| {
        let text = texts.is_valid(row).then(|| texts.as_string::<i32>().value(row));
        list.as_ref().is_none_or(|list| list.iter().any(|one| Some(one.as_str()) == text))
    };
    let passes = |row: usize| {
        let kind = events.column(5).as_primitive::<UInt8Type>().value(row);
        within(filters.timestamp, time(2, row))
            && within(filters.received_at, time(4, row))
            && filters.types.as_ref().is_none_or(|types| types.contains(&kind))
            && among(&filters.sources, &sources, row)
            && among(&filters.names, &names, row)
    };
    (0..events.num_rows()).map(|row| Some(passes(row))).collect()
}

impl ShardSnapshot for Snapshot {
    fn parts(&self, request: &Request) -> Vec<Batches> {
        let counts = &self.store.counts;
        if request.table == Table::Events {
            counts.columns.lock().unwrap().push(request.columns.clone());
            counts.filters.lock().unwrap().push(request.filters.clone());
        }
        let all = &self.store.tables[&(self.shard, key(request.table))];
        let endless = request.table == Table::Events && counts.endless.load(Ordering::SeqCst);
        let kept;
        let all = match request.filters.alone {
            Some(alone) if request.table == Table::Facets => {
                let members = all.column(2);
                let mask = (0..all.num_rows()).map(|row| members.is_valid(row) == alone);
                kept = filter_record_batch(all, &mask.collect::<Vec<bool>>().into()).unwrap();
                &kept
            }
            _ if request.table == Table::Events => {
                kept = filter_record_batch(all, &passing(all, &request.filters)).unwrap();
                &kept
            }
            _ => all,
        };
        let raw = all.project(&request.columns).unwrap();
        let made = request.derived.iter().map(|it| (it.make)(&all.project(&it.needs).unwrap()).unwrap());
        let columns = raw.columns().iter().cloned().chain(made).collect();
        let derived = request.derived.iter().map(|it| it.field.clone());
        let fields: Vec<_> = raw.schema().fields().iter().cloned().chain(derived).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(all.num_rows()));
        let chosen =
            RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap();
        let slice = |from: usize| {
            let rows = PART.min(chosen.num_rows() - from);
            let columns = chosen.columns().iter().map(|column| column.slice(from, rows)).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            RecordBatch::try_new_with_options(chosen.schema(), columns, &options).unwrap()
        };
        let part = |from: usize| -> Batches {
            counts.reading.fetch_add(1, Ordering::SeqCst);
            counts.parts.fetch_add(1, Ordering::SeqCst);
            Box::new(Part { store: Arc::clone(&self.store), left: vec![slice(from)], endless })
        };
        (0..chosen.num_rows()).step_by(PART).map(part).collect()
    }
}

#[async_trait]
impl Shards for Node {
    fn node(&self) -> u32 {
        self.id
    }

    async fn open_cut(
        &self,
        _: Freshness,
        members: Option<Members>,
        _: Duration,
        _: Instant,
    ) -> Result<Arc<dyn OpenCut>, QueryError> {
        if let Some(members) = members {
            self.store.counts.members.lock().unwrap().push(members);
        }
        self.store.counts.cuts.fetch_add(1, Ordering::SeqCst);
        let rows = |shard: u64, table| self.store.tables[&(shard, table)].num_rows() as u64;
        let shard = |&(shard, node): &(u64, u32)| CutShard {
            shard,
            node,
            pin: 100 + shard,
            events: rows(shard, "events"),
            facets: rows(shard, "facets"),
            identities: 1,
        };
        Ok(Arc::new(Cut { shards: self.layout.iter().map(shard).collect(), store: Arc::clone(&self.store) }))
    }

    fn takes_events(&self) -> bool {
        true
    }

    fn snapshot(&self, shard: u64, pin: u64) -> Option<Arc<dyn ShardSnapshot>> {
        let here = self.layout.contains(&(shard, self.id)) && pin == 100 + shard;
        let here = here && !self.store.counts.gone.load(Ordering::SeqCst);
        here.then(|| Arc::new(Snapshot { shard, store: Arc::clone(&self.store) }) as Arc<dyn ShardSnapshot>)
    }

    fn catalog(&self) -> Catalog {
        let column = |name: &str, ty| Column { name: name.to_owned(), ty };
        Catalog {
            traits: vec![column("age", ColumnType::Integer), column("country", ColumnType::Text)],
            properties: vec![
                column("product", ColumnType::Text),
                column("quantity", ColumnType::Integer),
                column("revenue", ColumnType::Number),
                // A fixed column has this name.
                column("Source", ColumnType::Text),
            ],
            meanings: Arc::new(Meanings {
                traits: [("age".to_owned(), "In full years".to_owned())].into(),
                properties: [("Source".to_owned(), "No column of its own".to_owned())].into(),
            }),
            currency: "USD".to_owned(),
            sources: vec![SourceInfo {
                name: "web".to_owned(),
                enabled: true,
                currency: Some("USD".to_owned()),
            }],
            nodes: vec![NodeInfo { node: self.id, address: "here".to_owned(), alive: true }],
            shards: self
                .layout
                .iter()
                .map(|(shard, node)| ShardInfo {
                    shard: *shard,
                    slots: 1,
                    replicas: vec![*node],
                    leader: Some(*node),
                })
                .collect(),
        }
    }

    fn peers(&self) -> Vec<(u32, String)> {
        self.peers.lock().unwrap().clone()
    }
}
