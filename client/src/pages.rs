//! Lists come page by page: the pagers follow the cursors and stop at a limit, holding one page at a time.

use crate::Error;

/// The most that one page may hold.
const PAGE_MAX: u64 = 1_000;

/// Where a pager stands.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    left: u64,
    over: bool,
    more: bool,
}

impl Walk {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self { left: limit.unwrap_or(u64::MAX), over: false, more: false }
    }

    /// How many to ask for; nothing when the walk is over.
    pub(crate) fn ask(&self) -> Option<u32> {
        // Bounded by PAGE_MAX, so it fits.
        (!self.over && self.left > 0).then(|| u32::try_from(self.left.min(PAGE_MAX)).unwrap_or(u32::MAX))
    }

    /// Whether the last page was cut off.
    pub(crate) fn has_more(&self) -> bool {
        self.more
    }

    /// Takes note of a page. Refuses one that would make the walk endless.
    pub(crate) fn took(&mut self, asked_at: &str, count: usize, next_cursor: &str) -> Result<(), Error> {
        self.left = self.left.saturating_sub(count as u64);
        self.more = !next_cursor.is_empty();
        self.over = !self.more;
        if self.more && next_cursor == asked_at {
            return Err(Error::BadAnswer("a page's cursor leads back to it"));
        }
        Ok(())
    }
}

/// A walk over pages: which service's call it makes with which request, what a page holds, and what can go wrong.
macro_rules! pages {
    ($(#[$doc:meta])* $name:ident, $service:ident, $request:ty, $call:ident, $items:ident: $item:ty, $errors:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            client: crate::Client,
            request: $request,
            walk: crate::pages::Walk,
        }

        impl $name {
            pub(crate) fn new(client: crate::Client, request: $request, limit: Option<u64>) -> Self {
                Self { client, request, walk: crate::pages::Walk::new(limit) }
            }

            /// The items one by one, page by page behind the scenes. The first error ends the stream.
            pub fn into_stream(
                self,
            ) -> impl futures::Stream<Item = Result<$item, crate::Error>> + Send + 'static {
                use futures::{TryStreamExt as _, stream};
                let next = |mut pages: Self| async move {
                    Ok::<_, crate::Error>(pages.next().await?.map(|page| (page, pages)))
                };
                stream::try_unfold(self, next).map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten()
            }

            /// The next page, at most 1,000; nothing at the end or at the limit.
            ///
            /// # Errors
            #[doc = $errors]
            pub async fn next(&mut self) -> Result<Option<Vec<$item>>, crate::Error> {
                let Some(limit) = self.walk.ask() else { return Ok(None) };
                self.request.limit = limit;
                let send = |channel, request| async move {
                    let client = $service::new(channel);
                    client.max_decoding_message_size(crate::client::ANSWER_BYTES_MAX).$call(request).await
                };
                let deadline = self.client.deadline();
                let page = self.client.call(crate::retry::Kind::Read, deadline, &self.request, send).await?;
                self.walk.took(&self.request.cursor, page.$items.len(), &page.next_cursor)?;
                self.request.cursor = page.next_cursor;
                Ok(Some(page.$items))
            }

            /// Whether the last page was cut off by the limit.
            pub fn has_more(&self) -> bool {
                self.walk.has_more()
            }
        }
    };
}

pub(crate) use pages;
