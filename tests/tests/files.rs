//! Files through the command line: what is good in a file comes in, what is broken is kept with its line, and sending
//! a file again changes nothing; nor does being killed in the middle.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]
#![allow(clippy::disallowed_methods, reason = "tests own a clock")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use isthmus_tests::{
    cli::{Cli, Ended},
    cluster::{Cluster, ClusterOptions, PATIENCE},
};
use serde_json::Value;

const CLI: &str = env!("CARGO_BIN_EXE_cli-under-test");

struct Hub {
    folder: tempfile::TempDir,
    cluster: Cluster,
    cli: Cli,
}

impl Hub {
    async fn start() -> Self {
        Self::of(1).await
    }

    async fn of(nodes: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options =
            ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.path().join("data"), nodes);
        let cluster = Cluster::start(options).await;
        Self { folder, cluster, cli: Cli(vec![CLI.to_owned()]) }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn json(&self, arguments: &[&str]) -> Ended {
        self.cli.json(&self.cluster.endpoints(), arguments)
    }

    /// Quarantined entries by where they came from: `file:line`.
    fn kept(&self) -> BTreeMap<String, Value> {
        let listed = self.json(&["quarantine", "list"]);
        assert_eq!(listed.code, 0, "{}", listed.err);
        let by_origin = |entry: Value| (entry["origin"].as_str().unwrap().to_owned(), entry);
        listed.objects().into_iter().map(by_origin).collect()
    }
}

