//! What identity resolution does, told in examples.

use std::collections::BTreeSet;
use std::sync::Arc;

use isthmus_domain::identity::{
    IdentityRules, Ledger, News, Pattern, Retraction, RulesError, Scope, SourceTrust, Until,
};
use isthmus_domain::{LinkFact, LinkKind, Namespace};

use super::{KEY, id, link};

fn under(rules: IdentityRules) -> Ledger {
    rules.validate().unwrap();
    Ledger::new(KEY, Arc::new(rules))
}

fn with(facts: &[LinkFact]) -> Ledger {
    let mut ledger = under(IdentityRules::default());
    for fact in facts {
        ledger.accept(fact.clone()).unwrap();
    }
    ledger
}

/// Each profile as its members, by priority, the home marked with a star.
fn profiles(ledger: &mut Ledger) -> Vec<String> {
    let named = ledger.profiles().into_iter().map(|profile| {
        let home = profile.component.home();
        let member = |m: &isthmus_domain::identity::Member| {
            format!("{}{}", m.identifier, if m.facet == home { "*" } else { "" })
        };
        profile.component.members().iter().map(member).collect::<Vec<_>>().join(" ")
    });
    let mut all: Vec<String> = named.collect();
    all.sort();
    all
}

/// `JOINED user_id:1 email:a@x.de`, in the order of the fold.
fn facts(ledger: &Ledger) -> Vec<String> {
    let line =
        |j: &isthmus_domain::identity::Judged| format!("{} {} {}", j.verdict.code(), j.fact.a, j.fact.b);
    ledger.fold().facts().iter().map(line).collect()
}

fn split(scope: Scope, until: Until) -> Retraction {
    Retraction {
        given_at: 1_000,
        id: "split-1".to_owned(),
        scope,
        until,
        by: "anna".to_owned(),
        reason: "two brothers".to_owned(),
    }
}

#[test]
fn a_cookie_that_logs_in_becomes_a_customer() {
    let mut ledger = with(&[link(1, "user_id:7", "anonymous_id:tab"), link(2, "user_id:7", "email:a@x.de")]);
    assert_eq!(profiles(&mut ledger), ["user_id:7* email:a@x.de anonymous_id:tab"]);
}

#[test]
fn of_two_customers_at_one_cookie_the_older_has_it() {
    let late = [link(9, "user_id:2", "anonymous_id:tab"), link(1, "user_id:1", "anonymous_id:tab")];
    let mut ledger = with(&late);
    assert_eq!(profiles(&mut ledger), ["user_id:1* anonymous_id:tab"]);
    assert_eq!(
        facts(&ledger),
        ["JOINED user_id:1 anonymous_id:tab", "OVER_LIMIT user_id:2 anonymous_id:tab"]
    );
}

#[test]
fn an_alias_joins_two_user_ids_and_nothing_else_breaks_for_it() {
    let alias = LinkFact { kind: LinkKind::Alias, ..link(3, "user_id:new", "user_id:old") };
    let mut ledger = with(&[
        link(1, "user_id:old", "email:a@x.de"),
        link(2, "user_id:new", "anonymous_id:tab"),
        alias,
        link(4, "user_id:new", "phone:+49171"),
        link(5, "user_id:third", "phone:+49171"),
    ]);
    assert_eq!(
        profiles(&mut ledger),
        ["user_id:new user_id:old* email:a@x.de phone:+49171 anonymous_id:tab"]
    );
}

#[test]
fn an_alias_is_free_of_no_other_limit() {
    let alias = LinkFact { kind: LinkKind::Alias, ..link(3, "user_id:new", "user_id:old") };
    let facts = [link(1, "user_id:old", "email:a@x.de"), link(2, "user_id:new", "email:b@x.de"), alias];
    let mut ledger = under(IdentityRules::default().with_limit(Namespace::EMAIL, 1));
    for fact in facts {
        ledger.accept(fact).unwrap();
    }
    assert_eq!(profiles(&mut ledger), ["user_id:new* email:b@x.de", "user_id:old* email:a@x.de"]);
}

