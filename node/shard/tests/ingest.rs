//! Events are applied exactly once, wherever their first copy lies by then.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Replica, event, item, quarantined, track, user};
use isthmus_proto::internal::v1::{CommandItem, IngestCommand, shard_command::Command};
use isthmus_shard::read::{self, QuarantineQuery};

const ACCEPTED: u8 = 1;
const DUPLICATE: u8 = 2;
const QUARANTINED: u8 = 3;
const STALE: u8 = isthmus_shard::apply::STALE_SHARD_MAP;

#[tokio::test]
async fn an_event_sent_again_is_a_duplicate_in_memory_frozen_on_disk_and_after_a_crash() {
    let mut replica = Replica::alone().await;
    let json = track("7", "m1", 1, "10.00");
    assert_eq!(replica.ingest(vec![item(1, &json), item(2, &json)]).await, [ACCEPTED, DUPLICATE]);
    assert_eq!(replica.ingest(vec![item(3, &json)]).await, [DUPLICATE]);
    replica.write_out().await;
    assert_eq!(replica.ingest(vec![item(4, &json)]).await, [DUPLICATE]);
    replica.crash().await;
    assert_eq!(replica.ingest(vec![item(5, &json)]).await, [DUPLICATE]);
    let (summary, _) = read::facet(&replica.shared(), &user("7")).unwrap();
    let summary = summary.unwrap();
    assert_eq!((summary.events(), summary.revenue().get("USD").unwrap().to_string().as_str()), (1, "10.00"));
    replica.hash();
}

#[tokio::test]
async fn a_retry_of_the_attempt_that_was_taken_gets_its_answer() {
    let mut replica = Replica::alone().await;
    let json = track("7", "m1", 1, "10.00");
    assert_eq!(replica.ingest(vec![item(9, &json)]).await, [ACCEPTED]);
    assert_eq!(replica.ingest(vec![item(9, &json)]).await, [ACCEPTED]);
    replica.write_out().await;
    assert_eq!(replica.ingest(vec![item(9, &json), item(10, &json)]).await, [ACCEPTED, DUPLICATE]);
    assert_eq!(read::facet(&replica.shared(), &user("7")).unwrap().0.unwrap().events(), 1);
}

#[tokio::test]
async fn a_message_id_that_comes_with_another_body_is_kept_once_and_the_first_one_counts() {
    let mut replica = Replica::alone().await;
    let (first, second) = (track("7", "m1", 1, "10.00"), track("7", "m1", 1, "99.00"));
    // In one batch, after a write-out, and again: the conflict is one entry all the while.
    replica.append(Command::Ingest(IngestCommand { items: vec![item(1, &first)] }));
    let placed = CommandItem { origin: "orders.jsonl:2".to_owned(), ..item(2, &second) };
    assert_eq!(replica.ingest(vec![placed]).await, [QUARANTINED]);
    replica.write_out().await;
    assert_eq!(replica.ingest(vec![item(3, &second)]).await, [QUARANTINED]);
    replica.crash().await;
    assert_eq!(replica.ingest(vec![item(4, &second)]).await, [QUARANTINED]);
    let shared = replica.shared();
    let page = read::page(&shared, &QuarantineQuery { limit: 10, ..QuarantineQuery::default() }).unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].reason, "MESSAGE_ID_CONFLICT");
    assert_eq!(page.entries[0].origin, "orders.jsonl:2");
    let kept = read::entry(&shared, &page.entries[0].id()).unwrap().unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept.payload).unwrap();
    assert_eq!(kept["properties"]["revenue"], "99.00");
    assert_eq!(kept["userId"], "7");
    let summary = read::facet(&shared, &user("7")).unwrap().0.unwrap();
    assert_eq!(summary.revenue().get("USD").unwrap().to_string(), "10.00");
    replica.hash();
}

#[tokio::test]
async fn an_item_whose_slot_is_not_owned_is_sent_back_and_leaves_no_trace() {
    let mut replica = Replica::new(1);
    let before = replica.hash();
    let json = track("7", "m1", 1, "10.00");
    assert_eq!(replica.ingest(vec![item(1, &json), quarantined(9, b"x")]).await, [STALE, STALE]);
    assert_eq!(replica.hash(), before);
    replica.configure(1, &common::map(1)).await;
    assert_eq!(replica.ingest(vec![item(1, &json), quarantined(9, b"x")]).await, [ACCEPTED, QUARANTINED]);
}

