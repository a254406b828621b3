//! The calls about profiles that may be one person though they share no identifier.

use crate::{
    client::{ANSWER_BYTES_MAX, Client},
    error::Error,
    proto::{self, matching_service_client::MatchingServiceClient as Matching},
    retry::Kind,
};

impl Client {
    /// Has the hub learn a model from all profiles, by a configuration (a JSON object; empty: the one in force, else by
    /// the names of the traits), and put it in force. Takes as long as reading all profiles does: see
    /// [`Client::with_long_tries`].
    ///
    /// # Errors
    /// Refused with INVALID_MATCHING, NOTHING_TO_LEARN_FROM, or PASS_UNDER_WAY.
    pub async fn match_profiles(&self, config_json: String) -> Result<proto::MatchingStatus, Error> {
        let request = proto::MatchRequest { config_json };
        let send = |channel, request| async move { Matching::new(channel).r#match(request).await };
        let answer = self.call(Kind::OnceWrite, self.deadline(), &request, send).await?;
        answer.status.ok_or(Error::BadAnswer("no status"))
    }

    /// How far comparing has come; with `wait`, when all that was written before has been compared, or the time for a
    /// try is over.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn matching_status(&self, wait: bool) -> Result<proto::MatchingStatus, Error> {
        let request = proto::MatchingServiceGetStatusRequest { wait };
        let send = |channel, request| async move { Matching::new(channel).get_status(request).await };
        let answer = self.call(Kind::Read, self.deadline(), &request, send).await?;
        answer.status.ok_or(Error::BadAnswer("no status"))
    }

    /// A page of pairs.
    ///
    /// # Errors
    /// Refused with INVALID_SCORE, INVALID_CURSOR.
    pub async fn pairs(&self, request: proto::ListPairsRequest) -> Result<proto::ListPairsResponse, Error> {
        let send = |channel, request| async move {
            Matching::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).list_pairs(request).await
        };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }

    /// Decides about a pair.
    ///
    /// # Errors
    /// Refused with NOT_FOUND, or ALREADY_LINKED.
    pub async fn decide_pair(
        &self,
        request: proto::DecidePairRequest,
    ) -> Result<proto::DecidePairResponse, Error> {
        let send = |channel, request| async move { Matching::new(channel).decide_pair(request).await };
        self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await
    }
}
