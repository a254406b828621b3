//! The configuration rows of the table of bad input that show when a node starts: each ends the program with exit code
//! 78, names the key and where it was set, and nothing is left running. (The others are tests of `config`.)

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use isthmus_coordinator::FoundOptions;
use isthmus_node::{Node, NodeOptions, Origin};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

fn node(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus-node"));
    command.args(args).env_clear();
    command
}

/// Runs `serve` with a configuration file that must not start.
fn serve(dir: &Path, lines: &str) -> Output {
    let config = dir.join("isthmus.toml");
    std::fs::write(&config, lines).unwrap();
    node(&["serve", "--config", config.to_str().unwrap()]).output().unwrap()
}

fn lines(dir: &Path, more: &str) -> String {
    format!(
        "node_id = 1\ndata_dir = \"{}\"\ngrpc_listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\n\
         peer_listen = \"127.0.0.1:0\"\n{more}",
        dir.join("data").display()
    )
}

/// Exit code 78, and the file's line and the key in the complaint.
fn refused(output: &Output, line: usize, key: &str) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains(&format!("isthmus.toml:{line}: {key}: ")), "{text}");
    assert!(output.stdout.is_empty(), "nothing was started");
}

#[test]
fn settings_that_show_at_the_start_are_refused_with_key_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    refused(&serve(path, &lines(path, "bootstrap = true\nno_such_key = 1\n")), 7, "no_such_key");
    refused(&serve(path, &lines(path, "bootstrap = true\nreplicas = 2\n")), 7, "replicas");
    refused(&serve(path, &lines(path, "bootstrap = true\nreplicas = 0\n")), 7, "replicas");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let used = lines(path, "bootstrap = true\n").replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1);
    refused(&serve(path, &used), 3, "grpc_listen");

    let open = lines(path, "bootstrap = true\n").replacen("127.0.0.1:0", "0.0.0.0:0", 1);
    refused(&serve(path, &open), 3, "grpc_listen");

    let key = path.join("identity.key");
    std::fs::write(&key, [7; 32]).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = lines(path, &format!("bootstrap = true\nidentity_key_file = \"{}\"\n", key.display()));
    refused(&serve(path, &exposed), 7, "identity_key_file");

    std::fs::create_dir_all(path.join("data")).unwrap();
    let newer = "format_version = 99\n[parts]\nlog = 1\ncontrol = 1\nruns = 1\n";
    std::fs::write(path.join("data/format.toml"), newer).unwrap();
    refused(&serve(path, &lines(path, "bootstrap = true\n")), 2, "data_dir");
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    for args in [
        &["serve"][..],
        &["serve", "--no-such-flag"],
        &["serve", "--node-id", "one"],
        &["serve", "--bootstrap", "--join", "127.0.0.1:7402"],
        &["fly"],
        &[],
    ] {
        let output = node(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let version = node(&["--version"]).output().unwrap();
    assert!(
        version.status.success() && String::from_utf8_lossy(&version.stdout).contains(isthmus_node::VERSION)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_anothers_id_and_anothers_data_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let found =
        || Origin::Found(FoundOptions { shards: 2, replicas: 1, identity_key: None, dev_source: false });
    let options = |origin| NodeOptions::local(1, path.join("data"), origin);
    let never = CancellationToken::new();
    let first = Node::start(options(found()), &never).await.unwrap();
    first.ready(Instant::now() + Duration::from_secs(60)).await.unwrap();

    // Locked: this process uses it.
    refused(&serve(path, &lines(path, "bootstrap = true\n")), 2, "data_dir");

    // A second node 1 wants to join.
    let elsewhere = path.join("other");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let join = format!("join = [\"{}\"]\n", first.addresses().peer);
    refused(&serve(&elsewhere, &lines(&elsewhere, &join)), 1, "node_id");
    first.stop().await;

    // The directory of node 1, by node 2.
    let other_id = lines(path, "bootstrap = true\n").replacen("node_id = 1", "node_id = 2", 1);
    refused(&serve(path, &other_id), 1, "node_id");

    // Membership of one cluster beside data of another.
    let second = path.join("second");
    let options = NodeOptions::local(1, second.join("data"), found());
    Node::start(options, &never).await.unwrap().stop().await;
    for name in ["membership", "node.key", "view"] {
        std::fs::copy(path.join("data/cluster").join(name), second.join("data/cluster").join(name)).unwrap();
    }
    refused(&serve(&second, &lines(&second, "bootstrap = true\n")), 2, "data_dir");

    // Told neither to make a cluster nor to join one.
    let empty = path.join("empty");
    std::fs::create_dir_all(&empty).unwrap();
    let output = serve(&empty, &lines(&empty, ""));
    assert_eq!(output.status.code(), Some(78));
}
