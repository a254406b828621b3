//! Names of profiles are numbers inside: nobody may see it.

use crate::{cluster::Cluster, world::World};

/// Statements over `{events}` and `{profiles}` that do with names whatever one can.
const STATEMENTS: [&str; 26] = [
    "SELECT profile_id, count(*) FROM {events} e GROUP BY profile_id ORDER BY profile_id",
    "SELECT DISTINCT profile_id FROM {events} e ORDER BY profile_id DESC LIMIT 7",
    "SELECT min(profile_id), max(profile_id), count(DISTINCT profile_id), count(profile_id) FROM {events} e",
    "SELECT source, min(profile_id) FILTER (WHERE name = 'Order Completed') FROM {events} e GROUP BY source ORDER BY 1",
    "SELECT count(DISTINCT CASE WHEN name = 'Order Completed' THEN profile_id END) FROM {events} e",
    "SELECT count(DISTINCT CASE name WHEN 'Order Completed' THEN profile_id ELSE 'none' END) FROM {events} e",
    "SELECT upper(profile_id), length(profile_id), profile_id || '-x' FROM {profiles} p ORDER BY 1",
    "SELECT count(*) FROM {events} e WHERE profile_id LIKE '%a'",
    "SELECT count(*) FROM {events} e WHERE profile_id < '8' OR profile_id > 'f'",
    "SELECT count(*) FROM {events} e WHERE profile_id IN (SELECT profile_id FROM {profiles} p WHERE events > 2)",
    "SELECT count(*) FROM {events} e WHERE profile_id NOT IN ('a', '00000000000000000000000000000000')",
    "SELECT count(*) FROM {events} e WHERE profile_id = (SELECT max(profile_id) FROM {profiles} p)",
    "SELECT count(*) FROM {events} e WHERE profile_id IS NULL OR profile_id IS DISTINCT FROM '00'",
    "SELECT count(*) FROM {events} e JOIN {profiles} p ON p.profile_id = e.profile_id AND p.profile_id <> 'x'",
    "SELECT count(*) FROM {events} e JOIN {profiles} p ON p.profile_id > e.profile_id",
    "SELECT count(*) FROM {events} e JOIN {profiles} p ON substr(p.profile_id, 1, 1) = substr(e.profile_id, 1, 1)",
    "SELECT count(*) FROM {profiles} p LEFT JOIN (SELECT 'x' AS t UNION ALL SELECT min(profile_id) FROM {events} e) o ON o.t = p.profile_id WHERE o.t IS NOT NULL",
    "SELECT profile_id FROM {profiles} p UNION SELECT message_id FROM {events} e ORDER BY 1",
    "SELECT profile_id FROM {profiles} p UNION ALL SELECT profile_id FROM {events} e ORDER BY 1",
    "SELECT profile_id FROM {profiles} p EXCEPT SELECT profile_id FROM {events} e WHERE name = 'Order Completed' ORDER BY 1",
    "SELECT profile_id, row_number() OVER (PARTITION BY profile_id ORDER BY timestamp, message_id), lag(profile_id) OVER (ORDER BY profile_id, message_id), first_value(profile_id) OVER (PARTITION BY source ORDER BY message_id) FROM {events} e ORDER BY 1, 2",
    "SELECT profile_id, source, count(*) FROM {events} e GROUP BY ROLLUP (profile_id, source) ORDER BY 1 NULLS LAST, 2 NULLS LAST",
    "SELECT array_agg(profile_id ORDER BY profile_id)[1], string_agg(profile_id, ',' ORDER BY profile_id) FROM {profiles} p",
    "SELECT coalesce(nullif(profile_id, 'x'), 'y'), CASE WHEN events > 2 THEN profile_id ELSE NULL END FROM {profiles} p ORDER BY 1",
    "WITH RECURSIVE n AS (SELECT min(profile_id) AS id, 1 AS i FROM {profiles} p UNION ALL SELECT id, i + 1 FROM n WHERE i < 3) SELECT id, i FROM n ORDER BY i",
    "SELECT p.profile_id, (SELECT count(*) FROM {events} e WHERE e.profile_id = p.profile_id) FROM {profiles} p ORDER BY 1",
];

/// Tables whose names are texts from the beginning.
const EVENTS: &str =
    "(SELECT concat(profile_id, '') AS profile_id, name, source, timestamp, message_id FROM events)";
const PROFILES: &str = "(SELECT concat(profile_id, '') AS profile_id, events FROM profiles)";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_with_names_gives_what_it_gives_with_texts() {
    for cluster in [Cluster::of_three(&World::of(60)).await, Cluster::of_one(&World::of(60)).await] {
        for statement in STATEMENTS {
            let over = |events: &str, profiles: &str| {
                statement.replace("{events}", events).replace("{profiles}", profiles)
            };
            let (numbers, texts) = (
                cluster.rows(&over("events", "profiles")).await,
                cluster.rows(&over(EVENTS, PROFILES)).await,
            );
            assert!(!numbers.is_empty(), "{statement}");
            assert_eq!(numbers, texts, "{statement}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_joins_go_by_numbers() {
    let cluster = Cluster::of_three(&World::of(30)).await;
    let sql = "SELECT e.profile_id, count(*) FROM events e JOIN profiles p ON p.profile_id = e.profile_id GROUP BY e.profile_id \
               ORDER BY 2 DESC, 1 LIMIT 3";
    let plan = cluster.rows(&format!("EXPLAIN {sql}")).await[1][1].clone();
    let texts: Vec<&str> = plan.lines().filter(|line| line.contains("isthmus_id(")).collect();
    assert_eq!(texts.len(), 1, "digits are made once, of what comes out: {plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_come_in_their_order() {
    let world = World::of(1_500);
    for cluster in [Cluster::of_three(&world).await, Cluster::of_one(&world).await] {
        // More than one batch of each. Above the sort names are made of numbers, and something is computed.
        let named = cluster.rows("SELECT profile_id, message_id FROM events ORDER BY 1, 2").await;
        assert!(named.len() > 4 * 512);
        assert!(named.is_sorted());
        let computed = "SELECT upper(message_id) FROM events ORDER BY profile_id, message_id";
        let expected: Vec<Vec<String>> = named.iter().map(|row| vec![row[1].to_uppercase()]).collect();
        assert_eq!(cluster.rows(computed).await, expected);
    }
}
