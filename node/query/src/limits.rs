//! How many queries run at once, and how large an answer may be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arrow::{
    array::{Array, ArrayRef},
    record_batch::RecordBatch,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::Instant,
};

use crate::error::{Limit, QueryError};

/// Lets so many queries in at once; some wait, more are refused.
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    wait: Duration,
}

/// A place, until it is dropped.
pub(crate) struct Place(#[expect(dead_code, reason = "it is held, not read")] OwnedSemaphorePermit);

impl Gate {
    pub(crate) fn new(places: usize, waiting_max: usize, wait: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), waiting: AtomicUsize::new(0), waiting_max, wait }
    }

    /// A place, maybe after a while.
    ///
    /// # Errors
    /// `Overloaded` when too many wait or it took too long; `DeadlineExceeded`.
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<Place, QueryError> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => return Ok(Place(place)),
            Err(TryAcquireError::Closed) => return Err(QueryError::Cancelled),
            Err(TryAcquireError::NoPermits) => {}
        }
        let overloaded = || QueryError::Overloaded { retry_after: self.wait };
        let _waiting = Waiting::of(&self.waiting, self.waiting_max).ok_or_else(overloaded)?;
        let patience = Instant::now() + self.wait;
        match tokio::time::timeout_at(patience.min(deadline), Arc::clone(&self.places).acquire_owned()).await
        {
            Ok(Ok(place)) => Ok(Place(place)),
            Ok(Err(_)) => Err(QueryError::Cancelled),
            Err(_) if deadline < patience => Err(QueryError::DeadlineExceeded),
            Err(_) => Err(overloaded()),
        }
    }

    /// Lets nobody in any more; who waits is sent away.
    pub(crate) fn close(&self) {
        self.places.close();
    }

    /// How many wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

/// One that waits, whatever becomes of it.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn of(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        let one_more = |n: usize| (n < max).then_some(n + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What of an answer is still allowed.
pub(crate) struct Allowance {
    rows: Option<u64>,
    rows_max: u64,
    bytes: u64,
    bytes_max: u64,
}

impl Allowance {
    pub(crate) fn new(rows_max: Option<u64>, bytes_max: u64) -> Self {
        Self { rows: rows_max, rows_max: rows_max.unwrap_or(u64::MAX), bytes: bytes_max, bytes_max }
    }

    /// # Errors
    /// With this batch it is too much.
    pub(crate) fn take(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let over = |what, max: u64, unit: &str| QueryError::Limit {
            what,
            detail: format!("an answer may have {max} {unit}; ask for less, or raise the limit"),
        };
        if let Some(rows) = &mut self.rows {
            let left = rows.checked_sub(batch.num_rows() as u64);
            *rows = left.ok_or_else(|| over(Limit::Rows, self.rows_max, "rows"))?;
        }
        let left = self.bytes.checked_sub(bytes_of(batch));
        self.bytes = left.ok_or_else(|| over(Limit::Bytes, self.bytes_max, "bytes"))?;
        Ok(())
    }
}

/// The bytes of a batch's own rows: one that is a slice of a larger batch has memory in common with the others.
pub fn bytes_of(batch: &RecordBatch) -> u64 {
    let of = |column: &ArrayRef| {
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    batch.columns().iter().map(of).sum::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn slices_of_a_batch_count_for_themselves() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..8_000));
        let whole = RecordBatch::try_new(schema, vec![numbers]).unwrap();
        let mut allowance = Allowance::new(None, 64_000);
        for slice in 0..10 {
            allowance.take(&whole.slice(slice * 800, 800)).unwrap();
        }
        assert!(allowance.take(&whole.slice(0, 1)).is_err());
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn one_waits_and_the_next_is_refused() {
        let gate = Gate::new(1, 1, Duration::from_secs(60));
        let first = gate.enter(soon()).await.unwrap();
        let mut second = Box::pin(gate.enter(soon()));
        assert!(futures::poll!(&mut second).is_pending());
        assert_eq!(gate.waiting(), 1);
        assert!(matches!(gate.enter(soon()).await, Err(QueryError::Overloaded { .. })));
        drop(first);
        second.await.unwrap();
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let gate = Gate::new(1, 1, Duration::from_millis(1));
        let _first = gate.enter(soon()).await.unwrap();
        assert!(matches!(gate.enter(soon()).await, Err(QueryError::Overloaded { .. })));
        let patient = Gate::new(1, 1, Duration::from_secs(60));
        let _first = patient.enter(soon()).await.unwrap();
        assert!(matches!(patient.enter(Instant::now()).await, Err(QueryError::DeadlineExceeded)));
    }
}
