//! Who waits for a proposal's outcome, and the spans in which its time goes.
//!
//! `raft.propose` lasts from the proposal until it is known to be committed, `raft.apply` while the state machine works
//! on it. Both are children of the span in which it was proposed, so that they are part of the caller's trace. Where
//! nobody records spans they cost a comparison each.

use tracing::Span;

use crate::{
    Error,
    inbox::Reply,
    types::{GroupId, Proposed},
};

/// Stands for a proposal until it is answered.
pub(crate) struct Proposer<O> {
    reply: Reply<Proposed<O>>,
    caller: Span,
    propose: Span,
}

impl<O> Proposer<O> {
    /// Of a proposal that is made now, in the present span.
    pub(crate) fn new(group: GroupId, reply: Reply<Proposed<O>>) -> Self {
        let propose = tracing::debug_span!("raft.propose", shard = group);
        let caller = if propose.is_disabled() { Span::none() } else { Span::current() };
        Self { reply, caller, propose }
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }

    /// It is committed.
    pub(crate) fn committed(&mut self) {
        self.propose = Span::none();
    }

    /// The span of its entry's application.
    pub(crate) fn applying(&self, index: u64) -> Span {
        if self.caller.is_none() {
            return Span::none();
        }
        self.caller.in_scope(|| tracing::debug_span!("raft.apply", index))
    }

    /// Answers; whoever asked may be gone.
    pub(crate) fn answer(self, answer: Result<Proposed<O>, Error>) {
        let _gone = self.reply.send(answer);
    }
}
