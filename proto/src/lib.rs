//! Isthmus on the wire: the generated messages, clients and servers, and nothing else.
//!
//! [`v1`] is the public interface; it evolves by adding only. [`internal`] is spoken between nodes of one cluster.
//! The `.proto` files beside this crate are the reference: every message and field says there what it means, in
//! which unit, and what its absence means.

/// The public interface, package `isthmus.v1`.
#[allow(missing_docs, unused_qualifications, clippy::all, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("isthmus.v1");
}

/// Interfaces between the nodes of a cluster. Not stable, not for clients.
pub mod internal {
    /// Package `isthmus.internal.v1`.
    #[allow(missing_docs, unused_qualifications, clippy::all, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("isthmus.internal.v1");
    }
}

/// The public package as an encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/isthmus_v1.bin"));

/// The domain of `google.rpc.ErrorInfo` in every error that the hub answers with.
pub const ERROR_DOMAIN: &str = "isthmus.v1";
