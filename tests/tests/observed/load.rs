//! Requests to a cluster, over HTTP and gRPC, so that there is something to tell.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use isthmus_proto::v1::{WatchRequest, profile_service_client::ProfileServiceClient};
use isthmus_tests::{ask, cluster::PATIENCE};

use crate::Hub;

/// Sends a request; status and body.
pub fn request(to: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut text =
        format!("{line} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Sends an event by HTTP.
pub fn post(hub: &Hub, node: usize, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let bearer = format!("Bearer {}", hub.key);
    let mut all = vec![("Authorization", bearer.as_str())];
    all.extend(headers);
    request(hub.http(node), "POST /v1/track", &all, body)
}

/// A node's metrics.
pub fn metrics(hub: &Hub, node: usize) -> String {
    let (status, text) = ask::http(hub.http(node), "/metrics");
    assert_eq!(status, 200, "{text}");
    text
}

/// Some of everything that is measured: both doors, good and bad items, reads, a watch, errors.
pub async fn send(hub: &Hub) {
    for node in 0..3 {
        let channel = hub.cluster.channel(node);
        let items =
            (0..50).map(|n| ask::json(ask::seen(&format!("user-{node}-{n}"), &format!("m-{node}-{n}"))));
        ask::accepted(&channel, items.collect()).await;
        let (status, _) = post(hub, node, &[], &ask::seen("by-http", &format!("h-{node}")));
        assert_eq!(status, 200);
        let kept =
            ask::send(&channel, vec![ask::json("{"), ask::json(ask::seen("by-http", "h-0"))]).await.unwrap();
        assert_eq!(kept.results.len(), 2);
        assert_eq!(request(hub.http(node), "GET /no/such/path", &[], "").0, 404);
        assert_eq!(request(hub.http(node), "GET /v1/profiles/user_id:by-http", &[], "").0, 200);
        let mut client = ProfileServiceClient::new(channel);
        let watch = WatchRequest { start: 2, ..WatchRequest::default() };
        let mut changes = client.watch(watch).await.unwrap().into_inner();
        while changes.message().await.unwrap().unwrap().changes.is_empty() {}
    }
}
