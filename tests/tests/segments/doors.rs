//! What the command line and the service say.

use isthmus_proto::v1::{SegmentServiceWatchRequest, segment_service_client::SegmentServiceClient};
use isthmus_tests::{ask, cluster::Cluster};
use serde_json::json;

use crate::{count, ended, members, options, run};

fn order(user: &str, number: u32, time: &str, revenue: u32) -> String {
    json!({
        "type": "track", "event": "Order Completed", "userId": user, "messageId": format!("{user}-{number}"),
        "timestamp": time, "properties": {"revenue": revenue, "category": format!("c{}", number % 2)},
    })
    .to_string()
}

fn identify(user: &str, cookie: Option<&str>, traits: serde_json::Value, message: &str) -> String {
    let mut event = json!({"type": "identify", "userId": user, "messageId": message, "traits": traits});
    if let Some(cookie) = cookie {
        event["anonymousId"] = json!(cookie);
    }
    event.to_string()
}

async fn send(cluster: &Cluster, events: Vec<String>) {
    let items = events.into_iter().map(ask::json).collect();
    ask::accepted(&cluster.channel(0), items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_is_live_counted_listed_watched_edited_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(options(folder.path(), 1)).await;
    let refused = ended(&cluster, &["segment", "count", "loyal"]);
    assert!(refused.code == 1 && refused.err.contains("NO_SEGMENTS"), "{}", refused.err);
    let now = "2026-01-01T00:00:00Z";
    let mut events = Vec::new();
    for user in 0..20_u32 {
        let id = format!("u{user}");
        events.push(identify(
            &id,
            None,
            json!({"plan": if user % 2 == 0 { "pro" } else { "free" }}),
            &format!("i{user}"),
        ));
        events.extend((0..user % 5).map(|number| order(&id, number, now, 10 * (number + 1))));
    }
    send(&cluster, events).await;

    let expression = "plan = 'pro' AND events('Order Completed') >= 2";
    let preview = &run(&cluster, &["segment", "preview", expression])[0];
    // Even users with two or more orders: of 0, 2, .. 18 those whose number modulo 5 is at least 2.
    let wanted = (0..20_u32).filter(|user| user % 2 == 0 && user % 5 >= 2);
    let mut names: Vec<String> = wanted.map(|user| format!("user_id:u{user}")).collect();
    names.sort();
    assert_eq!(preview["count"].as_u64().unwrap() as usize, names.len(), "{preview}");
    assert_eq!(preview["profiles"], 20);

    run(&cluster, &["segment", "put", "loyal", expression, "--wait"]);
    run(&cluster, &["segment", "put", "buyers", "did('Order Completed')", "--wait"]);
    assert_eq!(members(&cluster, "loyal"), names);
    assert_eq!(count(&cluster, "loyal"), names.len() as u64);
    assert_eq!(count(&cluster, "count(buyers not loyal)"), 16 - names.len() as u64);
    assert_eq!(count(&cluster, "not buyers"), 4);
    assert_eq!(count(&cluster, "loyal or not buyers"), 4 + names.len() as u64);

    // An event takes somebody in and another one out, and the feed says which did it.
    let cursor = run(&cluster, &["watch", "--from", "now", "--limit", "0"]);
    let cursor = cursor[0]["cursor"].as_str().unwrap();
    send(&cluster, vec![order("u0", 7, now, 1), order("u0", 8, now, 1)]).await;
    assert!(members(&cluster, "loyal").contains(&"user_id:u0".to_owned()));
    send(&cluster, vec![identify("u0", None, json!({"plan": "free"}), "down")]).await;
    assert!(!members(&cluster, "loyal").contains(&"user_id:u0".to_owned()));
    let changes = run(&cluster, &["segment", "watch", "loyal", "--from", cursor, "--limit", "2"]);
    let said: Vec<_> = changes
        .iter()
        .map(|it| {
            (it["segment"].as_str().unwrap(), it["before"].as_str().unwrap(), it["now"].as_str().unwrap())
        })
        .collect();
    assert_eq!(said, [("loyal", "out", "in"), ("loyal", "in", "out")]);
    let all = run(
        &cluster,
        &["watch", "--from", cursor, "--event", "Order Completed", "--type", "identify", "--limit", "3"],
    );
    let event = |id: &serde_json::Value| all.iter().find(|it| it["id"] == *id).unwrap()["message_id"].clone();
    assert_eq!((event(&changes[0]["cause"]), event(&changes[1]["cause"])), (json!("u0-8"), json!("down")));

    // The same by the service's own stream, with the same cursors.
    let request = SegmentServiceWatchRequest {
        segments: vec!["loyal".to_owned()],
        cursor: cursor.to_owned(),
        ..SegmentServiceWatchRequest::default()
    };
    let mut client = SegmentServiceClient::new(cluster.channel(0));
    let mut stream = client.watch(request).await.unwrap().into_inner();
    let mut ids = Vec::new();
    while ids.len() < 2 {
        ids.extend(
            stream.message().await.unwrap().unwrap().changes.into_iter().map(|change| json!(change.id)),
        );
    }
    assert_eq!(ids, [changes[0]["id"].clone(), changes[1]["id"].clone()]);
    let request = SegmentServiceWatchRequest { segments: vec!["nobody".to_owned()], ..Default::default() };
    let refused = client.watch(request).await.unwrap_err();
    assert!(refused.message().contains("there is no segment nobody"), "{refused:?}");

    // Computed traits, and what a customer is in.
    let file = folder.path().join("spent.toml");
    std::fs::write(
        &file,
        "name = \"spent\"\naggregate = \"sum\"\nof = \"revenue\"\nevents = [\"Order Completed\"]\n",
    )
    .unwrap();
    run(&cluster, &["segment", "trait", file.to_str().unwrap(), "--wait"]);
    let of = &run(&cluster, &["profile", "segments", "user_id:u4"])[0];
    assert_eq!(
        (&of["segments"], &of["computed_traits"]),
        (&json!(["buyers", "loyal"]), &json!({"spent": "100.00"}))
    );

    let got = &run(&cluster, &["profile", "get", "user_id:u4", "--segments"])[0];
    assert_eq!(
        (&got["segments"], &got["computed_traits"], &got["overflows"]),
        (&json!(["buyers", "loyal"]), &json!({"spent": "100.00"}), &json!([]))
    );
    assert!(got["segments_version"].as_str() >= got["version"].as_str(), "{got}");
    assert!(run(&cluster, &["profile", "get", "user_id:u4"])[0].get("segments").is_none());

    // An edit answers once it is worked out; the old one is gone with it.
    run(&cluster, &["segment", "put", "loyal", "spent >= 60", "--wait"]);
    assert_eq!(count(&cluster, "loyal"), 8, "users with three or four orders");
    for name in ["loyal", "buyers"] {
        let verified = &run(&cluster, &["segment", "verify", name])[0];
        assert_eq!(
            (&verified["same"], &verified["live"]),
            (&json!(true), &verified["recounted"]),
            "{verified}"
        );
    }
    // The same as a table, with all others of SQL.
    let sql = "SELECT m.segment, count(*) AS n, count(p.profile_id) AS known, min(m.since) IS NOT NULL AS dated \
               FROM segment_members m JOIN profiles p USING (profile_id) GROUP BY 1 ORDER BY 1";
    let rows = run(&cluster, &["sql", sql]);
    let row = |name: &str, n: u64| json!({"segment": name, "n": n, "known": n, "dated": true});
    assert_eq!(rows, [row("buyers", count(&cluster, "buyers")), row("loyal", 8)]);
    let sql = "SELECT count(*) AS n FROM segment_members WHERE segment = 'loyal'";
    assert_eq!(run(&cluster, &["sql", sql])[0]["n"], 8);
    let listed = run(&cluster, &["segment", "list"]);
    assert_eq!(listed.len(), 3);
    let used = ended(&cluster, &["segment", "delete", "spent"]);
    assert!(used.code == 1 && used.err.contains("spent"), "{}", used.err);
    run(&cluster, &["segment", "delete", "loyal"]);
    assert!(ended(&cluster, &["segment", "get", "loyal"]).code == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_profiles_that_become_one_are_in_what_both_did_and_part_again() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(options(folder.path(), 1)).await;
    run(&cluster, &["segment", "put", "twice", "events('Order Completed') >= 2", "--wait"]);
    let now = "2026-01-01T00:00:00Z";
    let cookie = json!({
        "type": "track", "event": "Order Completed", "anonymousId": "c", "messageId": "c-1", "timestamp": now,
    });
    send(&cluster, vec![order("u", 1, now, 1), cookie.to_string()]).await;
    assert_eq!(members(&cluster, "twice"), Vec::<String>::new());
    assert_eq!(count(&cluster, "not twice"), 2);
    send(&cluster, vec![identify("u", Some("c"), json!({}), "login")]).await;
    assert_eq!(members(&cluster, "twice"), ["user_id:u"]);
    assert_eq!(count(&cluster, "not twice"), 0);
    run(&cluster, &["profile", "split", "user_id:u", "anonymous_id:c"]);
    assert_eq!(members(&cluster, "twice"), Vec::<String>::new());
    assert_eq!(count(&cluster, "not twice"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_alone_takes_customers_out_of_a_window() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(options(folder.path(), 1)).await;
    run(&cluster, &["segment", "put", "lately", "did('Order Completed', '3 seconds')", "--wait"]);
    let cursor = run(&cluster, &["watch", "--from", "now", "--limit", "0"]);
    let cursor = cursor[0]["cursor"].as_str().unwrap();
    let bare = json!({"type": "track", "event": "Order Completed", "userId": "u", "messageId": "m"});
    send(&cluster, vec![bare.to_string()]).await;
    // Nothing else is sent: the leader says that time has passed.
    let changes = run(&cluster, &["segment", "watch", "lately", "--from", cursor, "--limit", "2"]);
    assert_eq!((&changes[0]["now"], &changes[1]["now"]), (&json!("in"), &json!("out")));
    assert!(changes[0]["cause"].is_string() && changes[1]["cause"].is_null(), "{changes:?}");
    assert_eq!(count(&cluster, "lately"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_whom_it_cannot_be_said_is_neither_in_a_segment_nor_in_its_opposite() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(options(folder.path(), 1)).await;
    let file = folder.path().join("kinds.toml");
    let kinds = "name = \"kinds\"\naggregate = \"distinct_count\"\nof = \"category\"\nevents = [\"Order Completed\"]\n\
                 bound = 2\n";
    std::fs::write(&file, kinds).unwrap();
    run(&cluster, &["segment", "trait", file.to_str().unwrap()]);
    run(&cluster, &["segment", "put", "few", "kinds <= 1", "--wait"]);
    run(&cluster, &["segment", "put", "pro", "plan = 'pro'", "--wait=1m"]);
    let now = "2026-01-01T00:00:00Z";
    let kind = |number: u32| {
        order("many", number, now, 1).replace(&format!("\"c{}\"", number % 2), &format!("\"k{number}\""))
    };
    let mut events: Vec<String> = (0..4).map(kind).collect();
    events.push(order("one", 1, now, 1));
    for (user, plan) in [("many", "pro"), ("one", "pro"), ("no_one", "free")] {
        events.push(identify(user, None, json!({"plan": plan}), &format!("i-{user}")));
    }
    send(&cluster, events).await;
    // Of `many` it is only known that it has passed the bound.
    for (expression, who, unknown) in [
        ("few", &["user_id:no_one", "user_id:one"][..], 1),
        ("not few", &[], 1),
        ("pro not few", &[], 1),
        ("pro and few", &["user_id:one"], 1),
        ("not pro", &["user_id:no_one"], 0),
        ("few or pro", &["user_id:many", "user_id:no_one", "user_id:one"], 0),
    ] {
        assert_eq!(members(&cluster, expression), who, "{expression}");
        let counted = &run(&cluster, &["segment", "count", expression])[0];
        assert_eq!(
            (&counted["count"], &counted["overflows"]),
            (&json!(who.len()), &json!(unknown)),
            "{counted}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trait_that_no_customer_can_have_is_refused_where_a_schema_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(options(folder.path(), 1)).await;
    run(&cluster, &["segment", "put", "early", "plam = 'pro'"]);
    let file = folder.path().join("identify.json");
    std::fs::write(&file, r#"{"properties": {"plan": {}, "address": {}}, "additionalProperties": false}"#)
        .unwrap();
    run(&cluster, &["schema", "put", file.to_str().unwrap(), "--name", "identify"]);
    for verb in [&["put", "late"][..], &["preview"]] {
        let told = |expression: &str| ended(&cluster, &[&["segment"], verb, &[expression]].concat());
        for known in ["plan = 'pro'", "address.city = 'Bonn'", "segment('early')", "did('Order Completed')"] {
            assert_eq!(told(known).code, 0, "{verb:?} {known}: {}", told(known).err);
        }
        let refused = told("did('Seen') AND\n plam = 'pro'");
        let what = "line 2, column 2: there is no trait plam; did you mean plan?\n  line 2:  plam = 'pro'\n           ^";
        assert!(refused.code == 1 && refused.err.contains(what), "{}", refused.err);
    }
    // What was taken before stays, and can be described.
    run(&cluster, &["segment", "put", "early", "plam = 'pro'", "--description", "from before"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(options(folder.path(), 1)).await;
    run(&cluster, &["segment", "put", "a", "plan = 'pro'"]);
    run(&cluster, &["segment", "put", "b", "segment('a') OR vip"]);
    for (name, expression, words) in [
        ("c", "plan = ", "line 1"),
        ("c", "events('Order Completed', '-3 days') > 1", "line 1, column 27"),
        ("c", "segment('nobody')", "nobody"),
        ("a", "segment('b')", "circle"),
        ("and", "vip", "name"),
    ] {
        let refused = ended(&cluster, &["segment", "put", name, expression]);
        let told = refused.err.contains("INVALID_SEGMENT") && refused.err.contains(words);
        assert!(refused.code == 1 && told, "{expression}: {}", refused.err);
    }
    for (arguments, words) in [
        (["segment", "count", "a and and b"], "column 7"),
        (["segment", "members", "a or x"], "there is no segment x"),
        (["segment", "preview", "1 = "], "line 1"),
        (["segment", "verify", "x"], "there is no segment x"),
        (["segment", "delete", "x"], "NOT_FOUND"),
        (["segment", "watch", "x"], "there is no segment x"),
    ] {
        let refused = ended(&cluster, &arguments);
        assert!(refused.code == 1 && refused.err.contains(words), "{arguments:?}: {}", refused.err);
    }
    // As the README has it; and the shards' own word is marked as well.
    let refused = ended(&cluster, &["segment", "put", "bad", "events('Order Completed', '-3 days') >= 1"]);
    let told = "error: INVALID_SEGMENT: segment bad: expression, line 1, column 27: a window has a positive length: write a \
                duration such as '30 days'\n  line 1: events('Order Completed', '-3 days') >= 1\n";
    assert_eq!(refused.err, format!("{told}{}^\n", " ".repeat(36)));
    let refused = ended(&cluster, &["segment", "count", "a and and b"]);
    assert!(
        refused.err.ends_with(&format!("\n  line 1: a and and b\n{}^\n", " ".repeat(16))),
        "{}",
        refused.err
    );
    // A segment may be called as a preview is, and takes part in one.
    run(&cluster, &["segment", "put", "preview-1", "vip"]);
    run(&cluster, &["segment", "preview", "segment('preview-1')"]);
    assert_eq!(ended(&cluster, &["segment", "preview", "segment('preview-2')"]).code, 1);
    assert_eq!(run(&cluster, &["segment", "list"]).len(), 3);
}