#[tokio::test]
async fn a_large_quarantined_item_comes_back_whole_from_memory_and_from_disk() {
    let mut replica = Replica::alone().await;
    let payload: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    for number in 1..=3 {
        assert_eq!(replica.ingest(vec![quarantined(number, &payload)]).await, [QUARANTINED]);
        if number == 2 {
            replica.write_out().await;
        }
    }
    for number in 1..=3 {
        let entry = read::entry(&replica.shared(), &[number; 16]).unwrap().unwrap();
        assert_eq!(entry.payload, payload);
    }
    assert!(read::entry(&replica.shared(), &[9; 16]).unwrap().is_none());
    let query = QuarantineQuery { limit: 2, ..QuarantineQuery::default() };
    let first = read::page(&replica.shared(), &query).unwrap();
    assert_eq!((first.entries.len(), first.more), (2, true));
    let after = Some(first.entries[1].id());
    let second = read::page(&replica.shared(), &QuarantineQuery { after, ..query }).unwrap();
    assert_eq!((second.entries.len(), second.more), (1, false));
}

#[tokio::test]
async fn a_timeline_is_whole_and_newest_first_over_memory_and_disk_page_by_page() {
    let mut replica = Replica::alone().await;
    for round in 0..5u32 {
        let items = (0..20).map(|i| {
            let n = (i * 7 + round * 13) % 100;
            item(u64::from(round * 20 + i), &track("7", &format!("m{round}-{i}"), n, "1.00"))
        });
        let items: Vec<_> = items.collect();
        replica.ingest(items).await;
        if round % 2 == 0 {
            replica.write_out().await;
        }
    }
    let (mut before, mut times, mut ids) = (None, Vec::new(), std::collections::BTreeSet::new());
    loop {
        let page = read::events(&replica.shared(), &user("7"), before, 7).unwrap();
        for (place, _, record) in &page.events {
            times.push(record.timestamp);
            ids.insert(record.message_id.clone());
            before = Some(*place);
        }
        if !page.more {
            break;
        }
    }
    assert_eq!((times.len(), ids.len()), (100, 100));
    assert!(times.is_sorted_by(|a, b| a >= b));
}

#[tokio::test]
async fn a_scan_goes_through_all_facets_once_in_order() {
    let mut replica = Replica::alone().await;
    let mut expected: Vec<_> = (0..60).map(|n| user(&format!("u{n}"))).collect();
    expected.sort_unstable();
    for n in 0..180u32 {
        let json = track(&format!("u{}", n % 60), &format!("m{n}"), n, "1.00");
        replica.ingest(vec![item(u64::from(n), &json)]).await;
        if n % 50 == 49 {
            replica.write_out().await;
        }
    }
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let page = read::scan(&replica.shared(), after, 7).unwrap();
        for (id, summary) in &page.facets {
            assert_eq!(summary.events(), 3);
            found.push(*id);
        }
        after = found.last().copied();
        if !page.more {
            break;
        }
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn an_event_on_disk_comes_back_as_it_was_sent() {
    let mut replica = Replica::alone().await;
    let json = r#"{"type":"identify","userId":"7","anonymousId":"a","messageId":"m","timestamp":"2025-01-01T00:00:00Z",
        "traits":{"email":"A@b.de","plan":"pro","age":3,"old":null},"context":{"ip":"1.2.3.4"}}"#;
    replica.ingest(vec![item(1, json)]).await;
    let shown = |replica: &Replica| {
        let page = read::events(&replica.shared(), &user("7"), None, 10).unwrap();
        let (_, _, record) = &page.events[0];
        (
            record.properties.clone(),
            record.context.clone(),
            record.links.clone(),
            record.source.clone(),
            record.kind,
        )
    };
    let before = shown(&replica);
    replica.write_out().await;
    assert_eq!(shown(&replica), before);
    assert_eq!(before.2.len(), 2, "links to the e-mail and the cookie");
    assert_eq!(event(json).0, user("7"));
}

#[tokio::test]
async fn a_facet_counts_each_event_once_whatever_was_cached_while_it_was_written_out() {
    let mut replica = Replica::alone().await;
    let users = ["a", "b", "c", "d"];
    let mut said = [0_u64; 4];
    let mut draw = 7_u64;
    for round in 0..400_u64 {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (step, which) = ((draw >> 33) % 8, (draw >> 40) as usize % users.len());
        match step {
            // One that nobody wrote or read before a write-out, one that is read between all of them, and others.
            0..4 => {
                let json = track(users[which], &format!("m{round}"), round as u32, "1.00");
                assert_eq!(replica.ingest(vec![item(round + 1, &json)]).await, [ACCEPTED]);
                said[which] += 1;
            }
            4 => replica.write_out().await,
            5 if round % 5 == 0 => replica.crash().await,
            _ => {
                let (summary, _) = read::facet(&replica.shared(), &user(users[which])).unwrap();
                let events = summary.map_or(0, |summary| summary.events());
                assert_eq!(events, said[which], "user {} in round {round}", users[which]);
                assert!(read::is_resident(&replica.shared(), &user(users[which])), "what was read is cached");
            }
        }
    }
    assert!(said.iter().all(|count| *count > 20));
}
