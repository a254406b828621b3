//! Where the work is done.

use std::collections::{BTreeMap, BTreeSet};

use crate::{cluster::Cluster, fake::SHARDS, world::World};

async fn plan(cluster: &Cluster, sql: &str) -> String {
    cluster.rows(&format!("EXPLAIN {sql}")).await[1][1].clone()
}

/// What stands in the stage of each scan, above it, nearest first.
fn above_scans(plan: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut stage: Vec<String> = Vec::new();
    for line in plan.lines() {
        let bare = line.trim_start_matches([' ', '│', '┌', '└', '─']);
        if line.contains('┌') {
            stage.clear();
        } else if bare.starts_with("ScanExec") {
            found.push(stage.iter().rev().cloned().collect());
        } else {
            stage.push(bare.to_owned());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_by_aggregates_in_part_below_the_network() {
    let cluster = Cluster::of_three(&World::of(30)).await;
    let plan =
        plan(&cluster, "SELECT source, count(*) FROM events WHERE name LIKE 'Order%' GROUP BY source").await;
    let above = above_scans(&plan);
    assert_eq!(above.len(), 1, "{plan}");
    assert!(above[0].iter().any(|node| node.starts_with("FilterExec")), "{plan}");
    assert!(above[0].iter().any(|node| node.starts_with("AggregateExec: mode=Partial")), "{plan}");
    assert!(plan.contains("tasks=3"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_goes_down_to_the_scan() {
    let cluster = Cluster::of_three(&World::of(200)).await;
    let plan = plan(&cluster, "SELECT message_id FROM events LIMIT 3").await;
    assert!(plan.contains("limit=3"), "{plan}");
    assert_eq!(cluster.rows("SELECT message_id FROM events LIMIT 3").await.len(), 3);
}

/// And the plans of other nodes say so, too.
#[tokio::test(flavor = "multi_thread")]
async fn joins_make_way_for_events() {
    let cluster = Cluster::of_three(&World::of(30)).await;
    let sql =
        "SELECT count(*) FROM events a JOIN events b ON b.source = a.source AND b.timestamp > a.timestamp";
    let plan = plan(&cluster, sql).await;
    assert!(plan.contains("PaceExec"), "{plan}");
    assert!(cluster.rows(sql).await[0][0].parse::<u64>().unwrap() > 0);
    let plan = self::plan(&cluster, "SELECT source, count(*) FROM events GROUP BY source").await;
    assert!(!plan.contains("PaceExec"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_needs_no_network() {
    let cluster = Cluster::of_one(&World::of(30)).await;
    let plan = plan(&cluster, "SELECT source, count(*) FROM events GROUP BY source").await;
    assert!(!plan.contains("Network") && !plan.contains("Stage"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_another_node_alone_is_read_there() {
    let world = World::of(30);
    let cluster = Cluster::of_another(&world).await;
    let expected = world.events.len().to_string();
    assert_eq!(cluster.rows("SELECT count(*) FROM events").await, [[expected]]);
    assert_eq!(cluster.rows("SELECT count(*) FROM profiles").await, [["30"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_would_read_too_little_is_made_again() {
    let world = World::of(60);
    let cluster = Cluster::of_three(&world).await;
    // The list of sources is on this node alone: without a second look, the scan would have one task with it.
    let sql = "SELECT count(*) FROM (SELECT source FROM events UNION ALL SELECT name FROM system.sources)";
    let expected = (world.events.len() + 1).to_string();
    assert_eq!(cluster.rows(sql).await, [[expected]]);
    let plan = plan(&cluster, sql).await;
    assert!(plan.contains("tasks=3"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_took_is_told_shard_by_shard() {
    let world = World::of(60);
    for cluster in [Cluster::of_three(&world).await, Cluster::of_one(&world).await] {
        let shards = if cluster.nodes.len() == 3 { SHARDS } else { 1 };
        let text = cluster.rows("EXPLAIN ANALYZE SELECT source, count(*) FROM events GROUP BY source").await
            [0][1]
            .clone();
        for shard in 0..shards {
            assert!(text.contains(&format!("shard {shard}: batches=")), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn distinct_counts_beside_others_need_no_table_for_each_group() {
    let world = World::of(60);
    let cluster = Cluster::of_three(&world).await;
    // Over a table that gives the engine no chance to group twice: a filter that leaves nothing out.
    let counted = |filter: &str| {
        format!(
            "SELECT profile_id, count(DISTINCT source){filter}, count(*), count(name), sum(length(message_id)), min(name), \
             max(timestamp) FROM events GROUP BY profile_id ORDER BY profile_id"
        )
    };
    let (twice, once) = (counted(""), counted(" FILTER (WHERE true OR random() < 2)"));
    assert_eq!(cluster.rows(&twice).await, cluster.rows(&once).await);
    let plan = plan(&cluster, &twice).await;
    assert!(!plan.contains("aggr=[count(DISTINCT"), "{plan}");
    let sql = "SELECT source AS s, count(DISTINCT profile_id) AS people, count(*) AS n FROM events GROUP BY source HAVING count(*) > 0 ORDER BY s";
    // Of one event each, so that nothing is counted by the way that is tried.
    let each = "SELECT source, profile_id FROM events";
    let mut expected: BTreeMap<String, (BTreeSet<String>, u64)> = BTreeMap::new();
    for row in cluster.rows(each).await {
        let (people, events) = expected.entry(row[0].clone()).or_default();
        people.insert(row[1].clone());
        *events += 1;
    }
    let row = |(source, (people, events)): (String, (BTreeSet<String>, u64))| {
        [source, people.len().to_string(), events.to_string()]
    };
    let expected: Vec<[String; 3]> = expected.into_iter().map(row).collect();
    assert!(expected.len() > 1);
    assert_eq!(cluster.rows(sql).await, expected);
}
