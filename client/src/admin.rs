//! The calls that look after the cluster: nodes and shards, sources and their keys, the quarantine.

use crate::{
    Client, Error,
    client::ANSWER_BYTES_MAX,
    proto::{
        self, cluster_service_client::ClusterServiceClient as Cluster,
        quality_service_client::QualityServiceClient as Quality,
        quarantine_service_client::QuarantineServiceClient as Quarantine,
        source_service_client::SourceServiceClient as Sources,
    },
    retry::Kind,
};

impl Client {
    /// Whether all is well, and if not, what is amiss.
    ///
    /// # Errors
    /// As every read: unreachable, deadline, refused.
    pub async fn cluster_status(&self) -> Result<proto::StatusResponse, Error> {
        let request = proto::StatusRequest {};
        self.call(Kind::Read, self.deadline(), &request, |channel, request| async move {
            Cluster::new(channel).status(request).await
        })
        .await
    }

    /// All nodes, by id.
    ///
    /// # Errors
    /// As every read.
    pub async fn nodes(&self) -> Result<Vec<proto::Node>, Error> {
        let request = proto::NodesRequest {};
        let send = |channel, request| async move { Cluster::new(channel).nodes(request).await };
        Ok(self.call(Kind::Read, self.deadline(), &request, send).await?.nodes)
    }

