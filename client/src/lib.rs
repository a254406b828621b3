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
//! call; what it does after a failure is decided by pure code (`retry`). `files` turns JSON lines, CSV and Parquet
//! into items, in bounded memory; [`json`] is the shape in which the command line shows answers. `files` and `cli`
//! come with the feature `cli`, which is on unless it is switched off.
//!
//! # What it leaves out
//!
//! Credentials other than write keys and TLS certificates (they come with access control); events that outlive the process:
//! a call returns when its events are stored, and a [writer](IngestWriter) holds in memory what isn't yet.
//!
//! # Example
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let hub = isthmus_node::dev::Temporary::start().await?;
//! # let (endpoint, write_key) = (hub.endpoint(), isthmus_node::dev::WRITE_KEY);
//! use isthmus_client::{Client, key::ProfileKey, proto::{Event, EventType, ItemOutcome}};
//!
//! let client = Client::builder().endpoints([endpoint]).write_key(write_key).connect_lazy()?;
//! let event = Event {
//!     r#type: EventType::Track.into(),
//!     user_id: "42".into(),
//!     name: "Order Completed".into(),
//!     ..Event::default()
//! };
//! let result = client.ingest_one(event).await?;
//! assert_eq!(result.outcome(), ItemOutcome::Accepted);
//! let profile = client.profile("user_id:42".parse::<ProfileKey>()?).await?;
//! assert_eq!(profile.event_counts["Order Completed"], 1);
//! # hub.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Many events, one by one and with back-pressure: [`Client::writer`]. Changes as they come about: [`Client::watch`]. SQL:
//! [`Client::query`]. Encrypted connections: [`Tls`].

mod admin;
#[cfg(feature = "cli")]
pub mod cli;
mod client;
mod endpoint;
pub mod error;
#[cfg(feature = "cli")]
pub mod files;
mod group;
mod ingest;
pub mod json;
pub mod key;
mod matching;
pub mod message_id;
mod pages;
mod profile;
mod query;
mod reason;
mod registry;
mod retry;
mod segment;
mod tls;
mod watch;
mod writer;

pub use client::{Client, ClientBuilder, DEADLINE_DEFAULT};
pub use endpoint::{DEFAULT_PORT, parse_endpoint};
pub use error::{Error, Reason, Refusal};
pub use group::{GroupPages, MemberPages, MembershipPages};
pub use ingest::{Counts, Ingested, IntoItem};
pub use profile::{ProfilePages, TimelinePages};
#[cfg(feature = "arrow")]
pub use query::QueryBatches;
pub use query::{Parameter, Query, QueryRow, QueryRows};
pub use segment::SegmentPages;
pub use tls::Tls;
pub use watch::{Watch, WatchNews, WatchOptions};
pub use writer::{Flushed, ITEM_BYTES_MAX, IngestWriter, IngestWriterBuilder, Receipt};

/// The generated messages of the public interface.
pub use isthmus_proto::v1 as proto;
