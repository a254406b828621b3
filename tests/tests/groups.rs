//! Groups of a cluster, from whatever end one looks, against a plain model of what was sent.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use std::collections::{BTreeMap, BTreeSet};

use isthmus_tests::{
    ask,
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
};
use serde_json::{Value, json};

/// What was said: customer, whether under the cookie, group, second, plan.
type Said = (u32, bool, u32, u32, Option<u32>);

fn cli() -> Cli {
    Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()])
}

/// Customers each belong to some of the groups, said under their user id, or under a cookie that is linked to it later.
fn said() -> Vec<Said> {
    let all = (0..600_u32).map(|n| {
        let (user, group) = (n * 7 % 40, n / 11 % 9);
        (user, n / 5 % 3 == 0, group, n * 37 % 60, (n % 2 == 0).then_some(n))
    });
    all.collect()
}

fn event(number: usize, (user, cookie, group, second, plan): Said) -> Value {
    let who = if cookie { "anonymousId" } else { "userId" };
    let id = if cookie { format!("cookie-{user}") } else { format!("user-{user}") };
    let traits = plan.map_or(json!({}), |plan| json!({"plan": plan, "name": format!("Group {group}")}));
    json!({
        "type": "group", who: id, "groupId": format!("g{group}"), "messageId": format!("m-{number}"),
        "timestamp": format!("2026-01-01T00:00:{second:02}Z"), "traits": traits,
    })
}

/// For each group: events, newest plan, and for each customer identifiers and count.
#[derive(Default, Debug)]
struct Group {
    events: u64,
    plan: Option<(u32, String, u32)>,
    members: BTreeMap<u32, (BTreeSet<String>, u64)>,
}

fn model() -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (number, (user, cookie, group, second, plan)) in said().into_iter().enumerate() {
        let group = groups.entry(format!("g{group}")).or_default();
        group.events += 1;
        if let Some(plan) = plan {
            let said = (second, format!("m-{number}"), plan);
            group.plan = Some(group.plan.take().map_or(said.clone(), |known| known.max(said)));
        }
        let member = group.members.entry(user).or_default();
        let id = if cookie { format!("anonymous_id:cookie-{user}") } else { format!("user_id:user-{user}") };
        member.0.insert(id);
        member.1 += 1;
    }
    groups
}

fn identifiers(member: &Value) -> BTreeSet<String> {
    let all = member["identifiers"].as_array().unwrap().iter();
    all.map(|id| format!("{}:{}", id["namespace"].as_str().unwrap(), id["value"].as_str().unwrap())).collect()
}

/// All of a list over HTTP, in pages of `limit`, each asked of another node.
fn pages(cluster: &Cluster, path: &str, limit: usize) -> Vec<Value> {
    let (mut found, mut cursor, mut node) = (Vec::new(), String::new(), 0);
    loop {
        let to = cluster.nodes[node % 3].http;
        let (status, body) = ask::http(to, &format!("{path}?limit={limit}&cursor={cursor}"));
        assert_eq!(status, 200, "{body}");
        let page: Value = serde_json::from_str(&body).unwrap();
        found.extend(page["data"].as_array().unwrap().clone());
        match page["cursor"]["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return found,
        }
        node += 1;
    }
}

