//! Our plan nodes as bytes, for tasks of other nodes.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::{
    common::{Result, exec_datafusion_err, internal_err},
    execution::TaskContext,
    physical_plan::ExecutionPlan,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};

use crate::{
    scan::{Names, NodeShards, Of, Rows, ScanExec, ScanSpec},
    seam::Shards,
};

/// A node of ours. Nodes of one cluster run one version of this, or refuse what they don't understand.
#[derive(Serialize, Deserialize)]
enum Node {
    Scan { spec: Box<ScanSpec>, nodes: Vec<NodeShards>, partitions: u64, batch_rows: u64, rows: Rows },
}

/// Encodes and decodes.
pub(crate) struct Codec {
    host: Arc<dyn Shards>,
}

impl Codec {
    pub(crate) fn new(host: Arc<dyn Shards>) -> Self {
        Self { host }
    }
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Codec")
    }
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // The names of profiles follow what is written of the node.
        let (node, names) = postcard::take_from_bytes(buf).map_err(|error| {
            exec_datafusion_err!("a part of a plan from another node can't be read: {error}")
        })?;
        match (node, inputs) {
            (Node::Scan { spec, nodes, partitions, batch_rows, rows }, []) => {
                let Some(names) = Names::from_bytes(Bytes::copy_from_slice(names)) else {
                    return internal_err!("the names of profiles are broken");
                };
                let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
                let of = Of {
                    nodes: Arc::new(nodes),
                    names,
                    partitions: number(partitions),
                    batch_rows: number(batch_rows),
                    rows,
                };
                Ok(Arc::new(ScanExec::new(Arc::from(spec), of, Arc::clone(&self.host))?))
            }
            _ => internal_err!("a part of a plan from another node has the wrong inputs"),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let (node, names) = if let Some(scan) = node.downcast_ref::<ScanExec>() {
            let of = scan.of();
            let node = Node::Scan {
                spec: Box::new(scan.spec().clone()),
                nodes: of.nodes.to_vec(),
                partitions: of.partitions as u64,
                batch_rows: of.batch_rows as u64,
                rows: of.rows,
            };
            (node, scan.needs_names().then(|| of.names.as_bytes()))
        } else {
            return internal_err!("{} is no node of ours", node.name());
        };
        let bytes = postcard::to_allocvec(&node)
            .map_err(|error| exec_datafusion_err!("a plan can't be sent: {error}"))?;
        buf.reserve(bytes.len() + names.map_or(0, Bytes::len));
        buf.extend_from_slice(&bytes);
        buf.extend_from_slice(names.map_or(&[], |names| names));
        Ok(())
    }
}
