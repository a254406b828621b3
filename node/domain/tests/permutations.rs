//! The promise of the fold: any order, repetition and batching of the same events gives the same bytes.
//!
//! Each case makes events as clients would send them (few names, few times, so that they collide), accepts them, and
//! folds them twice: in the order given, one by one; and shuffled, with repetitions, cut into batches whose
//! summaries are encoded, decoded and merged in yet another order. Repetitions are dropped by their deduplication
//! key first, as a shard does: the fold itself counts what it is given.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::value::json;
use isthmus_domain::{
    AcceptContext, BlockedValues, EventRecord, FacetId, FacetSummary, IdentityKey, Limits, Map, Profile,
    RawItem, SourceView, Stamp, Value, accept,
};
use proptest::prelude::*;

const KEY: IdentityKey = IdentityKey::new([3; 32]);

/// An event before it is accepted: which of few users, sources, times, contents.
#[derive(Clone, Debug)]
struct Sent {
    who: u8,
    source: u8,
    when: u8,
    what: u8,
    number: i16,
}

fn sent() -> impl Strategy<Value = Sent> {
    (0..3_u8, 0..2_u8, 0..4_u8, 0..8_u8, any::<i16>()).prop_map(|(who, source, when, what, number)| Sent {
        who,
        source,
        when,
        what,
        number,
    })
}

fn text(value: impl ToString) -> Value {
    Value::String(value.to_string())
}

