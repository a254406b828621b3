//! Types of DataFusion behind something that the compiler doesn't look into.
//!
//! Whether a future may go to another thread is asked for each asynchronous function by itself, of all that its arguments
//! hold. Of a plan or an engine's state that takes the compiler four seconds each time; of this, nothing.

use std::{ops::Deref, sync::Arc};

/// A shared value that may go anywhere.
pub(crate) struct Opaque<T: 'static>(Arc<dyn Holds<T>>);

trait Holds<T>: Send + Sync {
    fn held(&self) -> &T;
}

impl<T: Send + Sync> Holds<T> for T {
    fn held(&self) -> &T {
        self
    }
}

impl<T: Send + Sync> Opaque<T> {
    /// Shares a value.
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for Opaque<T> {
    type Target = T;

    fn deref(&self) -> &T {
        (*self.0).held()
    }
}

impl<T> Clone for Opaque<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
