//! Sends batches, a bounded number at a time, and decides when to stop.

use std::time::Duration;

use crate::{Client, Error, Ingested, files::Mark};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::Instant,
};

use super::{
    feed::{Batch, Fed, Limits, feed},
    files::Input,
    resume::{Dealt, Resume},
    tally::{Tally, Verdict},
};
use crate::cli::{
    failure::{Done, Failure},
    output::{Output, complain},
};

/// How long a batch is repeated unless told otherwise: once a node has answered, and before.
const RETRY_FOR: Duration = Duration::from_secs(300);
const RETRY_FOR_AT_FIRST: Duration = Duration::from_secs(10);
/// How many batches wait between reading and sending.
const BATCHES_WAITING: usize = 2;
/// How often at most the state is kept that another run could go on from.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// What is to be done.
pub struct Job {
    pub client: Client,
    pub inputs: Vec<Input>,
    pub limits: Limits,
    pub parallel: usize,
    pub retry_for: Option<Duration>,
    pub resume: Resume,
    /// How far an earlier run dealt with each input.
    pub dealt: Vec<Dealt>,
}

/// A batch that has come back.
pub struct Sent {
    pub sequence: u64,
    pub input: usize,
    pub file: std::sync::Arc<str>,
    pub lines: Vec<u64>,
    pub mark: Mark,
    pub bytes_read: u64,
    pub result: Result<Ingested, Error>,
}

/// How sending ended.
struct Ending {
    failure: Option<Failure>,
    /// Everything was read.
    read: bool,
    /// Somebody pressed Ctrl-C.
    interrupted: bool,
}

/// Sends everything; prints the counts whatever happens.
pub async fn run(job: Job, output: &mut Output) -> Result<Done, Failure> {
    let began = Instant::now();
    let interrupts = signal(SignalKind::interrupt())?;
    let Job { client, inputs, limits, parallel, retry_for, mut resume, dealt } = job;
    let mut tally = Tally::new(&inputs, dealt);
    let (sender, batches) = mpsc::channel::<Fed>(BATCHES_WAITING);
    let (to_read, from) = (inputs.clone(), tally.marks());
    let reading = spawn_blocking(move || feed(&to_read, &from, limits, &sender));
    let sending = Sending { client: &client, inputs: &inputs, parallel, retry_for };
    let Ending { mut failure, read, interrupted } =
        sending.all(batches, interrupts, &mut tally, &mut resume).await;
    // Standard input can't be interrupted, so its thread is only asked when it has ended.
    if read {
        let read = reading.await.map_err(|error| Failure::Failed(format!("reading broke off: {error}")))?;
        failure = failure.or(read.err());
    }
    let stopped = failure.is_some() || interrupted || tally.has_unknown();
    if stopped {
        let kept = resume.save(&client, &inputs, tally.dealt()).await;
        tally.explain_stop(&inputs, kept, matches!(failure, Some(Failure::Usage(_))));
    } else {
        resume.remove();
    }
    let done = tally.finish(began.elapsed(), stopped, output)?;
    match failure {
        Some(failure) => Err(failure),
        None if interrupted => Ok(Done::Interrupted),
        None => Ok(done),
    }
}

struct Sending<'a> {
    client: &'a Client,
    inputs: &'a [Input],
    parallel: usize,
    retry_for: Option<Duration>,
}

impl Sending<'_> {
    /// Sends what is read until all is done, something can't be, or Ctrl-C is pressed.
    async fn all(
        &self,
        mut batches: mpsc::Receiver<Fed>,
        mut interrupts: Signal,
        tally: &mut Tally,
        resume: &mut Resume,
    ) -> Ending {
        let mut under_way: JoinSet<Sent> = JoinSet::new();
        let mut ending = Ending { failure: None, read: false, interrupted: false };
        let mut stopping = false;
        let mut kept_at = Instant::now();
        while !(under_way.is_empty() && (ending.read || stopping)) {
            tokio::select! {
                biased;
                Some(()) = interrupts.recv() => {
                    // The second time, what is under way is given up.
                    if ending.interrupted {
                        break;
                    }
                    tally.say("stopping: waiting for what is under way; press Ctrl-C again to give it up");
                    ending.interrupted = true;
                    stopping = true;
                }
                Some(joined) = under_way.join_next(), if !under_way.is_empty() => match joined {
                    Ok(sent) => {
                        if let Verdict::Stop(error) = tally.absorb(sent) {
                            ending.failure = ending.failure.or(error.map(Failure::from));
                            stopping = true;
                        }
                    }
                    Err(error) => {
                        ending.failure = Some(Failure::Failed(format!("a sender broke off: {error}")));
                        stopping = true;
                    }
                },
                fed = batches.recv(), if !stopping && !ending.read && under_way.len() < self.parallel => match fed {
                    Some(Fed::Batch(batch)) => {
                        let at_first = if tally.answered() { RETRY_FOR } else { RETRY_FOR_AT_FIRST };
                        let client = self.client.with_deadline(self.retry_for.unwrap_or(at_first));
                        under_way.spawn(send(client, batch));
                    }
                    Some(Fed::Anew(input)) => tally.begin_anew(input),
                    Some(Fed::Word(word)) => tally.say(&word),
                    Some(Fed::Passed(bytes)) => tally.passed(bytes),
                    None => ending.read = true,
                },
            }
            if kept_at.elapsed() >= KEEP_EVERY && tally.has_moved() {
                resume.save(self.client, self.inputs, tally.dealt()).await;
                kept_at = Instant::now();
            }
        }
        if !under_way.is_empty() {
            complain(&format!(
                "{} batches were given up: whether they are stored isn't known",
                under_way.len()
            ));
        }
        ending
    }
}

async fn send(client: Client, batch: Batch) -> Sent {
    let Batch { sequence, input, file, items, lines, mark, bytes_read } = batch;
    let result = client.ingest(items).await;
    Sent { sequence, input, file, lines, mark, bytes_read, result }
}
