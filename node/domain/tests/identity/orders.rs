//! Any order, repetition and batching of the same facts and retractions gives what the model gives, to the byte.

use isthmus_domain::LinkFact;
use isthmus_domain::identity::{IdentityRules, Ledger, News, Retraction};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::cases::{facts, retractions, rules};
use super::{KEY, model};

/// Something that comes in.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    Fact(LinkFact),
    Retraction(Retraction),
}

pub(super) fn take(ledger: &mut Ledger, arrival: &Arrival) -> News {
    match arrival {
        Arrival::Fact(fact) => ledger.accept(fact.clone()).unwrap(),
        Arrival::Retraction(retraction) => {
            let stored = Retraction::decode(&retraction.encode()).unwrap();
            assert_eq!(stored, *retraction);
            ledger.retract(stored).unwrap()
        }
    }
}

pub(super) fn ledger(rules: &Arc<IdentityRules>) -> Ledger {
    Ledger::new(KEY, rules.clone())
}

/// Everything that anybody can see, as bytes.
pub(super) fn shown(ledger: &mut Ledger) -> (Vec<Vec<u8>>, Vec<(LinkFact, String)>) {
    let profiles = ledger.profiles().iter().map(|profile| profile.encode()).collect();
    let facts = ledger.fold().facts();
    let facts = facts.iter().map(|judged| ((*judged.fact).clone(), format!("{:?}", judged.verdict)));
    (profiles, facts.collect())
}

/// What the fold says, as the model would say it.
pub(super) fn outcome(ledger: &mut Ledger) -> model::Outcome {
    let profiles = ledger.profiles().into_iter().map(|profile| {
        let members = profile.component.members().iter();
        let times = members.clone().map(|m| (m.identifier.to_string(), m.first_linked.unwrap())).collect();
        let home =
            members.clone().find(|m| m.facet == profile.component.home()).unwrap().identifier.to_string();
        assert_eq!(profile.component.home_slot(), profile.component.home().slot());
        assert_eq!(profile.profile_id, ledger_facet(&profile.founding));
        (times, home, profile.founding.to_string())
    });
    let profiles = profiles.collect();
    let facts = ledger.fold().facts();
    let codes = facts.iter().map(|judged| ((*judged.fact).clone(), judged.verdict.code())).collect();
    model::Outcome { profiles, codes }
}

fn ledger_facet(identifier: &isthmus_domain::Identifier) -> isthmus_domain::FacetId {
    isthmus_domain::FacetId::of(&KEY, identifier)
}

/// Everything at places of their own, some of it twice.
pub(super) fn shuffled(all: &[Arrival], places: &[prop::sample::Index]) -> Vec<Arrival> {
    let mut out: Vec<Arrival> = Vec::new();
    for (arrival, place) in all.iter().chain(all.iter().take(5)).zip(places.iter().cycle()) {
        out.insert(place.index(out.len() + 1), arrival.clone());
    }
    out
}

