//! Counts what became of the items, shows progress, and knows up to where everything is stored.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    Counts, Error,
    proto::{ItemOutcome, ItemResult},
};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{files::Input, send::Sent};
use crate::cli::{
    failure::Done,
    output::{Output, complain, harmless},
};

/// So many items that were not taken are shown one by one.
const SHOWN_MAX: u64 = 20;
const BAR: &str = "{bar:30} {percent}%  {msg}  {binary_bytes_per_sec}  {eta} left";
const SPINNER: &str = "{spinner} {msg}  {binary_bytes_per_sec}  {elapsed}";

/// How it stands.
pub struct Tally {
    counts: Counts,
    items: u64,
    shown: u64,
    bar: ProgressBar,
    answered: bool,
    interrupted: bool,
    /// Items of batches that came back as failed, and may have been stored or not.
    lost: u64,
    /// The end of each batch that is done while an earlier one isn't.
    ahead: BTreeMap<u64, (Arc<str>, u64)>,
    next_sequence: u64,
    /// Everything up to this line is dealt with.
    reached: Option<(Arc<str>, u64)>,
}

/// Whether to go on.
pub enum Verdict {
    GoOn,
    Stop(Option<Error>),
}

/// The object that ends the output.
#[derive(Debug, Serialize)]
struct Summary {
    accepted: u64,
    duplicate: u64,
    quarantined: u64,
    rejected: u64,
    /// Only when there are any: sent, and not known to be stored.
    #[serde(skip_serializing_if = "is_zero")]
    unknown: u64,
    seconds: f64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Tally {
    pub fn new(inputs: &[Input]) -> Self {
        let total = inputs.iter().map(|input| input.bytes).sum::<Option<u64>>();
        // Hidden by itself when standard error isn't a terminal.
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(if total.is_some() { BAR } else { SPINNER }) {
            bar.set_style(style);
        }
        Self {
            counts: Counts::default(),
            items: 0,
            shown: 0,
            bar,
            answered: false,
            interrupted: false,
            lost: 0,
            ahead: BTreeMap::new(),
            next_sequence: 0,
            reached: None,
        }
    }

    /// Whether any node has answered yet.
    pub fn answered(&self) -> bool {
        self.answered
    }

    /// Notes that the person asked to stop.
    pub fn interrupted(&mut self) {
        self.interrupted = true;
    }

    /// Notes that batches under way were given up.
    pub fn give_up(&mut self, batches: usize) {
        if batches > 0 {
            self.say(&format!("{batches} batches were given up: whether they are stored isn't known"));
        }
    }

    /// A line on standard error, above the progress bar if there is one.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| complain(text));
    }

    /// Counts a batch that has come back.
    pub fn absorb(&mut self, sent: Sent) -> Verdict {
        self.bar.inc(sent.bytes_read);
        let ingested = match sent.result {
            Ok(ingested) => ingested,
            Err(error) => {
                self.answered |= !matches!(error, Error::Unreachable(_));
                if matches!(error, Error::OutcomeUnknown(_) | Error::BadAnswer(_)) {
                    self.lost += sent.lines.len() as u64;
                }
                return Verdict::Stop(Some(error));
            }
        };
        self.answered = true;
        let counts = ingested.count();
        self.counts.accepted += counts.accepted;
        self.counts.duplicate += counts.duplicate;
        self.counts.quarantined += counts.quarantined;
        self.counts.rejected += counts.rejected;
        self.counts.unknown += counts.unknown;
        self.items += ingested.results.len() as u64;
        self.bar.set_message(format!("{} items", HumanCount(self.items)));
        if counts.quarantined + counts.rejected + counts.unknown > 0 {
            for (result, &line) in ingested.results.iter().zip(&sent.lines) {
                self.show(&sent.file, line, result);
            }
        }
        if counts.unknown > 0 {
            return Verdict::Stop(None);
        }
        if let Some(&last) = sent.lines.last() {
            self.ahead.insert(sent.sequence, (sent.file, last));
        }
        while let Some(end) = self.ahead.remove(&self.next_sequence) {
            self.reached = Some(end);
            self.next_sequence += 1;
        }
        Verdict::GoOn
    }

    /// Shows an item that was not taken, as long as there are few.
    fn show(&mut self, file: &str, line: u64, result: &ItemResult) {
        let what = match result.outcome() {
            ItemOutcome::Accepted | ItemOutcome::Duplicate => return,
            ItemOutcome::Quarantined => "quarantined",
            ItemOutcome::Rejected => "rejected",
            ItemOutcome::OutcomeUnknown | ItemOutcome::Unspecified => "not known to be stored",
        };
        self.shown += 1;
        if self.shown <= SHOWN_MAX {
            let reason = harmless(&format!("{} {}", result.reason, result.message));
            self.say(&format!("{file}:{line}: {what}: {}", reason.trim()));
        }
    }

    /// Prints the sentence for people and the object of counts.
    pub fn finish(mut self, took: Duration, failed: bool, output: &mut Output) -> std::io::Result<Done> {
        self.bar.finish_and_clear();
        self.counts.unknown += self.lost;
        let counts = &self.counts;
        if self.shown > SHOWN_MAX {
            complain(&format!("… and {} more", self.shown - SHOWN_MAX));
        }
        if counts.quarantined > 0 {
            complain("`isthmus quarantine list` shows what was kept and why");
        }
        let stopped = failed || self.interrupted || counts.unknown > 0;
        if stopped {
            match &self.reached {
                Some((file, line)) => {
                    complain(&format!("everything up to {file}:{line} has been dealt with"))
                }
                None => complain("nothing is known to be stored from the beginning on"),
            }
        }
        if counts.unknown > 0 {
            complain(&format!(
                "{} items may be stored or not: send the files again",
                HumanCount(counts.unknown)
            ));
        }
        let seconds = took.as_secs_f64();
        let rate = self.items as f64 / seconds.max(0.001);
        complain(&format!(
            "{} accepted, {} duplicate, {} quarantined, {} rejected in {seconds:.1} s ({}/s)",
            HumanCount(counts.accepted),
            HumanCount(counts.duplicate),
            HumanCount(counts.quarantined),
            HumanCount(counts.rejected),
            HumanCount(rate as u64),
        ));
        output.json(&Summary {
            accepted: counts.accepted,
            duplicate: counts.duplicate,
            quarantined: counts.quarantined,
            rejected: counts.rejected,
            unknown: counts.unknown,
            seconds: (seconds * 1_000.0).round() / 1_000.0,
        })?;
        output.flush()?;
        Ok(match counts.quarantined + counts.rejected {
            _ if stopped => Done::NotWell,
            0 => Done::Well,
            _ => Done::WithRejects,
        })
    }
}
