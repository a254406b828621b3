//! What comes in: how much of each source, how fresh it is, and what became of it.

use maud::{Markup, html};

use crate::{
    page::{Section, Shell, heading, nothing},
    show::{count, number, rate},
    spark,
    time::{span, when},
};

/// The page is asked for anew after so many milliseconds.
const LIVE_MS: u32 = 2_000;
/// Sources that have a line of their own in the chart.
const LINES_MAX: usize = 6;

/// What came in lately, through all nodes.
#[derive(Clone, Debug, Default)]
pub struct Ingest {
    /// Seconds of a step.
    pub step_seconds: u32,
    /// When the first step began, seconds since 1970.
    pub from_second: i64,
    /// The sources, by name; those that sent nothing lately as well.
    pub sources: Vec<Source>,
    /// Nodes that did not tell what came in through them.
    pub silent_nodes: Vec<u32>,
}

/// What came from a source lately.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Its name; empty for all that have no line of their own.
    pub name: String,
    /// Whether its keys are refused.
    pub disabled: bool,
    /// Events that went in, step by step, oldest first. All sources have as many steps.
    pub accepted: Vec<u64>,
    /// Repetitions.
    pub duplicate: Vec<u64>,
    /// Events that were kept and not applied.
    pub quarantined: Vec<u64>,
    /// Events that were kept nowhere.
    pub rejected: Vec<u64>,
    /// Events whose outcome wasn't known in time.
    pub unknown: Vec<u64>,
    /// How old events were when they had gone in, in milliseconds: of those of the last minute, half were at most so
    /// old.
    pub age_p50_ms: Option<u64>,
    /// The same for 95 of 100.
    pub age_p95_ms: Option<u64>,
    /// When something came last, microseconds since 1970.
    pub last_at: Option<i64>,
    /// The time of the newest event, microseconds since 1970.
    pub newest_event: Option<i64>,
}

impl Source {
    fn all(&self) -> [&[u64]; 5] {
        [&self.accepted, &self.duplicate, &self.quarantined, &self.rejected, &self.unknown]
    }

    /// All that came, step by step.
    fn arrived(&self) -> Vec<u64> {
        let step = |index: usize| self.all().iter().map(|of| of.get(index).copied().unwrap_or(0)).sum();
        (0..self.accepted.len()).map(step).collect()
    }

    /// Events a second over the last two whole steps.
    fn rate(&self, step_seconds: u32) -> f64 {
        let arrived = self.arrived();
        let whole = arrived.len().saturating_sub(1);
        let last = arrived.get(whole.saturating_sub(2)..whole).unwrap_or_default();
        let seconds = f64::from(step_seconds.max(1)) * last.len().max(1) as f64;
        last.iter().sum::<u64>() as f64 / seconds
    }

    fn shown_name(&self) -> &str {
        if self.name.is_empty() { "all others" } else { &self.name }
    }
}

impl Ingest {
    /// Events a second of all sources together.
    pub fn rate(&self) -> f64 {
        self.sources.iter().map(|source| source.rate(self.step_seconds)).sum()
    }

    fn total(&self, of: impl Fn(&Source) -> &Vec<u64>) -> u64 {
        self.sources.iter().flat_map(|source| of(source).iter()).sum()
    }

    /// The oldest of the sources' ages: the one that a person has to look at.
    fn age(&self) -> Option<u64> {
        self.sources.iter().filter_map(|source| source.age_p95_ms).max()
    }
}

/// The page.
pub fn page(shell: &Shell<'_>, told: &Ingest) -> String {
    let main = html! {
        div.title {
            h1 { "Ingest" }
            p.faint { "the last " (minutes(told)) " through all nodes" }
        }
        div data-part="silent" { (silent(told)) }
        div data-part="figures" { (figures(told)) }
        (chart(told))
        section aria-labelledby="sources" data-part="sources" {
            (heading("sources", "Sources", html! { (count(told.sources.len() as u64, "source", "sources")) }))
            (sources(shell, told))
        }
    };
    shell.page(Section::Ingest, "Ingest", Some(LIVE_MS), main)
}