#[test]
fn a_kiosk_is_nobodys_and_holds_nobody_together() {
    let visit = |n: i64| link(n, &format!("user_id:{n}"), "anonymous_id:kiosk");
    let mut ledger = with(&(1..=32).map(visit).collect::<Vec<_>>());
    assert_eq!(profiles(&mut ledger), ["user_id:1* anonymous_id:kiosk"]);
    // The thirty-third customer makes it a kiosk, also for the first.
    ledger.accept(visit(33)).unwrap();
    assert_eq!(profiles(&mut ledger), [""; 0]);
    assert!(facts(&ledger).iter().all(|line| line.starts_with("SHARED_IDENTIFIER ")));
    // One was a mistake: then it is the first customer's again.
    ledger.retract(split(Scope::pair(id("user_id:9"), id("anonymous_id:kiosk")), Until::Ever)).unwrap();
    assert_eq!(profiles(&mut ledger), ["user_id:1* anonymous_id:kiosk"]);
}

#[test]
fn a_family_shares_a_phone_and_stays_a_family_of_customers() {
    let mut ledger = with(&[
        link(1, "user_id:mum", "phone:+49171"),
        link(2, "user_id:dad", "phone:+49171"),
        link(3, "user_id:dad", "email:dad@x.de"),
        link(4, "user_id:kid", "phone:+49171"),
    ]);
    assert_eq!(profiles(&mut ledger), ["user_id:dad* email:dad@x.de", "user_id:mum* phone:+49171"]);
}

#[test]
fn a_fact_that_comes_late_is_followed_where_it_belongs() {
    let mut ledger = with(&[link(2, "user_id:dad", "phone:+49171"), link(3, "user_id:dad", "email:d@x.de")]);
    assert_eq!(profiles(&mut ledger), ["user_id:dad* email:d@x.de phone:+49171"]);
    assert_eq!(ledger.accept(link(1, "user_id:mum", "phone:+49171")), Ok(News::New));
    assert_eq!(profiles(&mut ledger), ["user_id:dad* email:d@x.de", "user_id:mum* phone:+49171"]);
}

#[test]
fn repeated_facts_are_no_news_unless_they_are_older() {
    let mut ledger = with(&[link(5, "user_id:7", "anonymous_id:tab")]);
    assert_eq!(ledger.accept(link(5, "user_id:7", "anonymous_id:tab")), Ok(News::Known));
    assert_eq!(ledger.accept(link(6, "user_id:7", "anonymous_id:tab")), Ok(News::Known));
    assert_eq!(ledger.accept(link(4, "user_id:7", "anonymous_id:tab")), Ok(News::New));
    let other_source = LinkFact { source: "app".to_owned(), ..link(9, "user_id:7", "anonymous_id:tab") };
    assert_eq!(ledger.accept(other_source), Ok(News::New));
}

#[test]
fn the_home_is_the_leading_identifier_and_of_two_mails_the_one_linked_first() {
    let mut ledger =
        with(&[link(5, "email:z@x.de", "phone:+49171"), link(6, "email:a@x.de", "phone:+49171")]);
    assert_eq!(profiles(&mut ledger), ["email:a@x.de email:z@x.de* phone:+49171"]);
    ledger.accept(link(7, "user_id:7", "email:a@x.de")).unwrap();
    assert_eq!(profiles(&mut ledger), ["user_id:7* email:a@x.de email:z@x.de phone:+49171"]);
}

#[test]
fn a_profile_is_named_after_the_identifier_that_was_seen_first() {
    let mut ledger = with(&[link(5, "user_id:7", "anonymous_id:tab")]);
    let name = |ledger: &mut Ledger| ledger.profiles()[0].founding.to_string();
    // The cookie has sent nothing under its own name so far.
    assert_eq!(name(&mut ledger), "user_id:7");
    ledger.seen(&id("anonymous_id:tab"), 4);
    assert_eq!(name(&mut ledger), "anonymous_id:tab");
    assert_eq!(ledger.profiles()[0].profile_id, ledger.facet(&id("anonymous_id:tab")));
    ledger.seen(&id("user_id:7"), 4);
    assert_eq!(name(&mut ledger), "user_id:7");
}

