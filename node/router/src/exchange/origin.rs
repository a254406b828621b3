//! What calls to other nodes are part of: a client's request and its trace.
//!
//! The router carries it and knows nothing of it. Who knows is handed in, as [`Origins`]: what runs here now belongs to
//! ([`Origins::current`]), and how what another node asks is run under the name that it gave ([`Origins::run`]).

use futures::future::BoxFuture;
use isthmus_proto::internal::v1::{CallOrigin, ShardReply};

/// Knows what calls are part of.
pub trait Origins: std::fmt::Debug + Send + Sync + 'static {
    /// What the caller is part of; `None`: nothing that has a name. Asked once a call to another node.
    fn current(&self) -> Option<CallOrigin>;

    /// Runs a call of another node as part of what it is part of there.
    fn run(
        &self,
        origin: CallOrigin,
        shard: u64,
        call: BoxFuture<'static, ShardReply>,
    ) -> BoxFuture<'static, ShardReply>;
}

/// Nothing has a name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nameless;

impl Origins for Nameless {
    fn current(&self) -> Option<CallOrigin> {
        None
    }

    fn run(
        &self,
        _origin: CallOrigin,
        _shard: u64,
        call: BoxFuture<'static, ShardReply>,
    ) -> BoxFuture<'static, ShardReply> {
        call
    }
}
