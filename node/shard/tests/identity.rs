//! Merges across shards, step by step: whoever crashes when, they end whole; what is large is kept, shipped and folded
//! in parts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{Replica, event, item, map};
use isthmus_domain::identity::{IdentityRules, Ledger, Retraction, Scope, Until};
use isthmus_domain::{EventRecord, FacetId, Identifier, IdentityKey, ShardMap};
use isthmus_identity::Served;
use isthmus_proto::internal::v1::{
    CourierMessage, DeliverCommand, FoundCommand, RetractCommand, SweepCommand, TrimCommand,
    courier_message::Body, identity_message::Body as Said, shard_command::Command,
};
use isthmus_shard::{StateHash, apply::Outcome, keys, read};
use prost::Message as _;
use serde_json::json;

/// How many shards.
const SHARDS: u64 = 3;

/// Shards, and all that they were told.
struct Cluster {
    shards: Vec<Replica>,
    map: ShardMap,
    records: Vec<EventRecord>,
    /// Commands so far, not counting the configuration.
    steps: usize,
    /// The most messages of one parcel.
    parcel: usize,
    /// Commands by which somebody went on with work that was cut into steps.
    continued: usize,
}

/// What happens after a step.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Crash,
    WriteOutAndCrash,
}

/// After which step, at which shard.
type Faults<'a> = &'a dyn Fn(usize, usize) -> Option<Fault>;

const NONE: Faults<'static> = &|_, _| None;

impl Cluster {
    async fn new(parcel: usize) -> Self {
        let map = map(SHARDS as u32);
        let mut shards = Vec::new();
        for shard in 1..=SHARDS {
            let mut replica = Replica::new(shard);
            replica.configure(map.version, &map).await;
            // What leaders do first: they take up facts of a version without identity resolution.
            for sweep in [0, 1] {
                replica.propose(Command::Sweep(SweepCommand { sweep, limit: 64 })).await;
            }
            shards.push(replica);
        }
        Self { shards, map, records: Vec::new(), steps: 0, parcel, continued: 0 }
    }

    fn shard_of(&self, facet: FacetId) -> usize {
        shard_of(&self.map, facet)
    }

    /// After each step: who is to crash crashes, and every state is whole.
    async fn stepped(&mut self, faults: Faults<'_>) {
        self.steps += 1;
        for (index, shard) in self.shards.iter_mut().enumerate() {
            match faults(self.steps, index) {
                Some(Fault::Crash) => shard.crash().await,
                Some(Fault::WriteOutAndCrash) => {
                    shard.write_out().await;
                    shard.crash().await;
                }
                None => continue,
            }
            shard.hash();
        }
    }

    async fn ingest(&mut self, json: &str, faults: Faults<'_>) {
        let (facet, bytes) = event(json);
        self.records.push(EventRecord::from_bytes(bytes).unwrap());
        let shard = self.shard_of(facet);
        let attempt = self.records.len() as u64;
        assert_eq!(self.shards[shard].ingest(vec![item(attempt, json)]).await, [1], "{json}");
        self.stepped(faults).await;
    }

    /// Ships the next parcel that a shard has for each, and has it forgotten; whether there was any.
    async fn ship(&mut self, from: usize, faults: Faults<'_>) -> bool {
        let shared = self.shards[from].shared();
        let parcels = shared.state.read().streams.parcels(self.parcel, 256 << 10, |_| Some(0));
        drop(shared);
        let any = !parcels.is_empty();
        for parcel in parcels {
            let messages: Vec<CourierMessage> =
                parcel.messages.into_iter().map(|bytes| CourierMessage::decode(bytes).unwrap()).collect();
            self.continued += messages.iter().filter(|message| goes_on(message)).count();
            let (from_shard, first_sequence) = (from as u64 + 1, parcel.first_sequence);
            let deliver = DeliverCommand { from_shard, first_sequence, messages };
            let to = parcel.to_shard as usize - 1;
            let outcome = self.shards[to].propose(Command::Deliver(deliver)).await;
            let Outcome::Delivered(through_sequence, _) = outcome else { panic!("{outcome:?}") };
            self.stepped(faults).await;
            let trim = TrimCommand { to_shard: parcel.to_shard, through_sequence };
            self.shards[from].propose(Command::Trim(trim)).await;
            self.stepped(faults).await;
        }
        any
    }

    /// Ships until nobody has anything to say.
    async fn settle(&mut self, faults: Faults<'_>) {
        loop {
            let mut any = false;
            for from in 0..self.shards.len() {
                any |= self.ship(from, faults).await;
            }
            if !any {
                return;
            }
        }
    }

