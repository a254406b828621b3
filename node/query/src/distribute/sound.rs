//! Whether a plan reads every shard once.

use std::sync::Arc;

use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::NetworkBoundaryExt;

use crate::scan::ScanExec;

/// Whether each scan of a plan has exactly one task for each node of its cut, and is brought together above.
///
/// # Errors
/// What is wrong.
pub(crate) fn is_sound(plan: &Arc<dyn ExecutionPlan>) -> Result<(), String> {
    walk(plan, 1)
}

fn walk(plan: &Arc<dyn ExecutionPlan>, tasks: usize) -> Result<(), String> {
    if let Some(boundary) = plan.as_network_boundary() {
        let stage = boundary.input_stage();
        let Some(below) = stage.local_plan() else {
            return Err("a stage was sent off before it was looked at".to_owned());
        };
        return walk(below, stage.task_count());
    }
    if let Some(scan) = plan.downcast_ref::<ScanExec>() {
        let nodes = scan.of().nodes.len();
        if tasks != nodes {
            return Err(format!("a scan of {} has {tasks} tasks for {nodes} nodes", scan.spec().name));
        }
        if plan.output_partitioning().partition_count() < 2 {
            return Err(format!("a scan of {} has one partition", scan.spec().name));
        }
    }
    plan.children().into_iter().try_for_each(|child| walk(child, tasks))
}

/// Whether a stage has a scan of its own, not counting the stages below it.
pub(super) fn scan_in_stage(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.is_network_boundary() {
        return false;
    }
    plan.is::<ScanExec>() || plan.children().into_iter().any(scan_in_stage)
}
