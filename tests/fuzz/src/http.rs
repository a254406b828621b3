//! Bodies of HTTP requests through the whole pure way in: decompression, taking apart, events, items.
//!
//! A byte chooses the path, one what is declared; the rest is the body. What is refused as a whole is refused by a 4xx
//! with a known reason, in the shape that SDKs read; what is not is [`crate::intake`]'s to check.

use std::{io::Write as _, sync::LazyLock};

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header};
use isthmus_node::fuzzing::http_events;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::intake;

const PATHS: [&str; 7] =
    ["/v1/batch", "/v1/identify", "/v1/track", "/v1/page", "/v1/screen", "/v1/group", "/v1/alias"];
/// Bits of the second byte.
const GZIPPED: u8 = 1;
const SAYS_GZIP: u8 = 2;
const SAYS_OTHER_TYPE: u8 = 4;

/// Why a body is refused as a whole, with the status.
const REFUSALS: [(u16, &str); 14] = [
    (400, "MALFORMED"),
    (400, "TOO_DEEP"),
    (400, "NOT_FINITE"),
    (400, "INTEGER_TOO_LARGE"),
    (400, "DUPLICATE_KEY"),
    (400, "INVALID_BODY"),
    (400, "INVALID_BATCH"),
    (400, "BATCH_TOO_MANY"),
    (400, "TYPE_MISMATCH"),
    (400, "FIELD_INVALID"),
    (400, "WRITE_KEY_INVALID"),
    (400, "WRITE_KEY_MISMATCH"),
    (413, "TOO_LARGE"),
    (415, "UNSUPPORTED_CONTENT_TYPE"),
];

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

/// The target.
pub fn run(bytes: &[u8]) {
    let [path, declared, body @ ..] = bytes else { return };
    let path = PATHS[usize::from(*path) % PATHS.len()];
    let mut headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Basic azE6"))]);
    if declared & SAYS_GZIP != 0 {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if declared & SAYS_OTHER_TYPE != 0 {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    }
    let body = if declared & GZIPPED != 0 { gzip(body) } else { body.to_vec() };
    let read = RUNTIME.block_on(http_events(path, &headers, body.into()));
    match read.unwrap() {
        Ok((sent_at, items)) => {
            intake::take(items, sent_at);
        }
        Err((status, told)) => refused(status, &told),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn refused(status: u16, told: &[u8]) {
    let told: Value = serde_json::from_slice(told).unwrap();
    let reason = told["error"]["reason"].as_str().unwrap();
    assert!(REFUSALS.contains(&(status, reason)), "{status} {told}");
    assert_eq!((&told["success"], &told["code"]), (&Value::Bool(false), &told["error"]["code"]));
    assert!(told["message"].as_str().is_some_and(|message| !message.is_empty()), "{told}");
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let batch = br#"{"batch":[{"type":"identify","userId":"42","traits":{"email":"A@b.de","phone":" 030 901820","age":null,"address":{"country":"Germany"}}},
        {"type":"track","event":"Order Completed","userId":"42","anonymousId":"a-1","messageId":"m-1","timestamp":"2025-12-31T10:00:00.5Z","properties":{"revenue":"44.02","currency":"EUR","n":9007199254740993}},
        {"type":"group","groupId":"g","userId":"42","traits":{"name":"x"}},{"type":"alias","previousId":"a-1","userId":"42"},
        {"type":"screen","name":"Home","context":{"externalIds":[{"id":"7","type":"crm_id","collection":"users","encoding":"none"}]}},
        {"type":"page","userId":"1","properties":{"url":"no url"}}, 7, null, {"a":1,"a":2}],
        "context":{"app":{"name":"a"},"ip":null},"integrations":{"All":true},"sentAt":"2026-01-01T00:00:00Z","writeKey":"k1"}"#;
    let track: &[u8] = br#"{"event":"Seen","user_id":"1","properties":{"n":1.5e3,"s":"\u00e4\ud83d\ude00"},"_metadata":{"retryCount":2},"originalTimestamp":"2025-12-31T23:00:00Z","sentAt":"2025-12-31T23:00:05Z"}"#;
    let identify: &[u8] = br#"{"type":"identify","anonymousId":"a-1","context":{"traits":{"email":"c@d.de"}},"timestamp":1767225600000,"traits":{"createdAt":"2020-02-30"}}"#;
    let mut seeds = vec![
        [&[0, 0], batch.as_slice()].concat(),
        [&[0, GZIPPED | SAYS_GZIP], batch.as_slice()].concat(),
        [&[2, 0], track].concat(),
        [&[1, 0], identify].concat(),
        [&[2, SAYS_GZIP, 0x1f, 0x8b], track].concat(),
        [&[2, SAYS_OTHER_TYPE], track].concat(),
        [&[0, 0], br#"{"batch":[{"a":NaN}]}"#.as_slice()].concat(),
        [&[0, 0], "{\"batch\":[".repeat(40).as_bytes()].concat(),
    ];
    // As it lies compressed, so that what can be wrong with it is found, too.
    seeds.push([vec![2, SAYS_GZIP], gzip(track)].concat());
    seeds
}
