//! How fast runs are: writes a million event-like rows (about 600 bytes each) with their deduplication entries in
//! write-outs of 32,768, merging as the policy says, then looks up. Prints nanoseconds a row for each step.
//!
//! `cargo run --release -p isthmus-storage --example runs_speed [directory]`: the directory (default: the current one)
//! should be on a real disk, since every step syncs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use isthmus_storage::control::{SledControl, SledOptions};
use isthmus_storage::keeper::{Keeper, KeeperOptions, WriteOut};
use isthmus_storage::runs::{
    DICTIONARY, FileRuns, PageCompression, PointKey, Projection, Rows, RunOptions, TableId, TableKind,
    TableRows, TableSpec,
};

/// As in the server: decoding makes many short-lived buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: u64 = 1_000_000;
const WRITE_OUT_ROWS: u64 = 32_768;
const PAGE_ROWS: usize = 128;
const FACETS: u64 = 100_000;
const LOOK_UPS: u64 = 100_000;
const EVENTS: TableId = TableId(1);
const SEEN: TableId = TableId(2);

type Failure = Box<dyn std::error::Error>;

/// Time that passed, and what of it this thread was on a CPU: the rest is waiting for the disk, or for others.
#[derive(Clone, Copy, Default)]
struct Spent {
    wall: Duration,
    cpu: Duration,
}

/// Where there is no Linux to ask, nothing.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn timed<T>(total: &mut Spent, step: impl FnOnce() -> T) -> T {
    let (start, on_cpu) = (Instant::now(), cpu());
    let result = step();
    total.wall += start.elapsed();
    total.cpu += cpu() - on_cpu;
    result
}

fn hash(number: u64, salt: u64) -> PointKey {
    let mut value = [0; 16];
    for (half, salt) in value.chunks_exact_mut(8).zip([salt, !salt]) {
        let mut mixed = (number ^ salt.rotate_left(17)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        half.copy_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes());
    }
    value
}

fn schema() -> SchemaRef {
    let few = |field: Field| field.with_metadata([(DICTIONARY.to_string(), String::new())].into());
    Arc::new(Schema::new(vec![
        Field::new("facet", DataType::FixedSizeBinary(16), false),
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("event_key", DataType::FixedSizeBinary(16), false),
        Field::new("received_at", DataType::Int64, false),
        Field::new("body_hash", DataType::FixedSizeBinary(16), false),
        Field::new("message_id", DataType::Utf8, false),
        few(Field::new("source", DataType::Utf8, false)),
        few(Field::new("type", DataType::Utf8, false)),
        few(Field::new("name", DataType::Utf8, false)),
        few(Field::new("currency", DataType::Utf8, true)),
        Field::new("revenue", DataType::Utf8, true),
        Field::new("properties", DataType::Utf8, false),
        Field::new("context", DataType::Utf8, false),
    ]))
}

