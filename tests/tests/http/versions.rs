//! HTTP/2 without TLS (prior knowledge) on the HTTP port: what is refused over HTTP/1.1 is refused there, too.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Version};
use serde_json::Value;

use crate::Hub;

/// An answer's status, 0 where the connection ends instead, and its JSON where it is some.
struct Answer {
    status: u16,
    json: Value,
}

impl Answer {
    fn refused(&self, status: u16, reason: &str) {
        assert_eq!((self.status, &self.json["error"]["reason"]), (status, &reason.into()), "{}", self.json);
    }
}

/// Asks over a connection of its own; `authority` stands where HTTP/1.1 has `Host`.
async fn ask(
    to: SocketAddr,
    method: &str,
    authority: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut request =
        Request::builder().version(Version::HTTP_2).method(method).uri(format!("http://{authority}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (answer, mut sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
    // A server may have answered before it has read everything.
    let _answered_early = sending.send_data(body.into(), true);
    let Ok(answer) = answer.await else {
        return Answer { status: 0, json: Value::Null };
    };
    let (status, mut body, mut found) = (answer.status().as_u16(), answer.into_body(), Vec::new());
    while let Some(Ok(bytes)) = body.data().await {
        let _window = body.flow_control().release_capacity(bytes.len());
        found.extend_from_slice(&bytes);
    }
    connection.abort();
    Answer { status, json: serde_json::from_slice(&found).unwrap_or_default() }
}

pub async fn what_is_refused_is_refused_over_http_2_too(hub: &Hub) {
    let (to, own) = (hub.http(), hub.http().to_string());
    let bearer = format!("Bearer {}", hub.key);
    let key = ("authorization", bearer.as_str());
    let event = r#"{"event":"Seen","userId":"two","messageId":"two"}"#;
    let stored = ask(to, "POST", &own, "/v1/track", &[key], event).await;
    assert_eq!((stored.status, &stored.json["accepted"]), (200, &1.into()), "{}", stored.json);
    ask(to, "POST", &own, "/v1/track", &[], event).await.refused(401, "WRITE_KEY_MISSING");
    ask(to, "POST", &own, "/v1/track", &[("authorization", "Bearer no-such-key")], event)
        .await
        .refused(401, "WRITE_KEY_INVALID");
    let large = format!("{}{{}}", " ".repeat(4 << 20));
    ask(to, "POST", &own, "/v1/batch", &[key], large).await.refused(413, "TOO_LARGE");
    // Some above the bound; and far above, where nobody looks any more, and the connection may end.
    for (bytes, answers) in [(15 << 10, &[200][..]), (17 << 10, &[431]), (200 << 10, &[431, 0])] {
        let long = "x".repeat(bytes);
        let answer = ask(to, "POST", &own, "/v1/track", &[key, ("x-long", &long)], event).await;
        assert!(answers.contains(&answer.status), "{bytes}: {} {}", answer.status, answer.json);
    }
    let path = "/v1/profiles/user_id:two";
    let seen = ask(to, "GET", &own, path, &[], "").await;
    assert_eq!((seen.status, &seen.json["event_counts"]["Seen"]), (200, &1.into()), "{}", seen.json);
    ask(to, "GET", "rebound.example", path, &[], "").await.refused(403, "NOT_LOCAL");
    ask(to, "GET", "rebound.example", path, &[("host", &own)], "").await.refused(403, "NOT_LOCAL");
    ask(to, "GET", &own, path, &[("host", "rebound.example")], "").await.refused(403, "NOT_LOCAL");
    ask(to, "GET", &own, path, &[("origin", "http://evil.example")], "").await.refused(403, "NOT_LOCAL");
}
