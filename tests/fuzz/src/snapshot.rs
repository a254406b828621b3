//! Snapshots: what a replica is sent in place of a log, damaged in any way, with checksums that fit all the same.
//!
//! An input is edits of the files of a snapshot, or another manifest for them. It is installed or refused; what was
//! installed can be loaded and read to its end, or is found to be damaged: never a panic, and nothing that takes memory
//! without end.

use std::{path::Path, sync::LazyLock};

use isthmus_domain::FacetId;
use isthmus_shard::{DEDUP, EVENTS, FACETS, FEED, State};
use isthmus_storage::{
    StoreId,
    keeper::{Exported, Keeper},
    runs::{MemoryRuns, Projection, RunSet, RunStore},
};
use prost::Message as _;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::{
    log::{self, SHARD, applied, ordinary, written_out},
    pieces::Pieces,
};

const FOLDER: &str = "/snapshot";
/// Checksums are of so many bytes each.
const CHUNK_BYTES: usize = 4096;
const SUM_BYTES: usize = 16;
const INDEX_MAGIC_BYTES: usize = 8;
/// Of what is read at a time.
const BATCH_ROWS: usize = 64;

/// A snapshot: its manifest, and its files by name.
#[derive(Clone)]
struct Snapshot {
    exported: Exported,
    files: Vec<(String, Vec<u8>)>,
}

