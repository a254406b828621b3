//! What apply puts into the change feed, and how it is read and expired.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{NOW, Replica, item, track, user};
use isthmus_domain::Stamp;
use isthmus_proto::internal::v1::{ExpireFeedCommand, shard_command::Command};
use isthmus_shard::{
    FEED,
    apply::Outcome,
    feed::Place,
    read::{self, FeedPart},
};

/// An event that says that a user and a cookie are one.
fn login(user: &str, cookie: &str, message: &str) -> String {
    format!(r#"{{"type":"identify","userId":"{user}","anonymousId":"{cookie}","messageId":"{message}"}}"#)
}

fn what(replica: &Replica) -> Vec<String> {
    replica.feed(2).into_iter().map(|(.., what)| what).collect()
}

async fn expire(replica: &mut Replica, through: Stamp) -> Stamp {
    let command = Command::ExpireFeed(ExpireFeedCommand { through_stamp: through.0 });
    match replica.propose(command).await {
        Outcome::FeedExpired(floor) => floor,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_accepted_event_is_one_change_in_the_order_of_acknowledgement() {
    let mut replica = Replica::alone().await;
    let (a, b) = (track("a", "m1", 9, "1"), track("b", "m2", 8, "1"));
    replica.ingest(vec![item(1, &a), item(2, &b), item(3, &a)]).await;
    // Known, and known with another body: neither is a change of a profile.
    replica.ingest(vec![item(4, &b), item(5, &track("b", "m2", 8, "2"))]).await;
    replica.ingest(vec![item(6, &track("a", "m3", 1, "1"))]).await;
    let feed = replica.feed(1);
    let of = |n: usize| (feed[n].0.number, feed[n].1.clone(), feed[n].2.as_str());
    let facet = |id: &str| bytes::Bytes::copy_from_slice(user(id).as_bytes());
    assert_eq!([of(0), of(1), of(2)], [(0, facet("a"), "m1"), (1, facet("b"), "m2"), (0, facet("a"), "m3")]);
    assert_eq!(feed.len(), 3);
    assert_eq!(feed[0].0.stamp, feed[1].0.stamp);
    assert!(feed[1].0 < feed[2].0);
}

#[tokio::test]
async fn who_belongs_to_a_profile_is_a_change_at_its_home_behind_what_brought_it_about() {
    let mut replica = Replica::alone().await;
    replica.ingest(vec![item(1, r#"{"type":"page","anonymousId":"c1","messageId":"p"}"#)]).await;
    replica.ingest(vec![item(2, &login("u1", "c1", "l1")), item(3, &login("u1", "c1", "l2"))]).await;
    replica.ingest(vec![item(4, &login("u1", "c2", "l3"))]).await;
    let expected = ["p", "l1", "+u1,c1 -", "l2", "l3", "+c2 -"];
    let sorted = |found: Vec<String>| -> Vec<String> {
        let sort = |text: String| match text.strip_prefix('+') {
            // Who came is in the order of facets.
            Some(members) => {
                let (came, left) = members.split_once(' ').unwrap();
                let mut came: Vec<&str> = came.split(',').collect();
                came.sort_by_key(|name| std::cmp::Reverse(*name));
                format!("+{} {left}", came.join(","))
            }
            None => text,
        };
        found.into_iter().map(sort).collect()
    };
    assert_eq!(sorted(what(&replica)), expected);
    let home = replica.feed(10)[2].1.clone();
    assert_eq!(home, user("u1").as_bytes().as_slice(), "the home is the identifier of the highest priority");
    // The same from runs, in other memory, and as a snapshot brings it.
    replica.write_out().await;
    assert_eq!(sorted(what(&replica)), expected);
    replica.crash().await;
    assert_eq!(sorted(what(&replica)), expected);
    replica.reinstall().await;
    assert_eq!(sorted(what(&replica)), expected);
}

#[tokio::test]
async fn who_is_a_profile_alone_is_named_from_memory_and_nobody_else() {
    let mut replica = Replica::alone().await;
    let of_all = |replica: &Replica| {
        let FeedPart::Changes { changes, .. } = replica.feed_after(Place::end_of(Stamp::ZERO), 100) else {
            panic!()
        };
        let names = read::names(&replica.shared(), &changes).unwrap();
        names.into_iter().map(|name| (name.facet, name.namespace, name.value)).collect::<Vec<_>>()
    };
    let alone = |id: &str| {
        let facet = bytes::Bytes::copy_from_slice(user(id).as_bytes());
        (facet, "user_id".to_owned(), id.to_owned())
    };
    let [a, again] = [track("a", "m1", 9, "1"), track("a", "m2", 9, "1")];
    replica.ingest(vec![item(1, &a), item(2, &again), item(3, &login("u1", "c1", "l1"))]).await;
    assert_eq!(of_all(&replica), [alone("a")]);
    // What no memtable knows waits for a disk: it is left to whoever asks.
    replica.write_out().await;
    assert_eq!(of_all(&replica), []);
    let more = [track("a", "m3", 9, "1"), track("u1", "m4", 9, "1")];
    replica.ingest(vec![item(4, &more[0]), item(5, &more[1])]).await;
    assert_eq!(of_all(&replica), [alone("a")], "that u1 is linked lies on the disk, and is known");
    replica.ingest(vec![item(6, &login("a", "c2", "l2"))]).await;
    assert_eq!(of_all(&replica), []);
}

#[tokio::test]
async fn parts_of_runs_and_memtables_go_on_from_each_other() {
    let mut replica = Replica::alone().await;
    for round in 0..30_u32 {
        let events: Vec<String> =
            (0..40).map(|n| track(&format!("u{}", n % 7), &format!("m{round}-{n}"), n, "1")).collect();
        let items = (0..).zip(&events).map(|(n, event)| item(u64::from(round) * 100 + n, event));
        replica.ingest(items.collect()).await;
        if round % 4 == 1 {
            replica.write_out().await;
        }
    }
    let all: Vec<String> = what(&replica);
    let expected: Vec<String> =
        (0..30).flat_map(|round| (0..40).map(move |n| format!("m{round}-{n}"))).collect();
    assert_eq!(all, expected);
    assert_eq!(replica.feed(1_000), replica.feed(7));
}

#[tokio::test]
async fn what_lies_below_the_floor_is_too_old_and_goes() {
    let mut replica = Replica::alone().await;
    for n in 0..4 {
        replica.ingest(vec![item(n, &track("a", &format!("m{n}"), n as u32, "1"))]).await;
        if n < 2 {
            replica.write_out().await;
        }
    }
    let feed = replica.feed(10);
    assert_eq!(expire(&mut replica, feed[0].0.stamp).await, feed[0].0.stamp);
    // It never falls, and never rises above what was.
    assert_eq!(expire(&mut replica, Stamp::ZERO).await, feed[0].0.stamp);
    let beginning = Place::end_of(feed[0].0.stamp);
    for old in [Place::default(), Place { number: 0, ..beginning }] {
        assert_eq!(replica.feed_after(old, 10), FeedPart::TooOld(feed[0].0.stamp));
    }
    let FeedPart::Changes { changes, floor, .. } = replica.feed_after(beginning, 1) else { panic!() };
    assert_eq!((changes[0].stamp, floor), (feed[1].0.stamp.0, feed[0].0.stamp));
    let last = replica.shared().state.read().meta.stamp;
    assert_eq!(expire(&mut replica, Stamp(u64::MAX)).await, last);
    assert_eq!(replica.feed_after(beginning, 1), FeedPart::TooOld(last));
    replica.write_out().await;
    replica.crash().await;
    assert_eq!(replica.feed_after(beginning, 1), FeedPart::TooOld(last), "the floor is part of the state");
    let FeedPart::Changes { changes, .. } = replica.feed_after(Place::end_of(last), 1) else { panic!() };
    assert_eq!(changes, []);
    assert!(replica.shared().lower.read().runs.rows(FEED) > 0, "rows go when their replica comes to it");
}

#[tokio::test]
async fn a_shard_that_an_earlier_version_made_begins_its_feed_with_a_command() {
    let mut replica = Replica::alone().await;
    replica.ingest(vec![item(1, &track("a", "m1", 1, "1"))]).await;
    replica.shared().state.write().meta.feed_floor = None;
    replica.write_out().await;
    replica.crash().await;
    assert_eq!(replica.shared().state.read().meta.feed_floor, None);
    assert_eq!(replica.feed_after(Place::default(), 1), FeedPart::NotBegun);
    let floor = expire(&mut replica, Stamp::ZERO).await;
    assert!(floor > Stamp(NOW as u64));
    replica.ingest(vec![item(2, &track("a", "m2", 2, "1"))]).await;
    assert_eq!(replica.feed_after(Place::default(), 1), FeedPart::TooOld(floor));
    let FeedPart::Changes { changes, .. } = replica.feed_after(Place::end_of(floor), 9) else { panic!() };
    assert_eq!(changes.len(), 1);
}

#[tokio::test]
async fn a_part_is_of_slots_that_the_shard_owns_each_from_its_own_place() {
    use isthmus_domain::SlotRange;
    use isthmus_shard::{feed::Filter, read::FeedQuery};
    let mut replica = Replica::alone().await;
    let users: Vec<String> = (0..40).map(|n| format!("u{n}")).collect();
    for (attempt, id) in (0..).zip(&users) {
        replica.ingest(vec![item(attempt, &track(id, "m", 1, "1"))]).await;
    }
    let (low, high) = (SlotRange::new(0, 8_192).unwrap(), SlotRange::new(8_192, 16_384).unwrap());
    let feed = replica.feed(100);
    let middle = feed[20].0;
    let ranges = vec![(low, Place::end_of(Stamp::ZERO)), (high, middle)];
    let query = FeedQuery { ranges, filter: Filter::default(), limit: 100 };
    let FeedPart::Changes { changes, .. } = read::feed(&replica.shared(), &query).unwrap() else { panic!() };
    let slot = |facet: &[u8]| isthmus_domain::FacetId::from_slice(facet).unwrap().slot();
    let expected = feed.iter().filter(|(place, facet, _)| low.contains(slot(facet)) || *place > middle);
    assert_eq!(
        changes.iter().map(|c| c.stamp).collect::<Vec<_>>(),
        expected.map(|f| f.0.stamp.0).collect::<Vec<_>>()
    );
    replica.configure(2, &common::map(2)).await;
    assert_eq!(read::feed(&replica.shared(), &query).unwrap(), FeedPart::NotOwned);
}
