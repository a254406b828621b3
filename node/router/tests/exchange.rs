//! Calls between nodes, over real connections on the loopback interface: some that break, some that lie.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Fake, Node, Shared, Step, item, map, options, peer, within};
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _, stream};
use isthmus_domain::FacetId;
use isthmus_proto::internal::v1::shard_service_server::{ShardService, ShardServiceServer};
use isthmus_proto::internal::v1::{
    CallError, ExchangeRequest, ExchangeResponse, IngestReply, ShardReply, shard_call, shard_reply,
};
use isthmus_router::{
    Error, ExchangeOptions, ItemResult, Leadership, ReadLevel, Router, RouterOptions, ShardCalls, Topology,
    peer_server,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

const CLUSTER: &[u8] = b"a cluster's id..";

/// What node `node` knows: two nodes, all shards on node 2.
fn topology(node: u32, shards: u32, address_of_2: &str) -> Topology {
    let nodes = [(1, "127.0.0.1:1".to_owned()), (2, address_of_2.to_owned())].into();
    Topology {
        version: 1,
        cluster_id: CLUSTER.to_vec(),
        node,
        shard_map: map(shards, &[2]),
        nodes,
        ..Topology::default()
    }
}

/// Node 2, with all shards, on an address of its own.
async fn serve(
    world: &Shared,
    shards: u32,
    options: RouterOptions,
    scripts: Vec<Vec<Step>>,
) -> (Node, SocketAddr) {
    let node = Node::start(topology(2, shards, ""), options);
    let mut scripts = scripts.into_iter();
    for shard in 1..=u64::from(shards) {
        node.local.insert(Fake::new(shard, peer(2), world, scripts.next().unwrap_or_default()));
    }
    let address = listen(&node, node.router.exchange_service().into_server()).await;
    (node, address)
}

async fn listen<S: ShardService>(node: &Node, service: ShardServiceServer<S>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = TcpListenerStream::new(listener);
    let stop = node.stop.clone().cancelled_owned();
    let serving = peer_server().add_service(service).serve_with_incoming_shutdown(incoming, stop);
    node.tracker.spawn(async move { serving.await.unwrap() });
    address
}

/// A way to an address that can be cut.
#[derive(Clone)]
struct Cable {
    address: SocketAddr,
    connections: Arc<Mutex<Connections>>,
}

/// Connections that are cut together.
#[derive(Clone, Default)]
struct Connections {
    cut: CancellationToken,
    tracker: TaskTracker,
}

impl Cable {
    async fn to(node: &Node, target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cable = Self { address, connections: Arc::default() };
        let (now, stop) = (Arc::clone(&cable.connections), node.stop.clone());
        node.tracker.spawn(async move {
            while let Some(Ok((mut near, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (Connections { cut, tracker }, stop) = (now.lock().unwrap().clone(), stop.clone());
                tracker.spawn(async move {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = stop.cancelled() => {}
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        cable
    }

    /// Cuts all connections of now, and waits until nothing can pass over them.
    async fn cut(&self) {
        let Connections { cut, tracker } = std::mem::take(&mut *self.connections.lock().unwrap());
        cut.cancel();
        tracker.close();
        tracker.wait().await;
    }
}

/// A replica that cuts the cable after every hundredth call, when it is done and before its reply is on the way.
struct Cutting {
    fake: Fake,
    cable: Cable,
    calls: Arc<AtomicUsize>,
    cuts: Arc<AtomicUsize>,
}

impl ShardCalls for Cutting {
    fn shard(&self) -> u64 {
        self.fake.shard()
    }

    fn leadership(&self) -> Leadership {
        self.fake.leadership()
    }

    fn call(
        &self,
        body: shard_call::Body,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<shard_reply::Body, CallError>> {
        let answer = self.fake.call(body, deadline);
        let (cable, calls, cuts) = (self.cable.clone(), Arc::clone(&self.calls), Arc::clone(&self.cuts));
        Box::pin(async move {
            let answer = answer.await;
            if calls.fetch_add(1, Ordering::Relaxed) % 100 == 50 {
                cuts.fetch_add(1, Ordering::Relaxed);
                cable.cut().await;
            }
            answer
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_connections_that_break_every_item_is_stored_once_and_known_to_be() {
    const CLIENTS: u16 = 32;
    const BATCHES: u16 = 40;
    const ITEMS: usize = CLIENTS as usize * BATCHES as usize * 3;
    let world = Shared::new(map(4, &[2]));
    let (two, address) = serve(&world, 4, options(), Vec::new()).await;
    let cable = Cable::to(&two, address).await;
    let (calls, cuts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for shard in 1..=4 {
        let fake = Fake::new(shard, peer(2), &world, []);
        let (calls, cuts) = (Arc::clone(&calls), Arc::clone(&cuts));
        two.local.insert(Cutting { fake, cable: cable.clone(), calls, cuts });
    }
    let one = Node::start(topology(1, 4, &cable.address.to_string()), RouterOptions { seed: 1, ..options() });
    let clients = (0..CLIENTS).map(|client| {
        let router = &one.router;
        async move {
            for n in 0..BATCHES {
                // Three items for three shards; no two are of one slot.
                let items = (0..3).map(|k| item(router, k * 5_000 + client * BATCHES + n, 0)).collect();
                let summary = router.ingest(items, within(60_000)).await.unwrap();
                assert_eq!(summary.results, vec![ItemResult::Accepted; 3], "a retry is no duplicate");
            }
        }
    });
    join_all(clients).await;
    let (calls, cuts) = (calls.load(Ordering::Relaxed), cuts.load(Ordering::Relaxed));
    assert!(cuts >= 30 && calls >= ITEMS + cuts, "each cut lost a reply: {cuts} cuts, {calls} calls");
    {
        let world = world.lock();
        assert_eq!((world.stored.len(), world.attempts.len()), (ITEMS, ITEMS));
    }
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn calls_find_the_leader_among_the_nodes_and_come_back_to_it() {
    let world = Shared::new(map(1, &[2]));
    // Node 2 says once that node 1 leads, which has no replica; then it leads again.
    let (two, address) =
        serve(&world, 1, options(), vec![vec![Step::NotLeader(peer(1)), Step::NoLeader]]).await;
    let one = Node::start(topology(1, 1, &address.to_string()), options());
    assert_eq!(one.router.leader(1), None, "nobody has told it");
    let summary = one.router.ingest(vec![item(&one.router, 3, 0)], within(10_000)).await.unwrap();
    assert_eq!(summary.results, [ItemResult::Accepted]);
    assert_eq!((one.router.leader(1), one.router.leader(2)), (Some(2), None), "who answered leads");
    let status = one.router.replica_status(1, 2, within(10_000)).await.unwrap();
    assert_eq!(status.peer, peer(2));
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn a_node_that_is_not_there_is_said_to_be_unavailable_and_found_when_it_comes() {
    let world = Shared::new(map(1, &[2]));
    let (two, address) = serve(&world, 1, options(), Vec::new()).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let one = Node::start(topology(1, 1, &nobody), options());
    let ids = [FacetId::from_bytes([0; 16])];
    let error = one.router.read_facets(&ids, ReadLevel::Linearizable, within(300)).await.unwrap_err();
    assert_eq!(error, Error::Unavailable { shard: 1 });
    let read = one.router.read_facets(&ids, ReadLevel::Linearizable, within(10_000));
    let (read, ()) = tokio::join!(read, async {
        one.topology.send_replace(Arc::new(topology(1, 1, &address.to_string())));
    });
    read.unwrap();
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn no_call_of_another_cluster_or_for_another_node_reaches_a_shard() {
    let world = Shared::new(map(1, &[2]));
    let (two, address) = serve(&world, 1, options(), Vec::new()).await;
    let address = address.to_string();
    let foreign = Topology { cluster_id: b"another cluster!".to_vec(), ..topology(1, 1, &address) };
    let mut mistaken = topology(1, 1, &address);
    mistaken.nodes.insert(3, address);
    mistaken.shard_map = map(1, &[3]);
    for topology in [foreign, mistaken] {
        let one = Node::start(topology, options());
        let result = one.router.ingest(vec![item(&one.router, 3, 0)], within(400)).await;
        // The frame left before the other end refused: it isn't known here that nothing came of it.
        match result {
            Ok(summary) => assert_eq!(summary.results, [ItemResult::Unknown]),
            Err(error) => assert_eq!(error, Error::Unavailable { shard: 1 }),
        }
        assert_eq!(world.lock().calls, 0);
        one.end().await;
    }
    two.end().await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_breaks_nobody_elses_call() {
    let world = Shared::new(map(1, &[2]));
    let small = ExchangeOptions { message_bytes_max: 8 << 20, ..ExchangeOptions::default() };
    let (two, address) = serve(&world, 1, RouterOptions { exchange: small, ..options() }, Vec::new()).await;
    let id = [0; 16];
    world.lock().facets.insert(id, vec![1; 9 << 20].into());
    let one = Node::start(topology(1, 1, &address.to_string()), options());
    let large = [FacetId::from_bytes(id)];
    let empty = [FacetId::from_bytes([9; 16])];
    let (large, small) = tokio::join!(
        one.router.read_facets(&large, ReadLevel::Linearizable, within(5_000)),
        one.router.read_facets(&empty, ReadLevel::Linearizable, within(5_000)),
    );
    assert_eq!(large.unwrap_err().reason(), "INVALID_CALL");
    assert_eq!(small.unwrap().0, [isthmus_router::Facet::default()]);
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn a_call_that_is_too_large_is_refused_before_it_is_sent() {
    let world = Shared::new(map(1, &[2]));
    let (two, address) = serve(&world, 1, options(), Vec::new()).await;
    let exchange = ExchangeOptions { message_bytes_max: 8 << 20, ..ExchangeOptions::default() };
    let one = Node::start(topology(1, 1, &address.to_string()), RouterOptions { exchange, ..options() });
    let mut large = item(&one.router, 1, 0);
    let body = isthmus_proto::internal::v1::command_item::Body::Record(vec![0; 9 << 20].into());
    large.item.body = Some(body);
    let error = one.router.ingest(vec![large], within(5_000)).await.unwrap_err();
    assert_eq!(error.reason(), "INVALID_CALL");
    assert_eq!(world.lock().calls, 0);
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn a_link_that_is_full_says_so_at_once() {
    let world = Shared::new(map(1, &[2]));
    let (two, address) = serve(&world, 1, options(), vec![vec![Step::Hang; 10_000]]).await;
    let exchange =
        ExchangeOptions { message_bytes_max: 8 << 20, bytes_max: 8 << 20, ..ExchangeOptions::default() };
    let one_options =
        RouterOptions { exchange, overloads_max: 0, attempt_timeout: Duration::from_secs(60), ..options() };
    let one = Node::start(topology(1, 1, &address.to_string()), one_options);
    // Each takes a KiB of room at least, and nobody answers.
    let reads: FuturesUnordered<_> =
        (0..9_000_u128)
            .map(|n| {
                let (router, id) = (one.router.clone(), n.to_be_bytes());
                let deadline = within(600_000);
                async move {
                    router.read_facets(&[FacetId::from_bytes(id)], ReadLevel::Linearizable, deadline).await
                }
            })
            .collect();
    // The others wait, and would for ten minutes.
    let answered: Vec<_> = reads.take(9_000 - (8 << 10)).collect().await;
    assert!(answered.iter().all(|result| matches!(result, Err(Error::Overloaded { .. }))));
    one.end().await;
    two.end().await;
}

/// An answering side made for tests: it answers each frame with what the function makes of it.
struct Scripted<F>(Arc<F>);

#[tonic::async_trait]
impl<F> ShardService for Scripted<F>
where
    F: Fn(ExchangeRequest) -> Vec<ShardReply> + Send + Sync + 'static,
{
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<ExchangeResponse, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let answer = Arc::clone(&self.0);
        let frames = stream::unfold(request.into_inner(), |mut requests| async move {
            Some((requests.message().await.ok()??, requests))
        });
        let replies = frames.map(move |frame| Ok(ExchangeResponse { replies: answer(frame) }));
        Ok(Response::new(Box::pin(replies)))
    }
}

/// A node 1 whose node 2 is scripted.
async fn scripted(
    answer: impl Fn(ExchangeRequest) -> Vec<ShardReply> + Send + Sync + 'static,
) -> (Node, Node) {
    let two = Node::start(topology(2, 1, ""), options());
    let service = ShardServiceServer::new(Scripted(Arc::new(answer)));
    let address = listen(&two, service).await;
    (Node::start(topology(1, 1, &address.to_string()), options()), two)
}

fn accepted(call: u64, items: usize, stamp: u64) -> ShardReply {
    let reply = IngestReply { stamp, outcomes: vec![1; items].into(), ..IngestReply::default() };
    ShardReply { call, body: Some(shard_reply::Body::Ingest(reply)) }
}

async fn many(router: &Router, count: u16) -> Vec<Option<u64>> {
    let batches = (0..count).map(|n| {
        let items = vec![item(router, n, 0); usize::from(n % 3) + 1];
        async move {
            let summary = router.ingest(items, within(20_000)).await.unwrap();
            assert_eq!(summary.results.len(), usize::from(n % 3) + 1);
            summary.stamp.map(|stamp| stamp.0)
        }
    });
    join_all(batches).await
}

#[tokio::test]
async fn a_call_is_answered_once_whatever_the_other_end_sends() {
    let (one, two) = scripted(|frame| {
        let replies = frame.calls.into_iter().flat_map(|call| {
            let Some(shard_call::Body::Ingest(body)) = call.body else { panic!("only ingest is sent") };
            let right = accepted(call.call, body.items.len(), 7);
            // Repeated with another stamp, and one for a call that never was.
            let again = accepted(call.call, body.items.len(), 8);
            [right, again, accepted(call.call + 1_000_000, 1, 9)]
        });
        let mut replies: Vec<_> = replies.collect();
        // In any order, as long as the right one is first: the last call's replies come before the first's.
        replies.chunks_mut(3).for_each(|chunk| chunk.swap(1, 2));
        replies.sort_by_key(|reply| std::cmp::Reverse(reply.call % 1_000_000));
        replies
    })
    .await;
    let stamps = many(&one.router, 300).await;
    assert!(stamps.into_iter().all(|stamp| stamp == Some(7)));
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn what_waits_shares_a_frame() {
    let frames = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&frames);
    let (one, two) = scripted(move |frame| {
        counted.fetch_add(usize::from(!frame.calls.is_empty()), Ordering::Relaxed);
        let replies = frame.calls.into_iter().map(|call| {
            let Some(shard_call::Body::Ingest(body)) = call.body else { panic!("only ingest is sent") };
            accepted(call.call, body.items.len(), 1)
        });
        replies.collect()
    })
    .await;
    many(&one.router, 1_000).await;
    let frames = frames.load(Ordering::Relaxed);
    assert!((4..=40).contains(&frames), "{frames} frames for 1,000 calls that came together");
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn a_reply_without_content_is_an_unknown_outcome_and_asked_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let (one, two) = scripted(move |frame| {
        let replies = frame.calls.into_iter().map(|call| match counted.fetch_add(1, Ordering::Relaxed) {
            0 => ShardReply { call: call.call, body: None },
            _ => accepted(call.call, 1, 1),
        });
        replies.collect()
    })
    .await;
    let summary = one.router.ingest(vec![item(&one.router, 1, 0)], within(20_000)).await.unwrap();
    assert_eq!(summary.results, [ItemResult::Accepted]);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    one.end().await;
    two.end().await;
}
