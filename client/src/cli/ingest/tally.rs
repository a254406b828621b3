//! Counts what became of the items, shows progress, and knows up to where everything is stored.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use crate::{
    Counts, Error,
    files::Mark,
    proto::{ItemOutcome, ItemResult},
};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{files::Input, resume::Dealt, send::Sent};
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
    /// What this run has sent.
    counts: Counts,
    items: u64,
    shown: u64,
    bar: ProgressBar,
    answered: bool,
    /// What earlier runs dealt with, by input.
    earlier: Vec<Counts>,
    /// Everything up to here is dealt with, by input, earlier runs included.
    dealt: Vec<Dealt>,
    moved: bool,
    /// The end of each batch that is done while an earlier one isn't.
    ahead: BTreeMap<u64, (usize, Mark, Counts)>,
    next_sequence: u64,
    /// The last input of which something is dealt with.
    reached: Option<usize>,
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
    /// Only when there are any: counted above, and dealt with by an earlier run.
    #[serde(skip_serializing_if = "is_zero")]
    resumed: u64,
    seconds: f64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn add(sum: &mut Counts, counts: &Counts) {
    sum.accepted += counts.accepted;
    sum.duplicate += counts.duplicate;
    sum.quarantined += counts.quarantined;
    sum.rejected += counts.rejected;
    sum.unknown += counts.unknown;
}

fn all(counts: &Counts) -> u64 {
    counts.accepted + counts.duplicate + counts.quarantined + counts.rejected + counts.unknown
}

impl Tally {
    pub fn new(inputs: &[Input], dealt: Vec<Dealt>) -> Self {
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
            earlier: dealt.iter().map(|dealt| dealt.counts).collect(),
            moved: false,
            ahead: BTreeMap::new(),
            next_sequence: 0,
            reached: dealt.iter().rposition(|dealt| dealt.mark.lines > 0),
            dealt,
        }
    }

    /// Whether any node has answered yet.
    pub fn answered(&self) -> bool {
        self.answered
    }

    /// Up to where each input was dealt with.
    pub fn marks(&self) -> Vec<Mark> {
        self.dealt.iter().map(|dealt| dealt.mark).collect()
    }

    /// What was dealt with of each input.
    pub fn dealt(&self) -> &[Dealt] {
        &self.dealt
    }

    /// Whether more is dealt with than when this was asked last.
    pub fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Whether items may be stored or not.
    pub fn has_unknown(&self) -> bool {
        self.counts.unknown > 0
    }

    /// Notes that an input is sent from its beginning after all.
    pub fn begin_anew(&mut self, input: usize) {
        if let (Some(dealt), Some(earlier)) = (self.dealt.get_mut(input), self.earlier.get_mut(input)) {
            (*dealt, *earlier) = (Dealt::default(), Counts::default());
        }
    }

    /// Notes that bytes were read over.
    pub fn passed(&self, bytes: u64) {
        self.bar.inc(bytes);
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
                    self.counts.unknown += sent.lines.len() as u64;
                }
                return Verdict::Stop(Some(error));
            }
        };
        self.answered = true;
        let counts = ingested.count();
        add(&mut self.counts, &counts);
        self.items += ingested.results.len() as u64;
        let rate = self.items as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
        self.bar.set_message(format!("{} items ({}/s)", HumanCount(self.items), HumanCount(rate as u64)));
        if counts.quarantined + counts.rejected + counts.unknown > 0 {
            for (result, &line) in ingested.results.iter().zip(&sent.lines) {
                self.show(&sent.file, line, result);
            }
        }
        if counts.unknown > 0 {
            return Verdict::Stop(None);
        }
        self.ahead.insert(sent.sequence, (sent.input, sent.mark, counts));
        while let Some((input, mark, counts)) = self.ahead.remove(&self.next_sequence) {
            if let Some(dealt) = self.dealt.get_mut(input) {
                dealt.mark = mark;
                add(&mut dealt.counts, &counts);
            }
            self.reached = Some(input);
            self.moved = true;
            self.next_sequence += 1;
        }
        Verdict::GoOn
    }

    /// Shows an item that was not taken, as long as there are few.
    fn show(&mut self, file: &Arc<str>, line: u64, result: &ItemResult) {
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

    /// Says how far it came, and how to go on.
    pub fn explain_stop(&self, inputs: &[Input], kept: Option<&Path>, is_usage: bool) {
        self.bar.finish_and_clear();
        let reached = self.reached.and_then(|number| Some((inputs.get(number)?, self.dealt.get(number)?)));
        match reached.filter(|(_, dealt)| dealt.mark.lines > 0) {
            Some((input, dealt)) => {
                let lines = dealt.mark.lines;
                complain(&format!("everything up to {}:{lines} has been dealt with", input.name));
            }
            None => complain("nothing is known to be stored from the beginning on"),
        }
        match kept {
            Some(file) => complain(&format!(
                "not all was sent; the same command goes on from there ({} says how far it came)",
                file.display()
            )),
            None if is_usage => {}
            None => complain("not all was sent; sending the files again is safe"),
        }
        if self.counts.unknown > 0 {
            let unknown = HumanCount(self.counts.unknown);
            complain(&format!("{unknown} items may be stored or not: they are sent again then"));
        }
    }

    /// Prints the sentence for people and the object of counts.
    pub fn finish(self, took: Duration, stopped: bool, output: &mut Output) -> std::io::Result<Done> {
        self.bar.finish_and_clear();
        let resumed: u64 = self.earlier.iter().map(all).sum();
        let mut counts = self.counts;
        self.earlier.iter().for_each(|earlier| add(&mut counts, earlier));
        if self.shown > SHOWN_MAX {
            complain(&format!("… and {} more", self.shown - SHOWN_MAX));
        }
        if counts.quarantined > 0 {
            complain("`isthmus quarantine list` shows what was kept and why");
        }
        let seconds = took.as_secs_f64();
        let rate = self.items as f64 / seconds.max(0.001);
        let before = match resumed {
            0 => String::new(),
            resumed => format!(", {} of them by an earlier run", HumanCount(resumed)),
        };
        complain(&format!(
            "{} accepted, {} duplicate, {} quarantined, {} rejected{before} in {seconds:.1} s ({}/s)",
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
            resumed,
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
