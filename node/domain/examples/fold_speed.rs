//! What following a link fact costs a root: in order, late, after a restart, and with other rules.
//!
//! `cargo run --release -p isthmus-domain --example fold_speed [facts]`. Customers of one user id and five other
//! identifiers, a fifth of the facts of which would join two customers and are refused, all in one bundle.

#![allow(clippy::unwrap_used, reason = "a measurement that unwraps fails where it should")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use isthmus_domain::identity::{Fold, IdentityRules, RowKey};
use isthmus_domain::{FacetId, Identifier, IdentityKey, LinkFact, LinkKind, LinkRow};

const KEY: IdentityKey = IdentityKey::new([1; 32]);

fn row(timestamp: i64, a: &str, b: &str) -> (RowKey, LinkRow) {
    let (a, b) = (Identifier::parse(a).unwrap(), Identifier::parse(b).unwrap());
    let key = RowKey { a: FacetId::of(&KEY, &a), b: FacetId::of(&KEY, &b), source_and_kind: [0; 16] };
    let mut row = LinkRow::default();
    row.offer(LinkFact {
        a,
        b,
        timestamp,
        source: "web".to_owned(),
        message_id: format!("message-{timestamp:012}"),
        kind: LinkKind::Plain,
        position: 0,
    });
    (key, row)
}

fn rows(facts: i64) -> Vec<(RowKey, LinkRow)> {
    let fact = |i: i64| {
        let customer = format!("user_id:customer-{}", i / 5);
        match i % 5 {
            // The device of the customer before: this would join two user ids.
            0 if i > 0 => row(i, &customer, &format!("anonymous_id:device-{}", i - 1)),
            0 | 1 => row(i, &customer, &format!("email:customer-{i}@example.com")),
            2 => row(i, &customer, &format!("phone:+49171{i:08}")),
            _ => row(i, &customer, &format!("anonymous_id:device-{i}")),
        }
    };
    (0..facts).map(fact).collect()
}

#[expect(clippy::disallowed_methods, reason = "a measurement owns a clock")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

fn rate(what: &str, facts: u64, took: Duration) {
    let each = took.as_secs_f64() / facts as f64;
    println!("{what:<44} {facts:>9} facts {:>9.1} ms {:>10.0} facts/s", took.as_secs_f64() * 1e3, 1.0 / each);
}

fn main() {
    let count: i64 = std::env::args().nth(1).map_or(100_000, |n| n.parse().unwrap());
    let facts = count.unsigned_abs();
    let rows = rows(count);
    let rules = Arc::new(IdentityRules::default());

    let mut fold = Fold::new(rules.clone());
    let (_, took) = timed(|| {
        for (key, row) in &rows {
            fold.put(*key, row).unwrap();
        }
    });
    rate("put", facts, took);
    let (_, took) = timed(|| fold.settle());
    rate("fold", facts, took);
    let (moved, took) = timed(|| fold.take_moved().unwrap());
    rate(&format!("take {} who may have moved", moved.len()), facts, took);
    let (writes, took) = timed(|| fold.take_writes());
    rate("encode the pieces", facts, took);
    let mut one_by_one = Fold::new(rules.clone());
    let (_, took) = timed(|| {
        for (key, row) in &rows {
            one_by_one.put(*key, row).unwrap();
            one_by_one.step(1);
            one_by_one.take_moved();
            one_by_one.take_writes();
        }
    });
    rate("put, fold, take one by one", facts, took);

    let pieces = writes.iter().filter_map(|w| Some((&w.key[..], w.value.as_deref()?)));
    let (mut restored, took) = timed(|| Fold::restore(rules, pieces).unwrap());
    rate("restore", facts, took);
    assert_eq!(restored.components(), fold.components());

    let (key, row) = row(count - 500, "user_id:customer-0", "email:late@example.com");
    let (_, took) = timed(|| {
        restored.put(key, &row).unwrap();
        restored.settle();
    });
    rate("a fact 500 facts late", 1, took);

    let (longest, took) = timed(|| {
        fold.set_rules(Arc::new(IdentityRules::default().with_version(1)));
        let mut longest = Duration::ZERO;
        while !fold.is_settled() {
            longest = longest.max(timed(|| fold.step(1_000)).1);
        }
        longest
    });
    rate(&format!("other rules, longest step {:.1} ms", longest.as_secs_f64() * 1e3), facts, took);
}
