//! The commands that run a cluster in one process, and what programs say of themselves.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use std::{fs, net::SocketAddr, path::Path};

use isthmus_proto::v1::{
    IngestRequest, ItemOutcome, NodesRequest, StatusRequest, cluster_service_client::ClusterServiceClient,
    ingest_service_client::IngestServiceClient,
};
use isthmus_tests::{
    ask,
    cluster::channel,
    look,
    program::{self, Program, free_port},
};
use tonic::Code;

const NODE: &str = env!("CARGO_BIN_EXE_node-under-test");
const CLI: &str = env!("CARGO_BIN_EXE_cli-under-test");

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

async fn send(port: u16, key: &str, message: &str) -> Result<ItemOutcome, tonic::Status> {
    let items = vec![ask::json(ask::seen("dev", message))];
    let request = IngestRequest { items, write_key: key.to_owned(), ..IngestRequest::default() };
    let answer = IngestServiceClient::new(channel(at(port))).ingest(request).await?;
    Ok(answer.into_inner().results[0].outcome())
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_runs_a_whole_cluster_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let port = free_port(3, 10);
    let arguments = ["dev", "--nodes", "3", "--port", &port.to_string(), "--shards", "4"];
    let mut dev = Program::start(NODE, &arguments, &[("TMPDIR", temporary.path().to_str().unwrap())]);
    let ready = dev.line_with("ready");
    assert!(ready.contains(&format!("connect to http://127.0.0.1:{port} ")), "{ready}");
    assert!(ready.contains("dev-write-key"), "{ready}");
    let told = dev.line_with("removed at the end");
    assert!(told.contains(temporary.path().to_str().unwrap()), "it doesn't say where the data is: {told}");

    // All is there by the time that it says so, at once.
    let mut client = ClusterServiceClient::new(channel(at(port)));
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.nodes, status.replicas, status.shards), (3, 3, 4));
    let nodes = client.nodes(NodesRequest {}).await.unwrap().into_inner().nodes;
    for (node, first) in nodes.iter().zip([port, port + 10, port + 20]) {
        let addresses = [&node.grpc_address, &node.http_address, &node.peer_address];
        assert_eq!(addresses, [first, first + 1, first + 2].map(|port| at(port).to_string()).each_ref());
        assert_eq!(ask::http(at(first + 1), "/healthz").0, 200);
        ask::ready(at(first + 1)).await;
        assert!(ask::http(at(first + 1), "/metrics").1.contains("isthmus_shard_replicas 4"));
    }
    assert_eq!(send(port, "dev-write-key", "dev-1").await.unwrap(), ItemOutcome::Accepted);
    assert_eq!(send(port + 10, "dev-write-key", "dev-1").await.unwrap(), ItemOutcome::Duplicate);
    assert_eq!(send(port + 20, "wrong-key", "dev-2").await.unwrap_err().code(), Code::Unauthenticated);
    let profile = ask::profile(&channel(at(port + 20)), "user_id", "dev").await.unwrap();
    assert_eq!(profile.sources, ["dev"]);
    look::replicas_agree(channel(at(port + 10)), 3).await;

    dev.terminate();
    let ended = dev.end();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(entries(temporary.path()), Vec::<String>::new(), "it left something behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_with_a_data_dir_keeps_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // The same ports again: nodes find each other where they were.
    let port = free_port(3, 10);
    for round in 1..=2 {
        let (port_text, data_text) = (port.to_string(), data.display().to_string());
        let arguments =
            ["dev", "--nodes", "3", "--port", &port_text, "--shards", "4", "--data-dir", &data_text];
        let mut dev = Program::start(NODE, &arguments, &[]);
        dev.line_with("ready");
        let told = dev.line_with(&data_text);
        assert!(!told.contains("removed"), "{told}");
        assert_eq!(
            send(port + 10, "dev-write-key", &format!("round-{round}")).await.unwrap(),
            ItemOutcome::Accepted
        );
        let profile = ask::profile(&channel(at(port + 20)), "user_id", "dev").await.unwrap();
        assert_eq!(profile.event_counts["Seen"], round);
        assert_eq!(entries(&data), ["node-1", "node-2", "node-3"]);
        dev.terminate();
        assert_eq!(dev.end().code, 0);
    }
}

