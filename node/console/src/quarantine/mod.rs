//! What could not be taken: how much of it, why, and the entries.

mod entry;

use isthmus_proto::v1::{
    QuarantineCounts, QuarantineEntry, QuarantineOutcome, QuarantineResolution, QuarantineResolutionKind,
    QuarantineResult,
};
use maud::{Markup, html};

pub use self::entry::{Content, Entry, Sent, page as entry};
use crate::{
    failure::sentence,
    page::{Section, Shell, heading, nothing},
    show::{count, number},
    time::when_given,
};

/// The list of entries.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// How many there are, by source and reason.
    pub counts: Vec<QuarantineCounts>,
    /// The entries of this page.
    pub entries: Vec<QuarantineEntry>,
    /// Where the next page begins; empty: this was the last.
    pub next_cursor: String,
    /// Only those of this source; empty: all.
    pub source: String,
    /// Only those with this reason; empty: all.
    pub reason: String,
    /// Those that are resolved, too.
    pub resolved_too: bool,
    /// Where this page began; empty: at the first.
    pub cursor: String,
    /// What became of entries that were just replayed; `None`: none were.
    pub replayed: Option<Vec<QuarantineResult>>,
}

/// Where the list of a source and a reason is.
pub fn list_path(source: &str, reason: &str, resolved_too: bool) -> String {
    let given = [("source", source), ("reason", reason), ("all", if resolved_too { "1" } else { "" })];
    let given = given.into_iter().filter(|(_, value)| !value.is_empty());
    let query: Vec<String> = given.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    if query.is_empty() { "/quarantine".to_owned() } else { format!("/quarantine?{}", query.join("&")) }
}

/// Percent-encodes what may not stand in a query (RFC 3986, section 3.4).
fn encoded(text: &str) -> String {
    let byte = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Where an entry is. An id is 32 hexadecimal digits.
pub fn entry_path(id: &str) -> String {
    format!("/quarantine/{id}")
}

/// The page of the list.
pub fn listing(shell: &Shell<'_>, told: &Listing) -> String {
    let open: u64 = told.counts.iter().map(|count| count.open).sum();
    let main = html! {
        div.title {
            h1 { "Quarantine" }
            p.faint { "what could not be taken, and is kept until somebody mends, replays or drops it" }
        }
        @if let Some(results) = &told.replayed { (replayed(results)) }
        @if told.counts.is_empty() {
            (nothing("Nothing is quarantined.", html! {
                p { "Events that can't be taken, or break their schema, will be kept here with the reason." }
            }))
        } @else {
            section aria-labelledby="counts" {
                (heading("counts", "By source and reason", html! { (number(open)) " open" }))
                (counts(told))
            }
            section aria-labelledby="entries" {
                (heading("entries", "Entries", filters(told)))
                (entries(shell, told))
            }
        }
    };
    shell.page(Section::Quarantine, "Quarantine", None, main)
}

fn counts(told: &Listing) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="By source and reason" {
            table.stack {
                thead {
                    tr {
                        th scope="col" { "Source" }
                        th scope="col" { "Reason" }
                        th.n scope="col" { "Open" }
                        th.n scope="col" { "Resolved" }
                    }
                }
                tbody {
                    @for row in &told.counts {
                        @let chosen = row.source == told.source && row.reason == told.reason;
                        tr.chosen[chosen] {
                            td data-label="Source" { a href=(list_path(&row.source, "", false)) { (row.source) } }
                            td data-label="Reason" {
                                a href=(list_path(&row.source, &row.reason, false)) aria-current=[chosen.then_some("true")] {
                                    code { (row.reason) }
                                }
                            }
                            td.n data-label="Open" { span.attention[row.open > 0] { (number(row.open)) } }
                            td.n data-label="Resolved" { (number(row.resolved)) }
                        }
                    }
                }
            }
        }
    }
}

