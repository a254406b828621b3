//! Bounds as they are: ten thousand, and one more.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use isthmus_domain::{EventRecord, EventType, RecordView, record::TraitChange};
use isthmus_segment::{
    Document, FacetState, Held, Known, Membership, Plan, Scalar, Standing, Touched, definition::Segment,
    state::DecodeError,
};
use proptest::prelude::*;

const EPOCH: i64 = 1_700_000_000_000_000;

fn plan(expressions: &[&str]) -> Plan {
    let segment = |(index, expression): (usize, &&str)| Segment {
        name: format!("s{index}"),
        expression: (*expression).to_owned(),
        ..Segment::default()
    };
    let document =
        Document { segments: expressions.iter().enumerate().map(segment).collect(), ..Document::default() };
    let known = Known { traits: None, currency: "EUR".to_owned() };
    Plan::compile(&document, &known).unwrap_or_else(|faults| panic!("{}", faults[0]))
}

fn event(n: i64, name: &str, properties: &str) -> Vec<u8> {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&n.to_be_bytes());
    let record = EventRecord {
        facet: vec![1; 16].into(),
        namespace: "user_id".to_owned(),
        value: "1".to_owned(),
        message_id: format!("m{n}"),
        source: "web".to_owned(),
        kind: EventType::Track.into(),
        name: name.to_owned(),
        timestamp: EPOCH + n,
        body_hash: vec![2; 16].into(),
        dedup_key: key.to_vec().into(),
        properties: properties.as_bytes().to_vec().into(),
        ..EventRecord::default()
    };
    record.to_bytes().to_vec()
}

fn absorb(plan: &Plan, state: &mut FacetState, event: &[u8]) -> Touched {
    let mut touched = Touched::default();
    plan.absorb(&RecordView::read(event).unwrap(), state, &mut touched);
    touched
}

fn memberships(plan: &Plan, facets: &[&FacetState], now: i64) -> Vec<Membership> {
    plan.evaluate(facets, now, &plan.all()).iter().map(|answer| answer.held.membership()).collect()
}

#[test]
fn ten_thousand_are_counted_and_beyond_that_it_says_so() {
    let plan = plan(&[
        "events('A', '1 second') = 10000",
        "count(DISTINCT x, 'A') = 10000",
        "sum(x, 'A', '1 second') >= 0",
        "NOT sequence('A', 'B', within => '1 second')",
        "did('B') AND events('A', '1 second') > 1",
    ]);
    let mut facets = [FacetState::default(), FacetState::default()];
    for n in 0..10_000 {
        let event = event(n, "A", &format!("{{\"x\":{n}}}"));
        absorb(&plan, &mut facets[n as usize % 2], &event);
    }
    let facets_of = |facets: &[FacetState; 2], now| memberships(&plan, &[&facets[0], &facets[1]], now);
    let now = EPOCH + 10_000;
    use Membership::{In, Out, Overflow};
    assert_eq!(facets_of(&facets, now), [In, In, In, In, Out]);
    absorb(&plan, &mut facets[0], &event(10_000, "A", "{\"x\":-1}"));
    assert_eq!(facets_of(&facets, now), [Overflow, Overflow, Overflow, Overflow, Out]);
    // The oldest leaves its window: what counts all time stays as it is.
    let later = EPOCH + 1_000_000;
    let all = plan.evaluate(&[&facets[0], &facets[1]], now, &plan.all());
    assert_eq!((all[0].until, all[2].until), (later, later));
    assert_eq!(facets_of(&facets, later), [In, Overflow, In, Overflow, Out]);
    // Not forgotten when the time is told, and the same in one facet as in two.
    let mut merged = facets[0].clone();
    merged.merge(&facets[1]).unwrap();
    assert_eq!(memberships(&plan, &[&merged], now), [Overflow, Overflow, Overflow, Overflow, Out]);
    assert_eq!(memberships(&plan, &[&merged], later), [In, Overflow, In, Overflow, Out]);
    assert!(plan.expire(&mut merged, later) && !plan.expire(&mut merged, later));
    assert_eq!(memberships(&plan, &[&merged], later), [In, Overflow, In, Overflow, Out]);
    plan.expire(&mut merged, later + 20_000);
    assert_eq!(memberships(&plan, &[&merged], later + 20_000), [Out, Overflow, Out, Overflow, Out]);
}

