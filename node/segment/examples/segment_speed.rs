//! What an event costs when segments are kept live: taking it up, and answering what it touches.
//!
//! `cargo run --release -p isthmus-segment --example segment_speed [events] [segments] [load]`. Segments of six common
//! shapes, over ten names of events; profiles with a history of some fifty events. With `load`: the segments and events by
//! which whole clusters are measured (`bench segments`), all of one name, each touching all segments; profiles with a
//! history of two events, of a day that was so many days ago.

#![allow(clippy::unwrap_used, reason = "a measurement that unwraps fails where it should")]

use std::time::{Duration, Instant};

use isthmus_domain::{EventRecord, EventType, RecordView, record::TraitChange};
use isthmus_segment::{
    Document, FacetState, Known, Membership, Plan, Standing, Touched, definition::Segment,
};

/// How a segment is defined and an event is made, and rounds of events.
type Load = (fn(usize) -> String, fn(usize) -> Vec<u8>, usize);
const EPOCH: i64 = 1_700_000_000_000_000;
const HOUR: i64 = 3_600_000_000;
const PROFILES: usize = 1_000;
const NAMES: [&str; 10] = [
    "Order Completed",
    "Product Viewed",
    "Product Added",
    "Checkout Started",
    "Support Ticket",
    "Email Opened",
    "Email Clicked",
    "Search",
    "Login",
    "Logout",
];

/// A segment of one of the shapes, each another one.
fn expression(n: usize) -> String {
    let name = NAMES[n % NAMES.len()];
    let (days, many) = (7 + n % 60, 1 + n % 5);
    match n % 6 {
        0 => format!("plan = 'pro' AND events('{name}', '{days} days') >= {many}"),
        1 => format!("NOT did('{name}', '{days} days') AND last_seen < now() - INTERVAL '{days} days'"),
        2 => format!("sum(total, '{name}', '{days} days') > {many}00.50"),
        3 => format!("events('{name}', '{days} days', country = 'DE' AND total > {many}) > 2"),
        4 => {
            format!("sequence('{name}', 'Order Completed', within => '{many} days', window => '{days} days')")
        }
        _ => format!("age BETWEEN 18 AND 6{many} AND count(DISTINCT category, '{name}') >= {many}"),
    }
}

/// A segment as in `bench segments`.
fn expression_of_load(number: usize) -> String {
    let n = number / 5 + 1;
    match number % 5 {
        0 => format!("events('Order Completed') >= {n}"),
        1 => format!("sum(revenue, 'Order Completed', '{} days') > {}", 365 - n, n * 100),
        2 => format!("did('Order Completed', '{n} days') AND NOT did('Refunded', '30 days')"),
        3 => format!("last_seen > now() - INTERVAL '{n} days'"),
        _ => format!("sequence('Product Added', 'Order Completed', within => '{n} days')"),
    }
}

