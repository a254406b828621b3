//! SQL over everything the hub knows, at one cut.
//!
//! **What it promises.** A query sees all shards as of one stamp: every event up to it once, every profile as identity
//! resolution had put it together by then. Its answer carries the stamp. It reads only: nothing that a query says changes
//! what the hub knows. What it may use of memory, time, rows and bytes is bounded; dropping an [`Answer`] ends its work on
//! all nodes.
//!
//! **How.** [`Engine`] plans SQL with DataFusion. The tables (`tables`) are scans of the shards' runs and memtables, which
//! come as Arrow batches from a [`Shards`], the one thing that the engine needs of its node. A plan is cut into stages by
//! datafusion-distributed; a stage with a scan has exactly one task a node, which reads that node's shards and no others
//! (`distribute`): filters, projections and partial aggregates run where the data is, what is left goes over gRPC.
//!
//! Profiles are no table of the shards: each of their columns is put together of what their facets bring to it when it is
//! asked for (`profiles`), so that a merge of two profiles rewrites nothing. Their names are numbers inside (`ids`).
//!
//! **What it leaves out.** No statement writes but `COPY`, and that only below a folder that the operator names. The engine
//! plans joins without statistics of columns: it knows how many rows a table has, roughly, and no more.

mod answer;
mod catalog;
mod cooperate;
mod copy;
mod distinct;
mod distribute;
mod engine;
mod error;
mod explain;
mod functions;
mod ids;
mod limits;
mod opaque;
mod options;
mod pace;
mod parameters;
mod profiles;
mod run;
mod scan;
mod seam;
mod session;
mod statement;
mod tables;
mod values;
mod worker;

pub use answer::{Answer, DESCRIPTION, Kind, Prepared, RunOptions, TableInfo};
pub use copy::check_export_url;
pub use datafusion::common::{ParamValues, ScalarValue, metadata::ScalarAndMetadata};
pub use engine::Engine;
pub use error::{Limit, QueryError};
pub use limits::bytes_of;
pub use options::EngineOptions;
pub use seam::{
    Batches, Catalog, Column, ColumnType, CutShard, Derived, Filters, Freshness, MakeColumn, Meanings,
    Members, NodeInfo, OpenCut, Request, ShardInfo, ShardSnapshot, Shards, SourceInfo, Table,
};
