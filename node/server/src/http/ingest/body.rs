//! A request's body, brought into memory within bounds, and decompressed.
//!
//! What is declared is believed where it can be true, since SDKs declare much: any content type will do for a body that
//! is JSON, and a body that begins as gzip or as JSON is taken for what it is where the declaration says otherwise (no
//! JSON begins as gzip does). What is neither is refused by what was declared: 415 for another type, 400 for JSON that
//! is none.

use std::{io::Read as _, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
};
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use futures::StreamExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tonic::Code;

use crate::{fault::Refusal, grpc::REQUEST_BYTES_MAX, http::errors::Failure};

/// Bytes of all bodies that are in memory at a time, of senders whose key is known by then.
const ROOM_BYTES: usize = 256 << 20;
/// The same, of senders whose key is in the body: who has none is to take no room from those who have.
const STRANGERS_ROOM_BYTES: usize = 64 << 20;
/// When a refused body may come again.
const ROOM_AGAIN: Duration = Duration::from_secs(1);
/// A body that is too large is read on, unkept, for so many bytes and so long: a client that is still sending when the
/// connection closes may not get to see why.
const DRAIN_BYTES_MAX: usize = 64 << 20;
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Decompressed at a time, and without a pause.
const CHUNK_BYTES: usize = 64 << 10;
const PAUSE_BYTES: usize = 256 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Some programs put it in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Room for bodies in memory, of all requests together.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

impl Room {
    /// Room for [`ROOM_BYTES`].
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_BYTES >> 10)))
    }

    /// Room for [`STRANGERS_ROOM_BYTES`].
    pub fn of_strangers() -> Self {
        Self(Arc::new(Semaphore::new(STRANGERS_ROOM_BYTES >> 10)))
    }
}

/// What a request has of the room: as many KiB as its bytes need, in however many pieces they come.
#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    fn grow(&mut self, room: &Room, bytes: usize) -> Result<(), Refusal> {
        let sum = self.bytes.saturating_add(bytes);
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(sum.div_ceil(1 << 10).saturating_sub(held)).unwrap_or(u32::MAX);
        if more > 0 {
            let more = Arc::clone(&room.0).try_acquire_many_owned(more).map_err(|_| {
                let message = "too many bodies are on their way in: send it again a little later";
                Refusal::new(Code::ResourceExhausted, "OVERLOADED", message).retry_after(ROOM_AGAIN)
            })?;
            match &mut self.permit {
                Some(held) => held.merge(more),
                None => self.permit = Some(more),
            }
        }
        self.bytes = sum;
        Ok(())
    }
}

/// A body in memory, with its share of the room.
#[derive(Debug)]
pub struct Held {
    /// What was sent, decompressed.
    pub bytes: Bytes,
    _share: Share,
}

/// Reads a body.
///
/// # Errors
/// 408 when it doesn't come by the deadline, 413 over 4 MiB before or after decompression, 415 for an encoding or a
/// type that is not known, 429 when there is no room, 400 when it is cut short.
pub async fn read(headers: &HeaderMap, body: Body, room: &Room, deadline: Instant) -> Result<Held, Failure> {
    let declared = encoding(headers)?;
    let mut share = Share::default();
    let sent = match timeout_at(deadline, collect(body, room, &mut share)).await {
        Ok(sent) => sent?,
        Err(_) => {
            let message = "the body did not come in time: send it again";
            let refusal = Refusal::new(Code::DeadlineExceeded, "BODY_TOO_SLOW", message);
            return Err(Failure::with_status(StatusCode::REQUEST_TIMEOUT, &refusal));
        }
    };
    let bytes = match (sent.starts_with(&GZIP_MAGIC), declared) {
        (true, _) => decompressed(&sent, room, &mut share).await?,
        (false, Encoding::Gzip) if !begins_as_json(&sent) => return Err(not_gzip().into()),
        (false, _) => sent,
    };
    let bytes = match bytes.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => bytes.slice_ref(rest),
        None => bytes,
    };
    if !begins_as_json(&bytes) && !may_be_json(headers) {
        let message = "events are JSON: send them as such, whatever content type is declared";
        return Err(Refusal::new(Code::Unimplemented, "UNSUPPORTED_CONTENT_TYPE", message).into());
    }
    Ok(Held { bytes, _share: share })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Plain,
    Gzip,
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let given = headers.get_all(CONTENT_ENCODING).iter().flat_map(|value| {
        value.to_str().unwrap_or("?").split(',').map(str::trim).filter(|coding| !coding.is_empty())
    });
    let mut encoding = Encoding::Plain;
    for coding in given {
        let gzip = ["gzip", "x-gzip"].iter().any(|known| coding.eq_ignore_ascii_case(known));
        match (gzip, encoding) {
            (true, Encoding::Plain) => encoding = Encoding::Gzip,
            (false, _) if coding.eq_ignore_ascii_case("identity") => {}
            _ => {
                let message = "the content encoding is not known here: send gzip, once, or none";
                return Err(Refusal::new(Code::Unimplemented, "UNSUPPORTED_ENCODING", message));
            }
        }
    }
    Ok(encoding)
}