/// Everything that is read of groups, against the model. `merged`: cookies are linked to users.
fn assert_as_said(cluster: &Cluster, merged: bool) {
    let endpoints = cluster.endpoints();
    let wanted = model();
    let groups = pages(cluster, "/v1/groups", 2);
    assert_eq!(groups.len(), wanted.len());
    for shown in &groups {
        let name = shown["group_id"].as_str().unwrap();
        let group = &wanted[name];
        assert_eq!(shown["events"], group.events, "{shown}");
        assert_eq!(shown["traits"]["plan"], json!(group.plan.as_ref().unwrap().2), "{shown}");
        let members = pages(cluster, &format!("/v1/groups/{name}/members"), 7);
        let found: BTreeMap<BTreeSet<String>, u64> =
            members.iter().map(|member| (identifiers(member), member["events"].as_u64().unwrap())).collect();
        assert_eq!(found.len(), members.len(), "nobody is listed twice");
        let count: u64 = found.values().sum();
        assert_eq!(count, group.events);
        let of_members: usize = group.members.values().map(|(ids, _)| ids.len()).sum();
        assert_eq!(shown["member_identifiers"], of_members, "{shown}");
        if merged {
            let wanted: BTreeMap<_, _> = group.members.values().cloned().collect();
            assert_eq!(found, wanted, "{name}");
            let ids: BTreeSet<&str> = members.iter().map(|m| m["profile_id"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), group.members.len());
        } else {
            assert_eq!(found.len(), of_members, "each identifier by itself");
        }
        let mut shown = shown.clone();
        let mut told = cli().json(&endpoints, &["group", "get", &format!("  {name} ")]).last();
        (shown["version"], told["version"]) = (Value::Null, Value::Null);
        assert_eq!(shown, told);
        let mut told = cli().json(&endpoints, &["group", "members", name]).objects();
        let mut members = members;
        let by_id = |member: &Value| member["profile_id"].as_str().unwrap().to_owned();
        told.sort_by_key(by_id);
        members.sort_by_key(by_id);
        assert_eq!(told, members);
    }
    for user in [0, 3, 17, 39] {
        let key = format!("user_id:user-{user}");
        let mut wanted_of: BTreeMap<String, u64> = BTreeMap::new();
        for (name, group) in &wanted {
            let fits =
                |(u, cookie, g, ..): &Said| *u == user && (merged || !cookie) && format!("g{g}") == *name;
            let count = said().into_iter().filter(fits).count() as u64;
            if count > 0 && group.members.contains_key(&user) {
                wanted_of.insert(name.clone(), count);
            }
        }
        let memberships = pages(cluster, &format!("/v1/profiles/{key}/groups"), 1);
        let found: BTreeMap<String, u64> = memberships
            .iter()
            .map(|one| (one["group_id"].as_str().unwrap().to_owned(), one["events"].as_u64().unwrap()))
            .collect();
        assert_eq!((found, memberships.len()), (wanted_of.clone(), wanted_of.len()), "{key}");
        assert_eq!(cli().json(&endpoints, &["profile", "groups", &key]).objects(), memberships);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_groups_are_what_events_said_through_merges_and_crashes() {
    let folder = tempfile::tempdir().unwrap();
    let options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.path(), 3);
    let mut cluster = Cluster::start(options).await;
    let events: Vec<Value> =
        said().into_iter().enumerate().map(|(number, said)| event(number, said)).collect();
    // Half of it by a file, with the busiest node killed on the way; the other half, and much of the first again, by
    // batches.
    let file = folder.path().join("groups.jsonl");
    let lines: Vec<String> = events[..400].iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let busiest = cluster.busiest().await;
    let endpoints = cluster.endpoints();
    let path = file.to_str().unwrap().to_owned();
    let sender = std::thread::spawn(move || {
        cli().run(&endpoints, &["ingest", &path, "--retry-for", "60s", "--output", "json"])
    });
    cluster.kill(busiest);
    cluster.launch(busiest);
    let ended = sender.join().unwrap();
    assert_eq!(ended.code, 0, "{}", ended.err);
    cluster.healthy().await;
    let again: Vec<_> = events[200..].iter().map(|event| ask::json(event.to_string())).collect();
    for part in again.chunks(50) {
        let answer = ask::send(&cluster.channel(1), part.to_vec()).await.unwrap();
        // What was acknowledged is seen, at once and on any node, at the group, which lies wherever it may.
        assert!(answer.results.iter().all(|result| matches!(result.outcome, 1 | 2)), "{answer:?}");
    }
    let both =
        model().values().flat_map(|group| group.members.values()).filter(|(ids, _)| ids.len() == 2).count();
    assert!(both > 20, "{both} customers are in a group under two identifiers");
    assert_as_said(&cluster, false);
    let links: Vec<_> = (0..40)
        .map(|user| {
            ask::json(
                json!({"type": "identify", "userId": format!("user-{user}"),
                    "anonymousId": format!("cookie-{user}"), "messageId": format!("link-{user}")})
                .to_string(),
            )
        })
        .collect();
    ask::accepted(&cluster.channel(2), links).await;
    assert_as_said(&cluster, true);
    for node in 0..3 {
        cluster.kill(node);
        cluster.launch(node);
    }
    cluster.healthy().await;
    assert_as_said(&cluster, true);
    for user in 0..40 {
        let (user, cookie) = (format!("user_id:user-{user}"), format!("anonymous_id:cookie-{user}"));
        let ended = cli().run(&cluster.endpoints(), &["profile", "split", &user, &cookie, "--never"]);
        assert_eq!(ended.code, 0, "{}", ended.err);
    }
    assert_as_said(&cluster, false);
    // No group is a customer.
    let profiles = cli().json(&cluster.endpoints(), &["profile", "list"]).objects();
    let named = |profile: &Value| identifiers(profile).iter().any(|id| id.starts_with("group_id"));
    assert!(!profiles.iter().any(named));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_nobody_has_named_and_names_that_are_none_are_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.path(), 1);
    let cluster = Cluster::start(options).await;
    let channel = cluster.channel(0);
    for (group, reason) in [("", "FIELD_MISSING"), ("a\u{7}b", "IDENTIFIER_FORBIDDEN_CHARACTER")] {
        let event = json!({"type": "group", "userId": "u", "groupId": group, "messageId": reason});
        let answer = ask::send(&channel, vec![ask::json(event.to_string())]).await.unwrap();
        assert_eq!((answer.results[0].outcome, answer.results[0].reason.as_str()), (3, reason));
    }
    let long = json!({"type": "group", "userId": "u", "groupId": "x".repeat(257), "messageId": "long"});
    let answer = ask::send(&channel, vec![ask::json(long.to_string())]).await.unwrap();
    assert_eq!(answer.results[0].reason, "IDENTIFIER_TOO_LONG");
    // A placeholder names nobody; the rest of the event counts.
    let blocked = json!({"type": "group", "userId": "u", "groupId": "undefined", "messageId": "blocked"});
    ask::accepted(&channel, vec![ask::json(blocked.to_string())]).await;
    let http = cluster.nodes[0].http;
    let reason = |path: &str| {
        let (status, body) = ask::http(http, path);
        let body: Value = serde_json::from_str(&body).unwrap();
        (status, body["error"]["reason"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(
        ask::http(http, "/v1/groups").1,
        r#"{"cursor":{"has_more":false,"next":null,"limit":100},"data":[]}"#
    );
    assert_eq!(pages_of_one(&cluster, "/v1/profiles/user_id:u/groups"), 0);
    assert_eq!(reason("/v1/groups/nobody"), (404, "NOT_FOUND".to_owned()));
    assert_eq!(reason("/v1/groups/nobody/members"), (404, "NOT_FOUND".to_owned()));
    assert_eq!(reason("/v1/groups/undefined"), (400, "INVALID_GROUP_ID".to_owned()));
    assert_eq!(reason("/v1/groups/g?limit=3"), (400, "INVALID_QUERY".to_owned()));
    assert_eq!(reason("/v1/groups/g/members?cursor=zz"), (400, "INVALID_CURSOR".to_owned()));
    assert_eq!(reason("/v1/profiles/user_id:nobody/groups"), (404, "NOT_FOUND".to_owned()));
    let ended = cli().run(&cluster.endpoints(), &["group", "get", "nobody"]);
    assert!(ended.code == 1 && ended.err.contains("no event has named this group"), "{}", ended.err);
}

fn pages_of_one(cluster: &Cluster, path: &str) -> usize {
    let (status, body) = ask::http(cluster.nodes[0].http, path);
    assert_eq!(status, 200, "{body}");
    let page: Value = serde_json::from_str(&body).unwrap();
    page["data"].as_array().unwrap().len()
}
