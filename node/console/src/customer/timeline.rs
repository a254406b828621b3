//! A customer's events, newest first, day by day.

use isthmus_proto::v1::{EventType, TimelineEvent};
use maud::{Markup, html};

use super::Customer;
use crate::{
    customers,
    page::{Shell, nothing},
    show::{event_type, identifier, indented},
    time::{day, micros, time_of_day, when_given},
};

/// Characters of an event's properties that stand in its line.
const GLANCE_CHARS: usize = 120;

/// The list, with the way to the next page.
pub(super) fn list(shell: &Shell<'_>, told: &Customer) -> Markup {
    let events = &told.timeline.events;
    let here = customers::path(&told.profile.profile_id);
    let day_of =
        |event: &TimelineEvent| event.timestamp.as_ref().map_or_else(String::new, |at| day(micros(at)));
    html! {
        @if events.is_empty() && told.further {
            (nothing("There is nothing older.", html! { p { a href=(here) { "To the newest" } } }))
        } @else if events.is_empty() {
            (nothing("No events.", html! {
                p { "This identifier was named by others' events, and has none of its own." }
            }))
        } @else {
            @for of_a_day in events.chunk_by(|a, b| day_of(a) == day_of(b)) {
                h3.day { (of_a_day.first().map(day_of).unwrap_or_default()) }
                ol.events { @for event in of_a_day { (item(shell, event)) } }
            }
            nav.pages aria-label="Pages of the timeline" {
                @if told.further { a href=(here) { "To the newest" } }
                @if !told.timeline.next_cursor.is_empty() {
                    a.button rel="next" href=(format!("{here}?cursor={}#timeline", told.timeline.next_cursor)) { "Older" }
                }
            }
        }
    }
}

fn item(shell: &Shell<'_>, event: &TimelineEvent) -> Markup {
    let kind = event_type(event.r#type());
    html! {
        li class=(kind) {
            details {
                summary {
                    span.clock { @if let Some(at) = &event.timestamp { (time_of_day(micros(at))) } }
                    span.what {
                        span.kind { (kind) }
                        @if !event.name.is_empty() { " " strong { (event.name) } }
                        " " span.glance { (glance(event)) }
                    }
                    span.source { (event.source) }
                }
                div.inside {
                    dl.pairs {
                        dt { "Filed under" }
                        dd { @if let Some(primary) = &event.primary { (identifier(primary)) } }
                        dt { "Message" } dd { code { (event.message_id) } }
                        dt { "Received" } dd { (when_given(shell.now, event.received_at.as_ref())) }
                        @if !event.notes.is_empty() {
                            dt { "Notes" }
                            dd { ul.notes { @for note in &event.notes { li { code { (note) } } } } }
                        }
                    }
                    @let what = if event.r#type() == EventType::Identify { "Traits" } else { "Properties" };
                    (json(what, &event.properties_json))
                    (json("Everything else", &event.context_json))
                }
            }
        }
    }
}

fn json(title: &str, json: &str) -> Markup {
    html! {
        @if !matches!(json, "" | "{}") {
            h4 { (title) }
            pre.json { (indented(json)) }
        }
    }
}

/// The beginning of the properties, without the braces.
fn glance(event: &TimelineEvent) -> String {
    let inside = event.properties_json.strip_prefix('{').and_then(|json| json.strip_suffix('}'));
    let inside = inside.unwrap_or_default();
    match inside.char_indices().nth(GLANCE_CHARS) {
        Some((end, _)) => format!("{}…", &inside[..end]),
        None => inside.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glance_is_cut_between_characters() {
        let event =
            |json: &str| TimelineEvent { properties_json: json.to_owned(), ..TimelineEvent::default() };
        assert_eq!(glance(&event(r#"{"revenue":"44.02"}"#)), r#""revenue":"44.02""#);
        assert_eq!(glance(&event("{}")), "");
        let long = glance(&event(&format!("{{\"a\":\"{}\"}}", "ä".repeat(500))));
        assert_eq!(long.chars().count(), GLANCE_CHARS + 1);
    }
}
