//! What a shop's website sends: mostly views, some carts, few orders, of about 500 bytes each.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

use super::{Numbers, padded};

/// Of a hundred events, so many of a name; the first is a page's.
const NAMES: [(u64, &str); 6] = [
    (25, "Home"),
    (45, "Product Viewed"),
    (15, "Product Added"),
    (8, "Order Completed"),
    (5, "Email Opened"),
    (2, "Support Ticket"),
];

/// Events of one visit, and how many visits go on side by side.
const VISIT: u64 = 8;
const VISITORS: u64 = 512;

/// An event of one of `profiles` customers, which happened in the seconds before a time. Each visits, and does some things then.
pub(super) fn event(
    run: &str,
    number: u64,
    profiles: u64,
    (until, seconds): (Timestamp, u64),
    numbers: &mut Numbers,
) -> Bytes {
    let visit = number / (VISIT * VISITORS) * VISITORS + number % VISITORS;
    let user = Numbers(visit.wrapping_add(run.bytes().map(u64::from).sum::<u64>() << 40)).draw() % profiles;
    let mut share = numbers.draw() % 100;
    let named = NAMES.iter().find(|(weight, _)| match share.checked_sub(*weight) {
        Some(rest) => {
            share = rest;
            false
        }
        None => true,
    });
    let name = named.map_or("Home", |(_, name)| name);
    let at = until - Duration::from_millis(numbers.draw() % (seconds * 1_000).max(1));
    let (cents, sku) = (500 + numbers.draw() % 30_000, numbers.draw());
    let what = if name == "Home" { r#""page","name""# } else { r#""track","event""# };
    let mut json = format!(
        r#"{{"type":{what}:"{name}","messageId":"{run}-{number}","userId":"u{user}","timestamp":"{at:.3}","properties":{{"#
    );
    if name == "Order Completed" {
        let _fits = write!(json, r#""revenue":{}.{:02},"currency":"USD","#, cents / 100, cents % 100);
    }
    let category = ["books", "lamps", "chairs", "rugs"][(sku % 4) as usize];
    let _fits = write!(
        json,
        r#""sku":"{sku:016x}","quantity":{},"category":"{category}","coupon":null,"pad":""#,
        1 + sku % 9
    );
    padded(json)
}
