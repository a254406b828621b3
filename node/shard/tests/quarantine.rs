//! What becomes of quarantine entries: noted once, counted exactly, gone at their age with all that they said.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{NOW, Replica, item, quarantined, track};
use isthmus_domain::{Resolution, ResolutionKind};
use isthmus_proto::internal::v1::{
    CommandItem, ExpireQuarantineCommand, ExpiringEntry, QuarantineVerdict, ResolveQuarantineCommand,
    VerdictOutcome, shard_command::Command,
};
use isthmus_shard::{
    apply::Outcome,
    keys::table,
    read::{self, QuarantineQuery},
};
use prost::Message as _;

const ACCEPTED: u8 = 1;
const REJECTED: u8 = 4;

fn verdict(number: u8, kind: ResolutionKind, by: &str) -> QuarantineVerdict {
    let resolution = Resolution {
        kind: kind.into(),
        by: by.to_owned(),
        message_id: "m".to_owned(),
        ..Resolution::default()
    };
    let id = Bytes::copy_from_slice(&[number; 16]);
    QuarantineVerdict { id, resolution: resolution.encode_to_vec().into() }
}

async fn resolve(replica: &mut Replica, verdicts: Vec<QuarantineVerdict>) -> Vec<(VerdictOutcome, String)> {
    let command = Command::ResolveQuarantine(ResolveQuarantineCommand { verdicts });
    let Outcome::Resolved(replies) = replica.propose(command).await else { panic!("not verdicts' outcome") };
    let told = replies.into_iter().map(|reply| {
        let by = Resolution::decode(reply.resolution.clone()).unwrap().by;
        (reply.outcome(), by)
    });
    told.collect()
}

fn listed(replica: &Replica, resolved_too: bool) -> Vec<u8> {
    let query = QuarantineQuery { limit: 100, resolved_too, ..QuarantineQuery::default() };
    let page = read::page(&replica.shared(), &query).unwrap();
    page.entries.iter().map(|entry| entry.id()[0]).collect()
}

#[tokio::test]
async fn the_first_verdict_counts_in_memory_on_disk_and_after_a_crash() {
    use VerdictOutcome::{Already, NotFound, Noted};
    let mut replica = Replica::alone().await;
    replica.ingest((1..=3).map(|n| quarantined(n, b"what was sent")).collect()).await;
    let verdicts = vec![verdict(1, ResolutionKind::Mended, "ann"), verdict(9, ResolutionKind::Mended, "ann")];
    assert_eq!(resolve(&mut replica, verdicts).await, [(Noted, "ann".into()), (NotFound, String::new())]);
    let second = || vec![verdict(1, ResolutionKind::Dropped, "bob")];
    assert_eq!(resolve(&mut replica, second()).await, [(Already, "ann".into())]);
    replica.write_out().await;
    assert_eq!(resolve(&mut replica, second()).await, [(Already, "ann".into())]);
    replica.crash().await;
    assert_eq!(resolve(&mut replica, second()).await, [(Already, "ann".into())]);
    assert_eq!((listed(&replica, false), listed(&replica, true)), (vec![2, 3], vec![1, 2, 3]));
    // It stays as it was sent, with what became of it; and the same item sent again opens nothing.
    replica.ingest(vec![quarantined(1, b"what was sent")]).await;
    let entry = read::entry(&replica.shared(), &[1; 16]).unwrap().unwrap();
    assert_eq!(entry.payload, b"what was sent".as_slice());
    let known = entry.resolution.unwrap();
    assert_eq!((known.kind(), known.by.as_str()), (ResolutionKind::Mended, "ann"));
    assert!(known.at > NOW.cast_unsigned());
    replica.hash();
}

#[tokio::test]
async fn a_verdict_on_a_slot_that_is_not_owned_is_sent_back_and_leaves_no_trace() {
    let mut replica = Replica::new(1);
    let before = replica.hash();
    let told = resolve(&mut replica, vec![verdict(1, ResolutionKind::Dropped, "ann")]).await;
    assert_eq!(told, [(VerdictOutcome::NotOwned, String::new())]);
    assert_eq!(replica.hash(), before);
}

