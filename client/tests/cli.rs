//! The binary's reads and administration against a scripted node: outputs and exit codes.

mod common;
#[path = "common/run.rs"]
mod run;

use std::io::{BufRead as _, BufReader};

use common::{Fake, Step, dead_endpoint, refusal};
use isthmus_client::proto::{self, EventType, value::Kind};
use run::{command, run};
use tonic::Code;

fn identifier(namespace: &str, value: &str) -> proto::Identifier {
    proto::Identifier { namespace: namespace.into(), value: value.into() }
}

fn profile() -> proto::Profile {
    proto::Profile {
        profile_id: "00112233445566778899aabbccddeeff".into(),
        identifiers: vec![identifier("email", "a@b.de"), identifier("user_id", "42")],
        traits: [
            ("big".to_owned(), proto::Value { kind: Some(Kind::UintValue(u64::MAX)) }),
            ("name".to_owned(), proto::Value { kind: Some(Kind::StringValue("\u{1b}[2JAnn".into())) }),
        ]
        .into(),
        event_counts: [("Order Completed".to_owned(), 3)].into(),
        revenue: "44.02".into(),
        revenue_by_currency: [("USD".to_owned(), "44.02".to_owned())].into(),
        first_seen: Some(prost_types::Timestamp { seconds: 852_076_800, nanos: 0 }),
        last_seen: Some(prost_types::Timestamp { seconds: 852_076_800, nanos: 500_000 }),
        sources: vec!["de\u{1b}[2Jfault".into()],
        version: "000000000000001f".into(),
        type_counts: Default::default(),
        rules_version: None,
        segments: None,
    }
}

fn status(healthy: bool) -> proto::StatusResponse {
    let problems = if healthy { vec![] } else { vec!["shard 17 has no leader".to_owned()] };
    proto::StatusResponse {
        healthy,
        problems,
        nodes: 3,
        nodes_alive: 2,
        metadata_leader: 1,
        ..Default::default()
    }
}

/// Runs against a fake, with JSON output.
fn json(fake: &Fake, args: &[&str]) -> run::Run {
    let endpoint = fake.endpoint();
    let mut all = vec!["--endpoint", &endpoint, "--output", "json"];
    all.extend(args);
    run(&all)
}

