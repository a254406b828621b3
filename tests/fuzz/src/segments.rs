//! Segments: expressions and documents that people write, and the states that shards keep and tell each other.
//!
//! A byte chooses which. Text is taken or refused, with a place that lies in it; what is taken can be compiled, asked of a
//! customer, and written as SQL. A state that can be read is written as something that reads the same, and whatever it
//! says, customers of it are judged and events of it expire.

use std::{collections::BTreeMap, str, sync::LazyLock};

use bytes::Bytes;
use isthmus_domain::{
    EventRecord, EventType, FacetId, Identifier, IdentityKey, RecordView, record::TraitChange,
};
use isthmus_segment::{
    Algebra, Document, FacetState, Fault, Known, Plan, Standing, Touched, Type, definition, parse, sql,
};

use crate::pieces::{Pieces, stable};

/// A moment of 2026, in microseconds since 1970.
const NOW: i64 = 1_768_000_000_000_000;

/// Expressions of each kind.
const EXPRESSIONS: [&str; 10] = [
    "plan = 'pro' AND events('Order Completed', '30 days') >= 3 AND NOT did('Support Ticket', '7 days')",
    "last_seen < now() - INTERVAL '90 days' OR revenue > 12.5e1",
    "sequence('Product Added', NOT 'Order Completed', within => '1 hour', window => '40 days')",
    "sum(amount, 'Order Completed', '30 days') > 250.00 AND avg(amount, 'Order Completed') IS NOT NULL",
    "events('Product Viewed', '7 days', category IN ('books', 'lamps')) BETWEEN 1 AND 9",
    "segment('first') AND NOT consent('marketing')",
    "CAST(age AS NUMERIC) * 2 > 1 AND city ILIKE 'B%_n'",
    "events(type => 'page', window => '30 days') > 3",
    "categories > 2 AND favourite = 'books' OR spent >= 10",
    "distinct_count(category, 'Product Viewed') > 1",
];

const DOCUMENT: &str = r#"{"computed_traits": [
    {"name": "orders_90d", "aggregate": "count", "events": ["Order Completed"], "window": "90 days"},
    {"name": "spent", "aggregate": "sum", "of": "amount", "events": ["Order Completed"]},
    {"name": "smallest", "aggregate": "min", "of": "amount", "type": "number", "events": ["Order Completed"], "window": "30 days"},
    {"name": "favourite", "aggregate": "most_frequent", "of": "category", "type": "text", "events": ["Product Viewed"]},
    {"name": "categories", "aggregate": "distinct_count", "of": "category", "events": ["Product Viewed"], "bound": 3},
    {"name": "latest", "aggregate": "distinct_list", "of": "category", "event_type": "any", "limit": 2, "filter": "amount > 1"},
    {"name": "newest", "aggregate": "last", "of": "category", "type": "text", "event_type": "track"}],
  "segments": [
    {"name": "first", "expression": "orders_90d >= 1"},
    {"name": "second", "expression": "segment('first') AND spent > 5 AND did('Product Viewed', '3 days')"},
    {"name": "third", "expression": "sequence('Product Viewed', 'Order Completed', within => '2 days')"},
    {"name": "fourth", "expression": "plan = 'pro' OR last_seen < now() - INTERVAL '9 days' OR newest = 'books'"}]}"#;

static PLAN: LazyLock<Plan> =
    LazyLock::new(|| Plan::compile(&Document::from_json(DOCUMENT.as_bytes()).unwrap(), &known()).unwrap());

fn known() -> Known {
    Known { traits: None, currency: "USD".into() }
}

/// The target.
pub fn run(bytes: &[u8]) {
    let mut input = Pieces(bytes);
    match input.byte() % 6 {
        0 => expression(input.rest()),
        1 => document(input.rest()),
        2 => algebra(input.rest()),
        3 => state(input.rest()),
        4 => standing(input.rest()),
        _ => event(input.rest()),
    }
}

