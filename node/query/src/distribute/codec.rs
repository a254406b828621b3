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
    copy::{Exports, Parts, WriteExec},
    error::to_datafusion,
    pace::PaceExec,
    scan::{KnownNames, Names, NodeShards, Of, Rows, ScanExec, ScanSpec, names_are_unknown},
    seam::Shards,
};

/// A node of ours. Nodes of one cluster run one version of this, or refuse what they don't understand.
#[derive(Serialize, Deserialize)]
enum Node {
    Scan {
        spec: Box<ScanSpec>,
        nodes: Vec<NodeShards>,
        partitions: u64,
        batch_rows: u64,
        rows: Rows,
        names: NamesAre,
    },
    Write(Parts),
    Pace,
}

/// Where the names of profiles are that a scan needs.
#[derive(Serialize, Deserialize)]
enum NamesAre {
    /// It needs none.
    Nowhere,
    /// Known: those of this state of identifiers.
    Known(Vec<(u64, u64)>),
    /// Behind what is written of the node. They are of this state, if it isn't empty.
    Here(Vec<(u64, u64)>),
}

/// Encodes and decodes.
pub(crate) struct Codec {
    host: Arc<dyn Shards>,
    names: Arc<KnownNames>,
    exports: Arc<Exports>,
}

impl Codec {
    pub(crate) fn new(host: Arc<dyn Shards>, names: Arc<KnownNames>, exports: Arc<Exports>) -> Self {
        Self { host, names, exports }
    }

    fn names(&self, are: NamesAre, behind: &[u8]) -> Result<Names> {
        match are {
            NamesAre::Nowhere => Ok(Names::default()),
            NamesAre::Known(of) => {
                self.names.get(&of.into()).ok_or_else(|| to_datafusion(names_are_unknown()))
            }
            NamesAre::Here(of) => {
                let of = of.into();
                if let Some(known) = self.names.get(&of) {
                    return Ok(known);
                }
                match Names::from_bytes(Bytes::copy_from_slice(behind)) {
                    Some(names) => Ok(self.names.put(of, names)),
                    None => internal_err!("the names of profiles are broken"),
                }
            }
        }
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
        let (node, behind) = postcard::take_from_bytes(buf).map_err(|error| {
            exec_datafusion_err!("a part of a plan from another node can't be read: {error}")
        })?;
        match (node, inputs) {
            (Node::Scan { spec, nodes, partitions, batch_rows, rows, names }, []) => {
                let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
                let of = Of {
                    nodes: Arc::new(nodes),
                    names: self.names(names, behind)?,
                    // What comes from another node is not sent on.
                    tells_names: true,
                    partitions: number(partitions),
                    batch_rows: number(batch_rows),
                    rows,
                };
                Ok(Arc::new(ScanExec::new(Arc::from(spec), of, Arc::clone(&self.host))?))
            }
            (Node::Write(parts), [input]) => {
                Ok(Arc::new(WriteExec::new(Arc::clone(input), parts, Arc::clone(&self.exports))))
            }
            (Node::Pace, [input]) => Ok(Arc::new(PaceExec::new(Arc::clone(input)))),
            _ => internal_err!("a part of a plan from another node has the wrong inputs"),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let (node, behind) = if let Some(scan) = node.downcast_ref::<ScanExec>() {
            let of = scan.of();
            let state = || of.names.state().to_vec();
            let names = match (scan.needs_names(), of.tells_names) {
                (false, _) => NamesAre::Nowhere,
                (true, false) => NamesAre::Known(state()),
                (true, true) => NamesAre::Here(state()),
            };
            let behind = matches!(names, NamesAre::Here(_)).then(|| of.names.as_bytes());
            let node = Node::Scan {
                spec: Box::new(scan.spec().clone()),
                nodes: of.nodes.to_vec(),
                partitions: of.partitions as u64,
                batch_rows: of.batch_rows as u64,
                rows: of.rows,
                names,
            };
            (node, behind)
        } else if let Some(writing) = node.downcast_ref::<WriteExec>() {
            (Node::Write(writing.parts().clone()), None)
        } else if node.is::<PaceExec>() {
            (Node::Pace, None)
        } else {
            return internal_err!("{} is no node of ours", node.name());
        };
        let bytes = postcard::to_allocvec(&node)
            .map_err(|error| exec_datafusion_err!("a plan can't be sent: {error}"))?;
        buf.reserve(bytes.len() + behind.map_or(0, Bytes::len));
        buf.extend_from_slice(&bytes);
        buf.extend_from_slice(behind.map_or(&[], |names| names));
        Ok(())
    }
}