    fn hashes(&self) -> Vec<StateHash> {
        self.shards.iter().map(Replica::hash).collect()
    }

    /// Who an identifier is one customer with, by its record and the list at its home.
    fn members(&self, facet: FacetId) -> BTreeSet<FacetId> {
        let shared = self.shards[self.shard_of(facet)].shared();
        let Some(record) = read::record(&shared, &facet).unwrap() else { return BTreeSet::from([facet]) };
        let home = FacetId::from_slice(&record.home).unwrap_or(facet);
        let at_home = self.shards[self.shard_of(home)].shared();
        match read::members(&at_home, &home, &facet, record.epoch).unwrap() {
            Served::Members(members, _) => {
                members.iter().map(|member| FacetId::from_slice(&member.facet).unwrap()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Everybody belongs to whom the model says; all is in force; nothing was lost or done twice.
    fn assert_whole(&self, without_links: bool) {
        let mut ledger = Ledger::new(IdentityKey::new(common::KEY), Arc::new(IdentityRules::default()));
        let mut wanted: BTreeMap<FacetId, BTreeSet<FacetId>> = BTreeMap::new();
        for fact in self.records.iter().flat_map(|record| record.link_facts()).map(Result::unwrap) {
            for end in [&fact.a, &fact.b] {
                let facet = ledger.facet(end);
                wanted.insert(facet, BTreeSet::from([facet]));
            }
            if !without_links {
                ledger.accept(fact).unwrap();
            }
        }
        for profile in ledger.profiles() {
            let members: BTreeSet<FacetId> = profile.component.members().iter().map(|m| m.facet).collect();
            wanted.extend(members.iter().map(|member| (*member, members.clone())));
        }
        for (facet, wanted) in &wanted {
            assert_eq!(&self.members(*facet), wanted);
        }
        let (mut made, mut handled) = (0, 0);
        for shard in &self.shards {
            shard.hash();
            let shared = shard.shared();
            for row in link_rows(shard) {
                assert!(!read::is_unsettled(&shared, &row).unwrap(), "a row is not in force");
            }
            let state = shared.state.read();
            (made, handled) = (made + state.meta.made, handled + state.meta.handled);
            assert_eq!(state.streams.waiting(), 0);
        }
        assert_eq!(made, handled, "messages made and handled");
    }
}

/// Whether a message tells its receiver to go on with something.
fn goes_on(message: &CourierMessage) -> bool {
    match &message.body {
        Some(Body::Identity(identity)) => matches!(identity.body, Some(Said::Continue(_))),
        _ => false,
    }
}

/// The rows of link facts at their primaries.
fn link_rows(replica: &Replica) -> Vec<isthmus_domain::identity::RowKey> {
    let stored = replica.stored_rows(keys::table::LINK_ROW).into_iter().map(|(key, _)| key);
    let shared = replica.shared();
    let state = shared.state.read();
    let active = state.active.rows.iter().map(|(key, _)| key);
    let active = active.filter(|key| key[0] == keys::table::LINK_ROW);
    let all: BTreeSet<Vec<u8>> = stored.chain(active).collect();
    all.iter().map(|key| isthmus_identity::keys::link_row_key(key).unwrap()).collect()
}

fn shard_of(map: &ShardMap, facet: FacetId) -> usize {
    map.owner(facet.slot()).unwrap().id.0 as usize - 1
}

fn facet(namespace: &str, value: &str) -> FacetId {
    let identifier = Identifier::parse(&format!("{namespace}:{value}")).unwrap();
    FacetId::of(&IdentityKey::new(common::KEY), &identifier)
}

/// The first value of a namespace whose facet fits.
fn value(namespace: &str, fits: impl Fn(FacetId) -> bool) -> String {
    let values = (0..).map(|number| format!("{namespace}-{number}"));
    values.into_iter().find(|value| fits(facet(namespace, value))).unwrap()
}

/// A page seen by all of these.
fn seen(message_id: &str, second: usize, ids: &[(&str, &str)]) -> String {
    let external: Vec<_> = ids.iter().map(|(namespace, id)| json!({"type": namespace, "id": id})).collect();
    let time = format!("2025-01-01T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60);
    json!({"type": "page", "messageId": message_id, "timestamp": time, "context": {"externalIds": external}})
        .to_string()
}

/// Two customers whose identifiers lie on all three shards, in the order in which their roots have to give way, and an
/// event that makes them one.
fn merge() -> [String; 4] {
    let map = map(SHARDS as u32);
    let on = |namespace: &str, shard: usize| value(namespace, |facet| shard_of(&map, facet) == shard);
    let (user, email, phone) = (on("user_id", 2), on("email", 1), on("member", 0));
    let (card, cookie) = (on("crm_id", 1), on("anonymous_id", 0));
    [
        seen("m-1", 50, &[("user_id", &user), ("email", &email), ("member", &phone)]),
        seen("m-2", 40, &[("crm_id", &card), ("anonymous_id", &cookie)]),
        seen("m-3", 30, &[("user_id", &user), ("crm_id", &card)]),
        // Of an older time, so that what was folded is folded again.
        seen("m-4", 20, &[("email", &email), ("anonymous_id", &cookie)]),
    ]
}

async fn merged(faults: Faults<'_>) -> Cluster {
    // One message at a time: no step does more than it must.
    let mut cluster = Cluster::new(1).await;
    for json in merge() {
        cluster.ingest(&json, faults).await;
    }
    cluster.settle(faults).await;
    cluster.assert_whole(false);
    cluster
}

#[tokio::test]
async fn a_crash_after_any_step_of_a_merge_over_three_shards_ends_in_the_same_whole_merge() {
    let undisturbed = merged(NONE).await;
    let (steps, hashes) = (undisturbed.steps, undisturbed.hashes());
    assert!(steps > 20, "{steps} steps are no merge");
    let members =
        undisturbed.members(facet("user_id", &value("user_id", |f| shard_of(&undisturbed.map, f) == 2)));
    assert_eq!(members.len(), 5);
    let shards: BTreeSet<usize> = members.iter().map(|member| undisturbed.shard_of(*member)).collect();
    assert_eq!(shards.len(), 3, "the merge doesn't go over all shards");
    for crashed in 1..=steps {
        for fault in [Fault::Crash, Fault::WriteOutAndCrash] {
            for shard in 0..SHARDS as usize {
                let faults = |step: usize, at: usize| (step == crashed && at == shard).then_some(fault);
                let cluster = merged(&faults).await;
                assert_eq!(cluster.hashes(), hashes, "{fault:?} of {shard} after step {crashed}");
            }
        }
    }
    println!("{steps} steps");
}

#[tokio::test]
async fn shards_that_all_crash_after_every_step_end_in_the_same_whole_merge() {
    let hashes = merged(NONE).await.hashes();
    for fault in [Fault::Crash, Fault::WriteOutAndCrash] {
        assert_eq!(merged(&|_, _| Some(fault)).await.hashes(), hashes, "{fault:?}");
    }
}

impl Cluster {
    /// Takes a source's links back, and does what leaders then do until all is in force.
    async fn retract_source(&mut self) {
        let retraction = Retraction {
            given_at: common::NOW,
            id: "r-1".to_owned(),
            scope: Scope::Source("test".to_owned()),
            until: Until::Ever,
            by: "tests".to_owned(),
            reason: String::new(),
        };
        let retraction = retraction.encode();
        for shard in &mut self.shards {
            let command =
                RetractCommand { retraction: retraction.clone().into(), ..RetractCommand::default() };
            shard.propose(Command::Retract(command)).await;
        }
        loop {
            let mut any = false;
            for from in 0..self.shards.len() {
                any |= self.tend(from).await;
                any |= self.ship(from, NONE).await;
            }
            if !any {
                return;
            }
        }
    }

    /// The next step of a sweep, or the end of a search: no link of the only source is left to be found.
    async fn tend(&mut self, at: usize) -> bool {
        let shared = self.shards[at].shared();
        let (search, sweep) = {
            let state = shared.state.read();
            let sweep = (!state.meta.sweep.is_done()).then_some(state.meta.sweep.wanted);
            (state.searches.first_key_value().map(|(facet, search)| (*facet, *search)), sweep)
        };
        let command = match (search, sweep) {
            (Some((facet, search)), _) => {
                let facet = facet.as_bytes().to_vec().into();
                Command::Found(FoundCommand { facet, search, facts: Vec::new() })
            }
            (None, Some(sweep)) => Command::Sweep(SweepCommand { sweep, limit: 64 }),
            (None, None) => return false,
        };
        self.shards[at].propose(command).await;
        true
    }

    async fn write_out_and_crash(&mut self, at: usize) {
        self.shards[at].write_out().await;
        self.shards[at].crash().await;
        self.shards[at].hash();
    }
}

/// Events by which somebody has so many cookies, of so many bytes each.
fn cookies(who: (&str, &str), count: usize, bytes: usize) -> Vec<String> {
    let cookie = |n: usize| format!("{:x<bytes$}", format!("cookie-{}-{n:05}-", who.1));
    let cookies: Vec<String> = (0..count).map(cookie).collect();
    let event = |(number, cookies): (usize, &[String])| {
        let cookies = cookies.iter().map(|cookie| ("anonymous_id", cookie.as_str()));
        let ids: Vec<_> = [who].into_iter().chain(cookies).collect();
        seen(&format!("cookies-{number}"), number, &ids)
    };
    cookies.chunks(90).enumerate().map(event).collect()
}

/// The tables of the rows that are kept in parts.
fn tables_in_parts(replica: &Replica) -> BTreeSet<u8> {
    replica.stored_rows(keys::table::PART).iter().map(|(key, _)| key[3]).collect()
}

#[tokio::test]
async fn rows_of_a_merge_of_hundreds_are_kept_in_parts_that_survive_and_go_with_them() {
    let mut cluster = Cluster::new(1_024).await;
    // Of the two the customer with fewer cookies has the home. Cookies as long as identifiers may be: the fewer of them
    // make rows that are too large for one.
    let (few, many) = (("user_id", "collector"), ("crm_id", "card"));
    for json in cookies(few, 100, 250).into_iter().chain(cookies(many, 250, 250)) {
        cluster.ingest(&json, NONE).await;
        cluster.settle(NONE).await;
    }
    let mut tables = BTreeSet::new();
    cluster.ingest(&seen("link", 100, &[few, many]), NONE).await;
    loop {
        let mut any = false;
        for shard in 0..SHARDS as usize {
            cluster.write_out_and_crash(shard).await;
            tables.extend(tables_in_parts(&cluster.shards[shard]));
            any |= cluster.ship(shard, NONE).await;
        }
        if !any {
            break;
        }
    }
    assert!(tables.contains(&keys::table::OUTBOX), "no message was large: {tables:x?}");
    cluster.assert_whole(false);
    let user = facet(few.0, few.1);
    let home = cluster.shard_of(user);
    assert_eq!(cluster.members(user).len(), 352);
    let history = read::history(&cluster.shards[home].shared(), &user).unwrap();
    assert_eq!(history.iter().map(|epoch| epoch.came.len()).max(), Some(251), "came at once");

    cluster.retract_source().await;
    for shard in 0..SHARDS as usize {
        cluster.write_out_and_crash(shard).await;
        let tables = tables_in_parts(&cluster.shards[shard]);
        let wanted = if shard == home { BTreeSet::from([keys::table::HISTORY]) } else { BTreeSet::new() };
        assert_eq!(tables, wanted, "parts of rows that are gone");
    }
    assert_eq!(cluster.members(user).len(), 1);
    cluster.assert_whole(true);
}

#[tokio::test]
async fn thousands_of_rows_are_shipped_and_folded_in_steps_with_other_commands_between() {
    let mut cluster = Cluster::new(1_024).await;
    for json in cookies(("user_id", "collector"), 2_700, 70) {
        cluster.ingest(&json, NONE).await;
        cluster.settle(NONE).await;
    }
    let bundle = cluster.records.iter().flat_map(|record| &record.links);
    let smallest = bundle.map(|link| FacetId::from_slice(&link.facet).unwrap()).min().unwrap();
    let smaller = value("crm_id", |facet| facet < smallest && shard_of(&cluster.map, facet) == 0);
    let root = cluster.shard_of(smallest);
    cluster.continued = 0;
    // Older than all else: whatever was folded is folded again.
    let link = json!({"type": "page", "messageId": "link", "timestamp": "2024-01-01T00:00:00Z",
        "context": {"externalIds": [{"type": "user_id", "id": "collector"}, {"type": "crm_id", "id": smaller}]}});
    cluster.ingest(&link.to_string(), NONE).await;
    let (mut rounds, mut between) = (0, 0);
    loop {
        let mut any = false;
        for from in 0..SHARDS as usize {
            any |= cluster.ship(from, NONE).await;
        }
        if !any {
            break;
        }
        rounds += 1;
        // Somebody else is seen at the shard of the root, and counts at once.
        let other = value("user_id", |facet| {
            cluster.shard_of(facet) == root && !cluster.records.iter().any(|r| r.facet_id() == facet)
        });
        let page = seen(&format!("between-{rounds}"), 1, &[("user_id", &other)]);
        cluster.ingest(&page, NONE).await;
        let known = read::facet(&cluster.shards[root].shared(), &facet("user_id", &other)).unwrap();
        between += known.0.unwrap().events();
        if rounds % 5 == 0 {
            cluster.write_out_and_crash(root).await;
        }
    }
    assert!(cluster.continued >= 10, "{} steps in {rounds} rounds", cluster.continued);
    assert_eq!(between, rounds);
    cluster.assert_whole(false);
}
