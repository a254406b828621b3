//! One entry of the quarantine: why it is there, what was sent, and what can be done about it.

use isthmus_proto::v1::{
    QuarantineEntry, QuarantineOutcome, QuarantineResolution, QuarantineResolutionKind, QuarantineResult,
};
use maud::{Markup, html};

use super::{entry_path, list_path, resolved_badge};
use crate::{
    failure::sentence,
    page::{Section, Shell, heading},
    show::{indented, number},
    time::when_given,
};

/// An entry, and what was just done about it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The entry; its content is in `content`.
    pub entry: QuarantineEntry,
    /// What was sent.
    pub content: Content,
    /// What a form of this page sent, and what came of it; `None`: it was only looked at.
    pub sent: Option<Sent>,
}

/// What was sent when the entry came.
#[derive(Clone, Debug)]
pub enum Content {
    /// JSON, or typed fields put as JSON.
    Json(String),
    /// Other text.
    Text(String),
    /// What is no text: so many bytes, and the first of them as hexadecimal digits.
    Bytes(usize, String),
}

/// What a form sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The patch, where one was sent: it stays in its field until it fits.
    pub patch: String,
    /// Who did it, as they said.
    pub by: String,
    /// The result, or the message of a failure.
    pub result: Result<QuarantineResult, String>,
}

/// The page.
pub fn page(shell: &Shell<'_>, told: &Entry) -> String {
    let entry = &told.entry;
    let main = html! {
        p.crumbs { a href="/quarantine" { "Quarantine" } }
        div.title {
            h1 { code { (entry.reason) } }
            p.lead { (sentence(&entry.message)) }
        }
        @if let Some(sent) = &told.sent { (result(sent)) }
        dl.figures.small {
            div { dt { "Source" } dd.text { a href=(list_path(&entry.source, "", false)) { (entry.source) } } }
            div { dt { "Received" } dd.text { (when_given(shell.now, entry.received_at.as_ref())) } }
            @if !entry.field.is_empty() { div { dt { "Field" } dd.text { code { (entry.field) } } } }
            @if !entry.origin.is_empty() { div { dt { "Came from" } dd.text { (entry.origin) } } }
            @if !entry.message_id.is_empty() { div { dt { "Message" } dd.text { code { (entry.message_id) } } } }
        }
        div.columns.even {
            section aria-labelledby="sent" {
                (heading("sent", "What was sent", html! { (entry.content_type) }))
                (content(&told.content))
            }
            section aria-labelledby="do" {
                @match &entry.resolution {
                    Some(resolution) => (resolved(shell, resolution)),
                    None => (forms(shell, told)),
                }
            }
        }
    };
    shell.page(Section::Quarantine, &entry.reason, None, main)
}

fn content(content: &Content) -> Markup {
    html! {
        @match content {
            Content::Json(text) => pre.json.tall tabindex="0" { (indented(text)) },
            Content::Text(text) if text.is_empty() => p.faint { "Nothing: the item was empty." },
            Content::Text(text) => pre.json.tall tabindex="0" { (text) },
            Content::Bytes(length, digits) => {
                p { (number(*length as u64)) " bytes that are no text. They begin with:" }
                pre.json { (digits) }
            }
        }
    }
}

fn result(sent: &Sent) -> Markup {
    let told = |class: &str, lead: &str, more: Markup| {
        html! { div class=(format!("notice {class}")) role="status" #result { p.lead { (lead) } (more) } }
    };
    let reasons = |result: &QuarantineResult| {
        html! {
            p {
                code { (result.reason) }
                @if !result.field.is_empty() { " in " code { (result.field) } }
                ": " (sentence(&result.message))
            }
        }
    };
    match &sent.result {
        Err(message) => told("bad", "Nothing was done.", html! { p { (sentence(message)) } }),
        Ok(result) => match result.outcome() {
            QuarantineOutcome::Resolved => {
                let dropped = result.resolution.as_ref().map(QuarantineResolution::kind);
                match dropped == Some(QuarantineResolutionKind::Dropped) {
                    true => told("good", "It was dropped.", html! {}),
                    false => told(
                        "good",
                        "It went in.",
                        html! { p { "The event counts, under its own message id." } },
                    ),
                }
            }
            QuarantineOutcome::AlreadyResolved if result.reason.is_empty() => {
                told("good", "It was resolved before; nothing changed.", html! {})
            }
            QuarantineOutcome::AlreadyResolved => told("warn", "Nothing was changed.", reasons(result)),
            QuarantineOutcome::NotFound => told("bad", "There is no such entry any more.", html! {}),
            QuarantineOutcome::StillQuarantined | QuarantineOutcome::Unspecified => {
                told("warn", "It can't be taken still, and stays as it was.", reasons(result))
            }
        },
    }
}

fn resolved(shell: &Shell<'_>, resolution: &QuarantineResolution) -> Markup {
    html! {
        (heading("do", "What became of it", html! {}))
        dl.pairs {
            dt { "How" } dd { (resolved_badge(resolution)) }
            dt { "When" } dd { (when_given(shell.now, resolution.resolved_at.as_ref())) }
            @if !resolution.by.is_empty() { dt { "By" } dd { (resolution.by) } }
            @if !resolution.note.is_empty() { dt { "Why" } dd { (resolution.note) } }
            @if !resolution.message_id.is_empty() { dt { "As message" } dd { code { (resolution.message_id) } } }
        }
    }
}

fn forms(shell: &Shell<'_>, told: &Entry) -> Markup {
    let path = entry_path(&told.entry.id);
    let (patch, by) = told.sent.as_ref().map_or(("", ""), |sent| (sent.patch.as_str(), sent.by.as_str()));
    let who = |id: &str| {
        html! {
            label for=(id) { "Who you are, for the record " span.faint { "(may be left out)" } }
            input id=(id) name="by" value=(by) maxlength="128" autocomplete="username";
        }
    };
    html! {
        (heading("do", "Mend it", html! {}))
        form.stacked method="post" action=(format!("{path}/mend")) {
            (shell.token())
            label for="patch" { "What is to be different, as a JSON merge patch" }
            textarea id="patch" name="patch" rows="8" required spellcheck="false" autocapitalize="none"
                aria-describedby="patch-help" placeholder="{\"event\": \"Order Completed\"}" { (patch) }
            p.faint #patch-help {
                "Fields are set to what the patch says; " code { "null" } " takes a field away. What was sent is kept as it was."
            }
            (who("mend-by"))
            p.actions { button.primary type="submit" { "Mend and take in" } }
        }
        (heading("again", "Or", html! {}))
        form.stacked method="post" action=(format!("{path}/replay")) {
            (shell.token())
            input type="hidden" name="by" value=(by);
            p.faint { "If the rules or schemas have changed since, it may be taken now as it is." }
            p.actions { button type="submit" { "Replay as it is" } }
        }
        details {
            summary { "Give it up" }
            form.stacked method="post" action=(format!("{path}/drop")) {
                (shell.token())
                label for="drop-reason" { "Why" }
                input id="drop-reason" name="reason" required maxlength="512";
                (who("drop-by"))
                p.actions { button.danger type="submit" { "Drop it" } }
            }
        }
    }
}