fn minutes(told: &Ingest) -> String {
    let steps = told.sources.iter().map(|source| source.accepted.len()).max().unwrap_or(0) as u64;
    count(steps * u64::from(told.step_seconds) / 60, "minute", "minutes")
}

fn silent(told: &Ingest) -> Markup {
    let names: Vec<String> = told.silent_nodes.iter().map(|node| format!("node {node}")).collect();
    html! {
        @if !names.is_empty() {
            div.notice.warn role="status" {
                p { (names.join(", ")) " did not answer: what came in through there is missing here." }
            }
        }
    }
}

fn figures(told: &Ingest) -> Markup {
    let refused = told.total(|source| &source.rejected) + told.total(|source| &source.unknown);
    html! {
        dl.figures {
            div { dt { "Events a second" } dd { (rate(told.rate())) } }
            div {
                dt { "Age when they were in, p95" }
                dd { @match told.age() { Some(ms) => (span(ms)), None => span.of { "nothing came" } } }
            }
            div { dt { "Went in" } dd { (number(told.total(|source| &source.accepted))) } }
            div {
                dt { a href="/quarantine" { "Quarantined" } }
                dd.attention[told.total(|source| &source.quarantined) > 0] {
                    (number(told.total(|source| &source.quarantined)))
                }
            }
            div { dt { "Refused or unknown" } dd.attention[refused > 0] { (number(refused)) } }
        }
    }
}

/// The sources with a line, the busiest first, and the rates of each.
fn chart_lines(told: &Ingest) -> Vec<(&str, Vec<f64>)> {
    let per_second = |n: &u64| *n as f64 / f64::from(told.step_seconds.max(1));
    let mut busy: Vec<(&Source, Vec<u64>)> =
        told.sources.iter().map(|source| (source, source.arrived())).collect();
    busy.retain(|(_, arrived)| arrived.iter().any(|n| *n > 0));
    busy.sort_by_key(|(source, arrived)| (std::cmp::Reverse(arrived.iter().sum::<u64>()), &source.name));
    let lines = busy.iter().take(LINES_MAX);
    // The step that is under way is not over yet: it would look like a fall.
    lines
        .map(|(source, arrived)| {
            let whole = arrived.len().saturating_sub(1);
            (source.shown_name(), arrived.iter().take(whole).map(per_second).collect())
        })
        .collect()
}

/// Drawn here for whoever has no JavaScript; with it, the library draws what `data-chart` holds instead.
fn chart(told: &Ingest) -> Markup {
    let lines = chart_lines(told);
    let steps = lines.first().map_or(0, |(_, values)| values.len());
    let step = i64::from(told.step_seconds);
    let times: Vec<i64> = (0..steps).map(|index| told.from_second + index as i64 * step).collect();
    let data = serde_json::json!({
        "times": times,
        "lines": lines.iter().map(|(name, values)| serde_json::json!({"name": name, "values": values})).collect::<Vec<_>>(),
    });
    let values: Vec<&[f64]> = lines.iter().map(|(_, values)| values.as_slice()).collect();
    html! {
        section aria-labelledby="rate" {
            (heading("rate", "Events a second", html! { "each point is " (told.step_seconds) " seconds" }))
            figure.chart data-chart=(data.to_string()) {
                @if lines.is_empty() {
                    p.faint data-silence { "Nothing came in during this time." }
                }
                (spark::lines(&values))
                figcaption {
                    ul.legend {
                        @for (index, (name, _)) in lines.iter().enumerate() {
                            li { span class=(format!("swatch c{}", index + 1)) {} (name) }
                        }
                    }
                }
            }
        }
    }
}

