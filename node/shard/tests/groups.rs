//! Groups across shards: whatever crashes, and in whatever order messages come, both ends say what events said, once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Replica, event, item, map};
use isthmus_domain::{
    EventRecord, FacetId, FacetSummary, IdentityKey, RecordView, ShardMap,
    group::{GroupId, said_of_group},
};
use isthmus_proto::internal::v1::{
    CourierMessage, DeliverCommand, IngestCommand, TrimCommand, shard_command::Command,
};
use isthmus_shard::{Awaited, apply::Outcome, read};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::json;

/// Shards, and what they were told.
struct Shards {
    shards: Vec<Replica>,
    map: ShardMap,
    records: Vec<EventRecord>,
}

/// What is left at a group or a member when all is said: for each other end, times and count.
type Rows = BTreeMap<FacetId, (i64, i64, u64)>;

impl Shards {
    async fn new(count: u64) -> Self {
        let map = map(u32::try_from(count).unwrap());
        let mut shards = Vec::new();
        for shard in 1..=count {
            let mut replica = Replica::new(shard);
            replica.configure(map.version, &map).await;
            shards.push(replica);
        }
        Self { shards, map, records: Vec::new() }
    }

    fn at(&self, facet: FacetId) -> &Replica {
        &self.shards[self.index(facet)]
    }

    fn index(&self, facet: FacetId) -> usize {
        usize::try_from(self.map.owner(facet.slot()).unwrap().id.0).unwrap() - 1
    }

    /// Takes an event in; what its answer waits for.
    async fn ingest(&mut self, attempt: u64, json: &str) -> (u8, Vec<Awaited>) {
        let (facet, record) = event(json);
        let at = self.index(facet);
        let items = vec![item(attempt, json)];
        let outcome = self.shards[at].propose(Command::Ingest(IngestCommand { items })).await;
        let Outcome::Ingested(ingested) = outcome else { panic!("{outcome:?}") };
        if ingested.outcomes == [1] && !self.records.iter().any(|known| known.to_bytes() == record) {
            self.records.push(EventRecord::from_bytes(record).unwrap());
        }
        (ingested.outcomes[0], ingested.open.into_iter().map(|(_, open)| open).collect())
    }

    /// Brings what a shard has for others, at most so many messages each; whether there was any. Told twice, it counts
    /// once.
    async fn ship(&mut self, from: usize, messages: usize) -> bool {
        let parcels = self.shards[from].shared().state.read().streams.parcels(messages, 1 << 20, |_| Some(0));
        for parcel in &parcels {
            let messages: Vec<CourierMessage> =
                parcel.messages.iter().map(|bytes| CourierMessage::decode(bytes.clone()).unwrap()).collect();
            let from_shard = from as u64 + 1;
            let deliver = DeliverCommand { from_shard, first_sequence: parcel.first_sequence, messages };
            let to = usize::try_from(parcel.to_shard).unwrap() - 1;
            self.shards[to].propose(Command::Deliver(deliver.clone())).await;
            let outcome = self.shards[to].propose(Command::Deliver(deliver)).await;
            let Outcome::Delivered(through_sequence, _) = outcome else { panic!("{outcome:?}") };
            let trim = TrimCommand { to_shard: parcel.to_shard, through_sequence };
            self.shards[from].propose(Command::Trim(trim)).await;
        }
        !parcels.is_empty()
    }

    async fn settle(&mut self) {
        while {
            let mut any = false;
            for from in 0..self.shards.len() {
                any |= self.ship(from, 3).await;
            }
            any
        } {}
    }

    fn rows(&self, facet: FacetId, of_group: bool) -> Rows {
        let page = read::memberships(&self.at(facet).shared(), &facet, of_group, None, 1_000).unwrap();
        assert!(!page.more);
        let row = |(other, row): (FacetId, isthmus_proto::internal::v1::MembershipRow)| {
            assert!(row.unconfirmed.is_empty(), "all is confirmed");
            (other, (row.first_seen, row.last_seen, row.events))
        };
        page.memberships.into_iter().map(row).collect()
    }

    /// Groups and members are as the events say.
    fn assert_as_said(&self) {
        let mut summaries: BTreeMap<FacetId, FacetSummary> = BTreeMap::new();
        let (mut members, mut groups): (BTreeMap<FacetId, Rows>, BTreeMap<FacetId, Rows>) =
            Default::default();
        for record in &self.records {
            let bytes = record.to_bytes();
            let Some(said) = said_of_group(&RecordView::read(&bytes).unwrap()).unwrap() else { continue };
            summaries.entry(said.facet_id()).or_default().absorb(&said);
            let count = |rows: &mut Rows, other| {
                let row = rows.entry(other).or_insert((i64::MAX, i64::MIN, 0));
                *row = (row.0.min(record.timestamp), row.1.max(record.timestamp), row.2 + 1);
            };
            count(members.entry(said.facet_id()).or_default(), record.facet_id());
            count(groups.entry(record.facet_id()).or_default(), said.facet_id());
        }
        for (group, summary) in &summaries {
            let row = read::group(&self.at(*group).shared(), group).unwrap().unwrap();
            assert_eq!(&row.summary[..], summary.to_bytes());
            assert_eq!(row.members, members[group].len() as u64);
            assert_eq!(self.rows(*group, true), members[group]);
        }
        for (member, wanted) in &groups {
            assert_eq!(&self.rows(*member, false), wanted);
        }
        let mut listed = BTreeSet::new();
        for shard in &self.shards {
            let mut after = None;
            loop {
                let page = read::groups(&shard.shared(), after.as_ref(), 2).unwrap();
                listed.extend(page.groups.iter().map(|(id, _)| *id));
                after = page.groups.last().map(|(id, _)| *id);
                if !page.more {
                    break;
                }
            }
            shard.hash();
            assert_eq!(shard.shared().state.read().streams.waiting(), 0);
        }
        assert_eq!(listed, summaries.keys().copied().collect());
    }
}