#[test]
fn an_event_touches_what_asks_for_it_and_nothing_else() {
    let plan =
        plan(&["did('A', '1 day', x > 1)", "did('B')", "plan = 'pro'", "segment('s0') AND plan = 'pro'"]);
    let touched = |event: &[u8]| absorb(&plan, &mut FacetState::default(), event).iter().collect::<Vec<_>>();
    assert_eq!(touched(&event(1, "A", "{\"x\":2}")), [0, 3]);
    assert_eq!(touched(&event(1, "A", "{\"x\":1}")), [0_usize; 0]);
    assert_eq!(touched(&event(1, "B", "")), [1]);
    assert_eq!(touched(&event(1, "C", "")), [0_usize; 0]);
}

#[test]
fn what_a_facet_says_again_counts_against_what_another_said_in_between() {
    let plan = plan(&["plan = 'pro'"]);
    let said = |n: i64, value: &str| {
        let bytes = event(n, "", "");
        let mut record = EventRecord::from_bytes(bytes.into()).unwrap();
        record.kind = EventType::Identify.into();
        record.traits =
            vec![TraitChange { name: "plan".to_owned(), value: value.as_bytes().to_vec().into() }];
        record.to_bytes()
    };
    let mut facets = [FacetState::default(), FacetState::default()];
    let mut standing = Standing::default();
    let steps =
        [(0, 1, "\"pro\"", true), (1, 2, "\"free\"", false), (0, 3, "\"pro\"", true), (1, 4, "", false)];
    for (facet, n, value, member) in steps {
        let touched = absorb(&plan, &mut facets[facet], &said(n, value));
        let answers = plan.evaluate(&[&facets[0], &facets[1]], EPOCH, &touched);
        standing.update(&plan, &answers);
        assert_eq!(standing.members().count() == 1, member, "{n}");
    }
}

#[test]
fn a_count_against_a_number_is_looked_at_again_when_it_turns_and_not_before() {
    let plan = plan(&["events('A', '1 second') >= 3", "events('A', '1 second') = 2", "did('A', '1 second')"]);
    let mut state = FacetState::default();
    for n in [0, 10, 20, 30, 40] {
        absorb(&plan, &mut state, &event(n, "A", ""));
    }
    let untils = |now| plan.evaluate(&[&state], now, &plan.all()).iter().map(|a| a.until).collect::<Vec<_>>();
    let gone = |n: i64| EPOCH + 1_000_000 + n;
    assert_eq!(untils(EPOCH + 50), [gone(20), gone(20), gone(40)]);
    assert_eq!(untils(gone(20)), [i64::MAX, gone(30), gone(40)]);
    let others = self::plan(&[
        "events('A', '1 second') < 2.5",
        "events('A', '1 second') <> 2.5",
        "events('A', '1 second') > -1",
        "events('A', '1 second') = 12345678901234567890",
        "coalesce(1 / (events('A', '1 second') - 1), 5) = 5",
    ]);
    let mut state = FacetState::default();
    for n in [0, 10, 20, 30, 40] {
        absorb(&others, &mut state, &event(n, "A", ""));
    }
    let untils =
        |now| others.evaluate(&[&state], now, &others.all()).iter().map(|a| a.until).collect::<Vec<_>>();
    assert_eq!(untils(EPOCH + 50), [gone(20), i64::MAX, i64::MAX, gone(0), gone(0)]);
    // One is left: nothing is divided by zero, but will be once it has gone.
    assert_eq!(untils(gone(30))[4], gone(40));
    let mut standing = Standing::default();
    let all = plan.evaluate(&[&state], EPOCH + 50, &plan.all());
    assert_eq!(standing.update(&plan, &all).len(), 2);
    assert_eq!(standing.next(), Some(gone(20)));
    let due = |now| {
        let mut due = Touched::default();
        standing.due(now, &mut due);
        due.iter().collect::<Vec<_>>()
    };
    assert_eq!(due(gone(20)), [0, 1]);
    assert!(due(gone(20) - 1).is_empty());
}

