//! What an event costs a replica besides Raft: decoding and applying commands, sorting what is frozen into rows,
//! writing it as runs, dropping the memtable, merging runs; and how much memory it takes until then.
//!
//! `cargo run --release -p isthmus-shard --example memtable_speed [events a round] [rounds]`. Purchases of about 500
//! bytes over 100,000 customers and 16 shards, in commands of 30; runs lie in memory, so nothing waits for a disk. The
//! last line is a hash of all rows that were written out: the same before and after a change that should change none.

use std::{path::Path, sync::Arc, time::Duration, time::Instant};

use arrow::array::{Array, RecordBatch};
use bytes::Bytes;
use isthmus_domain::{
    AcceptContext, BlockedValues, IdentityKey, Limits, RawItem, ShardMap, SourceView, accept,
};
use isthmus_proto::internal::v1::{
    CommandItem, IngestCommand, SetConfigCommand, ShardCommand, command_item::Body, shard_command::Command,
};
use isthmus_shard::{
    State,
    apply::{self, Outcome},
    state::{self, Needs},
    tables,
    write_out::write_out,
};
use isthmus_storage::{
    StoreId,
    control::MemoryControl,
    keeper::{GroupMeta, Keeper, KeeperOptions},
    runs::{MemoryRuns, Rows, RunOptions},
};
use prost::Message as _;
use xxhash_rust::xxh3::Xxh3;

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHARDS: u32 = 16;
const PROFILES: u64 = 100_000;
const COMMAND_ITEMS: usize = 30;
/// 2026-01-15T00:00:00Z.
const NOW: i64 = 1_768_435_200_000_000;

type Failure = Box<dyn std::error::Error>;

