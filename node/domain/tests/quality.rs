//! The quality report: the same however the events are split, and the numbers that follow from what was said.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::{
    FacetId,
    quality::{Identified, Partial, Report, ReservedRules, Settings},
    record::TraitChange,
};
use proptest::prelude::*;

const SOURCES: [&str; 3] = ["crm", "shop", "web"];
const TRAITS: [&str; 4] = ["age", "colour", "email", "name"];
const VALUES: [&str; 6] = [r#""a@b.de""#, r#""x""#, r#"" ""#, "41", "-1", ""];
const SINCE: i64 = 500_000_000;

/// An event: customer, source, time, lag, and for some traits a value (the last removes).
type Drawn = (u8, usize, i64, i64, Vec<(usize, usize)>);

#[derive(Clone, Debug)]
struct Event {
    facet: FacetId,
    source: &'static str,
    timestamp: i64,
    key: [u8; 16],
    received: i64,
    traits: Vec<TraitChange>,
}

fn event(number: usize, drawn: Drawn) -> Event {
    let (customer, source, timestamp, lag, traits) = drawn;
    let traits: BTreeMap<usize, usize> = traits.into_iter().collect();
    let change = |(name, value): (usize, usize)| TraitChange {
        name: TRAITS[name].to_owned(),
        value: VALUES[value].as_bytes().to_vec().into(),
    };
    Event {
        facet: FacetId::from_bytes([customer; 16]),
        source: SOURCES[source],
        timestamp,
        key: (number as u128).to_be_bytes(),
        received: timestamp + lag,
        traits: traits.into_iter().map(change).collect(),
    }
}

fn drawn() -> impl Strategy<Value = Vec<Event>> {
    let traits = prop::collection::vec((0..TRAITS.len(), 0..VALUES.len()), 0..4);
    let one = (0..8u8, 0..SOURCES.len(), 0..1_000_000_000i64, -1_000i64..100_000_000, traits);
    let number = |events: Vec<Drawn>| {
        events.into_iter().enumerate().map(|(number, drawn)| event(number, drawn)).collect()
    };
    prop::collection::vec(one, 0..60).prop_map(number)
}

fn settings(source: &str) -> Settings {
    Settings { source: source.to_owned(), updated_since: SINCE }
}

fn add(partial: &mut Partial, event: &Event) {
    partial.add(&Identified {
        facet: event.facet,
        source: event.source,
        timestamp: event.timestamp,
        key: event.key,
        received: event.received,
        traits: &event.traits,
    });
}

fn one_pass(events: &[Event], source: &str) -> Report {
    let mut whole = Partial::new(settings(source));
    events.iter().for_each(|event| add(&mut whole, event));
    whole.report(&ReservedRules)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Any split of the events, in any order, merged in any order.
    #[test]
    fn any_partition_of_the_events_merges_to_the_report_of_one_pass(
        events in drawn(),
        parts in prop::collection::vec(0..5usize, 60),
        source in prop::sample::select(vec!["", "shop"]),
    ) {
        let mut partials = vec![Partial::new(settings(source)); 5];
        for (event, part) in events.iter().zip(&parts).rev() {
            add(&mut partials[*part], event);
        }
        let mut whole = Partial::new(settings(source));
        partials.into_iter().rev().for_each(|partial| whole.merge(partial));
        prop_assert_eq!(whole.report(&ReservedRules), one_pass(&events, source));
    }

    /// As shards do it: a customer's events together, closed at once, over the wire.
    #[test]
    fn parts_of_whole_customers_that_are_closed_and_sent_merge_to_the_same(
        events in drawn(),
        parts in prop::collection::vec(0..3usize, 8),
        source in prop::sample::select(vec!["", "shop"]),
    ) {
        let mut whole = Partial::new(settings(source));
        for part in 0..3 {
            let mut partial = Partial::new(settings(source));
            let own = |event: &&Event| parts[event.facet.as_bytes()[0] as usize] == part;
            events.iter().filter(own).for_each(|event| add(&mut partial, event));
            prop_assert!(partial.open_customers() == 0 || partial.to_bytes().is_err());
            partial.close(&ReservedRules);
            let sent = partial.to_bytes().unwrap();
            whole.merge(Partial::from_bytes(settings(source), &sent).unwrap());
        }
        prop_assert_eq!(whole.report(&ReservedRules), one_pass(&events, source));
    }

    /// The counts by a model that keeps everything.
    #[test]
    fn the_counts_are_those_of_a_model(events in drawn()) {
        let report = one_pass(&events, "");
        type Newest = (i64, [u8; 16], Vec<u8>);
        let mut newest: BTreeMap<(&str, &str, FacetId), Newest> = BTreeMap::new();
        let mut customers: BTreeMap<&str, BTreeSet<FacetId>> = BTreeMap::new();
        for event in &events {
            customers.entry(event.source).or_default().insert(event.facet);
            for change in &event.traits {
                let name = TRAITS.iter().find(|name| **name == change.name).unwrap();
                let said = (event.timestamp, event.key, change.value.to_vec());
                let known = newest.entry((event.source, name, event.facet)).or_insert_with(|| said.clone());
                if (said.0, said.1) > (known.0, known.1) {
                    *known = said;
                }
            }
        }
        newest.retain(|_, (_, _, value)| !value.is_empty());
        for of in &report.traits {
            let own = newest.iter().filter(|((source, name, _), _)| *source == of.source && *name == of.name);
            let own: Vec<_> = own.collect();
            let others = |facet: &FacetId| -> Vec<&Vec<u8>> {
                let same = newest.iter().filter(|((_, name, of_facet), _)| *name == of.name && of_facet == facet);
                same.map(|(_, (_, _, value))| value).collect()
            };
            let shared: Vec<_> = own.iter().filter(|((_, _, facet), _)| others(facet).len() > 1).collect();
            let agreeing = shared.iter().filter(|((_, _, facet), (_, _, value))| {
                others(facet).into_iter().all(|other| other == value)
            });
            let distinct: BTreeSet<_> = own.iter().map(|(_, (_, _, value))| value).collect();
            let updated = own.iter().filter(|(_, (time, ..))| *time >= SINCE);
            let customers = customers[of.source.as_str()].len() as u64;
            prop_assert_eq!(
                (of.customers, of.values, of.shared, of.agreeing, of.distinct, of.updated),
                (
                    customers,
                    own.len() as u64,
                    shared.len() as u64,
                    agreeing.count() as u64,
                    distinct.len() as u64,
                    updated.count() as u64,
                )
            );
            prop_assert!(of.distinct_exact && of.valid <= of.checked && of.checked <= of.values);
            prop_assert_eq!(of.checked == of.values, of.name != "colour" || of.values == 0);
        }
    }
}

#[test]
fn too_many_traits_are_cut_by_name_whatever_the_split() {
    use isthmus_domain::quality::GROUPS_MAX;
    let said = |numbers: Vec<usize>| {
        let mut partial = Partial::new(settings(""));
        for number in numbers {
            let change = TraitChange { name: format!("t{number:05}"), value: b"1".to_vec().into() };
            let one = Event { traits: vec![change], ..event(number, (1, 0, 0, 5, Vec::new())) };
            add(&mut partial, &one);
        }
        partial
    };
    let count = GROUPS_MAX + 100;
    let whole = said((0..count).collect()).report(&ReservedRules);
    assert!(whole.cut && whole.traits.len() == GROUPS_MAX && whole.traits[0].name == "t00000");
    let (odd, even): (Vec<_>, Vec<_>) = (0..count).rev().partition(|number| number % 2 == 1);
    let mut merged = said(odd);
    merged.merge(said(even));
    assert_eq!(merged.report(&ReservedRules), whole);
}

/// What other nodes send is added up, whatever it is.
#[test]
fn counts_beyond_what_can_be_counted_stay_at_the_largest() {
    let most = [[0xff; 9].as_slice(), &[1]].concat();
    let source = [b"\x0a\x04shop\x10".as_slice(), &most].concat();
    // Values; lags below a microsecond; one bucket of lags.
    let group =
        [b"\x0a\x04shop\x12\x03age\x18".as_slice(), &most, b"\x58", &most, b"\x62\x01\x02\x6a\x0a", &most];
    let overlap = [b"\x0a\x03age\x10".as_slice(), &most].concat();
    let mut bytes = Vec::new();
    for (tag, part) in [(0x0a, source), (0x12, group.concat()), (0x1a, overlap)] {
        bytes.extend([tag, u8::try_from(part.len()).unwrap()]);
        bytes.extend(part);
    }
    let sent = || Partial::from_bytes(settings(""), &bytes).unwrap();
    let mut merged = sent();
    merged.merge(sent());
    let report = merged.report(&ReservedRules);
    assert_eq!(report.sources[0].customers, u64::MAX);
    assert_eq!((report.traits[0].values, report.traits[0].events), (u64::MAX, u64::MAX));
    assert_eq!((report.overlaps[0].shared, report.traits[0].lag_micros[0]), (u64::MAX, 0));
}
