//! What a query may use, and what becomes of it when nobody waits for it.

use std::{sync::atomic::Ordering, time::Duration};

use futures::StreamExt;
use isthmus_query::{EngineOptions, Limit, QueryError, RunOptions};

use crate::{
    cluster::{Cluster, collect, options, until},
    world::World,
};

/// Rows without end, on all nodes, of which nothing comes out.
const RUNAWAY: &str =
    "SELECT count(*) FROM events a CROSS JOIN events b CROSS JOIN events c CROSS JOIN events d";

fn reading(cluster: &Cluster) -> usize {
    cluster.store.counts.reading.load(Ordering::SeqCst)
}

fn cuts(cluster: &Cluster) -> usize {
    cluster.store.counts.cuts.load(Ordering::SeqCst)
}

async fn ends(cluster: &Cluster) {
    until("no shard is read", || reading(cluster) == 0).await;
    until("no cut is open", || cuts(cluster) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runaway_join_is_stopped_by_time() {
    let cluster = Cluster::of_three(&World::of(100)).await;
    let run = RunOptions { timeout: Duration::from_millis(700), ..RunOptions::default() };
    let answer = cluster.answer(RUNAWAY, vec![], run).await;
    let error = match answer {
        Ok(answer) => collect(answer).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, QueryError::DeadlineExceeded), "{error:?}");
    ends(&cluster).await;
    assert_eq!(cluster.rows("SELECT count(*) FROM profiles").await, [["100"]], "the engine goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engines_own_limit_of_time_is_named() {
    let limited = |folder| EngineOptions { timeout_max: Duration::from_millis(500), ..options(folder) };
    let cluster = Cluster::with(&World::of(100), limited).await;
    let error = cluster.error(RUNAWAY).await;
    assert!(matches!(error, QueryError::Limit { what: Limit::Time, .. }), "{error:?}");
    assert_eq!(error.reason(), "QUERY_LIMIT");
    ends(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_an_answer_stops_all_nodes() {
    let cluster = Cluster::of_three(&World::of(100)).await;
    cluster.store.counts.endless.store(true, Ordering::SeqCst);
    let mut answer = cluster
        .answer("SELECT message_id, profile_id FROM events", vec![], RunOptions::default())
        .await
        .unwrap();
    answer.batches.next().await.unwrap().unwrap();
    assert!(reading(&cluster) > 0 && cuts(&cluster) > 0);
    drop(answer);
    ends(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_run_that_has_no_row_yet_stops_all_nodes() {
    let cluster = Cluster::of_three(&World::of(100)).await;
    cluster.store.counts.endless.store(true, Ordering::SeqCst);
    let answer = cluster
        .answer("SELECT source, count(*) FROM events GROUP BY 1", vec![], RunOptions::default())
        .await
        .unwrap();
    until("it is read", || reading(&cluster) > 0).await;
    drop(answer);
    ends(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_bytes_of_an_answer_are_bounded() {
    let cluster = Cluster::of_three(&World::of(100)).await;
    for (run, limit) in [
        (RunOptions { rows_max: Some(10), ..RunOptions::default() }, Limit::Rows),
        (RunOptions { bytes_max: 1000, ..RunOptions::default() }, Limit::Bytes),
    ] {
        let answer = cluster.answer("SELECT * FROM events", vec![], run).await.unwrap();
        let error = collect(answer).await.unwrap_err();
        let QueryError::Limit { what, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*what, limit);
        assert!(error.to_string().contains(limit.name()), "{error}");
    }
    let run = RunOptions { rows_max: Some(10), ..RunOptions::default() };
    let answer = cluster.answer("SELECT * FROM events LIMIT 10", vec![], run).await.unwrap();
    assert_eq!(collect(answer).await.unwrap().len(), 10);
    ends(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_and_sorting_spills() {
    let small = |folder| EngineOptions { memory_bytes: 16 << 20, ..options(folder) };
    let cluster = Cluster::with(&World::of(300), small).await;
    let many = "SELECT a.message_id || b.message_id AS id, a.properties FROM events a JOIN (SELECT message_id FROM \
                events LIMIT 60) b ON TRUE";
    let numbered =
        format!("SELECT row_number() OVER (ORDER BY id) AS r, length(properties) AS l FROM ({many})");
    let text =
        cluster.rows(&format!("EXPLAIN ANALYZE SELECT max(r), max(l) FROM ({numbered})")).await[0][1].clone();
    let spills = |line: &str| {
        let count = line.split("spill_count=").nth(1)?.trim_start_matches('{');
        count.chars().next().filter(|digit| *digit != '0')
    };
    assert!(text.lines().any(|line| line.contains("SortExec") && spills(line).is_some()), "{text}");
    let rows = cluster.rows(&format!("SELECT max(r) FROM ({numbered})")).await;
    let count = cluster.rows("SELECT count(*) * 60 FROM events").await;
    assert_eq!(rows, count);
    // What can't spill is refused: the hash table of a join, also where each node has a part of it.
    let wide = format!("SELECT id, repeat(properties, 20) AS wide FROM ({many})");
    let joined =
        format!("SELECT max(length(x.wide || y.wide)) FROM ({wide}) x JOIN ({wide}) y ON x.id = y.id");
    let error = cluster.error(&joined).await;
    assert!(matches!(error, QueryError::Limit { what: Limit::Memory, .. }), "{error:?}");
    ends(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_queries_at_once_are_refused() {
    let few = |folder| EngineOptions { queries: 1, waiting: 0, ..options(folder) };
    let cluster = Cluster::with(&World::of(30), few).await;
    cluster.store.counts.endless.store(true, Ordering::SeqCst);
    let first = cluster.answer("SELECT * FROM events", vec![], RunOptions::default()).await.unwrap();
    let error = cluster.error("SELECT 1").await;
    assert!(matches!(error, QueryError::Overloaded { .. }), "{error:?}");
    drop(first);
    ends(&cluster).await;
    cluster.store.counts.endless.store(false, Ordering::SeqCst);
    let place = async {
        while cluster.try_rows("SELECT 1", vec![]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), place).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_gone_makes_no_short_answer() {
    let cluster = Cluster::of_three(&World::of(30)).await;
    cluster.store.counts.gone.store(true, Ordering::SeqCst);
    let error = cluster.error("SELECT count(*) FROM events").await;
    assert!(matches!(error, QueryError::Unavailable(_)), "{error:?}");
    cluster.store.counts.gone.store(false, Ordering::SeqCst);
    let mut peers = cluster.nodes[0].peers.lock().unwrap().clone();
    peers[1].1 = "http://127.0.0.1:1".to_owned();
    *cluster.nodes[0].peers.lock().unwrap() = peers;
    let error = cluster.error("SELECT count(*) FROM events").await;
    assert!(matches!(error, QueryError::Unavailable(_)), "{error:?}");
    cluster.nodes[0].peers.lock().unwrap().truncate(2);
    let error = cluster.error("SELECT count(*) FROM events").await;
    assert!(matches!(error, QueryError::Unavailable(_)), "{error:?}");
    ends(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_statement_is_refused() {
    let cluster = Cluster::of_three(&World::of(3)).await;
    let long = format!("SELECT '{}'", "x".repeat(2 << 20));
    let error = cluster.engines[0].prepare(&long).await.unwrap_err();
    assert!(matches!(error, QueryError::Limit { what: Limit::Statement, .. }), "{error:?}");
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(matches!(cluster.engines[0].prepare(&deep).await, Err(QueryError::Invalid { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_broken_off_by_a_stop_is_an_error() {
    let cluster = Cluster::of_three(&World::of(50)).await;
    cluster.store.counts.endless.store(true, Ordering::SeqCst);
    let sql = "SELECT message_id FROM events";
    let answer = cluster.answer(sql, vec![], RunOptions::default()).await.unwrap();
    cluster.engines[0].stop().await;
    assert!(matches!(collect(answer).await, Err(QueryError::Cancelled)));
    assert!(matches!(cluster.error("SELECT 1").await, QueryError::Cancelled));
    ends(&cluster).await;
}
