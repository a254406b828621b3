//! Snapshots hold what a plain replay of the log up to their stamp holds, whatever goes on meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/rows.rs"]
mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{NOW, Replica, event, item, map, quarantined};
use isthmus_domain::identity::{Retraction, Scope, Until};
use isthmus_domain::{FacetId, Resolution, ResolutionKind, ShardMap, SlotRanges, Stamp};
use isthmus_proto::internal::v1::{
    AdvanceCommand, CourierMessage, DeliverCommand, FoundCommand, QuarantineVerdict,
    ResolveQuarantineCommand, RetractCommand, SweepCommand, TrimCommand, shard_command::Command,
};
use isthmus_shard::{
    Error,
    apply::Outcome,
    scan::{FIX_WITHIN, Filters, PINS_MAX, Request, Snapshot, Table, schema::event as column, schema::facet},
};
use proptest::prelude::*;
use prost::Message as _;
use rows::{Row, all, held, joined, scanned};

const SHARDS: usize = 2;
const LEASE: Duration = Duration::from_secs(600);
const TABLES: [Table; 4] = [Table::Events, Table::Facets, Table::LinkFacts, Table::Quarantine];

#[derive(Clone, Debug)]
enum Step {
    /// Of a user, of another name for somebody, and the second.
    Event(u8, u8, u8),
    Quarantine(u8),
    Resolve(u8),
    /// A parcel of a shard.
    Ship(usize),
    /// What its leader does beside.
    Tend(usize),
    Retract,
    WriteOut(usize),
    Pin,
    /// At the stamp that one of them has then, or had at the pin.
    Fix(bool),
    Check,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..5u8, 0..8u8, 0..60u8).prop_map(|(user, other, second)| Step::Event(user, other, second)),
        2 => (0..6u8).prop_map(Step::Quarantine),
        2 => (0..6u8).prop_map(Step::Resolve),
        8 => (0..SHARDS).prop_map(Step::Ship),
        1 => (0..SHARDS).prop_map(Step::Tend),
        1 => Just(Step::Retract),
        2 => (0..SHARDS).prop_map(Step::WriteOut),
        3 => Just(Step::Pin),
        3 => any::<bool>().prop_map(Step::Fix),
        1 => Just(Step::Check),
    ]
}

/// Shards, with the stamps of their logs, and who holds what of them.
struct Cluster {
    shards: Vec<Replica>,
    map: ShardMap,
    /// Of each shard: the stamp after each command of its log.
    stamps: Vec<Vec<u64>>,
    pins: Vec<Vec<(u64, Stamp)>>,
    cuts: Vec<(Stamp, Vec<Arc<Snapshot>>)>,
    events: u64,
}

impl Cluster {
    async fn new() -> Self {
        let map = map(SHARDS as u32);
        let (mut shards, mut stamps) = (Vec::new(), Vec::new());
        for shard in 1..=SHARDS as u64 {
            shards.push(Replica::new(shard));
            stamps.push(Vec::new());
        }
        let mut cluster = Self { shards, map, stamps, pins: Vec::new(), cuts: Vec::new(), events: 0 };
        let map = cluster.map.clone();
        for shard in 0..SHARDS {
            cluster.shards[shard].configure(1, &map).await;
            let stamp = cluster.stamp(shard).0;
            cluster.stamps[shard].push(stamp);
            for sweep in [0, 1] {
                cluster.propose(shard, Command::Sweep(SweepCommand { sweep, limit: 64 })).await;
            }
        }
        cluster
    }

    fn stamp(&self, shard: usize) -> Stamp {
        self.shards[shard].shared().state.read().meta.stamp
    }

    fn shard_of(&self, facet: FacetId) -> usize {
        self.map.owner(facet.slot()).unwrap().id.0 as usize - 1
    }

    async fn propose(&mut self, shard: usize, command: Command) -> Outcome {
        self.propose_at(shard, NOW as u64, command).await
    }

    async fn propose_at(&mut self, shard: usize, stamp: u64, command: Command) -> Outcome {
        let outcome = self.shards[shard].propose_at(stamp, command).await;
        let stamp = self.stamp(shard).0;
        self.stamps[shard].push(stamp);
        outcome
    }