static WHOLE: LazyLock<Snapshot> = LazyLock::new(|| {
    let (runs, storage) = log::storage();
    let mut state = log::replica(&storage);
    for (index, command) in (1..).zip(ordinary()) {
        assert!(applied(&mut state, &command));
        written_out(&storage, &mut state, index);
    }
    let exported = storage.export(SHARD, Path::new(FOLDER)).unwrap();
    let disk = runs.disk();
    let files = exported.files.iter().map(|entry| {
        let file = disk.open(&Path::new(FOLDER).join(&entry.name)).unwrap();
        let mut bytes = vec![0; usize::try_from(file.bytes()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        (entry.name.clone(), bytes)
    });
    Snapshot { files: files.collect(), exported }
});

/// The target.
pub fn run(bytes: &[u8]) {
    let mut input = Pieces(bytes);
    let mut snapshot = WHOLE.clone();
    if input.byte() == 1 {
        let Ok(exported) = Exported::decode(input.rest()) else { return };
        snapshot.exported = exported;
    } else {
        edit(&mut snapshot.files, input);
        sum(&mut snapshot);
    }
    install(&snapshot);
}

/// Edits: which file, where, and what stands there now; at most as many as matter.
fn edit(files: &mut [(String, Vec<u8>)], mut input: Pieces<'_>) {
    for _ in 0..64 {
        if input.0.is_empty() {
            return;
        }
        let number = usize::from(input.byte()) % files.len();
        let contents = &mut files[number].1;
        let at = input.short() % (contents.len() + 1);
        let Some(piece) = input.next() else { return };
        // Of no bytes: cut off there.
        if piece.is_empty() {
            contents.truncate(at);
        }
        let kept = contents.len().min(at + piece.len());
        drop(contents.splice(at..kept, piece.iter().copied()));
    }
}

/// Makes all checksums fit.
fn sum(snapshot: &mut Snapshot) {
    let Snapshot { exported, files } = snapshot;
    let mut sums = Vec::new();
    for (name, contents) in
        files.iter().filter(|(name, _)| name.ends_with(".parquet") || name.ends_with(".flat"))
    {
        let chunks: Vec<u8> =
            contents.chunks(CHUNK_BYTES).flat_map(|chunk| xxh3_64(chunk).to_le_bytes()).collect();
        let run = name.split('.').next().unwrap_or_default().to_owned();
        sums.push((run, xxh3_128(contents).to_be_bytes(), chunks));
    }
    for (name, contents) in files.iter_mut() {
        let of_run = name.strip_suffix(".index").and_then(|run| sums.iter().find(|(other, ..)| other == run));
        if let Some((_, whole, chunks)) = of_run {
            // In protobuf the last of a field counts: the sums of the data file, and those of its chunks.
            contents.truncate(contents.len().saturating_sub(SUM_BYTES).max(INDEX_MAGIC_BYTES));
            for (tag, sums) in [(2, whole.as_slice()), (4, chunks.as_slice())] {
                prost::encoding::bytes::encode(tag, &sums.to_vec(), contents);
            }
            let sum = xxh3_128(contents.get(INDEX_MAGIC_BYTES..).unwrap_or_default());
            contents.extend(sum.to_be_bytes());
        } else if name.ends_with(".rows") && contents.len() > SUM_BYTES {
            contents.truncate(contents.len() - SUM_BYTES);
            contents.extend(xxh3_128(contents).to_be_bytes());
        }
    }
    for entry in &mut exported.files {
        let contents = files.iter().find(|(name, _)| *name == entry.name).map(|(_, contents)| contents);
        let (length, whole) = contents.map(|contents| (contents.len(), xxh3_128(contents))).unwrap();
        (entry.bytes, entry.xxh3) = (length as u64, whole.to_be_bytes().to_vec().into());
        for run in &mut exported.runs {
            match entry.name.strip_prefix(&format!("{:016x}.", run.run)) {
                Some("index") => (run.index_bytes, run.index_xxh3) = (entry.bytes, entry.xxh3.clone()),
                Some(_) => (run.bytes, run.xxh3) = (entry.bytes, entry.xxh3.clone()),
                None => {}
            }
        }
    }
}

fn install(snapshot: &Snapshot) {
    let (runs, storage) = log::storage();
    put(&runs, snapshot);
    let Ok(meta) = storage.install(SHARD, 2, Path::new(FOLDER), &snapshot.exported) else { return };
    drop(State::load(&storage, &meta));
    let runs = storage.runs(StoreId(meta.store)).unwrap();
    read(&runs);
    merged(&storage, StoreId(meta.store));
}

fn put(runs: &MemoryRuns, snapshot: &Snapshot) {
    let disk = runs.disk();
    disk.create_dir(Path::new(FOLDER)).unwrap();
    for (name, contents) in &snapshot.files {
        let mut writer = disk.create(&Path::new(FOLDER).join(name)).unwrap();
        writer.write(contents).unwrap();
        writer.sync().unwrap();
    }
}

/// Reads everything, as far as it can be read.
fn read(runs: &RunSet) {
    for table in [EVENTS, FACETS] {
        if let Ok(rows) = runs.scan(table, None, None, Projection::ALL, BATCH_ROWS) {
            rows.map_while(Result::ok).for_each(|batch| assert!(batch.num_rows() > 0));
        }
        drop(runs.rows_of(table, FacetId::from_bytes([7; 16]).as_bytes(), Projection::ALL));
    }
    for table in [DEDUP, FEED] {
        if let Ok(rows) = runs.flat_scan(table, None, None) {
            rows.map_while(Result::ok).for_each(drop);
        }
    }
    drop(runs.flat_get(DEDUP, &[7; 16]));
    drop(runs.sequence_after(FEED, &[0; 16], BATCH_ROWS));
}

/// Runs are merged, which reads and writes all of them; damage stops that.
fn merged(storage: &Keeper, store: StoreId) {
    while storage.wants_merge(store) {
        if storage.merge_once(store).is_err() {
            return;
        }
    }
}

/// Inputs to begin with: the manifest, and an edit of each file at its beginning, in its middle and at its end.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0], [vec![1], WHOLE.exported.encode_to_vec()].concat()];
    for (number, (_, contents)) in (0_u8..).zip(&WHOLE.files) {
        for at in [0, contents.len() / 2, contents.len().saturating_sub(20)] {
            let [high, low] = u16::try_from(at).unwrap_or(u16::MAX).to_be_bytes();
            seeds.push(vec![0, number, high, low, 0, 1, 0xff]);
            seeds.push(vec![0, number, high, low, 0, 0]);
        }
    }
    seeds
}
