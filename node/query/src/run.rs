//! The run of a statement: parameters, cut, names, plan, rows.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
        compute::cast,
        datatypes::{FieldRef, SchemaRef},
    },
    common::{ParamValues, Result},
    datasource::provider_as_source,
    execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder},
    functions_aggregate::expr_fn::min,
    logical_expr::{LogicalPlan, LogicalPlanBuilder, col},
    physical_plan::{ExecutionPlan, execute_stream, stream::RecordBatchStreamAdapter},
};
use datafusion_distributed::DistributedExt;
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use isthmus_domain::Stamp;

use crate::{
    answer::{Kind, Prepared},
    copy::{self, Parts, Target, WriteParts},
    distinct,
    distribute::{Apart, Codec, Reading, check_sound, is_sound, over_nodes},
    engine::Inner,
    error::{QueryError, broken, from_datafusion},
    explain, functions, ids,
    opaque::Opaque,
    parameters,
    profiles::founder_of,
    scan::{Names, NamesOf},
    seam::{Freshness, OpenCut, Table},
    tables::{ShardTable, asks_for_members, asks_for_names, founders, told},
};

/// What is known of an answer before its rows.
pub(crate) struct Head {
    pub schema: SchemaRef,
    pub cut: Option<Stamp>,
}

/// A statement that runs.
pub(crate) struct Started {
    pub head: Head,
    pub rows: SendableRecordBatchStream,
    /// Held until the rows are read.
    pub cut: Option<Arc<dyn OpenCut>>,
    /// The state of which all nodes know the names once the rows were read to their end.
    pub names: Option<NamesOf>,
}

/// Starts a statement.
pub(crate) async fn start(
    inner: &Opaque<Inner>,
    statement: &Prepared,
    values: &ParamValues,
    (freshness, given): (Freshness, Option<Arc<dyn OpenCut>>),
    lease: Duration,
    deadline: Instant,
) -> Result<Started, QueryError> {
    let fault = |error| from_datafusion(&error, &statement.sql);
    let plan = parameters::bind(statement, values)?;
    let (plan, explained) = match plan {
        LogicalPlan::Explain(explain) => (explain.plan.as_ref().clone(), true),
        other => (other, false),
    };
    let optimized =
        planner(inner, None, false, None).and_then(|state| state.optimize(&plan)).map_err(fault)?;
    let (reads, needs_names) = asks_for_names(&optimized).map_err(fault)?;
    let cut = match given {
        Some(given) => Some(given),
        None if reads => {
            let members = asks_for_members(&optimized).map_err(fault)?;
            Some(inner.host.open_cut(freshness, members, lease, deadline).await?)
        }
        None => None,
    };
    let mut reading = cut.as_ref().map(|cut| Reading::new(cut.shards(), inner.host.node()));
    if needs_names && let Some(reading) = &mut reading {
        reading.names = known_names(inner, cut.as_deref(), reading).await.map_err(fault)?;
        reading.tells_names = !inner.names.are_told(reading.names.state());
    }
    let told =
        reading.as_ref().filter(|it| needs_names && it.tells_names).map(|it| Arc::clone(it.names.state()));
    let inside = distinct::group_twice(&optimized).and_then(|plan| ids::to_numbers(&plan)).map_err(fault)?;
    let parts = match statement.copy.as_ref().and_then(Target::parts) {
        Some((url, format)) => Some(Parts::below(url, format, &inner.exports).await?),
        None => None,
    };
    let writing = parts.as_ref().map(|(parts, _)| parts);
    let (state, physical) = plan_of(inner, &inside, reading.as_ref(), writing).await.map_err(fault)?;
    let schema = Arc::clone(&statement.schema);
    let rows = if explained {
        explain::told(&optimized, physical.as_ref(), &schema).map_err(fault)?
    } else {
        plain(execute_stream(physical, state.task_ctx()).map_err(fault)?)
    };
    let one = |written: BoxFuture<'static, Result<RecordBatch>>| {
        let schema = Arc::clone(&schema);
        Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(written))) as SendableRecordBatchStream
    };
    let rows = match (statement.kind, &statement.copy) {
        (_, Some(target)) => {
            let written: BoxFuture<'static, _> = match (parts, target.object()) {
                (Some((_, leftovers)), _) => leftovers.complete(rows).boxed(),
                (None, Some((url, format))) => {
                    copy::to_object(rows, (url.clone(), format), Arc::clone(&inner.exports)).boxed()
                }
                (None, None) => {
                    let (target, options) = (target.clone(), inner.options.clone());
                    async move { copy::copy(rows, &target, &options).await }.boxed()
                }
            };
            one(written)
        }
        (Kind::Explain, _) if !explained => {
            let lines = rows.map(|batch| explain::by_shard(&batch?));
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), lines))
        }
        _ => rows,
    };
    // A plan that is only shown goes to nobody.
    let names = told.filter(|_| !explained);
    // The planner knows better what can be NULL than what was said before.
    let schema = rows.schema();
    Ok(Started { head: Head { schema, cut: cut.as_ref().map(|cut| cut.at()) }, rows, cut, names })
}