fn filters(told: &Listing) -> Markup {
    let chosen = !told.source.is_empty() || !told.reason.is_empty();
    html! {
        span.filters {
            @if chosen {
                span {
                    "of " (if told.source.is_empty() { "all sources" } else { told.source.as_str() })
                    @if !told.reason.is_empty() { ", " code { (told.reason) } }
                }
                a href="/quarantine" { "all entries" }
            }
            @if told.resolved_too {
                a href=(list_path(&told.source, &told.reason, false)) { "only open ones" }
            } @else {
                a href=(list_path(&told.source, &told.reason, true)) { "resolved ones, too" }
            }
        }
    }
}

fn entries(shell: &Shell<'_>, told: &Listing) -> Markup {
    let here = list_path(&told.source, &told.reason, told.resolved_too);
    let next = format!("{here}{}cursor={}", if here.contains('?') { "&" } else { "?" }, told.next_cursor);
    let open = told.entries.iter().filter(|entry| entry.resolution.is_none()).count() as u64;
    html! {
        @if told.entries.is_empty() {
            (nothing("No entries here.", html! {
                p { "Those of this choice are resolved, or there never were any." }
            }))
        } @else {
            ol.entries { @for entry in &told.entries { (row(shell, entry)) } }
            div.actions {
                @if open > 0 {
                    form method="post" action="/quarantine/replay" {
                        (shell.token())
                        input type="hidden" name="source" value=(told.source);
                        input type="hidden" name="reason" value=(told.reason);
                        input type="hidden" name="cursor" value=(told.cursor);
                        button type="submit" { "Replay the open entries of this page" }
                        span.faint { "They are judged by the rules and schemas in force now." }
                    }
                }
                nav.pages aria-label="Pages" {
                    @if !told.cursor.is_empty() { a href=(here) { "From the beginning" } }
                    @if !told.next_cursor.is_empty() { a.button rel="next" href=(next) { "Next page" } }
                }
            }
        }
    }
}

fn row(shell: &Shell<'_>, entry: &QuarantineEntry) -> Markup {
    html! {
        li {
            a href=(entry_path(&entry.id)) {
                span.reason { code { (entry.reason) } @if !entry.field.is_empty() { span.faint { " in " (entry.field) } } }
                span.message { (sentence(&entry.message)) }
                span.from {
                    (entry.source)
                    @if !entry.origin.is_empty() { ", " (entry.origin) }
                    ", " (when_given(shell.now, entry.received_at.as_ref()))
                }
                @if let Some(resolution) = &entry.resolution { (resolved_badge(resolution)) }
            }
        }
    }
}

/// How an entry was resolved, in a word.
fn resolved_badge(resolution: &QuarantineResolution) -> Markup {
    html! {
        @match resolution.kind() {
            QuarantineResolutionKind::Mended => span.badge.good { "mended" },
            QuarantineResolutionKind::Replayed => span.badge.good { "replayed" },
            QuarantineResolutionKind::Dropped => span.badge.plain { "dropped" },
            QuarantineResolutionKind::Unspecified => span.badge.plain { "resolved" },
        }
    }
}

/// What became of a page that was replayed.
fn replayed(results: &[QuarantineResult]) -> Markup {
    let of = |outcome| results.iter().filter(move |result| result.outcome() == outcome);
    let went_in = of(QuarantineOutcome::Resolved).count() as u64;
    let stayed: Vec<&QuarantineResult> = of(QuarantineOutcome::StillQuarantined).collect();
    html! {
        div.notice.good[stayed.is_empty()].warn[!stayed.is_empty()] role="status" #result {
            p.lead {
                @if results.is_empty() { "There was nothing to replay." }
                @else if went_in == 0 { "Nothing went in." }
                @else { (count(went_in, "entry", "entries")) " went in." }
            }
            @if !stayed.is_empty() {
                p { (count(stayed.len() as u64, "entry stays as it was:", "entries stay as they were:")) }
                ul {
                    @for result in stayed {
                        li { a href=(entry_path(&result.id)) { code { (result.reason) } } " " (sentence(&result.message)) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_found_by_source_and_reason() {
        assert_eq!(list_path("", "", false), "/quarantine");
        assert_eq!(
            list_path("web", "NO_IDENTIFIER", true),
            "/quarantine?source=web&reason=NO_IDENTIFIER&all=1"
        );
        assert_eq!(list_path("a&b=ä", "", false), "/quarantine?source=a%26b%3D%C3%A4");
    }
}
