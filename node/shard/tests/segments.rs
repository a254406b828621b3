//! What a shard keeps of who is in which segment: taken once, in its hash, in its feed, and whole after a crash.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Replica, item, track, user};
use isthmus_domain::{FacetId, Stamp};
use isthmus_proto::internal::v1::{SegmentTransition, SegmentsCommand, shard_command::Command};
use isthmus_shard::{
    apply::Outcome,
    feed::{Filter, Place},
    read::{self, FeedPart, FeedQuery},
    segments::{Key, Row},
};

fn enters(home: FacetId, segment: u64, from: (u32, u64), to: u32) -> SegmentTransition {
    SegmentTransition {
        home: home.as_bytes().to_vec().into(),
        segment,
        from: from.0,
        from_since: from.1,
        to,
        told: true,
        cause_stamp: 7,
        cause_number: 1,
        cause_slot: 3,
        name_hash: 9,
    }
}

fn command(from: Stamp, through: Stamp, transitions: Vec<SegmentTransition>) -> Command {
    Command::Segments(SegmentsCommand {
        from_stamp: from.0,
        through_stamp: through.0,
        document_version: 1,
        transitions,
    })
}

fn stamp(replica: &Replica) -> Stamp {
    replica.shared().state.read().meta.stamp
}

fn members(replica: &Replica) -> Vec<(Key, u8, Stamp)> {
    let (rows, next) = read::segment_members(&replica.shared(), None, usize::MAX).unwrap();
    assert_eq!(next, None);
    rows.into_iter()
        .filter(|(_, row)| row.membership > 0)
        .map(|(key, row)| (key, row.membership, row.since))
        .collect()
}

#[tokio::test]
async fn a_command_is_taken_once_and_only_behind_the_one_before() {
    let mut replica = Replica::alone().await;
    replica.ingest(vec![item(1, &track("a", "m1", 1, "1"))]).await;
    let through = stamp(&replica);
    let enter = command(Stamp::ZERO, through, vec![enters(user("a"), 5, (0, 0), 1)]);
    let Outcome::Segmented(at) = replica.propose(enter.clone()).await else { panic!() };
    let key = Key { home: user("a"), segment: 5 };
    assert_eq!(members(&replica), [(key, 1, at)]);
    let hash = replica.hash();
    // Told again, or by a leader that knows an older state: nothing changes.
    for late in [enter, command(Stamp(1), at, vec![enters(user("a"), 6, (0, 0), 1)])] {
        assert!(matches!(replica.propose(late).await, Outcome::NotThere(known) if known.stamp == through));
    }
    // Up to a stamp that is not there yet.
    let ahead = command(through, Stamp(stamp(&replica).0 + 10), Vec::new());
    assert!(matches!(replica.propose(ahead).await, Outcome::NotThere(_)));
    assert_eq!((members(&replica), replica.hash()), (vec![(key, 1, at)], hash));
    // Backwards, or with what makes no sense: refused.
    let back = command(through, through, Vec::new());
    assert!(matches!(replica.propose(back).await, Outcome::Refused(_)));
    let odd = command(through, at, vec![enters(user("a"), 5, (1, at.0), 3)]);
    assert!(matches!(replica.propose(odd).await, Outcome::Refused(_)));
    assert_eq!(replica.hash(), hash);
}

#[tokio::test]
async fn rows_are_whole_in_memory_in_runs_after_a_crash_and_in_a_snapshot() {
    let mut replica = Replica::alone().await;
    let (mut through, mut expected) = (Stamp::ZERO, std::collections::BTreeMap::new());
    for round in 0..12_u64 {
        replica.ingest(vec![item(round, &track("a", &format!("m{round}"), round as u32, "1"))]).await;
        let now = stamp(&replica);
        let mut transitions = Vec::new();
        for n in 0..20_u64 {
            let key = Key { home: user(&format!("u{}", n * round % 17)), segment: n % 3 };
            let before: Row = expected.get(&key).copied().unwrap_or_default();
            // Twice in one command, too: the second goes on from the first, whose stamp nobody knows yet.
            let to = u8::from(before.membership == 0);
            transitions.push(enters(
                key.home,
                key.segment,
                (before.membership.into(), before.since.0),
                to.into(),
            ));
            expected.insert(key, Row { membership: to, since: Stamp(u64::MAX) });
        }
        let Outcome::Segmented(at) = replica.propose(command(through, now, transitions)).await else {
            panic!()
        };
        expected.values_mut().filter(|row| row.since.0 == u64::MAX).for_each(|row| row.since = at);
        through = now;
        match round % 4 {
            0 => replica.write_out().await,
            1 => replica.crash().await,
            2 => replica.reinstall().await,
            _ => {}
        }
        let all: Vec<_> = expected
            .iter()
            .filter(|(_, row)| row.membership > 0)
            .map(|(k, r)| (*k, r.membership, r.since))
            .collect();
        assert_eq!(members(&replica), all);
        assert_eq!(replica.shared().state.read().meta.segments.stamp, through);
        replica.hash();
        // Page by page the same.
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (rows, next) = read::segment_members(&replica.shared(), after, 3).unwrap();
            found.extend(
                rows.into_iter().filter(|(_, r)| r.membership > 0).map(|(k, r)| (k, r.membership, r.since)),
            );
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(found, all);
    }
}

