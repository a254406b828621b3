//! Every configuration row of the table of bad input that shows without starting a node; the others are in
//! `serve`'s tests.

use std::io::Write as _;

use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn none() -> [(String, String); 0] {
    []
}

fn refused(text: &str) -> (String, String) {
    let file = file(text);
    let args = ServeArgs { config: Some(file.path().to_owned()), ..ServeArgs::default() };
    let error = load(&args, none()).expect_err(text);
    assert_eq!(format!("{:?}", error.exit_code()), format!("{:?}", std::process::ExitCode::from(78)));
    let Error::Located { place, key, .. } = error else { panic!("{text}: {error}") };
    (place.strip_prefix(&format!("{}", file.path().display())).unwrap_or(&place).to_owned(), key)
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_key_and_line() {
    for (text, line, key) in [
        ("node_id = 1\nnodeid = 2\n", ":2", "nodeid"),
        ("[raft]\ntick = \"50ms\"\ntock = 1\n", ":3", "raft.tock"),
        ("\n[rafts]\ntick = \"50ms\"\n", ":2", "rafts"),
        ("shards = 8\nreplicas = 2\n", ":2", "replicas"),
        ("replicas = 0\n", ":1", "replicas"),
        ("replicas = 11\n", ":1", "replicas"),
        ("shards = 0\n", ":1", "shards"),
        ("shards = 4097\n", ":1", "shards"),
        ("shards = \"many\"\n", ":1", "shards"),
        ("node_id = 0\n", ":1", "node_id"),
        ("node_id = -1\n", ":1", "node_id"),
        ("bootstrap = true\njoin = [\"a:1\"]\n", ":1", "bootstrap"),
        ("join = [\"a\"]\n", ":1", "join"),
        ("join = \"a:1,b:0\"\n", ":1", "join"),
        ("advertise_host = \"\"\n", ":1", "advertise_host"),
        ("log_level = \"a=loud\"\n", ":1", "log_level"),
        ("[storage]\nrun_cache = \"64MB\"\n", ":2", "storage.run_cache"),
        ("[storage]\n\nmemtables = 0\n", ":3", "storage.memtables"),
        ("[raft]\ntick = \"1ms\"\n", ":2", "raft.tick"),
        ("[raft]\ntick = 50\n", ":2", "raft.tick"),
        ("raft.election_ticks = 3\n", ":1", "raft.election_ticks"),
        ("[grpc]\ndeadline = \"1h\"\n", ":2", "grpc.deadline"),
        ("[traces]\nsample = 1.5\n", ":2", "traces.sample"),
        ("[traces]\nsample = nan\n", ":2", "traces.sample"),
        ("[traces]\nendpoint = \"collector:4317\"\n", ":2", "traces.endpoint"),
        ("[traces]\nendpoint = \"https://collector:4317\"\n", ":2", "traces.endpoint"),
        ("node_id = 1\nnode_id = 2\n", ":2", "config"),
        ("shards = \n", ":1", "config"),
    ] {
        assert_eq!(refused(text), (line.to_owned(), key.to_owned()), "{text}");
    }
}

#[test]
fn the_command_line_counts_before_the_environment_and_that_before_the_file() {
    let file = file("node_id = 1\nshards = 2\nreplicas = 1\n[raft]\ntick = \"20ms\"\n");
    let args = ServeArgs { config: Some(file.path().to_owned()), node_id: Some(3), ..ServeArgs::default() };
    let env = [("ISTHMUS_NODE_ID", "2"), ("ISTHMUS_SHARDS", "4"), ("ISTHMUS_RAFT__TICK", "30ms")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = load(&args, env).unwrap().config;
    assert_eq!((config.node_id, config.shards, config.replicas), (Some(3), 4, 1));
    assert_eq!(config.raft.tick, std::time::Duration::from_millis(30));
    assert_eq!(config.raft.election_ticks, 10);
}

#[test]
fn what_is_wrong_elsewhere_is_named_by_option_or_variable() {
    let args = ServeArgs { replicas: Some(2), ..ServeArgs::default() };
    assert_eq!(
        load(&args, none()).unwrap_err().to_string().split(": must").next(),
        Some("--replicas: replicas")
    );
    for (name, value, key) in [
        ("ISTHMUS_REPLICAS", "4", "replicas"),
        ("ISTHMUS_REPLICA", "3", "replica"),
        ("ISTHMUS_STORAGE__RUN_CASH", "1GiB", "storage.run_cash"),
    ] {
        let error = load(&ServeArgs::default(), [(name.to_owned(), value.to_owned())]).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{name}: {key}: ")), "{error}");
    }
}

#[test]
fn variables_that_are_not_settings_are_left_alone() {
    let names = [
        "ISTHMUS_LOG",
        "ISTHMUS_ENDPOINT",
        "ISTHMUS_SERVICE_HOST",
        "ISTHMUS_PORT",
        "ISTHMUS_PORT_7400_TCP",
        "ISTHMUS_PEERS_SERVICE_PORT_GRPC",
        "ISTHMUS_PEERS_PORT_7402_TCP_ADDR",
        "ISTHMUS_TEST_SEED",
        "HOME",
    ];
    let env = names.map(|name| (name.to_owned(), "tcp://10.0.0.1:7400".to_owned()));
    load(&ServeArgs::default(), env).unwrap();
}

#[test]
fn a_list_of_peers_may_come_from_the_environment() {
    let env = [("ISTHMUS_JOIN".to_owned(), "a:1, b:2".to_owned())];
    assert_eq!(load(&ServeArgs::default(), env).unwrap().config.join, ["a:1", "b:2"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let args = ServeArgs { config: Some("/no/such/isthmus.toml".into()), ..ServeArgs::default() };
    let error = load(&args, none()).unwrap_err().to_string();
    assert!(error.starts_with("/no/such/isthmus.toml: config: the file can't be read"), "{error}");
}

#[test]
fn a_variable_that_is_nested_without_end_is_a_key_that_nobody_knows() {
    // Each part of a name was a call within a call: a name this long ended the process.
    let name = format!("ISTHMUS_{}", "A__".repeat(40_000));
    let error = load(&ServeArgs::default(), [(name, "1".to_owned())]).expect_err("taken");
    let Error::Located { key, problem, .. } = error else { panic!("{error}") };
    assert!(key.starts_with('a') && problem.contains("there is no such key"), "{problem}");
}
