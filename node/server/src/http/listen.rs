//! Connections: HTTP/1.1 and HTTP/2 in clear text, each within bounds, all ended by the stop.
//!
//! A connection on which nothing comes, or whose headers don't, is closed, so that a client that is silent or dribbles
//! holds nothing for long. Headers are
//! bounded twice: by [`super::front`], which can answer in our words, and here, far above that, by what is kept in
//! memory of those that never end. At the stop, connections end with the answer that is under way.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// How long the first byte may take, and headers, each.
const HEADERS_MAX: Duration = Duration::from_secs(20);
/// As many as fit into the bound of [`super::front`] with names and values of a byte: it refuses them in our words.
const HEADERS_COUNT_MAX: usize = 512;
/// What is kept of a connection's input before it is understood.
const BUFFER_BYTES_MAX: usize = 256 << 10;
/// The largest header list of HTTP/2, in which it is refused before us.
const HEADER_BYTES_MAX: u32 = 32 << 10;
/// Requests at a time on a connection of HTTP/2.
const STREAMS_MAX: u32 = 256;
/// Silent connections of HTTP/2 are probed so often.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long to wait when no connection can be accepted: of all file descriptors none may be left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Serves until the stop; then waits for the answers that are under way.
pub async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_headers(HEADERS_COUNT_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let (tracker, graceful) = (TaskTracker::new(), GracefulShutdown::new());
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some((stream, permit)) = next(&listener, &room, &stop).await {
        let service = TowerToHyperService::new(app.clone());
        let (builder, watcher, stop) = (builder.clone(), graceful.watcher(), stop.clone());
        tracker.spawn(async move {
            if !begins(&stream, &stop).await {
                return;
            }
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            // What went wrong on a connection, its client knows.
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "an HTTP connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
    tracker.close();
    tracker.wait().await;
}

/// Waits for a connection's first byte; whether it came. Before it nothing says which version of HTTP is spoken, and
/// what serves them would wait for ever.
async fn begins(stream: &TcpStream, stop: &CancellationToken) -> bool {
    let mut byte = [0];
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        first = timeout(HEADERS_MAX, stream.peek(&mut byte)) => matches!(first, Ok(Ok(1))),
    }
}

/// The next connection; `None` at the stop.
async fn next(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let accepted = async {
        let permit = room.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Without it answers are only slower.
                    let _slower = stream.set_nodelay(true);
                    return Some((stream, permit));
                }
                Err(error) => {
                    tracing::debug!(%error, "an HTTP connection could not be accepted");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        next = accepted => next,
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Time goes on by itself where everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_comes_is_closed_and_others_are_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let app = Router::new().route("/", get(|| async { "here" }));
        let serving = serve(listener, app, stop.clone());
        let clients = async {
            let mut silent = TcpStream::connect(address).await.unwrap();
            let mut begun = TcpStream::connect(address).await.unwrap();
            begun.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            for connection in [&mut silent, &mut begun] {
                let mut rest = Vec::new();
                let closed = timeout(HEADERS_MAX * 4, connection.read_to_end(&mut rest)).await;
                assert!(closed.is_ok(), "it is still open");
            }
            let mut asks = TcpStream::connect(address).await.unwrap();
            asks.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            asks.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("here"), "{answer}");
            // Nor does one keep a node from stopping.
            let _silent = TcpStream::connect(address).await.unwrap();
            stop.cancel();
        };
        tokio::join!(serving, clients);
    }
}
