//! Which ingest streams are open at a node, and how many there may be.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::super::status::Refusal;
use crate::{config::GrpcOptions, intake::window::Limits};

/// The largest item that is taken by a stream: more than the largest event, and what is kept of a refused one.
const ITEM_BYTES_MAX: u64 = 1 << 20;
/// When to come back to a node that has enough streams.
const FULL_AGAIN: Duration = Duration::from_secs(2);

/// The ingest streams of a node.
pub struct OpenStreams {
    room: Arc<Semaphore>,
    max: u32,
    limits: Limits,
    stop: CancellationToken,
    open: Arc<Mutex<Open>>,
}

/// By source and the client's id: what ends the stream, and its room.
type Open = BTreeMap<Key, (CancellationToken, Arc<OwnedSemaphorePermit>)>;

/// A source's name, and what the client calls its stream.
type Key = (String, String);

/// A stream's place among those that are open; given back when it is dropped.
pub struct Place {
    key: Key,
    /// Cancelled when the same client opens the stream anew.
    pub superseded: CancellationToken,
    open: Arc<Mutex<Open>>,
    _room: Arc<OwnedSemaphorePermit>,
}

impl OpenStreams {
    /// None are open.
    pub fn new(options: &GrpcOptions) -> Self {
        Self {
            room: Arc::new(Semaphore::new(options.ingest_streams as usize)),
            max: options.ingest_streams,
            limits: Limits {
                items: u64::from(options.ingest_stream_items),
                bytes: options.ingest_stream_bytes.0,
                item_bytes: ITEM_BYTES_MAX,
            },
            stop: CancellationToken::new(),
            open: Arc::default(),
        }
    }

    /// What may be on its way in each stream.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Ends all streams: the node stops.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Cancelled when the node stops.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Opens a stream; one that is open under the same id ends.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED `TOO_MANY_STREAMS`.
    pub fn enter(&self, source: &str, id: &str) -> Result<Place, Refusal> {
        let key = (source.to_owned(), id.to_owned());
        let superseded = CancellationToken::new();
        let mut open = self.open.lock();
        let room = match open.remove(&key) {
            // It takes the older one's room, which is about to end: a node that is full keeps its clients.
            Some((older, room)) => {
                older.cancel();
                room
            }
            None => Arc::new(self.room.clone().try_acquire_owned().map_err(|_| {
                let message = format!(
                    "{} ingest streams are open at this node, which is its limit: go to another node, or come back",
                    self.max
                );
                Refusal::new(Code::ResourceExhausted, "TOO_MANY_STREAMS", message).retry_after(FULL_AGAIN)
            })?),
        };
        open.insert(key.clone(), (superseded.clone(), room.clone()));
        Ok(Place { key, superseded, open: self.open.clone(), _room: room })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        // A newer stream of the same id stays: only it is not cancelled.
        if !self.superseded.is_cancelled() {
            open.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(max: u32) -> OpenStreams {
        OpenStreams::new(&GrpcOptions { ingest_streams: max, ..GrpcOptions::default() })
    }

    #[test]
    fn a_stream_that_is_opened_anew_ends_the_older_one_and_outlives_it() {
        let streams = streams(3);
        let (older, other) = (streams.enter("shop", "a").unwrap(), streams.enter("app", "a").unwrap());
        let newer = streams.enter("shop", "a").unwrap();
        assert!(older.superseded.is_cancelled());
        assert!(!newer.superseded.is_cancelled() && !other.superseded.is_cancelled());
        drop(older);
        let newest = streams.enter("shop", "a").unwrap();
        assert!(newer.superseded.is_cancelled(), "it was still known");
        drop((newer, newest, other));
        assert!(streams.open.lock().is_empty());
    }

    #[test]
    fn streams_are_bounded_and_places_are_given_back() {
        use crate::fault::Fault as _;
        let streams = streams(1);
        let first = streams.enter("shop", "a").unwrap();
        let refused = streams.enter("shop", "b").err().unwrap();
        let (reason, again) = (refused.reason(), crate::fault::Fault::retry_after(&refused));
        assert_eq!((reason, again), ("TOO_MANY_STREAMS", Some(FULL_AGAIN)));
        let anew = streams.enter("shop", "a").ok().unwrap();
        assert!(first.superseded.is_cancelled(), "who comes back finds room");
        drop(first);
        assert!(streams.enter("shop", "b").is_err(), "and keeps it");
        drop(anew);
        assert!(streams.enter("shop", "b").is_ok());
    }
}
