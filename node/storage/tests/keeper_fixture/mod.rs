//! A keeper on either engine that can be crashed, write-outs made of numbers, and what a store holds as plain values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use bytes::Bytes;
use isthmus_storage::control::{
    ControlStore, ControlWrite, KeyRange, MemoryControl, Order, SledControl, SledOptions,
};
use isthmus_storage::keeper::{GroupMeta, Keeper, KeeperOptions, WriteOut};
use isthmus_storage::runs::disk::MemoryDisk;
use isthmus_storage::runs::{
    Combine, FileRuns, PointKey, Projection, Rows, RunOptions, RunStore, Runs, TableId, TableKind, TableRows,
    TableSpec,
};
use isthmus_storage::{Result, StoreId};

pub const EVENTS: TableId = TableId(1);
pub const SUMS: TableId = TableId(2);
pub const SEEN: TableId = TableId(3);

pub fn spread(number: u64) -> PointKey {
    xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes()).to_be_bytes()
}

fn event_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("point", DataType::FixedSizeBinary(16), false),
        Field::new("time", DataType::Int64, false),
        Field::new("number", DataType::UInt64, false),
    ]))
}

fn sum_schema() -> SchemaRef {
    let point = Field::new("point", DataType::FixedSizeBinary(16), false);
    Arc::new(Schema::new(vec![point, Field::new("sum", DataType::Int64, false)]))
}

struct Sum;

impl Combine for Sum {
    fn combine(&self, rows: &RecordBatch) -> Result<RecordBatch, String> {
        Ok(sum_rows(fold(std::slice::from_ref(rows)).into_iter()))
    }
}

fn fold(batches: &[RecordBatch]) -> BTreeMap<PointKey, i64> {
    let mut sums = BTreeMap::new();
    for batch in batches {
        let values = batch.column(1).as_primitive::<Int64Type>();
        for (point, value) in points(batch).into_iter().zip(values.values()) {
            *sums.entry(point).or_insert(0) += value;
        }
    }
    sums
}

fn points(batch: &RecordBatch) -> Vec<PointKey> {
    let points = batch.column(0).as_fixed_size_binary();
    (0..points.len()).map(|row| points.value(row).try_into().unwrap()).collect()
}

fn sum_rows(rows: impl Iterator<Item = (PointKey, i64)>) -> RecordBatch {
    let (points, values): (Vec<_>, Vec<_>) = rows.unzip();
    let points = FixedSizeBinaryArray::try_from_iter(points.into_iter()).unwrap();
    RecordBatch::try_new(sum_schema(), vec![Arc::new(points), Arc::new(Int64Array::from(values))]).unwrap()
}

pub fn tables() -> Vec<TableSpec> {
    let combine: Option<Arc<dyn Combine>> = Some(Arc::new(Sum));
    let events = TableKind::Columnar { schema: event_schema(), key_columns: 3, combine: None, page_rows: 16 };
    let sums = TableKind::Columnar { schema: sum_schema(), key_columns: 1, combine, page_rows: 16 };
    vec![
        TableSpec { id: EVENTS, name: "events", kind: events },
        TableSpec { id: SUMS, name: "sums", kind: sums },
        TableSpec { id: SEEN, name: "seen", kind: TableKind::Flat { key_len: 16, value_len: 8 } },
    ]
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub applied_index: u64,
    pub state: Bytes,
    pub control: BTreeMap<Vec<u8>, Vec<u8>>,
    pub events: Vec<(PointKey, i64, u64)>,
    pub sums: BTreeMap<PointKey, i64>,
    pub seen: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A change, plain.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub control: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub events: Vec<(PointKey, i64, u64)>,
    pub sums: Vec<(PointKey, i64)>,
    pub seen: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Change {
    /// The change of write-out `number`: more than two batches of control rows, and rows of all tables.
    pub fn numbered(number: u64) -> Self {
        let mut change = Self::default();
        for row in 0..150_u64 {
            let key = [vec![(row % 7) as u8], ((row + 40 * number) % 230).to_be_bytes().to_vec()].concat();
            let value = (row % 11 != number % 11).then(|| format!("value {row} of {number}").into_bytes());
            change.control.push((key, value));
        }
        change.events = (0..60).map(|row| (spread(row % 9), row as i64 - 30, number * 1000 + row)).collect();
        change.sums = (0..20).map(|row| (spread(row + number), (row * number) as i64 - 9)).collect();
        change.seen =
            (0..80).map(|row| (spread(row + 50 * number).to_vec(), number.to_be_bytes().to_vec())).collect();
        change
    }
}

impl State {
    /// The model: what a write-out means.
    pub fn apply(&mut self, change: &Change) {
        self.applied_index += 1;
        self.state = Bytes::from(format!("state at {}", self.applied_index));
        for (key, value) in &change.control {
            match value {
                Some(value) => self.control.insert(key.clone(), value.clone()),
                None => self.control.remove(key),
            };
        }
        self.events.extend(&change.events);
        self.events.sort();
        change.sums.iter().for_each(|(point, value)| *self.sums.entry(*point).or_default() += value);
        self.seen.extend(change.seen.clone());
    }
}

/// Writes a change out as the group's next index.
pub fn write_out(keeper: &Keeper, group: u64, change: &Change) -> Result<()> {
    let mut meta = keeper.group(group)?.unwrap();
    meta.applied_index += 1;
    meta.state = Bytes::from(format!("state at {}", meta.applied_index));
    let control = change
        .control
        .iter()
        .map(|(key, value)| ControlWrite { key: key.clone(), value: value.clone().map(Bytes::from) });
    let mut events = change.events.clone();
    events.sort();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(events.iter().map(|row| Some(row.0)), 16)
                .unwrap(),
        ),
        Arc::new(Int64Array::from_iter_values(events.iter().map(|row| row.1))),
        Arc::new(UInt64Array::from_iter_values(events.iter().map(|row| row.2))),
    ];
    let mut tables = Vec::new();
    if !events.is_empty() {
        let batch = RecordBatch::try_new(event_schema(), columns).unwrap();
        tables.push(TableRows { table: EVENTS, rows: Rows::Columnar(vec![batch]) });
    }
    if !change.sums.is_empty() {
        let mut sums = change.sums.clone();
        sums.sort();
        tables.push(TableRows { table: SUMS, rows: Rows::Columnar(vec![sum_rows(sums.into_iter())]) });
    }
    let seen = change.seen.iter().flat_map(|(key, value)| [key.as_slice(), value].concat()).collect();
    tables.push(TableRows { table: SEEN, rows: Rows::Flat(seen) });
    keeper.write_out(WriteOut { meta, rows: control.collect(), tables }).map(|_| ())
}

