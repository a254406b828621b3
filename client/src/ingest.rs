//! Sending events.
//!
//! An event without a message id gets one before the first try, so that every repetition names the same event. A try
//! that fails as a whole is repeated by the call loop; of one that was answered, only the items are sent again whose
//! outcome the hub doesn't know, or which it refused for the moment. When the deadline comes first, they are handed
//! back with the outcome they had last.
//!
//! An item that an earlier try of the same call had stored comes back as a duplicate: nothing distinguishes it from
//! one that was there before. It is there, once.

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use crate::{
    Client, Error,
    client::random_id,
    message_id,
    proto::{
        self, IngestItem, ItemOutcome, ItemResult, ingest_item::Body,
        ingest_service_client::IngestServiceClient,
    },
    retry::{self, Kind},
};

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingested {
    /// One result for each item, in the batch's order.
    pub results: Vec<ItemResult>,
    /// The version token: a read with this as `min_version` sees all that this call stored. Nothing was stored: absent.
    pub version: Option<String>,
}

/// How many items ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stored and applied.
    pub accepted: u64,
    /// Stored before (or by an earlier try of the same call).
    pub duplicate: u64,
    /// Kept in quarantine.
    pub quarantined: u64,
    /// Neither stored nor kept.
    pub rejected: u64,
    /// Not known.
    pub unknown: u64,
}

impl Counts {
    pub(crate) fn note(&mut self, result: &ItemResult) {
        let count = match result.outcome() {
            ItemOutcome::Accepted => &mut self.accepted,
            ItemOutcome::Duplicate => &mut self.duplicate,
            ItemOutcome::Quarantined => &mut self.quarantined,
            ItemOutcome::Rejected => &mut self.rejected,
            ItemOutcome::OutcomeUnknown | ItemOutcome::Unspecified => &mut self.unknown,
        };
        *count += 1;
    }
}

impl Ingested {
    /// Counts the results by outcome.
    pub fn count(&self) -> Counts {
        let mut counts = Counts::default();
        self.results.iter().for_each(|result| counts.note(result));
        counts
    }
}

/// What can be sent as an event.
pub trait IntoItem {
    /// The event as an item of the interface.
    fn into_item(self) -> IngestItem;
}

impl IntoItem for IngestItem {
    fn into_item(self) -> IngestItem {
        self
    }
}

impl IntoItem for proto::Event {
    fn into_item(self) -> IngestItem {
        IngestItem { body: Some(Body::Event(self)), origin: String::new() }
    }
}

/// An event in Segment's shape.
impl IntoItem for serde_json::Value {
    fn into_item(self) -> IngestItem {
        IngestItem { body: Some(Body::Json(self.to_string().into())), origin: String::new() }
    }
}

impl Client {
    /// Sends one event, and waits until it is stored: its result.
    ///
    /// # Errors
    /// As [`Client::ingest`].
    pub async fn ingest_one(&self, event: impl IntoItem) -> Result<ItemResult, Error> {
        let mut done = self.ingest(vec![event.into_item()]).await?;
        done.results.pop().ok_or(Error::BadAnswer("not one result for each item"))
    }

