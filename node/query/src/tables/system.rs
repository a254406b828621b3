//! `system.nodes`, `system.shards`, `system.sources`: what this node knows of the cluster at the moment, as of no cut.

use std::{fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Int64Array, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use async_trait::async_trait;
use datafusion::{
    catalog::{MemTable, Session, TableProvider},
    common::Result,
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};

use crate::seam::{Catalog, Shards};

/// Their names.
pub(crate) const SYSTEM_TABLES: [&str; 3] = ["nodes", "shards", "sources"];

/// One of them.
pub(crate) struct SystemTable {
    name: &'static str,
    schema: SchemaRef,
    host: Arc<dyn Shards>,
}

impl SystemTable {
    /// `None` for any other name.
    pub(crate) fn new(name: &'static str, host: Arc<dyn Shards>) -> Self {
        let schema = rows(name, &Catalog::default()).0;
        Self { name, schema, host }
    }
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SystemTable({})", self.name)
    }
}

fn integer(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Int64, nullable)
}

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

fn rows(name: &str, catalog: &Catalog) -> (SchemaRef, Vec<ArrayRef>) {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = match name {
        "nodes" => {
            let nodes = &catalog.nodes;
            let node: Int64Array = nodes.iter().map(|n| Some(i64::from(n.node))).collect();
            let address: StringArray = nodes.iter().map(|n| Some(n.address.as_str())).collect();
            let alive: BooleanArray = nodes.iter().map(|n| Some(n.alive)).collect();
            (
                vec![
                    integer("node", false),
                    text("address", false),
                    Field::new("alive", DataType::Boolean, false),
                ],
                vec![Arc::new(node), Arc::new(address), Arc::new(alive)],
            )
        }
        "shards" => {
            let shards = &catalog.shards;
            let shard: Int64Array = shards.iter().map(|s| Some(signed(s.shard))).collect();
            let slots: Int64Array = shards.iter().map(|s| Some(i64::from(s.slots))).collect();
            let leader: Int64Array = shards.iter().map(|s| s.leader.map(i64::from)).collect();
            let told = |nodes: &[u32]| nodes.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let replicas: StringArray = shards.iter().map(|s| Some(told(&s.replicas))).collect();
            (
                vec![
                    integer("shard", false),
                    integer("slots", false),
                    integer("leader", true),
                    text("replicas", false),
                ],
                vec![Arc::new(shard), Arc::new(slots), Arc::new(leader), Arc::new(replicas)],
            )
        }
        _ => {
            let sources = &catalog.sources;
            let name: StringArray = sources.iter().map(|s| Some(s.name.as_str())).collect();
            let enabled: BooleanArray = sources.iter().map(|s| Some(s.enabled)).collect();
            let currency: StringArray = sources.iter().map(|s| s.currency.as_deref()).collect();
            (
                vec![
                    text("name", false),
                    Field::new("enabled", DataType::Boolean, false),
                    text("currency", true),
                ],
                vec![Arc::new(name), Arc::new(enabled), Arc::new(currency)],
            )
        }
    };
    (Arc::new(Schema::new(fields)), columns)
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (schema, columns) = rows(self.name, &self.host.catalog());
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        MemTable::try_new(schema, vec![vec![batch]])?.scan(state, projection, filters, limit).await
    }
}
