//! Sends batches, a bounded number at a time, and decides when to stop.

use std::time::Duration;

use crate::{Client, Error, Ingested};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::Instant,
};

use super::{
    feed::{Batch, Limits, feed},
    files::Input,
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

/// What is to be done.
pub struct Job {
    pub client: Client,
    pub inputs: Vec<Input>,
    pub limits: Limits,
    pub parallel: usize,
    pub retry_for: Option<Duration>,
}

/// A batch that has come back.
pub struct Sent {
    pub sequence: u64,
    pub file: std::sync::Arc<str>,
    pub lines: Vec<u64>,
    pub bytes_read: u64,
    pub result: Result<Ingested, Error>,
}

/// Sends everything; prints the counts whatever happens.
pub async fn run(job: Job, output: &mut Output) -> Result<Done, Failure> {
    let began = Instant::now();
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut tally = Tally::new(&job.inputs);
    let (sender, mut batches) = mpsc::channel::<Batch>(BATCHES_WAITING);
    let (inputs, limits) = (job.inputs, job.limits);
    let reading = spawn_blocking(move || feed(&inputs, limits, &sender));
    let mut under_way: JoinSet<Sent> = JoinSet::new();
    let mut failure = None;
    let (mut stopping, mut ended) = (false, false);
    while !(under_way.is_empty() && (ended || stopping)) {
        tokio::select! {
            biased;
            Some(()) = interrupts.recv() => {
                // The second time, what is under way is given up.
                if stopping {
                    break;
                }
                tally.say("stopping: waiting for what is under way; press Ctrl-C again to give it up");
                tally.interrupted();
                stopping = true;
            }
            Some(joined) = under_way.join_next(), if !under_way.is_empty() => match joined {
                Ok(sent) => {
                    if let Verdict::Stop(error) = tally.absorb(sent) {
                        failure = failure.or(error.map(Failure::from));
                        stopping = true;
                    }
                }
                Err(error) => {
                    failure = Some(Failure::Failed(format!("a sender broke off: {error}")));
                    stopping = true;
                }
            },
            batch = batches.recv(), if !stopping && !ended && under_way.len() < job.parallel => match batch {
                Some(batch) => {
                    let at_first = if tally.answered() { RETRY_FOR } else { RETRY_FOR_AT_FIRST };
                    let client = job.client.with_deadline(job.retry_for.unwrap_or(at_first));
                    under_way.spawn(send(client, batch));
                }
                None => ended = true,
            },
        }
    }
    tally.give_up(under_way.len());
    drop(under_way);
    drop(batches);
    // Standard input can't be interrupted, so its thread is only asked when it has ended.
    if ended {
        let read = reading.await.map_err(|error| Failure::Failed(format!("reading broke off: {error}")))?;
        failure = failure.or(read.err());
    }
    let done = tally.finish(began.elapsed(), failure.is_some(), output)?;
    match failure {
        Some(failure) => {
            if !matches!(failure, Failure::Usage(_)) {
                complain("not all was sent; sending the files again is safe");
            }
            Err(failure)
        }
        None => Ok(done),
    }
}

async fn send(client: Client, batch: Batch) -> Sent {
    let Batch { sequence, file, items, lines, bytes_read } = batch;
    let result = client.ingest(items).await;
    Sent { sequence, file, lines, bytes_read, result }
}
