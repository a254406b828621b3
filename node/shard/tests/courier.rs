//! Messages between shards are handled exactly once, by whoever owns the slot, whatever the network and crashes do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::VecDeque;

use bytes::Bytes;
use common::{Replica, item, map};
use isthmus_domain::{ShardMap, SlotRange};
use isthmus_proto::internal::v1::{
    CourierMessage, DeliverCommand, ExchangeCommand, TrimCommand, shard_command::Command,
};
use isthmus_shard::{ShardMeta, Streams, apply::Outcome, keys};
use proptest::prelude::*;
use prost::Message as _;

/// Shards, and parcels on their way between them.
struct Cluster {
    shards: Vec<Replica>,
    network: VecDeque<(usize, DeliverCommand)>,
    map: ShardMap,
}

/// What happens next. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody is seen with two identifiers.
    Link(u8, u8, u8),
    /// A courier sends all that waits.
    Ship(u8),
    /// The nth parcel arrives; the second flag: its acknowledgement is lost; the third: it stays, to come again.
    Arrive(u8, bool, bool),
    /// The nth parcel is lost.
    Drop(u8),
    WriteOut(u8),
    Crash(u8),
    /// A slice of slots moves to another shard; a shard learns of it when it is told.
    Move(u16, u8),
    Tell(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), any::<u8>(), 0..60u8).prop_map(|(a, b, t)| Step::Link(a % 8, b % 8, t)),
        5 => any::<u8>().prop_map(Step::Ship),
        8 => (any::<u8>(), any::<bool>(), any::<bool>()).prop_map(|(n, lost, stays)| Step::Arrive(n, lost, stays)),
        1 => any::<u8>().prop_map(Step::Drop),
        1 => any::<u8>().prop_map(Step::WriteOut),
        1 => any::<u8>().prop_map(Step::Crash),
        2 => (any::<u16>(), any::<u8>()).prop_map(|(slot, shard)| Step::Move(slot, shard)),
        2 => any::<u8>().prop_map(Step::Tell),
    ]
}

impl Cluster {
    async fn new(count: u32) -> Self {
        let map = map(count);
        let mut shards = Vec::new();
        for shard in 1..=u64::from(count) {
            let mut replica = Replica::new(shard);
            replica.configure(map.version, &map).await;
            shards.push(replica);
        }
        Self { shards, network: VecDeque::new(), map }
    }

    async fn step(&mut self, step: &Step) {
        let pick = |n: u8| usize::from(n) % self.shards.len();
        match step {
            Step::Link(a, b, time) => {
                let json = format!(
                    r#"{{"type":"page","userId":"u{a}","anonymousId":"c{b}","messageId":"m{a}-{b}-{time}","timestamp":"2025-01-01T00:00:{time:02}Z"}}"#
                );
                // The router asks every shard until one owns it.
                for shard in &mut self.shards {
                    shard.ingest(vec![item(u64::from(*time), &json)]).await;
                }
            }
            Step::Ship(n) => {
                let from = pick(*n);
                self.ship(from);
            }
            Step::Arrive(n, lost, stays) => self.arrive(*n, *lost, *stays).await,
            Step::Drop(n) => {
                if !self.network.is_empty() {
                    self.network.remove(usize::from(*n) % self.network.len());
                }
            }
            Step::WriteOut(n) => self.shards[pick(*n)].write_out().await,
            Step::Crash(n) => {
                let n = pick(*n);
                self.shards[n].crash().await;
            }
            Step::Move(slot, to) => {
                let to = pick(*to);
                let start = slot % 16_000;
                let range = SlotRange::new(start, start + 300).unwrap();
                for entry in &mut self.map.shards {
                    entry.ranges.remove(range);
                }
                self.map.shards[to].ranges.insert(range);
                self.map.version += 1;
            }
            Step::Tell(n) => {
                let n = pick(*n);
                self.shards[n].configure(self.map.version, &self.map).await;
            }
        }
    }

    fn ship(&mut self, from: usize) {
        let parcels = self.shards[from].shared().state.read().streams.parcels(4, 1 << 20, |_| Some(0));
        for parcel in parcels {
            let messages =
                parcel.messages.into_iter().map(|bytes| CourierMessage::decode(bytes).unwrap()).collect();
            let command = DeliverCommand {
                from_shard: from as u64 + 1,
                first_sequence: parcel.first_sequence,
                messages,
            };
            self.network.push_back((parcel.to_shard as usize - 1, command));
        }
    }