#[test]
fn states_of_a_newer_version_are_refused_and_unknown_terms_are_kept() {
    let (old, new) = (plan(&["plan = 'pro'"]), plan(&["plan = 'pro'", "did('A', '1 day')"]));
    let mut state = FacetState::default();
    absorb(&new, &mut state, &event(1, "A", ""));
    let bytes = state.to_bytes();
    let mut read = FacetState::from_bytes(&bytes).unwrap();
    absorb(&old, &mut read, &event(2, "A", ""));
    old.expire(&mut read, i64::MAX);
    assert_eq!(read.to_bytes(), bytes, "the old plan lets alone what it doesn't know");
    let mut newer = bytes.clone();
    newer[0] = 2;
    assert_eq!(FacetState::from_bytes(&newer), Err(DecodeError::Newer));
    // The kind of the only state.
    let mut newer = bytes.clone();
    newer[9] = 200;
    assert_eq!(FacetState::from_bytes(&newer), Err(DecodeError::Newer));
    assert!(matches!(FacetState::from_bytes(&bytes[..bytes.len() - 1]), Err(DecodeError::Damaged(_))));
    assert_eq!(FacetState::from_bytes(&[]), Ok(FacetState::default()));
    let twice = [&bytes[..], &bytes[1..]].concat();
    assert!(matches!(FacetState::from_bytes(&twice), Err(DecodeError::Damaged(_))));
    read.retain(|_| false);
    assert!(read.is_empty());
}

#[test]
fn what_is_known_of_a_computed_trait_is_told() {
    let document = br#"{"computed_traits": [
        {"name": "list", "aggregate": "distinct_list", "of": "x", "events": ["A"], "limit": 2},
        {"name": "mean", "aggregate": "average", "of": "x", "events": ["A"]}]}"#;
    let document = Document::from_json(document).unwrap();
    let plan = Plan::compile(&document, &Known::default()).unwrap();
    let mut state = FacetState::default();
    for (n, x) in [(3, "1.5"), (2, "2"), (1, "1.5"), (4, "9")] {
        absorb(&plan, &mut state, &event(n, "A", &format!("{{\"x\":{x}}}")));
    }
    let answers = plan.evaluate(&[&state], EPOCH, &plan.all());
    let text = |text: &'static str| Scalar::Text(text.into());
    assert!(answers[0].held == Held::List(vec![text("1.5"), text("2")]));
    assert!(answers[1].held == Held::Is(Scalar::Number("3.5".parse().unwrap())));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_are_refused_or_read(mut bytes in prop::collection::vec(any::<u8>(), 0..80), version in any::<bool>()) {
        if let (true, Some(first)) = (version, bytes.first_mut()) {
            *first = 1;
        }
        if let Ok(state) = FacetState::from_bytes(&bytes) {
            let again = FacetState::from_bytes(&state.to_bytes()).unwrap();
            prop_assert_eq!(again, state);
        }
        let plan = Plan::default();
        if let Ok(standing) = Standing::from_bytes(&bytes, &plan) {
            prop_assert_eq!(Standing::from_bytes(&standing.to_bytes(&plan), &plan).unwrap(), standing);
        }
    }

    #[test]
    fn bytes_that_were_changed_are_refused_or_read(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let plan = plan(&[
            "did('A', '1 day') AND last(x, 'A', '1 day') = 'a' AND most_frequent(x, 'A') = 'a'",
            "last_seen > now() AND first(x, 'A') = 'a' AND max(x, 'A') = 'b' AND sum(x, 'A') > 1 AND events('A') > 1",
        ]);
        let mut state = FacetState::default();
        for n in 0..4 {
            absorb(&plan, &mut state, &event(n, "A", &format!("{{\"x\":{}}}", n % 2)));
        }
        let mut bytes = state.to_bytes();
        prop_assert_eq!(&FacetState::from_bytes(&bytes).unwrap(), &state);
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(state) = FacetState::from_bytes(&bytes) {
            // Whatever it holds, it is answered from without a panic.
            plan.evaluate(&[&state], EPOCH, &plan.all());
            plan.expire(&mut state.clone(), EPOCH + 3);
            let _ = state.clone().merge(&state);
        }
    }
}