#[tokio::test]
async fn who_enters_and_leaves_is_a_change_of_the_feed_with_its_cause() {
    let mut replica = Replica::alone().await;
    replica.ingest(vec![item(1, &track("a", "m1", 1, "1"))]).await;
    let through = stamp(&replica);
    let silent = SegmentTransition { told: false, ..enters(user("b"), 5, (0, 0), 1) };
    let all = vec![enters(user("a"), 5, (0, 0), 1), silent, enters(user("a"), 5, (1, 0), 0)];
    replica.propose(command(Stamp::ZERO, through, all)).await;
    for _ in 0..2 {
        let what: Vec<String> = replica.feed(1).into_iter().map(|(.., what)| what).collect();
        assert_eq!(what, ["m1", "5 0>1 by 7", "5 1>0 by 7"]);
        // By the name's hash alone.
        for (name, found) in [(9, 2), (8, 0)] {
            let filter =
                isthmus_proto::internal::v1::FeedFilter { segments: vec![name], ..Default::default() };
            let query = FeedQuery {
                ranges: vec![(isthmus_domain::SlotRange::ALL, Place::end_of(Stamp::ZERO))],
                filter: Filter::of(filter).unwrap(),
                limit: 10,
            };
            let FeedPart::Changes { changes, .. } = read::feed(&replica.shared(), &query).unwrap() else {
                panic!()
            };
            assert_eq!(changes.len(), found);
        }
        replica.write_out().await;
    }
}

/// An event that says that a user and a cookie are one.
fn login(user: &str, cookie: &str, message: &str) -> String {
    format!(r#"{{"type":"identify","userId":"{user}","anonymousId":"{cookie}","messageId":"{message}"}}"#)
}

#[tokio::test]
async fn who_has_another_home_is_told_to_segments_and_to_nobody_else() {
    let mut replica = Replica::alone().await;
    let cookie = common::event(r#"{"type":"page","anonymousId":"c1","messageId":"p"}"#).0;
    replica.ingest(vec![item(1, r#"{"type":"page","anonymousId":"c1","messageId":"p"}"#)]).await;
    replica.ingest(vec![item(2, &login("u1", "c1", "l1"))]).await;
    for _ in 0..2 {
        let filter =
            isthmus_proto::internal::v1::FeedFilter { homes: true, types: vec![1], ..Default::default() };
        let query = FeedQuery {
            ranges: vec![(isthmus_domain::SlotRange::ALL, Place::end_of(Stamp::ZERO))],
            filter: Filter::of(filter).unwrap(),
            limit: 10,
        };
        let FeedPart::Changes { changes, .. } = read::feed(&replica.shared(), &query).unwrap() else {
            panic!()
        };
        use isthmus_proto::internal::v1::feed_change::Body;
        let moved: Vec<_> = changes
            .iter()
            .filter_map(|change| match &change.body {
                Some(Body::LeftHome(home)) => Some((change.facet.clone(), false, home.clone())),
                Some(Body::Home(home)) => Some((change.facet.clone(), true, home.clone())),
                _ => None,
            })
            .collect();
        let bytes = |facet: &FacetId| bytes::Bytes::copy_from_slice(facet.as_bytes());
        let (cookie, user) = (bytes(&cookie), bytes(&user("u1")));
        assert_eq!(moved, [(cookie.clone(), false, cookie.clone()), (cookie, true, user)]);
        let shown: Vec<String> = replica.feed(10).into_iter().map(|(.., what)| what).collect();
        assert_eq!(shown.len(), 3, "the page, the login, and who belongs to the profile: {shown:?}");
        replica.write_out().await;
    }
    let (homes, next) = read::homes(&replica.shared(), None).unwrap();
    assert_eq!((homes, next), (vec![(cookie, user("u1"))], None));
}