pub(super) fn arrivals(facts: &[LinkFact], retractions: &[Retraction]) -> Vec<Arrival> {
    let retractions = retractions.iter().cloned().map(Arrival::Retraction);
    facts.iter().cloned().map(Arrival::Fact).chain(retractions).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn any_order_repetition_and_batching_gives_what_the_model_gives(
        rules in rules(),
        facts in facts(),
        retractions in retractions(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 24),
        steps in prop::collection::vec(0..4_usize, 8),
    ) {
        let built = rules.rules(1);
        let all = arrivals(&facts, &retractions);

        let mut plain = ledger(&built);
        for arrival in &all {
            take(&mut plain, arrival);
        }
        prop_assert_eq!(outcome(&mut plain), model::fold(&rules, &facts, &retractions));

        let mut other = ledger(&built);
        for (arrival, step) in shuffled(&all, &places).iter().zip(steps.iter().cycle()) {
            take(&mut other, arrival);
            other.fold_mut().step(*step);
        }
        prop_assert_eq!(shown(&mut other), shown(&mut plain));
    }

    #[test]
    fn what_is_known_is_no_news_and_costs_nothing(rules in rules(), facts in facts(), retractions in retractions()) {
        let mut ledger = ledger(&rules.rules(1));
        let all = arrivals(&facts, &retractions);
        for arrival in &all {
            take(&mut ledger, arrival);
        }
        ledger.fold_mut().settle();
        ledger.fold_mut().take_moved();
        ledger.fold_mut().take_writes();
        for arrival in &all {
            prop_assert_eq!(take(&mut ledger, arrival), News::Known);
            if let Arrival::Fact(fact) = arrival {
                let younger = LinkFact { timestamp: fact.timestamp + 100, ..fact.clone() };
                let counts = ledger.fold().facts().iter().any(|judged| same_row(&judged.fact, fact));
                if counts {
                    prop_assert_eq!(ledger.accept(younger).unwrap(), News::Known);
                }
            }
        }
        prop_assert!(ledger.fold().is_settled());
        prop_assert!(ledger.fold_mut().take_writes().is_empty());
        prop_assert!(ledger.fold_mut().take_moved().unwrap().is_empty());
    }

    #[test]
    fn a_proposed_split_is_what_the_split_then_does(rules in rules(), facts in facts(), retractions in retractions()) {
        let mut ledger = ledger(&rules.rules(1));
        for fact in &facts {
            ledger.accept(fact.clone()).unwrap();
        }
        for retraction in &retractions {
            let preview = ledger.propose(retraction).unwrap();
            let (before, facts_before) = (homes(&mut ledger), codes(&ledger));
            ledger.retract(retraction.clone()).unwrap();
            let (after, facts_after) = (homes(&mut ledger), codes(&ledger));
            let gone: Vec<_> = before.iter().filter(|c| !after.contains(c)).cloned().collect();
            let came: Vec<_> = after.iter().filter(|c| !before.contains(c)).cloned().collect();
            let of_many = |all: &[isthmus_domain::identity::Component]| -> Vec<Vec<u8>> {
                all.iter().filter(|c| c.members().len() > 1).map(|c| c.encode()).collect()
            };
            prop_assert_eq!(of_many(&preview.before), gone);
            prop_assert_eq!(of_many(&preview.after), came);
            let members = |all: &[isthmus_domain::identity::Component]| -> Vec<String> {
                let mut all: Vec<_> = all.iter().flat_map(|c| c.members()).map(|m| m.identifier.to_string()).collect();
                all.sort();
                all
            };
            prop_assert_eq!(members(&preview.before), members(&preview.after));
            for changed in &preview.facts {
                prop_assert_eq!(facts_before.get(&*changed.fact), changed.before.as_ref());
                prop_assert_eq!(facts_after.get(&*changed.fact), changed.after.as_ref());
            }
            let differ = facts_before.iter().filter(|(f, v)| facts_after.get(*f) != Some(v)).count()
                + facts_after.keys().filter(|f| !facts_before.contains_key(*f)).count();
            prop_assert_eq!(preview.facts.len(), differ);
        }
    }

    #[test]
    fn an_explanation_leads_from_end_to_end_over_followed_facts(
        rules in rules(), facts in facts(), retractions in retractions(), x in 0..16_usize, y in 0..16_usize,
    ) {
        let mut ledger = ledger(&rules.rules(1));
        for arrival in &arrivals(&facts, &retractions) {
            take(&mut ledger, arrival);
        }
        let (x, y) = (super::cases::identifier(x), super::cases::identifier(y));
        let (x_facet, y_facet) = (ledger.facet(&x), ledger.facet(&y));
        let explanation = ledger.explain(&x, &y);
        let profiles = ledger.profiles();
        let together = x == y
            || profiles.iter().any(|p| p.component.contains(x_facet) && p.component.contains(y_facet));
        prop_assert_eq!(explanation.together, together);
        let mut at = x;
        for judged in &explanation.chain {
            prop_assert_eq!(judged.verdict.code(), "JOINED");
            prop_assert!(explanation.facts.contains(judged));
            prop_assert!(judged.fact.a == at || judged.fact.b == at);
            at = if judged.fact.a == at { judged.fact.b.clone() } else { judged.fact.a.clone() };
        }
        prop_assert_eq!(at == y, together);
        prop_assert!(explanation.facts.is_sorted());
    }
}

fn same_row(x: &LinkFact, y: &LinkFact) -> bool {
    (&x.a, &x.b, &x.source, x.kind) == (&y.a, &y.b, &y.source, y.kind)
}

fn homes(ledger: &mut Ledger) -> Vec<Vec<u8>> {
    ledger.fold_mut().settle();
    ledger.fold().components().unwrap().iter().map(|c| c.encode()).collect()
}

fn codes(ledger: &Ledger) -> BTreeMap<LinkFact, isthmus_domain::identity::Verdict> {
    ledger.fold().facts().into_iter().map(|judged| ((*judged.fact).clone(), judged.verdict)).collect()
}