/// One node may move, for it is its own majority; several can't all at once, and are told so before they try.
#[test]
fn dev_on_another_port_than_its_data_was_made_on_works_alone_and_is_refused_for_several() {
    let folder = tempfile::tempdir().unwrap();
    for (nodes, moves) in [(1, true), (3, false)] {
        let (data, nodes) = (folder.path().join(nodes.to_string()).display().to_string(), nodes.to_string());
        let arguments = |port: u16| {
            let port = port.to_string();
            ["dev", "--nodes", &nodes, "--port", &port, "--shards", "2", "--data-dir", &data]
                .map(str::to_owned)
        };
        let run = |port: u16| {
            let mut dev = Program::start(NODE, &arguments(port).each_ref().map(String::as_str), &[]);
            dev.line_with("ready");
            dev.terminate();
            assert_eq!(dev.end().code, 0);
        };
        let first = free_port(3, 10);
        run(first);
        let other = std::iter::repeat_with(|| free_port(3, 10)).find(|port| *port != first).unwrap();
        for port in [other, 0] {
            if moves {
                run(port);
                continue;
            }
            let refused = program::run(NODE, &arguments(port).each_ref().map(String::as_str), &[]);
            assert_eq!((refused.code, refused.out.as_str()), (78, ""), "{}", refused.err);
            for named in [format!("--port {first}"), format!("not {port}"), data.clone()] {
                assert!(refused.err.contains(&named), "`{named}` is missing: {}", refused.err);
            }
        }
        if !moves {
            run(first);
        }
    }
}

#[test]
fn dev_says_what_is_wrong_with_its_options() {
    let taken = std::net::TcpListener::bind(at(0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (arguments, code, told) in [
        (&["dev", "--nodes", "0"][..], 2, "--nodes"),
        (&["dev", "--nodes", "many"], 2, "--nodes"),
        (&["dev", "--replicas", "2", "--port", "0"], 78, "--replicas"),
        (&["dev", "--replicas", "3", "--port", "0"], 78, "--replicas"),
        (&["dev", "--shards", "0", "--port", "0"], 78, "--shards"),
        (&["dev", "--port", &port], 78, "--port"),
        (&["dev", "--nodes", "9", "--port", "65500"], 78, "--port"),
    ] {
        let ended = program::run(NODE, arguments, &[]);
        assert_eq!((ended.code, ended.out.as_str()), (code, ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(told), "{arguments:?}: {}", ended.err);
    }
}

#[test]
fn versions_name_the_release_and_the_commit() {
    for (program, name) in [(NODE, "isthmus-node"), (CLI, "isthmus")] {
        let ended = program::run(program, &["--version"], &[]);
        assert_eq!(ended.code, 0);
        let rest = ended.out.trim().strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')).unwrap();
        let (version, commit) = rest.split_once(' ').unwrap();
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
        let commit = commit.trim_start_matches('(').trim_end_matches(')');
        let hash = commit.len() >= 7 && commit.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(hash || commit == "unknown", "{}", ended.out);
    }
}

#[test]
fn the_demo_finds_what_is_known_to_be_true() {
    let temporary = tempfile::tempdir().unwrap();
    let environment = [("TMPDIR", temporary.path().to_str().unwrap())];
    let ended = program::run(NODE, &["demo"], &environment);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    for (name, total) in [("customers", "2357"), ("purchases", "6919"), ("revenue", "244091.94")] {
        let line = ended.out.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        // Found and known.
        assert_eq!(line.matches(total).count(), 2, "{line}");
    }
    assert!(!ended.out.contains("DIFFERENT"), "{}", ended.out);
    for part in ["Customer 1901", "Order Completed: 56", "6552.70", "isthmus"] {
        assert!(ended.out.contains(part), "`{part}` is missing in:\n{}", ended.out);
    }
    assert_eq!(entries(temporary.path()), Vec::<String>::new(), "it left something behind");
}