/// An event as in `bench segments`.
fn event_of_load(n: usize) -> Vec<u8> {
    let mixed = |n: usize| (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let (mut key, cents) = ([0; 16], mixed(n) % 100_000);
    key[8..].copy_from_slice(&n.to_be_bytes());
    let record = EventRecord {
        facet: vec![1; 16].into(),
        namespace: "user_id".to_owned(),
        value: format!("u{}", n % PROFILES),
        message_id: format!("with-{n}"),
        source: "web".to_owned(),
        kind: EventType::Track.into(),
        name: "Order Completed".to_owned(),
        timestamp: EPOCH + (mixed(n + 7) % 86_400) as i64 * 1_000_000,
        body_hash: vec![2; 16].into(),
        dedup_key: key.to_vec().into(),
        properties: format!(
            r#"{{"category":"books","coupon":null,"currency":"USD","order_id":"o-{n}","pad":"{}","quantity":4,"revenue":"{}.{:02}","sku":"{:016x}"}}"#,
            "a".repeat(200),
            cents / 100,
            cents % 100,
            mixed(n + 9),
        )
        .into_bytes()
        .into(),
        ..EventRecord::default()
    };
    record.to_bytes().to_vec()
}

fn event(n: usize) -> Vec<u8> {
    let identify = n % 20 == 19;
    let mut key = [0; 16];
    key[8..].copy_from_slice(&n.to_be_bytes());
    let change =
        |name: &str, value: String| TraitChange { name: name.to_owned(), value: value.into_bytes().into() };
    let record = EventRecord {
        facet: vec![1; 16].into(),
        namespace: "user_id".to_owned(),
        value: format!("customer-{}", n % PROFILES),
        message_id: format!("message-{n:012}"),
        source: "web".to_owned(),
        kind: if identify { EventType::Identify } else { EventType::Track }.into(),
        name: if identify { String::new() } else { NAMES[(n * 7 + n / 13) % NAMES.len()].to_owned() },
        timestamp: EPOCH + n as i64 * HOUR / PROFILES as i64 * 6,
        body_hash: vec![2; 16].into(),
        dedup_key: key.to_vec().into(),
        traits: match identify {
            true => vec![change("age", (n % 80).to_string()), change("plan", "\"pro\"".to_owned())],
            false => Vec::new(),
        },
        properties: format!(
            r#"{{"category":"c{}","country":"{}","currency":"EUR","products":[{{"price":9.5,"sku":"a"}},{{"price":4,"sku":"b"}}],"total":{}.{:02}}}"#,
            n % 30,
            ["DE", "FR", "US"][n % 3],
            n % 90,
            n % 100
        )
        .into_bytes()
        .into(),
        ..EventRecord::default()
    };
    record.to_bytes().to_vec()
}

#[expect(clippy::disallowed_methods, reason = "a measurement owns a clock")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

fn main() {
    let mut args = std::env::args().skip(1).map(|n| n.parse::<usize>().unwrap());
    let (events, segments) = (args.next().unwrap_or(100_000), args.next().unwrap_or(100));
    let days_ago = args.next().map(|days| days as i64);
    let (expression, event, rounds): Load = match days_ago {
        None => (expression, event, 50),
        Some(_) => (expression_of_load, event_of_load, 2),
    };
    let segment =
        |n: usize| Segment { name: format!("s{n}"), expression: expression(n), ..Segment::default() };
    let document = Document { segments: (0..segments).map(segment).collect(), ..Document::default() };
    let known = Known { traits: None, currency: "EUR".to_owned() };
    let (plan, took) = timed(|| Plan::compile(&document, &known).unwrap());
    println!(
        "{segments} segments, {} terms, compiled in {:.1} ms",
        plan.terms().count(),
        took.as_secs_f64() * 1e3
    );

    let mut states = vec![FacetState::default(); PROFILES];
    let mut standings = vec![Standing::default(); PROFILES];
    let history = PROFILES * rounds;
    let records: Vec<Vec<u8>> = (0..history + events).map(event).collect();
    for (n, bytes) in records[..history].iter().enumerate() {
        plan.absorb(&RecordView::read(bytes).unwrap(), &mut states[n % PROFILES], &mut Touched::default());
    }

    if let Some(days) = days_ago {
        let now = EPOCH + days * 24 * HOUR;
        for (state, standing) in states.iter().zip(&mut standings) {
            standing.update(&plan, &plan.evaluate(&[state], now, &plan.all()));
        }
    }
    let before: Vec<(FacetState, Standing)> = states.iter().cloned().zip(standings.iter().cloned()).collect();

    let views: Vec<RecordView<'_>> =
        records[history..].iter().map(|bytes| RecordView::read(bytes).unwrap()).collect();
    let each = |what: &str, took: Duration| {
        println!("{what:<44} {:>9.2} µs an event", took.as_secs_f64() * 1e6 / events as f64);
    };
    let mut touched = Touched::default();
    let mut evaluated = 0;
    let mut at = [Duration::ZERO; 3];
    let mut changed = 0;
    for (n, view) in views.iter().enumerate() {
        let profile = (history + n) % PROFILES;
        if days_ago.is_some() && (n / PROFILES).is_multiple_of(2) {
            // Histories of two or three, and all of them begin anew before they are longer.
            (states[profile], standings[profile]) = before[profile].clone();
        }
        let now = days_ago.map_or(view.timestamp, |days| EPOCH + days * 24 * HOUR);
        touched.clear();
        at[0] += timed(|| plan.absorb(view, &mut states[profile], &mut touched)).1;
        let (answers, took) = timed(|| plan.judge(&[&states[profile]], now, &touched));
        at[1] += took;
        evaluated += answers.len();
        at[2] += timed(|| changed += standings[profile].update(&plan, &answers).len()).1;
    }
    each("take up", at[0]);
    each(&format!("answer {:.1} segments", evaluated as f64 / events as f64), at[1]);
    each(&format!("standing, {changed} changes in all"), at[2]);
    each("together, and the clock's own time", at.iter().sum());
    let (_, clock) = timed(|| (0..events * 3).for_each(|_| _ = std::hint::black_box(timed(|| ()))));
    each("of that the clock", clock);

    let bytes: usize = states.iter().map(|state| state.to_bytes().len()).sum();
    let rows: usize = standings.iter().map(|standing| standing.to_bytes(&plan).len()).sum();
    println!("bytes a profile: state {}, standing {}", bytes / PROFILES, rows / PROFILES);
    let members = standings.iter().map(|s| s.members().count()).sum::<usize>();
    println!("memberships a profile: {:.1}", members as f64 / PROFILES as f64);
    let now =
        days_ago.map_or(views.last().map_or(EPOCH, |view| view.timestamp), |days| EPOCH + days * 24 * HOUR);
    let (all, took) =
        timed(|| states.iter().map(|state| plan.evaluate(&[state], now, &plan.all()).len()).sum::<usize>());
    println!("{:<44} {:>9.2} µs a profile", "all segments", took.as_secs_f64() * 1e6 / PROFILES as f64);
    assert_eq!(all, PROFILES * segments);
    let (_, took) =
        timed(|| states.iter_mut().map(|state| usize::from(plan.expire(state, now))).sum::<usize>());
    println!(
        "{:<44} {:>9.2} µs a profile",
        "forget what has left its window",
        took.as_secs_f64() * 1e6 / PROFILES as f64
    );
    assert!(standings.iter().all(|standing| standing.membership(0) != Membership::Overflow));
}
