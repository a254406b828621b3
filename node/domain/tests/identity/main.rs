//! Identity resolution against a model, under any order, and in stories.
//!
//! - `stories.rs` reads like documentation: what happens to a family, a kiosk, a second user id, a split.
//! - `model.rs` is the fold as one would explain it: all facts, sorted, one by one, with sets that are copied.
//! - `cases.rs` makes facts, retractions and rules that get in each other's way.
//! - `orders.rs`: any order, repetition and batching gives what the model gives, to the byte.
//! - `views.rs`: so do the profiles of whole events, from accepting them to the JSON that is shown.
//! - `refold.rs`: late facts, other rules, and a restart at any point change nothing.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod cases;
mod model;
mod orders;
mod refold;
mod stories;
mod views;

use isthmus_domain::{Identifier, IdentityKey, LinkFact, LinkKind};

const KEY: IdentityKey = IdentityKey::new([5; 32]);

fn id(text: &str) -> Identifier {
    Identifier::parse(text).unwrap()
}

/// A plain fact of the source `web`.
fn link(timestamp: i64, a: &str, b: &str) -> LinkFact {
    LinkFact {
        a: id(a),
        b: id(b),
        timestamp,
        source: "web".to_owned(),
        message_id: format!("m{timestamp}"),
        kind: LinkKind::Plain,
        position: 0,
    }
}