fn group_event(user: u8, group: u8, number: u8, plan: Option<u8>) -> String {
    let traits = match plan {
        Some(0) => json!({"plan": null}),
        Some(plan) => json!({"plan": plan, format!("from{user}"): number}),
        None => json!({}),
    };
    json!({
        "type": "group", "userId": format!("u{user}"), "groupId": format!("g{group}"), "traits": traits,
        "messageId": format!("m{number}"), "timestamp": format!("2025-06-01T00:00:{:02}Z", number % 7),
    })
    .to_string()
}

#[derive(Clone, Debug)]
enum Step {
    Say(u8, u8, Option<u8>),
    Again(prop::sample::Index),
    Ship(usize),
    Crash(usize, bool),
    WriteOut(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5_u8, 0..4_u8, prop::option::of(0..3_u8)).prop_map(|(user, group, plan)| Step::Say(user, group, plan)),
        2 => any::<prop::sample::Index>().prop_map(Step::Again),
        4 => (0..3_usize).prop_map(Step::Ship),
        1 => (0..3_usize, any::<bool>()).prop_map(|(shard, written)| Step::Crash(shard, written)),
        1 => (0..3_usize).prop_map(Step::WriteOut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_crashes_both_ends_say_what_events_said(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut shards = Shards::new(3).await;
            let mut said: Vec<String> = Vec::new();
            for step in &steps {
                match step {
                    Step::Say(user, group, plan) => {
                        let number = u8::try_from(said.len()).unwrap();
                        said.push(group_event(*user, *group, number, *plan));
                        shards.ingest(u64::from(number) + 1, said.last().unwrap()).await;
                    }
                    Step::Again(_) if said.is_empty() => {}
                    Step::Again(index) => {
                        let again = index.get(&said).clone();
                        let (outcome, _) = shards.ingest(1_000, &again).await;
                        assert_eq!(outcome, 2, "it is known");
                    }
                    Step::Ship(from) => _ = shards.ship(*from, 2).await,
                    Step::Crash(shard, written) => {
                        if *written {
                            shards.shards[*shard].write_out().await;
                        }
                        shards.shards[*shard].crash().await;
                    }
                    Step::WriteOut(shard) => shards.shards[*shard].write_out().await,
                }
            }
            shards.settle().await;
            shards.assert_as_said();
        });
    }
}

/// A group that lies in another shard than a user does.
fn far_group(shards: &Shards, user: FacetId) -> String {
    let key = IdentityKey::new(common::KEY);
    let far =
        |name: &String| shards.index(GroupId::normalise(name).unwrap().facet(&key)) != shards.index(user);
    (0..).map(|n| format!("far{n}")).find(far).unwrap()
}

#[tokio::test]
async fn an_answer_waits_until_the_group_has_confirmed_and_so_does_that_to_a_duplicate() {
    let mut shards = Shards::new(3).await;
    let group = far_group(&shards, common::user("u1"));
    let json = json!({"type": "group", "userId": "u1", "groupId": group, "messageId": "a"}).to_string();
    let (outcome, open) = shards.ingest(1, &json).await;
    let [Awaited::Group { member, group, number: 1 }] = open[..] else { panic!("{open:?}") };
    assert_eq!((outcome, member), (1, common::user("u1")));
    let again = shards.ingest(2, &json).await;
    assert_eq!(again, (2, open), "no earlier than the original's");
    let waits =
        |shards: &Shards| read::is_unconfirmed(&shards.at(member).shared(), &member, &group, 1).unwrap();
    assert!(waits(&shards));
    shards.settle().await;
    assert!(!waits(&shards));
    assert_eq!(shards.ingest(3, &json).await, (2, vec![]), "nothing is left to wait for");
    shards.assert_as_said();
}

#[tokio::test]
async fn a_group_of_many_traits_is_kept_in_parts() {
    let mut shards = Shards::new(2).await;
    for part in 0..8_u64 {
        let traits: serde_json::Map<String, serde_json::Value> =
            (0..20).map(|n| (format!("trait-{part}-{n}"), "x".repeat(1_000).into())).collect();
        let user = format!("u{part}");
        let json =
            json!({"type": "group", "userId": user, "groupId": "large", "messageId": "m", "traits": traits});
        shards.ingest(part + 1, &json.to_string()).await;
        shards.settle().await;
        for shard in &mut shards.shards {
            shard.write_out().await;
            shard.crash().await;
        }
    }
    let group = GroupId::normalise("large").unwrap().facet(&IdentityKey::new(common::KEY));
    let row = read::group(&shards.at(group).shared(), &group).unwrap().unwrap();
    assert!(row.summary.len() > 160_000, "{}", row.summary.len());
    shards.assert_as_said();
}
