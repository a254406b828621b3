//! `COPY`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use isthmus_query::{EngineOptions, Limit, QueryError, RunOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use url::Url;

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
    let ids = |path: PathBuf| -> BTreeSet<String> {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_grows_too_large_is_ended_and_leaves_nothing() {
    let world = World::of(80);
    let bounded = |spill| EngineOptions { export_bytes: 100 << 10, ..crate::cluster::options(spill) };
    let cluster = Cluster::with(&world, bounded).await;
    let export = cluster.folder.path().join("export");
    // What can't be compressed: nearly two hundred bytes a row.
    let large = "SELECT encode(sha256(a.message_id || b.message_id), 'hex') AS one, encode(sha512(a.message_id || b.message_id), 'hex') AS two \
                 FROM events a JOIN (SELECT message_id FROM events LIMIT 60) b ON TRUE";
    for target in ["a.parquet", "a.csv", "a.json", "many/"] {
        let sql = format!("COPY ({large}) TO '{target}'");
        let sql = if target == "many/" { format!("{sql} STORED AS CSV") } else { sql };
        let error = cluster.error(&sql).await;
        assert!(matches!(error, QueryError::Limit { what: Limit::Bytes, .. }), "{target}: {error:?}");
        let told = "the files of a COPY may have 102400 bytes; write less, or raise query.export_bytes_max";
        assert!(error.to_string().ends_with(told), "{target}: {error}");
        assert!(files(&export).is_empty(), "{target}: {:?}", files(&export));
    }
    // Each statement may write as much, and an answer has bounds of its own.
    for target in ["b.csv", "c.csv"] {
        let sql = format!("COPY (SELECT * FROM ({large}) LIMIT 400) TO '{target}'");
        assert_eq!(cluster.rows(&sql).await, [["400", "1"]]);
        assert!(fs::metadata(export.join(target)).unwrap().len() > 60 << 10);
    }
}

/// A cluster whose nodes may write below the URL of a folder, and that URL.
async fn writing_to_urls(world: &World) -> (Cluster, tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/", folder.path().canonicalize().unwrap().display());
    let root = url.parse().unwrap();
    let cluster = Cluster::with(world, |spill| EngineOptions {
        export_urls: vec![Url::clone(&root)],
        ..crate::cluster::options(spill)
    })
    .await;
    (cluster, folder, url)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_writes_the_rows_that_it_has() {
    let world = World::of(300);
    let (cluster, folder, url) = writing_to_urls(&world).await;
    let expected: BTreeSet<String> =
        world.events.iter().map(|event| event.record.message_id.clone()).collect();
    let sql = format!("COPY (SELECT message_id FROM events WHERE source <> '') TO '{url}all/' STORED AS CSV");
    let rows = cluster.rows(&sql).await;
    let parts = files(&folder.path().join("all"));
    let names: Vec<_> = parts.iter().map(|part| part.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names[0], "_SUCCESS");
    let tasks: BTreeSet<&str> = names[1..].iter().map(|name| &name[..10]).collect();
    assert_eq!(tasks.into_iter().collect::<Vec<_>>(), ["part-00000", "part-00001", "part-00002"]);
    assert_eq!(rows, [[expected.len().to_string(), (parts.len() - 1).to_string()]]);
    let mut ids = BTreeSet::new();
    for part in &parts[1..] {
        let text = fs::read_to_string(part).unwrap();
        assert_eq!(text.lines().next(), Some("message_id"));
        ids.extend(text.lines().skip(1).map(str::to_owned));
    }
    assert_eq!(ids, expected);
    // Nothing is written over, or beside what is there.
    let error = cluster.error(&sql).await;
    assert!(error.to_string().contains("already"), "{error}");
    assert_eq!(files(&folder.path().join("all")), parts);
    // Groups are written where they are made, an order comes from one place, and of no rows the columns are there.
    let sql = format!(
        "COPY (SELECT profile_id, count(*) AS n FROM events GROUP BY profile_id) TO '{url}groups/' STORED AS JSON"
    );
    assert_eq!(cluster.rows(&sql).await[0][0], "300");
    let sql =
        format!("COPY (SELECT message_id FROM events ORDER BY message_id) TO '{url}ordered/' STORED AS CSV");
    assert_eq!(cluster.rows(&sql).await, [[expected.len().to_string(), "1".to_owned()]]);
    let text = fs::read_to_string(&files(&folder.path().join("ordered"))[1]).unwrap();
    assert_eq!(text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>(), Vec::from_iter(expected));
    let sql = format!("COPY (SELECT message_id FROM events WHERE false) TO '{url}none/' STORED AS CSV");
    assert_eq!(cluster.rows(&sql).await, [["0", "1"]]);
    assert_eq!(fs::read_to_string(&files(&folder.path().join("none"))[1]).unwrap(), "message_id\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_is_written_whole_or_not_at_all() {
    let world = World::of(60);
    let (cluster, folder, url) = writing_to_urls(&world).await;
    let sql = format!("COPY (SELECT message_id, properties FROM events) TO '{url}a/all.parquet'");
    let count = world.events.len();
    assert_eq!(cluster.rows(&sql).await, [[count.to_string(), "1".to_owned()]]);
    let file = fs::File::open(folder.path().join("a/all.parquet")).unwrap();
    let written =
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().metadata().file_metadata().num_rows();
    assert_eq!(usize::try_from(written).unwrap(), count);
    let error = cluster.error(&sql).await;
    assert!(error.to_string().contains("already"), "{error}");
    let error = cluster.error("COPY (SELECT 1 AS a) TO 's3://bucket/x.csv'").await;
    assert!(error.to_string().contains("below file://"), "{error}");
    cluster.store.counts.endless.store(true, Ordering::SeqCst);
    for target in ["broken.csv", "broken/"] {
        let run = RunOptions { timeout: Duration::from_millis(500), ..RunOptions::default() };
        let sql = format!("COPY (SELECT message_id FROM events) TO '{url}{target}' STORED AS CSV");
        let answer = cluster.answer(&sql, vec![], run).await.unwrap();
        assert!(matches!(collect(answer).await, Err(QueryError::DeadlineExceeded)));
    }
    until("no shard is read", || cluster.store.counts.reading.load(Ordering::SeqCst) == 0).await;
    assert!(files(folder.path()).iter().all(|path| !path.ends_with("broken.csv")));
    until("no part is left", || {
        files(&folder.path().join("broken")).iter().all(|path| !path.to_string_lossy().contains("part-"))
    })
    .await;
    assert!(files(&folder.path().join("broken")).iter().all(|path| !path.ends_with("_SUCCESS")));
}
