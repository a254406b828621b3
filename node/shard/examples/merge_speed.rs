//! What a merge of two profiles costs a replica besides Raft: decoding and applying the commands of all shards.
//!
//! `cargo run --release -p isthmus-shard --example merge_speed [merges a round] [rounds]`. 16 shards on engines in memory;
//! events come 50 to a command and shard, and messages between shards go as they do behind a courier: all that wait for a
//! shard in one command. What it says is the sum over all shards, so of one of a cluster's replicas.
#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Replica, event, map};
use isthmus_domain::ShardMap;
use isthmus_proto::internal::v1::{
    CommandItem, CourierMessage, DeliverCommand, ExchangeCommand, IngestCommand, TrimCommand,
    command_item::Body, shard_command::Command,
};
use isthmus_shard::apply::Outcome;
use prost::Message as _;

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHARDS: u32 = 16;
const COMMAND_ITEMS: usize = 50;

struct Shards {
    replicas: Vec<Replica>,
    map: ShardMap,
    /// What others have received of each.
    trims: Vec<BTreeMap<u64, u64>>,
    commands: usize,
    messages: usize,
    applying: Duration,
}

impl Shards {
    async fn propose(&mut self, shard: usize, command: Command) -> Outcome {
        self.commands += 1;
        let begin = processor_time();
        let outcome = self.replicas[shard].propose(command).await;
        self.applying += processor_time() - begin;
        outcome
    }

    async fn ingest(&mut self, events: impl Iterator<Item = String>) {
        let mut items: Vec<Vec<CommandItem>> = vec![Vec::new(); SHARDS as usize];
        for json in events {
            let (facet, record) = event(&json);
            let shard = self.map.owner(facet.slot()).unwrap().id.0 as usize - 1;
            items[shard].push(CommandItem {
                attempt: 1,
                body: Some(Body::Record(record)),
                ..CommandItem::default()
            });
        }
        for (shard, items) in items.into_iter().enumerate() {
            for items in items.chunks(COMMAND_ITEMS) {
                let command = IngestCommand { items: items.to_vec() };
                self.propose(shard, Command::Ingest(command)).await;
            }
        }
    }

    /// Lets all messages arrive that wait; whether there were any.
    async fn exchange(&mut self) -> bool {
        let mut parcels: Vec<Vec<DeliverCommand>> = vec![Vec::new(); SHARDS as usize];
        for from in 0..SHARDS as usize {
            let shared = self.replicas[from].shared();
            let known = &self.trims[from];
            let received = |to: u64| Some(known.get(&to).copied().unwrap_or(0));
            let found = shared.state.read().streams.parcels(1_024, 256 << 10, received);
            for parcel in found {
                let messages =
                    parcel.messages.into_iter().map(|bytes| CourierMessage::decode(bytes).unwrap());
                let messages: Vec<_> = messages.collect();
                self.messages += messages.len();
                let (from_shard, first_sequence) = (from as u64 + 1, parcel.first_sequence);
                let deliver = DeliverCommand { from_shard, first_sequence, messages };
                parcels[parcel.to_shard as usize - 1].push(deliver);
            }
        }
        let any = parcels.iter().any(|parcels| !parcels.is_empty());
        for (shard, parcels) in parcels.into_iter().enumerate() {
            let trims = self.trims[shard].iter();
            let trims = trims.map(|(to, through)| TrimCommand { to_shard: *to, through_sequence: *through });
            let from: Vec<u64> = parcels.iter().map(|parcel| parcel.from_shard).collect();
            let command = ExchangeCommand { trims: trims.collect(), parcels };
            if from.is_empty() {
                continue;
            }
            let Outcome::Exchanged(received, _) = self.propose(shard, Command::Exchange(command)).await
            else {
                panic!("not an exchange")
            };
            for (from, through) in from.into_iter().zip(received) {
                self.trims[from as usize - 1].insert(shard as u64 + 1, through);
            }
        }
        any
    }
}

/// What this thread has used of a processor: others may want it too.
fn processor_time() -> Duration {
    let read = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(read.split(' ').next().unwrap().parse().unwrap())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().unwrap());
    let (merges, rounds) = (arguments.next().unwrap_or(3_000), arguments.next().unwrap_or(5));
    let map = map(SHARDS);
    let mut replicas = Vec::new();
    for shard in 1..=u64::from(SHARDS) {
        let mut replica = Replica::new(shard);
        replica.configure(map.version, &map).await;
        replicas.push(replica);
    }
    let trims = vec![BTreeMap::new(); SHARDS as usize];
    let mut shards = Shards { replicas, map, trims, commands: 0, messages: 0, applying: Duration::ZERO };
    for round in 0..rounds {
        let numbers = round * merges..(round + 1) * merges;
        let first = r#""timestamp":"2025-01-15T00:00:00Z""#;
        let apart = numbers.clone().flat_map(|n| {
            [
                format!(r#"{{"type":"page","userId":"u{n}","messageId":"a{n}",{first}}}"#),
                format!(r#"{{"type":"page","anonymousId":"c{n}","messageId":"b{n}",{first}}}"#),
            ]
        });
        shards.ingest(apart).await;
        (shards.commands, shards.messages, shards.applying) = (0, 0, Duration::ZERO);
        let joined = numbers.map(|n| {
            let second = r#""timestamp":"2025-01-16T00:00:00Z""#;
            format!(
                r#"{{"type":"identify","userId":"u{n}","anonymousId":"c{n}","messageId":"m{n}",{second}}}"#
            )
        });
        shards.ingest(joined).await;
        while shards.exchange().await {}
        let bytes: u64 =
            shards.replicas.iter().map(|replica| replica.shared().state.read().active.bytes()).sum();
        println!(
            "{merges} merges: {:.1} µs each; {:.2} messages, {} commands; {} MiB in memtables",
            shards.applying.as_secs_f64() * 1e6 / merges as f64,
            shards.messages as f64 / merges as f64,
            shards.commands,
            bytes >> 20,
        );
    }
}
