//! A server between an SDK and a node that fails in the ways that servers fail, and then recovers.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

/// How a request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// 503, and the node never sees it.
    Refuses,
    /// The node stores it, and the sender is told 503.
    LosesTheAnswer,
    /// The node stores it, and the connection breaks before the answer.
    HangsUp,
    /// 429 with a time to come back.
    IsBusy,
}

/// A relay that is listening. It ends with the test's process.
pub struct Relay {
    /// Where SDKs send to.
    pub address: SocketAddr,
    failed: Arc<AtomicUsize>,
    passed: Arc<AtomicUsize>,
    packed: Arc<AtomicUsize>,
}

impl Relay {
    /// Starts one that lets its first requests fail like this, one each, and passes all others on.
    pub fn start(node: SocketAddr, failing: &[Failing]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            failed: Arc::default(),
            passed: Arc::default(),
            packed: Arc::default(),
        };
        let (failed, passed, packed) = (relay.failed.clone(), relay.passed.clone(), relay.packed.clone());
        let failing = failing.to_vec();
        std::thread::spawn(move || {
            let next = Arc::new(AtomicUsize::new(0));
            for stream in listener.incoming().map_while(Result::ok) {
                let (failing, next) = (failing.clone(), next.clone());
                let (failed, passed, packed) = (failed.clone(), passed.clone(), packed.clone());
                std::thread::spawn(move || {
                    let Some(request) = Request::read(&stream) else { return };
                    if request.head.to_ascii_lowercase().contains("content-encoding: gzip") {
                        packed.fetch_add(1, SeqCst);
                    }
                    let how = failing.get(next.fetch_add(1, SeqCst)).copied();
                    match how {
                        Some(_) => failed.fetch_add(1, SeqCst),
                        None => passed.fetch_add(1, SeqCst),
                    };
                    answer(stream, node, &request, how);
                });
            }
        });
        relay
    }

    /// How many requests went wrong, how many were passed on, and how many of all came compressed.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.failed.load(SeqCst), self.passed.load(SeqCst), self.packed.load(SeqCst))
    }
}

struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// Of bodies whose length is said, as those of SDKs are.
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().ok()?;
                }
                if name.eq_ignore_ascii_case("connection") {
                    continue;
                }
            }
            head += &line;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { head, body })
    }
}

fn answer(mut stream: TcpStream, node: SocketAddr, request: &Request, how: Option<Failing>) {
    let failed = |status: &str, more: &str| {
        let body = r#"{"success":false,"code":"UNAVAILABLE","message":"the relay fails"}"#;
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\n{more}Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let answer = match how {
        Some(Failing::Refuses) => failed("503 Service Unavailable", "").into_bytes(),
        Some(Failing::IsBusy) => failed("429 Too Many Requests", "Retry-After: 1\r\n").into_bytes(),
        Some(Failing::LosesTheAnswer) => {
            passed(node, request);
            failed("503 Service Unavailable", "").into_bytes()
        }
        Some(Failing::HangsUp) => {
            passed(node, request);
            return;
        }
        None => passed(node, request),
    };
    // A sender that has gone sends again.
    let _gone = stream.write_all(&answer);
}

fn passed(node: SocketAddr, request: &Request) -> Vec<u8> {
    let mut stream = TcpStream::connect(node).unwrap();
    let head = format!("{}Connection: close\r\n\r\n", request.head);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&request.body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}
