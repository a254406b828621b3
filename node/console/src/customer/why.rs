//! Why a customer's identifiers are one customer: what was said, in the order in which it was judged, and how the
//! profile came to be.

use isthmus_proto::v1::{ExplainResponse, JudgedFact, ProfileChange, Retraction, split_scope::Scope};
use maud::{Markup, html};

use super::Customer;
use crate::{
    failure::sentence,
    page::{Shell, heading},
    show::{count, identifier, number},
    time::when_given,
};

/// Facts that are shown before the rest is folded away.
const FACTS_SHOWN: usize = 25;

/// The section, heading included.
pub(super) fn section(shell: &Shell<'_>, told: &Customer) -> Markup {
    html! {
        @match &told.why {
            Err(message) => {
                (heading("why", "Why this is one customer", html! {}))
                div.notice.warn { p { (sentence(message)) } }
            }
            Ok(why) => {
                (heading("why", "Why this is one customer", html! {
                    (count(why.facts.len() as u64, "statement", "statements"))
                }))
                (facts(shell, why))
                (history(shell, &why.history))
                (retractions(shell, &why.retractions))
            }
        }
    }
}

fn facts(shell: &Shell<'_>, why: &ExplainResponse) -> Markup {
    let (first, rest) = why.facts.split_at(why.facts.len().min(FACTS_SHOWN));
    let rows = |from: usize, some: &[JudgedFact]| {
        html! {
            ol.judged start=(from + 1) { @for fact in some { (judged(shell, fact)) } }
        }
    };
    html! {
        @if why.facts.is_empty() {
            p.faint { "Nothing joins anybody here: the customer has one identifier, and no event ever named another beside it." }
        } @else {
            p.faint {
                "In the order in which identity resolution goes through them, by the rules of version "
                (why.rules_version) "."
            }
            (rows(0, first))
            @if !rest.is_empty() {
                details {
                    summary { (count(rest.len() as u64, "more statement", "more statements")) }
                    (rows(first.len(), rest))
                }
            }
        }
    }
}

fn judged(shell: &Shell<'_>, judged: &JudgedFact) -> Markup {
    let (class, verdict) = verdict(judged);
    html! {
        li {
            span class=(format!("badge {class}")) { (verdict) }
            @if let Some(fact) = &judged.fact {
                span.pair {
                    @if let Some(a) = &fact.a { (identifier(a)) }
                    span.faint { @if fact.alias { " is an alias of " } @else { " stands beside " } }
                    @if let Some(b) = &fact.b { (identifier(b)) }
                }
                span.said title=(format!("message {}", fact.message_id)) {
                    (fact.source) ", " (when_given(shell.now, fact.timestamp.as_ref()))
                }
            }
        }
    }
}

/// A verdict's colour, and what it means for people.
fn verdict(judged: &JudgedFact) -> (&'static str, String) {
    let refused = |why: &str| ("warn", format!("refused: {why}"));
    match judged.verdict.as_str() {
        "JOINED" => ("good", "joined".to_owned()),
        "CONFIRMED" => ("plain", "confirmed".to_owned()),
        "SELF_LINK" => refused("names itself"),
        "BLOCKED_VALUE" => refused("a placeholder, not an identifier"),
        "SOURCE_NOT_TRUSTED" => refused("this source's word does not count"),
        "SHARED_IDENTIFIER" => refused("shared by too many"),
        "OVER_LIMIT" => refused(&format!("too many of {}", judged.namespace)),
        "" => ("plain", "does not count".to_owned()),
        other => refused(other),
    }
}

fn history(shell: &Shell<'_>, history: &[ProfileChange]) -> Markup {
    html! {
        @if !history.is_empty() {
            h3 { "How it came to be" }
            ol.history {
                @for change in history.iter().rev() {
                    li {
                        span.said { (when_given(shell.now, change.at.as_ref())) }
                        @if !change.came.is_empty() {
                            span { span.badge.good { "came" } @for who in &change.came { " " (identifier(who)) } }
                        }
                        @if !change.left.is_empty() {
                            span { span.badge.warn { "left" } @for who in &change.left { " " (identifier(who)) } }
                        }
                        span.faint { "rules version " (number(change.rules_version)) }
                    }
                }
            }
        }
    }
}

fn retractions(shell: &Shell<'_>, retractions: &[Retraction]) -> Markup {
    html! {
        @if !retractions.is_empty() {
            h3 { "Taken back" }
            ol.history {
                @for taken in retractions {
                    li {
                        span.said { (when_given(shell.now, taken.given_at.as_ref())) }
                        (scope(taken))
                        @if !taken.reason.is_empty() { span { "“" (taken.reason) "”" } }
                        @if !taken.by.is_empty() { span.faint { "by " (taken.by) } }
                    }
                }
            }
        }
    }
}

fn scope(taken: &Retraction) -> Markup {
    let scope = taken.scope.as_ref().and_then(|scope| scope.scope.as_ref());
    html! {
        @match scope {
            Some(Scope::Fact(fact)) => span {
                "what " (fact.source) " said in one message of "
                @if let Some(a) = &fact.a { (identifier(a)) } " and " @if let Some(b) = &fact.b { (identifier(b)) }
            },
            Some(Scope::Pair(pair)) => span {
                "everything about "
                @if let Some(a) = &pair.a { (identifier(a)) } " and " @if let Some(b) = &pair.b { (identifier(b)) }
            },
            Some(Scope::Identifier(one)) => span { "everything about " (identifier(one)) },
            Some(Scope::Source(source)) => span { "everything that " (source) " said" },
            None => span.faint { "of an unknown kind" },
        }
    }
}
