//! What is shown when a page can't be.

use maud::html;

use crate::page::{Section, Shell};

/// A failure.
#[derive(Clone, Debug)]
pub struct Failure<'a> {
    /// What is wrong and what to do, for people.
    pub message: &'a str,
    /// The stable reason, such as `NO_LEADER`.
    pub reason: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// Whether the same request may be answered a little later.
    pub again: bool,
}

impl Failure<'_> {
    fn title(&self) -> &'static str {
        match self.status {
            400 => "That can't be read",
            403 => "Not from here",
            404 => "Nothing there",
            409 => "Somebody was faster",
            413 => "That is too much",
            429 | 503 | 504 => "Not just now",
            _ => "Something is wrong in the node",
        }
    }
}

/// The page of a failure.
pub fn page(shell: &Shell<'_>, failure: &Failure<'_>) -> String {
    let main = html! {
        div.title { h1 { (failure.title()) } }
        div.notice.bad role="alert" {
            p.lead { (sentence(failure.message)) }
            p.faint { code { (failure.reason) } " · status " (failure.status) }
        }
        p.actions {
            @if failure.again { a.button href=(shell.here) { "Try again" } }
            a href="/" { "To the overview" }
        }
    };
    shell.page(Section::None, failure.title(), None, main)
}

/// A message as a sentence: with a capital and a full stop.
pub(crate) fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let mut shown: String = letters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    shown.push_str(letters.as_str());
    if !shown.is_empty() && !shown.ends_with(['.', '!', '?']) {
        shown.push('.');
    }
    shown
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_become_sentences() {
        assert_eq!(super::sentence("shard 7 has no leader"), "Shard 7 has no leader.");
        assert_eq!([super::sentence(""), super::sentence("Äh!")], ["", "Äh!"]);
    }
}
