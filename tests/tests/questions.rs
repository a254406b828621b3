//! Questions that an analyst of customers asks, on a cluster of three nodes and in DuckDB over what it exports: the same
//! answers. And the cohorts of a real purchase history, counted by a script that knows no database.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use std::{fmt::Write as _, path::Path, process::Command};

use isthmus_tests::{
    cli::{Cli, Ended},
    cluster::{Cluster, ClusterOptions},
    load::{
        fill,
        shop::{Item, SEGMENTS, Shop},
    },
    questions::{self, EXPORT_DIR, compare, place},
    tools,
};
use serde_json::{Value, json};

/// Small, and still nobody's answer is empty.
const SHOP: Shop = Shop { customers: 500, events: 6_000 };
/// The fewest questions that are asked.
const QUESTIONS: usize = 30;

struct World {
    cluster: Cluster,
    cli: Cli,
    folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let exported = folder.path().join("exported");
        std::fs::create_dir(&exported).unwrap();
        let options =
            ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.path().join("data"), 3);
        let options = options.with_environment(&[(EXPORT_DIR, exported.to_str().unwrap())]);
        let cluster = Cluster::start(options).await;
        Self { cluster, cli: Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]), folder }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let ended = self.cli.json(&self.cluster.endpoints(), arguments);
        assert!(matches!(ended.code, 0 | 3), "{arguments:?}: {}", ended.err);
        ended
    }

    /// Sends items of a source as a file; how many were accepted, known, and kept in quarantine.
    fn ingest<'a>(&self, key: &str, items: impl Iterator<Item = &'a Item>) -> [u64; 3] {
        let mut lines = String::new();
        items.for_each(|item| writeln!(lines, "{}", item.json).unwrap());
        let file = self.folder.path().join("items.jsonl");
        std::fs::write(&file, lines).unwrap();
        let state = tempfile::tempdir().unwrap();
        let state = state.path().join("state").display().to_string();
        let arguments = ["ingest", &file.display().to_string(), "--write-key", key, "--resume-file", &state];
        let told = self.run(&arguments).last();
        ["accepted", "duplicate", "quarantined"].map(|what| told[what].as_u64().unwrap())
    }

    /// The history of the shop: what is late after the rest, and some of it a second time.
    fn fill(&self) {
        let keys = fill::prepare(&self.cli, &self.cluster.endpoints());
        let items: Vec<Item> = (0..SHOP.customers).flat_map(|customer| SHOP.of_customer(customer)).collect();
        let of = |source: usize, is_late: bool| {
            items.iter().filter(move |item| item.source == source && item.is_late == is_late)
        };
        let mut accepted = 0;
        for is_late in [false, true] {
            for (source, key) in keys.iter().enumerate() {
                let odd = of(source, is_late).filter(|item| item.is_odd).count() as u64;
                let all = of(source, is_late).count() as u64;
                assert_eq!(self.ingest(key, of(source, is_late)), [all - odd, 0, odd]);
                accepted += all - odd;
            }
        }
        assert_eq!(accepted, SHOP.events);
        let again = || of(0, false).filter(|item| !item.is_odd).take(100);
        assert_eq!(self.ingest(&keys[0], again()), [0, 100, 0]);
        for (name, expression) in SEGMENTS {
            self.run(&["segment", "put", name, expression, "--wait"]);
        }
    }

    /// Asks all questions, or those with this in their names: whether all was well, and what was told of each.
    async fn compare(&self, python: &Path, only: &str) -> (bool, Vec<Value>) {
        let mut command = compare(python, &self.cluster.endpoints(), &self.folder.path().join("exported"));
        command.args(["--json", "--only", only]);
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(!err.contains("Traceback"), "{err}");
        (ended.status.success(), out.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_and_duckdb_answer_an_analysts_questions_alike() {
    let Some(python) = questions::python() else { return };
    let world = World::start().await;
    world.fill();
    let (is_well, told) = world.compare(&python, "").await;
    let differ: Vec<&Value> = told.iter().filter(|told| !told["difference"].is_null()).collect();
    assert!(is_well && differ.is_empty(), "{differ:#?}");
    assert!(told.len() >= QUESTIONS, "{} questions were asked", told.len());
    // An answer of nothing would be the same however wrong.
    let empty: Vec<&Value> = told.iter().filter(|told| told["rows"] == 0).collect();
    assert!(empty.is_empty(), "questions without an answer: {empty:#?}");

    // One order that DuckDB doesn't see is told, with the question and the place.
    let without = "import duckdb, os, sys
os.chdir(sys.argv[1])
events = duckdb.sql(\"SELECT * FROM 'events.parquet' ORDER BY revenue IS NOT NULL, message_id\")
events.limit(len(events) - 1).write_parquet('fewer.parquet')
os.replace('fewer.parquet', 'events.parquet')";
    let changed = Command::new(&python)
        .args(["-c", without])
        .arg(world.folder.path().join("exported"))
        .output()
        .unwrap();
    assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    let (is_well, told) = world.compare(&python, "14_revenue_by_month").await;
    let difference = told[0]["difference"].as_str().unwrap();
    assert!(!is_well && told[0]["question"] == "14_revenue_by_month", "{told:?}");
    assert!(difference.starts_with("row ") && difference.contains("column revenue"), "{difference}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cohorts_of_a_real_purchase_history_are_as_a_plain_script_counts_them() {
    let Some(python) = tools::program("python3", "python/bin/python") else { return };
    let world = World::start().await;
    let (history, mapping) = (place("data/cdnow_sample.txt"), place("data/cdnow.toml"));
    world.run(&["ingest", history.to_str().unwrap(), "--mapping", mapping.to_str().unwrap()]);
    let counted = Command::new(python).arg(place("questions/cdnow.py")).arg(history).output().unwrap();
    assert!(counted.status.success(), "{}", String::from_utf8_lossy(&counted.stderr));
    let counted: Vec<Value> = String::from_utf8(counted.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(counted.len(), 3, "customers came in three months");
    let customers: u64 = counted.iter().map(|cohort| cohort["customers"].as_u64().unwrap()).sum();
    assert_eq!(customers, 2_357);
    assert_eq!(cohorts(&world), counted);
}

/// The same as SQL says.
fn cohorts(world: &World) -> Vec<Value> {
    let file = |name: &str| place("questions/cdnow").join(name).display().to_string();
    let rates = world.run(&["sql", "--file", &file("repeat_rates.sql")]).objects();
    let again = world.run(&["sql", "--file", &file("retention.sql")]).objects();
    let of = |rate: &Value| {
        let months = again.iter().filter(|row| row["cohort"] == rate["cohort"]);
        let months = months.map(|row| (row["months_since"].to_string(), row["customers"].clone())).collect();
        let again = Value::Object(months);
        json!({"cohort": rate["cohort"], "customers": rate["customers"], "repeat_rate": rate["repeat_rate"], "again": again})
    };
    rates.iter().map(of).collect()
}
