//! `COPY`.

use std::{collections::BTreeSet, fs, sync::atomic::Ordering, time::Duration};

use isthmus_query::{QueryError, RunOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{
    cluster::{Cluster, collect, until},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_as_parquet_csv_and_json() {
    let world = World::of(80);
    let cluster = Cluster::of_three(&world).await;
    let export = cluster.folder.path().join("export");
    let expected: BTreeSet<String> =
        world.events.iter().map(|event| event.record.message_id.clone()).collect();
    let rows =
        cluster.rows("COPY (SELECT message_id, timestamp, revenue FROM events) TO 'all.parquet'").await;
    assert_eq!(rows, [[expected.len().to_string(), "1".to_owned()]]);
    let ids = |path: std::path::PathBuf| -> BTreeSet<String> {
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap().build().unwrap();
        let ids = reader.flat_map(|batch| {
            let batch = batch.unwrap();
            let ids = arrow::array::AsArray::as_string::<i32>(batch.column(0)).clone();
            ids.iter().map(|id| id.unwrap().to_owned()).collect::<Vec<_>>()
        });
        ids.collect()
    };
    assert_eq!(ids(export.join("all.parquet")), expected);
    let rows = cluster.rows("COPY (SELECT message_id FROM events) TO 'a/b/parts/' STORED AS PARQUET").await;
    assert_eq!(rows, [[expected.len().to_string(), "2".to_owned()]]);
    let parts = fs::read_dir(export.join("a/b/parts")).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(parts.flat_map(ids).collect::<BTreeSet<_>>(), expected);
    cluster.rows("COPY (SELECT name, count(*) AS n FROM events GROUP BY name ORDER BY n DESC LIMIT 2) TO 'top.csv'").await;
    let text = fs::read_to_string(export.join("top.csv")).unwrap();
    assert!(text.starts_with("name,n\nProduct Viewed,"), "{text}");
    cluster.rows("COPY quarantine TO 'q.json'").await;
    let text = fs::read_to_string(export.join("q.json")).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["reason"], "MALFORMED");
    assert!(
        fs::read_dir(&export).unwrap().all(|entry| !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.'))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_nowhere_else() {
    let cluster = Cluster::of_three(&World::of(10)).await;
    for target in ["/etc/x.csv", "../x.csv", "s3://bucket/x.parquet", "file:///tmp/x.csv", "noformat"] {
        let error = cluster.error(&format!("COPY (SELECT 1 AS a) TO '{target}'")).await;
        assert!(matches!(error, QueryError::Invalid { .. }), "{target}: {error:?}");
    }
    cluster.rows("COPY (SELECT 1 AS a) TO 'x.csv'").await;
    let error = cluster.error("COPY (SELECT 2 AS a) TO 'x.csv'").await;
    assert!(matches!(error, QueryError::Invalid { .. }), "nothing is written over: {error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_broken_off_leaves_nothing() {
    let cluster = Cluster::of_three(&World::of(50)).await;
    cluster.store.counts.endless.store(true, Ordering::SeqCst);
    let run = RunOptions { timeout: Duration::from_millis(500), ..RunOptions::default() };
    let answer =
        cluster.answer("COPY (SELECT message_id FROM events) TO 'endless.csv'", vec![], run).await.unwrap();
    assert!(matches!(collect(answer).await, Err(QueryError::DeadlineExceeded)));
    let export = cluster.folder.path().join("export");
    until("nothing is left", || fs::read_dir(&export).unwrap().next().is_none()).await;
    until("no shard is read", || cluster.store.counts.reading.load(Ordering::SeqCst) == 0).await;
}