    async fn ship(&mut self, from: usize) -> bool {
        let parcels = self.shards[from].shared().state.read().streams.parcels(3, 256 << 10, |_| Some(0));
        let any = !parcels.is_empty();
        for parcel in parcels {
            let messages = parcel.messages.into_iter().map(|it| CourierMessage::decode(it).unwrap());
            let deliver = DeliverCommand {
                from_shard: from as u64 + 1,
                first_sequence: parcel.first_sequence,
                messages: messages.collect(),
            };
            let to = parcel.to_shard as usize - 1;
            let outcome = self.propose(to, Command::Deliver(deliver)).await;
            let Outcome::Delivered(through_sequence, _) = outcome else { panic!("{outcome:?}") };
            let trim = TrimCommand { to_shard: parcel.to_shard, through_sequence };
            self.propose(from, Command::Trim(trim)).await;
        }
        any
    }

    async fn tend(&mut self, at: usize) {
        let (search, sweep) = {
            let shared = self.shards[at].shared();
            let state = shared.state.read();
            let search = state.searches.iter().next().map(|(facet, search)| (*facet, *search));
            (search, (!state.meta.sweep.is_done()).then_some(state.meta.sweep.wanted))
        };
        match (search, sweep) {
            (Some((facet, search)), _) => {
                let facet = Bytes::copy_from_slice(facet.as_bytes());
                let found = FoundCommand { facet, search, facts: Vec::new() };
                self.propose(at, Command::Found(found)).await;
            }
            (None, Some(sweep)) => {
                self.propose(at, Command::Sweep(SweepCommand { sweep, limit: 3 })).await;
            }
            (None, None) => {}
        }
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Event(user, other, second) => {
                self.events += 1;
                // Half of them say that two names are one customer's.
                let anonymous = match other {
                    0..4 => format!(r#","anonymousId":"a{other}""#),
                    _ => String::new(),
                };
                let json = format!(
                    r#"{{"type":"track","event":"E{}","userId":"u{user}"{anonymous},"messageId":"m{}","timestamp":"2025-01-01T00:00:{second:02}Z","properties":{{"n":{second}}}}}"#,
                    second % 3,
                    self.events,
                );
                let shard = self.shard_of(event(&json).0);
                let items = vec![item(self.events, &json)];
                let ingest = isthmus_proto::internal::v1::IngestCommand { items };
                self.propose(shard, Command::Ingest(ingest)).await;
            }
            Step::Quarantine(number) => {
                // Slots of one half and of the other; what was sent is more than a part holds.
                let number = number * 40 + 1;
                let payload = vec![b'a' + number % 26; 40_000 * usize::from(number % 3)];
                let items = vec![quarantined(number, &payload)];
                for shard in 0..SHARDS {
                    let ingest = isthmus_proto::internal::v1::IngestCommand { items: items.clone() };
                    self.propose(shard, Command::Ingest(ingest)).await;
                }
            }
            Step::Resolve(number) => {
                let resolution = Resolution {
                    kind: ResolutionKind::Dropped as i32,
                    by: "ann".into(),
                    ..Resolution::default()
                };
                let id = Bytes::copy_from_slice(&[number * 40 + 1; 16]);
                let verdict = QuarantineVerdict { id, resolution: resolution.encode_to_vec().into() };
                for shard in 0..SHARDS {
                    let resolve = ResolveQuarantineCommand { verdicts: vec![verdict.clone()] };
                    self.propose(shard, Command::ResolveQuarantine(resolve)).await;
                }
            }
            Step::Ship(from) => _ = self.ship(from).await,
            Step::Tend(at) => self.tend(at).await,
            Step::Retract => {
                let retraction = Retraction {
                    given_at: NOW,
                    id: "r-1".to_owned(),
                    scope: Scope::Source("test".to_owned()),
                    until: Until::Ever,
                    by: "tests".to_owned(),
                    reason: String::new(),
                };
                for shard in 0..SHARDS {
                    let retraction = retraction.encode().into();
                    let retract = RetractCommand { retraction, ..RetractCommand::default() };
                    self.propose(shard, Command::Retract(retract)).await;
                }
            }
            Step::WriteOut(at) => self.shards[at].write_out().await,
            Step::Pin => {
                let pin = |shard: &Replica| shard.shared().pin(LEASE).unwrap();
                self.pins.push(self.shards.iter().map(pin).map(|pin| (pin.id, pin.stamp)).collect());
            }
            Step::Fix(now) => {
                let Some(pins) = self.pins.pop() else { return };
                let stamps = pins.iter().map(|(_, stamp)| *stamp);
                let at = match now {
                    true => (0..SHARDS).map(|shard| self.stamp(shard)).max(),
                    false => stamps.max(),
                };
                self.fix(&pins, at.unwrap()).await;
            }
            Step::Check => self.check().await,
        }
    }

