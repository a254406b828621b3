//! Late facts, other rules and restarts: a part is folded again, or all, and nobody can tell.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::identity::{
    Fold, IdentityRules, Ledger, News, Pattern, Retraction, Scope, SourceTrust, Until,
};
use isthmus_domain::{FacetId, LinkRow, Namespace, hash128};
use proptest::prelude::*;

use super::cases::{facts, retractions, rules};
use super::orders::{arrivals, ledger, outcome, shown, shuffled, take};
use super::{KEY, id, link, model};

/// A control store.
type Store = BTreeMap<Vec<u8>, Vec<u8>>;

fn store(fold: &mut Fold, store: &mut Store) {
    for write in fold.take_writes() {
        match write.value {
            Some(value) => store.insert(write.key, value),
            None => store.remove(&write.key),
        };
    }
}

fn restored(of: &Fold, from: &Store) -> Fold {
    let pieces = from.iter().map(|(key, value)| (&key[..], &value[..]));
    Fold::restore(of.rules().clone(), pieces).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_at_every_point_is_no_restart(
        rules in rules(),
        facts in facts(),
        retractions in retractions(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 24),
        steps in prop::collection::vec(0..5_usize, 7),
        late_max in 0..6_u64,
    ) {
        let built = rules.rules(1);
        let mut stays = ledger(&built);
        *stays.fold_mut() = stays.fold().clone().taking_late(late_max);
        let mut restarts = stays.clone();
        let (mut left, mut right) = (Store::new(), Store::new());
        for (arrival, step) in shuffled(&arrivals(&facts, &retractions), &places).iter().zip(steps.iter().cycle()) {
            take(&mut stays, arrival);
            take(&mut restarts, arrival);
            store(stays.fold_mut(), &mut left);
            store(restarts.fold_mut(), &mut right);
            prop_assert_eq!(&left, &right);
            *restarts.fold_mut() = restored(restarts.fold(), &right).taking_late(late_max);
            prop_assert_eq!(stays.fold().is_settled(), restarts.fold().is_settled());
            prop_assert_eq!(stays.fold().components(), restarts.fold().components());
            prop_assert_eq!(stays.fold_mut().step(*step), restarts.fold_mut().step(*step));
        }
        prop_assert_eq!(shown(&mut stays), shown(&mut restarts));
    }

    #[test]
    fn whoever_takes_who_moved_knows_all_homes(
        rules in rules(),
        facts in facts(),
        retractions in retractions(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 24),
        pauses in prop::collection::vec(0..4_u8, 9),
    ) {
        let mut ledger = ledger(&rules.rules(1));
        let (mut homes, mut stored) = (BTreeMap::<FacetId, FacetId>::new(), Store::new());
        for (arrival, pause) in shuffled(&arrivals(&facts, &retractions), &places).iter().zip(pauses.iter().cycle()) {
            take(&mut ledger, arrival);
            match pause {
                0 => {}
                1 => _ = ledger.fold_mut().step(2),
                2 => ledger.fold_mut().settle(),
                _ => {
                    store(ledger.fold_mut(), &mut stored);
                    *ledger.fold_mut() = restored(ledger.fold(), &stored);
                }
            }
            homes.extend(ledger.fold_mut().take_moved().into_iter().flatten());
        }
        ledger.fold_mut().settle();
        homes.extend(ledger.fold_mut().take_moved().into_iter().flatten());
        for (facet, home) in &homes {
            prop_assert_eq!(ledger.fold().component_of(*facet).unwrap().home(), *home);
            prop_assert_eq!(ledger.fold().home_of(facet), Some(*home));
        }
        for component in ledger.fold().components().unwrap() {
            let home = component.home();
            let at_home = |facet: FacetId| homes.get(&facet).copied().unwrap_or(facet) == home;
            prop_assert!(component.members().iter().all(|member| at_home(member.facet)));
        }
    }

    #[test]
    fn rules_that_change_on_the_way_are_as_if_they_had_always_been(
        first in rules(),
        then in rules(),
        facts in facts(),
        retractions in retractions(),
        at in any::<prop::sample::Index>(),
    ) {
        let (old, new) = (first.rules(1), then.rules(2));
        let all = arrivals(&facts, &retractions);
        let mut ledger = ledger(&old);
        for (i, arrival) in all.iter().enumerate() {
            if i == at.index(all.len()) {
                ledger.fold_mut().settle();
                prop_assert_eq!(ledger.set_rules(new.clone()).unwrap(), News::New);
                prop_assert_eq!(ledger.set_rules(new.clone()).unwrap(), News::Known);
            }
            take(&mut ledger, arrival);
        }
        prop_assert_eq!(outcome(&mut ledger), model::fold(&then, &facts, &retractions));
        prop_assert!(ledger.profiles().iter().all(|p| p.component.rules_version() == 2));
    }

    #[test]
    fn facts_shipped_to_another_root_fold_to_the_same(
        rules in rules(), facts in facts(), retractions in retractions(), cut in any::<prop::sample::Index>(),
    ) {
        let built = rules.rules(1);
        let mut whole = ledger(&built);
        for arrival in &arrivals(&facts, &retractions) {
            take(&mut whole, arrival);
        }
        // Two roots that each heard a part, in rows; the one ships to the other. Flags come from the slots.
        let rows: Vec<_> = whole.fold().rows().collect();
        let (left, right) = rows.split_at(cut.index(rows.len() + 1));
        let (mut small, mut large) = (Fold::new(built.clone()), Fold::new(built));
        for (root, rows) in [(&mut small, left), (&mut large, right)] {
            for (key, row) in rows {
                root.put(*key, row).unwrap();
            }
            root.settle();
        }
        for (facet, version, shared) in whole.fold().flags() {
            large.set_shared(facet, version, shared);
        }
        for (key, row) in large.rows() {
            small.put(key, &row).unwrap();
        }
        for (facet, version, shared) in large.flags() {
            small.set_shared(facet, version, shared);
        }
        small.settle();
        whole.fold_mut().settle();
        prop_assert_eq!(small.components(), whole.fold().components());
        prop_assert_eq!(small.facts(), whole.fold().facts());
    }
}

