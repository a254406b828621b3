//! What a node's evaluators say of themselves.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use isthmus_domain::Stamp;
use isthmus_shard::ShardHandle;
use parking_lot::Mutex;

/// Of a node: its evaluators at work, and those that failed.
#[derive(Clone, Default)]
pub struct Gauges(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// By shard: the replicas that lead.
    shards: Mutex<BTreeMap<u64, (ShardHandle, Arc<Gauge>)>>,
    failures: AtomicU64,
}

/// One evaluator's.
#[derive(Default)]
pub(crate) struct Gauge {
    /// Everything up to this stamp is taken in.
    come: AtomicU64,
    /// Facets in memory, and the bytes that they take, about.
    facets: AtomicU64,
    bytes: AtomicU64,
}

impl Gauge {
    /// Everything up to a stamp, or to a time, is taken in.
    pub fn come_to(&self, stamp: Stamp) {
        self.come.store(stamp.0, Relaxed);
    }

    /// What is kept in memory: facets, and bytes.
    pub fn weigh(&self, (facets, bytes): (u64, u64)) {
        self.facets.store(facets, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }
}

/// A replica leads, for as long as this is kept.
pub(crate) struct Leading {
    gauges: Gauges,
    shard: u64,
    pub gauge: Arc<Gauge>,
}

impl Drop for Leading {
    fn drop(&mut self) {
        let mut shards = self.gauges.0.shards.lock();
        // Another replica of the shard may have come to this node, and lead.
        if shards.get(&self.shard).is_some_and(|(_, known)| Arc::ptr_eq(known, &self.gauge)) {
            shards.remove(&self.shard);
        }
    }
}

impl Gauges {
    /// Facets that are known in memory, and the bytes that they take, about.
    pub fn states(&self) -> (u64, u64) {
        let add = |(facets, bytes), (_, gauge): &(ShardHandle, Arc<Gauge>)| {
            (facets + gauge.facets.load(Relaxed), bytes + gauge.bytes.load(Relaxed))
        };
        self.0.shards.lock().values().fold((0, 0), add)
    }

    /// How far the evaluator that is most behind is behind what was applied, in microseconds.
    pub fn lag_micros(&self, now_micros: i64) -> u64 {
        let now = Stamp::next(now_micros, Stamp::ZERO).0;
        let lag = |(handle, gauge): &(ShardHandle, Arc<Gauge>)| {
            let come = gauge.come.load(Relaxed);
            if come >= handle.stamp().0 { 0 } else { now.saturating_sub(come) }
        };
        self.0.shards.lock().values().map(lag).max().unwrap_or_default()
    }

    /// How often an evaluator began anew since something failed.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Relaxed)
    }

    /// A replica begins to lead. It counts from now on.
    pub(crate) fn begin(&self, handle: &ShardHandle, now_micros: i64) -> Leading {
        let gauge = Arc::new(Gauge::default());
        gauge.come_to(Stamp::next(now_micros, Stamp::ZERO));
        self.0.shards.lock().insert(handle.shard(), (handle.clone(), gauge.clone()));
        Leading { gauges: self.clone(), shard: handle.shard(), gauge }
    }

    /// An evaluator failed, and will begin anew.
    pub(crate) fn failed(&self) {
        self.0.failures.fetch_add(1, Relaxed);
    }
}
