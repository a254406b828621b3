//! Forgets a node that has left. Its id and key are remembered, so that it never comes back.

use isthmus_domain::NodeId;
use isthmus_proto::internal::v1::ForgetNodeCommand;

use super::{Code, Done, Refusal, refuse};
use crate::state::{MetaState, rules};

impl MetaState {
    pub(super) fn forget_node(&mut self, forget: &ForgetNodeCommand) -> Result<Done, Refusal> {
        let id = forget.node_id;
        let Some(member) = self.nodes.get(&id) else {
            // Sent again after its answer was lost.
            if self.retired.contains_key(&id) {
                return Ok(Done::unchanged());
            }
            return refuse(Code::NotFound, format!("there is no node {id}"));
        };
        if !member.info.leaving {
            return refuse(Code::NodeInUse, format!("node {id} is an active member; remove it first"));
        }
        if self.holds_replicas(NodeId(id)) {
            return refuse(Code::NodeInUse, format!("node {id} still holds replicas"));
        }
        let key = rules::node(&member.info)?;
        self.nodes.remove(&id);
        self.retired.insert(id, key);
        Ok(Done::changed())
    }
}