/// A bundle of so many facts: customers of one cookie and many mails each, a few of them joined by a crm id.
fn large(facts: i64) -> Ledger {
    let mut ledger = Ledger::new(KEY, std::sync::Arc::default());
    for i in 0..facts {
        ledger.accept(link(i, &format!("user_id:u{}", i / 7 % 40), &format!("crm_id:c{i}"))).unwrap();
    }
    ledger.fold_mut().settle();
    ledger
}

#[test]
fn a_late_fact_folds_its_region_and_is_as_if_it_had_come_in_time() {
    let mut ledger = large(5_500);
    assert_eq!(ledger.fold().progress().folded, 5_500);
    ledger.fold_mut().take_moved();
    ledger.accept(link(4_321, "user_id:u1", "email:late@x.de")).unwrap();
    assert!(ledger.fold().components().is_none());
    // A step of no facts: what came late is no young fact.
    let progress = ledger.fold_mut().step(0);
    assert_eq!((progress.folded, progress.facts), (5_501, 5_501));
    assert!(ledger.fold().is_settled());
    let homes: BTreeSet<FacetId> = ledger.fold_mut().take_moved().unwrap().into_values().collect();
    assert_eq!(homes.len(), 1, "the customer of the late fact, and no other of its bundle");

    let mut in_order = Ledger::new(KEY, std::sync::Arc::default());
    for judged in ledger.fold().facts() {
        in_order.accept((*judged.fact).clone()).unwrap();
    }
    assert_eq!(shown(&mut ledger), shown(&mut in_order));
}

#[test]
fn what_comes_late_while_all_is_folded_again_waits_for_the_end_of_it() {
    let mut ledger = large(3_500);
    let rules = std::sync::Arc::new(IdentityRules::default().with_version(1).with_other_limit(30));
    ledger.set_rules(rules).unwrap();
    assert_eq!(ledger.fold_mut().step(2_000).folded, 2_000);
    for i in 0..10 {
        ledger.accept(link(1_500 + i, "user_id:u1", &format!("email:late{i}@x.de"))).unwrap();
    }
    assert_eq!(ledger.fold().progress().folded, 2_010, "they are behind where the fold is");
    assert!(!ledger.fold().is_settled());
    assert_eq!(ledger.fold_mut().step(1_500).folded, 3_510);
    assert!(ledger.fold().is_settled());
    let mut in_order = Ledger::new(KEY, ledger.fold().rules().clone());
    for judged in ledger.fold().facts() {
        in_order.accept((*judged.fact).clone()).unwrap();
    }
    assert_eq!(shown(&mut ledger), shown(&mut in_order));
}

#[test]
fn when_a_large_part_of_all_comes_late_all_is_folded_again_in_steps() {
    let (mut small, large) = (large(1_200), large(5_000));
    for (key, row) in large.fold().rows() {
        small.fold_mut().put(key, &row).unwrap();
    }
    assert!(small.fold().progress().folded < 5_000, "those younger than all are not late");
    let mut early = Ledger::new(KEY, std::sync::Arc::default());
    for i in 0..1_200 {
        early.accept(link(10_000 + i, "user_id:u1", &format!("crm_id:d{i}"))).unwrap();
    }
    early.fold_mut().settle();
    for (key, row) in large.fold().rows() {
        early.fold_mut().put(key, &row).unwrap();
    }
    assert_eq!(early.fold_mut().step(2_000).folded, 2_000, "from the first again");
    early.fold_mut().settle();
    let mut in_order = Ledger::new(KEY, std::sync::Arc::default());
    for judged in early.fold().facts() {
        in_order.accept((*judged.fact).clone()).unwrap();
    }
    in_order.fold_mut().settle();
    assert_eq!(early.fold().components(), in_order.fold().components());
}