/// The message id is the event's place in the generated list: unique, but without regard to time.
fn record(sent: &Sent, message_id: usize) -> EventRecord {
    let n = sent.number;
    let mut item = Map::from([
        ("messageId".to_owned(), text(message_id)),
        ("timestamp".to_owned(), Value::Int(i64::from(sent.when) * 1_000)),
    ]);
    let mut set = |key: &str, value: Value| item.insert(key.to_owned(), value);
    match sent.who {
        0 => set("userId", text("u")),
        1 => set("anonymousId", text("a")),
        _ => set("context", json::parse(br#"{"externalIds":[{"type":"crm_id","id":"c"}]}"#).unwrap()),
    };
    let object = |pairs: &[(&str, Value)]| -> Value {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect::<Map>().into()
    };
    let revenue = Value::Float(f64::from(n) / 100.0);
    match sent.what {
        0 | 1 => {
            set("type", text("track"));
            set("event", text(["Order Completed", "Seen"][usize::from(sent.what)]));
            set("properties", object(&[("revenue", revenue)]))
        }
        2 => {
            set("type", text("track"));
            set("event", text("Order Completed"));
            set("properties", object(&[("revenue", text(format!("{n}.5"))), ("currency", text("eur"))]))
        }
        3 => set("type", text("page")),
        4 => {
            set("type", text("identify"));
            set("traits", object(&[("plan", Value::Null), ("first_name", text(n))]))
        }
        5 => {
            set("type", text("identify"));
            set("traits", object(&[("plan", Value::Null)]))
        }
        _ => {
            set("type", text("identify"));
            set(
                "traits",
                object(&[("plan", Value::Int(i64::from(n))), ("tags", vec![Value::Bool(n > 0)].into())]),
            )
        }
    };
    let source = SourceView::new(["web", "app"][usize::from(sent.source)]);
    let ctx = AcceptContext {
        source: &source,
        key: &KEY,
        now_micros: 10_000_000,
        sent_at: None,
        limits: Limits::default(),
        blocked: &BlockedValues::default(),
        make_message_id: &|| unreachable!("every event has one"),
    };
    accept(RawItem::Typed(item), &ctx).unwrap().record
}

type Facets = BTreeMap<FacetId, FacetSummary>;

fn one_by_one(records: &[EventRecord]) -> Facets {
    let mut facets = Facets::new();
    for record in records {
        facets.entry(record.facet_id()).or_default().absorb(record);
    }
    facets
}

/// Sums of batches, each through its bytes, merged last to first.
fn in_batches(records: &[EventRecord], cuts: &[prop::sample::Index]) -> Facets {
    let mut bounds: Vec<usize> = cuts.iter().map(|c| c.index(records.len() + 1)).collect();
    bounds.extend([0, records.len()]);
    bounds.sort_unstable();
    let mut facets = Facets::new();
    for pair in bounds.windows(2).rev() {
        for (facet, delta) in one_by_one(&records[pair[0]..pair[1]]) {
            let delta = FacetSummary::from_bytes(&delta.to_bytes()).unwrap();
            facets.entry(facet).or_default().merge(&delta);
        }
    }
    facets
}

fn deduplicated(records: Vec<EventRecord>) -> Vec<EventRecord> {
    let mut seen = BTreeSet::new();
    records.into_iter().filter(|r| seen.insert(r.dedup_key())).collect()
}

fn bytes(facets: &Facets) -> Vec<Vec<u8>> {
    facets.values().map(FacetSummary::to_bytes).collect()
}

fn profile<'a>(facets: impl Iterator<Item = &'a FacetSummary>) -> Option<Profile> {
    let members = facets.map(|f| (f.identifier().unwrap(), f));
    Profile::fold(&KEY, members, "USD", Stamp(7))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]
    #[test]
    fn any_order_repetition_and_batching_gives_the_same_bytes(
        sent in prop::collection::vec(sent(), 1..9),
        order in prop::collection::vec(any::<prop::sample::Index>(), 12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let records: Vec<EventRecord> = sent.iter().enumerate().map(|(i, s)| record(s, i)).collect();
        let expected = one_by_one(&records);

        // Some events several times, then all of them, each moved to a place of its own.
        let mut arrivals: Vec<EventRecord> = order.iter().take(4).map(|i| records[i.index(records.len())].clone()).collect();
        for (record, place) in records.iter().zip(order.iter().cycle()) {
            let place = place.index(arrivals.len() + 1);
            arrivals.insert(place, record.clone());
        }
        let arrivals = deduplicated(arrivals);
        prop_assert_eq!(arrivals.len(), records.len());
        let got = in_batches(&arrivals, &cuts);
        prop_assert_eq!(bytes(&got), bytes(&expected));

        let whole = profile(expected.values()).unwrap();
        let turned = profile(got.values().rev()).unwrap();
        prop_assert_eq!(whole.to_json(), turned.to_json());
        prop_assert_eq!(whole.events as usize, records.len());
        prop_assert_eq!(whole.first_seen, records.iter().map(|r| r.timestamp).min());
        prop_assert_eq!(whole.last_seen, records.iter().map(|r| r.timestamp).max());

        // Deltas of a member may come as they are: a profile of parts is the profile of their sums.
        let parts: Vec<FacetSummary> = arrivals.iter().map(FacetSummary::of).collect();
        prop_assert_eq!(profile(parts.iter()).unwrap().to_json(), whole.to_json());
    }

    #[test]
    fn merging_is_commutative_and_associative(sent in prop::collection::vec(sent(), 3..9), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let one = Sent { who: 0, ..sent[0].clone() };
        let records: Vec<EventRecord> = sent.iter().enumerate().map(|(i, s)| record(&Sent { who: one.who, ..s.clone() }, i)).collect();
        let (low, high) = (a.index(records.len()), b.index(records.len()));
        let (low, high) = (low.min(high), low.max(high));
        let sum = |records: &[EventRecord]| records.iter().fold(FacetSummary::default(), |mut s, r| { s.absorb(r); s });
        let (x, y, z) = (sum(&records[..low]), sum(&records[low..high]), sum(&records[high..]));
        let merged = |parts: [&FacetSummary; 2]| { let mut s = parts[0].clone(); s.merge(parts[1]); s };
        prop_assert_eq!(merged([&x, &y]).to_bytes(), merged([&y, &x]).to_bytes());
        prop_assert_eq!(merged([&merged([&x, &y]), &z]).to_bytes(), merged([&x, &merged([&z, &y])]).to_bytes());
    }
}

/// The guard that the promise leans on: without deduplication a repetition is counted, and the test above would see.
#[test]
fn a_repetition_that_is_not_dropped_is_counted() {
    let sent = Sent { who: 0, source: 0, when: 1, what: 0, number: 100 };
    let record = record(&sent, 1);
    let twice = one_by_one(&[record.clone(), record.clone()]);
    assert_ne!(bytes(&twice), bytes(&one_by_one(&[record])));
}
