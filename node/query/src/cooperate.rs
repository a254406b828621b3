//! Joins that let go of their thread now and then.
//!
//! A task can only be stopped where it yields. DataFusion sees to that at scans and exchanges; but a join makes many rows
//! of few, and until it asks for the next of its input, which may take minutes, nothing of a query that nobody waits for
//! any more would notice, and no timer of its thread would go off.

use std::sync::Arc;

use datafusion::{
    common::{
        Result,
        tree_node::{Transformed, TreeNode},
    },
    config::ConfigOptions,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan,
        coop::CooperativeExec,
        joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec},
    },
};

use crate::pace::PaceExec;

/// Has every join count its batches against the budget of its task, and make way for events when it takes long.
#[derive(Debug)]
pub(crate) struct Cooperate;

impl PhysicalOptimizerRule for Cooperate {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let wrap = |node: Arc<dyn ExecutionPlan>| match multiplies(&node) {
            true => {
                let yields = Arc::new(CooperativeExec::new(node));
                Ok(Transformed::yes(Arc::new(PaceExec::new(yields)) as Arc<dyn ExecutionPlan>))
            }
            false => Ok(Transformed::no(node)),
        };
        plan.transform_up(wrap).map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "CooperativeJoins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn multiplies(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<CrossJoinExec>()
        || plan.is::<NestedLoopJoinExec>()
        || plan.is::<HashJoinExec>()
        || plan.is::<SortMergeJoinExec>()
}