    /// All replicas of all shards, by shard and node.
    ///
    /// # Errors
    /// As every read.
    pub async fn shards(&self) -> Result<Vec<proto::Replica>, Error> {
        let request = proto::ShardsRequest {};
        let send = |channel, request| async move {
            Cluster::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).shards(request).await
        };
        Ok(self.call(Kind::Read, self.deadline(), &request, send).await?.replicas)
    }

    /// Hands a shard's leadership to the replica on `to_node`. Returns the node that leads then.
    ///
    /// # Errors
    /// Refused when the node has no replica of the shard that can lead.
    pub async fn transfer(&self, shard: u64, to_node: u32) -> Result<u32, Error> {
        let request = proto::TransferRequest { shard, to_node };
        let send = |channel, request| async move { Cluster::new(channel).transfer(request).await };
        Ok(self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await?.leader)
    }

    /// Removes a node for good. Returns how many of its replicas are still to be placed elsewhere; it is gone when
    /// [`Client::nodes`] no longer lists it.
    ///
    /// # Errors
    /// Refused with [`crate::Reason::QuorumAtRisk`] when the nodes that remain could not hold the data.
    pub async fn remove_node(&self, node_id: u32) -> Result<u32, Error> {
        let request = proto::RemoveRequest { node_id };
        let send = |channel, request| async move { Cluster::new(channel).remove(request).await };
        Ok(self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await?.replicas_left)
    }

    /// Makes a source. Returns it with its write key, which the hub shows this once.
    ///
    /// # Errors
    /// Refused with ALREADY_EXISTS when the name is taken. [`Error::OutcomeUnknown`] when the connection broke after
    /// the request was sent: it is never sent twice, for the first one's key would be lost.
    pub async fn create_source(
        &self,
        request: proto::CreateRequest,
    ) -> Result<(proto::Source, String), Error> {
        let send = |channel, request| async move { Sources::new(channel).create(request).await };
        let answer = self.call(Kind::OnceWrite, self.deadline(), &request, send).await?;
        Ok((answer.source.ok_or(Error::BadAnswer("no source"))?, answer.write_key))
    }

    /// All sources, by name.
    ///
    /// # Errors
    /// As every read.
    pub async fn sources(&self) -> Result<Vec<proto::Source>, Error> {
        let request = proto::SourceServiceListRequest {};
        let send = |channel, request| async move {
            Sources::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).list(request).await
        };
        Ok(self.call(Kind::Read, self.deadline(), &request, send).await?.sources)
    }

    /// Disables a source: its keys are refused from then on; what it sent stays.
    ///
    /// # Errors
    /// Refused with NOT_FOUND when there is none of that name.
    pub async fn disable_source(&self, name: &str) -> Result<proto::Source, Error> {
        let request = proto::DisableRequest { name: name.to_owned() };
        let send = |channel, request| async move { Sources::new(channel).disable(request).await };
        let answer = self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await?;
        answer.source.ok_or(Error::BadAnswer("no source"))
    }

    /// Gives a source a new write key; the old ones are refused from then on.
    ///
    /// # Errors
    /// As [`Client::create_source`]; NOT_FOUND when there is none of that name.
    pub async fn rotate_source(&self, name: &str) -> Result<(proto::Source, String), Error> {
        let request = proto::RotateRequest { name: name.to_owned() };
        let send = |channel, request| async move { Sources::new(channel).rotate(request).await };
        let answer = self.call(Kind::OnceWrite, self.deadline(), &request, send).await?;
        Ok((answer.source.ok_or(Error::BadAnswer("no source"))?, answer.write_key))
    }

    /// A page of quarantined entries, without their content. The next page begins at `next_cursor`.
    ///
    /// # Errors
    /// As every read.
    pub async fn quarantine_page(
        &self,
        request: proto::QuarantineServiceListRequest,
    ) -> Result<proto::QuarantineServiceListResponse, Error> {
        let send = |channel, request| async move {
            Quarantine::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).list(request).await
        };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }

    /// One quarantined entry, with what was sent.
    ///
    /// # Errors
    /// Refused with NOT_FOUND when there is none of that id.
    pub async fn quarantine_entry(&self, id: &str) -> Result<proto::QuarantineEntry, Error> {
        let request = proto::ShowRequest { id: id.to_owned() };
        let send = |channel, request| async move {
            Quarantine::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).show(request).await
        };
        let answer = self.call(Kind::Read, self.deadline(), &request, send).await?;
        answer.entry.ok_or(Error::BadAnswer("no entry"))
    }

    /// How good the data are, by source and trait. It takes as long as there are events.
    ///
    /// # Errors
    /// As every read; refused with SOURCE_NOT_FOUND when there is no such source.
    pub async fn quality_report(
        &self,
        request: proto::ReportRequest,
    ) -> Result<proto::ReportResponse, Error> {
        let send = |channel, request| async move {
            Quality::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).report(request).await
        };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }

    /// How many quarantined entries there are, by source and reason.
    ///
    /// # Errors
    /// As every read.
    pub async fn quarantine_counts(&self) -> Result<Vec<proto::QuarantineCounts>, Error> {
        let request = proto::CountsRequest {};
        let send = |channel, request| async move { Quarantine::new(channel).counts(request).await };
        Ok(self.call(Kind::Read, self.deadline(), &request, send).await?.counts)
    }

    /// Changes a quarantined entry and has it taken in.
    ///
    /// # Errors
    /// Refused with NOT_FOUND when there is none of that id. What can't be taken still is no error but a result.
    pub async fn mend(&self, request: proto::MendRequest) -> Result<proto::QuarantineResult, Error> {
        let send = |channel, request| async move { Quarantine::new(channel).mend(request).await };
        let answer = self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await?;
        answer.result.ok_or(Error::BadAnswer("no result"))
    }

    /// Has quarantined entries taken in as they are: those named, or a page.
    ///
    /// # Errors
    /// Refused when ids, limit or cursor can't be.
    pub async fn replay(&self, request: proto::ReplayRequest) -> Result<proto::ReplayResponse, Error> {
        let send = |channel, request| async move { Quarantine::new(channel).replay(request).await };
        self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await
    }

    /// Gives quarantined entries up.
    ///
    /// # Errors
    /// Refused when ids or reason can't be.
    pub async fn drop_quarantined(
        &self,
        request: proto::DropRequest,
    ) -> Result<Vec<proto::QuarantineResult>, Error> {
        let send = |channel, request| async move { Quarantine::new(channel).drop(request).await };
        Ok(self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await?.results)
    }
}