/// The rows with plain texts: views are for the engine.
pub(crate) fn plain(rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = told(&rows.schema());
    if schema == rows.schema() {
        return rows;
    }
    let to = Arc::clone(&schema);
    let rows = rows.map(move |batch| {
        let batch = batch?;
        let column = |(array, field): (&ArrayRef, &FieldRef)| match array.data_type() == field.data_type() {
            true => Ok(Arc::clone(array)),
            false => Ok(cast(array, field.data_type())?),
        };
        let columns = batch.columns().iter().zip(to.fields()).map(column).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&to), columns, &options)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// A session that plans for a cut; `apart`: with each scan in a stage of its own; `writing`: what reads, writes.
fn planner(
    inner: &Opaque<Inner>,
    reading: Option<&Reading>,
    apart: bool,
    writing: Option<&Parts>,
) -> Result<SessionState> {
    let mut builder = SessionStateBuilder::new_from_existing(inner.base.clone());
    if let Some(reading) = reading {
        let config = inner.base.config().clone().with_extension(Arc::new(reading.clone()));
        builder = builder.with_config(config).with_distributed_user_codec(Codec::new(
            Arc::clone(&inner.host),
            Arc::clone(&inner.names),
            Arc::clone(&inner.exports),
        ));
        let host = inner.host.as_ref();
        if !reading.is_local(host) {
            let urls = reading.urls(host).map_err(crate::error::to_datafusion)?;
            let own = host.peers().into_iter().find(|(node, _)| *node == host.node());
            let own = own.and_then(|(_, address)| url::Url::parse(&address).ok());
            let local = own.map(|own| inner.worker.to_local_worker_context(own));
            if apart {
                builder = builder.with_physical_optimizer_rule(Arc::new(Apart));
            }
            builder = over_nodes(builder, &urls, Arc::clone(&inner.channels) as _, local)?;
        }
    }
    if let Some(parts) = writing {
        let exports = Arc::clone(&inner.exports);
        let rule = Arc::new(WriteParts { parts: parts.clone(), exports });
        builder = builder.with_physical_optimizer_rule(rule);
    }
    let mut state = builder.build();
    state.mark_start_execution();
    Ok(state)
}

async fn plan_of(
    inner: &Opaque<Inner>,
    optimized: &LogicalPlan,
    reading: Option<&Reading>,
    writing: Option<&Parts>,
) -> Result<(SessionState, Arc<dyn ExecutionPlan>)> {
    let state = planner(inner, reading, false, writing)?;
    let physical = state.query_planner().create_physical_plan(optimized, &state).await?;
    let Err(why) = is_sound(&physical) else { return Ok((state, physical)) };
    tracing::debug!(why, "a plan is made again, with each scan in a stage of its own");
    let state = planner(inner, reading, true, writing)?;
    let physical = state.query_planner().create_physical_plan(optimized, &state).await?;
    check_sound(&physical)?;
    Ok((state, physical))
}

/// The names of profiles, if all identifiers are as they were when they were gathered last; else gathered anew.
async fn known_names(inner: &Opaque<Inner>, cut: Option<&dyn OpenCut>, reading: &Reading) -> Result<Names> {
    let shards = cut.map(OpenCut::shards).unwrap_or_default();
    let mut of: Vec<(u64, u64)> = shards.iter().map(|shard| (shard.shard, shard.identities)).collect();
    of.sort_unstable();
    let is_known = of.iter().all(|(_, identities)| *identities > 0);
    let of = if is_known { NamesOf::from(of) } else { NamesOf::default() };
    match inner.names.get(&of) {
        Some(names) => Ok(names),
        None => Ok(inner.names.put(of, names_of(inner, reading).await?)),
    }
}

/// The names of profiles that don't have their home's.
async fn names_of(inner: &Opaque<Inner>, reading: &Reading) -> Result<Names> {
    let table = ShardTable::new("founders", Table::Facets, founders(), Arc::clone(&inner.host)).alone(false);
    let plan = LogicalPlanBuilder::scan("founders", provider_as_source(Arc::new(table)), None)?
        .aggregate(vec![col("home")], vec![min(col("founder")).alias("founder")])?
        .filter(functions::named().call(vec![col("home"), col("founder")]))?
        .build()?;
    let optimized = planner(inner, None, false, None)?.optimize(&plan)?;
    let (state, physical) = plan_of(inner, &optimized, Some(reading), None).await?;
    let mut rows = execute_stream(physical, state.task_ctx())?;
    let mut pairs = Vec::new();
    while let Some(batch) = rows.try_next().await? {
        let broken = || broken!("the names of profiles came back broken");
        let homes = batch.column(0).as_fixed_size_binary_opt().ok_or_else(broken)?;
        let founders = batch.column(1).as_binary_opt::<i32>().ok_or_else(broken)?;
        for (home, founder) in homes.iter().zip(founders) {
            let founder = founder.and_then(founder_of).ok_or_else(broken)?;
            let mut pair = [0; 32];
            pair[..16].copy_from_slice(home.filter(|home| home.len() == 16).ok_or_else(broken)?);
            pair[16..].copy_from_slice(founder.as_bytes());
            pairs.push(pair);
        }
    }
    Ok(Names::new(pairs))
}
