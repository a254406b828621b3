//! Reading profiles and timelines.
//!
//! Reads are linearizable unless a [`proto::Consistency`] says otherwise.

use crate::{
    Client, Error,
    client::ANSWER_BYTES_MAX,
    key::ProfileKey,
    pages::pages,
    proto::{self, profile_service_client::ProfileServiceClient as Profiles},
    retry::Kind,
};

impl Client {
    /// The profile of one customer, linearizable.
    ///
    /// # Errors
    /// Refused with NOT_FOUND when nothing is known under the key ([`Error::is_not_found`]).
    pub async fn profile(&self, key: ProfileKey) -> Result<proto::Profile, Error> {
        self.profile_at(proto::GetRequest { key: Some(key.into()), consistency: None, fields: None }).await
    }

    /// The profile of one customer, as fresh and with the fields asked for.
    ///
    /// # Errors
    /// As [`Client::profile`].
    pub async fn profile_at(&self, request: proto::GetRequest) -> Result<proto::Profile, Error> {
        let send = |channel, request| async move {
            Profiles::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).get(request).await
        };
        let answer = self.call(Kind::Read, self.deadline(), &request, send).await?;
        answer.profile.ok_or(Error::BadAnswer("no profile"))
    }

    /// The profiles of at most 1,000 customers, in the order asked for; nothing where nothing is known.
    ///
    /// # Errors
    /// As every read.
    pub async fn profiles(
        &self,
        request: proto::BatchGetRequest,
    ) -> Result<Vec<Option<proto::Profile>>, Error> {
        let send = |channel, request| async move {
            Profiles::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).batch_get(request).await
        };
        let answer = self.call(Kind::Read, self.deadline(), &request, send).await?;
        if answer.entries.len() != request.keys.len() {
            return Err(Error::BadAnswer("not one entry for each key"));
        }
        Ok(answer.entries.into_iter().map(|entry| entry.profile).collect())
    }

    /// Why identifiers are one customer, or are not.
    ///
    /// # Errors
    /// Refused with NOT_FOUND when nothing is known under the key.
    pub async fn explain(&self, request: proto::ExplainRequest) -> Result<proto::ExplainResponse, Error> {
        let send = |channel, request| async move {
            Profiles::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).explain(request).await
        };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }

    /// Takes link facts back, or tells what that would do. A request without an id gets one, so that trying again is
    /// harmless.
    ///
    /// # Errors
    /// When the request is refused, or not known to be in force by the deadline.
    pub async fn split(&self, mut request: proto::SplitRequest) -> Result<proto::SplitResponse, Error> {
        if request.id.is_empty() {
            request.id = unique_id();
        }
        let send = |channel, request| async move {
            Profiles::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).split(request).await
        };
        self.call(Kind::Read, self.deadline(), &request, send).await
    }

    /// All profiles by rising id, at most `limit`; the request's own limit is set page by page.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = isthmus_node::dev::Temporary::start().await?;
    /// # let (endpoint, write_key) = (hub.endpoint(), isthmus_node::dev::WRITE_KEY);
    /// # let client = isthmus_client::Client::builder().endpoints([endpoint]).write_key(write_key).connect_lazy()?;
    /// # client.ingest_one(serde_json::json!({"type": "page", "userId": "42"})).await?;
    /// use futures::TryStreamExt as _;
    ///
    /// let profiles: Vec<_> = client.profile_pages(Default::default(), None).into_stream().try_collect().await?;
    /// assert_eq!(profiles[0].identifiers[0].value, "42");
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn profile_pages(
        &self,
        request: proto::ProfileServiceListRequest,
        limit: Option<u64>,
    ) -> ProfilePages {
        ProfilePages::new(self.clone(), request, limit)
    }

    /// A customer's events, newest first, at most `limit`; the request's own limit is set page by page.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = isthmus_node::dev::Temporary::start().await?;
    /// # let (endpoint, write_key) = (hub.endpoint(), isthmus_node::dev::WRITE_KEY);
    /// # let client = isthmus_client::Client::builder().endpoints([endpoint]).write_key(write_key).connect_lazy()?;
    /// # client.ingest_one(serde_json::json!({"type": "track", "event": "Seen", "userId": "42"})).await?;
    /// use futures::TryStreamExt as _;
    /// use isthmus_client::{key::ProfileKey, proto::TimelineRequest};
    ///
    /// let key = "user_id:42".parse::<ProfileKey>()?;
    /// let request = TimelineRequest { key: Some(key.into()), ..TimelineRequest::default() };
    /// let mut newest_first = std::pin::pin!(client.timeline_pages(request, Some(10)).into_stream());
    /// while let Some(event) = newest_first.try_next().await? {
    ///     println!("{}", event.name);
    /// #   assert_eq!(event.name, "Seen");
    /// }
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeline_pages(&self, request: proto::TimelineRequest, limit: Option<u64>) -> TimelinePages {
        TimelinePages::new(self.clone(), request, limit)
    }
}

/// An id that no other call makes: the time, and the randomness that the standard library keys its tables with.
fn unique_id() -> String {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let random = RandomState::new().build_hasher().finish();
    format!("{:016x}-{random:016x}", jiff::Timestamp::now().as_microsecond())
}

pages! {
    /// Walks over profiles. See [`Client::profile_pages`].
    ProfilePages, Profiles, proto::ProfileServiceListRequest, list, profiles: proto::Profile,
    "As every read; asking again asks for the same page."
}

pages! {
    /// Walks over a customer's events. See [`Client::timeline_pages`].
    TimelinePages, Profiles, proto::TimelineRequest, timeline, events: proto::TimelineEvent,
    "NOT_FOUND when nothing is known under the key; else as every read; asking again asks for the same page."
}
