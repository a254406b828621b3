//! Requests byte by byte, so that a test says exactly what goes over the wire.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use isthmus_tests::cluster::PATIENCE;
use serde_json::Value;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Checks that it is a refusal in the shape that SDKs and our own clients read, and gives it.
    pub fn refused(&self, status: u16, reason: &str) -> Value {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        assert_eq!(self.status, status, "{text}");
        let json = self.json();
        assert_eq!(json["error"]["reason"], reason, "{text}");
        assert_eq!(json["success"], false, "{text}");
        assert_eq!((&json["code"], &json["message"]), (&json["error"]["code"], &json["error"]["message"]));
        assert!(json["code"].as_str().is_some_and(|code| !code.is_empty()), "{text}");
        assert!(json["message"].as_str().is_some_and(|message| message.len() > 10), "{text}");
        assert!(self.header("x-request-id").is_some());
        assert!(!text.contains(crate::CANARY), "it quotes what was sent: {text}");
        json
    }

    /// Checks that all is well with so many events.
    pub fn stored(&self, accepted: u64, duplicate: u64) -> Value {
        let json = self.json();
        assert_eq!(self.status, 200, "{json}");
        assert_eq!(json["success"], true, "{json}");
        assert_eq!((&json["accepted"], &json["duplicate"]), (&accepted.into(), &duplicate.into()), "{json}");
        json
    }
}

/// Sends a request with its own idea of all headers but these: `Host` and `Connection`, which may be given too, and
/// `Content-Length`.
pub fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Answer {
    let body = body.as_ref();
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("Host: {to}\r\n");
    }
    if method != "GET" && method != "OPTIONS" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server may have answered, and closed, before it has read everything.
    let _answered_early = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(b"\r\n"))
        .and_then(|()| stream.write_all(body));
    read(stream)
}

/// The answer on a connection that is closed behind it.
pub fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // What came before the connection was reset is there: an answer to a request of which not all was read.
    let _reset = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("no end of headers");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Answer { status, headers: lines.map(header).collect(), body: bytes.split_off(end + 4) }
}

/// Posts JSON with a write key as a bearer.
pub fn post(to: SocketAddr, key: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
    let bearer = format!("Bearer {key}");
    send(to, "POST", path, &[("Authorization", &bearer), ("Content-Type", "application/json")], body)
}

pub fn get(to: SocketAddr, path: &str) -> Answer {
    send(to, "GET", path, &[], "")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use flate2::{Compression, write::GzEncoder};
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
