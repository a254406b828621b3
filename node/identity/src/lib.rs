//! Identity resolution as identifiers do it among themselves: each is an actor, and they agree by messages alone.
//!
//! [`isthmus_domain::identity`] says which profiles follow from a set of facts; this crate brings the facts together
//! and carries the result to everybody concerned, over any number of shards, in whatever order messages between
//! different pairs of them arrive. It is pure: rows and messages in, rows and messages out ([`Store`]).
//!
//! ```text
//! an event's links                                         a read of any member
//!       │                                                         │
//!       ▼              LinkNews             ToRoot                ▼
//!   primary ──────────▶ counterpart ──────────▶ root         RECORD: home, epoch
//!  (LINK_ROW)           (HALF_ROW)        (ROOT: the fold)        │
//!       ▲                    │ held: shared      │ Members         ▼
//!       └────── Settled ◀────┴──────────────── home ──Assign──▶ members ──Joined──▶ home (HOME: the list)
//! ```
//!
//! - The **primary** of an event keeps, per counterpart, source and kind, the oldest fact that no retraction
//!   suppresses. Only a change of it is news (`primary`).
//! - The **counterpart** hears first: it counts for itself whether it is *shared*, and holds the row back while either
//!   end is (`counterpart`, `sharing`).
//! - Identifiers that a row joins form a *bundle*; its **root**, the smallest of them, owns its rows and folds them
//!   (`root`). Of two roots the larger becomes a child of the smaller and ships it what it knows; parents strictly
//!   decrease, so there is neither lock nor cycle.
//! - The **home** of a profile keeps the list of its members, in epochs. A member hears of a new home from the home
//!   that it leaves, tells the new one that it has come, and the new list is served when all have (`home`).
//! - The root answers `Settled` when the homes that a row touched serve their epochs; where it is one home, as most of
//!   the time, that home does by itself. That is what the acknowledgement of an event waits for, so a read that begins
//!   later sees one profile.
//! - **Retractions** stand at the identifiers that they name and at their counterparts; a row that loses its fact has
//!   the next one searched among the events (`retract`). Those of a source, and changed rules, are brought to every
//!   identifier by a sweep in bounded steps (`review`).
//!
//! Whatever takes long (a fold of many facts, a bundle to be shipped) is cut into steps: a `Continue` to oneself goes
//! through the log again, so that others' commands come between.
//!
//! `tests/simulation.rs` runs all of it under random schedules against [`isthmus_domain::identity::Ledger`].

mod counterpart;
mod home;
pub mod keys;
mod primary;
mod resolver;
mod retract;
mod review;
mod root;
mod sharing;
pub mod stored;

use bytes::Bytes;
use isthmus_domain::LinkKind;
use isthmus_proto::internal::v1::IdentityMessage;
use xxhash_rust::xxh3::Xxh3;

pub use home::Served;
pub use resolver::Resolver;
pub use root::{Root, Roots};

/// What identity resolution stands on: an ordered store of rows, and a way to send messages.
pub trait Store {
    /// A row.
    ///
    /// # Errors
    /// Storage that fails.
    fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Rows whose keys begin with `prefix` and are above `after`, rising, at most `limit`.
    ///
    /// # Errors
    /// Storage that fails.
    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, Error>;

    /// Puts or deletes a row.
    ///
    /// # Errors
    /// Storage that fails.
    fn put(&mut self, key: Vec<u8>, value: Option<Bytes>) -> Result<(), Error>;

    /// Sends a message, to be handled by [`Resolver::handle`] at its receiver's slot: exactly once, and of one sender
    /// and one receiver in order as long as neither slot moves.
    fn send(&mut self, message: IdentityMessage);

    /// The same, but never within this command: others' come between.
    fn send_later(&mut self, message: IdentityMessage);
}

/// What should not be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Storage failed.
    #[error("{0}")]
    Store(String),
    /// A row or a message can't be read.
    #[error("{0} can't be read")]
    Damaged(&'static str),
    /// What was read makes no sense.
    #[error(transparent)]
    Domain(#[from] isthmus_domain::Error),
}

/// Tells rows of one pair apart. Not keyed: neither the source's name nor the kind is anybody's secret.
pub fn source_and_kind(source: &str, kind: LinkKind) -> [u8; 16] {
    let mut hasher = Xxh3::new();
    hasher.update(&[kind as u8]);
    hasher.update(source.as_bytes());
    hasher.digest128().to_be_bytes()
}
