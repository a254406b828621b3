//! Which software this is.

/// The version with the commit it was built from, such as `0.1.0 (4f1c2a9b7d3e)`; `unknown` outside of git.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ISTHMUS_COMMIT"), ")");
