//! One customer: what is known, who said it and when, what happened, and why it is one customer.

mod timeline;
mod why;

use isthmus_proto::v1::{ExplainResponse, Identifier, Profile, TimelineResponse};
use maud::{Markup, html};

use crate::{
    customers::{events, name},
    page::{Section, Shell, heading, nothing},
    show::{count, identifier, number, value},
    time::{when, when_given},
};

/// Traits that are shown before the rest is folded away.
const TRAITS_SHOWN: usize = 40;
/// Identifiers that are shown before the rest is folded away.
const IDENTIFIERS_SHOWN: usize = 12;

/// What is told.
#[derive(Clone, Debug)]
pub struct Customer {
    /// The profile.
    pub profile: Profile,
    /// Its traits with who said them, by name.
    pub traits: Vec<Trait>,
    /// A page of its events.
    pub timeline: TimelineResponse,
    /// Whether that is not the newest page.
    pub further: bool,
    /// Why it is one customer; the message where that couldn't be found out.
    pub why: Result<ExplainResponse, String>,
}

/// A trait, with who said it when.
#[derive(Clone, Debug, Default)]
pub struct Trait {
    /// Its name.
    pub name: String,
    /// Its value, as JSON text.
    pub json: String,
    /// The source that said it.
    pub source: String,
    /// The message in which it was said.
    pub message_id: String,
    /// When, microseconds since 1970.
    pub said_at: i64,
}

/// The page.
pub fn page(shell: &Shell<'_>, told: &Customer) -> String {
    let (profile, title) = (&told.profile, name(&told.profile));
    let main = html! {
        div.title {
            h1 { (title) }
            p.faint { "Profile " code { (profile.profile_id) } }
        }
        (figures(shell, profile))
        div.columns {
            div.aside {
                section aria-labelledby="traits" {
                    (heading("traits", "Traits", html! { (number(told.traits.len() as u64)) }))
                    (traits(shell, &told.traits))
                }
                section aria-labelledby="identifiers" {
                    (heading("identifiers", "Identifiers", html! { (number(profile.identifiers.len() as u64)) }))
                    (identifiers(&profile.identifiers))
                }
                section aria-labelledby="counts" {
                    (heading("counts", "Counted", html! {}))
                    (counts(profile))
                }
            }
            div {
                section aria-labelledby="timeline" {
                    (heading("timeline", "Timeline", html! { (count(events(profile), "event", "events")) }))
                    (timeline::list(shell, told))
                }
            }
        }
        section aria-labelledby="why" { (why::section(shell, told)) }
    };
    shell.page(Section::Customers, &title, None, main)
}

fn figures(shell: &Shell<'_>, profile: &Profile) -> Markup {
    html! {
        dl.figures {
            div { dt { "Last seen" } dd { (when_given(shell.now, profile.last_seen.as_ref())) } }
            div { dt { "First seen" } dd { (when_given(shell.now, profile.first_seen.as_ref())) } }
            div { dt { "Events" } dd { (number(events(profile))) } }
            div {
                dt { "Revenue" }
                dd {
                    @if profile.revenue_by_currency.is_empty() { (profile.revenue) }
                    @for (currency, sum) in &profile.revenue_by_currency {
                        span.money { (sum) span.of { " " (currency) } }
                    }
                }
            }
            div { dt { "Sources" } dd.text { (profile.sources.join(", ")) } }
        }
    }
}

fn traits(shell: &Shell<'_>, traits: &[Trait]) -> Markup {
    let rows = |some: &[Trait]| {
        html! {
            dl.traits {
                @for known in some {
                    div {
                        dt { (known.name) }
                        dd {
                            div.value { (value(&known.json)) }
                            div.said title=(format!("message {}", known.message_id)) {
                                (known.source) ", " (when(shell.now, known.said_at))
                            }
                        }
                    }
                }
            }
        }
    };
    let (first, rest) = traits.split_at(traits.len().min(TRAITS_SHOWN));
    html! {
        @if traits.is_empty() {
            (nothing("No traits.", html! { p { "They come with " code { "identify" } " events." } }))
        } @else {
            (rows(first))
            @if !rest.is_empty() {
                details { summary { (count(rest.len() as u64, "more trait", "more traits")) } (rows(rest)) }
            }
        }
    }
}

fn identifiers(all: &[Identifier]) -> Markup {
    let rows =
        |some: &[Identifier]| html! { ul.identifiers { @for known in some { li { (identifier(known)) } } } };
    let (first, rest) = all.split_at(all.len().min(IDENTIFIERS_SHOWN));
    html! {
        (rows(first))
        @if !rest.is_empty() {
            details { summary { (count(rest.len() as u64, "more identifier", "more identifiers")) } (rows(rest)) }
        }
    }
}

fn counts(profile: &Profile) -> Markup {
    html! {
        table.counts {
            thead { tr { th scope="col" { "Event" } th.n scope="col" { "Times" } } }
            tbody {
                @for (name, times) in &profile.event_counts {
                    tr { th scope="row" { (name) } td.n { (number(*times)) } }
                }
                @for (kind, times) in &profile.type_counts {
                    tr { th scope="row" { (kind) span.faint.light { " of any name" } } td.n { (number(*times)) } }
                }
            }
        }
    }
}