#[test]
fn a_profile_is_printed_as_one_object() {
    let fake = Fake::start();
    fake.state().profiles = vec![profile()];
    let printed = json(&fake, &["profile", "get", "user_id:42"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert_eq!(
        printed.stdout,
        concat!(
            r#"{"profile_id":"00112233445566778899aabbccddeeff","identifiers":[{"namespace":"email","value":"a@b.de"},"#,
            r#"{"namespace":"user_id","value":"42"}],"traits":{"big":18446744073709551615,"name":"\u001b[2JAnn"},"#,
            r#""event_counts":{"Order Completed":3},"revenue":"44.02","revenue_by_currency":{"USD":"44.02"},"#,
            r#""first_seen":"1997-01-01T00:00:00Z","last_seen":"1997-01-01T00:00:00.0005Z","sources":["de\u001b[2Jfault"],"#,
            r#""version":"000000000000001f","type_counts":{}}"#,
            "\n"
        )
    );
    let endpoint = fake.endpoint();
    let table = run(&["profile", "get", "user_id:42", "--endpoint", &endpoint]);
    assert!(table.stdout.contains("3 Order Completed"), "{}", table.stdout);
    assert!(!table.stdout.contains('\u{1b}'), "what customers say must not control the terminal");
    let names = |table: &str| -> Vec<String> {
        table.lines().map(|line| line.split("  ").find(|part| !part.is_empty()).unwrap().to_owned()).collect()
    };
    let facts =
        ["profile", "identifiers", "events", "revenue", "by currency", "first seen", "last seen", "sources"];
    let all = [&facts[..], &["version", "traits", "big", "name"]].concat();
    assert_eq!(names(&table.stdout), all, "no row for what there is none of: {}", table.stdout);
    fake.state().profiles[0].type_counts = [("page".to_owned(), 2)].into();
    let table = run(&["profile", "get", "user_id:42", "--endpoint", &endpoint]);
    assert!(names(&table.stdout).contains(&"other".to_owned()), "{}", table.stdout);
}

#[test]
fn a_customer_that_is_not_known_exits_with_one_and_is_not_repeated() {
    let fake = Fake::start();
    let run = json(&fake, &["profile", "get", "email:secret@b.de"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("NOT_FOUND") && !run.stderr.contains("secret"), "{}", run.stderr);
}

#[test]
fn timelines_and_lists_are_printed_as_json_lines() {
    let fake = Fake::start();
    let event = |n: i64| proto::TimelineEvent {
        r#type: EventType::Track.into(),
        message_id: format!("m{n}"),
        source: "default".into(),
        name: "Order Completed".into(),
        timestamp: Some(prost_types::Timestamp { seconds: n, nanos: 0 }),
        received_at: Some(prost_types::Timestamp { seconds: n, nanos: 0 }),
        primary: Some(identifier("user_id", "42")),
        properties_json: r#"{"revenue":29.330}"#.into(),
        context_json: "{}".into(),
        notes: Vec::new(),
    };
    {
        let mut state = fake.state();
        state.events = (0..1_500).rev().map(event).collect();
        state.profiles = vec![profile(); 1_200];
    }
    let all = json(&fake, &["profile", "timeline", "user_id:42"]);
    assert_eq!(all.objects().len(), 1_500);
    let first = all.stdout.lines().next().expect("a line");
    assert_eq!(
        first,
        concat!(
            r#"{"type":"track","message_id":"m1499","source":"default","event":"Order Completed","#,
            r#""timestamp":"1970-01-01T00:24:59Z","received_at":"1970-01-01T00:24:59Z","#,
            r#""identifier":{"namespace":"user_id","value":"42"},"properties":{"revenue":29.330},"context":{}}"#
        )
    );
    assert_eq!(json(&fake, &["profile", "timeline", "user_id:42", "--limit", "7"]).objects().len(), 7);
    assert_eq!(json(&fake, &["profile", "list"]).objects().len(), 1_200);
    let table = run(&["profile", "list", "--endpoint", &fake.endpoint()]);
    assert_eq!(table.stdout.lines().count(), 51, "{}", table.stdout);
    assert!(table.stderr.contains("--limit"));
}

#[test]
fn an_output_that_nobody_reads_ends_quietly() {
    let fake = Fake::start();
    fake.state().profiles = vec![profile(); 20_000];
    let endpoint = fake.endpoint();
    let mut child =
        command(&["profile", "list", "-o", "json", "--endpoint", &endpoint]).spawn().expect("runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let run = run::Run::from(child.wait_with_output().expect("ends"));
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}

#[test]
fn the_status_exits_with_zero_only_when_all_is_well() {
    let fake = Fake::start();
    fake.state().status = [status(false)].into();
    let run = json(&fake, &["cluster", "status"]);
    assert_eq!(run.code, Some(1));
    assert_eq!(run.object()["problems"][0], "shard 17 has no leader");
    fake.state().status = [status(false), status(false), status(true)].into();
    fake.script([Step::Fail(refusal(Code::Unavailable, "NO_LEADER", "an election is under way"))]);
    let run = json(&fake, &["cluster", "status", "--wait", "60s"]);
    assert_eq!((run.code, run.object()["healthy"].as_bool()), (Some(0), Some(true)));
    fake.state().status = [status(false)].into();
    assert_eq!(json(&fake, &["cluster", "status", "--wait", "600ms"]).code, Some(1));
}

#[test]
fn shards_and_nodes_are_printed_with_their_keys() {
    let fake = Fake::start();
    {
        let mut state = fake.state();
        state.nodes = vec![proto::Node { node_id: 2, state: 2, alive: true, ..Default::default() }];
        state.replicas = vec![proto::Replica {
            shard: 16,
            node: 2,
            role: 1,
            term: 3,
            applied_index: u64::MAX,
            state_hash: "ab".into(),
            state_hash_index: 9,
            slots: "0-1023".into(),
        }];
    }
    assert_eq!(
        json(&fake, &["cluster", "shards"]).stdout,
        concat!(
            r#"{"shard":16,"node":2,"role":"leader","term":3,"applied_index":18446744073709551615,"#,
            r#""state_hash":"ab","state_hash_index":9,"slots":"0-1023"}"#,
            "\n"
        )
    );
    let node = json(&fake, &["cluster", "nodes"]).object();
    assert_eq!((&node["node_id"], &node["state"]), (&2.into(), &"leaving".into()));
}

#[test]
fn leadership_moves_and_nodes_go() {
    let fake = Fake::start();
    let node = |node_id| proto::Node { node_id, ..Default::default() };
    fake.state().nodes = vec![node(1), node(3), node(4)];
    let moved = json(&fake, &["cluster", "transfer", "--shard", "17", "--to-node", "2"]).object();
    assert_eq!(moved, serde_json::json!({ "shard": 17, "leader": 2 }));
    assert_eq!(json(&fake, &["cluster", "remove", "3"]).object()["replicas_left"], 7);
    let gone = json(&fake, &["cluster", "remove", "--node", "4", "--wait", "60s"]);
    assert_eq!((gone.code, gone.object()["gone"].as_bool()), (Some(0), Some(true)));
    fake.script([Step::Fail(refusal(
        Code::FailedPrecondition,
        "QUORUM_AT_RISK",
        "two nodes can't hold three",
    ))]);
    let refused = json(&fake, &["cluster", "remove", "1"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(
        refused.stderr.contains("QUORUM_AT_RISK") && refused.stderr.contains("add a node"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_source_is_made_with_its_key_shown_once() {
    let fake = Fake::start();
    let made = json(&fake, &["source", "create", "shop"]);
    assert_eq!(made.stdout, "{\"name\":\"shop\",\"write_key\":\"k1-secret\"}\n");
    assert_eq!(json(&fake, &["source", "create", "shop"]).code, Some(1));
    let listed = json(&fake, &["source", "list"]);
    assert_eq!(listed.object()["key_prefix"], "k1");
    assert!(!listed.stdout.contains("secret"));
    assert_eq!(json(&fake, &["source", "rotate", "shop"]).object()["write_key"], "k2-secret");
    assert_eq!(json(&fake, &["source", "disable", "shop"]).object()["disabled"], true);
}

#[test]
fn the_quarantine_is_listed_and_shown() {
    let fake = Fake::start();
    let entry = |id: &str, content: &'static [u8]| proto::QuarantineEntry {
        id: id.into(),
        reason: "MALFORMED".into(),
        origin: "orders.csv:17".into(),
        content: content.into(),
        ..Default::default()
    };
    fake.state().entries = vec![entry("a1", b"{\"x\":"), entry("a2", b"\xff")];
    assert_eq!(json(&fake, &["quarantine", "list"]).objects()[0]["origin"], "orders.csv:17");
    assert_eq!(json(&fake, &["quarantine", "show", "a1"]).object()["content"], "{\"x\":");
    assert_eq!(json(&fake, &["quarantine", "show", "a2"]).object()["content_hex"], "ff");
    assert_eq!(json(&fake, &["quarantine", "show", "a3"]).code, Some(1));
    let table = run(&["quarantine", "list", "--endpoint", &fake.endpoint(), "--limit", "1"]);
    assert_eq!(table.stdout.lines().count(), 2, "{}", table.stdout);
    assert!(table.stderr.contains("there are more"));
}

#[test]
fn endpoints_may_stand_anywhere_and_dead_ones_are_skipped() {
    let fake = Fake::start();
    fake.state().status = [status(true)].into();
    let (dead, alive) = (dead_endpoint(), fake.endpoint());
    let list = format!("{dead},http://{alive}");
    for args in [
        vec!["cluster", "status", "--endpoint", &list],
        vec!["--endpoint", &dead, "--endpoint", &alive, "cluster", "status"],
        vec!["cluster", "--endpoint", &alive, "status"],
    ] {
        let run = run(&args);
        assert_eq!(run.code, Some(0), "{args:?}: {}", run.stderr);
    }
    let by_environment =
        command(&["cluster", "status"]).env("ISTHMUS_ENDPOINT", &list).output().expect("runs");
    assert_eq!(run::Run::from(by_environment).code, Some(0));
    let run = run(&["cluster", "status", "--endpoint", &dead, "--timeout", "300ms"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("--endpoint"), "says what to do: {}", run.stderr);
}

#[test]
fn what_is_asked_wrongly_exits_with_two() {
    let dead = dead_endpoint();
    for args in [
        vec![],
        vec!["--unknown-flag"],
        vec!["cluster"],
        vec!["cluster", "stats"],
        vec!["cluster", "remove"],
        vec!["cluster", "remove", "1", "--node", "1"],
        vec!["cluster", "transfer", "--shard", "x", "--to-node", "1"],
        vec!["cluster", "status", "--wait", "soon"],
        vec!["profile", "get", "42"],
        vec!["profile", "get", "user_id:42", "--max-staleness", "2h"],
        vec!["cluster", "status", "--output", "xml"],
        vec!["cluster", "status", "--endpoint", "ftp://hub:7400"],
        vec!["cluster", "status", "--endpoint", "no address"],
        vec!["cluster", "status", "--endpoint", ""],
        vec!["ingest"],
        vec!["ingest", "-", "--source", "a", "--write-key", "b"],
        vec!["ingest", "-", "--batch-items", "2501"],
    ] {
        let run = command(&args).env("ISTHMUS_ENDPOINT", &dead).output().map(run::Run::from).expect("runs");
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty());
    }
}

#[test]
fn help_version_and_completions_need_no_cluster() {
    let version = run(&["--version"]);
    assert_eq!(version.code, Some(0));
    let commit = version.stdout.trim().strip_prefix(concat!("isthmus ", env!("CARGO_PKG_VERSION"), " ("));
    assert!(
        commit.and_then(|rest| rest.strip_suffix(')')).is_some_and(|commit| !commit.is_empty()),
        "{}",
        version.stdout
    );
    assert!(run(&["ingest", "--help"]).stdout.contains("Examples:"));
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, Some(0));
        assert!(script.stdout.contains("quarantine"));
    }
}