#[tokio::test]
async fn counts_are_exact_however_few_entries_are_counted_at_a_time() {
    let mut replica = Replica::alone().await;
    for number in 1..=30u8 {
        let mut entry = quarantined(number, b"x");
        if let Some(isthmus_proto::internal::v1::command_item::Body::Quarantine(bytes)) = &mut entry.body {
            let mut known = isthmus_domain::QuarantineEntry::decode(bytes.clone()).unwrap();
            known.reason = if number % 3 == 0 { "TOO_DEEP" } else { "MALFORMED" }.to_owned();
            *bytes = known.encode_to_vec().into();
        }
        replica.ingest(vec![entry]).await;
        if number == 15 {
            replica.write_out().await;
        }
    }
    let verdicts = (1..=6).map(|n| verdict(n, ResolutionKind::Replayed, "ann")).collect();
    resolve(&mut replica, verdicts).await;
    let expected = BTreeMap::from([
        (("test".to_owned(), "MALFORMED".to_owned()), [16, 4]),
        (("test".to_owned(), "TOO_DEEP".to_owned()), [8, 2]),
    ]);
    for limit in [1, 7, 30, 1_000] {
        let (mut after, mut sums) = (None, BTreeMap::<_, [u64; 2]>::new());
        loop {
            let counted = read::count(&replica.shared(), after, 16_384, limit).unwrap();
            for (group, [open, resolved]) in counted.counts {
                let sum = sums.entry(group).or_default();
                (sum[0], sum[1]) = (sum[0] + open, sum[1] + resolved);
            }
            after = counted.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(sums, expected, "limit {limit}");
    }
    // Only slots below the end: entry n begins at slot n * 257 / 4.
    let half = read::count(&replica.shared(), None, 10 * 257 / 4 + 1, 1_000).unwrap();
    assert_eq!((half.counts.values().flatten().sum::<u64>(), half.next), (10, None));
}

async fn expire(replica: &mut Replica, through_stamp: u64, entries: Vec<(u8, u32)>) -> u64 {
    let entries = entries
        .into_iter()
        .map(|(number, parts)| ExpiringEntry { id: Bytes::copy_from_slice(&[number; 16]), parts });
    let command = ExpireQuarantineCommand { through_stamp, entries: entries.collect() };
    match replica.propose(Command::ExpireQuarantine(command)).await {
        Outcome::Expired(gone) => gone,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_has_reached_its_age_goes_with_all_its_parts_and_nothing_else() {
    let mut replica = Replica::alone().await;
    let large = vec![b'x'; 100 << 10];
    replica.ingest(vec![quarantined(1, &large), quarantined(2, b"small")]).await;
    replica.write_out().await;
    let through = replica.shared().state.read().meta.stamp.0;
    replica.ingest(vec![quarantined(3, b"young"), quarantined(4, &large)]).await;
    resolve(&mut replica, vec![verdict(2, ResolutionKind::Mended, "ann")]).await;

    let (found, next) = read::expired(&replica.shared(), None, through, 1_000).unwrap();
    let named: Vec<_> = found.iter().map(|entry| (entry.id[0], entry.parts, entry.what.2)).collect();
    assert_eq!((named, next), (vec![(1, 4, false), (2, 1, true)], None));
    // Rows bound a step, which goes on behind what it found.
    let (first, next) = read::expired(&replica.shared(), None, through, 1).unwrap();
    assert_eq!((first.len(), next), (1, Some([1; 16])));

    // The leader names too much, and more than once: what is too young stays.
    assert_eq!(expire(&mut replica, through, vec![(1, 4), (2, 1), (3, 1), (4, 4), (9, 1)]).await, 2);
    assert_eq!(expire(&mut replica, through, vec![(1, 4), (2, 1)]).await, 0);
    assert_eq!(listed(&replica, true), [3, 4]);
    replica.write_out().await;
    replica.crash().await;
    assert_eq!(listed(&replica, true), [3, 4]);
    assert_eq!(replica.stored_rows(table::QUARANTINE).len(), 2);
    assert_eq!(replica.stored_rows(table::QUARANTINE_PART).len(), 1 + 4);
    replica.hash();
}

#[tokio::test]
async fn a_record_out_of_the_quarantine_that_contradicts_another_is_rejected_and_not_kept_again() {
    let mut replica = Replica::alone().await;
    let (first, second) = (track("7", "m1", 1, "10.00"), track("7", "m1", 1, "99.00"));
    assert_eq!(replica.ingest(vec![item(1, &first)]).await, [ACCEPTED]);
    let before = replica.hash();
    let again = CommandItem { from_quarantine: true, ..item(2, &second) };
    assert_eq!(replica.ingest(vec![again]).await, [REJECTED]);
    assert_eq!((replica.hash(), listed(&replica, true)), (before, vec![]));
}