/// Everything a group's store holds, read in full.
pub fn observe(keeper: &Keeper, group: u64) -> Result<Option<State>> {
    let Some(GroupMeta { applied_index, state, store, .. }) = keeper.group(group)? else { return Ok(None) };
    let store = StoreId(store);
    let set = keeper.runs(store)?;
    let mut events = Vec::new();
    for batch in set.scan(EVENTS, None, None, Projection::ALL, 100)? {
        let batch = batch?;
        let times = batch.column(1).as_primitive::<Int64Type>();
        let numbers = batch.column(2).as_primitive::<UInt64Type>();
        for (row, point) in points(&batch).into_iter().enumerate() {
            events.push((point, times.value(row), numbers.value(row)));
        }
    }
    let sums: Vec<_> = set.scan(SUMS, None, None, Projection::ALL, 100)?.collect::<Result<_>>()?;
    let seen =
        set.flat_scan(SEEN, None, None)?.map(|row| row.map(|row| (row.key.to_vec(), row.value.to_vec())));
    let (mut control, mut from) = (BTreeMap::new(), Vec::new());
    loop {
        let range = KeyRange { start: from.clone(), end: None };
        let page = keeper.scan(store, &range, Order::Ascending, 50)?;
        control.extend(page.rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        match page.rows.last() {
            Some((key, _)) if page.more => from = [key.as_ref(), &[0]].concat(),
            _ => break,
        }
    }
    Ok(Some(State {
        applied_index,
        state,
        control,
        events,
        sums: fold(&sums),
        seen: seen.collect::<Result<_>>()?,
    }))
}

/// What a crash takes.
#[derive(Clone, Copy, Debug)]
pub enum Crash {
    /// The process: what it wrote is there.
    Process,
    /// The power: of what was not synced, only the oldest so many batches of control rows are there.
    Power { survivors: usize },
}

/// A node's disk, on either engine.
pub enum Machine {
    Memory { control: Arc<MemoryControl>, disk: MemoryDisk },
    Files { dir: tempfile::TempDir },
}

impl Machine {
    pub fn memory() -> Self {
        Self::Memory { control: Arc::default(), disk: MemoryDisk::new() }
    }

    pub fn files() -> Self {
        Self::Files { dir: tempfile::tempdir().unwrap() }
    }

    pub fn runs(&self) -> Arc<dyn RunStore> {
        match self {
            Self::Memory { disk, .. } => {
                Runs::on(disk.clone(), Path::new("/runs"), RunOptions::default()).unwrap()
            }
            Self::Files { dir } => FileRuns::open(&dir.path().join("runs"), RunOptions::default()).unwrap(),
        }
    }

    pub fn open(&self) -> Result<Keeper> {
        let control: Arc<dyn ControlStore> = match self {
            Self::Memory { control, .. } => control.clone(),
            Self::Files { dir } => {
                Arc::new(SledControl::open(&dir.path().join("control"), SledOptions::default())?)
            }
        };
        // Few write-outs make a merge, so that tests stay short.
        let options = KeeperOptions { first_level_runs: 4, ..KeeperOptions::default() };
        Keeper::open(&self.path("redo"), control, self.runs(), tables(), options)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Memory { .. } => Path::new("/").join(name),
            Self::Files { dir } => dir.path().join(name),
        }
    }

    /// The machine as it is found after a crash. The old keeper must still be there: dropping it first would be a stop.
    pub fn after(self, crash: Crash, keeper: Keeper) -> Self {
        let after = match (self, crash) {
            (Self::Memory { control, disk }, Crash::Process) => Self::Memory { control, disk },
            (Self::Memory { control, disk }, Crash::Power { survivors }) => {
                control.crash(survivors);
                Self::Memory { control, disk: disk.after_power_cut() }
            }
            // A power cut of a real disk can't be made here; what the process wrote is what is there.
            (Self::Files { dir }, _) => {
                let copy = tempfile::tempdir().unwrap();
                copy_dir(dir.path(), copy.path());
                Self::Files { dir: copy }
            }
        };
        drop(keeper);
        after
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