/// The events numbered `from..to`, sorted, and their deduplication entries.
fn rows(from: u64, to: u64) -> Result<(RecordBatch, Vec<u8>), Failure> {
    let mut order: Vec<(PointKey, u64)> = (from..to).map(|n| (hash(n * 7919 % FACETS, 1), n)).collect();
    order.sort_unstable();
    let numbers = || order.iter().map(|(_, n)| *n);
    let texts = |text: &dyn Fn(u64) -> String| {
        Arc::new(StringArray::from_iter_values(numbers().map(text))) as ArrayRef
    };
    let names = ["Product Viewed", "Product Added", "Order Completed", "Signed In"];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::try_from_iter(order.iter().map(|(facet, _)| facet))?),
        Arc::new(TimestampMicrosecondArray::from_iter_values(
            numbers().map(|n| 1_700_000_000_000_000 + n as i64 * 977),
        )),
        Arc::new(FixedSizeBinaryArray::try_from_iter(numbers().map(|n| hash(n, 2)))?),
        Arc::new(Int64Array::from_iter_values(numbers().map(|n| 1_700_000_000_500_000 + n as i64 * 977))),
        Arc::new(FixedSizeBinaryArray::try_from_iter(numbers().map(|n| hash(n, 3)))?),
        texts(&|n| format!("msg-{:032x}", u128::from_be_bytes(hash(n, 4)))),
        texts(&|n| ["shop", "app", "till"][(n % 3) as usize].into()),
        texts(&|_| "track".into()),
        texts(&|n| names[(n % 4) as usize].into()),
        Arc::new(StringArray::from_iter(numbers().map(|n| (n % 4 == 2).then_some("EUR")))),
        Arc::new(StringArray::from_iter(
            numbers().map(|n| (n % 4 == 2).then(|| format!("{}.{:02}", n % 500, n % 100))),
        )),
        texts(&|n| {
            let [a, b] = [2, 5].map(|salt| {
                u64::from_be_bytes([hash(n, salt)[0], 0, 0, 0, 1, 2, hash(n, salt)[1], hash(n, salt)[2]])
            });
            format!(
                r#"{{"product_id":"SKU-{:06}","name":"Garden chair, model {}","category":"furniture/outdoor/{}","price":{}.{:02},"quantity":{},"list":"search results","position":{},"coupon":"SPRING{}","url":"https://shop.example/p/{:x}?ref={:x}","variant":"{:x}"}}"#,
                a % 1_000_000,
                b % 900,
                a % 40,
                b % 300,
                a % 100,
                b % 5,
                a % 60,
                b % 30,
                a,
                b,
                a ^ b
            )
        }),
        texts(&|n| {
            format!(
                r#"{{"ip":"10.{}.{}.{}","locale":"de-DE","library":{{"name":"analytics.js","version":"2.11.1"}},"page":{{"path":"/p/{}","title":"Shop"}},"userAgent":"Mozilla/5.0 (X11; Linux x86_64)"}}"#,
                n % 256,
                n / 256 % 256,
                n / 65_536 % 256,
                n % 10_000
            )
        }),
    ];
    let mut seen: Vec<PointKey> = (from..to).map(|n| hash(n, 6)).collect();
    seen.sort_unstable();
    let entries = seen.iter().flat_map(|key| key.iter().copied().chain([7; 57])).collect();
    Ok((RecordBatch::try_new(schema(), columns)?, entries))
}

fn say(step: &str, total: Spent, rows: u64) {
    let [wall, cpu] = [total.wall, total.cpu].map(|time| time.as_nanos() / u128::from(rows.max(1)));
    println!("{step:<56} {cpu:>8} ns/row on the CPU, {wall:>8} with waiting");
}

