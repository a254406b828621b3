//! Facts, retractions and rules that get in each other's way: few identifiers, few times, tight limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use isthmus_domain::identity::{IdentityRules, Pattern, Retraction, Scope, SourceTrust, Until};
use isthmus_domain::{Identifier, LinkFact, LinkKind, Namespace};
use proptest::prelude::*;

use super::id;

/// How far the source `s2` is trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trust {
    Full,
    Nothing,
    UsersAndMails,
}

/// Rules as plain values: the model reads these, the fold what [`RulesSpec::rules`] makes of them.
#[derive(Clone, Debug)]
pub(super) struct RulesSpec {
    pub(super) email_limit: u32,
    pub(super) other_limit: u32,
    pub(super) shared_above: u32,
    pub(super) s2: Trust,
    pub(super) block_e0: bool,
    pub(super) block_crm_prefix: bool,
    pub(super) mail_leads: bool,
}

impl RulesSpec {
    pub(super) fn rules(&self, version: u64) -> Arc<IdentityRules> {
        let mut rules = IdentityRules::default()
            .with_version(version)
            .with_limit(Namespace::EMAIL, self.email_limit)
            .with_limit(Namespace::ANONYMOUS_ID, self.other_limit)
            .with_other_limit(self.other_limit)
            .with_shared_above(self.shared_above);
        if self.s2 != Trust::Full {
            let some = SourceTrust::Only(BTreeSet::from([Namespace::USER_ID, Namespace::EMAIL]));
            rules =
                rules.with_source("s2", if self.s2 == Trust::Nothing { SourceTrust::Nothing } else { some });
        }
        if self.block_e0 {
            rules = rules.with_blocked_value(Some(Namespace::EMAIL), "E0@X.de");
        }
        if self.block_crm_prefix {
            let crm = Namespace::parse("crm_id").unwrap();
            rules = rules.with_blocked_pattern(Some(crm), Pattern::parse("C0*").unwrap());
        }
        if self.mail_leads {
            rules = rules.with_priority([Namespace::EMAIL, Namespace::USER_ID, Namespace::PHONE]);
        }
        rules.validate().unwrap();
        let stored = IdentityRules::decode(&rules.encode()).unwrap();
        assert_eq!(stored, rules);
        Arc::new(stored)
    }
}

pub(super) fn rules() -> impl Strategy<Value = RulesSpec> {
    let trust =
        prop_oneof![4 => Just(Trust::Full), 1 => Just(Trust::Nothing), 1 => Just(Trust::UsersAndMails)];
    let flag = || prop::bool::weighted(0.2);
    (1..4_u32, 1..4_u32, 2..4_u32, trust, flag(), flag(), flag()).prop_map(
        |(email_limit, other_limit, shared_above, s2, block_e0, block_crm_prefix, mail_leads)| RulesSpec {
            email_limit,
            other_limit,
            shared_above,
            s2,
            block_e0,
            block_crm_prefix,
            mail_leads,
        },
    )
}

/// The identifiers of all cases.
pub(super) fn identifier(n: usize) -> Identifier {
    let texts = [
        "user_id:u0",
        "user_id:u1",
        "user_id:u2",
        "user_id:u3",
        "user_id:u4",
        "email:e0@x.de",
        "email:e1@x.de",
        "email:e2@x.de",
        "phone:+490",
        "phone:+491",
        "crm_id:c0",
        "crm_id:c1",
        "crm_id:c01",
        "anonymous_id:a0",
        "anonymous_id:a1",
        "anonymous_id:a2",
    ];
    id(texts[n % texts.len()])
}

const IDENTIFIERS: usize = 16;
const TIMES: i64 = 12;

fn fact(
    ends: (usize, usize),
    timestamp: i64,
    source: usize,
    message: usize,
    alias: bool,
    position: u32,
) -> LinkFact {
    LinkFact {
        a: identifier(ends.0),
        b: identifier(ends.1),
        timestamp,
        source: format!("s{source}"),
        message_id: format!("m{message}"),
        kind: if alias { LinkKind::Alias } else { LinkKind::Plain },
        position,
    }
}

/// Time, source, message, alias, position.
fn said() -> impl Strategy<Value = (i64, usize, usize, bool, u32)> {
    (0..TIMES, 0..3_usize, 0..4_usize, prop::bool::weighted(0.1), 0..3_u32)
}

fn facts_between(
    ends: impl Strategy<Value = (usize, usize)>,
    most: usize,
) -> impl Strategy<Value = Vec<LinkFact>> {
    let one = (ends, said()).prop_map(|(ends, (t, source, m, alias, p))| fact(ends, t, source, m, alias, p));
    prop::collection::vec(one, 1..=most)
}

/// A few of these: links at random; a chain; a kiosk; a family around one phone; browsers that repeat themselves.
pub(super) fn facts() -> impl Strategy<Value = Vec<LinkFact>> {
    let any_two = (0..IDENTIFIERS, 0..IDENTIFIERS);
    let chain = (0..IDENTIFIERS, 0..6_usize).prop_map(|(start, i)| (start + i, start + i + 1));
    let kiosk = (Just(13_usize), 0..5_usize).prop_map(|(kiosk, user)| (user, kiosk));
    let family = (prop_oneof![0..3_usize, 5..8_usize], Just(8_usize));
    let repeated = prop_oneof![Just((0, 13)), Just((13, 0)), Just((0, 5)), Just((1, 5))];
    prop_oneof![
        3 => facts_between(any_two, 16).boxed(),
        1 => facts_between(chain, 10).boxed(),
        1 => (facts_between(kiosk, 10), facts_between((0..IDENTIFIERS, 0..IDENTIFIERS), 6))
            .prop_map(|(a, b)| [a, b].concat()).boxed(),
        1 => (facts_between(family, 10), facts_between((0..8_usize, 5..IDENTIFIERS), 6))
            .prop_map(|(a, b)| [a, b].concat()).boxed(),
        1 => facts_between(repeated, 12).boxed(),
    ]
}

pub(super) fn retractions() -> impl Strategy<Value = Vec<Retraction>> {
    let until = prop_oneof![3 => (0..TIMES).prop_map(Until::Time), 1 => Just(Until::Ever)];
    let scope =
        (0..7_u8, 0..IDENTIFIERS, 0..IDENTIFIERS, 0..3_usize, 0..4_usize).prop_map(|(kind, x, y, s, m)| {
            let (x, y, source) = (identifier(x), identifier(y), format!("s{s}"));
            match kind {
                0 | 1 => Scope::Fact { a: x, b: y, source, message_id: format!("m{m}") },
                2 | 3 => Scope::pair(x, y),
                4 | 5 => Scope::Identifier(x),
                _ => Scope::Source(source),
            }
        });
    let one = (scope, until, 0..5_i64).prop_map(|(scope, until, given_at)| Retraction {
        given_at,
        id: format!("r{given_at}"),
        scope,
        until,
        by: "anna".to_owned(),
        reason: String::new(),
    });
    prop::collection::vec(one, 0..4)
}
