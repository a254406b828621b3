//! Isthmus, the customer-data hub, from Rust: a typed, asynchronous client of its gRPC interface `isthmus.v1`.
//!
//! # What it promises
//!
//! - Every call ends by its deadline, with an answer or with a typed [`Error`] that says what to do.
//! - Calls go to any endpoint that can be reached, the least busy first; one that can't is skipped.
//! - What failed for the moment is tried again, with growing, jittered waits or when the hub said to come back:
//!   reads and repeatable writes always, writes that must happen once only if they can't have happened.
//! - Events are sent again under the same message ids: an event that has none gets one before the first try. So
//!   however often the network fails, an event is stored once. After a retry the hub may call an event a duplicate
//!   that this very call stored: both mean that it is there.
//! - An outcome that isn't known is said to be unknown, never failed.
//!
//! # How it works
//!
//! [`Client`] is a cheap handle on a pool of connections (`endpoint`). One loop (`client`) carries out every
//! call; what it does after a failure is decided by pure code (`retry`). [`files`] turns JSON lines and CSV into
//! items, in bounded memory; [`json`] is the shape in which the command line shows answers.
//!
//! # What it leaves out
//!
//! TLS and credentials other than write keys (they come with access control); ingest streams; buffering in the background: a call returns when its events are stored.
//!
//! # Example
//!
//! ```no_run
//! use isthmus_client::{Client, key::ProfileKey, proto::{Event, EventType, IngestItem, ingest_item::Body}};
//!
//! # async fn example() -> Result<(), isthmus_client::Error> {
//! let client = Client::builder().endpoints(["127.0.0.1:7400"]).write_key("dev-write-key").connect_lazy()?;
//! let event = Event {
//!     r#type: EventType::Track.into(),
//!     user_id: "42".into(),
//!     name: "Order Completed".into(),
//!     ..Event::default()
//! };
//! let item = IngestItem { body: Some(Body::Event(event)), ..IngestItem::default() };
//! let stored = client.ingest(vec![item]).await?;
//! println!("{} stored", stored.count().accepted);
//! let profile = client.profile("user_id:42".parse::<ProfileKey>()?).await?;
//! println!("{} orders", profile.event_counts["Order Completed"]);
//! # Ok(())
//! # }
//! ```

mod admin;
pub mod cli;
mod client;
mod endpoint;
pub mod error;
pub mod files;
mod ingest;
pub mod json;
pub mod key;
mod matching;
pub mod message_id;
mod profile;
mod registry;
mod retry;
mod watch;

pub use client::{Client, ClientBuilder, DEADLINE_DEFAULT};
pub use endpoint::{DEFAULT_PORT, parse_endpoint};
pub use error::{Error, Reason, Refusal};
pub use ingest::{Counts, Ingested};
pub use profile::{ProfilePages, TimelinePages};
pub use watch::Watch;

/// The generated messages of the public interface.
pub use isthmus_proto::v1 as proto;