fn expression(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Err(fault) = parse::filter(text) {
        lies_in(&fault, text);
    }
    let computed = PLAN.definitions().iter().filter(|definition| !definition.is_segment);
    let names = parse::Names {
        segments: ["first".to_owned()].into(),
        traits: Some(BTreeMap::from([("plan".into(), Type::Text), ("age".into(), Type::Number)])),
        currency: "USD".into(),
        ..parse::Names::default()
    };
    if let Err(fault) = parse::expression(text, &names) {
        lies_in(&fault, text);
    }
    let mut written = Document::from_json(DOCUMENT.as_bytes()).unwrap();
    assert_eq!(written.computed_traits.len(), computed.count());
    written.segments.push(definition::Segment {
        name: "fuzzed".into(),
        expression: text.to_owned(),
        ..definition::Segment::default()
    });
    match Plan::compile(&written, &known()) {
        Ok(plan) => answers(&plan),
        Err(faults) => {
            assert!(!faults.is_empty());
            faults.iter().filter(|fault| fault.at.contains("fuzzed")).for_each(|fault| lies_in(fault, text));
        }
    }
}

/// A place is one of the text, or right behind it; and what is wrong is said.
fn lies_in(fault: &Fault, text: &str) {
    assert!(!fault.what.is_empty());
    let Some(place) = fault.place else { return };
    let lines = text.split('\n').count();
    assert!((1..=lines).contains(&(place.line as usize)), "{fault} of {text:?}");
    let line = text.split('\n').nth(place.line as usize - 1).unwrap();
    assert!((1..=line.chars().count() + 1).contains(&(place.column as usize)), "{fault} of {text:?}");
}

fn document(bytes: &[u8]) {
    let read = |bytes: &[u8]| Document::from_json(bytes).ok();
    let Some(document) = stable(bytes, read, Document::to_json) else { return };
    match Plan::compile(&document, &known()) {
        Ok(plan) => answers(&plan),
        Err(faults) => assert!(faults.iter().all(|fault| !fault.what.is_empty())),
    }
}

/// A plan takes events, judges whoever they are of, and is written as SQL.
fn answers(plan: &Plan) {
    let mut state = FacetState::default();
    for number in 0..4 {
        let record = record(number).to_bytes();
        plan.absorb(&RecordView::read(&record).unwrap(), &mut state, &mut Touched::default());
    }
    judged(plan, &mut state);
    for definition in plan.definitions().iter().filter(|definition| definition.is_segment) {
        if let Err(fault) = sql::members(plan, definition, NOW) {
            assert!(!fault.what.is_empty());
        }
    }
}

fn judged(plan: &Plan, state: &mut FacetState) {
    for now in [NOW, NOW + 1_000_000, NOW + 400 * 86_400_000_000] {
        assert_eq!(plan.evaluate(&[state], now, &plan.all()).len(), plan.definitions().len());
        plan.judge(&[state, &FacetState::default()], now, &plan.all());
        plan.expire(state, now);
    }
}

fn algebra(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let known = ["s0", "s5", "s10", "Vip-1"];
    match Algebra::parse(text, known) {
        Ok(algebra) => assert!(algebra.names().iter().all(|name| known.contains(name))),
        Err(fault) => lies_in(&fault, text),
    }
}

fn state(bytes: &[u8]) {
    let read = |bytes: &[u8]| FacetState::from_bytes(bytes).ok();
    let Some(mut state) = stable(bytes, read, FacetState::to_bytes) else { return };
    let mut sum = FacetState::default();
    assert!(sum.merge(&state).is_ok(), "nothing has no other kind");
    assert_eq!(sum.to_bytes(), state.to_bytes());
    // What is of another kind is told, and nothing else is.
    let _of_another_kind = sum.merge(&known_state());
    judged(&PLAN, &mut state);
}

fn known_state() -> FacetState {
    let mut state = FacetState::default();
    for number in 0..4 {
        let record = record(number).to_bytes();
        PLAN.absorb(&RecordView::read(&record).unwrap(), &mut state, &mut Touched::default());
    }
    state
}

