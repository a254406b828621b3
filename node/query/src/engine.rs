//! The engine: from a statement to its answer.

use std::sync::Arc;

use crate::{
    answer::{Answer, Prepared, RunOptions, TableInfo},
    error::QueryError,
    options::EngineOptions,
    seam::Shards,
};
use datafusion::common::ParamValues;

/// Runs statements, and tasks of other nodes' statements.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Starts the engine's threads.
    ///
    /// # Errors
    /// An option is out of bounds, or the spill folder can't be used.
    pub fn start(shards: Arc<dyn Shards>, options: EngineOptions) -> Result<Self, QueryError>;

    /// Adds the service that the other nodes send their tasks to; it belongs on the nodes' own address.
    pub fn add_worker_to(&self, routes: tonic::service::RoutesBuilder) -> tonic::service::RoutesBuilder;

    /// Understands a statement.
    ///
    /// # Errors
    /// It is wrong, or does what no statement may.
    pub async fn prepare(&self, sql: &str) -> Result<Prepared, QueryError>;

    /// Runs a statement.
    ///
    /// # Errors
    /// The parameters don't fit, a bound is met, or shards can't be reached.
    pub async fn run(&self, statement: &Prepared, parameters: ParamValues, options: RunOptions) -> Result<Answer, QueryError>;

    /// The tables of the catalog.
    pub async fn tables(&self) -> Vec<TableInfo>;
}
