//! What holds for any records: order, threads and the way records come in leave no trace, and nothing panics.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod febrl;

use std::num::NonZeroUsize;

use febrl::{People, THREADS, learned};
use isthmus_matching::{
    BlockKey, Config, Index, Kind, LearnError, Level, Model, Pattern, Plan, Prepared, RecordId, Scored,
    TraitConfig, learn,
};
use proptest::prelude::*;

fn people() -> (Plan, Vec<Prepared>) {
    let people = People::of(&["febrl1.csv"]);
    let plan = people.plan(&["soc_sec_id"]);
    let mut records = people.records(&plan);
    records.truncate(400);
    (plan, records)
}

#[test]
fn neither_the_order_of_records_nor_the_number_of_threads_changes_a_bit_of_the_model() {
    let (plan, records) = people();
    // Once from all pairs, and once from pairs that are drawn.
    let drawing = Config { random_pairs: 2_000, training_pairs_max: 1_000, ..plan.config().clone() };
    for plan in [plan, drawing.plan().unwrap()] {
        let mut records = records.clone();
        let once = serde_json::to_string(&learned(&plan, &records)).unwrap();
        records.reverse();
        records.rotate_left(123);
        for threads in [1, 3, 7] {
            let again = learn(&plan, &records, NonZeroUsize::new(threads).unwrap()).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), once, "{threads} threads");
        }
    }
}

#[test]
fn neither_the_order_of_records_nor_the_number_of_threads_changes_a_bit_of_the_pairs() {
    let (plan, mut records) = people();
    let model = learned(&plan, &records);
    let bits = |pairs: Vec<Scored>| pairs.iter().map(|p| (p.a, p.b, p.bits.to_bits())).collect::<Vec<_>>();
    let once = bits(Index::of(model.clone(), records.clone()).pairs(0.001, THREADS));
    assert!(once.len() > 50, "{} pairs", once.len());
    records.reverse();
    for threads in [1, 3, 7] {
        let index = Index::of(model.clone(), records.clone());
        assert_eq!(bits(index.pairs(0.001, NonZeroUsize::new(threads).unwrap())), once, "{threads} threads");
    }
}

#[test]
fn shards_that_hold_the_blocks_apart_find_each_pair_once() {
    let (plan, records) = people();
    let model = learned(&plan, &records);
    let index = Index::of(model.clone(), records.clone());
    let placed: Vec<_> = records.into_iter().map(|record| model.place(record)).collect();
    let mut found = Vec::new();
    for shard in 0..4 {
        let here = |key: BlockKey| key.slot(2) == shard;
        for (at, a) in placed.iter().enumerate() {
            for b in &placed[at + 1..] {
                if a.meeting(b).is_some_and(here) {
                    found.push(model.score(a, b));
                }
            }
        }
    }
    found.retain(|pair| pair.probability >= 0.5);
    found.sort_unstable_by_key(|pair| (pair.a, pair.b));
    assert_eq!(found, index.pairs(0.5, THREADS));
}

#[test]
fn a_model_comes_back_whole_from_what_it_serialises_to_and_a_broken_one_is_refused() {
    let (plan, records) = people();
    let model = learned(&plan, &records);
    let text = serde_json::to_string(&model).unwrap();
    assert_eq!(serde_json::from_str::<Model>(&text).unwrap(), model);
    let mut broken: serde_json::Value = serde_json::from_str(&text).unwrap();
    broken["learned"]["traits"][0]["m"][0][0] = 0.into();
    assert!(serde_json::from_value::<Model>(broken).is_err());
    let mut broken: serde_json::Value = serde_json::from_str(&text).unwrap();
    broken["learned"]["traits"].as_array_mut().unwrap().pop();
    assert!(serde_json::from_value::<Model>(broken).is_err());
}

#[test]
fn what_cannot_be_learned_from_is_said() {
    let (plan, mut records) = people();
    assert_eq!(learn(&plan, &records[..1], THREADS), Err(LearnError::Records));
    records.push(records[7].clone());
    assert_eq!(learn(&plan, &records, THREADS), Err(LearnError::Twice(RecordId(7))));
}

