//! A request body in pieces: the client's own bytes, shared, with the edits between them.
//!
//! **Invariant**: the pieces in a row are exactly what `Splice::apply` gives (property
//! `pieces_are_the_edited_body`), and nothing of the client's body is copied.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use wire::splice::Splice;

/// What is still to be sent.
#[derive(Debug)]
pub struct Pieces {
    left: VecDeque<Bytes>,
    bytes: u64,
}

impl Pieces {
    /// A body with its edits; without any, the client's own bytes.
    pub fn of(body: &Bytes, splice: &Splice) -> Self {
        let mut pieces = Self {
            left: VecDeque::with_capacity(splice.edits().len() * 2 + 1),
            bytes: 0,
        };
        let mut kept_to = 0;
        for edit in splice.edits() {
            pieces.push(body.slice(kept_to..edit.range.start));
            pieces.push(match &edit.text {
                Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
                Cow::Owned(text) => Bytes::copy_from_slice(text.as_bytes()),
            });
            kept_to = edit.range.end;
        }
        pieces.push(body.slice(kept_to..));
        pieces
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len() as u64;
            self.left.push_back(piece);
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(whole: Bytes) -> Self {
        Self::of(&whole, &Splice::default())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.left.pop_front();
        if let Some(piece) = &piece {
            self.bytes -= piece.len() as u64;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};
    use wire::splice::Reason;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_the_edited_body(
            body in prop::collection::vec(any::<u8>(), 0..200),
            edits in prop::collection::vec((0_usize..220, 0_usize..20, "[a-z]{0,9}"), 0..8),
        ) {
            let mut splice = Splice::default();
            for (at, length, text) in edits {
                let start = at.min(body.len());
                let end = (start + length).min(body.len());
                splice.replace(start..end, text, Reason::CacheMarker);
            }
            let whole = Bytes::from(body);
            let pieces = Pieces::of(&whole, &splice);
            let announced = pieces.size_hint().exact();
            let collected = futures_util::FutureExt::now_or_never(pieces.collect());
            let sent = collected.expect("ready").expect("infallible").to_bytes();
            prop_assert_eq!(&sent[..], &splice.apply(&whole)[..]);
            prop_assert_eq!(announced, Some(sent.len() as u64));
        }
    }
}