/// Twenty customers in a row, each with two mails, joined to the next by facts that a limit refuses.
fn row_of_customers() -> Ledger {
    let mut ledger = Ledger::new(KEY, std::sync::Arc::default());
    for i in 0..20 {
        ledger.accept(link(100 + i, &format!("user_id:u{i}"), &format!("email:a{i}@x.de"))).unwrap();
        ledger.accept(link(200 + i, &format!("user_id:u{i}"), &format!("email:b{i}@x.de"))).unwrap();
        ledger.accept(link(300 + i, &format!("email:b{i}@x.de"), &format!("email:a{}@x.de", i + 1))).unwrap();
    }
    ledger.fold_mut().settle();
    ledger.fold_mut().take_moved();
    ledger
}

#[test]
fn a_late_fact_that_lets_a_refused_one_be_followed_takes_in_who_that_leads_to() {
    let mut ledger = row_of_customers();
    // Before u3 was known by its first mail, that mail was u2's: so u2 and u3 meet otherwise than before.
    ledger.accept(link(50, "user_id:u2", "email:a3@x.de")).unwrap();
    ledger.fold_mut().settle();
    let homes: BTreeSet<FacetId> = ledger.fold_mut().take_moved().unwrap().into_values().collect();
    assert!((2..=4).contains(&homes.len()), "u2, u3 and who stands beside them: {}", homes.len());
    let mut in_order = Ledger::new(KEY, std::sync::Arc::default());
    for judged in ledger.fold().facts() {
        in_order.accept((*judged.fact).clone()).unwrap();
    }
    assert_eq!(shown(&mut ledger), shown(&mut in_order));
}

/// What a cluster has stored must be read by every later version: if this fails, a form has changed.
#[test]
fn the_stored_forms_never_change() {
    let mut ledger = Ledger::new(KEY, std::sync::Arc::default());
    for i in 1..35 {
        ledger.accept(link(i, &format!("user_id:u{i}"), "phone:+49171")).unwrap();
    }
    ledger.accept(link(40, "user_id:u1", "email:a@x.de")).unwrap();
    ledger.accept(link(41, "email:a@x.de", "anonymous_id:tab")).unwrap();
    let retraction = Retraction {
        given_at: 50,
        id: "r".to_owned(),
        scope: Scope::pair(id("user_id:u3"), id("phone:+49171")),
        until: Until::Time(49),
        by: "anna".to_owned(),
        reason: "wrong".to_owned(),
    };
    ledger.fold_mut().settle();
    ledger.retract(retraction.clone()).unwrap();
    let profiles: Vec<Vec<u8>> = ledger.profiles().iter().map(|p| p.encode()).collect();
    let mut stored = Store::new();
    store(ledger.fold_mut(), &mut stored);
    let hash = |parts: &[&[u8]]| FacetId::from_bytes(hash128(&KEY, parts)).to_string();
    let pieces: Vec<&[u8]> = stored.iter().flat_map(|(key, value)| [&key[..], &value[..]]).collect();
    let profiles: Vec<&[u8]> = profiles.iter().map(|p| &p[..]).collect();
    let rules = IdentityRules::default()
        .with_version(3)
        .with_blocked_value(None, "x")
        .with_blocked_pattern(Some(Namespace::EMAIL), Pattern::parse("t?*").unwrap())
        .with_source("crm", SourceTrust::Only([Namespace::EMAIL].into()))
        .encode();
    let found = [hash(&pieces), hash(&profiles), hash(&[&retraction.encode()]), hash(&[&rules])];
    let golden = [
        "0748cb618db6498f64d5fbd2e9715852",
        "37ea31dfad80b53b2ffd32949cef70e0",
        "dd2bf6760d84b2caab60506bf7ec4d2f",
        "7c23f503c66f18cb6c6086ec37ec75e2",
    ];
    assert_eq!(found, golden, "pieces, profiles, retraction, rules");
}

#[test]
fn states_that_earlier_versions_kept_are_deleted() {
    let mut ledger = large(10);
    let mut stored = Store::new();
    store(ledger.fold_mut(), &mut stored);
    let state = [&[3][..], &7_u64.to_be_bytes()].concat();
    stored.insert(state.clone(), vec![1, 2, 3]);
    let mut fold = restored(ledger.fold(), &stored);
    assert!(fold.is_settled());
    assert_eq!(fold.components(), ledger.fold().components());
    store(&mut fold, &mut stored);
    assert!(!stored.contains_key(&state));
}

