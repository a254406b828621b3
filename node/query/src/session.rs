//! Sessions: what DataFusion needs to plan and to run, made anew for each statement from one that has all functions.

use std::{fs, sync::Arc};

use datafusion::{
    common::Result,
    execution::{
        SessionState, SessionStateBuilder,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, TrackConsumersPool},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::SessionConfig,
};
use datafusion_distributed::{ChannelResolver, DistributedExt, Worker, WorkerQueryContext};

use crate::{
    catalog::{CATALOG, PUBLIC, catalog},
    cooperate::Cooperate,
    copy::Exports,
    distribute::{Channels, Codec},
    error::QueryError,
    functions,
    options::EngineOptions,
    pace::Pace,
    scan::{KnownNames, Turns},
    seam::Shards,
};

/// The memory and the disk that queries share.
pub(crate) fn environment(options: &EngineOptions) -> std::result::Result<Arc<RuntimeEnv>, QueryError> {
    let unusable = |error: &dyn std::fmt::Display| {
        QueryError::Internal(format!(
            "the spill folder {} can't be used: {error}",
            options.spill_dir.display()
        ))
    };
    // What an earlier process left behind is of no use.
    match fs::remove_dir_all(&options.spill_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unusable(&error)),
        _ => fs::create_dir_all(&options.spill_dir).map_err(|error| unusable(&error))?,
    }
    let largest_told = std::num::NonZeroUsize::MIN;
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![options.spill_dir.clone()]))
        .with_max_temp_directory_size(options.spill_bytes);
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(
            FairSpillPool::new(options.memory_bytes),
            largest_told,
        )))
        .with_disk_manager_builder(disk)
        .build_arc()
        .map_err(|error| unusable(&error))
}

/// Rows of a partition after which a partial aggregate that has made nearly as many groups gives up, and hands rows on. A hundred
/// thousand, as usual, are most of what a partition has.
const PROBE_ROWS: usize = 10_000;
const SKIP_AFTER: &str = "datafusion.execution.skip_partial_aggregation_probe_rows_threshold";

/// What every partition of every sort keeps for merging what it spilled: the usual 10 MiB are much of a small pool.
fn for_merging(options: &EngineOptions) -> usize {
    (options.memory_bytes / 32 / options.threads.max(2)).clamp(64 << 10, 10 << 20)
}

fn config(options: &EngineOptions, (turns, pace): (&Arc<Turns>, &Arc<Pace>)) -> SessionConfig {
    SessionConfig::new()
        .with_sort_spill_reservation_bytes(for_merging(options))
        .with_target_partitions(options.threads.max(2))
        .with_batch_size(options.batch_rows)
        .with_default_catalog_and_schema(CATALOG, PUBLIC)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_extension(Arc::clone(turns))
        .with_extension(Arc::clone(pace))
        .set_usize(SKIP_AFTER, PROBE_ROWS)
        // Places in errors.
        .set_bool("datafusion.sql_parser.collect_spans", true)
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        // What is computed last, above a sort, would be dealt out to partitions that nobody merges in order again.
        .with_round_robin_repartition(false)
        // On one node as on several: a subquery becomes a join.
        .set_bool("datafusion.optimizer.enable_physical_uncorrelated_scalar_subquery", false)
}

/// A session without a catalog, which the others are made from.
pub(crate) fn base(
    options: &EngineOptions,
    env: &Arc<RuntimeEnv>,
    own: (&Arc<Turns>, &Arc<Pace>),
) -> Result<SessionState> {
    let builder = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config(options, own))
        .with_runtime_env(Arc::clone(env))
        .with_physical_optimizer_rule(Arc::new(Cooperate));
    let mut state = builder.build();
    functions::register(&mut state)?;
    Ok(state)
}

/// A session to plan a statement against the catalog as of now.
pub(crate) fn planning(base: &SessionState, host: &Arc<dyn Shards>) -> Result<SessionState> {
    Ok(SessionStateBuilder::new_from_existing(base.clone()).with_catalog_list(catalog(host)?).build())
}

/// The worker that runs tasks of other nodes' statements.
pub(crate) fn worker(
    options: &EngineOptions,
    env: &Arc<RuntimeEnv>,
    (turns, pace): (&Arc<Turns>, &Arc<Pace>),
    host: &Arc<dyn Shards>,
    channels: &Arc<Channels>,
    (names, exports): (&Arc<KnownNames>, &Arc<Exports>),
) -> Worker {
    let (host, turns, channels) = (Arc::clone(host), Arc::clone(turns), Arc::clone(channels));
    let pace = Arc::clone(pace);
    let (names, exports) = (Arc::clone(names), Arc::clone(exports));
    let (batch_rows, for_merging) = (options.batch_rows, for_merging(options));
    let build = move |context: WorkerQueryContext| {
        let (host, turns, channels) = (Arc::clone(&host), Arc::clone(&turns), Arc::clone(&channels));
        let (names, exports, pace) = (Arc::clone(&names), Arc::clone(&exports), Arc::clone(&pace));
        async move {
            let mut builder = context.builder;
            let config = std::mem::take(builder.config()).unwrap_or_default();
            let builder = builder
                .with_config(
                    config
                        .with_batch_size(batch_rows)
                        .with_sort_spill_reservation_bytes(for_merging)
                        .with_extension(turns)
                        .with_extension(pace)
                        .set_usize(SKIP_AFTER, PROBE_ROWS),
                )
                .with_distributed_channel_resolver(channels as Arc<dyn ChannelResolver + Send + Sync>)
                .with_distributed_user_codec(Codec::new(host, names, exports));
            let mut state = builder.build();
            functions::register(&mut state)?;
            Ok(state)
        }
    };
    Worker::from_session_builder(build).with_runtime_env(Arc::clone(env))
}
