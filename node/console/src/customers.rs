//! Customers: found by an identifier, or gone through page by page.

use isthmus_proto::v1::{Identifier, Profile, Value, value::Kind};
use maud::{Markup, html};

use crate::{
    page::{Section, Shell, nothing},
    show::{identifier, number},
    time::when_given,
};

/// Identifiers of a customer that are shown in a list.
const SHOWN: usize = 3;

/// All customers, page by page.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The customers of this page.
    pub profiles: Vec<Profile>,
    /// Where the next page begins; empty: this was the last.
    pub next_cursor: String,
    /// Whether this is not the first page.
    pub further: bool,
}

/// What a search found that did not lead to exactly one customer.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// What was tried: identifiers as they are filed.
    pub tried: Vec<Identifier>,
    /// Who was found, each with the identifier that led there.
    pub profiles: Vec<(Identifier, Profile)>,
    /// What kept the text from being tried as an identifier, for people; empty: nothing did.
    pub problem: String,
}

/// The page of all customers.
pub fn listing(shell: &Shell<'_>, told: &Listing) -> String {
    let main = html! {
        div.title {
            h1 { "Customers" }
            p.faint { "by profile id, which has no meaning: search by any identifier to find somebody" }
        }
        @if told.profiles.is_empty() && told.further {
            (nothing("That was the last page.", html! { p { a href="/customers" { "From the beginning" } } }))
        } @else if told.profiles.is_empty() {
            (nothing("Nobody is known yet.", html! {
                p { "Send a first event, for example with " code { "isthmus ingest FILE" } ", or by HTTP:" }
                pre.code { "curl -u WRITE_KEY: http://THIS_NODE/v1/identify -d '{\"userId\":\"42\",\"traits\":{\"plan\":\"pro\"}}'" }
            }))
        } @else {
            (list(shell, told.profiles.iter().map(|profile| (None, profile))))
            nav.pages aria-label="Pages" {
                @if told.further { a href="/customers" { "From the beginning" } }
                @if !told.next_cursor.is_empty() {
                    a.button rel="next" href=(format!("/customers?cursor={}", told.next_cursor)) { "Next page" }
                }
            }
        }
    };
    shell.page(Section::Customers, "Customers", None, main)
}

/// The page of a search.
pub fn found(shell: &Shell<'_>, told: &Found) -> String {
    let main = html! {
        div.title { h1 { "Search" } }
        @if told.profiles.is_empty() {
            (nothing("Nobody was found.", html! { (nobody(told)) }))
        } @else {
            p.lead { "Several customers are meant by that." }
            (list(shell, told.profiles.iter().map(|(by, profile)| (Some(by), profile))))
        }
    };
    shell.page(Section::Customers, "Search", None, main)
}

fn nobody(told: &Found) -> Markup {
    html! {
        @if !told.problem.is_empty() { p { (crate::failure::sentence(&told.problem)) } }
        @if !told.tried.is_empty() {
            p { "Nothing is filed under:" }
            ul.identifiers { @for tried in &told.tried { li { (identifier(tried)) } } }
        }
        p {
            "Name the namespace to look elsewhere, as in " code { "crm_id:A-17" } ". Identifiers are compared as a whole, "
            "after the same normalisation as on their way in."
        }
    }
}

fn list<'a>(
    shell: &Shell<'_>,
    profiles: impl Iterator<Item = (Option<&'a Identifier>, &'a Profile)>,
) -> Markup {
    html! {
        ol.people {
            @for (by, profile) in profiles {
                li {
                    a.person href=(path(&profile.profile_id)) {
                        span.name { (name(profile)) }
                        span.identifiers {
                            @if let Some(by) = by { (identifier(by)) }
                            @else {
                                @for known in profile.identifiers.iter().take(SHOWN) { (identifier(known)) }
                                @if profile.identifiers.len() > SHOWN {
                                    span.faint { "and " (profile.identifiers.len() - SHOWN) " more" }
                                }
                            }
                        }
                        span.facts {
                            span { (number(events(profile))) " " span.faint { @if events(profile) == 1 { "event" } @else { "events" } } }
                            span { (profile.revenue) " " span.faint { "revenue" } }
                            span { span.faint { "seen " } (when_given(shell.now, profile.last_seen.as_ref())) }
                        }
                    }
                }
            }
        }
    }
}

/// Where a customer's page is. A profile id is 32 hexadecimal digits.
pub fn path(profile_id: &str) -> String {
    format!("/customers/{profile_id}")
}

/// All events of a customer.
pub(crate) fn events(profile: &Profile) -> u64 {
    profile.event_counts.values().chain(profile.type_counts.values()).sum()
}

/// What a person would call the customer: a name, else an address, else the first identifier.
pub(crate) fn name(profile: &Profile) -> String {
    let text = |name: &str| match profile.traits.get(name) {
        Some(Value { kind: Some(Kind::StringValue(text)) }) if !text.trim().is_empty() => {
            Some(text.trim().to_owned())
        }
        _ => None,
    };
    let both = |first: &str, last: &str| match (text(first), text(last)) {
        (Some(first), Some(last)) => Some(format!("{first} {last}")),
        (first, last) => first.or(last),
    };
    text("name")
        .or_else(|| both("firstName", "lastName"))
        .or_else(|| both("first_name", "last_name"))
        .or_else(|| text("email"))
        .or_else(|| profile.identifiers.first().map(|first| first.value.clone()))
        .unwrap_or_else(|| profile.profile_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(traits: &[(&str, &str)]) -> Profile {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        Profile {
            profile_id: "0".repeat(32),
            identifiers: vec![Identifier { namespace: "user_id".into(), value: "42".into() }],
            traits: traits.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect(),
            ..Profile::default()
        }
    }

    #[test]
    fn customers_are_called_by_what_people_call_them() {
        assert_eq!(
            name(&profile(&[("firstName", "Ada"), ("lastName", "King"), ("email", "a@b.de")])),
            "Ada King"
        );
        assert_eq!(name(&profile(&[("last_name", "King"), ("name", " ")])), "King");
        assert_eq!(name(&profile(&[("email", "a@b.de")])), "a@b.de");
        assert_eq!(name(&profile(&[])), "42");
        assert_eq!(name(&Profile { profile_id: "f".into(), ..Profile::default() }), "f");
    }
}
