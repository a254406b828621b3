//! The coordinator.
mod error;
mod keys;
pub mod placement;
pub mod reconciler;
pub mod seal;
pub mod state;
mod view;
pub use error::{Error, Result};
pub use keys::{KeyHash, WRITE_KEY_PREFIX, WriteKey};
pub use view::{ShardPeer, Source, View};
