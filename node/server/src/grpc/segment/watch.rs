//! Who enters segments and leaves them: the feed's watch, with a filter.

use std::pin::Pin;

use futures::stream::{Stream, StreamExt as _};
use isthmus_proto::v1::{
    SegmentServiceWatchRequest, SegmentServiceWatchResponse, WatchFilter, WatchRequest, WatchResponse,
    profile_service_server::ProfileService as _,
};
use tonic::{Request, Status};

use super::{Segments, faults::invalid};
use crate::grpc::profile::Profiles;

/// The stream that a call answers with.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<SegmentServiceWatchResponse, Status>> + Send>>;

impl Segments {
    pub(super) async fn watching(
        &self,
        request: Request<SegmentServiceWatchRequest>,
    ) -> Result<WatchStream, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let SegmentServiceWatchRequest { mut segments, cursor, start, response_changes_max } =
            request.into_inner();
        let defined = self.definitions(0, deadline).await?.document.segments;
        if let Some(unknown) = segments.iter().find(|name| !defined.iter().any(|it| it.name == **name)) {
            return Err(invalid("segments", format!("there is no segment {unknown}")).into());
        }
        if segments.is_empty() {
            segments = defined.into_iter().map(|segment| segment.name).collect();
        }
        if segments.is_empty() {
            return Err(invalid("segments", "no segments are defined: put one first").into());
        }
        let filter = Some(WatchFilter { segments, ..WatchFilter::default() });
        let asked = WatchRequest { cursor, start, filter, response_changes_max };
        let stream = Profiles::new(self.hub.clone()).watch(Request::new(asked)).await?.into_inner();
        let told = |WatchResponse { changes, cursor }| SegmentServiceWatchResponse { changes, cursor };
        Ok(stream.map(move |response| response.map(told)).boxed())
    }
}