    /// Sends a batch of at most 2,500 items and 4 MiB, and waits until it is stored.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = isthmus_node::dev::Temporary::start().await?;
    /// # let (endpoint, write_key) = (hub.endpoint(), isthmus_node::dev::WRITE_KEY);
    /// use isthmus_client::{Client, IntoItem as _};
    /// use serde_json::json;
    ///
    /// let client = Client::builder().endpoints([endpoint]).write_key(write_key).connect_lazy()?;
    /// let batch = vec![
    ///     json!({"type": "identify", "userId": "42", "traits": {"email": "ann@example.com"}}).into_item(),
    ///     json!({"type": "track", "event": "Order Completed", "userId": "42"}).into_item(),
    ///     json!({"type": "track", "event": "nobody's"}).into_item(),
    /// ];
    /// let stored = client.ingest(batch).await?;
    /// assert_eq!((stored.count().accepted, stored.count().quarantined), (2, 1));
    /// assert_eq!(stored.results[2].reason, "NO_IDENTIFIER");
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Refused as a whole before anything was stored (a wrong write key, a batch too large);
    /// [`Error::OutcomeUnknown`] when no try was answered: send the same items again.
    pub async fn ingest(&self, mut items: Vec<IngestItem>) -> Result<Ingested, Error> {
        for item in &mut items {
            give_message_id(item);
        }
        let deadline = self.deadline();
        let mut request = proto::IngestRequest {
            write_key: self.write_key.as_deref().unwrap_or_default().to_owned(),
            source: self.source.as_deref().unwrap_or_default().to_owned(),
            items,
            sent_at: None,
        };
        let first = self.send(&request, deadline).await?;
        let mut done =
            Ingested { results: first.results, version: Some(first.version).filter(|v| !v.is_empty()) };
        // Positions in the batch of the items still open, in the order in which `request` holds them.
        let mut open: Vec<usize> = (0..done.results.len()).collect();
        for attempt in 1.. {
            let keep: Vec<bool> = open.iter().map(|&position| is_open(&done.results[position])).collect();
            retain(&mut request.items, &keep);
            retain(&mut open, &keep);
            let resume = Instant::now() + retry::wait(attempt, None, rand::random());
            if open.is_empty() || resume >= deadline {
                break;
            }
            sleep_until(resume).await;
            // What the first answer said stays true when a later try isn't answered.
            let Ok(answer) = self.send(&request, deadline).await else { break };
            for (&position, result) in open.iter().zip(answer.results) {
                done.results[position] = result;
            }
            // Tokens compare as text; the largest covers the whole batch.
            done.version = done.version.max(Some(answer.version).filter(|version| !version.is_empty()));
        }
        Ok(done)
    }

    /// One call of the service, repeated as a whole until it is answered.
    async fn send(
        &self,
        request: &proto::IngestRequest,
        deadline: Instant,
    ) -> Result<proto::IngestResponse, Error> {
        let send = |channel, request| async move { IngestServiceClient::new(channel).ingest(request).await };
        let answer: proto::IngestResponse = self.call(Kind::RepeatableWrite, deadline, request, send).await?;
        if answer.results.len() != request.items.len() {
            return Err(Error::BadAnswer("not one result for each item"));
        }
        Ok(answer)
    }
}

/// Whether sending the item again can end better.
fn is_open(result: &ItemResult) -> bool {
    match result.outcome() {
        ItemOutcome::OutcomeUnknown => true,
        ItemOutcome::Rejected => result.retryable,
        _ => false,
    }
}

/// Keeps the elements whose flag is set; there are as many flags as elements.
fn retain<T>(elements: &mut Vec<T>, keep: &[bool]) {
    let mut flags = keep.iter();
    elements.retain(|_| flags.next().copied().unwrap_or(false));
}

/// Gives an item that has no message id a random one. What can't have one is left as it is.
pub(crate) fn give_message_id(item: &mut IngestItem) {
    match &mut item.body {
        Some(Body::Event(event)) if event.message_id.is_empty() => event.message_id = random_id(),
        Some(Body::Json(json)) => {
            let slot = message_id::find_slot(json);
            if slot.is_open() {
                let mut text = Vec::with_capacity(json.len() + message_id::SPLICE_BYTES_MAX);
                message_id::splice(&mut text, json, &slot, &random_id());
                *json = Bytes::from(text);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_without_a_message_id_gets_one_and_others_keep_theirs() {
        let event = |id: &str| IngestItem {
            body: Some(Body::Event(proto::Event { message_id: id.into(), ..Default::default() })),
            ..Default::default()
        };
        let (mut bare, mut named) = (event(""), event("m1"));
        give_message_id(&mut bare);
        give_message_id(&mut named);
        assert_eq!(named, event("m1"));
        let Some(Body::Event(given)) = bare.body else { panic!("an event stays an event") };
        assert_eq!(given.message_id.len(), 32);
        let mut line = IngestItem {
            body: Some(Body::Json(Bytes::from_static(b"{\"type\":\"track\"}"))),
            ..Default::default()
        };
        give_message_id(&mut line);
        let Some(Body::Json(text)) = &line.body else { panic!("JSON stays JSON") };
        let object: serde_json::Value = serde_json::from_slice(text).unwrap();
        assert_eq!(object["messageId"].as_str().unwrap().len(), 32);
        let again = line.clone();
        give_message_id(&mut line);
        assert_eq!(line, again);
    }
}