#[test]
fn a_split_gives_what_would_have_been_and_counts_for_what_comes_late() {
    let first = link(1, "user_id:1", "anonymous_id:tab");
    let second = link(2, "user_id:2", "anonymous_id:tab");
    let mut ledger = with(&[first.clone(), second]);
    let pair = Scope::pair(id("anonymous_id:tab"), id("user_id:1"));
    let retraction = split(pair, Until::Time(10));

    // What it would do is shown before it is done.
    let preview = ledger.propose(&retraction).unwrap();
    let members = |c: &isthmus_domain::identity::Component| {
        c.members().iter().map(|m| m.identifier.to_string()).collect::<Vec<_>>().join(" ")
    };
    let lines =
        |all: &[isthmus_domain::identity::Component]| all.iter().map(members).collect::<BTreeSet<_>>();
    let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(lines(&preview.before), set(&["user_id:1 anonymous_id:tab", "user_id:2"]));
    assert_eq!(lines(&preview.after), set(&["user_id:2 anonymous_id:tab", "user_id:1"]));
    let codes: Vec<_> = preview
        .facts
        .iter()
        .map(|f| (f.before.as_ref().map(|v| v.code()), f.after.as_ref().map(|v| v.code())))
        .collect();
    assert_eq!(codes, [(Some("JOINED"), None), (Some("OVER_LIMIT"), Some("JOINED"))]);
    assert_eq!(profiles(&mut ledger), ["user_id:1* anonymous_id:tab"]);

    assert_eq!(ledger.retract(retraction.clone()), Ok(News::New));
    assert_eq!(ledger.retract(retraction), Ok(News::Known));
    assert_eq!(profiles(&mut ledger), ["user_id:2* anonymous_id:tab"]);
    // The same file sent again, and a fact of that time that comes only now.
    assert_eq!(ledger.accept(first), Ok(News::Known));
    assert_eq!(ledger.accept(link(10, "user_id:1", "anonymous_id:tab")), Ok(News::Known));
    // What is said later counts; here it is too late for the cookie.
    assert_eq!(ledger.accept(link(11, "user_id:1", "anonymous_id:tab")), Ok(News::New));
    assert_eq!(profiles(&mut ledger), ["user_id:2* anonymous_id:tab"]);
}

#[test]
fn never_means_never() {
    let mut ledger = with(&[link(1, "user_id:1", "email:a@x.de")]);
    ledger.retract(split(Scope::pair(id("user_id:1"), id("email:a@x.de")), Until::Ever)).unwrap();
    assert_eq!(ledger.accept(link(999_999, "user_id:1", "email:a@x.de")), Ok(News::Known));
    assert_eq!(profiles(&mut ledger), [""; 0]);
}

#[test]
fn a_retracted_fact_leaves_its_place_to_the_next_of_its_pair() {
    let mut ledger = with(&[link(1, "user_id:1", "email:a@x.de"), link(5, "user_id:1", "email:a@x.de")]);
    let (a, b) = (id("user_id:1"), id("email:a@x.de"));
    let one = Scope::Fact { a, b, source: "web".to_owned(), message_id: "m1".to_owned() };
    ledger.retract(split(one, Until::Time(0))).unwrap();
    let profile = ledger.profiles().remove(0);
    assert!(profile.component.members().iter().all(|m| m.first_linked == Some(5)));
    // The event itself stays, so the name does.
    assert_eq!(profile.founding, id("user_id:1"));
}

#[test]
fn a_whole_source_can_be_taken_back_or_not_be_trusted_and_the_rest_is_as_without_it() {
    let crm = LinkFact { source: "crm".to_owned(), ..link(1, "user_id:1", "email:a@x.de") };
    let web = link(2, "user_id:2", "email:a@x.de");
    let mut ledger = with(&[crm.clone(), web.clone()]);
    assert_eq!(profiles(&mut ledger), ["user_id:1* email:a@x.de"]);
    ledger.retract(split(Scope::Source("crm".to_owned()), Until::Time(100))).unwrap();
    assert_eq!(profiles(&mut ledger), ["user_id:2* email:a@x.de"]);

    let mut ledger = with(&[crm, web]);
    let rules = IdentityRules::default().with_version(1).with_source("crm", SourceTrust::Nothing);
    ledger.set_rules(Arc::new(rules)).unwrap();
    assert_eq!(profiles(&mut ledger), ["user_id:2* email:a@x.de"]);
    assert_eq!(facts(&ledger)[0], "SOURCE_NOT_TRUSTED user_id:1 email:a@x.de");
    ledger.set_rules(Arc::new(IdentityRules::default().with_version(2))).unwrap();
    assert_eq!(profiles(&mut ledger), ["user_id:1* email:a@x.de"]);
}

#[test]
fn blocked_values_and_patterns_link_nobody() {
    let rules = IdentityRules::default()
        .with_blocked_value(Some(Namespace::EMAIL), " Shop@X.de ")
        .with_blocked_pattern(None, Pattern::parse("test-*").unwrap());
    let mut ledger = under(rules);
    for fact in [
        link(1, "user_id:1", "email:shop@x.de"),
        link(2, "user_id:1", "anonymous_id:Test-9"),
        link(3, "user_id:1", "anonymous_id:tab"),
    ] {
        ledger.accept(fact).unwrap();
    }
    assert_eq!(profiles(&mut ledger), ["user_id:1* anonymous_id:tab"]);
    assert_eq!(
        facts(&ledger),
        [
            "BLOCKED_VALUE user_id:1 email:shop@x.de",
            "BLOCKED_VALUE user_id:1 anonymous_id:Test-9",
            "JOINED user_id:1 anonymous_id:tab"
        ]
    );
}