    async fn fix(&mut self, pins: &[(u64, Stamp)], at: Stamp) {
        let mut cut = Vec::new();
        for (shard, (pin, _)) in pins.iter().enumerate() {
            if self.stamp(shard) < at {
                self.propose_at(shard, at.0, Command::Advance(AdvanceCommand {})).await;
            }
            cut.push(self.shards[shard].shared().fix(*pin, at).unwrap());
        }
        self.cuts.push((at, cut));
    }

    /// Every snapshot is what a replay of its shard's log up to its stamp is, and a cut holds everything once.
    async fn check(&self) {
        for (at, cut) in &self.cuts {
            let (mut keys, mut alone, mut homes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            for (shard, snapshot) in cut.iter().enumerate() {
                let commands = self.stamps[shard].partition_point(|stamp| *stamp <= at.0);
                let mut model = Replica::new(shard as u64 + 1);
                model.replay(&self.shards[shard].log[..commands]).await;
                let model = model.shared();
                assert_eq!(snapshot.at(), *at);
                assert_eq!(snapshot.owned(), &model.state.read().meta.owned);
                for table in TABLES {
                    let rows = all(snapshot, table, 3);
                    assert_eq!(rows, held(&model, table), "{table:?} of shard {shard} at {at:?}");
                    if table == Table::Events {
                        assert!(rows.iter().all(|row| keys.insert(row[column::EVENT_KEY].clone())));
                    }
                    if table == Table::Facets {
                        let is_alone = |row: &&Row| row[facet::MEMBERS].is_some();
                        alone.extend(rows.iter().filter(is_alone).map(|row| row[facet::FACET].clone()));
                        let guests = rows.iter().filter(|row| row[facet::HOME] != row[facet::FACET]);
                        homes.extend(guests.map(|row| row[facet::HOME].clone()));
                    }
                    derived_columns_say_what_raw_ones_do(snapshot, table, &rows);
                }
            }
            assert!(alone.is_disjoint(&homes), "a facet that is alone is others' home, at {at:?}");
        }
    }
}

/// Some columns as they are and some made of others, twice: the second time they may have been kept. Of facets also
/// those that are alone, and the others.
fn derived_columns_say_what_raw_ones_do(snapshot: &Arc<Snapshot>, table: Table, rows: &[Row]) {
    let (plain, needs) = match table {
        Table::Events => (vec![column::HOME, column::EVENT_KEY], vec![column::TIMESTAMP, column::PROPERTIES]),
        Table::Facets => {
            (vec![facet::HOME, facet::MEMBERS], vec![facet::VALUE, facet::EVENTS, facet::SUMMARY])
        }
        _ => (vec![1], vec![3, 4]),
    };
    let text = |row: &Row, column: &usize| row[*column].clone().unwrap_or_default();
    let wanted = |row: &Row| -> Row {
        let made = needs.iter().map(|column| text(row, column)).collect::<Vec<_>>().join("|");
        plain.iter().map(|column| row[*column].clone()).chain([Some(made)]).collect()
    };
    let derived = vec![joined(table, &needs)];
    let request = Request { columns: plain.clone(), derived, batch_rows: 5, ..Request::all(table) };
    let alone: &[Option<bool>] =
        if table == Table::Facets { &[None, Some(true), Some(false)] } else { &[None] };
    for alone in alone {
        let fits = |row: &&Row| alone.is_none_or(|alone| row[facet::MEMBERS].is_some() == alone);
        let mut expected: Vec<Row> = rows.iter().filter(fits).map(wanted).collect();
        expected.sort();
        let filters = Filters { alone: *alone, ..Filters::default() };
        let request = Request { filters, ..request.clone() };
        for _ in 0..2 {
            assert_eq!(scanned(snapshot, &request), expected, "{table:?}, alone: {alone:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_is_the_log_up_to_its_stamp(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut cluster = Cluster::new().await;
            for step in &steps {
                cluster.take(step).await;
            }
            cluster.check().await;
            for shard in &cluster.shards {
                shard.hash();
            }
        });
    }
}

/// Some write-outs with events between, and one snapshot of all of it.
async fn filled() -> (Replica, Arc<Snapshot>, Vec<Row>) {
    let mut replica = Replica::alone().await;
    for number in 0..400_u64 {
        let json = format!(
            r#"{{"type":"{}","event":"E{}","userId":"u{}","messageId":"m{number}","timestamp":"2025-01-01T00:{:02}:00Z"}}"#,
            if number % 5 == 0 { "page" } else { "track" },
            number % 7,
            number % 23,
            number % 60,
        );
        replica.ingest(vec![item(number + 1, &json)]).await;
        if number % 150 == 149 {
            replica.write_out().await;
        }
    }
    let shared = replica.shared();
    let pin = shared.pin(LEASE).unwrap();
    let snapshot = shared.fix(pin.id, pin.stamp).unwrap();
    let rows = all(&snapshot, Table::Events, 8_192);
    assert_eq!(rows.len(), 400);
    (replica, snapshot, rows)
}

#[tokio::test]
async fn filters_leave_out_what_does_not_fit_and_nothing_else() {
    let (_replica, snapshot, rows) = filled().await;
    let text = |row: &Row, column: usize| row[column].clone().unwrap_or_default();
    let facets: Vec<FacetId> = [3, 9, 21].map(|n| common::user(&format!("u{n}"))).to_vec();
    let hex: BTreeSet<String> = facets.iter().map(ToString::to_string).collect();
    let micros = |minute: i64| 1_735_689_600_000_000 + minute * 60_000_000;
    let stamp = Stamp(text(&rows[200], column::RECEIVED_AT).parse().unwrap()).as_micros();
    let filters = [
        Filters { names: Some(vec!["E3".into(), "none".into()]), ..Filters::default() },
        Filters { types: Some(vec![1]), ..Filters::default() },
        Filters { sources: Some(vec!["other".into()]), ..Filters::default() },
        Filters { timestamp: (Some(micros(10)), Some(micros(12))), ..Filters::default() },
        Filters { received_at: (None, Some(stamp)), ..Filters::default() },
        Filters { facets: Some(facets.clone()), ..Filters::default() },
        Filters { facets: Some(vec![]), ..Filters::default() },
        Filters {
            facets: Some(facets),
            names: Some(vec!["E1".into()]),
            timestamp: (Some(micros(5)), None),
            ..Filters::default()
        },
    ];
    for filters in filters {
        let number = |row: &Row, column: usize| text(row, column).parse::<i64>().unwrap();
        let within = |(from, to): (Option<i64>, Option<i64>), value: i64| {
            from.is_none_or(|from| value >= from) && to.is_none_or(|to| value <= to)
        };
        let fits = |row: &&Row| {
            let one_of = |texts: &Option<Vec<String>>, column: usize| {
                texts.as_ref().is_none_or(|texts| texts.contains(&text(row, column)))
            };
            one_of(&filters.names, column::NAME)
                && one_of(&filters.sources, column::SOURCE)
                && filters.types.as_ref().is_none_or(|it| it.contains(&(number(row, column::TYPE) as u8)))
                && within(filters.timestamp, number(row, column::TIMESTAMP))
                && within(filters.received_at, number(row, column::RECEIVED_AT))
                && filters
                    .facets
                    .as_ref()
                    .is_none_or(|facets| !facets.is_empty() && hex.contains(&text(row, column::FACET)))
        };
        let expected: Vec<Row> = rows.iter().filter(fits).cloned().collect();
        let request = Request { filters: filters.clone(), batch_rows: 50, ..Request::all(Table::Events) };
        assert_eq!(scanned(&snapshot, &request), expected, "{filters:?}");
        // Of the columns that are asked about none may be wanted.
        let request = Request { columns: vec![column::MESSAGE_ID, column::FACET], ..request };
        let mut narrow: Vec<Row> = expected
            .iter()
            .map(|row| vec![row[column::MESSAGE_ID].clone(), row[column::FACET].clone()])
            .collect();
        narrow.sort();
        assert_eq!(scanned(&snapshot, &request), narrow, "{filters:?}");
        let none = Request { columns: vec![], ..request };
        assert_eq!(scanned(&snapshot, &none).len(), expected.len(), "a count needs no column");
    }
}

#[tokio::test]
async fn facets_are_found_by_name_and_whole() {
    let (_replica, snapshot, _) = filled().await;
    let whole = all(&snapshot, Table::Facets, 5);
    assert_eq!(whole.len(), 23);
    let facets: Vec<FacetId> = [5, 1, 77].map(|n| common::user(&format!("u{n}"))).to_vec();
    let hex: BTreeSet<Option<String>> = facets.iter().map(|it| Some(it.to_string())).collect();
    let filters = Filters { facets: Some(facets), ..Filters::default() };
    let found = scanned(&snapshot, &Request { filters, ..Request::all(Table::Facets) });
    let expected: Vec<Row> = whole.into_iter().filter(|row| hex.contains(&row[0])).collect();
    assert_eq!((found.len(), found), (2, expected));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_takes_what_was_remembered_with_it_and_says_so() {
    let (mut replica, _snapshot, _) = filled().await;
    let shared = replica.shared();
    shared.end_leases();
    let open = shared.pin(LEASE).unwrap();
    let pin = shared.pin(LEASE).unwrap();
    let snapshot = shared.fix(pin.id, pin.stamp).unwrap();
    assert_eq!(shared.pins(), 3);
    tokio::time::advance(FIX_WITHIN).await;
    shared.end_leases();
    assert_eq!(shared.pins(), 2, "one without a snapshot ends early");
    assert!(matches!(shared.fix(open.id, open.stamp), Err(Error::Invalid(_))));
    tokio::time::advance(LEASE).await;
    shared.end_leases();
    assert_eq!((shared.pins(), shared.is_watched()), (0, false));
    assert!(shared.snapshot(pin.id).is_none());
    replica.ingest(vec![quarantined(1, b"x")]).await;
    let mut parts = snapshot.parts(&Request::all(Table::Quarantine));
    assert!(parts[0].next().unwrap().is_err(), "it would hold what came later");
    assert!(parts[0].next().is_none());
}

#[tokio::test]
async fn pins_are_bounded_and_nothing_is_remembered_without_one() {
    let replica = Replica::alone().await;
    let shared = replica.shared();
    assert!(!shared.is_watched());
    let pins: Vec<u64> = (0..PINS_MAX).map(|_| shared.pin(LEASE).unwrap().id).collect();
    assert!(matches!(shared.pin(LEASE), Err(Error::Overloaded { .. })));
    assert_eq!(pins.iter().collect::<BTreeSet<_>>().len(), PINS_MAX);
    let stamp = shared.state.read().meta.stamp;
    let held = shared.fix(pins[0], stamp).unwrap();
    pins.iter().for_each(|pin| shared.unpin(*pin));
    assert_eq!((shared.pins(), shared.is_watched()), (0, true), "somebody still reads");
    assert!(all(&held, Table::Quarantine, 1).is_empty());
    drop(held);
    assert!(!shared.is_watched());
}

#[tokio::test]
async fn a_snapshot_is_of_the_slots_that_were_owned_then_and_another_state_ends_it() {
    let (mut replica, before, rows) = filled().await;
    let shared = replica.shared();
    let pin = shared.pin(LEASE).unwrap();
    let later = shared.pin(LEASE).unwrap();
    // The upper half goes to another shard.
    replica.configure(2, &map(2)).await;
    let at_pin = shared.fix(pin.id, pin.stamp).unwrap();
    let now = shared.state.read().meta.stamp;
    let moved = shared.fix(later.id, now).unwrap();
    assert_eq!((before.owned(), at_pin.owned()), (&SlotRanges::all(), &SlotRanges::all()));
    assert_eq!(all(&at_pin, Table::Events, 100), rows);
    assert_eq!(moved.owned().len(), 8_192);
    let lower = |row: &&Row| row[0].as_ref().is_some_and(|facet| facet.as_str() < "8");
    for table in [Table::Events, Table::Facets] {
        let expected: Vec<Row> = all(&at_pin, table, 100).iter().filter(lower).cloned().collect();
        assert_eq!(all(&moved, table, 100), expected);
    }
    let open = shared.pin(LEASE).unwrap();
    replica.reinstall().await;
    assert_eq!(shared.pins(), 0);
    assert!(shared.fix(open.id, open.stamp).is_err());
    assert!(moved.parts(&Request::all(Table::Facets))[0].next().unwrap().is_err());
}
