//! Profiles across shards, against the domain's fold.

use std::collections::BTreeMap;

use isthmus_domain::Profile;

use crate::{cluster::Cluster, world::World};

const COLUMNS: &str =
    "profile_id, identifiers, events, event_counts, type_counts, revenue_by_currency, traits, sources";

fn json_of(profile: &Profile) -> serde_json::Value {
    serde_json::from_slice(&profile.to_json()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_what_the_domain_folds() {
    let world = World::of(200);
    let cluster = Cluster::of_three(&world).await;
    let found = cluster.rows(&format!("SELECT {COLUMNS} FROM profiles")).await;
    let mut expected: BTreeMap<String, Profile> = BTreeMap::new();
    let (mut alone, mut renamed) = (0, 0);
    for (home, profile) in world.profiles() {
        alone += usize::from(profile.identifiers.len() == 1);
        renamed += usize::from(profile.profile_id != home);
        expected.insert(profile.profile_id.to_string(), profile);
    }
    assert!(alone > 10 && renamed > 10, "both kinds are there: {alone} {renamed}");
    assert_eq!(found.len(), expected.len());
    for row in found {
        let profile = expected.remove(&row[0]).expect("each is there once");
        let json = json_of(&profile);
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&row[1]), json["identifiers"]);
        assert_eq!(row[2], profile.events.to_string());
        assert_eq!(read(&row[3]), json["event_counts"]);
        let types: BTreeMap<&str, u64> =
            profile.type_counts.iter().map(|(kind, n)| (kind.name(), *n)).collect();
        assert_eq!(read(&row[4]), serde_json::to_value(types).unwrap());
        assert_eq!(read(&row[5]), json["revenue_by_currency"]);
        assert_eq!(read(&row[6]), json["traits"]);
        assert_eq!(read(&row[7]), json["sources"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_columns_of_profiles_agree_with_their_json() {
    let world = World::of(120);
    let cluster = Cluster::of_three(&world).await;
    let found = cluster
        .rows("SELECT profile_id, revenue, age, country, CAST(first_seen AS BIGINT), CAST(last_seen AS BIGINT) FROM profiles ORDER BY 1")
        .await;
    let mut expected: Vec<Vec<String>> = world
        .profiles()
        .values()
        .map(|profile| {
            let trait_of = |name: &str| {
                let state = &profile.traits[name];
                String::from_utf8(state.value.to_vec()).unwrap().trim_matches('"').to_owned()
            };
            vec![
                profile.profile_id.to_string(),
                format!("{}000000", profile.revenue),
                trait_of("age"),
                trait_of("country"),
                profile.first_seen.unwrap().to_string(),
                profile.last_seen.unwrap().to_string(),
            ]
        })
        .collect();
    expected.sort();
    assert_eq!(found, expected);
}

/// Facets that bring nothing to what is asked for are left out, but every profile is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_by_itself_is_what_it_is_beside_all() {
    let world = World::of(150);
    let cluster = Cluster::of_three(&world).await;
    for column in [
        "revenue",
        "revenue_by_currency",
        "age",
        "country",
        "traits",
        "event_counts",
        "type_counts",
        "sources",
        "identifiers",
        "first_seen",
    ] {
        let text = format!("coalesce(CAST({column} AS TEXT), 'NULL')");
        let alone = cluster.rows(&format!("SELECT profile_id, {text} FROM profiles ORDER BY 1")).await;
        // Each facet has a number of events.
        let beside = format!("SELECT profile_id, {text}, events FROM profiles ORDER BY 1");
        let beside: Vec<Vec<String>> =
            cluster.rows(&beside).await.into_iter().map(|row| row[..2].to_vec()).collect();
        assert_eq!(alone.len(), 150, "{column}");
        assert_eq!(alone, beside, "{column}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_counted_and_joined_with_their_events() {
    let world = World::of(120);
    let cluster = Cluster::of_three(&world).await;
    assert_eq!(cluster.rows("SELECT count(*) FROM profiles").await, [["120"]]);
    let sql = "SELECT count(*) FROM (SELECT p.profile_id FROM profiles p JOIN events e ON e.profile_id = p.profile_id GROUP BY \
               p.profile_id, p.events HAVING count(*) <> p.events)";
    assert_eq!(cluster.rows(sql).await, [["0"]], "as many events as the profile says");
    let sql = "SELECT count(*) FROM events e WHERE NOT EXISTS (SELECT 1 FROM profiles p WHERE p.profile_id = e.profile_id)";
    assert_eq!(cluster.rows(sql).await, [["0"]]);
    let name = &world.names()[0];
    let sql = format!("SELECT count(*) FROM events WHERE profile_id = '{name}'");
    let expected = world.names().iter().filter(|other| *other == name).count();
    assert_eq!(cluster.rows(&sql).await, [[expected.to_string()]]);
}
