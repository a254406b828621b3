//! One pass over all events up to a stamp: each once, wherever it lies, and whatever is written out meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;

use common::{Replica, item, track, user};
use isthmus_domain::{EventType, FacetId};
use isthmus_shard::{
    Freezer,
    read::{EventsWanted, all_events},
};

/// More than one part of the active memtable.
const USERS: u32 = 1_300;

async fn ingest(replica: &mut Replica, from: u32, to: u32, round: u32) {
    let items = (from..to).map(|n| {
        let json = track(&format!("u{n}"), &format!("m{round}-{n}"), n, &format!("{n}.5"));
        item(u64::from(round * USERS + n) + 1, &json)
    });
    replica.ingest(items.collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_comes_once_though_it_is_written_out_meanwhile() {
    // In runs, in memory, and in both; written out when so many have come.
    for [written, at] in [[0, 0], [USERS, 0], [400, 0], [400, 1], [400, 600], [0, 900], [0, 1_299]] {
        let mut replica = Replica::alone().await;
        ingest(&mut replica, 0, written, 0).await;
        if written > 0 {
            replica.write_out().await;
        }
        ingest(&mut replica, written / 2, USERS, 1).await;
        let shared = replica.shared();
        let stamp = shared.state.read().meta.stamp;
        // What comes later is nobody's business.
        ingest(&mut replica, 0, USERS, 2).await;
        let wanted = EventsWanted {
            at: stamp,
            revenue: true,
            currency: "USD".to_owned(),
            senders: true,
            properties: true,
            ..EventsWanted::default()
        };
        let (mut found, mut count) = (BTreeMap::new(), 0);
        let freezer = Freezer::of(shared.clone());
        all_events(&shared, &wanted, &|| true, &mut |event| {
            count += 1;
            if count == at {
                tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(freezer.write_out()).unwrap();
                });
            }
            assert_eq!((event.kind, event.name), (EventType::Track, "Order Completed"));
            assert!(event.properties.starts_with(b"{\"revenue\""));
            let known = found.insert(
                event.message_id.to_owned(),
                (event.facet, event.timestamp, event.revenue.as_ref().unwrap().to_string()),
            );
            assert!(known.is_none(), "{} came twice", event.message_id);
        })
        .unwrap();
        let expected: BTreeMap<String, (FacetId, i64, String)> = (0..written)
            .map(|n| (0, n))
            .chain((written / 2..USERS).map(|n| (1, n)))
            .map(|(round, n)| {
                let time = 1_748_736_000_000_000 + i64::from(n) * 1_000_000;
                (format!("m{round}-{n}"), (user(&format!("u{n}")), time, format!("{n}.50")))
            })
            .collect();
        assert_eq!(found.len(), expected.len());
        assert!(found == expected, "written out: {written}, then at {at}");
    }
}

#[tokio::test]
async fn a_pass_ends_when_nobody_waits_for_it() {
    let mut replica = Replica::alone().await;
    ingest(&mut replica, 0, USERS, 0).await;
    let wanted = EventsWanted { at: replica.shared().state.read().meta.stamp, ..EventsWanted::default() };
    let mut count = 0;
    all_events(&replica.shared(), &wanted, &|| false, &mut |_| count += 1).unwrap();
    assert!(count > 0 && count < USERS, "{count} events");
}