/// Checks how an `ingest` ended: accepted, duplicate, quarantined, rejected.
fn counted(ended: &Ended, code: i32, counts: [u64; 4]) {
    let told = ended.last();
    let keys = ["accepted", "duplicate", "quarantined", "rejected"];
    assert_eq!(keys.map(|key| told[key].as_u64().unwrap()), counts, "{told} {}", ended.err);
    assert!(told["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0), "{told}");
    assert_eq!(ended.objects().len(), 1, "nothing else is on standard output");
    assert_eq!(ended.code, code, "{}", ended.err);
}

fn reasons(kept: &BTreeMap<String, Value>) -> Vec<(&str, &str)> {
    kept.iter().map(|(origin, entry)| (origin.as_str(), entry["reason"].as_str().unwrap())).collect()
}

/// Ten lines: five good ones, of which two say exactly the same, four broken ones and a blank one.
fn orders() -> Vec<u8> {
    let mut file = Vec::new();
    let mut line = |bytes: &[u8]| {
        file.extend_from_slice(bytes);
        file.push(b'\n');
    };
    line(br#"{"type":"track","event":"Order Completed","userId":"1","messageId":"a","properties":{"revenue":"10.05"}}"#);
    line(br#"{"type":"track","event":"Order Completed","userId":"1","#);
    line(br#"{"type":"identify","userId":"1","traits":{"email":"Ann@Example.org","age":41}}"#);
    line(b"");
    line(br#"{"type":"track","event":"Order Completed","properties":{"revenue":"1"}}"#);
    line(b"{\"type\":\"track\",\"event\":\"Caf\xe9\",\"userId\":\"1\"}");
    line(br#"{"type":"track","event":"Order Completed","userId":"1","properties":{"revenue":20.10}}"#);
    line(br#"{"type":"track","event":"Order Completed","userId":"1","properties":{"revenue":20.10}}"#);
    line(
        format!(
            r#"{{"type":"track","event":"Long","userId":"1","properties":{{"p":"{}"}}}}"#,
            "x".repeat(40_000)
        )
        .as_bytes(),
    );
    file.extend_from_slice(
        br#"{"type":"track","event":"Order Completed","userId":"2","timestamp":"2024-02-29T12:00:00+02:00"}"#,
    );
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn good_lines_come_in_and_broken_ones_are_kept_with_their_numbers() {
    let hub = Hub::start().await;
    let file = hub.write("orders.jsonl", orders());
    let first = hub.json(&["ingest", &file]);
    counted(&first, 3, [5, 0, 4, 0]);
    assert!(first.err.contains("orders.jsonl:2: quarantined: MALFORMED"), "{}", first.err);

    let kept = hub.kept();
    assert_eq!(
        reasons(&kept),
        [
            ("orders.jsonl:2", "MALFORMED"),
            ("orders.jsonl:5", "NO_IDENTIFIER"),
            ("orders.jsonl:6", "UNREADABLE"),
            ("orders.jsonl:9", "UNREADABLE"),
        ]
    );
    let shown = |line: &str| hub.json(&["quarantine", "show", kept[line]["id"].as_str().unwrap()]).last();
    let broken = shown("orders.jsonl:2");
    assert_eq!(broken["content"], r#"{"type":"track","event":"Order Completed","userId":"1","#);
    assert_eq!((&broken["source"], &broken["content_type"]), (&"default".into(), &"application/json".into()));
    assert!(broken["message"].as_str().unwrap().contains("line 1, column"), "{broken}");
    assert!(broken["received_at"].is_string());
    // What is no text is shown as it is, in hexadecimal digits.
    assert!(shown("orders.jsonl:6")["content_hex"].as_str().unwrap().contains("436166e9"));
    assert_eq!(shown("orders.jsonl:9")["content"].as_str().unwrap().len(), 32 * 1024);
    // People get the content below the facts.
    let table =
        hub.cli.run(&hub.cluster.endpoints(), &["quarantine", "show", broken["id"].as_str().unwrap()]);
    assert!(table.out.contains("orders.jsonl:2") && table.out.contains(r#""userId":"1","#), "{}", table.out);

    // Lines that say the same are two purchases.
    let profile = hub.json(&["profile", "get", "user_id:1"]).last();
    assert_eq!(profile["event_counts"]["Order Completed"], 3, "{profile}");
    assert_eq!(profile["revenue"], "50.25", "{profile}");
    assert_eq!(profile["traits"]["age"], 41);
    assert_eq!(profile["traits"]["email"], "Ann@Example.org");

    // Sent again, also after it has grown: what was there is known, what is new comes in.
    counted(&hub.json(&["ingest", &file]), 3, [0, 5, 4, 0]);
    assert_eq!(reasons(&hub.kept()), reasons(&kept), "a broken line is kept once");
    let mut grown = orders();
    grown.extend_from_slice(b"\n{\"type\":\"track\",\"event\":\"Order Completed\",\"userId\":\"2\"}\n");
    hub.write("orders.jsonl", grown);
    counted(&hub.json(&["ingest", &file]), 3, [1, 5, 4, 0]);
    let profile = hub.json(&["profile", "get", "user_id:2"]).last();
    assert_eq!(
        (&profile["event_counts"]["Order Completed"], &profile["first_seen"]),
        (&2.into(), &"2024-02-29T10:00:00Z".into())
    );

    standard_input(&hub, &fs::read(&file).unwrap());
}

/// The same lines from standard input, under the file's name, are known; under another name they are others.
fn standard_input(hub: &Hub, content: &[u8]) {
    let send = |dataset: &[&str]| {
        let mut child = Command::new(CLI)
            .args(["ingest", "-", "--output", "json"])
            .args(dataset)
            .env("ISTHMUS_ENDPOINT", hub.cluster.endpoints())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        Ended::from(child.wait_with_output().unwrap())
    };
    counted(&send(&["--dataset", "orders.jsonl"]), 3, [0, 6, 4, 0]);
    // The line with a message id of its own is known whatever the others' are made of.
    counted(&send(&[]), 3, [5, 1, 4, 0]);
    assert!(hub.kept().contains_key("stdin:2"));
}

const MAPPING: &str = r#"
delimiter = ";"
type = "track"
event = { column = "what" }
timestamp = { column = "when", format = "%d.%m.%Y", timezone = "Europe/Berlin" }

[identifiers]
user_id = "customer"
email = "mail"

[properties]
revenue = { column = "total", type = "decimal" }
gift = { column = "gift", type = "boolean" }
note = "note"
"#;

const TABLE: &str = "\
customer;mail;what;when;total;gift;note
17;;Order Completed;24.12.2023;19.99;true;\"for Ann; with love\"
;Bob@Example.org;Order Completed;31.12.2023;0.01;false;
17;;Order Completed;24.12.2023;nineteen;true;
17;;Order Completed;30.02.2023;5.00;true;
17;;Order Completed;24.12.2023;5.00
 ;;Order Completed;24.12.2023;5.00;true;
17;;;24.12.2023;5.00;true;
17;;Order Completed;24.12.2023;-4.99;;\"\"
";

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_come_in_by_its_mapping() {
    let hub = Hub::start().await;
    let (mapping, table) = (hub.write("orders.toml", MAPPING), hub.write("orders.csv", TABLE));
    let ingest = ["ingest", &table, "--mapping", &mapping];
    counted(&hub.json(&ingest), 3, [3, 0, 5, 0]);
    let kept = hub.kept();
    assert_eq!(
        reasons(&kept),
        [
            ("orders.csv:4", "UNREADABLE"),
            ("orders.csv:5", "UNREADABLE"),
            ("orders.csv:6", "UNREADABLE"),
            ("orders.csv:7", "NO_IDENTIFIER"),
            ("orders.csv:8", "EVENT_NAME_MISSING"),
        ]
    );
    for (line, column) in
        [("orders.csv:4", "`total`"), ("orders.csv:5", "`when`"), ("orders.csv:6", "columns")]
    {
        assert!(kept[line]["message"].as_str().unwrap().contains(column), "{}", kept[line]);
    }
    assert_eq!(kept["orders.csv:4"]["content_type"], "text/csv");
    counted(&hub.json(&ingest), 3, [0, 3, 5, 0]);

    let profile = hub.json(&["profile", "get", "user_id:17"]).last();
    assert_eq!(
        (&profile["revenue"], &profile["event_counts"]["Order Completed"]),
        (&"15.00".into(), &2.into())
    );
    let events = hub.json(&["profile", "timeline", "user_id:17"]).objects();
    let gift = events.iter().find(|event| event["properties"]["gift"] == true).unwrap();
    // Midnight in Berlin.
    assert_eq!(gift["timestamp"], "2023-12-23T23:00:00Z");
    assert_eq!(gift["properties"]["note"], "for Ann; with love");
    let profile = hub.json(&["profile", "get", "email: bob@example.ORG"]).last();
    assert_eq!(profile["revenue"], "0.01", "identifiers are normalised: {profile}");

    wrong_mappings(&hub, &table);
}

/// A mapping that doesn't fit stops everything before anything is sent.
fn wrong_mappings(hub: &Hub, table: &str) {
    for (text, line, problem) in [
        (MAPPING.replace("\"customer\"", "\"client\""), 8, "client"),
        (MAPPING.replace("\"decimal\"", "\"money\""), 12, "decimal"),
        (MAPPING.replace("event = ", "evnt = "), 4, "evnt"),
    ] {
        let mapping = hub.write("wrong.toml", text);
        let ended = hub.json(&["ingest", table, "--mapping", &mapping]);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{}", ended.err);
        assert!(ended.err.contains(&format!("{mapping}: line {line}: ")), "{}", ended.err);
        assert!(ended.err.contains(problem), "{}", ended.err);
    }
    let ended = hub.json(&["ingest", &Path::new(table).with_file_name("none.csv").display().to_string()]);
    assert_eq!(ended.code, 2, "{}", ended.err);
    let ended = hub.json(&["ingest", table]);
    assert!(ended.code == 2 && ended.err.contains("--mapping"), "{}", ended.err);
}

/// How many lines the state of a stopped ingest says are dealt with.
fn dealt_with(state: &Path) -> u64 {
    let Ok(text) = fs::read(state) else { return 0 };
    serde_json::from_slice::<Value>(&text).unwrap()["inputs"][0]["lines"].as_u64().unwrap()
}

/// Starts to send a file a few lines at a time, and sends a signal when more is dealt with than `before`.
fn stopped(hub: &Hub, file: &str, state: &Path, signal: &str, before: u64) -> Ended {
    let child = Command::new(CLI)
        .args(["ingest", file, "--output", "json", "--resume-file", &state.display().to_string()])
        .args(["--batch-items", "4", "--parallel", "2"])
        .env("ISTHMUS_ENDPOINT", hub.cluster.endpoints())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    while dealt_with(state) <= before {
        assert!(Instant::now() < until, "nothing is kept of how far it came");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    Ended::from(child.wait_with_output().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_that_is_killed_and_interrupted_goes_on_and_every_event_counts_once() {
    const LINES: u64 = 20_000;
    let hub = Hub::of(3).await;
    let line = |n: u64| {
        let user = n % 40;
        format!(
            r#"{{"type":"track","event":"Order Completed","userId":"r{user}","properties":{{"revenue":"0.01"}}}}"#
        )
    };
    let file = hub.write("many.jsonl", (0..LINES).map(|n| line(n) + "\n").collect::<String>());
    let state = hub.folder.path().join("state/many.json");

    assert_eq!(stopped(&hub, &file, &state, "-KILL", 0).code, -1);
    let after_kill = dealt_with(&state);
    let interrupted = stopped(&hub, &file, &state, "-INT", after_kill);
    assert_eq!(interrupted.code, 130, "{}", interrupted.err);
    assert_eq!(interrupted.last()["resumed"], after_kill, "{}", interrupted.err);
    let after_interrupt = dealt_with(&state);
    assert!(after_kill < after_interrupt && after_interrupt < LINES, "{after_kill} {after_interrupt}");
    let counts = interrupted.last();
    let of = |counts: &Value, key: &str| counts[key].as_u64().unwrap();
    assert_eq!(
        of(&counts, "accepted") + of(&counts, "duplicate"),
        after_interrupt,
        "what was under way was answered"
    );

    let ended = hub.json(&["ingest", &file, "--resume-file", &state.display().to_string()]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(
        ended.err.contains(&format!("many.jsonl: going on behind line {after_interrupt}")),
        "{}",
        ended.err
    );
    let counts = ended.last();
    assert_eq!(of(&counts, "resumed"), after_interrupt);
    assert_eq!(of(&counts, "accepted") + of(&counts, "duplicate"), LINES, "{counts}");
    assert!(!state.exists());

    let profiles = hub.json(&["profile", "list"]).objects();
    assert_eq!(profiles.len(), 40);
    for profile in profiles {
        assert_eq!(profile["event_counts"]["Order Completed"], LINES / 40, "{profile}");
        assert_eq!(profile["revenue"], "5.00", "{profile}");
    }
    // And nothing but duplicates are left to send.
    let again = hub.json(&["ingest", &file]).last();
    assert_eq!((&again["accepted"], &again["duplicate"]), (&0.into(), &LINES.into()));
}

/// The first lines of a file that ships with the tests.
fn excerpt(name: &str, lines: usize) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
    fs::read_to_string(path).unwrap().split_inclusive('\n').take(lines).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guessed_mapping_takes_real_files_in() {
    let hub = Hub::start().await;
    let infer = |file: &str| {
        let guess = hub.cli.run("none", &["ingest", "--infer", file]);
        assert_eq!(guess.code, 0, "{}", guess.err);
        hub.write("guessed.toml", &guess.out)
    };
    let purchases = excerpt("cdnow_sample.txt", 200);
    let file = hub.write("purchases.txt", &purchases);
    counted(&hub.json(&["ingest", &file, "--mapping", &infer(&file)]), 0, [200, 0, 0, 0]);
    let customers: BTreeSet<&str> =
        purchases.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    let first = customers.first().unwrap();
    let expected = purchases.lines().filter(|line| line.split_whitespace().next() == Some(first));
    let cents: u64 = expected
        .map(|line| line.split_whitespace().last().unwrap().replace('.', "").parse::<u64>().unwrap())
        .sum();
    let profile = hub.json(&["profile", "get", &format!("user_id:{first}")]).last();
    assert_eq!(profile["revenue"], format!("{}.{:02}", cents / 100, cents % 100), "{profile}");

    let file = hub.write("people.csv", excerpt("febrl/febrl1.csv", 101));
    counted(&hub.json(&["ingest", &file, "--mapping", &infer(&file)]), 0, [100, 0, 0, 0]);
    let profile = hub.json(&["profile", "get", "user_id:rec-122-org"]).last();
    assert_eq!(profile["traits"]["surname"], "berry", "{profile}");
    assert_eq!(hub.json(&["profile", "list"]).objects().len(), customers.len() + 100);
}
