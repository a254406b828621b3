//! Reading profiles and timelines.
//!
//! Reads are linearizable unless a [`proto::Consistency`] says otherwise. Lists come page by page; the pagers here
//! follow the cursors and stop at a limit, holding one page at a time.

use crate::{
    Client, Error,
    client::ANSWER_BYTES_MAX,
    key::ProfileKey,
    proto::{self, profile_service_client::ProfileServiceClient as Profiles},
    retry::Kind,
};

/// The most that one page may hold.
const PAGE_MAX: u64 = 1_000;

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
    pub fn profile_pages(
        &self,
        request: proto::ProfileServiceListRequest,
        limit: Option<u64>,
    ) -> ProfilePages {
        ProfilePages { client: self.clone(), request, walk: Walk::new(limit) }
    }

    /// A customer's events, newest first, at most `limit`; the request's own limit is set page by page.
    pub fn timeline_pages(&self, request: proto::TimelineRequest, limit: Option<u64>) -> TimelinePages {
        TimelinePages { client: self.clone(), request, walk: Walk::new(limit) }
    }
}

/// An id that no other call makes: the time, and the randomness that the standard library keys its tables with.
fn unique_id() -> String {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let random = RandomState::new().build_hasher().finish();
    format!("{:016x}-{random:016x}", jiff::Timestamp::now().as_microsecond())
}

/// Where a pager stands.
#[derive(Debug, Clone)]
struct Walk {
    left: u64,
    over: bool,
    more: bool,
}

impl Walk {
    fn new(limit: Option<u64>) -> Self {
        Self { left: limit.unwrap_or(u64::MAX), over: false, more: false }
    }

    /// How many to ask for; nothing when the walk is over.
    fn ask(&self) -> Option<u32> {
        // Bounded by PAGE_MAX, so it fits.
        (!self.over && self.left > 0).then(|| u32::try_from(self.left.min(PAGE_MAX)).unwrap_or(u32::MAX))
    }

    /// Takes note of a page. Refuses one that would make the walk endless.
    fn took(&mut self, asked_at: &str, count: usize, next_cursor: &str) -> Result<(), Error> {
        self.left = self.left.saturating_sub(count as u64);
        self.more = !next_cursor.is_empty();
        self.over = !self.more;
        if self.more && next_cursor == asked_at {
            return Err(Error::BadAnswer("a page's cursor leads back to it"));
        }
        Ok(())
    }
}

/// Walks over profiles. See [`Client::profile_pages`].
#[derive(Debug, Clone)]
pub struct ProfilePages {
    client: Client,
    request: proto::ProfileServiceListRequest,
    walk: Walk,
}

impl ProfilePages {
    /// The next page, at most 1,000; nothing at the end or at the limit.
    ///
    /// # Errors
    /// As every read; asking again asks for the same page.
    pub async fn next(&mut self) -> Result<Option<Vec<proto::Profile>>, Error> {
        let Some(limit) = self.walk.ask() else { return Ok(None) };
        self.request.limit = limit;
        let send = |channel, request| async move {
            Profiles::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).list(request).await
        };
        let page = self.client.call(Kind::Read, self.client.deadline(), &self.request, send).await?;
        self.walk.took(&self.request.cursor, page.profiles.len(), &page.next_cursor)?;
        self.request.cursor = page.next_cursor;
        Ok(Some(page.profiles))
    }

    /// Whether the last page was cut off by the limit.
    pub fn has_more(&self) -> bool {
        self.walk.more
    }
}

/// Walks over a customer's events. See [`Client::timeline_pages`].
#[derive(Debug, Clone)]
pub struct TimelinePages {
    client: Client,
    request: proto::TimelineRequest,
    walk: Walk,
}

impl TimelinePages {
    /// The next page, at most 1,000; nothing at the end or at the limit.
    ///
    /// # Errors
    /// NOT_FOUND when nothing is known under the key; else as every read; asking again asks for the same page.
    pub async fn next(&mut self) -> Result<Option<Vec<proto::TimelineEvent>>, Error> {
        let Some(limit) = self.walk.ask() else { return Ok(None) };
        self.request.limit = limit;
        let send = |channel, request| async move {
            Profiles::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).timeline(request).await
        };
        let page = self.client.call(Kind::Read, self.client.deadline(), &self.request, send).await?;
        self.walk.took(&self.request.cursor, page.events.len(), &page.next_cursor)?;
        self.request.cursor = page.next_cursor;
        Ok(Some(page.events))
    }

    /// Whether the last page was cut off by the limit.
    pub fn has_more(&self) -> bool {
        self.walk.more
    }
}