fn standing(bytes: &[u8]) {
    let read = |bytes: &[u8]| Standing::from_bytes(bytes, &PLAN).ok();
    let Some(standing) = stable(bytes, read, |standing: &Standing| standing.to_bytes(&PLAN)) else { return };
    assert!(standing.members().all(|definition| definition < PLAN.definitions().len()));
    standing.due(NOW, &mut Touched::default());
}

fn event(bytes: &[u8]) {
    let Ok(view) = RecordView::read(bytes) else { return };
    let mut state = known_state();
    PLAN.absorb(&view, &mut state, &mut Touched::default());
    assert_eq!(FacetState::from_bytes(&state.to_bytes()).unwrap().to_bytes(), state.to_bytes());
    judged(&PLAN, &mut state);
}

/// A view, an order, an identification, and something else.
fn record(number: u64) -> EventRecord {
    let user = Identifier::from_stored("user_id", "u1").unwrap();
    let facet = FacetId::of(&IdentityKey::new([5; 32]), &user);
    let (kind, name, properties) = match number {
        0 => (EventType::Track, "Product Viewed", r#"{"category":"books","amount":3}"#),
        1 => (EventType::Track, "Order Completed", r#"{"amount":"12.50","category":"lamps","list":[1,"a"]}"#),
        2 => (EventType::Identify, "", ""),
        _ => (EventType::Page, "Home", r#"{"category":null}"#),
    };
    let traits = [("plan", "\"pro\""), ("age", "41"), ("city", "\"Bonn\"")];
    let change = |(name, value): (&str, &str)| TraitChange {
        name: name.to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    EventRecord {
        facet: Bytes::copy_from_slice(facet.as_bytes()),
        namespace: "user_id".into(),
        value: "u1".into(),
        message_id: format!("m{number}"),
        source: "shop".into(),
        kind: kind.into(),
        name: name.into(),
        timestamp: NOW - 3_600_000_000 * (1 + number.cast_signed()),
        body_hash: Bytes::from_static(&[9; 16]),
        dedup_key: Bytes::copy_from_slice(&[u8::try_from(number).unwrap(); 16]),
        revenue: (number == 1).then(|| "12.50".parse().unwrap()),
        currency: if number == 1 { "USD".into() } else { String::new() },
        traits: if number == 2 { traits.map(change).to_vec() } else { Vec::new() },
        properties: Bytes::from_static(properties.as_bytes()),
        context: Bytes::from_static(
            br#"{"context":{"consent":{"categoryPreferences":{"marketing":true}},"page":{"path":"/"}}}"#,
        ),
        ..EventRecord::default()
    }
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let chosen = |choice: u8, rest: &[u8]| [&[choice], rest].concat();
    let mut seeds: Vec<Vec<u8>> = EXPRESSIONS.iter().map(|text| chosen(0, text.as_bytes())).collect();
    seeds.push(chosen(1, DOCUMENT.as_bytes()));
    seeds.push(chosen(2, b"count((s0 and s5) or not (Vip-1 not s10))"));
    let mut state = known_state();
    seeds.push(chosen(3, &state.to_bytes()));
    PLAN.expire(&mut state, NOW);
    let mut standing = Standing::default();
    standing.update(&PLAN, &PLAN.evaluate(&[&state], NOW, &PLAN.all()));
    seeds.push(chosen(4, &standing.to_bytes(&PLAN)));
    seeds.extend((0..4).map(|number| chosen(5, &record(number).to_bytes())));
    seeds
}

/// What is meant to be taken is taken: else a target would look at nothing but refusals.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_begins_with_is_taken() {
        for text in EXPRESSIONS {
            let mut document = Document::from_json(DOCUMENT.as_bytes()).unwrap();
            document.segments.push(definition::Segment {
                name: "fuzzed".into(),
                expression: text.to_owned(),
                ..definition::Segment::default()
            });
            let compiled = Plan::compile(&document, &known());
            assert!(compiled.is_ok(), "{text}: {:?}", compiled.err());
        }
        assert!(!known_state().is_empty());
        assert!(
            Algebra::parse("count((s0 and s5) or not (Vip-1 not s10))", ["s0", "s5", "s10", "Vip-1"]).is_ok()
        );
    }
}
