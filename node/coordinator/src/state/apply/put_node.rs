//! Adds a node, or updates its addresses and version.
//!
//! A node proves to be the same by its public key, whose secret half lies in its data directory. So a node that was
//! wiped can't come back under its old id: it would have forgotten votes that it gave and entries that it
//! acknowledged, and Raft counts on both.

use isthmus_proto::internal::v1::PutNodeCommand;

use super::{Code, Done, Refusal, refuse};
use crate::state::{Member, MetaState, rules};

impl MetaState {
    pub(super) fn put_node(&mut self, put: &PutNodeCommand) -> Result<Done, Refusal> {
        let Some(node) = &put.node else { return refuse(Code::Invalid, "the node is missing") };
        let key = rules::node(node)?;
        let id = node.node_id;
        if let Some(retired) = self.retired.get(&id) {
            if *retired == key {
                return refuse(
                    Code::NodeRemoved,
                    format!(
                        "node {id} was removed for good; start it with another node id and an empty data directory"
                    ),
                );
            }
            return taken(id);
        }
        if let Some(member) = self.nodes.get_mut(&id) {
            if member.info.public_key.as_ref() != key {
                return taken(id);
            }
            let mut info = node.clone();
            info.leaving = member.info.leaving;
            let changed = member.info != info;
            member.info = info;
            return Ok(Done {
                changed,
                sealed_identity_key: member.sealed_identity_key.clone(),
                ..Done::default()
            });
        }
        rules::sealed_key(&put.sealed_identity_key)?;
        if self.nodes.len() >= rules::NODES_MAX || self.nodes.len() + self.retired.len() >= rules::RETIRED_MAX
        {
            return refuse(Code::TooMany, format!("a cluster has at most {} nodes", rules::NODES_MAX));
        }
        let mut info = node.clone();
        info.leaving = false;
        let sealed_identity_key = put.sealed_identity_key.clone();
        self.nodes.insert(id, Member { info, sealed_identity_key: sealed_identity_key.clone() });
        Ok(Done { changed: true, sealed_identity_key, ..Done::default() })
    }
}

fn taken(id: u32) -> Result<Done, Refusal> {
    refuse(
        Code::NodeIdTaken,
        format!(
            "node id {id} belongs to another node, or to this one before its data was lost; choose an id never used before"
        ),
    )
}
