//! The body of a reply: whole, streamed with metering, or passed through.
//!
//! **Invariant**: bounded memory; a stream holds at most one frame (`wire::sse`).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::relay::stream::Metered;

/// What a reply's body can be.
#[derive(Debug)]
pub enum ReplyBody {
    /// All there at once.
    Whole(Option<Bytes>),
    /// A metered stream.
    Stream(Box<Metered>),
}

impl ReplyBody {
    /// A whole body.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(metered) => metered.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Stream(metered) => metered.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// A passed-through body broke off upstream; the client's connection breaks off too, so that the
/// answer cannot be taken for whole.
#[derive(Debug, thiserror::Error)]
#[error("the upstream broke off its answer")]
pub struct Broken;
