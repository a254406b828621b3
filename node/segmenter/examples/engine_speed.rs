//! What an event costs an engine when a hundred segments look at it: those and the events of the load by which whole
//! clusters are measured (`bench segments`), without a cluster.
//!
//! `cargo run --release -p isthmus-segmenter --example engine_speed [profiles] [events] [segments] [age]`. Each profile has
//! two events before. Events are of one day, which is `age` days ago: windows of days see them or don't.

#![allow(clippy::unwrap_used, reason = "a measurement that unwraps fails where it should")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_domain::{EventRecord, EventType, FacetId, RecordView, Stamp};
use isthmus_segment::{Document, Known, Plan, definition::Segment};
use isthmus_segmenter::{Cause, Engine};
use isthmus_shard::{feed::Place, segments::Through};
use prost::Message;

const NOW: i64 = 1_795_000_000_000_000;
const DAY: i64 = 86_400_000_000;
/// Events of a command.
const BATCH: usize = 500;

/// As in `bench segments`.
fn expression(number: usize) -> String {
    let n = number / 5 + 1;
    match number % 5 {
        0 => format!("events('Order Completed') >= {n}"),
        1 => format!("sum(revenue, 'Order Completed', '{} days') > {}", 365 - n, n * 100),
        2 => format!("did('Order Completed', '{n} days') AND NOT did('Refunded', '30 days')"),
        3 => format!("last_seen > now() - INTERVAL '{n} days'"),
        _ => format!("sequence('Product Added', 'Order Completed', within => '{n} days')"),
    }
}

/// Spread as facets are.
fn mixed(n: usize) -> u64 {
    let n = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n ^ (n >> 31)
}

fn event(n: usize, profiles: usize, day: i64) -> (FacetId, Vec<u8>) {
    let user = mixed(n) as usize % profiles;
    let mut facet = [0; 16];
    facet[..8].copy_from_slice(&mixed(user).to_be_bytes());
    facet[8..].copy_from_slice(&mixed(user + profiles).to_be_bytes());
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mixed(n).to_be_bytes());
    let cents = mixed(n + 7) % 100_000;
    let properties = format!(
        r#"{{"category":"books","coupon":null,"currency":"USD","order_id":"o-{n}","pad":"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnop","quantity":4,"revenue":"{}.{:02}","sku":"{:016x}"}}"#,
        cents / 100,
        cents % 100,
        mixed(n + 9),
    );
    let record =
        EventRecord {
            facet: facet.to_vec().into(),
            namespace: "user_id".to_owned(),
            value: format!("u{user}"),
            message_id: format!("with-{n}"),
            source: "web".to_owned(),
            kind: EventType::Track.into(),
            name: "Order Completed".to_owned(),
            timestamp: day + (n as i64 % 86_400) * 1_000_000,
            body_hash: vec![2; 16].into(),
            dedup_key: key.to_vec().into(),
            revenue: format!("{}.{:02}", cents / 100, cents % 100).parse().ok(),
            currency: "USD".to_owned(),
            properties: properties.into_bytes().into(),
            context: br#"{"ip":"203.0.113.7","library":{"name":"bench","version":"1"},"locale":"de-DE"}"#
                .as_slice()
                .into(),
            ..EventRecord::default()
        };
    (FacetId::from_bytes(facet), record.to_bytes().to_vec())
}

#[expect(clippy::disallowed_methods, reason = "a measurement owns a clock")]
fn timed<T>(at: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    *at += start.elapsed();
    done
}

fn main() {
    let mut args = std::env::args().skip(1).map(|n| n.parse::<usize>().unwrap());
    let mut argument = |usual| args.next().unwrap_or(usual);
    let (profiles, events, segments, age) =
        (argument(50_000), argument(100_000), argument(100), argument(312));
    let day = NOW - age as i64 * DAY;
    let segment =
        |n: usize| Segment { name: format!("s{n}"), expression: expression(n), ..Segment::default() };
    let document = Document { segments: (0..segments).map(segment).collect(), ..Document::default() };
    let known = Known { traits: None, currency: "USD".to_owned() };
    let plan = Arc::new(Plan::compile(&document, &known).unwrap());
    println!("{segments} segments, {} terms, {profiles} profiles", plan.terms().count());

    let mut engine = Engine::new(plan, 1, Stamp(NOW as u64));
    for n in 0..2 * profiles {
        let (facet, bytes) = event(n, profiles, day);
        engine.load(facet, &RecordView::read(&bytes).unwrap());
    }
    let [mut begun, mut read, mut taken_up, mut passed, mut proposed, mut told] = [Duration::ZERO; 6];
    timed(&mut begun, || engine.begin());
    engine.reconcile(Through { stamp: Stamp::ZERO, version: 1 }, std::iter::empty());
    let mut stamp = NOW as u64;
    let mut transitions = 0;
    // What the log doesn't know of before.
    while let Some(all) = engine.has_pending().then(|| engine.propose()).flatten() {
        stamp += 1;
        engine.taken(&all, Stamp(stamp));
        engine.reach(Stamp(stamp), usize::MAX);
    }
    let records: Vec<_> = (2 * profiles..2 * profiles + events).map(|n| event(n, profiles, day)).collect();
    for batch in records.chunks(BATCH) {
        // As often as commands come at some ten thousand events a second.
        stamp += 50_000;
        let views: Vec<_> = timed(&mut read, || {
            batch.iter().map(|(facet, bytes)| (*facet, RecordView::read(bytes).unwrap())).collect()
        });
        timed(&mut taken_up, || {
            for (number, (facet, view)) in views.iter().enumerate() {
                let cause: Cause =
                    (Place { stamp: Stamp(stamp), number: number as u32 }, facet.slot().number());
                engine.event(*facet, view, cause);
            }
        });
        timed(&mut passed, || while !engine.reach(Stamp(stamp), 1_000) {});
        while engine.has_pending() {
            let Some(next) = timed(&mut proposed, || engine.propose()) else { break };
            transitions += next.command.transitions.len();
            timed(&mut proposed, || std::hint::black_box(next.command.encode_to_vec()));
            stamp += 1;
            timed(&mut told, || engine.taken(&next, Stamp(stamp)));
            timed(&mut passed, || engine.reach(Stamp(stamp), 1_000));
        }
    }
    let each = |what: &str, took: Duration| {
        println!("{what:<44} {:>9.2} µs an event", took.as_secs_f64() * 1e6 / events as f64);
    };
    each("read", read);
    each("take up and answer", taken_up);
    each("let time pass", passed);
    each(&format!("propose {:.2} transitions", transitions as f64 / events as f64), proposed);
    each("know that they are told", told);
    each("together", read + taken_up + passed + proposed + told);
    println!("{:<44} {:>9.2} µs a profile", "begin", begun.as_secs_f64() * 1e6 / profiles as f64);
    let members: u64 = (0..segments).map(|n| engine.set(&format!("s{n}")).unwrap().len()).sum();
    // The same whatever is made faster.
    println!("{members} memberships, {} MiB of states", engine.weight().1 >> 20);
}