#[test]
fn a_record_that_is_taken_out_or_replaced_leaves_no_pair_behind() {
    let (plan, records) = people();
    let mut index = Index::of(learned(&plan, &records), records.clone());
    let before = index.pairs(0.9, THREADS);
    let gone = before[0].a;
    assert!(index.remove(gone));
    assert!(!index.remove(gone));
    assert!(index.get(gone).is_none());
    let without: Vec<Scored> = before.iter().filter(|p| p.a != gone && p.b != gone).copied().collect();
    assert_eq!(index.pairs(0.9, THREADS), without);
    // Back again, and then once more in its own place.
    for _ in 0..2 {
        let back = index.insert(records[gone.0 as usize].clone(), 0.9);
        assert_eq!(back.len(), before.len() - without.len());
        assert_eq!(index.pairs(0.9, THREADS), before);
        assert_eq!(index.len(), records.len());
    }
}

#[test]
fn a_flood_of_one_value_fills_a_block_up_to_its_limit_and_makes_the_model_stale() {
    let people = People::of(&["febrl1.csv"]);
    let plan = people.plan(&[]);
    let records = people.records(&plan);
    let mut index = Index::of(learned(&plan, &records), records);
    let twin =
        |n| Prepared::new(&plan, RecordId(n), [("given_name", "zebulon"), ("date_of_birth", "19700101")]);
    assert!(!index.is_stale());
    let found: Vec<usize> = (10_000..10_450).map(|n| index.insert(twin(n), 0.0).len()).collect();
    assert_eq!(index.members_max(), 400);
    assert_eq!((found[399], found[400]), (399, 0));
    assert!(index.is_stale());
}

#[test]
fn the_probability_is_explained_by_its_traits() {
    let (plan, records) = people();
    let index = Index::of(learned(&plan, &records), records);
    let pair = index.pairs(0.9, THREADS)[0];
    let (a, b) = (index.get(pair.a).unwrap(), index.get(pair.b).unwrap());
    let share = index.model().match_share();
    let said: f64 = index.model().explain(a, b).iter().map(|t| t.bits).sum();
    assert!(((share / (1.0 - share)).log2() + said - pair.bits).abs() < 1e-6);
    assert_eq!(index.model().score(b, a), pair);
}

fn plan_of(kinds: &[(&str, Kind)]) -> Plan {
    Config::of(kinds.iter().map(|&(name, kind)| TraitConfig::new(name, kind)).collect()).plan().unwrap()
}

/// The level of two values of one kind.
fn level(kind: Kind, a: &str, b: &str) -> Option<Level> {
    let plan = plan_of(&[("x", kind)]);
    let [a, b] = [a, b].map(|text| Prepared::new(&plan, RecordId(0), [("x", text)]));
    let level = Pattern::of(&plan, &a, &b).level(0);
    assert_eq!(level, Pattern::of(&plan, &b, &a).level(0));
    level
}

#[test]
fn comparisons_come_to_the_levels_of_their_kinds() {
    use Kind::*;
    use Level::*;
    for (kind, a, b, expected) in [
        (Name, "Zoë", "ZOE", Some(Exact)),
        (Name, "elk i", "elki", Some(Exact)),
        (Name, "michaela", "micheala", Some(Close)),
        (Name, "jon", "john", Some(Close)),
        (Name, "j.", "john", Some(Similar)),
        (Name, "mitchell", "michael", Some(Similar)),
        (Name, "green", "painter", Some(Different)),
        (Name, "green", " - ", None),
        (Address, "light street", "light setreet", Some(Close)),
        (Address, "circuit maltby", "Maltby Circuit", Some(Close)),
        (Address, "12 long winding road", "winding long road", Some(Similar)),
        (Address, "stanley street", "pinkerton circuit", Some(Different)),
        (Postcode, "4223", "4232", Some(Close)),
        (Postcode, "4223", "2432", Some(Different)),
        (Code, "5304218", "5304812", Some(Similar)),
        (Phone, "+61 2 9876 5432", "02 9876 5432", Some(Close)),
        (Phone, "98765432", "98765431", Some(Close)),
        (Date, "1990-04-03", "3/4/1990", Some(Exact)),
        (Date, "19900403", "19900304", Some(Close)),
        (Date, "19900403", "19900404", Some(Close)),
        (Date, "19900403", "19090403", Some(Close)),
        (Date, "19900403", "19900328", Some(Different)),
        (Date, "19900403", "19901103", Some(Similar)),
        (Date, "19900403", "19721128", Some(Different)),
        (Date, "19900403", "?", None),
    ] {
        assert_eq!(level(kind, a, b), expected, "{kind:?} {a} {b}");
    }
}

