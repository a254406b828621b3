//! A stream, message by message.

use isthmus_proto::v1::{
    IngestItem, IngestStreamItems, IngestStreamOpen, IngestStreamRequest, IngestStreamResponse,
    ingest_service_client::IngestServiceClient, ingest_stream_request::Message,
};
use isthmus_tests::ask;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

/// An open call.
pub struct Raw {
    requests: Option<mpsc::UnboundedSender<IngestStreamRequest>>,
    responses: Streaming<IngestStreamResponse>,
}

/// What opens a new stream of the source `default`.
pub fn opening(stream_id: &str) -> IngestStreamOpen {
    IngestStreamOpen { stream_id: stream_id.to_owned(), first_sequence: 1, ..IngestStreamOpen::default() }
}

impl Raw {
    /// A call in which nothing was said yet.
    pub async fn call(node: &Channel) -> Self {
        let (requests, messages) = mpsc::unbounded_channel();
        let mut client = IngestServiceClient::new(node.clone());
        let answer = client.ingest_stream(UnboundedReceiverStream::new(messages)).await.unwrap();
        Self { requests: Some(requests), responses: answer.into_inner() }
    }

    /// A stream that is open, and its first response.
    pub async fn open(node: &Channel, open: IngestStreamOpen) -> (Self, IngestStreamResponse) {
        let mut stream = Self::call(node).await;
        stream.say(Some(Message::Open(open)));
        let first = stream.hear().await.unwrap();
        (stream, first)
    }

    pub fn say(&self, message: Option<Message>) {
        // Nobody listens once the stream has ended; the test hears how.
        let _sent = self.requests.as_ref().unwrap().send(IngestStreamRequest { message });
    }

    pub fn send(&self, first_sequence: u64, items: Vec<IngestItem>) {
        self.say(Some(Message::Items(IngestStreamItems { first_sequence, items, sent_at: None })));
    }

    /// No more items come.
    pub fn done(&mut self) {
        self.requests = None;
    }

    /// The next response.
    pub async fn hear(&mut self) -> Result<IngestStreamResponse, Status> {
        let ended = || Status::new(Code::Ok, "the stream ended");
        self.responses.message().await?.ok_or_else(ended)
    }

    /// Responses until a sequence is acknowledged, in one.
    pub async fn acknowledged(&mut self, until: u64) -> IngestStreamResponse {
        let mut whole = IngestStreamResponse::default();
        while whole.acknowledged < until {
            let response = self.hear().await.unwrap();
            let mut results = whole.results;
            results.extend(response.results.iter().cloned());
            whole = IngestStreamResponse { results, ..response };
        }
        whole
    }

    /// How it ends: what was acknowledged until then, the code and the reason.
    pub async fn end(mut self) -> (u64, Code, String) {
        let mut acknowledged = 0;
        loop {
            match self.hear().await {
                Ok(response) => acknowledged = response.acknowledged,
                Err(status) => return (acknowledged, status.code(), ask::reason(&status)),
            }
        }
    }
}
