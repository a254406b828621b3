//! The fold as one would explain it, without regard to time or memory.
//!
//! It takes *all* accepted facts, not the oldest of each row; it knows nothing of rows, flags, saved states or facets;
//! components are sets of identifiers that are found by looking through all of them. It reads rules from the plain
//! values they were made of ([`RulesSpec`]), not from [`isthmus_domain::identity::IdentityRules`].

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::identity::{Retraction, Scope, Until};
use isthmus_domain::{Identifier, LinkFact, LinkKind};

use super::cases::{RulesSpec, Trust};

/// What the model says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Outcome {
    /// Members with the time of the oldest followed fact about each, then the home, then the founding identifier.
    pub(super) profiles: BTreeSet<(BTreeMap<String, i64>, String, String)>,
    /// The code of each fact that counts.
    pub(super) codes: Vec<(LinkFact, &'static str)>,
}

fn suppressed(retraction: &Retraction, fact: &LinkFact) -> bool {
    let in_scope = match &retraction.scope {
        Scope::Fact { a, b, source, message_id } => {
            return *a == fact.a && *b == fact.b && *source == fact.source && *message_id == fact.message_id;
        }
        Scope::Pair(x, y) => (*x == fact.a && *y == fact.b) || (*x == fact.b && *y == fact.a),
        Scope::Identifier(x) => *x == fact.a || *x == fact.b,
        Scope::Source(source) => *source == fact.source,
    };
    in_scope && (retraction.until == Until::Ever || Until::Time(fact.timestamp) <= retraction.until)
}

fn is_blocked(rules: &RulesSpec, i: &Identifier) -> bool {
    (rules.block_e0 && i.to_string() == "email:e0@x.de")
        || (rules.block_crm_prefix && i.namespace().as_str() == "crm_id" && i.value().starts_with("c0"))
}

fn is_trusted(rules: &RulesSpec, fact: &LinkFact) -> bool {
    let good = |i: &Identifier| ["user_id", "email"].contains(&i.namespace().as_str());
    fact.source != "s2"
        || match rules.s2 {
            Trust::Full => true,
            Trust::Nothing => false,
            Trust::UsersAndMails => good(&fact.a) && good(&fact.b),
        }
}

fn limit(rules: &RulesSpec, namespace: &str) -> usize {
    match namespace {
        "user_id" => 1,
        "email" => rules.email_limit as usize,
        _ => rules.other_limit as usize,
    }
}

/// The smaller leads.
fn priority(rules: &RulesSpec, i: &Identifier) -> (usize, String) {
    let lead = if rules.mail_leads { ["email", "user_id", "phone"] } else { ["user_id", "email", "phone"] };
    let namespace = i.namespace().as_str();
    match lead.iter().position(|n| *n == namespace) {
        Some(place) => (place, String::new()),
        None if namespace == "anonymous_id" => (9, String::new()),
        None => (5, namespace.to_owned()),
    }
}

/// Ends that stand beside more counterparts of a namespace with a limit of one than anybody's own does.
fn shared(rules: &RulesSpec, facts: &[&LinkFact]) -> BTreeSet<Identifier> {
    let mut beside: BTreeMap<(Identifier, String), BTreeSet<Identifier>> = BTreeMap::new();
    for fact in facts {
        if fact.a == fact.b
            || is_blocked(rules, &fact.a)
            || is_blocked(rules, &fact.b)
            || !is_trusted(rules, fact)
        {
            continue;
        }
        for (x, y) in [(&fact.a, &fact.b), (&fact.b, &fact.a)] {
            beside.entry((x.clone(), y.namespace().to_string())).or_default().insert(y.clone());
        }
    }
    let too_many = |((_, namespace), others): &(&(Identifier, String), &BTreeSet<Identifier>)| {
        limit(rules, namespace) == 1 && others.len() > rules.shared_above as usize
    };
    beside.iter().filter(too_many).map(|((x, _), _)| x.clone()).collect()
}

pub(super) fn fold(rules: &RulesSpec, facts: &[LinkFact], retractions: &[Retraction]) -> Outcome {
    let mut alive: Vec<&LinkFact> =
        facts.iter().filter(|fact| !retractions.iter().any(|r| suppressed(r, fact))).collect();
    alive.sort_by_key(|f| {
        let event = (f.timestamp, f.source.clone(), f.message_id.clone(), f.position);
        (event, f.b.clone(), f.a.clone(), f.kind as i32)
    });
    alive.dedup();
    let shared = shared(rules, &alive);

    let mut sets: Vec<BTreeSet<Identifier>> = Vec::new();
    let mut first: BTreeMap<String, i64> = BTreeMap::new();
    let mut codes = Vec::new();
    let mut judged_rows = BTreeSet::new();
    for fact in alive {
        let alone = |i: &Identifier| BTreeSet::from([i.clone()]);
        let set = |sets: &[BTreeSet<Identifier>], i| {
            sets.iter().find(|s| s.contains(i)).cloned().unwrap_or(alone(i))
        };
        let (left, right) = (set(&sets, &fact.a), set(&sets, &fact.b));
        let over = |namespace: &str| {
            let n =
                |s: &BTreeSet<Identifier>| s.iter().filter(|i| i.namespace().as_str() == namespace).count();
            let exempt = namespace == "user_id" && fact.kind == LinkKind::Alias;
            n(&left) > 0 && n(&right) > 0 && n(&left) + n(&right) > limit(rules, namespace) && !exempt
        };
        let code = if fact.a == fact.b {
            "SELF_LINK"
        } else if is_blocked(rules, &fact.a) || is_blocked(rules, &fact.b) {
            "BLOCKED_VALUE"
        } else if !is_trusted(rules, fact) {
            "SOURCE_NOT_TRUSTED"
        } else if shared.contains(&fact.a) || shared.contains(&fact.b) {
            "SHARED_IDENTIFIER"
        } else if left == right {
            "CONFIRMED"
        } else if ["user_id", "email", "phone", "crm_id", "anonymous_id"].into_iter().any(over) {
            "OVER_LIMIT"
        } else {
            sets.retain(|s| *s != left && *s != right);
            sets.push(left.union(&right).cloned().collect());
            "JOINED"
        };
        if matches!(code, "JOINED" | "CONFIRMED") {
            for i in [&fact.a, &fact.b] {
                let time = first.entry(i.to_string()).or_insert(fact.timestamp);
                *time = fact.timestamp.min(*time);
            }
        }
        // Younger facts of a pair, source and kind are no news; here they are folded all the same.
        if judged_rows.insert((fact.a.clone(), fact.b.clone(), fact.source.clone(), fact.kind as i32)) {
            codes.push((fact.clone(), code));
        }
    }
    let profile = |set: BTreeSet<Identifier>| {
        let seen = |i: &Identifier| {
            facts.iter().filter(|f| f.a == *i).map(|f| f.timestamp).min().unwrap_or(i64::MAX)
        };
        let value = |i: &Identifier| i.value().to_owned();
        let home = set.iter().min_by_key(|i| (priority(rules, i), first[&i.to_string()], value(i))).unwrap();
        let founding = set.iter().min_by_key(|i| (seen(i), priority(rules, i), value(i))).unwrap();
        let members = set.iter().map(|i| (i.to_string(), first[&i.to_string()])).collect();
        (members, home.to_string(), founding.to_string())
    };
    Outcome { profiles: sets.into_iter().map(profile).collect(), codes }
}