/// Whether the declared content type is one that senders of JSON declare.
fn may_be_json(headers: &HeaderMap) -> bool {
    let Some(given) = headers.get(CONTENT_TYPE) else { return true };
    let kind = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    kind.is_empty()
        || kind.ends_with("/json")
        || kind.ends_with("+json")
        || kind.starts_with("text/")
        || kind == "application/x-www-form-urlencoded"
}

fn begins_as_json(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    bytes.trim_ascii_start().first().is_some_and(|first| matches!(first, b'{' | b'['))
}

fn not_gzip() -> Refusal {
    Refusal::new(
        Code::InvalidArgument,
        "MALFORMED",
        "the body is said to be gzip, and is not, or is cut short",
    )
}

fn too_large(how: &str) -> Refusal {
    let message = format!("the body is larger than {REQUEST_BYTES_MAX} bytes{how}: send smaller batches");
    Refusal::new(Code::OutOfRange, "TOO_LARGE", message)
}

async fn collect(body: Body, room: &Room, share: &mut Share) -> Result<Bytes, Failure> {
    let mut chunks = body.into_data_stream();
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| {
            let message = "the body was cut short: send it again";
            Refusal::new(Code::InvalidArgument, "MALFORMED", message)
        })?;
        let bytes = first.len() + rest.len() + chunk.len();
        let refused = match bytes > REQUEST_BYTES_MAX {
            true => Err(too_large("")),
            false => share.grow(room, chunk.len()),
        };
        if let Err(refusal) = refused {
            // What was kept of it gives its room to others at once.
            *share = Share::default();
            drop((first, rest));
            drain(chunks).await;
            return Err(refusal.into());
        }
        // Small bodies come in one piece: it is kept as it is.
        match (first.is_empty() && rest.is_empty(), rest.is_empty()) {
            (true, _) => first = chunk,
            (false, true) => {
                rest.extend_from_slice(&std::mem::take(&mut first));
                rest.extend_from_slice(&chunk);
            }
            (false, false) => rest.extend_from_slice(&chunk),
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Reads a body on that is not wanted, unkept, so that its sender gets to see why.
pub async fn pass_over(body: Body) {
    drain(body.into_data_stream()).await;
}

async fn drain(mut chunks: axum::body::BodyDataStream) {
    let until = Instant::now() + DRAIN_MAX;
    let mut bytes = 0;
    while let Ok(Some(Ok(chunk))) = timeout_at(until, chunks.next()).await {
        bytes += chunk.len();
        if bytes > DRAIN_BYTES_MAX {
            return;
        }
    }
}

async fn decompressed(sent: &[u8], room: &Room, share: &mut Share) -> Result<Bytes, Failure> {
    let mut decoder = MultiGzDecoder::new(sent);
    let (mut out, mut chunk, mut unpaused) = (Vec::new(), vec![0; CHUNK_BYTES], 0);
    loop {
        let read = decoder.read(&mut chunk).map_err(|_| not_gzip())?;
        if read == 0 {
            return Ok(out.into());
        }
        if out.len() + read > REQUEST_BYTES_MAX {
            return Err(too_large(" once decompressed").into());
        }
        share.grow(room, read)?;
        out.extend_from_slice(&chunk[..read]);
        unpaused += read;
        if unpaused >= PAUSE_BYTES {
            unpaused = 0;
            // Heartbeats go in between.
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn got(headers: &[(&'static str, &'static str)], body: impl Into<Body>) -> Result<Bytes, u16> {
        use axum::response::IntoResponse as _;
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let deadline = Instant::now() + Duration::from_secs(60);
        let held = read(&HeaderMap::from_iter(headers), body.into(), &Room::new(), deadline).await;
        held.map(|held| held.bytes).map_err(|failure| failure.into_response().status().as_u16())
    }

    #[tokio::test]
    async fn json_is_taken_whatever_is_declared() {
        let json = br#" {"a":1}"#;
        for kind in [
            "application/json",
            "text/plain;charset=UTF-8",
            "application/x-www-form-urlencoded",
            "image/png",
            "multipart/form-data; boundary=x",
            "",
        ] {
            assert_eq!(got(&[("content-type", kind)], json.to_vec()).await.unwrap(), json.as_slice());
        }
        assert_eq!(got(&[], json.to_vec()).await.unwrap(), json.as_slice());
        let marked = [BYTE_ORDER_MARK, json].concat();
        assert_eq!(got(&[], marked).await.unwrap(), json.as_slice());
        for (kind, status) in [("application/x-protobuf", Err(415)), ("multipart/form-data", Err(415))] {
            assert_eq!(got(&[("content-type", kind)], vec![8, 1]).await, status);
        }
        assert!(
            got(&[("content-type", "application/json")], vec![8, 1]).await.is_ok(),
            "it is looked at later"
        );
    }

    #[tokio::test]
    async fn gzip_is_known_by_what_it_is() {
        let json = br#"{"a":1}"#;
        for headers in [
            &[("content-encoding", "gzip")][..],
            &[("content-encoding", "X-GZIP")],
            &[],
            &[("content-encoding", "identity")],
        ] {
            assert_eq!(got(headers, gzip(json)).await.unwrap(), json.as_slice());
        }
        assert_eq!(got(&[("content-encoding", "gzip")], json.to_vec()).await.unwrap(), json.as_slice());
        let twice = [gzip(b"{\"a\""), gzip(b":1}")].concat();
        assert_eq!(got(&[], twice).await.unwrap(), json.as_slice(), "members are one body");
        for coding in ["br", "zstd", "deflate", "gzip, gzip", "gzip,br"] {
            assert_eq!(got(&[("content-encoding", coding)], json.to_vec()).await, Err(415), "{coding}");
        }
        let whole = gzip(json);
        assert_eq!(got(&[], whole[..whole.len() - 4].to_vec()).await, Err(400), "cut short");
        assert_eq!(got(&[("content-encoding", "gzip")], b"nothing".to_vec()).await, Err(400));
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_before_and_after_decompression() {
        let fits = vec![b' '; REQUEST_BYTES_MAX];
        assert!(got(&[], fits).await.is_ok());
        assert_eq!(got(&[], vec![b' '; REQUEST_BYTES_MAX + 1]).await, Err(413));
        assert_eq!(got(&[("content-encoding", "gzip")], gzip(&vec![b' '; 64 << 20])).await, Err(413));
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let (room, mut held, mut more) = (Room::new(), Share::default(), Share::default());
        held.grow(&room, ROOM_BYTES - 1024).unwrap();
        more.grow(&room, 1024).unwrap();
        assert!(more.grow(&room, 1).is_err() && more.bytes == 1024);
        drop(held);
        assert!(more.grow(&room, 1).is_ok());
    }

    #[test]
    fn a_body_in_small_pieces_takes_no_more_room_than_in_one() {
        let (room, mut held) = (Room::of_strangers(), Share::default());
        for _ in 0..REQUEST_BYTES_MAX {
            held.grow(&room, 1).unwrap();
        }
        assert_eq!(room.0.available_permits(), (STRANGERS_ROOM_BYTES - REQUEST_BYTES_MAX) >> 10);
    }
}