fn sources(shell: &Shell<'_>, told: &Ingest) -> Markup {
    if told.sources.is_empty() {
        return nothing(
            "There is no source yet.",
            html! { p { "Make one with " code { "isthmus source create NAME" } ": it answers with the write key." } },
        );
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Sources" {
            table.sources.stack {
                thead {
                    tr {
                        th scope="col" { "Source" }
                        th scope="col" { span.hidden { "Its course" } }
                        th.n scope="col" { "A second" }
                        th.n scope="col" { "Went in" }
                        th.n scope="col" { "Repeated" }
                        th.n scope="col" { "Quarantined" }
                        th.n scope="col" { "Refused" }
                        th.n scope="col" { abbr title="how old events were when they were in: half of those of the last minute at most so, and 95 of 100" { "Age p50, p95" } }
                        th.n scope="col" { "Newest event" }
                    }
                }
                tbody { @for source in &told.sources { (source_row(shell, told, source)) } }
            }
        }
    }
}

fn source_row(shell: &Shell<'_>, told: &Ingest, source: &Source) -> Markup {
    let sum = |values: &[u64]| values.iter().sum::<u64>();
    let quarantined = sum(&source.quarantined);
    let refused = sum(&source.rejected) + sum(&source.unknown);
    html! {
        tr.quiet[source.last_at.is_none()] {
            th scope="row" {
                span.name { (source.shown_name()) }
                @if source.disabled { " " span.badge.warn { "disabled" } }
            }
            td.course { (spark::spark(&source.arrived())) }
            td.n data-label="A second" { (rate(source.rate(told.step_seconds))) }
            td.n data-label="Went in" { (number(sum(&source.accepted))) }
            td.n data-label="Repeated" { (number(sum(&source.duplicate))) }
            td.n data-label="Quarantined" {
                @if quarantined > 0 && !source.name.is_empty() {
                    a.attention href=(crate::quarantine::list_path(&source.name, "", false)) { (number(quarantined)) }
                } @else { (number(quarantined)) }
            }
            td.n data-label="Refused" { span.attention[refused > 0] { (number(refused)) } }
            td.n.whole data-label="Age p50, p95" {
                @match (source.age_p50_ms, source.age_p95_ms) {
                    (Some(p50), Some(p95)) => { (span(p50)) ", " (span(p95)) }
                    _ => span.faint { "–" },
                }
            }
            td.n.whole data-label="Newest event" {
                @match source.newest_event {
                    Some(at) => (when(shell.now, at)),
                    None => span.faint { "nothing came" },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, accepted: &[u64], quarantined: &[u64]) -> Source {
        let zero = vec![0; accepted.len()];
        Source {
            name: name.to_owned(),
            accepted: accepted.to_vec(),
            quarantined: quarantined.to_vec(),
            duplicate: zero.clone(),
            rejected: zero.clone(),
            unknown: zero,
            ..Source::default()
        }
    }

    #[test]
    fn the_rate_is_of_whole_steps() {
        let source = source("web", &[100, 10, 20, 999], &[0, 0, 20, 0]);
        assert_eq!(source.arrived(), [100, 10, 40, 999]);
        assert_eq!(source.rate(5), 5.0, "50 events in two steps of five seconds; the last is under way");
        assert_eq!(Source::default().rate(5), 0.0);
    }

    #[test]
    fn the_chart_has_the_busiest_sources_and_no_silent_ones() {
        let mut sources: Vec<_> = (1..9).map(|n| source(&format!("s{n}"), &[n, n, 0], &[0, 0, 0])).collect();
        sources.push(source("silent", &[0, 0, 0], &[0, 0, 0]));
        let told = Ingest { step_seconds: 5, sources, ..Ingest::default() };
        let lines = chart_lines(&told);
        let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["s8", "s7", "s6", "s5", "s4", "s3"]);
        assert_eq!(lines[0].1, [1.6, 1.6], "the step under way is left out");
    }
}