fn measure(dir: PathBuf, compression: PageCompression) -> Result<(), Failure> {
    println!("\n{compression:?}");
    let control = Arc::new(SledControl::open(&dir.join("control"), SledOptions::default())?);
    let options = RunOptions {
        first_compression: compression,
        merged_compression: compression,
        ..RunOptions::default()
    };
    let runs = FileRuns::open(&dir.join("runs"), options)?;
    let kind = TableKind::Columnar { schema: schema(), key_columns: 3, combine: None, page_rows: PAGE_ROWS };
    let events = TableSpec { id: EVENTS, name: "events", kind };
    let seen = TableSpec { id: SEEN, name: "seen", kind: TableKind::Flat { key_len: 16, value_len: 57 } };
    let tables = vec![events, seen];
    let keeper = Keeper::open(&dir.join("redo"), control, runs, tables, KeeperOptions::default())?;
    let mut meta = keeper.create_group(1, 1, Bytes::new(), Bytes::new())?;
    let store = meta.store_id();

    let (mut event_time, mut seen_time, mut merge_time) =
        (Spent::default(), Spent::default(), Spent::default());
    let (mut merged, mut raw_bytes) = ([0_u64; 2], 0);
    for from in (0..ROWS).step_by(WRITE_OUT_ROWS as usize) {
        let (batch, entries) = rows(from, ROWS.min(from + WRITE_OUT_ROWS))?;
        raw_bytes += batch.get_array_memory_size();
        meta.applied_index += 1;
        let events = vec![TableRows { table: EVENTS, rows: Rows::Columnar(vec![batch]) }];
        timed(&mut event_time, || {
            keeper.write_out(WriteOut { meta: meta.clone(), rows: vec![], tables: events })
        })?;
        meta.applied_index += 1;
        let seen = vec![TableRows { table: SEEN, rows: Rows::Flat(entries) }];
        timed(&mut seen_time, || {
            keeper.write_out(WriteOut { meta: meta.clone(), rows: vec![], tables: seen })
        })?;
        while keeper.wants_merge(store) {
            let before = keeper.runs(store)?;
            let after = timed(&mut merge_time, || keeper.merge_once(store))?.ok_or("no merge")?;
            for (count, table) in merged.iter_mut().zip([EVENTS, SEEN]) {
                let old: Vec<_> = before.runs_of(table).iter().map(|run| run.meta().run).collect();
                let new = after.runs_of(table).iter().filter(|run| !old.contains(&run.meta().run));
                *count += new.map(|run| run.meta().rows).sum::<u64>();
            }
        }
    }
    say("write-out of events", event_time, ROWS);
    say("write-out of deduplication entries", seen_time, ROWS);
    say(
        &format!("merges ({} event, {} entry rewrites)", merged[0], merged[1]),
        merge_time,
        merged[0] + merged[1],
    );
    let set = keeper.runs(store)?;
    println!(
        "{} + {} runs, {:.0} bytes an event in memory, {:.0} on disk with its entry",
        set.runs_of(EVENTS).len(),
        set.runs_of(SEEN).len(),
        raw_bytes as f64 / ROWS as f64,
        set.bytes() as f64 / ROWS as f64
    );

    let absent: Vec<_> = (0..LOOK_UPS).map(|n| hash(n + 10 * ROWS, 6)).collect();
    let present: Vec<_> = (0..LOOK_UPS).map(|n| hash(n * 9973 % ROWS, 6)).collect();
    let facets: Vec<_> = (0..LOOK_UPS / 20).map(|n| hash(n * 31 % FACETS, 1)).collect();
    let mut found = 0;
    let mut time = Spent::default();
    timed(&mut time, || found += absent.iter().filter(|key| set.may_contain(SEEN, key)).count());
    say(&format!("filter, absent key ({found} pass)"), time, LOOK_UPS);
    for (step, keys) in [
        ("look-up, absent key", &absent),
        ("look-up, present key, cold", &present),
        ("look-up, present key, again", &present),
    ] {
        let mut time = Spent::default();
        timed(&mut time, || keys.iter().try_for_each(|key| set.flat_get(SEEN, key).map(|_| ())))?;
        say(step, time, LOOK_UPS);
    }
    for step in ["timeline of 20 newest, cold", "timeline of 20 newest, again"] {
        let (mut time, mut rows) = (Spent::default(), 0);
        timed(&mut time, || {
            facets.iter().try_for_each(|facet| {
                let batches = set.tail(EVENTS, facet, None, 20, Projection::ALL)?;
                rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
                Ok::<_, Failure>(())
            })
        })?;
        say(&format!("{step} (a look-up; {rows} rows in all)"), time, facets.len() as u64);
    }
    let (mut time, mut rows) = (Spent::default(), 0);
    timed(&mut time, || -> Result<(), Failure> {
        for batch in set.scan(EVENTS, None, None, Projection::of(&[1, 8, 10]), 8192)? {
            rows += batch?.num_rows() as u64;
        }
        Ok(())
    })?;
    say("scan of 3 columns in key order", time, rows);
    let mut time = Spent::default();
    let export = dir.join("export");
    let exported = timed(&mut time, || keeper.export(1, &export))?;
    timed(&mut time, || keeper.install(1, 2, &export, &exported))?;
    say("export and install", time, ROWS);
    Ok(())
}

fn main() -> Result<(), Failure> {
    let root = std::env::args().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    for compression in [PageCompression::None, PageCompression::Lz4, PageCompression::Zstd] {
        let dir = root.join(format!("runs-speed-{}", std::process::id()));
        let result = measure(dir.clone(), compression);
        std::fs::remove_dir_all(&dir)?;
        result?;
    }
    Ok(())
}