#[test]
fn an_explanation_shows_the_chain_and_what_was_refused_or_retracted() {
    let mut ledger = with(&[
        link(1, "user_id:1", "email:a@x.de"),
        link(2, "email:a@x.de", "phone:+49171"),
        link(3, "user_id:2", "phone:+49171"),
        link(4, "anonymous_id:tab", "phone:+49171"),
        link(5, "user_id:9", "email:z@x.de"),
    ]);
    ledger.retract(split(Scope::pair(id("anonymous_id:tab"), id("phone:+49171")), Until::Time(9))).unwrap();
    let explanation = ledger.explain(&id("user_id:1"), &id("phone:+49171"));
    assert!(explanation.together);
    let line = |j: &isthmus_domain::identity::Judged| format!("{} {}", j.verdict.code(), j.fact.timestamp);
    let lines = |all: &[isthmus_domain::identity::Judged]| all.iter().map(line).collect::<Vec<_>>();
    assert_eq!(lines(&explanation.chain), ["JOINED 1", "JOINED 2"]);
    assert_eq!(lines(&explanation.facts), ["JOINED 1", "JOINED 2", "OVER_LIMIT 3", "RETRACTED 4"]);

    let apart = ledger.explain(&id("user_id:1"), &id("user_id:2"));
    assert!(!apart.together && apart.chain.is_empty());
    assert_eq!(lines(&apart.facts), ["JOINED 1", "JOINED 2", "OVER_LIMIT 3", "RETRACTED 4"]);
}

#[test]
fn a_fact_about_one_identifier_alone_is_refused() {
    let mut ledger = with(&[link(1, "user_id:1", "user_id:1")]);
    assert_eq!(profiles(&mut ledger), [""; 0]);
    assert_eq!(facts(&ledger), ["SELF_LINK user_id:1 user_id:1"]);
}

#[test]
fn rules_that_make_no_sense_are_refused_with_the_field_that_is_wrong() {
    let rules = IdentityRules::default;
    let said = |rules: IdentityRules| rules.validate().unwrap_err().to_string();
    let twice = rules().with_priority([Namespace::EMAIL, Namespace::EMAIL]);
    assert_eq!(said(twice), "priority: email is named twice");
    assert!(said(rules().with_limit(Namespace::PHONE, 0)).starts_with("limits: the limit of phone is 0"));
    assert!(said(rules().with_other_limit(u32::MAX)).starts_with("limits: the limit of other is 4294967295"));
    assert_eq!(said(rules().with_shared_above(1)), "shared_above is 1; it must be 2 to 100000");
    assert!(matches!(
        rules().with_source("crm", SourceTrust::Only(BTreeSet::new())).validate(),
        Err(RulesError::NoNamespaces { .. })
    ));
    assert!(matches!(
        rules().with_source(" ", SourceTrust::Nothing).validate(),
        Err(RulesError::BadSource { index: 0 })
    ));
    assert!(matches!(
        rules().with_blocked_value(None, " ").validate(),
        Err(RulesError::BadValue { index: 0, .. })
    ));
    assert!(IdentityRules::decode(&[0xff; 3]).is_err());
    assert_eq!(IdentityRules::decode(&rules().encode()), Ok(rules()));
}

#[test]
fn nobody_learns_a_value_from_debug() {
    let secret = "secret@x.de";
    let rules = IdentityRules::default().with_blocked_value(None, secret);
    let mut ledger = under(rules.clone());
    ledger.accept(link(1, "user_id:1", &format!("email:{secret}"))).unwrap();
    let retraction = split(Scope::Identifier(id(&format!("email:{secret}"))), Until::Ever);
    let pattern = Pattern::parse("secret@*").unwrap();
    let profiles = ledger.profiles();
    let explained = ledger.explain(&id("user_id:1"), &id(&format!("email:{secret}")));
    let shown = format!("{rules:?} {ledger:?} {retraction:?} {pattern:?} {profiles:?} {explained:?}");
    assert!(!shown.contains("secret"), "{shown}");
}
