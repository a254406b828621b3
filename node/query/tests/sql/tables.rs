//! What the tables hold, against what was put into the shards.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::EventType;
use isthmus_query::Members;

use crate::{
    cluster::Cluster,
    fake::{AT, SHARDS},
    world::{DAY, START, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_there_once_with_its_profile() {
    let world = World::of(150);
    let cluster = Cluster::of_three(&world).await;
    let mut found = cluster
        .rows("SELECT message_id, profile_id, type, name, source, CAST(timestamp AS BIGINT), properties, context FROM events")
        .await;
    found.sort();
    let names = world.names();
    let or_null = |text: &[u8]| {
        if text.is_empty() { "NULL".to_owned() } else { String::from_utf8(text.to_vec()).unwrap() }
    };
    let mut expected: Vec<Vec<String>> = world
        .events
        .iter()
        .zip(names)
        .map(|(event, name)| {
            let r = &event.record;
            vec![
                r.message_id.clone(),
                name,
                EventType::try_from(r.kind).unwrap().name().to_owned(),
                or_null(r.name.as_bytes()),
                r.source.clone(),
                r.timestamp.to_string(),
                or_null(&r.properties),
                or_null(&r.context),
            ]
        })
        .collect();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(
        cluster.answer("SELECT 1 FROM events", vec![], Default::default()).await.unwrap().cut,
        Some(AT)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_engine_gives_the_same_and_lets_go_of_the_cut() {
    let world = World::of(60);
    let cluster = Cluster::of_three(&world).await;
    let sql = "SELECT source, count(*), sum(revenue) FROM events GROUP BY source ORDER BY source";
    let mut answers = BTreeSet::new();
    for engine in &cluster.engines {
        let answer = crate::cluster::answer(engine, sql, vec![], Default::default()).await.unwrap();
        answers.insert(crate::cluster::collect(answer).await.unwrap());
    }
    assert_eq!(answers.len(), 1);
    crate::cluster::until("no cut is open", || {
        cluster.store.counts.cuts.load(std::sync::atomic::Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registered_properties_are_typed_and_read_only_when_asked_for() {
    let world = World::of(60);
    let cluster = Cluster::of_three(&world).await;
    let mut expected: BTreeMap<String, (i128, i64)> = BTreeMap::new();
    for event in &world.events {
        let text = String::from_utf8(event.record.properties.to_vec()).unwrap();
        let Some((_, rest)) = text.split_once("\"product\":\"") else { continue };
        let product = rest.split('"').next().unwrap().to_owned();
        let number = |key: &str| {
            let rest = text.split_once(&format!("\"{key}\":"))?.1;
            Some(rest.split([',', '}']).next()?.to_owned())
        };
        let cents = number("revenue").map_or(0, |n| n.replace('.', "").parse::<i128>().unwrap());
        let quantity = number("quantity").map_or(0, |n| n.parse::<i64>().unwrap());
        let sums = expected.entry(product).or_default();
        sums.0 += cents;
        sums.1 += quantity;
    }
    let expected: Vec<Vec<String>> = expected
        .into_iter()
        .map(|(product, (cents, quantity))| {
            vec![product, format!("{}.{:02}000000", cents / 100, cents % 100), quantity.to_string()]
        })
        .collect();
    let sql = "SELECT product, sum(revenue), sum(quantity) FROM events WHERE product IS NOT NULL GROUP BY product ORDER BY 1";
    assert_eq!(cluster.rows(sql).await, expected);
    cluster.store.counts.columns.lock().unwrap().clear();
    cluster.rows("SELECT count(name) FROM events WHERE source = 'web'").await;
    let asked = cluster.store.counts.columns.lock().unwrap().clone();
    // The shards leave out what is of another source, and nobody looks at it again.
    assert!(!asked.is_empty() && asked.iter().all(|columns| columns.len() == 1), "only the name: {asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn comparisons_with_constants_reach_the_shards() {
    let world = World::of(40);
    let cluster = Cluster::of_three(&world).await;
    let sql = "SELECT count(*) FROM events WHERE name = 'Order Completed' AND type = 'track' AND source IN ('web', 'shop') AND \
               timestamp >= TIMESTAMP '2026-01-11T00:00:00Z' AND timestamp < TIMESTAMP '2026-03-01T00:00:00Z'";
    let (from, to) = (START + 10 * DAY, START + 59 * DAY);
    let is = |event: &&crate::world::Event| {
        let r = &event.record;
        r.name == "Order Completed" && r.source != "app" && r.timestamp >= from && r.timestamp < to
    };
    let expected = world.events.iter().filter(is).count();
    assert!(expected > 0);
    assert_eq!(cluster.rows(sql).await, [[expected.to_string()]]);
    let filters = cluster.store.counts.filters.lock().unwrap().clone();
    for filter in &filters {
        assert_eq!(filter.timestamp, (Some(from), Some(to - 1)));
        assert_eq!(filter.names.as_deref(), Some(&["Order Completed".to_owned()][..]));
        assert_eq!(filter.sources.as_ref().map(Vec::len), Some(2));
        assert_eq!(filter.types.as_deref(), Some(&[EventType::Track as u8][..]));
    }
    assert!(!filters.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_tables_are_all_there() {
    let world = World::of(90);
    let cluster = Cluster::of_three(&world).await;
    let profiles = world.profiles();
    let mut identifiers: Vec<Vec<String>> = Vec::new();
    for (facet, home) in &world.homes {
        let id = &world.identifiers[facet];
        let name = profiles[home].profile_id.to_string();
        identifiers.push(vec![name, id.namespace().to_string(), id.value().to_owned()]);
    }
    identifiers.sort();
    let mut found = cluster.rows("SELECT profile_id, namespace, value FROM identifiers").await;
    found.sort();
    assert_eq!(found, identifiers);
    let links = world.homes.iter().filter(|(facet, home)| facet != home).count();
    let sql =
        "SELECT count(*), count(followed) FROM link_facts l JOIN profiles p ON p.profile_id = l.profile_id";
    assert_eq!(cluster.rows(sql).await, [[links.to_string(), "0".to_owned()]]);
    let even = profiles.keys().filter(|home| home.as_bytes()[0] % 2 == 0).count();
    let sql = "SELECT segment, count(DISTINCT p.profile_id) FROM segment_members m JOIN profiles p USING (profile_id) GROUP BY 1";
    assert_eq!(cluster.rows(sql).await, [["even".to_owned(), even.to_string()]]);
    let sql = "SELECT reason, count(*), min(id) FROM quarantine WHERE resolution IS NULL GROUP BY reason";
    assert_eq!(cluster.rows(sql).await, [["MALFORMED".to_owned(), SHARDS.to_string(), "0".repeat(32)]]);
    let sql = "SELECT count(*), sum(slots) FROM system.shards s JOIN system.nodes n ON n.alive";
    assert_eq!(cluster.rows(sql).await, [[SHARDS.to_string(), SHARDS.to_string()]]);
    let answer = cluster.answer("SELECT name FROM system.sources", vec![], Default::default()).await.unwrap();
    assert_eq!(answer.cut, None, "nothing of a shard was read");
    let sql = "SELECT e.source, count(*) FROM events e JOIN system.sources s ON s.name = e.source GROUP BY 1";
    let web = world.events.iter().filter(|event| event.record.source == "web").count();
    assert_eq!(cluster.rows(sql).await, [["web".to_owned(), web.to_string()]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_tells_of_itself() {
    let cluster = Cluster::of_three(&World::of(3)).await;
    let names: Vec<String> = cluster.engines[0]
        .tables()
        .unwrap()
        .into_iter()
        .map(|table| format!("{}.{}", table.schema, table.name))
        .collect();
    assert_eq!(
        names,
        [
            "public.profiles",
            "public.events",
            "public.identifiers",
            "public.link_facts",
            "public.segment_members",
            "public.segment_overflows",
            "public.quarantine",
            "system.nodes",
            "system.shards",
            "system.sources"
        ]
    );
    let sql = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'profiles' AND \
               column_name IN ('revenue', 'age', 'country', 'first_seen') ORDER BY 1";
    let found = cluster.rows(sql).await;
    assert_eq!(
        found.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(),
        ["age", "country", "first_seen", "revenue"]
    );
    assert_eq!(found[3][1], "Decimal128(38, 8)");
    assert!(cluster.rows("SHOW TABLES").await.len() >= 9);
    assert!(
        cluster.rows("DESCRIBE events").await.iter().any(|row| row[0] == "quantity" && row[1] == "Int64")
    );
    let sources =
        cluster.rows("SELECT column_name FROM information_schema.columns WHERE table_name = 'events'").await;
    assert!(!sources.contains(&vec!["Source".to_owned()]), "a fixed column has the name already");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_column_is_described_and_every_key_tells_rows_apart() {
    let cluster = Cluster::of_three(&World::of(60)).await;
    let engine = &cluster.engines[0];
    let of =
        |metadata: &std::collections::HashMap<String, String>| metadata[isthmus_query::DESCRIPTION].clone();
    for table in engine.tables().unwrap() {
        let name = format!("{}.{}", table.schema, table.name);
        assert!(!of(table.columns.metadata()).is_empty(), "{name}");
        for field in table.columns.fields() {
            assert!(!of(field.metadata()).is_empty(), "{name}: {}", field.name());
        }
        let key = table.key.join(", ");
        let all_set =
            table.key.iter().map(|column| format!("{column} IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
        let each = format!("SELECT {key} FROM {name} WHERE {all_set} GROUP BY {key}");
        let sql = format!("SELECT (SELECT count(*) FROM {name}) - (SELECT count(*) FROM ({each}))");
        assert_eq!(cluster.rows(&sql).await, [["0"]], "{name}: {key}");
    }
    let tables = engine.tables().unwrap();
    let meaning = |table: &str, column: &str| {
        let table = tables.iter().find(|known| known.name == table).unwrap();
        of(table.columns.field_with_name(column).unwrap().metadata())
    };
    assert_eq!(meaning("profiles", "age"), "In full years", "as the registry says");
    assert!(meaning("profiles", "country").contains("trait"), "the registry says nothing");
    assert!(meaning("profiles", "revenue").contains("USD"));
    // A fixed column is what it is, whatever is registered under its name.
    assert_eq!(meaning("events", "source"), "The source that sent it");
    // Answers are not described: nodes would have to agree on it.
    let answer = cluster.answer("SELECT age FROM profiles", vec![], Default::default()).await.unwrap();
    assert!(answer.schema.field(0).metadata().is_empty() && answer.schema.metadata().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_read_by_operators_and_functions() {
    let world = World::of(40);
    let cluster = Cluster::of_three(&world).await;
    let sql =
        "SELECT context->'context'->'page'->>'path' AS path, count(*) FROM events GROUP BY 1 ORDER BY 1";
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for at in 0..world.events.len() {
        *expected.entry(format!("/p{}", at % 5)).or_default() += 1;
    }
    // The number of an event is its place when it was made.
    let expected: Vec<Vec<String>> =
        expected.into_iter().map(|(path, n)| vec![path, n.to_string()]).collect();
    assert_eq!(cluster.rows(sql).await, expected);
    let sql = "SELECT DISTINCT json_get_str(properties, 'items', 0, 'sku') IS NULL, isthmus_any(properties, 'orderId') FROM \
               events WHERE name = 'Order Completed'";
    assert_eq!(cluster.rows(sql).await, [["false", "true"]]);
    let sql = "SELECT isthmus_number(properties, 'revenue') - CAST(revenue AS DECIMAL(76, 20)) AS d, count(*) FROM events WHERE \
               revenue IS NOT NULL GROUP BY 1";
    assert_eq!(cluster.rows(sql).await.len(), 1);
    let sql = "SELECT isthmus_divide(CAST('1' AS DECIMAL(76, 20)), CAST('3' AS DECIMAL(76, 20))), \
               isthmus_multiply(CAST('-0.5' AS DECIMAL(76, 20)), CAST('0.00000000000000000001' AS DECIMAL(76, 20))), \
               isthmus_divide(CAST('1' AS DECIMAL(76, 20)), CAST('0' AS DECIMAL(76, 20))), \
               isthmus_time('{\"t\":\"2026-01-01\"}', 't'), isthmus_texts('[\"a\",\"b\"]'), isthmus_boolean('{\"b\":true}', 'b'), \
               isthmus_text('{\"n\":5}', 'n')";
    let row = &cluster.rows(sql).await[0];
    assert_eq!(row[0], "0.33333333333333333333");
    assert_eq!(row[1], "-0.00000000000000000001", "halves go away from zero");
    assert_eq!(row[2..], ["NULL", &START.to_string(), "[a, b]", "true", "5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_opened_with_the_segments_that_are_asked_for_and_no_others() {
    let cluster = Cluster::of_three(&World::of(20)).await;
    let wanted = |segments: Option<&[&str]>, since| Members {
        segments: segments.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        since,
    };
    for (sql, asked) in [
        ("SELECT count(*) FROM events", None),
        ("SELECT count(*) FROM segment_members WHERE segment = 'even'", Some(wanted(Some(&["even"]), false))),
        ("SELECT segment, count(*) FROM segment_members GROUP BY 1", Some(wanted(None, false))),
        (
            "SELECT profile_id, since FROM segment_members WHERE segment IN ('a', 'b') AND since IS NOT NULL",
            Some(wanted(Some(&["a", "b"]), true)),
        ),
        (
            "SELECT count(*) FROM events e WHERE e.profile_id IN (SELECT profile_id FROM segment_members WHERE segment = 'a')",
            Some(wanted(Some(&["a"]), false)),
        ),
    ] {
        cluster.rows(sql).await;
        assert_eq!(cluster.store.counts.members.lock().unwrap().drain(..).next_back(), asked, "{sql}");
    }
}
