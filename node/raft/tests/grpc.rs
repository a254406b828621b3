//! The real transport on loopback: replication, snapshots on a connection of their own, and what is refused.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test with helpers, and tasks that end with it"
)]

mod support;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures::stream;
use isthmus_proto::internal::v1::{
    GroupMessage, PeerHello, RaftStreamRequest, SendRequest, SnapshotChunk, SnapshotFile, SnapshotHeader,
    raft_service_client::RaftServiceClient, send_request::Part,
    snapshot_service_client::SnapshotServiceClient,
};
use isthmus_raft::{
    MembershipChange, PeerId, Start,
    transport::grpc::{GrpcOptions, GrpcTransport},
};
use isthmus_storage::log::MemoryLog;
use support::{GROUP, Nodes, deadline, peer, wait};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_128;

const CLUSTER: &[u8] = b"0123456789abcdef";

struct Host {
    transport: Arc<GrpcTransport>,
    address: SocketAddr,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl Host {
    async fn start(node: u32, at: Option<SocketAddr>) -> Self {
        let transport = GrpcTransport::new(GrpcOptions::new(Bytes::from_static(CLUSTER), node));
        let listener = TcpListener::bind(at.unwrap_or(([127, 0, 0, 1], 0).into())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tonic::transport::Server::builder()
            .add_service(transport.raft_service())
            .add_service(transport.snapshot_service())
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { transport, address, stop, server }
    }

    async fn stop(self) {
        self.transport.stop().await;
        self.stop.cancel();
        self.server.await.unwrap();
    }
}

async fn hosts(nodes: &[u32]) -> Vec<Host> {
    let hosts = futures::future::join_all(nodes.iter().map(|node| Host::start(*node, None))).await;
    for (node, host) in nodes.iter().zip(&hosts) {
        for (other, there) in nodes.iter().zip(&hosts).filter(|(other, _)| *other != node) {
            host.transport.set_peer(*other, format!("http://{}", there.address)).unwrap();
        }
    }
    hosts
}

/// Members of a cluster whose transports are `hosts`.
async fn members(nodes: &mut Nodes, hosts: &[Host], first: &[u32]) {
    let voters: Vec<PeerId> = first.iter().map(|node| peer(*node)).collect();
    for (node, host) in (1..).zip(hosts) {
        let start = if first.contains(&node) { Start::Bootstrap(voters.clone()) } else { Start::Join };
        nodes.prepare(node, Arc::new(MemoryLog::new()), None);
        nodes.start_on(node, start, host.transport.clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_replicate_and_feed_a_fourth_by_snapshot_over_grpc() {
    let hosts = hosts(&[1, 2, 3, 4]).await;
    let mut nodes = Nodes::new(1);
    nodes.save_every = 20;
    nodes.tune = |options| {
        options.log_keep_bytes = 0;
        options.compact_entries_min = 10;
    };
    members(&mut nodes, &hosts, &[1, 2, 3]).await;
    for number in 1..=200 {
        assert_eq!(nodes.propose(&format!("c{number}:1")).await, Ok(number));
    }
    let leading = nodes.members[&nodes.leader().await].handle();
    wait("the log to be cut", || (leading.view().compacted > 50).then_some(())).await;
    let add = MembershipChange { add_learners: vec![peer(4)], ..Default::default() };
    leading.change_membership(add, deadline()).await.unwrap();
    assert_eq!(nodes.converged().await.sum, 200);
    assert_eq!(nodes.members[&4].disk.lock().snapshots_installed, 1);
    for member in nodes.members.values() {
        assert!(member.handle().read_index(deadline()).await.is_ok());
    }
    nodes.stop().await;
    for host in hosts {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_comes_back() {
    let mut hosts = hosts(&[1, 2, 3]).await;
    let mut nodes = Nodes::new(2);
    members(&mut nodes, &hosts, &[1, 2, 3]).await;
    nodes.propose("a:1").await.unwrap();
    let third = hosts.pop().unwrap();
    let address = third.address;
    let member = nodes.members.get_mut(&3).unwrap();
    member.handle = None;
    member.raft.take().unwrap().stop().await;
    third.stop().await;
    wait("the break to be noticed", || (!hosts[0].transport.is_connected(3)).then_some(())).await;
    nodes.propose("b:1").await.unwrap();
    let third = Host::start(3, Some(address)).await;
    for (node, host) in (1..).zip(&hosts) {
        third.transport.set_peer(node, format!("http://{}", host.address)).unwrap();
    }
    nodes.start_on(3, Start::Join, third.transport.clone()).await;
    assert_eq!(nodes.propose("c:1").await, Ok(3));
    assert_eq!(nodes.converged().await.sum, 3);
    nodes.stop().await;
    hosts.push(third);
    for host in hosts {
        host.stop().await;
    }
}

fn hello(cluster: &'static [u8], from_node: u32, to_node: u32) -> Option<PeerHello> {
    Some(PeerHello { cluster_id: Bytes::from_static(cluster), from_node, to_node, shard_map_version: 0 })
}

/// A vote request that would raise the term if it were stepped.
fn disruptive(from: PeerId, to: PeerId) -> GroupMessage {
    use protobuf::Message as _;
    let mut message = raft::eraftpb::Message { from: from.0, to: to.0, term: 1000, ..Default::default() };
    message.set_msg_type(raft::eraftpb::MessageType::MsgAppend);
    let bytes = message.write_to_bytes().unwrap();
    GroupMessage { group: GROUP, from_peer: from.0, to_peer: to.0, message: bytes.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_from_elsewhere_never_reaches_a_group() {
    let hosts = hosts(&[1]).await;
    let mut nodes = Nodes::new(3);
    members(&mut nodes, &hosts, &[1]).await;
    nodes.propose("a:1").await.unwrap();
    let uri = format!("http://{}", hosts[0].address);
    let mut client = RaftServiceClient::connect(uri).await.unwrap();
    let refused = [
        hello(b"another cluster!", 2, 1),
        hello(CLUSTER, 2, 7),
        hello(CLUSTER, 1, 1),
        hello(CLUSTER, 0, 1),
        None,
    ];
    for hello in refused {
        let frame = RaftStreamRequest { hello, messages: vec![disruptive(peer(2), peer(1))] };
        let mut answers = client.stream(stream::iter([frame])).await.unwrap().into_inner();
        let status = answers.message().await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    }
    // The right cluster, and wrong envelopes: another generation, another group, another node's name; bytes that are
    // no message; a message that says something else than its envelope.
    let mut garbled = disruptive(peer(2), peer(1));
    garbled.message = Bytes::from_static(b"\xff\xff\xff");
    let mut posing = disruptive(peer(2), peer(1));
    posing.message = disruptive(peer(9), peer(1)).message;
    let mut elsewhere = disruptive(peer(2), peer(1));
    elsewhere.group = GROUP + 1;
    let wrong = vec![
        disruptive(peer(2), PeerId::new(1, 2)),
        disruptive(peer(3), peer(1)),
        elsewhere,
        garbled,
        posing,
    ];
    let frame = RaftStreamRequest { hello: hello(CLUSTER, 2, 1), messages: wrong };
    let mut answers = client.stream(stream::iter([frame])).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_none());
    let handle = nodes.members[&1].handle();
    // Whatever was delivered is stepped before this is answered.
    assert_eq!(nodes.propose("b:1").await, Ok(2));
    assert!(handle.view().term < 1000);
    // The same message in the right envelope is stepped: the check above sees what it is there for.
    let frame =
        RaftStreamRequest { hello: hello(CLUSTER, 2, 1), messages: vec![disruptive(peer(2), peer(1))] };
    let mut answers = client.stream(stream::iter([frame])).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_none());
    wait("the message to be stepped", || (handle.view().term >= 1000).then_some(())).await;
    nodes.stop().await;
    for host in hosts {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_not_what_its_header_says_is_refused_and_leaves_nothing() {
    let hosts = hosts(&[1]).await;
    let mut nodes = Nodes::new(4);
    members(&mut nodes, &hosts, &[1]).await;
    nodes.propose("a:1").await.unwrap();
    let staging = nodes.options(1).staging_dir;
    let mut client = SnapshotServiceClient::connect(format!("http://{}", hosts[0].address)).await.unwrap();
    let file = |name: &str, data: &[u8]| SnapshotFile {
        name: name.to_owned(),
        length_bytes: data.len() as u64,
        xxh3: Bytes::copy_from_slice(&xxh3_128(data).to_be_bytes()),
    };
    let header = |files: Vec<SnapshotFile>| SnapshotHeader {
        hello: hello(CLUSTER, 2, 1),
        group: GROUP,
        from_peer: peer(2).0,
        to_peer: peer(1).0,
        snapshot_id: 1,
        message: disruptive(peer(2), peer(1)).message,
        files,
    };
    let chunk = |file: u32, offset: u64, data: &'static [u8]| {
        Part::Chunk(SnapshotChunk { file, offset, data: Bytes::from_static(data) })
    };
    let whole = || header(vec![file("a", b"hello"), file("b", b"")]);
    let stranger = SnapshotHeader { hello: hello(b"another cluster!", 2, 1), ..whole() };
    let replaced = SnapshotHeader { to_peer: PeerId::new(1, 9).0, ..whole() };
    let cases: Vec<(&str, Vec<Part>)> = vec![
        ("a chunk without a header", vec![chunk(0, 0, b"hello")]),
        ("a flipped byte", vec![Part::Header(whole()), chunk(0, 0, b"jello")]),
        ("a cut stream", vec![Part::Header(whole()), chunk(0, 0, b"hel")]),
        ("a hole", vec![Part::Header(whole()), chunk(0, 1, b"ello")]),
        ("more than was announced", vec![Part::Header(whole()), chunk(0, 0, b"hello, world")]),
        ("a file that isn't there", vec![Part::Header(whole()), chunk(0, 0, b"hello"), chunk(7, 0, b"x")]),
        ("two headers", vec![Part::Header(whole()), Part::Header(whole())]),
        ("a way out of the directory", vec![Part::Header(header(vec![file("../a", b"")]))]),
        ("a hidden file", vec![Part::Header(header(vec![file(".a", b"")]))]),
        ("a file twice", vec![Part::Header(header(vec![file("a", b""), file("a", b"")]))]),
        ("another cluster", vec![Part::Header(stranger)]),
        ("another generation", vec![Part::Header(replaced)]),
    ];
    for (case, parts) in cases {
        let parts: Vec<SendRequest> =
            parts.into_iter().map(|part| SendRequest { part: Some(part) }).collect();
        let answer = client.send(stream::iter(parts)).await;
        assert!(answer.is_err(), "{case}");
        assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0, "{case} left something behind");
    }
    // Whole, but announced by a message that is no snapshot: taken, found useless, and removed.
    let parts = [Part::Header(whole()), chunk(0, 0, b"hel"), chunk(0, 3, b"lo")];
    let answer = client.send(stream::iter(parts.map(|part| SendRequest { part: Some(part) }))).await.unwrap();
    assert_eq!(answer.into_inner().received_bytes, 5);
    wait("the useless snapshot to go", || (std::fs::read_dir(&staging).unwrap().count() == 0).then_some(()))
        .await;
    assert_eq!(nodes.propose("b:1").await, Ok(2));
    nodes.stop().await;
    for host in hosts {
        host.stop().await;
    }
}
