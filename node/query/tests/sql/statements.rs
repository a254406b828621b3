//! What a statement may be, and what is said about those that are wrong.

use isthmus_query::{Kind, ParamValues, QueryError, RunOptions, ScalarValue};

use crate::{
    cluster::{Cluster, collect},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_writes_is_refused() {
    let cluster = Cluster::of_three(&World::of(3)).await;
    for sql in [
        "CREATE TABLE t (a INT)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "INSERT INTO events VALUES (1)",
        "DELETE FROM events",
        "UPDATE profiles SET events = 0",
        "DROP TABLE events",
        "SET datafusion.execution.batch_size = 1",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "EXPLAIN DELETE FROM events",
        "SELECT 1; SELECT 2",
        "",
        "WITH x AS (SELECT 1) INSERT INTO events SELECT * FROM x",
    ] {
        let error = cluster.engines[0].prepare(sql).await.unwrap_err();
        assert!(matches!(error, QueryError::Invalid { .. }), "{sql}: {error:?}");
        assert_eq!(error.reason(), "BAD_QUERY");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_where() {
    let cluster = Cluster::of_three(&World::of(3)).await;
    for (sql, place, said) in [
        ("SELECT count(*)\nFORM events", (2, 6), "events"),
        ("SELECT name,\n  nmae\nFROM events", (2, 3), "nmae"),
        ("SELECT * FROM evnets", (1, 15), "evnets"),
        ("SELECT e.nope FROM events e", (1, 8), "nope"),
        ("SELECT (1 + FROM events", (1, 18), "events"),
    ] {
        let error = cluster.engines[0].prepare(sql).await.unwrap_err();
        let QueryError::Invalid { message, line, column } = &error else { panic!("{sql}: {error:?}") };
        assert_eq!((*line, *column), (Some(place.0), Some(place.1)), "{sql}: {message}");
        assert!(message.contains(said), "{sql}: {message}");
    }
    for sql in [
        "SELECT no_such_function(1)",
        "SELECT name FROM events GROUP BY source",
        "SELECT sum(name) FROM events",
        "SELECT 'a' + ",
    ] {
        assert!(matches!(cluster.engines[0].prepare(sql).await, Err(QueryError::Invalid { .. })), "{sql}");
    }
    for sql in [
        "SELECT 1 / (count(*) - count(*)) FROM events",
        "SELECT CAST(name AS BIGINT) FROM events WHERE name <> ''",
    ] {
        assert!(matches!(cluster.error(sql).await, QueryError::Invalid { .. }), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_typed_and_bound() {
    let world = World::of(60);
    let cluster = Cluster::of_three(&world).await;
    let sql = "SELECT count(*) FROM events WHERE source = $1 AND quantity >= $2 AND timestamp > $3";
    let prepared = cluster.engines[0].prepare(sql).await.unwrap();
    assert_eq!(prepared.kind, Kind::Query);
    let types: Vec<String> = prepared.parameters.iter().map(|ty| ty.as_ref().unwrap().to_string()).collect();
    assert_eq!(types[..2], ["Utf8", "Int64"]);
    assert!(types[2].starts_with("Timestamp"), "{types:?}");
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
    let count = |source: &'static str| {
        let is = |event: &&crate::world::Event| {
            let text = String::from_utf8(event.record.properties.to_vec()).unwrap();
            event.record.source == source
                && (text.contains("\"quantity\":2") || text.contains("\"quantity\":3"))
        };
        world.events.iter().filter(is).count().to_string()
    };
    // Texts are brought to the type.
    let values = vec![text("web"), text("2"), text("2020-01-01T00:00:00Z")];
    assert_eq!(cluster.try_rows(sql, values).await.unwrap(), [[count("web")]]);
    let values = vec![text("shop"), ScalarValue::Int64(Some(2)), text("2020-01-01T00:00:00Z")];
    assert_eq!(cluster.try_rows(sql, values).await.unwrap(), [[count("shop")]]);
    for bad in [vec![], vec![text("web")], vec![text("web"), text("many"), text("2020-01-01T00:00:00Z")]] {
        let error = cluster.try_rows(sql, bad).await.unwrap_err();
        assert!(matches!(error, QueryError::Invalid { .. }), "{error:?}");
        assert!(!error.to_string().contains("many"), "values are not told");
    }
    let mixed = "SELECT count(*) FROM events WHERE source = $source AND quantity >= $1";
    assert!(cluster.engines[0].prepare(mixed).await.is_err());
    let sql = "SELECT count(*) FROM events WHERE source = $source AND quantity >= $least";
    let prepared = cluster.engines[0].prepare(sql).await.unwrap();
    assert_eq!(prepared.names, ["least", "source"]);
    let run = |values: Vec<(&'static str, ScalarValue)>| {
        cluster.engines[0].run(&prepared, ParamValues::from(values), RunOptions::default())
    };
    let answer = run(vec![("source", text("web")), ("least", text("2"))]).await.unwrap();
    assert_eq!(collect(answer).await.unwrap(), [[count("web")]]);
    for bad in [vec![("source", text("web"))], vec![("source", text("web")), ("most", text("2"))]] {
        assert!(matches!(run(bad).await, Err(QueryError::Invalid { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn now_and_settings_can_be_read() {
    let cluster = Cluster::of_three(&World::of(3)).await;
    assert_eq!(cluster.rows("SELECT now() > TIMESTAMP '2020-01-01T00:00:00Z'").await, [["true"]]);
    assert_eq!(cluster.rows("VALUES (1), (2)").await, [["1"], ["2"]]);
    assert_eq!(cluster.rows("SHOW datafusion.execution.batch_size").await[0][1], "512");
}
