//! The calls about what is expected of data: schemas, rules for traits, identity rules.

use crate::{
    Client, Error,
    client::ANSWER_BYTES_MAX,
    proto::{
        self, rules_service_client::RulesServiceClient as Rules,
        schema_service_client::SchemaServiceClient as Schemas,
    },
    retry::Kind,
};

impl Client {
    /// Puts a schema in force. Returns it without its text, and whether it is a new version.
    ///
    /// # Errors
    /// Refused with INVALID_SCHEMA, INCOMPATIBLE_SCHEMA (each naming the places) or STALE_VIEW.
    pub async fn put_schema(&self, request: proto::PutSchemaRequest) -> Result<(proto::Schema, bool), Error> {
        let send = |channel, request| async move { Schemas::new(channel).put(request).await };
        let answer = self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await?;
        Ok((answer.schema.ok_or(Error::BadAnswer("no schema"))?, answer.changed))
    }

    /// One schema; `version` 0 is the one in force.
    ///
    /// # Errors
    /// Refused with NOT_FOUND when there is none of that name and version.
    pub async fn schema(&self, name: &str, version: u64) -> Result<proto::Schema, Error> {
        let request = proto::GetSchemaRequest { name: name.to_owned(), version };
        let send = |channel, request| async move { Schemas::new(channel).get(request).await };
        let answer = self.call(Kind::Read, self.deadline(), &request, send).await?;
        answer.schema.ok_or(Error::BadAnswer("no schema"))
    }

    /// All schemas in force, by type and name, without their text.
    ///
    /// # Errors
    /// As every read.
    pub async fn schemas(&self) -> Result<Vec<proto::Schema>, Error> {
        let request = proto::ListSchemasRequest {};
        let send = |channel, request| async move {
            Schemas::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).list(request).await
        };
        Ok(self.call(Kind::Read, self.deadline(), &request, send).await?.schemas)
    }

    /// Whether a schema could be put, and if not, why.
    ///
    /// # Errors
    /// As every read.
    pub async fn check_schema(
        &self,
        request: proto::CheckSchemaRequest,
    ) -> Result<proto::CheckSchemaResponse, Error> {
        let send = |channel, request| async move { Schemas::new(channel).check(request).await };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }

    /// Rules for traits; `version` 0 is the one in force.
    ///
    /// # Errors
    /// Refused with NOT_FOUND when the version is not kept.
    pub async fn trait_rules(&self, version: u64) -> Result<proto::Rules, Error> {
        let request = proto::GetRulesRequest { version };
        let send = |channel, request| async move { Rules::new(channel).get_trait_rules(request).await };
        let answer = self.call(Kind::Read, self.deadline(), &request, send).await?;
        answer.rules.ok_or(Error::BadAnswer("no rules"))
    }

    /// Puts rules for traits in force, a JSON document. Returns them without their text, and whether they are a new
    /// version.
    ///
    /// # Errors
    /// Refused with INVALID_RULES, naming the place, or STALE_VIEW.
    pub async fn put_trait_rules(&self, rules_json: String) -> Result<(proto::Rules, bool), Error> {
        let request = proto::PutRulesRequest { rules_json };
        let send = |channel, request| async move { Rules::new(channel).put_trait_rules(request).await };
        let answer = self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await?;
        Ok((answer.rules.ok_or(Error::BadAnswer("no rules"))?, answer.changed))
    }

    /// Identity rules; `version` 0 is the one in force.
    ///
    /// # Errors
    /// As [`Client::trait_rules`].
    pub async fn identity_rules(&self, version: u64) -> Result<proto::Rules, Error> {
        let request = proto::GetRulesRequest { version };
        let send = |channel, request| async move { Rules::new(channel).get_identity_rules(request).await };
        let answer = self.call(Kind::Read, self.deadline(), &request, send).await?;
        answer.rules.ok_or(Error::BadAnswer("no rules"))
    }

    /// Puts identity rules in force, as [`Client::put_trait_rules`] does.
    ///
    /// # Errors
    /// As [`Client::put_trait_rules`].
    pub async fn put_identity_rules(&self, rules_json: String) -> Result<(proto::Rules, bool), Error> {
        let request = proto::PutRulesRequest { rules_json };
        let send = |channel, request| async move { Rules::new(channel).put_identity_rules(request).await };
        let answer = self.call(Kind::RepeatableWrite, self.deadline(), &request, send).await?;
        Ok((answer.rules.ok_or(Error::BadAnswer("no rules"))?, answer.changed))
    }

    /// How far identity rules have come in each shard.
    ///
    /// # Errors
    /// As every read.
    pub async fn identity_rules_status(&self) -> Result<proto::GetIdentityRulesStatusResponse, Error> {
        let request = proto::GetIdentityRulesStatusRequest {};
        let send =
            |channel, request| async move { Rules::new(channel).get_identity_rules_status(request).await };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }
}
