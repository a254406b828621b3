//! Each scan in a stage of its own.

use std::sync::Arc;

use datafusion::{
    common::{
        Result,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    config::ConfigOptions,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateMode},
        coalesce_partitions::CoalescePartitionsExec,
        filter::FilterExec,
        projection::ProjectionExec,
    },
};

use crate::scan::ScanExec;

/// Brings the partitions of every scan together right above it, where the distributed planner then cuts.
///
/// It runs last. A scan promises nothing about how its rows are spread or sorted, and neither do the nodes that stay below
/// with it, so what stands above can't have relied on that.
#[derive(Debug)]
pub(crate) struct Apart;

impl PhysicalOptimizerRule for Apart {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let wrap = |node: Arc<dyn ExecutionPlan>| {
            if is_chain(&node) {
                let whole: Arc<dyn ExecutionPlan> = Arc::new(CoalescePartitionsExec::new(node));
                return Ok(Transformed::new(whole, true, TreeNodeRecursion::Jump));
            }
            Ok(Transformed::no(node))
        };
        plan.transform_down(wrap).map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "ScansApart"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A scan under what works row by row, or aggregates in part.
fn is_chain(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let passes = plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan
            .downcast_ref::<AggregateExec>()
            .is_some_and(|aggregate| *aggregate.mode() == AggregateMode::Partial);
    plan.is::<ScanExec>() || (passes && plan.children().into_iter().all(is_chain))
}
