//! What `/metrics` shows, against its documentation, against what was sent, and by Prometheus' own tool.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::{Hub, load};

/// Type and labels, by name.
type Described = BTreeMap<String, (String, BTreeSet<String>)>;

/// The table of `deploy/metrics.md`.
fn documented() -> Described {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `isthmus_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[2].split(',').map(str::trim).filter(|label| !label.is_empty());
        let name = format!("isthmus_{}", cells[0].trim_end_matches('`'));
        (name, (cells[1].to_owned(), labels.map(str::to_owned).collect()))
    })
    .collect()
}

/// What nodes show, in Prometheus' format. A metric without samples has no labels.
fn exposed(texts: &[String]) -> Described {
    let mut found = Described::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            found.entry(name.to_owned()).or_insert_with(|| (kind.to_owned(), BTreeSet::new()));
            continue;
        }
        let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) else { continue };
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| {
                name.strip_suffix(suffix)
                    .filter(|name| found.get(*name).is_some_and(|(kind, _)| kind == "histogram"))
            })
            .unwrap_or(name);
        let (labels, _) = rest.rsplit_once('}').unwrap();
        let labels = labels.split("\",").map(|label| label.split('=').next().unwrap());
        let all = &mut found.get_mut(name).unwrap_or_else(|| panic!("{name} has no type")).1;
        all.extend(labels.filter(|label| *label != "le").map(str::to_owned));
    }
    found
}

fn all(hub: &Hub) -> Vec<String> {
    (0..3).map(|node| load::metrics(hub, node)).collect()
}

pub fn documented_and_exposed_are_the_same(hub: &Hub) {
    let (documented, exposed) = (documented(), exposed(&all(hub)));
    let names = |of: &Described| of.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&documented), names(&exposed), "left: deploy/metrics.md, right: nodes");
    for (name, told) in &documented {
        assert_eq!(told, &exposed[name], "{name}: left: deploy/metrics.md, right: nodes");
    }
}

pub fn both_formats_are_served(hub: &Hub) {
    let accept = [("Accept", "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let (status, open) = load::request(hub.http(0), "GET /metrics", &accept, "");
    assert_eq!(status, 200);
    assert!(open.contains("# TYPE isthmus_grpc_calls counter\n") && open.ends_with("# EOF\n"));
    let plain = load::metrics(hub, 0);
    assert!(plain.contains("# TYPE isthmus_grpc_calls_total counter\n") && !plain.contains("# EOF"));
}

/// A sample's value by its name and labels, over all nodes.
fn sum(texts: &[String], name: &str, labels: &[&str]) -> f64 {
    let of =
        |line: &&str| line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|l| line.contains(l));
    let lines = texts.iter().flat_map(|text| text.lines()).filter(of);
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

pub fn they_tell_what_happened(hub: &Hub) {
    let texts = all(hub);
    let whole = |name: &str, labels: &[&str]| sum(&texts, name, labels) as u64;
    let outcome = |source: &str, outcome: &str| {
        whole(
            "isthmus_ingest_items_total",
            &[&format!("source=\"{source}\""), &format!("outcome=\"{outcome}\"")],
        )
    };
    assert_eq!((outcome("default", "accepted"), outcome("web", "accepted")), (151, 3));
    assert_eq!((outcome("default", "quarantined"), outcome("default", "duplicate")), (3, 2));
    // Each accepted event, at the leader of its shard; again where a router had to send it again.
    let fresh =
        |source: &str| whole("isthmus_ingest_freshness_seconds_count", &[&format!("source=\"{source}\"")]);
    assert!(fresh("default") >= 151 && fresh("web") >= 3);
    let groups = 4 + 1;
    assert_eq!(whole("isthmus_raft_leader", &[]), groups, "one leader each");
    assert!(whole("isthmus_raft_elections_total", &[]) >= whole("isthmus_raft_leaderships_total", &[]));
    assert!(whole("isthmus_raft_leaderships_total", &[]) >= groups);
    assert_eq!(whole("isthmus_raft_running", &[]), 3 * groups);
    let proposals: u64 = whole("isthmus_raft_proposals_total", &[]);
    let entries = whole("isthmus_log_write_entries_sum", &[]);
    assert!(
        proposals > 0 && entries >= proposals,
        "each proposal is an entry in some log: {proposals}, {entries}"
    );
    assert!(
        whole("isthmus_log_sync_seconds_count", &[]) > 0
            && sum(&texts, "isthmus_log_sync_seconds_sum", &[]) > 0.0
    );
    let ingest = r#"method="/isthmus.v1.IngestService/Ingest""#;
    assert_eq!(whole("isthmus_grpc_calls_total", &[ingest, r#"code="OK""#]), 6);
    let requests = |labels: &[&str]| whole("isthmus_http_requests_total", labels);
    assert_eq!(requests(&[r#"route="/v1/track""#, r#"method="POST""#, r#"status="200""#]), 3);
    assert_eq!(requests(&[r#"route="(other)""#, r#"status="404""#]), 3);
    assert_eq!(requests(&[r#"route="/v1/profiles/{key}""#, r#"status="200""#]), 3);
    assert!(whole("isthmus_watch_changes_total", &[]) >= 3);
    for name in ["isthmus_memory_resident_bytes", "isthmus_disk_free_bytes", "isthmus_disk_size_bytes"] {
        assert!(whole(name, &[]) > 1 << 20, "{name}");
    }
    for part in ["log", "control"] {
        assert!(whole("isthmus_disk_used_bytes", &[&format!("part=\"{part}\"")]) > 0, "{part}");
    }
    let all_below = whole("isthmus_log_sync_seconds_bucket", &["le=\"+Inf\""]);
    assert!(all_below > 0, "quantiles need the last bucket");
    let lag = texts.iter().flat_map(|text| text.lines());
    let lag = lag.filter(|line| line.starts_with("isthmus_raft_follower_lag_entries{")).count() as u64;
    assert_eq!(lag, 2 * groups, "each leader tells of both its followers");
}

/// The tool, or why it is not there.
fn promtool() -> Option<Command> {
    let program = std::env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    let found = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Some(Command::new(program));
    }
    let told = "promtool is missing (Debian's package prometheus has it): the check by it is SKIPPED";
    assert!(std::env::var_os("PROMTOOL_REQUIRED").is_none(), "{told}");
    isthmus_tests::tools::say(told);
    None
}

pub fn promtool_finds_nothing_to_complain_of(hub: &Hub) {
    for text in all(hub) {
        let Some(mut promtool) = promtool() else { return };
        let piped = promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = piped.stderr(Stdio::piped()).spawn().unwrap();
        running.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let ended = running.wait_with_output().unwrap();
        let said =
            [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(ended.status.success() && said.trim().is_empty(), "promtool: {said}");
    }
    let Some(mut promtool) = promtool() else { return };
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts.yml");
    let ended = promtool.args(["check", "rules"]).arg(&rules).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let (rules, known) = (std::fs::read_to_string(rules).unwrap(), documented());
    for name in
        rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|w| w.starts_with("isthmus_"))
    {
        let bare = name.trim_end_matches("_bucket");
        assert!(known.contains_key(bare), "alerts.yml uses {name}, which there isn't");
    }
}