#[derive(Default)]
struct Spent {
    decode: Duration,
    apply: Duration,
    rows: Duration,
    store: Duration,
    drop: Duration,
    merge: Duration,
    resident_bytes: u64,
    counted_bytes: u64,
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn timed<T>(total: &mut Duration, step: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = step();
    *total += start.elapsed();
    result
}

/// Bytes of memory that this process has; 0 where there is no Linux to ask.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// SplitMix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The purchase that the benchmark of `isthmus-tests` sends.
fn purchase(number: u64, numbers: &mut u64) -> String {
    let (user, amount) = (draw(numbers) % PROFILES, draw(numbers) % 100_000);
    let (second, sku) = (number % 86_400, draw(numbers));
    let time = format!("2026-01-15T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60);
    let mut json = format!(
        r#"{{"type":"track","event":"Order Completed","messageId":"run-{number}","userId":"u{user}","timestamp":"{time}","properties":{{"revenue":"{}.{:02}","currency":"USD","order_id":"o-{number}","sku":"{sku:016x}","quantity":{},"category":"books","coupon":null,"pad":""#,
        amount / 100,
        amount % 100,
        1 + sku % 9,
    );
    let tail =
        r#""},"context":{"ip":"203.0.113.7","locale":"de-DE","library":{"name":"bench","version":"1"}}}"#;
    while json.len() + tail.len() < 500 {
        json.push((b'a' + (json.len() % 26) as u8) as char);
    }
    json.push_str(tail);
    json
}

/// The commands of a round, by shard, as a log would hold them.
fn commands(map: &ShardMap, from: u64, to: u64, numbers: &mut u64) -> Result<Vec<(usize, Bytes)>, Failure> {
    let (key, source, blocked) =
        (IdentityKey::new([7; 32]), SourceView::new("bench"), BlockedValues::default());
    let context = AcceptContext {
        source: &source,
        key: &key,
        now_micros: NOW + 86_400_000_000,
        sent_at: None,
        limits: Limits::default(),
        blocked: &blocked,
        make_message_id: &|| "made".to_owned(),
    };
    let owners = map.owner_table();
    let mut waiting: Vec<Vec<CommandItem>> = vec![Vec::new(); SHARDS as usize];
    let mut commands = Vec::new();
    let mut send = |shard: usize, items: Vec<CommandItem>| {
        let command = Some(Command::Ingest(IngestCommand { items }));
        commands
            .push((shard, Bytes::from(ShardCommand { stamp: NOW.cast_unsigned(), command }.encode_to_vec())));
    };
    for number in from..to {
        let json = purchase(number, numbers);
        let accepted = accept(RawItem::Json(json.as_bytes()), &context).map_err(|refused| refused.message)?;
        let owner = owners.owner(accepted.facet.slot()).ok_or("a slot without an owner")?;
        let shard = usize::try_from(owner.0)? - 1;
        let body = Some(Body::Record(accepted.record.to_bytes()));
        waiting[shard].push(CommandItem { attempt: number, body, ..CommandItem::default() });
        if waiting[shard].len() == COMMAND_ITEMS {
            send(shard, std::mem::take(&mut waiting[shard]));
        }
    }
    waiting.into_iter().enumerate().for_each(|(shard, items)| send(shard, items));
    Ok(commands)
}

fn apply_all(shards: &mut [State], commands: Vec<(usize, Bytes)>, spent: &mut Spent) -> Result<(), Failure> {
    for (shard, data) in commands {
        let state = &mut shards[shard];
        let decoded = timed(&mut spent.decode, || apply::decode(state::decode(data)?))?;
        let outcome = timed(&mut spent.apply, || {
            let mut needs = Needs::default();
            apply::needs(&decoded, &mut needs)?;
            apply::apply(state, decoded)
        })?;
        if let Outcome::Ingested(ingested) = outcome
            && ingested.outcomes.iter().any(|outcome| *outcome != 1)
        {
            return Err("an event was not accepted".into());
        }
    }
    Ok(())
}

/// Adds everything that a batch holds to a hash.
fn digest(batch: &RecordBatch, hasher: &mut Xxh3) {
    for column in batch.columns() {
        let data = column.to_data();
        data.buffers().iter().for_each(|buffer| hasher.update(buffer.as_slice()));
        (0..column.len()).for_each(|row| hasher.update(&[u8::from(column.is_null(row))]));
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let events = arguments.next().transpose()?.unwrap_or(160_000);
    let rounds = arguments.next().transpose()?.unwrap_or(6);
    let storage = Arc::new(Keeper::open(
        Path::new("/keeper"),
        Arc::new(MemoryControl::new()),
        MemoryRuns::new(RunOptions::default())?,
        tables(),
        KeeperOptions::default(),
    )?);
    let map = ShardMap::even(SHARDS)?;
    let mut shards = Vec::new();
    for number in 1..=u64::from(SHARDS) {
        let meta = storage.create_group(number, 1, Bytes::new(), Bytes::new())?;
        let mut state = State::load(&storage, &meta)?;
        let set = SetConfigCommand { version: 1, shard_map: map.encode().into(), ..Default::default() };
        let set = ShardCommand { stamp: 1, command: Some(Command::SetConfig(set)) };
        apply::apply(&mut state, apply::decode(set)?)?;
        shards.push(state);
    }
    let (mut spent, mut hasher, mut numbers, mut index) = (Spent::default(), Xxh3::new(), 1, 0);
    for round in 0..rounds {
        let before = resident();
        // Commands come in parts, so that those waiting here count little as memory.
        for part in 0..100 {
            let at = |part: u64| (round * 100 + part) * events / 100;
            let commands = commands(&map, at(part), at(part + 1), &mut numbers)?;
            apply_all(&mut shards, commands, &mut spent)?;
        }
        if round == 0 {
            spent.resident_bytes = resident().saturating_sub(before);
            spent.counted_bytes = shards.iter().map(|state| state.active.bytes()).sum();
        }
        for state in &mut shards {
            let frozen = Arc::new(std::mem::take(&mut state.active));
            index += 1;
            let meta = GroupMeta {
                group: state.shard,
                replica: 1,
                store: state.store.0,
                applied_index: index,
                ..GroupMeta::default()
            };
            let rows = timed(&mut spent.rows, || write_out(&frozen, meta))?;
            for table in &rows.tables {
                match &table.rows {
                    Rows::Columnar(batches) => batches.iter().for_each(|batch| digest(batch, &mut hasher)),
                    Rows::Flat(bytes) => hasher.update(bytes),
                }
            }
            timed(&mut spent.store, || storage.write_out(rows))?;
            timed(&mut spent.drop, || drop(frozen));
            let store = StoreId(state.store.0);
            while storage.wants_merge(store) {
                timed(&mut spent.merge, || storage.merge_once(store))?;
            }
        }
    }
    let total = (events * rounds) as f64;
    for (step, time) in [
        ("decode", spent.decode),
        ("apply", spent.apply),
        ("rows of a write-out", spent.rows),
        ("writing runs", spent.store),
        ("drop", spent.drop),
        ("merges", spent.merge),
    ] {
        println!("{step:22} {:6.2} us an event", time.as_secs_f64() * 1e6 / total);
    }
    let per_event = |bytes: u64| bytes as f64 / events as f64;
    println!("{:22} {:6.0} bytes an event", "memory, resident", per_event(spent.resident_bytes));
    println!("{:22} {:6.0} bytes an event", "memory, counted", per_event(spent.counted_bytes));
    println!("rows {:032x}", hasher.digest128());
    Ok(())
}