    async fn arrive(&mut self, n: u8, lost: bool, stays: bool) {
        if self.network.is_empty() {
            return;
        }
        let n = usize::from(n) % self.network.len();
        let (to, command) = self.network[n].clone();
        if !stays {
            self.network.remove(n);
        }
        let from = command.from_shard;
        let exchange = ExchangeCommand { parcels: vec![command], trims: vec![] };
        let outcome = self.shards[to].propose(Command::Exchange(exchange)).await;
        let Outcome::Exchanged(received, _) = outcome else { panic!("{outcome:?}") };
        if !lost {
            let trim = TrimCommand { to_shard: to as u64 + 1, through_sequence: received[0] };
            let exchange = ExchangeCommand { parcels: vec![], trims: vec![trim] };
            self.shards[from as usize - 1].propose(Command::Exchange(exchange)).await;
        }
    }

    /// Faults end, everybody knows the newest map, and all that waits arrives.
    async fn settle(&mut self) {
        self.network.clear();
        for shard in &mut self.shards {
            shard.configure(self.map.version, &self.map).await;
        }
        for _round in 0..1_000 {
            for from in 0..self.shards.len() {
                self.ship(from);
            }
            if self.network.is_empty() {
                return;
            }
            while !self.network.is_empty() {
                self.arrive(0, false, false).await;
            }
        }
        panic!("messages go round for ever");
    }

    /// How many messages were made, and how many handled.
    fn made_and_handled(&self) -> (u64, u64) {
        let (mut made, mut handled) = (0, 0);
        for shard in &self.shards {
            let shared = shard.shared();
            let state = shared.state.read();
            (made, handled) = (made + state.meta.made, handled + state.meta.handled);
        }
        (made, handled)
    }
}