#[test]
fn swapped_names_are_one_observation() {
    let plan = plan_of(&[("given", Kind::Name), ("family", Kind::Name)]);
    let of = |given, family| Prepared::new(&plan, RecordId(0), [("given", given), ("family", family)]);
    let pattern = Pattern::of(&plan, &of("charles", "green"), &of("greene", "charles"));
    assert_eq!((pattern.level(0), pattern.level(1)), (Some(Level::Swapped), None));
    let pattern = Pattern::of(&plan, &of("charles", "green"), &of("charles", "charles"));
    assert_eq!((pattern.level(0), pattern.level(1)), (Some(Level::Exact), Some(Level::Different)));
}

#[test]
fn rare_values_say_more_than_common_ones() {
    let plan = plan_of(&[("name", Kind::Name), ("born", Kind::Date)]);
    let name = |n: u128| if n < 150 { "smith".to_owned() } else { format!("n{}x{}", n * 7919 % 1000, n) };
    let record = |n: u128| {
        let born = format!("19{:02}{:02}{:02}", n % 90, n % 12 + 1, n % 28 + 1);
        Prepared::new(&plan, RecordId(n), [("name", name(n).as_str()), ("born", born.as_str())])
    };
    let records: Vec<Prepared> = (0..300).map(record).collect();
    let model = learned(&plan, &records);
    let weight = |n: u128| {
        let placed = model.place(record(n));
        model.explain(&placed, &placed.clone())[0].bits
    };
    assert!(weight(200) > weight(1) + 3.0, "{} {}", weight(200), weight(1));
}

#[test]
fn a_level_that_hardly_any_pair_came_to_says_no_more_than_a_better_one() {
    let (plan, records) = people();
    let model = learned(&plan, &records);
    let said = |a: &str, b: &str| {
        let [a, b] = [a, b].map(|state| model.place(Prepared::new(&plan, RecordId(0), [("state", state)])));
        let of_state = model.explain(&a, &b).into_iter().find(|t| t.name == "state").unwrap();
        (of_state.level.unwrap(), of_state.bits)
    };
    let (close, similar) = (said("tasmania", "tasmannia"), said("tasmania", "tazmannia"));
    assert_eq!((close.0, similar.0), (Level::Close, Level::Similar));
    assert!(similar.1 <= close.1, "{similar:?} {close:?}");
}

#[test]
fn nothing_personal_shows_in_debug_output() {
    let (plan, records) = people();
    let model = learned(&plan, &records);
    let placed = model.place(Prepared::new(&plan, RecordId(1), [("surname", "waller")]));
    let shown =
        format!("{placed:?} {model:?} {:?}", Prepared::new(&plan, RecordId(1), [("surname", "waller")]));
    assert!(!shown.contains("waller") && shown.len() < 500, "{shown}");
}

/// Values that are near each other often enough, and now and then anything at all.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ab]{0,3}",
        1 => "[0-2]{0,9}",
        1 => "[12]{4}-[01][12]-[01][12]",
        1 => any::<String>(),
    ]
}

fn rows() -> impl Strategy<Value = Vec<[String; 4]>> {
    prop::collection::vec([text(), text(), text(), text()], 2..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn records_fed_one_by_one_in_any_order_find_what_a_full_pass_finds(rows in rows(), turn in 0_usize..40) {
        let mut config = Config::of(vec![
            TraitConfig::new("a", Kind::Name),
            TraitConfig::new("b", Kind::Name),
            TraitConfig::new("c", Kind::Date),
            TraitConfig::new("d", Kind::Phone),
        ]);
        config.random_pairs = 1_000;
        let plan = config.plan().unwrap();
        let mut records: Vec<Prepared> = rows
            .iter()
            .zip(0..)
            .map(|(row, n)| Prepared::new(&plan, RecordId(n), ["a", "b", "c", "d"].into_iter().zip(row.iter().map(String::as_str))))
            .collect();
        let half = records.len().div_ceil(2).max(2);
        let model = learn(&plan, &records[..half], THREADS).unwrap();
        let full = Index::of(model.clone(), records.clone()).pairs(0.0, THREADS);
        let turn = turn % records.len();
        records.rotate_left(turn);
        let mut index = Index::new(model);
        let mut live: Vec<Scored> = records.into_iter().flat_map(|record| index.insert(record, 0.0)).collect();
        live.sort_unstable_by_key(|pair| (pair.a, pair.b));
        prop_assert!(live.iter().all(|p| p.a < p.b && (0.0..=1.0).contains(&p.probability) && p.bits.is_finite()));
        prop_assert_eq!(live, full);
    }
}
