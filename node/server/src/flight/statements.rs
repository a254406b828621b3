//! Prepared statements of clients: so many at most, each as long as it is used.

use std::{collections::HashMap, time::Duration};

use isthmus_query::Prepared;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Code;

use super::ticket::{Id, new_id};
use crate::grpc::status::Refusal;

/// A statement that was not used for so long is forgotten.
const IDLE_MAX: Duration = Duration::from_secs(30 * 60);
/// When to come back to a node that keeps enough statements.
const FULL_AGAIN: Duration = Duration::from_secs(5);

/// A statement with what was bound to it.
#[derive(Clone)]
pub struct Statement {
    /// The statement.
    pub prepared: Prepared,
    /// Values of its parameters, as tickets have them.
    pub parameters: Vec<u8>,
}

struct Kept {
    statement: Statement,
    used: Instant,
}

/// All of a node.
pub struct Statements {
    kept: Mutex<HashMap<Id, Kept>>,
    max: usize,
}

fn unknown() -> Refusal {
    let message = "this node keeps no such prepared statement: it was closed, not used for half an hour, or prepared at \
                   another node; prepare it again";
    Refusal::new(Code::NotFound, "NOT_FOUND", message)
}

fn id_of(handle: &[u8]) -> Result<Id, Refusal> {
    Id::try_from(handle).map_err(|_| unknown())
}

impl Statements {
    /// At most so many.
    pub fn new(max: usize) -> Self {
        Self { kept: Mutex::default(), max }
    }

    /// Keeps a statement; its handle.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED `TOO_MANY_STATEMENTS`.
    pub fn keep(&self, prepared: Prepared) -> Result<Id, Refusal> {
        self.keep_at(prepared, Instant::now())
    }

    fn keep_at(&self, prepared: Prepared, now: Instant) -> Result<Id, Refusal> {
        let mut kept = self.kept.lock();
        if kept.len() >= self.max {
            kept.retain(|_, one| now.saturating_duration_since(one.used) < IDLE_MAX);
        }
        if kept.len() >= self.max {
            let message = format!(
                "{} prepared statements are open at this node, which is its limit: close some, go to another node, or \
                 come back",
                self.max
            );
            return Err(
                Refusal::new(Code::ResourceExhausted, "TOO_MANY_STATEMENTS", message).retry_after(FULL_AGAIN)
            );
        }
        let id = new_id();
        let statement = Statement { prepared, parameters: Vec::new() };
        kept.insert(id, Kept { statement, used: now });
        Ok(id)
    }

    /// The statement of a handle.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn get(&self, handle: &[u8]) -> Result<Statement, Refusal> {
        self.used(handle, |statement| statement.clone())
    }

    /// Binds values to a statement, in place of those that it had.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn bind(&self, handle: &[u8], parameters: Vec<u8>) -> Result<(), Refusal> {
        self.used(handle, |statement| statement.parameters = parameters)
    }

    fn used<T>(&self, handle: &[u8], with: impl FnOnce(&mut Statement) -> T) -> Result<T, Refusal> {
        let id = id_of(handle)?;
        let now = Instant::now();
        let mut kept = self.kept.lock();
        let one = kept.get_mut(&id).filter(|one| now.saturating_duration_since(one.used) < IDLE_MAX);
        let one = one.ok_or_else(unknown)?;
        one.used = now;
        Ok(with(&mut one.statement))
    }

    /// Forgets a statement. One that is not known is forgotten already.
    pub fn close(&self, handle: &[u8]) {
        if let Ok(id) = id_of(handle) {
            self.kept.lock().remove(&id);
        }
    }
}
