//! Reading groups, who belongs to them, and the groups of a customer.

use crate::{
    Client, Error,
    client::ANSWER_BYTES_MAX,
    pages::pages,
    proto::{self, group_service_client::GroupServiceClient as Groups},
    retry::Kind,
};

impl Client {
    /// One group, as events name it in `groupId`.
    ///
    /// # Errors
    /// Refused with NOT_FOUND when no event has named it ([`Error::is_not_found`]), or INVALID_GROUP_ID.
    pub async fn group(&self, request: proto::GroupServiceGetRequest) -> Result<proto::Group, Error> {
        let send = |channel, request| async move {
            Groups::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).get(request).await
        };
        let answer = self.call(Kind::Read, self.deadline(), &request, send).await?;
        answer.group.ok_or(Error::BadAnswer("no group"))
    }

    /// All groups, at most `limit`; the request's own limit is set page by page.
    pub fn group_pages(&self, request: proto::GroupServiceListRequest, limit: Option<u64>) -> GroupPages {
        GroupPages::new(self.clone(), request, limit)
    }

    /// The customers who belong to a group, each once, at most `limit`; the request's own limit is set page by page.
    pub fn member_pages(&self, request: proto::ListMembersRequest, limit: Option<u64>) -> MemberPages {
        MemberPages::new(self.clone(), request, limit)
    }

    /// The groups that a customer belongs to, at most `limit`; the request's own limit is set page by page.
    pub fn membership_pages(
        &self,
        request: proto::ListMembershipsRequest,
        limit: Option<u64>,
    ) -> MembershipPages {
        MembershipPages::new(self.clone(), request, limit)
    }
}

pages! {
    /// Walks over groups. See [`Client::group_pages`].
    GroupPages, Groups, proto::GroupServiceListRequest, list, groups: proto::Group,
    "As every read; asking again asks for the same page."
}

pages! {
    /// Walks over a group's members. See [`Client::member_pages`].
    MemberPages, Groups, proto::ListMembersRequest, list_members, members: proto::GroupMember,
    "NOT_FOUND when no event has named the group; else as every read; asking again asks for the same page."
}

pages! {
    /// Walks over a customer's groups. See [`Client::membership_pages`].
    MembershipPages, Groups, proto::ListMembershipsRequest, list_memberships, memberships: proto::Membership,
    "NOT_FOUND when nothing is known under the key; else as every read; asking again asks for the same page."
}
