//! Segments and computed traits: their definitions, and who is in them.

use crate::{
    Client, Error,
    client::ANSWER_BYTES_MAX,
    key::ProfileKey,
    pages::pages,
    proto::{self, segment_service_client::SegmentServiceClient as Segments},
    retry::Kind,
};

impl Client {
    /// Puts a segment in force, new or in place of the one with its name.
    ///
    /// # Errors
    /// Refused with INVALID_SEGMENT, naming the place that is wrong.
    pub async fn put_segment(&self, segment: proto::Segment) -> Result<proto::PutSegmentResponse, Error> {
        let request = proto::PutSegmentRequest { segment: Some(segment) };
        let send = |channel, request| async move { Segments::new(channel).put_segment(request).await };
        self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await
    }

    /// Puts a computed trait in force, new or in place of the one with its name.
    ///
    /// # Errors
    /// Refused with INVALID_SEGMENT, naming what is wrong.
    pub async fn put_computed_trait(
        &self,
        computed_trait: proto::ComputedTrait,
    ) -> Result<proto::PutComputedTraitResponse, Error> {
        let request = proto::PutComputedTraitRequest { computed_trait: Some(computed_trait) };
        let send = |channel, request| async move { Segments::new(channel).put_computed_trait(request).await };
        self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await
    }

    /// Deletes a segment or a computed trait; tells the version of the definitions without it.
    ///
    /// # Errors
    /// Refused with NOT_FOUND, or INVALID_SEGMENT while others build on it. After a retry NOT_FOUND may mean that the
    /// first try did it.
    pub async fn delete_definition(&self, name: &str) -> Result<u64, Error> {
        let request = proto::DeleteDefinitionRequest { name: name.to_owned() };
        let send = |channel, request| async move { Segments::new(channel).delete_definition(request).await };
        Ok(self.call(Kind::OnceWrite, self.deadline(), &request, send).await?.version)
    }

    /// All definitions; `version` 0 are those in force.
    ///
    /// # Errors
    /// Refused with NOT_FOUND when the version isn't kept.
    pub async fn definitions(&self, version: u64) -> Result<proto::ListDefinitionsResponse, Error> {
        let request = proto::ListDefinitionsRequest { version };
        let send = |channel, request| async move {
            Segments::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).list_definitions(request).await
        };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }

    /// How many and who there would be in a segment. Takes as long as reading all events does: see
    /// [`Client::with_long_tries`].
    ///
    /// # Errors
    /// Refused with INVALID_SEGMENT, naming the place that is wrong.
    pub async fn preview_segment(
        &self,
        request: proto::PreviewRequest,
    ) -> Result<proto::PreviewResponse, Error> {
        let send = |channel, request| async move { Segments::new(channel).preview(request).await };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }

    /// How many there are in a set of segments, such as `vip and active not refunded`.
    ///
    /// # Errors
    /// Refused with INVALID_SEGMENT, naming the place that is wrong; NO_SEGMENTS while nothing is defined.
    pub async fn count_segment(&self, expression: &str) -> Result<proto::SegmentServiceCountResponse, Error> {
        let request = proto::SegmentServiceCountRequest { expression: expression.to_owned() };
        let send = |channel, request| async move { Segments::new(channel).count(request).await };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }

    /// Who is in a set of segments, at most `limit`; the request's own limit is set page by page.
    pub fn segment_pages(
        &self,
        request: proto::SegmentServiceListMembersRequest,
        limit: Option<u64>,
    ) -> SegmentPages {
        SegmentPages::new(self.clone(), request, limit)
    }

    /// The segments that a customer is in, and its computed traits.
    ///
    /// # Errors
    /// Refused with NOT_FOUND when nothing is known under the key.
    pub async fn memberships(&self, key: ProfileKey) -> Result<proto::GetMembershipsResponse, Error> {
        let request = match key {
            ProfileKey::Identifier { namespace, value } => proto::GetMembershipsRequest {
                identifier: Some(proto::Identifier { namespace, value }),
                profile_id: String::new(),
            },
            ProfileKey::ProfileId(profile_id) => {
                proto::GetMembershipsRequest { identifier: None, profile_id }
            }
        };
        let send = |channel, request| async move { Segments::new(channel).get_memberships(request).await };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }

    /// Works a segment out anew from all events, and compares. Takes as long as reading all events does: see
    /// [`Client::with_long_tries`].
    ///
    /// # Errors
    /// Refused with INVALID_SEGMENT when there is no such segment.
    pub async fn verify_segment(&self, name: &str) -> Result<proto::VerifyResponse, Error> {
        let request = proto::VerifyRequest { name: name.to_owned() };
        let send = |channel, request| async move { Segments::new(channel).verify(request).await };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }
}

pages! {
    /// Walks over the members of a set of segments. See [`Client::segment_pages`].
    SegmentPages, Segments, proto::SegmentServiceListMembersRequest, list_members, members: proto::SegmentMember,
    "INVALID_SEGMENT, naming the place that is wrong; else as every read; asking again asks for the same page."
}
