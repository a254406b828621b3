//! Segments of a fake: what is put is version 2, and watches bring what all watches bring.

use isthmus_client::proto::{self, segment_service_server::SegmentService};
use tonic::{Request, Response, Status};

use super::Services;

fn unscripted<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("no test asks for it"))
}

#[tonic::async_trait]
impl SegmentService for Services {
    async fn put_segment(
        &self,
        request: Request<proto::PutSegmentRequest>,
    ) -> Result<Response<proto::PutSegmentResponse>, Status> {
        self.begin("put_segment", &request).await?;
        let segment = request.into_inner().segment;
        Ok(Response::new(proto::PutSegmentResponse { segment, version: 2, changed: true }))
    }

    async fn put_computed_trait(
        &self,
        request: Request<proto::PutComputedTraitRequest>,
    ) -> Result<Response<proto::PutComputedTraitResponse>, Status> {
        self.begin("put_computed_trait", &request).await?;
        Ok(Response::new(proto::PutComputedTraitResponse { version: 2, changed: true }))
    }

    async fn delete_definition(
        &self,
        _: Request<proto::DeleteDefinitionRequest>,
    ) -> Result<Response<proto::DeleteDefinitionResponse>, Status> {
        unscripted()
    }

    async fn list_definitions(
        &self,
        request: Request<proto::ListDefinitionsRequest>,
    ) -> Result<Response<proto::ListDefinitionsResponse>, Status> {
        self.begin("list_definitions", &request).await?;
        let versions = &mut self.state().live_versions;
        let live_version = match versions.len() {
            0 | 1 => versions.front().copied(),
            _ => versions.pop_front(),
        };
        let live_version = live_version.unwrap_or_default();
        Ok(Response::new(proto::ListDefinitionsResponse { version: 2, live_version, ..Default::default() }))
    }

    async fn preview(
        &self,
        request: Request<proto::PreviewRequest>,
    ) -> Result<Response<proto::PreviewResponse>, Status> {
        self.begin("preview", &request).await?;
        Ok(Response::new(proto::PreviewResponse::default()))
    }

    async fn count(
        &self,
        request: Request<proto::SegmentServiceCountRequest>,
    ) -> Result<Response<proto::SegmentServiceCountResponse>, Status> {
        self.begin("count", &request).await?;
        let said = proto::SegmentServiceCountResponse { count: 5, overflows: 2, ..Default::default() };
        Ok(Response::new(said))
    }

    async fn list_members(
        &self,
        request: Request<proto::SegmentServiceListMembersRequest>,
    ) -> Result<Response<proto::SegmentServiceListMembersResponse>, Status> {
        self.begin("list_members", &request).await?;
        Ok(Response::new(proto::SegmentServiceListMembersResponse::default()))
    }

    async fn get_memberships(
        &self,
        _: Request<proto::GetMembershipsRequest>,
    ) -> Result<Response<proto::GetMembershipsResponse>, Status> {
        unscripted()
    }

    type WatchStream =
        futures::stream::Iter<std::vec::IntoIter<Result<proto::SegmentServiceWatchResponse, Status>>>;

    async fn watch(
        &self,
        request: Request<proto::SegmentServiceWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        assert!(!request.metadata().contains_key("grpc-timeout"), "a watch goes on for ever");
        let mut state = self.state();
        state.segments_watched.push(request.into_inner());
        let (responses, end) = state.watches.pop_front().expect("the script has another watch");
        if responses.is_empty()
            && let Some(end) = end
        {
            return Err(end);
        }
        let told =
            |proto::WatchResponse { changes, cursor }| proto::SegmentServiceWatchResponse { changes, cursor };
        let said: Vec<_> = responses.into_iter().map(told).map(Ok).chain(end.map(Err)).collect();
        Ok(Response::new(futures::stream::iter(said)))
    }

    async fn verify(
        &self,
        _: Request<proto::VerifyRequest>,
    ) -> Result<Response<proto::VerifyResponse>, Status> {
        unscripted()
    }
}