#[test]
fn an_older_version_of_a_row_is_no_news() {
    let mut ledger = large(3);
    let mut fold = ledger.fold_mut().clone();
    let (key, old) = fold.rows().next().unwrap();
    let mut new = old.clone();
    new.replace(None);
    assert_eq!(fold.put(key, &new), Ok(News::New));
    fold.settle();
    let without = fold.components();
    assert_eq!(fold.put(key, &old), Ok(News::Known));
    assert_eq!(fold.put(key, &new), Ok(News::Known));
    assert!(fold.is_settled());
    assert_eq!(fold.components(), without);
    let facet = key.a;
    assert_eq!(fold.set_shared(facet, 2, true), News::New);
    assert_eq!(fold.set_shared(facet, 1, false), News::Known);
    assert_eq!(fold.set_shared(facet, 2, false), News::Known);
    fold.settle();
    assert!(fold.component_of(facet).unwrap().members().len() == 1);
}

#[test]
fn a_restart_under_other_rules_folds_anew() {
    let mut ledger = large(1_500);
    ledger.fold_mut().take_moved();
    let mut stored = Store::new();
    store(ledger.fold_mut(), &mut stored);
    let strict = std::sync::Arc::new(IdentityRules::default().with_version(1).with_other_limit(2));
    let pieces = stored.iter().map(|(key, value)| (&key[..], &value[..]));
    let mut fold = Fold::restore(strict.clone(), pieces).unwrap();
    assert_eq!(fold.progress().folded, 0);
    fold.settle();
    ledger.set_rules(strict).unwrap();
    ledger.fold_mut().settle();
    assert_eq!(fold.components(), ledger.fold().components());
    let homes: BTreeSet<FacetId> = fold.take_moved().unwrap().into_values().collect();
    assert_eq!(homes.len(), 1_500 + 40 - 2 * 40, "also those that are alone now");
}

#[test]
fn pieces_that_do_not_fit_together_are_refused() {
    let mut ledger = large(1_500);
    let mut good = Store::new();
    store(ledger.fold_mut(), &mut good);
    let refuses = |change: &dyn Fn(&mut Store)| {
        let mut bad = good.clone();
        change(&mut bad);
        assert_ne!(bad, good);
        let pieces = bad.iter().map(|(key, value)| (&key[..], &value[..]));
        Fold::restore(ledger.fold().rules().clone(), pieces).is_err()
    };
    let row = |store: &Store| store.keys().find(|k| k[0] == 1).unwrap().clone();
    assert!(refuses(&|store| {
        store.insert(vec![9], vec![]);
    }));
    assert!(refuses(&|store| {
        store.insert(vec![1, 2, 3], vec![]);
    }));
    assert!(refuses(&|store| {
        store.insert(vec![0], vec![0xff; 3]);
    }));
    assert!(refuses(&|store| {
        let row = row(store);
        store.remove(&row);
    }));
    assert!(refuses(&|store| {
        store.retain(|k, _| k[0] != 0);
    }));
    assert!(refuses(&|store| {
        store.retain(|k, _| k[0] != 1);
    }));
    assert!(refuses(&|store| {
        let row = row(store);
        store.insert(row, vec![0xff; 3]);
    }));
}

#[test]
fn a_row_that_can_not_be_one_is_refused_and_changes_nothing() {
    let mut ledger = large(10);
    let mut fold = ledger.fold().clone();
    let (key, row) = fold.rows().next().unwrap();
    let version = row.version() + 1;
    let mut other = row.clone();
    other.replace(Some(link(99, "user_id:u1", "user_id:u2")));
    assert!(other.version() >= version);
    assert!(fold.put(key, &other).is_err(), "its facets are of other identifiers");
    let twice = isthmus_domain::identity::RowKey { source_and_kind: [0; 16], ..key };
    assert!(fold.put(twice, &row).is_err(), "the fact is in another row");
    let newcomer = id("user_id:new");
    let half = isthmus_domain::identity::RowKey { a: FacetId::of(&KEY, &newcomer), ..key };
    let mut row = LinkRow::default();
    row.offer(link(98, "user_id:new", "user_id:u2"));
    assert!(fold.put(half, &row).is_err(), "one of its facets is of another identifier");
    assert_eq!(fold.component_of(half.a), None);
    let mut one = LinkRow::default();
    one.offer(link(5, "user_id:x", "user_id:x"));
    assert!(fold.put(key, &one).is_ok_and(|news| news == News::Known), "it is no younger version");
    assert!(fold.is_settled());
    assert_eq!(fold.components(), ledger.fold().components());
    assert_eq!(ledger.facet(&id("user_id:u1")), FacetId::of(&KEY, &id("user_id:u1")));
    ledger.fold_mut().settle();
}
