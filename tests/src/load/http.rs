//! Batches over HTTP, on connections that stay open, as an SDK on a server sends them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use futures::future::join_all;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::{IngestLoad, Measured, Numbers, measured};

/// Posts batches of events to `/v1/batch` of the nodes in turn, a connection for each that is under way.
///
/// # Panics
/// When a batch isn't answered by 200 with all of its events accepted.
pub async fn ingest(nodes: &[SocketAddr], write_key: &str, load: &IngestLoad) -> Measured {
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let senders = (0..load.parallel).map(|sender| {
        let (node, load, next) = (nodes[sender % nodes.len()], load.clone(), next.clone());
        let head = format!(
            "POST /v1/batch HTTP/1.1\r\nHost: {node}\r\nAuthorization: Bearer {write_key}\r\n\
             Content-Type: application/json\r\nContent-Length: "
        );
        tokio::task::spawn(async move {
            let mut connection = BufReader::new(TcpStream::connect(node).await.unwrap());
            connection.get_ref().set_nodelay(true).unwrap();
            let mut latencies = Vec::new();
            loop {
                let from = next.fetch_add(load.batch, Relaxed);
                if from >= load.events {
                    return latencies;
                }
                let to = (from + load.batch).min(load.events);
                let body = batch(&load, from, to);
                let mut request = format!("{head}{}\r\n\r\n", body.len()).into_bytes();
                request.extend(body);
                let sent = Instant::now();
                connection.get_mut().write_all(&request).await.unwrap();
                let answer = answer(&mut connection).await;
                latencies.push(sent.elapsed());
                let accepted = format!("\"accepted\":{},", to - from);
                assert!(answer.contains(&accepted), "{answer}");
            }
        })
    });
    let latencies = join_all(senders.collect::<Vec<_>>()).await;
    measured(load.events, begin, latencies.into_iter().map(Result::unwrap))
}

fn batch(load: &IngestLoad, from: u64, to: u64) -> Vec<u8> {
    let mut numbers = Numbers(load.first + from);
    let mut body = b"{\"batch\":[".to_vec();
    for number in from..to {
        if number > from {
            body.push(b',');
        }
        body.extend_from_slice(&load.what.one(&load.run, load.first + number, load.profiles, &mut numbers));
    }
    body.extend_from_slice(b"]}");
    body
}

/// The body of a 200.
async fn answer(connection: &mut BufReader<TcpStream>) -> String {
    let (mut line, mut length, mut first) = (String::new(), 0, true);
    loop {
        line.clear();
        connection.read_line(&mut line).await.unwrap();
        assert!(!first || line.starts_with("HTTP/1.1 200"), "{line}");
        first = false;
        let header = line.trim_end();
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}
