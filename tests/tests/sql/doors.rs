//! The same rows through every door, and nothing missing.

use arrow::array::{Array as _, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt as _;
use isthmus_client::{
    Query,
    proto::{Consistency, QueryServiceExplainRequest, consistency::Level},
};
use isthmus_tests::ask;
use serde_json::{Value, json};

use crate::{Hub, flight, rows};

/// Written through one node, read through another at once, at every level that promises it.
pub async fn what_was_acknowledged_is_in_the_next_answer_of_any_node(hub: &Hub) {
    let statement = "SELECT count(*) AS n FROM events WHERE name = 'Fresh'";
    for round in 0..9_usize {
        let (write, read) = (round % 3, (round / 3 + round) % 3);
        let event = format!(
            r#"{{"type":"track","event":"Fresh","userId":"fresh-{round}","messageId":"fresh-{round}"}}"#
        );
        let version = ask::accepted(&hub.nodes[write], vec![ask::json(event)]).await;
        let expected = vec![format!(r#"{{"n":{}}}"#, round + 1)];
        assert_eq!(rows(&hub.clients[read], statement).await, expected, "written at {write}, read at {read}");
        let level = Consistency { level: Some(Level::MinVersion(version.clone())) };
        let query = Query::new(statement).consistency(level);
        assert_eq!(rows(&hub.clients[read], query).await, expected);
        let told = hub.clients[read].query(statement).await.unwrap();
        assert!(told.version().unwrap() >= version.as_str(), "the cut covers what was acknowledged before");
    }
}

const SORTED: &str =
    "SELECT message_id, name, timestamp, source FROM events WHERE name = 'Same' ORDER BY message_id";

/// The first two columns of batches, as JSON writes them.
fn firsts(batches: &[RecordBatch]) -> Vec<(String, String)> {
    let text = |batch: &RecordBatch, column: usize| {
        let texts = arrow::compute::cast(batch.column(column), &arrow::datatypes::DataType::Utf8).unwrap();
        let texts = texts.as_any().downcast_ref::<StringArray>().unwrap();
        texts.iter().map(|text| text.unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    batches.iter().flat_map(|batch| text(batch, 0).into_iter().zip(text(batch, 1))).collect()
}

/// gRPC in JSON and in Arrow, Flight SQL, and the command line, through each node.
pub async fn every_door_gives_the_same_rows(hub: &Hub) {
    hub.fill("Same", 60).await;
    let expected: Vec<(String, String)> =
        (0..60).map(|n| (format!("Same-{n:04}"), "Same".to_owned())).collect();
    let mut json = None;
    for (index, client) in hub.clients.iter().enumerate() {
        let lines = rows(client, SORTED).await;
        assert_eq!(json.get_or_insert_with(|| lines.clone()), &lines, "node {index} in JSON");
        let objects: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |object: &Value, name: &str| object[name].as_str().unwrap().to_owned();
        let firsts_of_json: Vec<_> =
            objects.iter().map(|object| (of(object, "message_id"), of(object, "name"))).collect();
        assert_eq!(firsts_of_json, expected, "node {index} in JSON");

        let batches = client.query_arrow(SORTED).await.unwrap();
        assert!(batches.version().is_some() && batches.schema().fields().len() == 4);
        let batches: Vec<RecordBatch> = batches.try_collect().await.unwrap();
        assert_eq!(firsts(&batches), expected, "node {index} in Arrow");

        let over_flight = flight::asked(&hub.nodes[index], SORTED).await;
        assert_eq!(firsts(&over_flight), expected, "node {index} over Flight SQL");

        let endpoint = hub.cluster.endpoints().split(',').nth(index).unwrap().to_owned();
        let printed = hub.cli.json(&endpoint, &["sql", SORTED]);
        assert_eq!(printed.out.lines().collect::<Vec<_>>(), lines, "node {index} by the command line");
        assert!(printed.err.starts_with("cut: "), "{}", printed.err);
    }
    // Parameters by place and by name, and those that are null.
    for query in [
        Query::new("SELECT count(*) AS n FROM events WHERE name = $1").parameter("Same"),
        Query::new("SELECT count(*) AS n FROM events WHERE name = $name").named("name", "Same"),
        Query::new("SELECT count(*) AS n FROM events WHERE name = 'Same' AND $1 IS NULL")
            .parameter(None::<&str>),
    ] {
        assert_eq!(rows(&hub.clients[0], query).await, [r#"{"n":60}"#]);
    }
    // What names several columns alike can be told apart in JSON.
    let twice = "SELECT a.message_id, b.message_id FROM events a JOIN events b USING (profile_id, timestamp, message_id) \
                 WHERE a.message_id = 'Same-0001'";
    let told = rows(&hub.clients[0], twice).await;
    assert!(told.iter().all(|row| row.contains("message_id")), "{told:?}");
}

pub async fn tables_are_listed_with_their_columns(hub: &Hub) {
    for client in &hub.clients {
        let tables = client.tables().await.unwrap();
        let names: Vec<String> =
            tables.iter().map(|table| format!("{}.{}", table.schema, table.name)).collect();
        for name in ["public.events", "public.profiles", "public.quarantine", "system.nodes", "system.shards"]
        {
            assert!(names.iter().any(|known| known == name), "{name} is missing in {names:?}");
        }
        let events = tables.iter().find(|table| table.name == "events").unwrap();
        let columns: Vec<&str> = events.columns.iter().map(|column| column.name.as_str()).collect();
        assert!(["profile_id", "timestamp", "name"].iter().all(|name| columns.contains(name)), "{columns:?}");
        for table in &tables {
            assert!(!table.description.is_empty(), "{}", table.name);
            for column in &table.columns {
                assert!(!column.description.is_empty(), "{}: {}", table.name, column.name);
            }
        }
    }
    assert_eq!(rows(&hub.clients[1], "SELECT count(*) AS n FROM system.nodes").await, [r#"{"n":3}"#]);
}

/// What a metric at the beginning of a text comes to: `5`, or `{t0: 2, t1: 3}` of several tasks.
fn counted(metric: &str) -> u64 {
    let each = match metric.strip_prefix('{') {
        Some(tasks) => tasks.split('}').next().unwrap(),
        None => metric.split([',', ' ', ']']).next().unwrap(),
    };
    each.split(", ").map(|task| task.rsplit(' ').next().unwrap().trim().parse::<u64>().unwrap()).sum()
}

pub async fn a_plan_is_told(hub: &Hub) {
    for analyze in [false, true] {
        let sql = "SELECT name, count(*) FROM events GROUP BY name".to_owned();
        let request = QueryServiceExplainRequest { sql, analyze, ..Default::default() };
        let plans = hub.clients[2].explain_query(request).await.unwrap();
        assert!(!plans.is_empty() && plans.iter().all(|plan| !plan.kind.is_empty()), "{plans:?}");
    }
    let statement = "EXPLAIN ANALYZE SELECT count(message_id) FROM events WHERE name = 'Same'";
    let printed = hub.cli.run(&hub.cluster.endpoints(), &["sql", statement]);
    assert_eq!(printed.code, 0, "{}", printed.err);
    // What each shard gave, below the scan that says how many nodes read them.
    let shards = rows(&hub.clients[0], "SELECT shard FROM system.shards ORDER BY shard").await;
    let shards: Vec<u64> = shards
        .iter()
        .map(|row| serde_json::from_str::<Value>(row).unwrap()["shard"].as_u64().unwrap())
        .collect();
    let behind = |text: &str, word: &str| {
        let (_, rest) = printed.out.split_once(text).unwrap_or_else(|| panic!("no {text}:\n{}", printed.out));
        let line = rest.lines().next().unwrap();
        let (_, rest) = line.split_once(word).unwrap_or_else(|| panic!("no {word}: {line}"));
        rest.to_owned()
    };
    let scan = format!("ScanExec: events, shards={}, ", shards.len());
    assert!(matches!(behind(&scan, "nodes=").as_bytes(), [b'1'..=b'3', b',', ..]), "{}", printed.out);
    let of_shards: u64 =
        shards.iter().map(|shard| counted(&behind(&format!("shard {shard}: "), "rows="))).sum();
    assert_eq!(of_shards, 60, "{}", printed.out);
    assert!(!printed.out.contains("\\n"), "a plan is printed over its lines:\n{}", printed.out);
}

pub async fn the_command_line_prints_every_format(hub: &Hub) {
    let endpoints = hub.cluster.endpoints();
    let statement =
        "SELECT message_id, 9223372036854775807 AS big FROM events WHERE name = 'Same' ORDER BY 1 LIMIT 2";
    let printed = hub.cli.json(&endpoints, &["sql", statement]);
    assert_eq!(printed.objects()[1], json!({"message_id": "Same-0001", "big": i64::MAX}));
    let printed = hub.cli.run(&endpoints, &["sql", statement, "--output", "csv"]);
    assert_eq!(printed.out, "message_id,big\nSame-0000,9223372036854775807\nSame-0001,9223372036854775807\n");
    let printed = hub.cli.run(&endpoints, &["sql", statement]);
    assert!(
        printed.out.ends_with("(2 rows)\n") && printed.out.trim_start().starts_with("message_id"),
        "{}",
        printed.out
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("same.parquet").display().to_string();
    let all = "SELECT message_id, timestamp FROM events WHERE name = 'Same'";
    let printed = hub.cli.run(&endpoints, &["sql", all, "--output", "parquet", "--to", &file]);
    assert_eq!((printed.code, printed.out.as_str()), (0, ""), "{}", printed.err);
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    // Arrow has the types that JSON has not.
    let batches: Vec<RecordBatch> = hub.clients[0]
        .query_arrow("SELECT count(*) AS n FROM events WHERE name = 'Same'")
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let counts = batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    assert_eq!((counts.len(), counts.value(0)), (1, 60));
}
