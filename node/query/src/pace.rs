//! Long joins that make way for events.
//!
//! The engine's threads have a low priority, but where processors are few even a thread that gives way at once costs those
//! who come after it: what they had in the caches is gone. So a join that has worked for [`FREE`] already rests while events
//! come in: [`RESTS`] times as long as it works. Most joins are over before. What a join works is measured by the clock: where
//! threads wait for processors, it rests longer.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use datafusion::{
    common::{Result, internal_err, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, execution_plan::CardinalityEffect,
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use crate::seam::Shards;

/// What a partition of a join may work before it makes way.
const FREE: Duration = Duration::from_secs(1);
/// It rests after so much work.
const SLICE: Duration = Duration::from_millis(5);
/// So many times as long as it has worked.
const RESTS: u32 = 4;
/// So long at most.
const REST_MAX: Duration = Duration::from_millis(100);
/// How often somebody looks whether events come in, in milliseconds.
const LOOK_MS: u64 = 20;

/// Whether a node's joins make way at the moment.
pub(crate) struct Pace {
    host: Arc<dyn Shards>,
    begun: Instant,
    /// When somebody has looked last, in milliseconds since `begun`.
    looked: AtomicU64,
    takes_events: AtomicBool,
}

impl Pace {
    pub(crate) fn new(host: Arc<dyn Shards>) -> Self {
        Self { host, begun: Instant::now(), looked: AtomicU64::new(0), takes_events: AtomicBool::new(false) }
    }

    fn takes_events(&self) -> bool {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked = self.looked.load(Relaxed);
        if now >= looked + LOOK_MS && self.looked.compare_exchange(looked, now, Relaxed, Relaxed).is_ok() {
            self.takes_events.store(self.host.takes_events(), Relaxed);
        }
        self.takes_events.load(Relaxed)
    }
}

/// Hands on what is below, at the node's pace.
#[derive(Debug)]
pub(crate) struct PaceExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl PaceExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = Arc::clone(input.properties());
        Self { input, properties }
    }
}

impl DisplayAs for PaceExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PaceExec")
    }
}

impl ExecutionPlan for PaceExec {
    fn name(&self) -> &'static str {
        "PaceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input))),
            _ => internal_err!("PaceExec has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let pace = context.session_config().get_extension::<Pace>();
        let input = self.input.execute(partition, context)?;
        let Some(pace) = pace else { return Ok(input) };
        let schema = input.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema,
            paced(input, Instant::now, move || pace.takes_events()),
        )))
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

/// The same items; with rests, as soon as they have taken long by the `clock`, while `is_wanted`.
fn paced<S: Stream + Unpin>(
    input: S,
    clock: impl Fn() -> Instant,
    is_wanted: impl Fn() -> bool,
) -> impl Stream<Item = S::Item> {
    let worked = [Duration::ZERO; 2];
    stream::unfold(
        (input, worked, clock, is_wanted),
        |(mut input, [mut all, mut since], clock, is_wanted)| async move {
            if all >= FREE && since >= SLICE {
                if is_wanted() {
                    sleep((since * RESTS).min(REST_MAX)).await;
                }
                since = Duration::ZERO;
            }
            let next = poll_fn(|context| {
                let begun = clock();
                let polled = input.poll_next_unpin(context);
                let took = clock() - begun;
                (all, since) = (all + took, since + took);
                polled
            });
            let item = next.await?;
            Some((item, (input, [all, since], clock, is_wanted)))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each item takes.
    const WORK: Duration = Duration::from_millis(30);

    /// How long a hundred items rest. The runtime's time passes while they rest alone; work has a clock of its own.
    async fn rested(is_wanted: bool) -> Duration {
        let (begun, worked) = (Instant::now(), AtomicU64::new(0));
        let work = stream::iter(0..100).inspect(|_| {
            worked.fetch_add(1, Relaxed);
        });
        let clock = || begun + WORK * u32::try_from(worked.load(Relaxed)).expect("at most a hundred");
        let items: Vec<i32> = paced(work, clock, || is_wanted).collect().await;
        assert_eq!(items, (0..100).collect::<Vec<_>>());
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_join_that_takes_long_rests_while_events_come_in_and_not_else() {
        assert_eq!(rested(false).await, Duration::ZERO);
        // After the item with which the first second is over, and each one behind it; the last says that there is no more.
        let rests = 101 - FREE.div_duration_f64(WORK).ceil() as u32;
        let expected = (WORK * RESTS).min(REST_MAX) * rests;
        let found = rested(true).await;
        assert_eq!(found, expected);
    }
}
