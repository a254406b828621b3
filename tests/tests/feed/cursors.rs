//! Where a watch begins and goes on.

use std::collections::BTreeSet;
use std::time::Instant;

use isthmus_tests::{
    ask,
    cluster::{Cluster, PATIENCE},
    look,
};
use serde_json::Value;

use super::{field, folder, options, watch, watched};

fn order(user: u64, message: &str) -> isthmus_proto::v1::IngestItem {
    ask::json(ask::seen(&format!("u{user}"), message))
}

fn messages(changes: &[Value]) -> Vec<&str> {
    changes.iter().map(|change| field(change, "message_id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_through_another_node_over_restarts_and_moves_from_the_cursor_that_was_kept() {
    let folder = folder();
    let mut cluster = Cluster::start(options(folder.path(), 3)).await;
    let file = folder.path().join("cursor");
    let kept = ["--cursor-file", file.to_str().unwrap()];
    let with_limit = |limit: &'static str| [&kept[..], &["--limit", limit]].concat();
    assert_eq!(watched(&cluster, 0, &with_limit("0")), [] as [Value; 0]);
    let items: Vec<_> = (0..300).map(|n| order(n % 40, &format!("x{n}"))).collect();
    ask::accepted(&cluster.channel(1), items).await;
    let mut seen = Vec::new();
    for node in [1, 2, 0] {
        seen.extend(watched(&cluster, node, &with_limit("50")));
    }
    // All processes are killed; and the first node goes for good, whose replicas move to another.
    for node in 0..3 {
        cluster.kill(node);
    }
    (0..3).for_each(|node| cluster.launch(node));
    cluster.healthy().await;
    seen.extend(watched(&cluster, 1, &with_limit("50")));
    let report = isthmus_tests::drills::a_node_joins_and_another_leaves(&mut cluster, 0).await;
    assert!(report.acknowledged > 0);
    let new = cluster.nodes.len() - 1;
    let ids = |seen: &[Value]| -> BTreeSet<String> {
        seen.iter().map(|change| field(change, "id").to_owned()).collect()
    };
    let wanted = 300 + report.acknowledged as usize;
    let left = (wanted - seen.len()).to_string();
    seen.extend(watched(&cluster, new, &[&kept[..], &["--limit", &left]].concat()));
    assert_eq!(ids(&seen).len(), wanted, "nothing comes twice, since the cursor fits what was printed");
    let once: BTreeSet<&str> = messages(&seen).into_iter().collect();
    assert_eq!((once.len(), seen.len()), (wanted, wanted));
    for user in 0..40 {
        let of_user =
            seen.iter().filter(|change| change["identifier"]["value"] == format!("u{user}").as_str());
        let of_user: Vec<&str> =
            of_user.map(|change| field(change, "message_id")).filter(|id| id.starts_with('x')).collect();
        let sent: Vec<String> = (0..300).filter(|n| n % 40 == user).map(|n| format!("x{n}")).collect();
        assert_eq!(of_user, sent, "in the order of acknowledgement");
    }
    look::replicas_agree(cluster.channel(new), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_too_old_ahead_of_another_cluster_or_made_up_is_refused_and_says_what_to_do() {
    let folder = folder();
    let environment = [("ISTHMUS_FEED__RETENTION", "1s")];
    let small = options(folder.path(), 1).with_environment(&environment);
    let cluster = Cluster::start(small).await;
    let cursor = |cluster: &Cluster| field(&watched(cluster, 0, &["--limit", "0"])[0], "cursor").to_owned();
    let old = cursor(&cluster);
    for text in ["x", "0105", &old[..old.len() - 2], &old.replace('0', "1")] {
        let ended = watch(&cluster, 0, &["--from", text, "--limit", "1"]);
        assert_eq!(ended.code, 1, "{text}");
        assert!(ended.err.contains("INVALID_CURSOR") && ended.err.contains("hand back"), "{}", ended.err);
    }
    // Each shard's floor rises when it keeps something that is old.
    let until = Instant::now() + PATIENCE;
    for n in 0.. {
        ask::accepted(&cluster.channel(0), (0..40).map(|user| order(user, &format!("m{n}"))).collect()).await;
        let ended = watch(&cluster, 0, &["--from", &old, "--limit", "1"]);
        if ended.code != 0 {
            assert!(ended.err.contains("CURSOR_TOO_OLD"), "{}", ended.err);
            assert!(
                ended.err.contains("list all profiles") && ended.err.contains("--limit 0"),
                "{}",
                ended.err
            );
            break;
        }
        assert!(Instant::now() < until, "nothing is ever too old");
    }
    let other_folder = super::folder();
    let other = Cluster::start(options(other_folder.path(), 1)).await;
    let ended = watch(&other, 0, &["--from", &cursor(&cluster), "--limit", "1"]);
    assert!(ended.code == 1 && ended.err.contains("another cluster"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_profiles_and_a_watch_from_the_cursor_before_them_miss_nothing() {
    let folder = folder();
    let cluster = Cluster::start(options(folder.path(), 1)).await;
    let send = |users: std::ops::Range<u64>| {
        let items: Vec<_> = users.map(|user| order(user, &format!("m{user}"))).collect();
        let channel = cluster.channel(0);
        async move { ask::accepted(&channel, items).await }
    };
    send(0..30).await;
    let first = watched(&cluster, 0, &["--limit", "0"]);
    send(30..60).await;
    let listed = super::cli().json(&cluster.endpoints(), &["profile", "list"]).objects();
    send(60..90).await;
    let later = watched(&cluster, 0, &["--from", field(&first[0], "cursor"), "--limit", "60"]);
    let profiles = |found: &[Value]| -> BTreeSet<String> {
        found.iter().map(|object| field(object, "profile_id").to_owned()).collect()
    };
    let (listed, later) = (profiles(&listed), profiles(&later));
    assert_eq!((listed.len(), later.len(), listed.union(&later).count()), (60, 60, 90));
}
