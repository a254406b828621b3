//! Queries under way by their names, so that they can be cancelled by others than those who read them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::ticket::Id;
use crate::grpc::status::Refusal;

type Tokens = Mutex<HashMap<Id, CancellationToken>>;

/// All of a node. As many as may run at once, and as wait for that.
#[derive(Clone, Default)]
pub struct UnderWay(Arc<Tokens>);

/// A query under way; its name is free again when this is let go of.
pub struct Entered {
    id: Id,
    token: CancellationToken,
    of: Arc<Tokens>,
}

impl Entered {
    /// What tells that it was cancelled.
    pub fn cancelled(&self) -> CancellationToken {
        self.token.clone()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.of.lock().remove(&self.id);
    }
}

impl UnderWay {
    /// A query begins.
    ///
    /// # Errors
    /// FAILED_PRECONDITION `IN_USE` when its ticket is being read already.
    pub fn enter(&self, id: Id) -> Result<Entered, Refusal> {
        let token = CancellationToken::new();
        let mut tokens = self.0.lock();
        if tokens.contains_key(&id) {
            let message = "somebody reads this ticket's rows already: ask for another with GetFlightInfo";
            return Err(Refusal::new(Code::FailedPrecondition, "IN_USE", message));
        }
        tokens.insert(id, token.clone());
        Ok(Entered { id, token, of: self.0.clone() })
    }

    /// Cancels a query; whether it was under way.
    pub fn cancel(&self, id: &Id) -> bool {
        let token = self.0.lock().get(id).cloned();
        token.inspect(CancellationToken::cancel).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_can_be_cancelled_once_it_is_and_no_longer() {
        let queries = UnderWay::default();
        assert!(!queries.cancel(&[1; 16]));
        let entered = queries.enter([1; 16]).ok().unwrap();
        assert!(queries.enter([1; 16]).is_err());
        assert!(queries.cancel(&[1; 16]) && entered.cancelled().is_cancelled());
        drop(entered);
        assert!(!queries.cancel(&[1; 16]) && queries.enter([1; 16]).is_ok());
    }
}
