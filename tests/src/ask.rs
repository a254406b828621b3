//! Short ways to ask a node for things over gRPC and HTTP, for tests.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use isthmus_proto::v1::{
    GetRequest, Identifier, IngestItem, IngestRequest, IngestResponse, ItemOutcome, Profile, ProfileKey,
    QuarantineEntry, QuarantineServiceListRequest, ShowRequest, ingest_item::Body,
    ingest_service_client::IngestServiceClient, profile_key::Key,
    profile_service_client::ProfileServiceClient, quarantine_service_client::QuarantineServiceClient,
};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::cluster::PATIENCE;

/// An item of JSON text.
pub fn json(text: impl Into<Vec<u8>>) -> IngestItem {
    from(text, "")
}

/// An item of JSON text that says where it came from.
pub fn from(text: impl Into<Vec<u8>>, origin: &str) -> IngestItem {
    IngestItem { body: Some(Body::Json(text.into().into())), origin: origin.to_owned() }
}

/// A track event as JSON text.
pub fn seen(user: &str, message_id: &str) -> String {
    format!(r#"{{"type":"track","event":"Seen","userId":"{user}","messageId":"{message_id}"}}"#)
}

/// Sends items without a write key.
///
/// # Errors
/// What the node answers.
pub async fn send(channel: &Channel, items: Vec<IngestItem>) -> Result<IngestResponse, Status> {
    let request = IngestRequest { items, ..IngestRequest::default() };
    IngestServiceClient::new(channel.clone()).ingest(request).await.map(tonic::Response::into_inner)
}

/// Sends items that have to be accepted, as long as it takes; returns the version token.
///
/// # Panics
/// When one is not accepted.
pub async fn accepted(channel: &Channel, items: Vec<IngestItem>) -> String {
    let response = send(channel, items).await.unwrap();
    for result in &response.results {
        assert_eq!(result.outcome(), ItemOutcome::Accepted, "{}: {}", result.reason, result.message);
    }
    response.version
}

/// The key of a profile.
pub fn key(namespace: &str, value: &str) -> Option<ProfileKey> {
    let identifier = Identifier { namespace: namespace.to_owned(), value: value.to_owned() };
    Some(ProfileKey { key: Some(Key::Identifier(identifier)) })
}

/// The profile of an identifier, read linearizably.
///
/// # Errors
/// What the node answers.
pub async fn profile(channel: &Channel, namespace: &str, value: &str) -> Result<Profile, Status> {
    let request = GetRequest { key: key(namespace, value), ..GetRequest::default() };
    let got = ProfileServiceClient::new(channel.clone()).get(request).await?;
    Ok(got.into_inner().profile.unwrap_or_default())
}

/// All quarantine entries that fit a request, page by page, without their content.
///
/// # Panics
/// When a call fails.
pub async fn quarantined(channel: &Channel, request: QuarantineServiceListRequest) -> Vec<QuarantineEntry> {
    let mut client = QuarantineServiceClient::new(channel.clone());
    let (mut cursor, mut entries) = (request.cursor.clone(), Vec::new());
    loop {
        let page = client
            .list(QuarantineServiceListRequest { cursor, ..request.clone() })
            .await
            .unwrap()
            .into_inner();
        entries.extend(page.entries);
        if page.next_cursor.is_empty() {
            return entries;
        }
        cursor = page.next_cursor;
    }
}

/// One quarantine entry with its content.
///
/// # Panics
/// When it isn't there.
pub async fn shown(channel: &Channel, id: &str) -> QuarantineEntry {
    let request = ShowRequest { id: id.to_owned() };
    let answer = QuarantineServiceClient::new(channel.clone()).show(request).await.unwrap();
    answer.into_inner().entry.unwrap()
}

/// The reason in a status's `ErrorInfo`; empty when it has none of ours.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == isthmus_proto::ERROR_DOMAIN);
    info.map(|info| info.reason.clone()).unwrap_or_default()
}

/// Whether a status says when to come back.
pub fn says_when_to_come_back(status: &Status) -> bool {
    status.get_error_details().retry_info().is_some_and(|info| info.retry_delay.is_some())
}

/// Gets a path over HTTP/1.1: status code and body.
///
/// # Panics
/// When nobody answers, or not in HTTP.
pub fn http(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Waits until a node says over HTTP that it can serve. It may not for a moment whenever a leader changes.
///
/// # Panics
/// When it never does.
pub async fn ready(address: SocketAddr) {
    let until = Instant::now() + PATIENCE;
    loop {
        let (code, why) = http(address, "/readyz");
        if code == 200 {
            return;
        }
        assert!(code == 503 && Instant::now() < until, "{code}: {why}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
