//! The answering side: other nodes ask what came in through this one.

use std::sync::Arc;

use bytes::Bytes;
use isthmus_proto::internal::v1::{
    ActivityRequest, ActivityResponse,
    activity_service_server::{ActivityService, ActivityServiceServer},
};
use tonic::{Request, Response, Status};

use crate::grpc::hub::Hub;

/// The service. To be served on the peer address.
pub struct Answering {
    hub: Arc<Hub>,
}

impl Answering {
    /// The service of a node.
    pub fn server(hub: Arc<Hub>) -> ActivityServiceServer<Self> {
        ActivityServiceServer::new(Self { hub })
    }
}

#[tonic::async_trait]
impl ActivityService for Answering {
    async fn activity(
        &self,
        request: Request<ActivityRequest>,
    ) -> Result<Response<ActivityResponse>, Status> {
        let ActivityRequest { cluster_id, to_node } = request.into_inner();
        if cluster_id != Bytes::copy_from_slice(&self.hub.coordinator.cluster_id()) {
            return Err(Status::failed_precondition("WRONG_CLUSTER: this node is of another cluster"));
        }
        if to_node != self.hub.node {
            let message = format!("WRONG_NODE: node {to_node} was meant, this is {}", self.hub.node);
            return Err(Status::failed_precondition(message));
        }
        Ok(Response::new(self.hub.activity.told(self.hub.clock.now_micros())))
    }
}
