//! The scripted side of `IngestStream`: how far each stream goes, and how it ends.

use std::sync::{Arc, Mutex};

use futures::stream::{self, BoxStream, StreamExt as _};
use isthmus_client::proto::{
    IngestStreamItems, IngestStreamOpen, IngestStreamRequest, IngestStreamResponse, ItemOutcome,
    ingest_stream_request::Message,
};
use tokio::sync::{Notify, mpsc};
use tonic::{Status, Streaming};

use super::{State, judge, result};

/// How a stream goes.
#[derive(Clone)]
pub struct Plan {
    /// Items and bytes that may be on their way.
    pub items: u64,
    pub bytes: u64,
    /// The stream ends when it has had so many items.
    pub ends_after: Option<u64>,
    /// How many of them are acknowledged at most; those behind are stored all the same.
    pub acknowledges: u64,
    /// What it ends with; nothing: without a word.
    pub end: Option<Status>,
    /// Nothing is acknowledged until the test says so.
    pub hold: Option<Arc<Notify>>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { items: 50, bytes: 1 << 20, ends_after: None, acknowledges: u64::MAX, end: None, hold: None }
    }
}

/// What was seen of streams.
#[derive(Default)]
pub struct Streamed {
    pub opened: Vec<IngestStreamOpen>,
    /// Message ids in the order in which they were stored.
    pub stored: Vec<String>,
    /// Messages with how many items they had.
    pub messages: Vec<usize>,
    /// What a client did that it must not.
    pub violations: Vec<String>,
}

pub type Responses = BoxStream<'static, Result<IngestStreamResponse, Status>>;

/// Answers a stream by the script's next plan.
pub fn serve(state: Arc<Mutex<State>>, messages: Streaming<IngestStreamRequest>) -> Responses {
    let (said, mut responses) = mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "the task ends with the stream")]
    tokio::spawn(async move {
        if let Err(Some(status)) = go_on(state, messages, &said).await {
            let _gone = said.send(Err(status));
        }
    });
    stream::poll_fn(move |context| responses.poll_recv(context)).boxed()
}

type Said = mpsc::UnboundedSender<Result<IngestStreamResponse, Status>>;

async fn go_on(
    state: Arc<Mutex<State>>,
    mut messages: Streaming<IngestStreamRequest>,
    said: &Said,
) -> Result<(), Option<Status>> {
    let lock = || state.lock().expect("not poisoned");
    let Some(Message::Open(open)) = messages.message().await?.and_then(|request| request.message) else {
        lock().streamed.violations.push("not opened".to_owned());
        return Err(None);
    };
    let plan = {
        let mut state = lock();
        state.streamed.opened.push(open.clone());
        state.plans.pop_front().unwrap_or_default()
    };
    if open.write_key == "wrong" {
        let status = super::refusal(tonic::Code::Unauthenticated, "WRITE_KEY_INVALID", "it is not in force");
        return Err(Some(status));
    }
    if plan.ends_after == Some(0) {
        return Err(plan.end);
    }
    let (mut received, mut bytes) = (open.first_sequence - 1, 0);
    let (mut acknowledged, begun) = (received, received);
    let tell = |acknowledged: u64, results, bytes: u64| -> Result<(), Option<Status>> {
        let (sequence_max, bytes_max) = (acknowledged + plan.items, bytes + plan.bytes);
        let version = if acknowledged > 0 { format!("{acknowledged:016x}") } else { String::new() };
        let response = IngestStreamResponse {
            acknowledged,
            results,
            sequence_max,
            bytes_max,
            version,
            ..Default::default()
        };
        said.send(Ok(response)).map_err(|_| None)
    };
    tell(acknowledged, vec![], 0)?;
    while let Some(request) = messages.message().await? {
        let Some(Message::Items(IngestStreamItems { first_sequence, items, .. })) = request.message else {
            lock().streamed.violations.push("opened twice".to_owned());
            return Err(None);
        };
        let mut results = Vec::new();
        {
            let mut state = lock();
            state.streamed.messages.push(items.len());
            if first_sequence != received + 1 {
                state.streamed.violations.push(format!("{first_sequence} after {received}"));
            }
            for item in items {
                received += 1;
                bytes += prost::Message::encoded_len(&item) as u64;
                results.push(match judge(&item) {
                    Err(reason) => result(ItemOutcome::Quarantined, reason),
                    Ok(id) if state.message_ids.insert(id.clone()) => {
                        state.streamed.stored.push(id);
                        result(ItemOutcome::Accepted, "")
                    }
                    Ok(_) => result(ItemOutcome::Duplicate, ""),
                });
            }
            if received > acknowledged + plan.items {
                state.streamed.violations.push(format!("{received} with {} credits", plan.items));
            }
        }
        if let Some(hold) = &plan.hold {
            hold.notified().await;
        }
        let had = received - begun;
        let until = begun + had.min(plan.acknowledges);
        results.truncate((until - acknowledged.min(until)) as usize);
        acknowledged = until;
        tell(acknowledged, results, bytes)?;
        if plan.ends_after.is_some_and(|after| had >= after) {
            return Err(plan.end);
        }
    }
    Ok(())
}