/// The control rows of a table: written out, then everything else by a write-out.
fn rows(replica: &Replica, table: u8) -> Vec<(Vec<u8>, Bytes)> {
    let shared = replica.shared();
    let state = shared.state.read();
    assert!(shared.lower.read().frozen.is_none());
    let mut all: std::collections::BTreeMap<Vec<u8>, Option<Bytes>> =
        replica.stored_rows(table).into_iter().map(|(key, value)| (key, Some(value))).collect();
    let active = state.active.rows.iter().filter(|(key, _)| key[0] == table);
    all.extend(active.map(|(key, value)| (key, value.cloned())));
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

async fn exactly_once(steps: &[Step]) -> Result<(), String> {
    let mut cluster = Cluster::new(3).await;
    for step in steps {
        cluster.step(step).await;
    }
    cluster.settle().await;
    for shard in &cluster.shards {
        shard.hash();
    }
    let (made, handled) = cluster.made_and_handled();
    if made == handled { Ok(()) } else { Err(format!("{made} messages were made, {handled} handled")) }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_is_handled_exactly_once_whatever_happens(steps in prop::collection::vec(step(), 1..60)) {
        let scenario = fail::FailScenario::setup();
        let held = runtime().block_on(exactly_once(&steps));
        scenario.teardown();
        prop_assert_eq!(held, Ok(()));
    }
}

/// Links, shipped, arriving twice each: enough for a missing guard to show.
fn repeated_arrivals() -> Vec<Step> {
    let links = (0..8).flat_map(|a| (0..8).map(move |b| Step::Link(a, b, a)));
    let ships = (0..3).map(Step::Ship);
    let arrivals = (0..12).map(|n| Step::Arrive(n, true, true));
    links.chain(ships).chain(arrivals).collect()
}

#[test]
fn without_the_inbox_sequence_messages_are_handled_twice() {
    let scenario = fail::FailScenario::setup();
    assert_eq!(runtime().block_on(exactly_once(&repeated_arrivals())), Ok(()));
    fail::cfg("shard::inbox::sequence", "return").unwrap();
    assert!(runtime().block_on(exactly_once(&repeated_arrivals())).is_err());
    scenario.teardown();
}

#[test]
fn without_deduplication_an_event_counts_twice() {
    let twice = || async {
        let mut replica = Replica::alone().await;
        let json = common::track("u1", "m1", 1, "10.00");
        replica.ingest(vec![item(1, &json)]).await;
        replica.ingest(vec![item(2, &json)]).await;
        isthmus_shard::read::facet(&replica.shared(), &common::user("u1")).unwrap().0.unwrap().events()
    };
    let scenario = fail::FailScenario::setup();
    assert_eq!(runtime().block_on(twice()), 1);
    fail::cfg("shard::dedup", "return").unwrap();
    assert_eq!(runtime().block_on(twice()), 2);
    scenario.teardown();
}

#[test]
fn without_the_ownership_check_two_shards_take_the_same_event() {
    let takers = || async {
        let mut cluster = Cluster::new(3).await;
        let json = common::track("u1", "m1", 1, "10.00");
        let mut takers = 0;
        for shard in &mut cluster.shards {
            takers += usize::from(shard.ingest(vec![item(1, &json)]).await == [1]);
        }
        takers
    };
    let scenario = fail::FailScenario::setup();
    assert_eq!(runtime().block_on(takers()), 1);
    fail::cfg("shard::ownership::items", "return").unwrap();
    assert_eq!(runtime().block_on(takers()), 3);
    scenario.teardown();
}

#[test]
fn a_message_for_a_slot_that_moved_is_sent_on_to_its_owner() {
    // Without the check it would be handled, and its row lie, where nobody looks for it.
    let astray = |checked: bool| async move {
        let mut cluster = Cluster::new(3).await;
        for (a, b) in (0..8).flat_map(|a| (0..8).map(move |b| (a, b))) {
            cluster.step(&Step::Link(a, b, 1)).await;
        }
        for from in 0..3 {
            cluster.ship(from);
        }
        // While the parcels are on their way, every slot moves on by one shard.
        cluster.map.shards.rotate_left(1);
        let ids: Vec<_> = (1..=3).map(isthmus_domain::ShardId).collect();
        for (entry, id) in cluster.map.shards.iter_mut().zip(ids) {
            entry.id = id;
        }
        cluster.map.version += 1;
        let before: usize = cluster.shards.iter().map(|shard| half_rows_not_owned(shard, &cluster.map)).sum();
        if !checked {
            fail::cfg("shard::ownership::messages", "return").unwrap();
        }
        cluster.settle_keeping_the_network().await;
        let after: usize = cluster.shards.iter().map(|shard| half_rows_not_owned(shard, &cluster.map)).sum();
        after - before
    };
    let scenario = fail::FailScenario::setup();
    assert_eq!(runtime().block_on(astray(true)), 0);
    assert!(runtime().block_on(astray(false)) > 0);
    scenario.teardown();
}

fn half_rows_not_owned(replica: &Replica, map: &ShardMap) -> usize {
    let owned = &map.shards[replica.shard as usize - 1].ranges;
    let slot = |key: &[u8]| isthmus_domain::Slot::new(u16::from_be_bytes([key[1], key[2]])).unwrap();
    rows(replica, keys::table::HALF_ROW).iter().filter(|(key, _)| !owned.contains(slot(key))).count()
}

impl Cluster {
    async fn settle_keeping_the_network(&mut self) {
        for shard in &mut self.shards {
            shard.configure(self.map.version, &self.map).await;
        }
        while !self.network.is_empty() {
            self.arrive(0, false, false).await;
        }
        self.settle().await;
    }
}

#[tokio::test]
async fn a_message_with_the_last_number_there_is_waits_behind_the_gap() {
    let mut cluster = Cluster::new(1).await;
    let deliver = DeliverCommand {
        from_shard: 2,
        first_sequence: u64::MAX,
        messages: vec![CourierMessage::default(), CourierMessage::default()],
    };
    let outcome = cluster.shards[0].propose(Command::Deliver(deliver)).await;
    assert!(matches!(outcome, Outcome::Delivered(0, _)), "{outcome:?}");
}

#[test]
fn stored_counts_that_nothing_can_have_counted_are_damage() {
    for change in [
        |meta: &mut ShardMeta| meta.made = u64::MAX,
        |meta: &mut ShardMeta| meta.handled = u64::MAX,
        |meta: &mut ShardMeta| meta.sweep.wanted = u64::MAX,
        |meta: &mut ShardMeta| meta.sweep.done = u64::MAX,
    ] {
        let mut meta = ShardMeta::empty();
        assert!(ShardMeta::decode(1, &meta.encode()).is_ok());
        change(&mut meta);
        let error = ShardMeta::decode(1, &meta.encode()).err().unwrap();
        assert!(error.contains("counts more than can have happened"), "{error}");
    }
    let most = Bytes::copy_from_slice(&u64::MAX.to_be_bytes());
    for (key, value) in [
        (keys::outbox(2, u64::MAX), Bytes::from_static(b"a message")),
        (keys::outbox_last(2), most.clone()),
        (keys::inbox(2), most),
    ] {
        let error = Streams::load([(Bytes::from(key), value)]).unwrap_err();
        assert!(error.contains("damaged"), "{error}");
    }
}
