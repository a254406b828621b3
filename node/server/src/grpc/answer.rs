//! The body of an answer that is a stream: what it was in its call, it stays until its end, which has the code.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status, body::Body};

use super::front::Ending;

/// See the [module](self).
pub struct StreamedBody {
    inner: Body,
    ending: Option<Ending>,
}

impl StreamedBody {
    /// A body whose end is noted.
    pub fn new(inner: Body, ending: Ending) -> Self {
        Self { inner, ending: Some(ending) }
    }
}

impl HttpBody for StreamedBody {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Self { inner, ending } = &mut *self;
        let polled = match ending {
            Some(ending) => ending.entry.run_sync(|| Pin::new(inner).poll_frame(context)),
            None => return Pin::new(inner).poll_frame(context),
        };
        let code = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.trailers_ref().map(|trailers| {
                trailers.get("grpc-status").map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
            }),
            Poll::Ready(Some(Err(status))) => Some(status.code()),
            Poll::Ready(None) => Some(Code::Ok),
            Poll::Pending => None,
        };
        if let (Some(code), Some(ending)) = (code, ending.take_if(|_| code.is_some())) {
            ending.ended(code);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
