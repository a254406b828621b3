//! How fast a snapshot is scanned: all events of a shard, written out as runs, with few columns and with all.
//!
//! `cargo run --release -p isthmus-shard --example scan_speed [events] [threads]`. Runs lie in memory, so nothing waits
//! for a disk. It also says how fast events are applied while a snapshot is held, and while none is.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use isthmus_domain::{
    AcceptContext, BlockedValues, IdentityKey, Limits, RawItem, ReplicaId, ShardMap, SourceView, accept,
};
use isthmus_proto::internal::v1::{
    CommandItem, IngestCommand, SetConfigCommand, ShardCommand, command_item::Body, shard_command::Command,
};
use isthmus_raft::{Committed, StateMachine as _};
use isthmus_shard::{
    Freezer, Keeper, KeeperOptions, Machine,
    scan::{Filters, Part, Request, Table, schema::event},
    tables,
};
use isthmus_storage::{
    control::MemoryControl,
    keeper::{Keeper as Storage, KeeperOptions as StorageOptions},
    runs::{MemoryRuns, RunOptions},
};
use prost::Message as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// 2026-01-15T00:00:00Z.
const NOW: i64 = 1_768_435_200_000_000;
const COMMAND_ITEMS: u64 = 500;
const BATCH_COMMANDS: u64 = 20;

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn timed<T>(step: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = step();
    (result, start.elapsed())
}

fn command(stamp: u64, command: Command) -> Bytes {
    ShardCommand { stamp, command: Some(command) }.encode_to_vec().into()
}

fn events(from: u64, to: u64) -> Result<Bytes, Failure> {
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
    let item = |number: u64| {
        let user = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 100_000;
        let second = number % 86_400;
        let json = format!(
            r#"{{"type":"track","event":"Event {}","messageId":"m-{number}","userId":"u{user}","timestamp":"2026-01-15T{:02}:{:02}:{:02}Z","properties":{{"revenue":"{}.50","currency":"USD","order_id":"o-{number}","category":"books"}}}}"#,
            number % 20,
            second / 3600,
            second / 60 % 60,
            second % 60,
            number % 1_000,
        );
        let accepted = accept(RawItem::Json(json.as_bytes()), &context).map_err(|refused| refused.message)?;
        let body = Some(Body::Record(accepted.record.to_bytes()));
        Ok(CommandItem { attempt: number + 1, body, ..CommandItem::default() })
    };
    let items = (from..to).map(item).collect::<Result<_, Failure>>()?;
    Ok(command(NOW.cast_unsigned(), Command::Ingest(IngestCommand { items })))
}

/// Reads parts on some threads; how many rows there were.
fn read(parts: Vec<Part>, threads: usize) -> Result<usize, String> {
    let parts = Mutex::new(parts);
    let work = || {
        let mut rows = 0;
        loop {
            let Some(part) = parts.lock().map_err(|_| "a thread has ended")?.pop() else { return Ok(rows) };
            for batch in part {
                rows += batch.map_err(|error| error.to_string())?.num_rows();
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread has ended")?);
        ended.sum()
    })
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let count = arguments.next().transpose()?.unwrap_or(1_000_000) as u64;
    let threads = arguments.next().transpose()?.unwrap_or(2);
    let (control, runs) = (Arc::new(MemoryControl::new()), MemoryRuns::new(RunOptions::default())?);
    let options = StorageOptions::default();
    let storage = Arc::new(Storage::open(Path::new("/keeper"), control, runs, tables(), options)?);
    let meta = storage.create_group(1, 1, Bytes::new(), Bytes::new())?;
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let budget = KeeperOptions { memory_bytes: 1 << 40, replay_bytes: 1 << 40, hot_bytes: 1 << 30 };
    let keeper = Keeper::start(storage, budget, &tracker, stop.clone());
    let mut machine = Machine::load(&keeper, &meta, "/snapshots".into(), tracker, 64 << 20)?;
    let shared = machine.shared();
    let mut map = ShardMap::even(1)?;
    for entry in &mut map.shards {
        entry.replicas = vec![ReplicaId(1 << 32 | 1)];
    }
    let set = SetConfigCommand { version: 1, shard_map: map.encode().into(), ..SetConfigCommand::default() };
    let mut log = vec![command(1, Command::SetConfig(set))];
    let (mut index, mut number, mut pin) = (0, 0, None);
    let mut applied = [(0, Duration::ZERO); 2];
    while number < count || !log.is_empty() {
        let items = number;
        while number < count && (log.len() as u64) < BATCH_COMMANDS {
            let to = (number + COMMAND_ITEMS).min(count);
            log.push(events(number, to)?);
            number = to;
        }
        let entries: Vec<Committed> = std::mem::take(&mut log)
            .into_iter()
            .map(|data| {
                index += 1;
                Committed { index, term: 1, data }
            })
            .collect();
        machine.prepare(&entries).await?;
        let (done, time) =
            timed(|| entries.into_iter().try_for_each(|entry| machine.apply(entry).map(|_| ())));
        done?;
        machine.batch_end();
        let with = usize::from(pin.is_some());
        applied[with] = (applied[with].0 + number - items, applied[with].1 + time);
        // Some write-outs, and the last events stay in memory; a pin for every second of them.
        if number % (count / 8).max(1) < COMMAND_ITEMS * BATCH_COMMANDS && number < count {
            Freezer::of(shared.clone()).write_out().await?;
            pin = match pin {
                Some(held) => {
                    shared.unpin(held);
                    None
                }
                None => Some(shared.pin(Duration::from_secs(600))?.id),
            };
        }
    }
    for (what, (events, time)) in ["without a pin", "with a pin"].iter().zip(applied) {
        println!("apply, {what:24} {:8.2} us an event", time.as_secs_f64() * 1e6 / events.max(1) as f64);
    }
    let pin = shared.pin(Duration::from_secs(600))?;
    let (snapshot, time) = timed(|| shared.fix(pin.id, pin.stamp));
    let snapshot = snapshot?;
    println!("{:31} {:8.2} ms", "making the snapshot", time.as_secs_f64() * 1e3);
    let named = Filters { names: Some(vec!["Event 3".to_owned()]), ..Filters::default() };
    let few = vec![event::HOME, event::TIMESTAMP, event::NAME];
    let scans = [
        ("events, a count", Request { columns: vec![], ..Request::all(Table::Events) }),
        ("events, home, time, name", Request { columns: few, ..Request::all(Table::Events) }),
        ("events, all columns", Request::all(Table::Events)),
        ("events, of one name", Request { filters: named, ..Request::all(Table::Events) }),
        ("facets, all columns", Request::all(Table::Facets)),
    ];
    for (what, request) in scans {
        // The second time what was decoded is there.
        for again in ["", ", again"] {
            let (rows, time) = timed(|| read(snapshot.parts(&request), threads));
            let (rows, name) = (rows?, format!("{what}{again}"));
            println!("{name:31} {:8.2} million rows/s, {rows} rows", rows as f64 / time.as_secs_f64() / 1e6);
        }
    }
    stop.cancel();
    Ok(())
}
